//! The plain recomputation: what the tables must hold, from the list of what was accepted, one change after the other.
//!
//! It shares no code with the engine and none of its ideas: no batches, no overlay, no write sets, no log. A rule is the rows
//! that it has handled and the changes that it has yet to; most derived tables are a fold over those rows. What it can't
//! know it is told by the world, which looks at the store: how far a rule has read the rows that it takes over, when a rebuild
//! was switched in, what the log has forgotten. That this may be so is checked here, and all that follows from it is recomputed.

mod deployment;
mod loading;
mod parked;
mod rule;
mod tables;
mod timers;

use std::collections::{BTreeMap, BTreeSet};

use rulemill::change::RawOp;

use crate::feed::{Row, Said, Source};

pub(crate) use deployment::{Deployment, Status};
pub(crate) use rule::{Place, Rule};

/// What was accepted, in order.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// The host was started with these plugin files.
    Start {
        directory: BTreeMap<&'static str, u32>,
        clock: i64,
    },
    /// A source transaction.
    Transaction {
        said: Vec<Said>,
        /// The request's key; one that is known makes the transaction nothing.
        request: Option<u64>,
        clock: i64,
    },
    /// A plugin file came, or another version of it.
    Load(&'static str, u32),
    /// A plugin file went.
    Remove(&'static str),
    Pause(&'static str),
    Resume(&'static str),
    /// A rule goes on, without what the log no longer has if it must.
    Skip(&'static str),
    /// Parked changes were run again: of one rule or all.
    Retry(Option<&'static str>),
    /// One was, with those of its key before it.
    RetryOne(Place),
    /// Parked changes were given up.
    Drop(Option<&'static str>),
    /// One was.
    DropOne(Place),
    /// A plugin's tables are being made again.
    Rebuild(&'static str),
    /// They aren't after all.
    Cancel(&'static str),
    /// The clock was looked at.
    Tick {
        clock: i64,
    },
    /// Seen: a rule has come so far with the rows that it takes over.
    Reads {
        rule: String,
        reached: Reading,
        runs: bool,
    },
    /// Seen: a plugin's rebuilt tables serve, since this seq.
    Switched {
        plugin: &'static str,
        since: u64,
    },
    /// Seen: the log holds no more than the last changes of source tables, and no longer what these rules have yet to handle.
    Forgot {
        kept: usize,
        lost: Vec<String>,
    },
}

/// How far a rule is with the rows that it takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Up to this key, if it has begun.
    At(Option<i64>),
    Done,
}

/// What happened to a row.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) table: Source,
    pub(crate) key: i64,
    pub(crate) before: Option<Row>,
    pub(crate) after: Option<Row>,
    pub(crate) time: i64,
    /// Its row leaves out a column that somebody has named.
    lacks: bool,
    /// How many changes of source tables came before it.
    place: usize,
    /// What `enrich.names` finds at this moment, and what `reader.standings` does.
    name: String,
    standing: String,
}

/// Where everything stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    dead_letters_max: usize,
    sources: BTreeMap<Source, BTreeMap<i64, Row>>,
    /// Plugins in the store, and those that are being rebuilt once more.
    pub(crate) deployments: Vec<Deployment>,
    numbers: u64,
    requests: BTreeSet<u64>,
    watermark: i64,
    watermark_clock: i64,
    /// By rule.
    pub(crate) notifications: BTreeMap<&'static str, Vec<String>>,
    /// Rules whose notifications come in an order that isn't known.
    pub(crate) disordered: BTreeSet<&'static str>,
    /// Plugins whose tables depend on when they were stopped, or made again; and the tables themselves that depend on what was skipped.
    pub(crate) remade: BTreeSet<&'static str>,
    /// Every change of `orders`, for rules that begin with the log.
    log: Vec<Change>,
    /// Changes of all source tables.
    pub(crate) changes: usize,
    /// Those that the log has forgotten.
    pub(crate) forgotten: usize,
    /// What can't be, if something can't.
    pub(crate) complaint: Option<String>,
    /// What has come of events, by kind.
    pub(crate) outcomes: BTreeMap<&'static str, u64>,
}

impl Model {
    pub(crate) fn new(dead_letters_max: usize) -> Self {
        Self {
            dead_letters_max,
            ..Self::default()
        }
    }

    /// Takes the next event.
    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Start { directory, clock } => self.start(directory, *clock),
            Event::Transaction {
                said,
                request,
                clock,
            } => {
                if request.is_none_or(|request| self.requests.insert(request)) {
                    self.transaction(said, *clock);
                }
            }
            Event::Load(name, label) => self.load(name, *label),
            Event::Remove(name) => self.remove(name),
            Event::Pause(rule) => self.pause(rule),
            Event::Resume(rule) => self.resume(rule),
            Event::Skip(rule) => {
                self.skip(rule);
                self.resume(rule);
            }
            Event::Retry(rule) => self.retry(*rule),
            Event::RetryOne(place) => self.retry_one(place),
            Event::Drop(rule) => self.give_up(*rule),
            Event::DropOne(place) => self.give_up_one(place),
            Event::Rebuild(name) => self.begin_rebuild(name),
            Event::Cancel(name) => self.cancel_rebuild(name),
            Event::Tick { clock } => self.tick(*clock),
            Event::Reads {
                rule,
                reached,
                runs,
            } => self.read(rule, *reached, *runs),
            Event::Switched { plugin, since } => self.switch(plugin, *since),
            Event::Forgot { kept, lost } => self.forget(*kept, lost),
        }
    }

    fn complain(&mut self, what: String) {
        self.complaint.get_or_insert(what);
    }

    fn outcome(&mut self, kind: &'static str) {
        *self.outcomes.entry(kind).or_default() += 1;
    }

    fn notify(&mut self, rule: &'static str, what: String) {
        self.notifications.entry(rule).or_default().push(what);
    }

    fn transaction(&mut self, said: &[Said], clock: i64) {
        let before = self.watermark;
        for said in said {
            for change in self.happened(said, clock) {
                self.change(change);
            }
        }
        if self.watermark > before {
            self.watermark_clock = clock;
        }
    }

    /// From what the source says to what happened, given the rows that are there.
    fn happened(&mut self, said: &Said, clock: i64) -> Vec<Change> {
        let rows = self.sources.entry(said.table).or_default();
        let change = |key, before, after| Change {
            table: said.table,
            key,
            before,
            after,
            time: said.time.unwrap_or(clock),
            lacks: false,
            place: 0,
            name: String::new(),
            standing: String::new(),
        };
        match said.op {
            RawOp::Truncate => std::mem::take(rows)
                .into_iter()
                .map(|(key, row)| change(key, Some(row), None))
                .collect(),
            RawOp::Delete => rows
                .remove(&said.key)
                .map(|row| change(said.key, Some(row), None))
                .into_iter()
                .collect(),
            _ => {
                let mut changes = Vec::new();
                if let Some(old) = said.old_key.filter(|old| *old != said.key)
                    && let Some(row) = rows.remove(&old)
                {
                    changes.push(change(old, Some(row), None));
                }
                let row = said.row.clone().expect("an insert or update has a row");
                let before = rows.insert(said.key, row.clone());
                let lacks = said.lacks;
                changes.push(Change {
                    lacks,
                    ..change(said.key, before, Some(row))
                });
                changes
            }
        }
    }

    fn change(&mut self, mut change: Change) {
        change.place = self.changes;
        self.changes += 1;
        if self.is_rebuilding_any() {
            self.outcome("a change while a plugin is rebuilt");
        }
        if let (Source::Orders, Some(row)) = (change.table, &change.after) {
            change.name = self.name(row[0].unwrap_or_default());
        }
        self.time_moves(&change);
        // What looks up what others derive comes after them.
        let mut places: Vec<usize> = (0..self.deployments.len()).collect();
        places.sort_by_key(|&place| self.deployments[place].name == "reader");
        for place in places {
            if self.deployments[place].name == "reader"
                && let Some(row) = &change.after
            {
                change.standing = self.standing(row[0].unwrap_or_default());
            }
            for rule in 0..self.deployments[place].rules.len() {
                self.offer(place, rule, &change);
            }
        }
        if change.table == Source::Orders {
            self.log.push(change);
        }
    }

    /// The log loses all but its last changes.
    fn forget(&mut self, kept: usize, lost: &[String]) {
        let forgotten = self.changes - kept;
        if forgotten < self.forgotten {
            self.complain(format!("the log knows {kept} changes again"));
        }
        self.forgotten = forgotten;
        for deployment in &mut self.deployments {
            deployment.lose(lost);
        }
        // What a rule has yet to handle must be there, unless it is known to be gone.
        for deployment in &self.deployments {
            for rule in &deployment.rules {
                let first = rule.queue.front();
                if !rule.lost && first.is_some_and(|first| first.place < forgotten) {
                    let what = format!("the log forgets what {} has yet to handle", rule.name);
                    self.complaint.get_or_insert(what);
                }
            }
        }
        if !lost.is_empty() {
            self.outcome("a rule that the log has left behind");
        }
    }
}
