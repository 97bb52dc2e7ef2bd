//! What the engine remembers of each rule and each timer between batches.

use std::collections::{BTreeMap, HashMap};

use crate::{
    change::{Key, Seq},
    store::{RuleRecord, RuleStatus, TimerWrite},
};

/// A rule, whether or not its plugin is loaded.
#[derive(Debug)]
pub(super) struct RuleState {
    pub(super) record: RuleRecord,
    /// Keys with parked changes.
    pub(super) parked: HashMap<Key, Parked>,
    /// Parked changes in all.
    pub(super) parked_count: u64,
    /// The record differs from what the store holds.
    pub(super) dirty: bool,
}

/// The parked changes of a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parked {
    count: u32,
    /// The first of them: what comes before it doesn't wait for it.
    first: Seq,
}

impl RuleState {
    pub(super) fn new(record: RuleRecord) -> Self {
        Self {
            record,
            parked: HashMap::new(),
            parked_count: 0,
            dirty: true,
        }
    }

    /// Whether live changes go to it.
    pub(super) fn takes_live(&self) -> bool {
        self.record.status == RuleStatus::Running && self.record.at_head
    }

    /// Whether it runs but has changes of the past still to handle.
    pub(super) fn is_behind(&self) -> bool {
        self.record.status == RuleStatus::Running && !self.record.at_head
    }

    /// Whether a row with this key has been read, or will be, by the backfill that is under way.
    pub(super) fn is_ahead_of_backfill(&self, key: &[u8]) -> bool {
        self.record
            .backfill
            .as_ref()
            .is_some_and(|position| key > &position[..])
    }

    pub(super) fn park(&mut self, key: Key, seq: Seq) {
        let none = Parked {
            count: 0,
            first: seq,
        };
        let parked = self.parked.entry(key).or_insert(none);
        parked.count += 1;
        parked.first = parked.first.min(seq);
        self.parked_count += 1;
    }

    /// Whether a change stands behind a parked one of its key.
    pub(super) fn waits(&self, key: &[u8], seq: Seq) -> bool {
        self.parked
            .get(key)
            .is_some_and(|parked| seq >= parked.first)
    }

    pub(super) fn unpark(&mut self, key: &[u8]) {
        if let Some(parked) = self.parked.get_mut(key) {
            parked.count -= 1;
            self.parked_count -= 1;
            if parked.count == 0 {
                self.parked.remove(key);
            }
        }
    }

    pub(super) fn fault(&mut self, message: &str) {
        self.record.faults += 1;
        self.record.last_error = Some(message.to_owned());
        self.dirty = true;
    }
}

/// Timers that are set, in the order in which they fire.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// (due, plugin, rule, key).
    by_due: BTreeMap<(i64, String, String, String), ()>,
    due: HashMap<(String, String, String), i64>,
}

impl Timers {
    /// Sets, moves or clears a timer.
    pub(super) fn apply(&mut self, write: &TimerWrite) {
        let name = (write.plugin.clone(), write.rule.clone(), write.key.clone());
        if let Some(old) = self.due.remove(&name) {
            self.by_due
                .remove(&(old, name.0.clone(), name.1.clone(), name.2.clone()));
        }
        if let Some(due) = write.due {
            self.by_due
                .insert((due, name.0.clone(), name.1.clone(), name.2.clone()), ());
            self.due.insert(name, due);
        }
    }

    /// Whether a timer is set, and for this moment.
    pub(super) fn is_set(&self, plugin: &str, rule: &str, key: &str, due: i64) -> bool {
        let name = (plugin.to_owned(), rule.to_owned(), key.to_owned());
        self.due.get(&name) == Some(&due)
    }

    /// A plugin's timers that are due at `time` or before, in the order (due, rule, key).
    pub(super) fn due(&self, plugin: &str, time: i64) -> Vec<(i64, String, String)> {
        self.by_due
            .iter()
            .take_while(|((due, ..), ())| *due <= time)
            .filter(|((_, owner, ..), ())| owner == plugin)
            .map(|((due, _, rule, key), ())| (*due, rule.clone(), key.clone()))
            .collect()
    }

    /// When the next timer is due of those whose rule `runs`, by plugin and rule.
    pub(super) fn next_due(&self, runs: impl Fn(&str, &str) -> bool) -> Option<i64> {
        self.by_due
            .keys()
            .find(|(_, plugin, rule, _)| runs(plugin, rule))
            .map(|(due, ..)| *due)
    }
}
