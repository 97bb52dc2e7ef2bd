//! The simulated world: the engine, step by step, over a disk that fails, with a source, clients and an operator who know no more
//! than their real counterparts.
//!
//! The world writes down what the engine accepts, in order. What a crash takes back is struck off the list again: how much, says a
//! position that is stored with every entry. The source then goes on from its own stored position, and clients send again what was
//! not answered.

mod behind;
mod checks;
mod clients;
mod commands;
mod crash;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use crossbeam_channel::Receiver;
use rulemill::{
    catalog::TableId,
    change::{Position, RawChange, Receipt, Refused, SourceBatch},
    engine::{ControlError, Setup, Stepped, TableOptions, Turned},
    limits::Limits,
    store::{Reader, Store},
};
use rulemill_tests::random::{Random, from_environment};
use rulemill_wire::ColumnType;

use crate::{
    disk::Disk,
    feed::{NOTE, Said, Source},
    model::{Event, Model},
    plugins,
    rules::ROW_BYTES_MAX,
};

pub(crate) use clients::Request;
use clients::Waiting;

/// Why a step was the last.
#[derive(Debug)]
pub(crate) enum End {
    /// The disk failed, as it was told to, and the engine ended.
    Disk,
    /// The engine is wrong.
    Wrong(String),
}

impl From<String> for End {
    fn from(what: String) -> Self {
        Self::Wrong(what)
    }
}

/// What is fixed for a run.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    /// Commands come at any time, also while rules catch up: what they leave isn't known before the end.
    pub(crate) is_loose: bool,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = &self.limits;
        f.debug_struct("Settings")
            .field("batch_changes_max", &limits.batch_changes_max)
            .field("commit_changes_max", &limits.commit_changes_max)
            .field("scan_page_rows_max", &limits.scan_page_rows_max)
            .field("dead_letters_max", &limits.dead_letters_max)
            .field("is_loose", &self.is_loose)
            .finish()
    }
}

impl Settings {
    pub(crate) fn limits() -> Limits {
        Limits {
            row_bytes_max: ROW_BYTES_MAX,
            store_cache_bytes: 4 << 20,
            // Rules fault often here, and are meant to go on.
            breaker_faults_percent: 100,
            ..Limits::default()
        }
    }
}

type Answers = Arc<Mutex<Vec<(u64, Result<Receipt, Refused>)>>>;

