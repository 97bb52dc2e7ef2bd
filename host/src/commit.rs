//! The committer: one thread that makes groups of write sets durable, one group at a time.
//!
//! It takes a group, stores it in one transaction, tells those who wait, and reports back. It never
//! decides what is in a group; the engine fills the next one meanwhile. If a commit fails, nothing of the
//! group is in the store, those who wait are told so, and the engine decides what becomes of the host. Where the disk
//! is full the commit takes until there is room, so that input waits and nothing is given up.

use std::{sync::Arc, thread};

use crossbeam_channel::{Receiver, RecvError, Sender, bounded};

use crate::{
    change::{Done, Receipt, Refused, Seq},
    limits::Limits,
    store::{self, Store, WriteSet},
};

/// How often what is old is looked for, in microseconds of the host's clock.
const PRUNE_EVERY_MICROS: i64 = 60_000_000;

/// A group that is on disk, or that failed.
pub struct Committed {
    /// The last seq of the group, or why it is not in the store.
    pub result: Result<Seq, store::Error>,
}

/// The committer's thread and its channels.
pub struct Committer {
    groups: Option<Sender<Vec<WriteSet>>>,
    /// Reports, one for each group.
    pub committed: Receiver<Committed>,
    thread: Option<thread::JoinHandle<()>>,
    /// Without a thread: its work.
    worker: Option<Worker>,
}

/// What the committer's thread does, one group after the other.
struct Worker {
    store: Arc<Store>,
    limits: Arc<Limits>,
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    groups: Receiver<Vec<WriteSet>>,
    report: Sender<Committed>,
    pruned_at: i64,
    /// What was found to be damaged between two groups: nothing is written any more.
    damage: Option<store::Error>,
}

impl Worker {
    /// Makes a group durable and reports it. False if the engine is gone, and with it whoever could use
    /// another group.
    fn take(&mut self, group: Vec<WriteSet>) -> bool {
        let watermark = group.last().map_or(i64::MIN, |last| last.watermark);
        let committed = match self.damage.take() {
            Some(damage) => refuse(group, damage),
            None => commit(&self.store, group),
        };
        if self.report.send(committed).is_err() {
            return false;
        }
        let now = (self.clock)();
        if now.saturating_sub(self.pruned_at) >= PRUNE_EVERY_MICROS {
            // Age is counted in the changes' own time: old changes that are only now read in are not
            // forgotten at once.
            match prune(&self.store, &self.limits, now.min(watermark)) {
                // A bounded part at a time, between commits.
                Ok(more) => self.pruned_at = if more { i64::MIN } else { now },
                Err(damage) => self.damage = Some(damage),
            }
        }
        true
    }
}

impl Committer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        store: Arc<Store>,
        limits: Arc<Limits>,
        clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    ) -> std::io::Result<Self> {
        let (mut committer, mut worker) = Self::new(store, limits, clock);
        committer.thread = Some(thread::Builder::new().name("committer".into()).spawn(
            move || {
                while let Ok(group) = worker.groups.recv() {
                    // From the first group on somebody can be told why it takes so long.
                    worker.store.room().wait();
                    if !worker.take(group) {
                        return;
                    }
                }
            },
        )?);
        Ok(committer)
    }

    /// A committer that works when it is [told to](Self::commit_waiting), or when its report is waited for.
    pub fn without_thread(
        store: Arc<Store>,
        limits: Arc<Limits>,
        clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    ) -> Self {
        let (mut committer, worker) = Self::new(store, limits, clock);
        committer.worker = Some(worker);
        committer
    }

    fn new(
        store: Arc<Store>,
        limits: Arc<Limits>,
        clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    ) -> (Self, Worker) {
        let (groups, incoming) = bounded(1);
        let (report, committed) = bounded(2);
        let committer = Self {
            groups: Some(groups),
            committed,
            thread: None,
            worker: None,
        };
        let worker = Worker {
            store,
            limits,
            clock,
            groups: incoming,
            report,
            pruned_at: i64::MIN,
            damage: None,
        };
        (committer, worker)
    }

    /// Without a thread: makes the group durable that was handed over, if there is one. Gives whether there was.
    pub fn commit_waiting(&mut self) -> bool {
        let Some(worker) = &mut self.worker else {
            return false;
        };
        match worker.groups.try_recv() {
            Ok(group) => {
                worker.take(group);
                true
            }
            Err(_) => false,
        }
    }

    /// Waits for the next report. Something must have been handed over.
    ///
    /// # Errors
    /// If the thread has ended.
    pub fn next_report(&mut self) -> Result<Committed, RecvError> {
        self.commit_waiting();
        self.committed.recv()
    }

    /// Hands over a group. The one before must have been reported.
    ///
    /// # Errors
    /// With the group, if the thread has ended.
    pub fn submit(&self, group: Vec<WriteSet>) -> Result<(), Vec<WriteSet>> {
        match &self.groups {
            Some(groups) => groups.send(group).map_err(|error| error.0),
            None => Err(group),
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.groups.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the committer's thread panicked");
        }
    }
}

/// Forgets some of what the limits no longer allow; true if there may be more. What fails here is tried again the next time, unless
/// the store is damaged.
fn prune(store: &Store, limits: &Limits, now: i64) -> Result<bool, store::Error> {
    match store::despite_panics(|| store.prune(now, limits)) {
        Err(error) if !matches!(error, store::Error::Damaged(_)) => {
            tracing::warn!(%error, "can't remove what is old from the store");
            Ok(false)
        }
        result => result,
    }
}

fn commit(store: &Store, mut group: Vec<WriteSet>) -> Committed {
    let waiting = take_waiting(&mut group);
    let last_seq = group
        .last()
        .map(|write_set| write_set.last_seq)
        .unwrap_or_default();
    match store::despite_panics(|| store.commit(&mut group)) {
        Ok(_) => {
            for (done, receipt) in waiting {
                done(Ok(receipt));
            }
            Committed {
                result: Ok(last_seq),
            }
        }
        Err(error) => refuse_waiting(waiting, error),
    }
}

/// Commits nothing of a group.
fn refuse(mut group: Vec<WriteSet>, error: store::Error) -> Committed {
    refuse_waiting(take_waiting(&mut group), error)
}

fn take_waiting(group: &mut [WriteSet]) -> Vec<(Done, Receipt)> {
    let waiting = group.iter_mut();
    waiting
        .flat_map(|write_set| std::mem::take(&mut write_set.done))
        .collect()
}

fn refuse_waiting(waiting: Vec<(Done, Receipt)>, error: store::Error) -> Committed {
    let reason: Arc<str> = error.to_string().into();
    for (done, _) in waiting {
        done(Err(Refused::Stopped(reason.clone())));
    }
    Committed { result: Err(error) }
}
