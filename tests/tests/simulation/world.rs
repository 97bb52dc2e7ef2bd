//! The simulated world: the engine, step by step, over a disk that fails, with a source, clients and an operator who know no more
//! than their real counterparts.
//!
//! The world writes down what the engine accepts, in order. What a crash takes back is struck off the list again: how much, says a
//! position that is stored with every entry. The source then goes on from its own stored position, and clients send again what was
//! not answered.

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
    change::{Idempotency, Key, Position, RawChange, RawOp, Receipt, Refused, SourceBatch},
    engine::{
        Behind, Control, ControlError, PluginEvent, RuleStatusLine, Setup, Stepped, TableOptions,
    },
    limits::Limits,
    row::RowBuilder,
    store::Store,
};
use rulemill_tests::random::{Random, from_environment};
use rulemill_wire::{ColumnType, ValueRef, key};

use crate::{
    compare::{self, Depth},
    disk::Disk,
    feed::{Said, Source},
    model::{Event, Model},
    plugins,
    rules::ROW_BYTES_MAX,
};

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

/// A request that a client sends until it is answered.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) said: Vec<Said>,
}

/// Somebody who waits for an answer.
struct Waiting {
    /// Entries of the history that must be durable before the answer comes.
    events: usize,
    number: u64,
    request: Option<Request>,
    repeated: bool,
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
    /// The recomputation of the history up to the last check.
    checked: Model,
    checked_events: usize,
    /// How much of the history is known to be durable, and how much is on its way.
    settled: usize,
    on_its_way: Option<usize>,
    /// The end: the same steps, and nothing but the disk interrupts them.
    is_mending: bool,
    /// Parked changes were given up: what rules missed stays missed.
    has_dropped: bool,
    /// What the source has, and how much of it was handed over.
    pub(crate) sent: Vec<Vec<Said>>,
    pub(crate) position: usize,
    /// Requests that were taken, with what they were.
    taken: HashMap<u64, (usize, usize)>,
    waiting: Vec<Waiting>,
    replies: Vec<(usize, Receiver<Result<String, ControlError>>)>,
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
    pub(crate) restarts: usize,
}

impl World {
    pub(crate) fn new(seed: u64, settings: Settings) -> Self {
        Self {
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
            checked_events: 0,
            settled: 0,
            on_its_way: None,
            is_mending: false,
            has_dropped: false,
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
            restarts: 0,
        }
    }

