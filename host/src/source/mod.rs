//! Sources: where changes come from.
//!
//! Each source runs on a thread of its own, decodes what it reads into batches of whole transactions and hands
//! them to the engine, waiting while the engine's queue is full. It remembers nothing: how far it has
//! come is stored with what it read. It never sees a rule or the store's tables. What can't be taken is
//! parked with its place and the reason, or stops the source (`on_bad_input`).

mod files;
mod position;
mod reader;
mod stdin;
mod window;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::{
    catalog::SharedCatalog,
    change::{Position, Refused, SourceBatch},
    config::{Config, OnBadInput, Source, SourceKind},
    engine::{Handle, SourceStatus},
    limits::Limits,
};

pub use files::Files;
pub use stdin::Stdin;

/// Where a source's batches go.
pub trait Intake: Send {
    /// Takes a batch; waits while there is no room.
    ///
    /// # Errors
    /// If no more batches are taken.
    fn submit(&self, batch: SourceBatch) -> Result<(), Refused>;

    /// Shows what the source is doing.
    fn show(&self, source: &str, change: &dyn Fn(&mut SourceStatus));
}

impl Intake for Handle {
    fn submit(&self, batch: SourceBatch) -> Result<(), Refused> {
        Self::submit(self, batch)
    }

    fn show(&self, source: &str, change: &dyn Fn(&mut SourceStatus)) {
        self.board
            .update(|status| change(status.sources.entry(source.to_owned()).or_default()));
    }
}

/// What every source needs.
pub struct Setting {
    /// The source's name.
    pub name: Arc<str>,
    /// Where its batches go.
    pub intake: Box<dyn Intake>,
    /// The tables.
    pub catalog: Arc<SharedCatalog>,
    /// The limits.
    pub limits: Arc<Limits>,
    /// What happens at input that can't be taken.
    pub on_bad_input: OnBadInput,
    /// Whether it ends when it has read what is there.
    pub once: bool,
    /// Its end is wanted.
    pub stop: Stop,
}

/// A wish to end, which wakes whoever waits.
#[derive(Clone)]
pub struct Stop {
    wanted: Arc<AtomicBool>,
    /// Closed when the end is wanted.
    pub signal: Receiver<()>,
}

impl Stop {
    /// Whether the end is wanted.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }
}

/// Makes the other side of a [`Stop`].
pub struct Stopper {
    wanted: Arc<AtomicBool>,
    signal: Option<Sender<()>>,
}

impl Stopper {
    /// A wish that can be made, and what it is seen by.
    pub fn new() -> (Self, Stop) {
        let wanted = Arc::new(AtomicBool::new(false));
        let (sender, signal) = bounded(0);
        let stopper = Self {
            wanted: wanted.clone(),
            signal: Some(sender),
        };
        (stopper, Stop { wanted, signal })
    }

    /// Makes the wish.
    pub fn stop(&mut self) {
        self.wanted.store(true, Ordering::Relaxed);
        self.signal.take();
    }
}

/// The running sources.
pub struct Sources {
    stopper: Stopper,
    threads: Vec<(Arc<str>, thread::JoinHandle<anyhow::Result<()>>)>,
}

/// Starts every source of the configuration.
///
/// # Errors
/// If the store can't be read or the system gives no thread.
pub fn start(
    config: &Config,
    handle: &Handle,
    limits: &Arc<Limits>,
    once: bool,
) -> anyhow::Result<Sources> {
    let (stopper, stop) = Stopper::new();
    let reader = handle.store.reader()?;
    let mut threads = Vec::new();
    for source in &config.sources {
        let positions = reader.positions(&source.name)?;
        let name: Arc<str> = source.name.as_str().into();
        let context = Setting {
            name: name.clone(),
            intake: Box::new(handle.clone()),
            catalog: handle.catalog.clone(),
            limits: limits.clone(),
            on_bad_input: source.on_bad_input,
            once,
            stop: stop.clone(),
        };
        let thread = spawn(source, context, positions)
            .with_context(|| format!("can't start source {name}"))?;
        threads.push((name, thread));
    }
    Ok(Sources { stopper, threads })
}

fn spawn(
    source: &Source,
    context: Setting,
    positions: Vec<Position>,
) -> std::io::Result<thread::JoinHandle<anyhow::Result<()>>> {
    let kind = source.kind.clone();
    let stop = context.stop.clone();
    let kind_name = kind.name();
    context.intake.show(&source.name, &|status| {
        kind_name.clone_into(&mut status.kind);
        "reading".clone_into(&mut status.state);
    });
    thread::Builder::new()
        .name(format!("source {}", source.name))
        .spawn(move || match kind {
            SourceKind::Files { path, format } => {
                Files::new(context, path, format, positions).run()
            }
            SourceKind::Stdin { format, table } => {
                let input = stdin::Interruptible::start(stop)?;
                Stdin::new(context, format, table).run(input)
            }
        })
}

impl Sources {
    /// Waits until every source has ended by itself and all that they read is durable.
    ///
    /// # Errors
    /// Why the first of them failed.
    pub fn wait(mut self) -> anyhow::Result<()> {
        self.join()
    }

    /// Ends every source and waits until they have.
    ///
    /// # Errors
    /// Why the first of them failed.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.stopper.stop();
        self.join()
    }

    fn join(&mut self) -> anyhow::Result<()> {
        let mut result = Ok(());
        for (name, thread) in self.threads.drain(..) {
            let ended = thread
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("its thread panicked")))
                .with_context(|| format!("source {name}"));
            if result.is_ok() {
                result = ended;
            }
        }
        result
    }
}

#[cfg(test)]
mod tests;
