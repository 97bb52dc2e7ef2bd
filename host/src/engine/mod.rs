//! The engine: numbers changes, holds them against the mirror, runs the rules in table order.
//!
//! Owns the one thread that decides what happens, the read view it decides from, and the write sets
//! it makes; never writes the store itself. A rule's fault parks or halts that rule alone; an error of
//! the store stops the host with the store as it was.
//!
//! The thread's loop waits for whatever comes first: input, a command, the committer's report, time.
//! While one group is being committed the next fills; when it is full and the committer still busy,
//! input waits, and so do the sources behind it.

mod access;
mod apply;
mod aside;
mod behind;
mod clock;
mod commands;
mod dead_letters;
mod differences;
mod effects;
mod faults;
mod firing;
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod handle;
mod ingest;
mod instances;
mod items;
mod link;
mod net;
mod overlay;
mod panics;
mod parts;
mod past;
mod plugins;
mod projection;
mod rebuild;
mod requests;
mod run;
mod schedule;
mod setup;
mod sift;
mod slices;
mod state;
mod status;
mod stepped;
mod timers;
mod view;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, bounded, never, select};

use crate::{
    catalog::{SharedCatalog, TableId},
    change::{Receipt, Refused, Seq, SourceBatch},
    commit::Committer,
    limits::Limits,
    rule::Plugin,
    store::{self, IdempotencyRecord, PluginVersion, Store, WriteSet},
};

pub use handle::{
    Control, ControlError, Handle, LongCall, PluginEvent, PluginStatus, RuleStatusLine,
    SourceStatus, Status, StatusBoard, Turned,
};
pub(crate) use rebuild::is_shadow;
pub use setup::{Backfill, OnError, PluginOptions, Setup, TableOptions};
pub use stepped::{Behind, Stepped};

use behind::Step;
use dead_letters::Retry;
use ingest::GreatestKeys;
use instances::Workshop;
use link::Linked;
use past::Past;
use requests::Requests;
use schedule::Schedule;
use state::RuleState;
use timers::Timers;
use view::View;

/// What the engine can't go on after.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fatal {
    /// The store can't be read or written.
    #[error("the store failed: {0}")]
    Store(String),
    /// A row in memory or in the store is not what it must be.
    #[error("a stored row is damaged: {0}; `rulemill verify` says which")]
    Row(#[from] crate::row::RowError),
}