    pub(crate) fn note(&mut self, what: fmt::Arguments<'_>) {
        self.steps += 1;
        if self.trace.len() == self.trace_max {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>5}  {what}", self.steps));
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
                let columns = source.columns().iter().filter_map(column).collect();
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
        self.settle_all()
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

    /// The source hands over its next transactions, in batches that are decided as one.
    pub(crate) fn source(&mut self, batches: &[usize]) -> Result<(), End> {
        let mut handed = Vec::new();
        let from = self.position;
        let said = self.sent[from..from + batches.iter().sum::<usize>()].to_vec();
        for count in batches {
            let mut changes = Vec::new();
            for _ in 0..*count {
                let said = self.sent[self.position].clone();
                self.position += 1;
                changes.extend(said.iter().map(|said| self.raw(said)));
                self.history.push(Event::Transaction {
                    said,
                    request: None,
                    clock: self.now(),
                });
            }
            let mut batch = batch("source", changes);
            batch.positions.push(position(self.position));
            if self.random.one_in(4) {
                batch.done = Some(self.wait(None, false));
            }
            handed.push(batch);
        }
        let to = self.position;
        self.note(format_args!(
            "the source hands over transactions {from}..{to} in batches {batches:?}: {:?}",
            said.concat()
        ));
        self.mark(handed)
    }

    /// A client sends a request, for the first time or again.
    pub(crate) fn request(&mut self, request: Request, other_body: bool) -> Result<(), End> {
        let changes: Vec<RawChange> = request.said.iter().map(|said| self.raw(said)).collect();
        let repeated = self.taken.contains_key(&request.id);
        self.note(format_args!(
            "request {}{}{}: {:?}",
            request.id,
            if repeated { " again" } else { "" },
            if other_body { " with another body" } else { "" },
            request.said
        ));
        let mut batch = batch("http", changes);
        batch.idempotency = Some(Idempotency {
            key: request.id.to_string(),
            body_hash: [u8::from(other_body); 32],
        });
        if other_body {
            assert!(repeated, "a first request has no other body");
            let (sender, receiver) = crossbeam_channel::bounded(1);
            batch.done = Some(Box::new(move |result| drop(sender.send(result))));
            self.mark(vec![batch])?;
            return match receiver.try_recv() {
                Ok(Err(Refused::KeyReused)) => Ok(()),
                other => Err(End::Wrong(format!("a key for two bodies: {other:?}"))),
            };
        }
        let event = Event::Transaction {
            said: request.said.clone(),
            request: Some(request.id),
            clock: self.now(),
        };
        self.history.push(event);
        let entry = (self.history.len(), request.said.len());
        self.taken.entry(request.id).or_insert(entry);
        batch.done = Some(self.wait(Some(request), repeated));
        self.mark(vec![batch])
    }

    fn wait(&mut self, request: Option<Request>, repeated: bool) -> rulemill::change::Done {
        let number = self.next_number;
        self.next_number += 1;
        self.waiting.push(Waiting {
            events: self.history.len(),
            number,
            request,
            repeated,
        });
        let answers = self.answers.clone();
        Box::new(move |result| {
            let mut answers = answers.lock().expect("nobody panics with it");
            answers.push((number, result));
        })
    }

    fn raw(&self, said: &Said) -> RawChange {
        let (table, columns) = &self.tables[said.table as usize];
        let key_of = |id: i64| {
            let mut bytes = Vec::new();
            key::write(ValueRef::I64(id), &mut bytes);
            Key::from(bytes)
        };
        let after = said.row.as_ref().map(|row| {
            let mut builder = RowBuilder::default();
            builder.set(columns[0], ValueRef::I64(said.key));
            for (column, value) in columns[1..].iter().zip(row) {
                if let Some(value) = value {
                    builder.set(*column, ValueRef::I64(*value));
                }
            }
            let mut bytes = Vec::new();
            builder.finish(&mut bytes);
            bytes.into()
        });
        RawChange {
            table: *table,
            op: said.op,
            key: match said.op {
                RawOp::Truncate => Key::new(),
                _ => key_of(said.key),
            },
            old_key: said.old_key.map(key_of),
            before: None,
            lacks: false,
            after,
            time: said.time,
        }
    }

    /// The operator says something, and the entry with it.
    pub(crate) fn command(&mut self, event: Event) -> Result<(), End> {
        self.note(format_args!("{event:?}"));
        let (reply, receiver) = crossbeam_channel::bounded(1);
        let command = match &event {
            Event::Load(name, version) => {
                self.directory.insert(name, *version);
                Control::Plugin(plugins::loaded(name, *version))
            }
            Event::Remove(name) => {
                self.directory.remove(name);
                let name = (*name).to_owned();
                Control::Plugin(PluginEvent::Removed { name })
            }
            Event::Pause(rule) => Control::Pause {
                rule: (*rule).to_owned(),
                reply,
            },
            Event::Resume(rule) => Control::Resume {
                skip_gap: false,
                rule: (*rule).to_owned(),
                reply,
            },
            Event::Retry(rule) => return self.retry(*rule),
            Event::Drop(rule) => {
                self.has_dropped = true;
                let (reply, _) = crossbeam_channel::bounded(1);
                Control::DropDeadLetters {
                    rule: rule.map(str::to_owned),
                    id: None,
                    reply,
                }
            }
            Event::Tick { .. } => {
                self.step(Stepped::tick)?;
                return self.accept(event, Vec::new());
            }
            Event::Start { .. } | Event::Transaction { .. } => {
                return Err(End::Wrong("this is no command".into()));
            }
        };
        let is_answered = matches!(event, Event::Pause(_) | Event::Resume(_));
        self.step(|engine| engine.command(command))?;
        self.look()?;
        self.accept(event, Vec::new())?;
        if is_answered {
            self.replies.push((self.history.len(), receiver));
        }
        Ok(())
    }

    /// A plugin comes that must be refused.
    pub(crate) fn refused(&mut self) -> Result<(), End> {
        self.note(format_args!("a plugin that doesn't fit"));
        let (reply, answer) = crossbeam_channel::bounded(1);
        let event = PluginEvent::Loaded {
            name: "thief".into(),
            plugin: plugins::compiled("thief", 1),
            last_good: None,
            reply: Some(reply),
        };
        self.step(|engine| engine.command(Control::Plugin(event)))?;
        match answer.try_recv() {
            Ok(Err(_)) => {}
            other => return Err(End::Wrong(format!("the thief was let in: {other:?}"))),
        }
        let event = PluginEvent::Refused {
            name: "shop".into(),
            reason: "no plugin".into(),
            last_good: None,
        };
        self.step(|engine| engine.command(Control::Plugin(event)))
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

    /// Parked changes are run again. That takes steps: what it has come to when they are interrupted isn't known.
    fn retry(&mut self, rule: Option<&'static str>) -> Result<(), End> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        let command = Control::RetryDeadLetters {
            rule: rule.map(str::to_owned),
            id: None,
            reply,
        };
        let was_loose = std::mem::replace(&mut self.settings.is_loose, true);
        self.step(|engine| engine.command(command))?;
        if was_loose && !self.is_mending {
            return Ok(());
        }
        self.drain()?;
        match answer.try_recv() {
            Ok(Ok(_)) => {}
            other => return Err(End::Wrong(format!("a retry was answered with {other:?}"))),
        }
        self.accept(Event::Retry(rule), Vec::new())?;
        self.settle_all()?;
        self.settings.is_loose = was_loose;
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
            self.on_its_way = None;
        }
        Ok(())
    }

