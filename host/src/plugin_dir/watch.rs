//! The thread that keeps looking at the plugin directory.
//!
//! Owns the watcher and the thread. Notifications may be late, doubled, lost or never come (network
//! file systems, too many watches): the thread looks after each one and every few seconds anyway.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

use super::{PluginDir, file::Fingerprint};
use crate::{engine::PluginEvent, file_events::is_reading};

/// How often the directory is looked at when nothing is heard of it.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How often a directory that isn't there is looked for.
const MISSING_INTERVAL: Duration = Duration::from_millis(500);
/// Notifications that wait to be seen to; beyond them, every file is looked at.
const SIGNALS_MAX: usize = 1_024;

enum Signal {
    /// Something happened to these.
    Changed(Vec<PathBuf>),
    /// To end.
    Stop,
}

/// The plugin directory is being watched, until this is dropped. Dropping waits for a plugin that is
/// being compiled.
pub struct Watching {
    signals: Sender<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl Watching {
    pub(super) fn start(
        dir: PluginDir,
        report: impl Fn(PluginEvent) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (signals, received) = crossbeam_channel::bounded(SIGNALS_MAX);
        let missed = Arc::new(AtomicBool::new(false));
        let watch = Watch {
            dir,
            watcher: watcher(signals.clone(), Arc::clone(&missed)),
            watched: None,
            missed,
            complaint: None,
        };
        let thread = thread::Builder::new()
            .name("plugin-dir".into())
            .spawn(move || watch.run(&received, report))
            .context("can't start the thread that watches plugin_dir")?;
        Ok(Self {
            signals,
            thread: Some(thread),
        })
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // The thread empties the channel, so this waits no longer than one look takes; it fails only
        // if the thread has gone.
        let stopping = self.signals.send(Signal::Stop).is_ok();
        if let Some(thread) = self.thread.take()
            && (thread.join().is_err() || !stopping)
        {
            tracing::error!("the thread that watches plugin_dir had ended before it was told to");
        }
    }
}

/// A watcher that passes on what it hears; `None` if the system has none to give.
fn watcher(signals: Sender<Signal>, missed: Arc<AtomicBool>) -> Option<RecommendedWatcher> {
    let heard = move |event: notify::Result<Event>| {
        let paths = match event {
            Ok(event) if event.need_rescan() => None,
            Ok(event) if is_reading(event.kind) => return,
            Ok(event) => Some(event.paths),
            Err(_) => None,
        };
        match paths {
            Some(paths) => match signals.try_send(Signal::Changed(paths)) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                Err(TrySendError::Full(_)) => missed.store(true, Ordering::SeqCst),
            },
            None => {
                missed.store(true, Ordering::SeqCst);
                // Only wakes the thread; if the channel is full, it is awake.
                drop(signals.try_send(Signal::Changed(Vec::new())));
            }
        }
    };
    match notify::recommended_watcher(heard) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!("plugin_dir is looked at every two seconds only: {error}");
            None
        }
    }
}

struct Watch {
    dir: PluginDir,
    watcher: Option<RecommendedWatcher>,
    /// The directory that the watcher watches, by its inode.
    watched: Option<u64>,
    /// Notifications were lost.
    missed: Arc<AtomicBool>,
    /// What was last said about the directory as a whole.
    complaint: Option<String>,
}

impl Watch {
    fn run(mut self, signals: &Receiver<Signal>, report: impl Fn(PluginEvent)) {
        loop {
            let is_there = self.look(&report);
            let mut wait = if is_there {
                LOOK_INTERVAL
            } else {
                MISSING_INTERVAL
            };
            if let Some(due) = self.dir.next_due() {
                wait = wait.min(due.saturating_duration_since(Instant::now()));
            }
            let mut signal = signals.recv_timeout(wait);
            loop {
                match signal {
                    Ok(Signal::Changed(paths)) => {
                        for path in &paths {
                            self.dir.touch(path);
                        }
                    }
                    Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => break,
                }
                signal = signals.try_recv().map_err(|_| RecvTimeoutError::Timeout);
            }
            if self.missed.swap(false, Ordering::SeqCst) {
                self.dir.touch_all();
            }
        }
    }

    /// Looks at the directory; whether it is there.
    fn look(&mut self, report: &impl Fn(PluginEvent)) -> bool {
        self.follow();
        match self.dir.find() {
            Ok(()) => {
                if self.complaint.take().is_some() {
                    tracing::info!("plugin_dir {} is there again", self.dir.dir.display());
                }
                self.dir.read_due(report);
                true
            }
            Err(error) => {
                let complaint = format!("{error:#}");
                if self.complaint.as_ref() != Some(&complaint) {
                    tracing::warn!("{complaint}; the plugins that run go on");
                    self.complaint = Some(complaint);
                }
                false
            }
        }
    }

    /// Sets the watcher on the directory if it is another one than before. Errors aren't told: if
    /// the directory can't be read either, that is, and else the looks go on without notifications.
    fn follow(&mut self) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let dir = self.dir.dir.as_path();
        let there = Fingerprint::of(dir).ok().map(|found| found.inode());
        if there == self.watched {
            return;
        }
        if self.watched.take().is_some() {
            // A watch on a directory that has gone has gone with it.
            drop(watcher.unwatch(dir));
        }
        if there.is_some() && watcher.watch(dir, RecursiveMode::NonRecursive).is_ok() {
            self.watched = there;
        }
    }
}