impl Fatal {
    fn store(error: impl std::fmt::Display) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<store::Error> for Fatal {
    fn from(error: store::Error) -> Self {
        Self::store(error)
    }
}

/// The engine's thread.
pub struct EngineThread {
    thread: thread::JoinHandle<anyhow::Result<()>>,
}

impl EngineThread {
    /// Waits until the engine has ended: after [`Control::Shutdown`], or because it failed.
    ///
    /// # Errors
    /// Why it failed.
    pub fn join(self) -> anyhow::Result<()> {
        self.thread
            .join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the engine's thread panicked")))
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Starts the engine over an open store: links the plugins that are there, then takes input.
///
/// # Errors
/// If the store can't be read, or the configuration contradicts it. A plugin that doesn't fit is no
/// error: it is refused on the status board.
pub fn start(setup: Setup) -> anyhow::Result<(Handle, EngineThread)> {
    let committer = Committer::start(
        setup.store.clone(),
        setup.limits.clone(),
        setup.clock.clone(),
    )?;
    let (mut engine, handle, incoming, commands) = open(setup, committer)?;
    engine.workshop = Workshop::with_thread();
    let board = handle.board.clone();
    let thread = thread::Builder::new()
        .name("engine".into())
        .spawn(move || {
            let result = store::despite_panics(|| engine.run(&incoming, &commands));
            if let Err(error) = &result {
                tracing::error!(%error, "the engine stops");
                board.update(|status| status.stopping = Some(error.to_string()));
            }
            engine.refuse_pending();
            result.map_err(Into::into)
        })?;
    Ok((handle, EngineThread { thread }))
}

/// An engine that is ready to run, the way to it, and that way's far ends.
type Opened = (Engine, Handle, Receiver<SourceBatch>, Receiver<Control>);

fn open(setup: Setup, committer: Committer) -> anyhow::Result<Opened> {
    let (input, incoming) = bounded(setup.limits.queue_batches_max.max(1));
    let (control, commands) = bounded(64);
    let reader = Arc::new(setup.store.reader()?);
    let catalog = setup::shared_catalog((*reader.catalog()?).clone(), &setup.tables)?;
    let handle = Handle {
        input,
        control,
        store: setup.store.clone(),
        catalog: catalog.clone(),
        board: Arc::default(),
    };
    handle.board.update(|status| {
        for name in &setup.sources {
            let source = status.sources.entry(name.clone()).or_default();
            source.kind = FILES.to_owned();
            source.state = READING.to_owned();
        }
    });
    let mut engine = Engine::new(&setup, committer, reader, catalog, &handle)?;
    engine.begin(setup.plugins_now)?;
    engine.settle_start()?;
    Ok((engine, handle, incoming, commands))
}

/// A kind of source that has a present end.
const FILES: &str = "files";
/// Its state before it has come there.
const READING: &str = "reading";
/// How long the engine waits while nothing is due.
const IDLE: Duration = Duration::from_secs(60);
/// How soon the engine looks again whether time may move on.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

struct Engine {
    limits: Arc<Limits>,
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    ticks: bool,
    catalog: Arc<SharedCatalog>,
    /// The catalog's version that the store holds, or will with the pending write sets.
    stored_catalog: u64,
    board: Arc<StatusBoard>,
    configured_tables: Vec<String>,
    plugin_options: HashMap<String, PluginOptions>,
    workshop: Workshop,
    /// Faults that have been dealt with since the start: what a call saw before one may not be so after it.
    dealt_with: u64,
    committer: Committer,
    store: Arc<Store>,
    view: Arc<View>,
    greatest_keys: GreatestKeys,
    plugins: Vec<Linked>,
    /// Code that doesn't fit the tables that serve, by plugin: what a rebuild would begin with.
    candidates: HashMap<String, Arc<dyn Plugin>>,
    /// Tables of sources that have come to belong to a plugin since the start: changes of them may still be on their way.
    claimed: BTreeSet<TableId>,
    versions: Vec<PluginVersion>,
    schedule: Schedule,
    schedule_dirty: bool,
    states: Vec<RuleState>,
    /// Places in `states` by `plugin.rule`.
    state_places: HashMap<String, usize>,
    timers: Timers,
    /// What leads back to the past, while something is behind.
    past: Option<Past>,
    /// Retries of parked changes that are under way.
    retries: VecDeque<Retry>,
    last_seq: Seq,
    last_dead_letter: u64,
    /// Changes of the batch at hand whose row leaves out a column that somebody has named.
    lacking: BTreeSet<Seq>,
    /// The latest commit time seen.
    watermark: i64,
    /// The same, before the batch at hand.
    batch_watermark: i64,
    /// The clock when the watermark was last moved on by a change: time goes on from there.
    watermark_clock: i64,
    /// Decided, not yet handed to the committer.
    pending: Vec<WriteSet>,
    pending_changes: usize,
    pending_bytes: usize,
    requests: Requests,
    committing: bool,
    /// Changes and commits since the start, for the status board.
    changes: u64,
    commits: u64,
}

impl Engine {
    fn new(
        setup: &Setup,
        committer: Committer,
        reader: Arc<store::Reader>,
        catalog: Arc<SharedCatalog>,
        handle: &Handle,
    ) -> anyhow::Result<Self> {
        let mut engine = Self {
            limits: setup.limits.clone(),
            clock: setup.clock.clone(),
            ticks: setup.ticks,
            stored_catalog: 0,
            board: handle.board.clone(),
            configured_tables: setup.tables.iter().map(|t| t.name.clone()).collect(),
            plugin_options: setup.plugins.clone(),
            workshop: Workshop::default(),
            dealt_with: 0,
            committer,
            store: setup.store.clone(),
            greatest_keys: GreatestKeys::default(),
            plugins: Vec::new(),
            candidates: HashMap::new(),
            claimed: BTreeSet::new(),
            versions: reader.plugin_versions()?,
            schedule: Schedule::default(),
            schedule_dirty: true,
            states: Vec::new(),
            state_places: HashMap::new(),
            timers: Timers::default(),
            past: None,
            retries: VecDeque::new(),
            last_seq: reader.last_seq(),
            last_dead_letter: reader.last_dead_letter()?,
            lacking: BTreeSet::new(),
            watermark: reader.watermark(),
            batch_watermark: reader.watermark(),
            // 0: no change has come yet.
            watermark_clock: match reader.watermark_clock() {
                0 => (setup.clock)(),
                clock => clock,
            },
            pending: Vec::new(),
            pending_changes: 0,
            pending_bytes: 0,
            requests: Requests::default(),
            committing: false,
            changes: 0,
            commits: 0,
            catalog,
            view: Arc::new(View::new(reader.clone())),
        };
        engine.restore(&reader)?;
        Ok(engine)
    }

    /// The view, for changing it: no call is under way, so no plugin holds it.
    fn view_mut(&mut self) -> &mut View {
        Arc::get_mut(&mut self.view).expect("an instance lets go of the view before apply returns")
    }

    /// A rule's place in `states`.
    fn state_of(&self, plugin: usize, rule: usize) -> usize {
        self.state_places[&*self.plugins[plugin].rules[rule].full_name]
    }

    fn run(
        &mut self,
        input: &Receiver<SourceBatch>,
        commands: &Receiver<Control>,
    ) -> Result<(), Fatal> {
        let no_input = never();
        let mut stopping = false;
        loop {
            self.hand_over()?;
            let mut needs_commit = false;
            let mut stepped = false;
            if !self.is_full() && !stopping {
                match self.step_behind()? {
                    Step::Idle => {}
                    Step::Done => stepped = true,
                    Step::NeedsCommit => needs_commit = true,
                }
            }
            if stopping && input.is_empty() && self.pending.is_empty() && !self.committing {
                return Ok(());
            }
            let must_settle = needs_commit && self.is_unsettled();
            let takes_input = !(self.is_full() || must_settle);
            let input = if takes_input { input } else { &no_input };
            let committed = self.committer.committed.clone();
            // Changes that wait may clear a timer which the clock alone would fire.
            let may_tick = takes_input && !stopping;
            let wait = if stepped || (needs_commit && !self.is_unsettled()) {
                Duration::ZERO
            } else if may_tick {
                self.until_next_timer()
            } else {
                // The committer's report comes first.
                IDLE
            };
            select! {
                recv(committed) -> report => match report {
                    Ok(report) => self.settle(report)?,
                    Err(_) => return Err(Fatal::Store("the committer has ended".into())),
                },
                recv(commands) -> command => match command {
                    Ok(Control::Shutdown) | Err(_) => stopping = true,
                    Ok(command) => self.command(command)?,
                },
                recv(input) -> batch => match batch {
                    Ok(first) => self.take_input(first, input)?,
                    Err(_) => stopping = true,
                },
                default(wait) => if may_tick { self.tick()? },
            }
        }
    }

    fn plugin_named(&self, name: &str) -> Option<usize> {
        self.plugins.iter().position(|plugin| *plugin.name == *name)
    }

    /// Takes a batch, and as many more as are waiting and fit.
    fn take_input(
        &mut self,
        first: SourceBatch,
        input: &Receiver<SourceBatch>,
    ) -> Result<(), Fatal> {
        let deadline = Instant::now() + Duration::from_millis(self.limits.batch_wait_ms);
        let mut changes = first.changes.len();
        let mut bytes = first.input_bytes;
        let mut batches = vec![first];
        while changes < self.limits.batch_changes_max && bytes < self.limits.batch_bytes_max {
            let Ok(next) = input.recv_deadline(deadline) else {
                break;
            };
            changes += next.changes.len();
            bytes += next.input_bytes;
            batches.push(next);
        }
        self.process(batches, bytes)
    }

    fn process(&mut self, batches: Vec<SourceBatch>, bytes: usize) -> Result<(), Fatal> {
        let mut write_set = WriteSet::default();
        let catalog = self.catalog.load();
        if catalog.version != self.stored_catalog {
            write_set.catalog = Some(catalog.clone());
            self.stored_catalog = catalog.version;
        }
        let mut raw = Vec::new();
        // Answers to requests that earlier batches took: they have their seq.
        let mut earlier = Vec::new();
        for mut batch in batches {
            if !self.claimed.is_empty() {
                self.refuse_claimed(&catalog, &mut batch);
            }
            if let Some(request) = batch.idempotency.take() {
                let of_batch = self.requests.of_batch(&request.key);
                let (record, answers) = match of_batch {
                    Some(record) => (Some(record.clone()), &mut write_set.done),
                    None => (self.request_taken(&request.key)?, &mut earlier),
                };
                if let Some(record) = record {
                    match batch.done {
                        // Not before the first one is on disk.
                        Some(done) if record.body_hash == request.body_hash => {
                            answers.push((done, requests::repeated(&record)));
                        }
                        Some(done) => done(Err(Refused::KeyReused)),
                        None => {}
                    }
                    continue;
                }
                self.requests.take(IdempotencyRecord {
                    key: request.key,
                    body_hash: request.body_hash,
                    seq: self.last_seq,
                    changes: batch.changes.len() as u64,
                    taken_at: (self.clock)(),
                });
            }
            let count = batch.changes.len() as u64;
            raw.append(&mut batch.changes);
            for position in batch.positions {
                write_set.positions.push((batch.source.clone(), position));
            }
            for bad in batch.bad {
                write_set.bad_input.push((batch.source.clone(), bad));
            }
            if let Some(done) = batch.done {
                let receipt = Receipt {
                    seq: self.last_seq,
                    changes: count,
                    repeated: false,
                };
                write_set.done.push((done, receipt));
            }
        }
        let count = raw.len();
        self.ingest(&catalog, raw)?;
        let source = self.view.changes().clone();
        let latest = source.iter().map(|change| change.time).max();
        let mut derived = Vec::new();
        let mut start = 0;
        for end in self.slice_ends(&source) {
            let slice = &source[start..end];
            let mut of_slice = Vec::new();
            self.run_schedule(slice, None, &mut write_set, &mut of_slice)?;
            derived.append(&mut of_slice);
            let times = slice.iter().map(|change| change.time);
            self.batch_watermark = times.fold(self.batch_watermark, i64::max);
            start = end;
        }
        drop(source);
        self.lacking.clear();
        // As if each change had been a batch, whichever rule was called first.
        write_set
            .notifications
            .sort_by_key(|notification| notification.seq);
        let mut log = self.view_mut().end_batch();
        // Stable: one table's changes stay in the order in which they were made.
        derived.sort_by_key(|change| change.seq);
        log.append(&mut derived);
        write_set.log = log;
        if let Some(latest) = latest.filter(|&latest| latest > self.watermark) {
            self.watermark = latest;
            self.watermark_clock = (self.clock)();
        }
        for (_, receipt) in &mut write_set.done {
            receipt.seq = self.last_seq;
        }
        write_set.done.append(&mut earlier);
        write_set.idempotency = self.requests.end_batch(self.last_seq);
        self.changes += count as u64;
        self.finish(write_set, bytes);
        Ok(())
    }
}