/// The world.
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) random: Random,
    pub(crate) disk: Disk,
    store: Option<Arc<Store>>,
    engine: Option<Stepped>,
    pub(crate) clock: Arc<AtomicI64>,
    /// Plugin files and their versions.
    pub(crate) directory: BTreeMap<&'static str, u32>,
    /// What was accepted.
    pub(crate) history: Vec<Event>,
    /// The recomputation of so much of the history, and that up to the last check.
    model: Model,
    model_events: usize,
    checked: Model,
    checked_events: usize,
    /// What the last crash took back of it.
    undone: Vec<Event>,
    /// How much of the history is known to be durable, and how much is on its way.
    settled: usize,
    on_its_way: Option<usize>,
    /// The end: the same steps, and nothing but the disk interrupts them.
    is_mending: bool,
    /// Parked changes are being run again, which takes steps.
    is_retrying: bool,
    /// Parked changes were given up: what rules missed stays missed.
    has_dropped: bool,
    has_pruned: bool,
    /// What the source has, and how much of it was handed over.
    pub(crate) sent: Vec<Vec<Said>>,
    pub(crate) position: usize,
    /// Requests that were taken, with what they were.
    taken: HashMap<u64, (usize, usize)>,
    waiting: Vec<Waiting>,
    replies: Vec<(usize, Receiver<Result<Turned, ControlError>>)>,
    answers: Answers,
    next_number: u64,
    /// Requests without an answer, to be sent again.
    pub(crate) unanswered: VecDeque<Request>,
    /// Requests that were answered.
    pub(crate) answered: Vec<Request>,
    tables: Vec<(TableId, Vec<u16>)>,
    /// The last steps.
    pub(crate) trace: VecDeque<String>,
    trace_max: usize,
    pub(crate) steps: usize,
    /// How often what has happened.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl World {
    pub(crate) fn new(seed: u64, settings: Settings) -> Self {
        Self {
            model: Model::new(settings.limits.dead_letters_max),
            checked: Model::new(settings.limits.dead_letters_max),
            settings,
            random: Random::new(seed),
            disk: Disk::default(),
            store: None,
            engine: None,
            clock: Arc::new(AtomicI64::new(1_000)),
            directory: plugins::FROM_START
                .into_iter()
                .map(|name| (name, 1))
                .collect(),
            history: Vec::new(),
            model_events: 0,
            checked_events: 0,
            undone: Vec::new(),
            settled: 0,
            on_its_way: None,
            is_mending: false,
            is_retrying: false,
            has_dropped: false,
            has_pruned: false,
            sent: Vec::new(),
            position: 0,
            taken: HashMap::new(),
            waiting: Vec::new(),
            replies: Vec::new(),
            answers: Answers::default(),
            next_number: 0,
            unanswered: VecDeque::new(),
            answered: Vec::new(),
            tables: Vec::new(),
            trace: VecDeque::new(),
            trace_max: from_environment("RULEMILL_LAST_STEPS", 40) as usize,
            steps: 0,
            counts: BTreeMap::new(),
        }
    }

    pub(crate) fn note(&mut self, what: fmt::Arguments<'_>) {
        self.steps += 1;
        if self.trace.len() == self.trace_max {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>5}  {what}", self.steps));
    }

    /// The recomputation as of the last look at it.
    pub(crate) fn known_model(&self) -> &Model {
        &self.model
    }

    /// Plugins that are being rebuilt, in a strict run.
    pub(crate) fn rebuilding(&mut self) -> Vec<&'static str> {
        match self.settings.is_loose {
            true => Vec::new(),
            false => self.model().rebuilding(),
        }
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.load(Ordering::SeqCst)
    }

    pub(crate) fn engine(&mut self) -> &mut Stepped {
        self.engine.as_mut().expect("it was started")
    }

    /// A step of the engine, whose failure is the disk's or wrong.
    fn step<T>(&mut self, step: impl FnOnce(&mut Stepped) -> anyhow::Result<T>) -> Result<T, End> {
        let result = step(self.engine.as_mut().expect("it was started"));
        result.map_err(|error| match self.disk.has_failed() {
            true => End::Disk,
            false => End::Wrong(format!("the engine ended: {error:#}")),
        })
    }

    /// Opens the store and starts the engine, until it works.
    pub(crate) fn start(&mut self) -> Result<(), End> {
        let (store, engine) = loop {
            match self.try_start() {
                Ok(started) => break started,
                Err(error) if self.disk.has_failed() => {
                    self.note(format_args!("the start fails: {error:#}"));
                    self.disk.kill();
                    self.disk.mend();
                }
                Err(error) => return Err(End::Wrong(format!("it doesn't start: {error:#}"))),
            }
        };
        self.disk.mend();
        let catalog = engine.catalog().load();
        self.tables = Source::ALL
            .iter()
            .map(|source| {
                let table = catalog.by_name(source.name()).expect("it is configured");
                let column = |name: &&str| table.column(name).map(|(id, _)| id);
                let columns = source.columns().iter().filter(|name| **name != NOTE);
                let columns = columns.filter_map(column).collect();
                (table.id, columns)
            })
            .collect();
        self.store = Some(store);
        self.engine = Some(engine);
        self.note(format_args!("start with {:?}", self.directory.clone()));
        let event = Event::Start {
            directory: self.directory.clone(),
            clock: self.now(),
        };
        self.accept(event, Vec::new())?;
        self.settle_all()?;
        if !self.settings.is_loose {
            self.look_at_rebuilds()?;
            self.look_at_rules()?;
            self.look_at_log()?;
        }
        Ok(())
    }

    fn try_start(&mut self) -> anyhow::Result<(Arc<Store>, Stepped)> {
        let store = Arc::new(Store::with_backend(
            self.disk.clone(),
            &self.settings.limits,
        )?);
        let time = self.clock.clone();
        let plugins_now = self.directory.iter();
        let plugins_now = plugins_now.map(|(name, version)| plugins::loaded(name, *version));
        let engine = Stepped::start(Setup {
            store: store.clone(),
            limits: Arc::new(self.settings.limits.clone()),
            tables: Source::ALL.into_iter().map(configured).collect(),
            plugins: plugins::options(),
            plugins_now: plugins_now.collect(),
            sources: Vec::new(),
            ticks: true,
            clock: Arc::new(move || time.load(Ordering::SeqCst)),
        })?;
        Ok((store, engine))
    }

    /// Writes an event down and has its entry stored with it.
    fn accept(&mut self, event: Event, batches: Vec<SourceBatch>) -> Result<(), End> {
        self.history.push(event);
        self.mark(batches)
    }

    fn mark(&mut self, mut batches: Vec<SourceBatch>) -> Result<(), End> {
        let mut marker = batch("history", Vec::new());
        marker.positions.push(position(self.history.len()));
        batches.push(marker);
        self.step(|engine| engine.process(batches))
    }

    pub(crate) fn hand_over(&mut self) -> Result<(), End> {
        if self.engine().is_committing() || !self.engine().is_unsettled() {
            return Ok(());
        }
        self.note(format_args!("hand over"));
        self.step(Stepped::hand_over)?;
        self.on_its_way = Some(self.history.len());
        Ok(())
    }

    pub(crate) fn commit(&mut self) -> Result<(), End> {
        if self.engine().commit() {
            self.note(format_args!("commit"));
            self.look()?;
        }
        Ok(())
    }

    pub(crate) fn settle(&mut self) -> Result<(), End> {
        let was = self.engine().is_committing();
        self.step(Stepped::settle)?;
        if was && !self.engine().is_committing() {
            self.note(format_args!("settle"));
            // Also where the disk has failed since, so that nobody could look.
            if let Some(arrived) = self.on_its_way.take() {
                self.settled = self.settled.max(arrived);
            }
        }
        Ok(())
    }

    /// Lets everything decided arrive.
    pub(crate) fn settle_all(&mut self) -> Result<(), End> {
        while self.engine().is_unsettled() {
            self.hand_over()?;
            self.commit()?;
            self.settle()?;
        }
        Ok(())
    }

    /// The recomputation of the history.
    pub(crate) fn model(&mut self) -> &Model {
        for event in &self.history[self.model_events..] {
            self.model.apply(event);
        }
        self.model_events = self.history.len();
        &self.model
    }

    fn reader(&self) -> Result<Reader, End> {
        self.disk_or_wrong(self.store().reader())
    }

    /// What the store gives; it may only fail with the disk.
    fn disk_or_wrong<T>(&self, result: Result<T, rulemill::store::Error>) -> Result<T, End> {
        result.map_err(|error| self.failed_or(error.to_string()))
    }

    fn failed_or(&self, what: String) -> End {
        match self.disk.has_failed() {
            true => End::Disk,
            false => End::Wrong(what),
        }
    }

    /// Counts what has happened, by kind.
    pub(crate) fn count(&mut self, kind: &'static str) {
        *self.counts.entry(kind).or_default() += 1;
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open")
    }
}

fn batch(source: &str, changes: Vec<RawChange>) -> SourceBatch {
    SourceBatch {
        source: source.into(),
        input_bytes: changes.len() * 40,
        changes,
        bad: Vec::new(),
        positions: Vec::new(),
        idempotency: None,
        done: None,
    }
}

fn position(place: usize) -> Position {
    Position {
        part: String::new(),
        bytes: (place as u64).to_be_bytes().to_vec(),
    }
}

fn place_of(position: &Position) -> Result<usize, End> {
    match <[u8; 8]>::try_from(&position.bytes[..]) {
        Ok(bytes) => Ok(u64::from_be_bytes(bytes) as usize),
        Err(_) => Err(End::Wrong(format!("{position:?} is none"))),
    }
}

fn configured(source: Source) -> TableOptions {
    let column = |name: &&str| {
        let nullable = *name == "amount";
        ((*name).to_owned(), ColumnType::I64, nullable)
    };
    TableOptions {
        name: source.name().into(),
        key: vec!["id".into()],
        mirror: true,
        columns: source
            .columns()
            .iter()
            .filter(|name| **name != NOTE)
            .map(column)
            .collect(),
    }
}