    /// Looks how much of the history is on the disk by now.
    fn look(&mut self) -> Result<(), End> {
        if self.disk.has_failed() {
            // Whether a commit that failed is there shows when the store is opened again.
            return Ok(());
        }
        let stored = self
            .store()
            .reader()
            .and_then(|reader| reader.positions("history"));
        let place = match stored {
            Ok(positions) => positions.first().map_or(Ok(0), place_of)?,
            // The engine meets the same error.
            Err(_) if self.disk.has_failed() => return Ok(()),
            Err(error) => return Err(End::Wrong(format!("can't look at the store: {error}"))),
        };
        if place < self.settled || place > self.history.len() {
            return Err(End::Wrong(format!("the store went back to {place}")));
        }
        self.arrived(place)
    }

    /// What was on its way is durable: all who waited for it, and nobody else, have their answer.
    fn arrived(&mut self, events: usize) -> Result<(), End> {
        self.settled = events;
        let mut answers: BTreeMap<u64, Result<Receipt, Refused>> = self
            .answers
            .lock()
            .expect("nobody panics with it")
            .drain(..)
            .collect();
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.events > events {
                self.waiting.push(waiting);
                continue;
            }
            let receipt = match answers.remove(&waiting.number) {
                Some(Ok(receipt)) => receipt,
                other => {
                    let what = format!("durable, and answered with {other:?}");
                    return Err(End::Wrong(what));
                }
            };
            if let Some(request) = waiting.request {
                let changes = request.said.len() as u64;
                if receipt.repeated != waiting.repeated || receipt.changes != changes {
                    return Err(End::Wrong(format!("{request:?} got {receipt:?}")));
                }
                self.answered.push(request);
            }
        }
        if !answers.is_empty() {
            return Err(End::Wrong(format!("answered too soon: {answers:?}")));
        }
        for (asked, receiver) in std::mem::take(&mut self.replies) {
            if asked > events {
                self.replies.push((asked, receiver));
                continue;
            }
            receiver
                .try_recv()
                .map_err(|_| "a command that is durable got no reply".to_owned())?
                .map_err(|error| format!("a command was refused: {error}"))?;
        }
        Ok(())
    }

    pub(crate) fn step_behind(&mut self) -> Result<Behind, End> {
        let step = self.step(Stepped::step_behind)?;
        if step == Behind::Done {
            self.note(format_args!("what is behind comes nearer"));
            // It may have had to wait for the disk.
            self.look()?;
        }
        Ok(step)
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

    /// Lets every rule come to the head, and everything arrive.
    pub(crate) fn drain(&mut self) -> Result<(), End> {
        for _ in 0..20_000 {
            match self.step_behind()? {
                Behind::Done => {}
                Behind::NeedsCommit => self.settle_all()?,
                Behind::Idle => return self.settle_all(),
            }
            if self.engine().is_full() {
                self.settle_all()?;
            }
        }
        let status = self.engine().status();
        let rules = status.rules.iter();
        let behind: Vec<_> = rules.filter(|(_, rule)| rule.status != "running").collect();
        Err(End::Wrong(format!(
            "a rule never comes to the head: {behind:?}"
        )))
    }

    /// The process or the machine dies, and is started again.
    pub(crate) fn crash(&mut self) -> Result<(), End> {
        self.restarts += 1;
        let disk_failed = self.disk.has_failed();
        self.disk.kill();
        self.engine = None;
        self.store = None;
        if self.random.one_in(2) {
            self.note(format_args!("the power goes"));
            self.disk.lose_power(&mut self.random);
        } else {
            self.note(format_args!("the process dies"));
        }
        self.disk.mend();
        let (history, position) = self.stored()?;
        // A commit that failed may have come through; and a step may have handed over what was decided before it.
        let may_be = [self.on_its_way, Some(self.history.len())];
        let fits = history == self.settled || (disk_failed && may_be.contains(&Some(history)));
        if !fits {
            return Err(End::Wrong(format!(
                "the store holds {history} entries of the history; {} were settled, on its way were {:?}",
                self.settled, self.on_its_way
            )));
        }
        let is_of_source =
            |event: &&Event| matches!(event, Event::Transaction { request: None, .. });
        let handed_over = self.history[..history].iter().filter(is_of_source).count();
        if position != handed_over {
            return Err(End::Wrong(format!(
                "the store has the source at transaction {position}, and holds {handed_over} of it"
            )));
        }
        self.rewind(history, position);
        if self.random.one_in(6) {
            let operations = self.random.below(80);
            self.disk.fail_after(operations);
        }
        self.start()
    }

    /// The stored positions of the history and of the source.
    fn stored(&mut self) -> Result<(usize, usize), End> {
        let wrong = |error: rulemill::store::Error| End::Wrong(format!("after a crash: {error}"));
        let store = Store::with_backend(self.disk.clone(), &self.settings.limits).map_err(wrong)?;
        let reader = store.reader().map_err(wrong)?;
        let place = |source: &str| {
            let stored = reader.positions(source).map_err(wrong)?;
            stored.first().map_or(Ok(0), place_of)
        };
        Ok((place("history")?, place("source")?))
    }

    /// Everybody goes on from what is stored.
    fn rewind(&mut self, history: usize, position: usize) {
        self.history.truncate(history);
        self.settled = history;
        self.on_its_way = None;
        self.position = position;
        self.taken.retain(|_, (entry, _)| *entry <= history);
        for waiting in std::mem::take(&mut self.waiting) {
            self.unanswered.extend(waiting.request);
        }
        self.replies.clear();
        self.answers.lock().expect("nobody panics with it").clear();
        if !self.settings.is_loose {
            // What a rule that is behind has handled with which version must be known.
            self.directory = self.recompute().directory();
        }
    }

    /// The recomputation of the history.
    fn recompute(&mut self) -> Model {
        let mut model = self.checked.clone();
        for event in &self.history[self.checked_events..] {
            model.apply(event);
        }
        model
    }

    /// Lets rules come to the head, and compares.
    pub(crate) fn check(&mut self) -> Result<(), End> {
        self.drain()?;
        let model = self.recompute();
        let depth = if self.settings.is_loose {
            Depth::Steady
        } else {
            Depth::All
        };
        let store = self.store.as_ref().expect("it is open");
        compare::compare(store, &model, depth)?;
        self.checked = model;
        self.checked_events = self.history.len();
        Ok(())
    }

    /// The host is stopped and started again, with these plugin files.
    pub(crate) fn restart(&mut self, directory: BTreeMap<&'static str, u32>) -> Result<(), End> {
        self.restarts += 1;
        self.drain()?;
        self.note(format_args!("stop"));
        self.engine = None;
        self.store = None;
        self.directory = directory;
        self.start()
    }

    /// Every plugin is mended, every rule goes on, everything parked is run again: then all must be as if nothing had ever
    /// failed.
    pub(crate) fn mend(&mut self) -> Result<(), End> {
        self.is_mending = true;
        self.drain()?;
        for name in plugins::ALL {
            self.command(Event::Load(name, plugins::MENDED))?;
        }
        for round in 0.. {
            for rule in crate::RULES {
                self.command(Event::Resume(rule))?;
            }
            self.drain()?;
            self.command(Event::Retry(None))?;
            let status = self.engine().status();
            let is_done = |rule: &RuleStatusLine| rule.parked == 0 && rule.status == "running";
            if status.rules.values().all(is_done) {
                break;
            }
            if round > 20 {
                return Err(End::Wrong(format!(
                    "it can't be mended: {:#?}",
                    status.rules
                )));
            }
        }
        if !self.settings.is_loose {
            self.check()?;
        }
        if self.has_dropped {
            return Ok(());
        }
        let mut model = Model::new(self.settings.limits.dead_letters_max);
        let mended = plugins::ALL.into_iter().map(|name| (name, plugins::MENDED));
        model.apply(&Event::Start {
            directory: mended.collect(),
            clock: 1_000,
        });
        for event in &self.history {
            if let Event::Transaction { .. } | Event::Tick { .. } = event {
                model.apply(event);
            }
        }
        compare::compare(self.store(), &model, Depth::Mended)?;
        Ok(())
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
        columns: source.columns().iter().map(column).collect(),
    }
}
