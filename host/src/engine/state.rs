//! What the engine remembers of each rule and each timer between batches.

use std::collections::{BTreeMap, BTreeSet, HashMap};

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

/// Timers that are set, by plugin and rule: those of a rule that doesn't run must cost the others nothing.
#[derive(Debug, Default)]
pub(super) struct Timers {
    rules: BTreeMap<(String, String), RuleTimers>,
}

/// A rule's timers.
#[derive(Debug, Default)]
struct RuleTimers {
    /// By due and key.
    order: BTreeSet<(i64, String)>,
    due: HashMap<String, i64>,
}

impl Timers {
    /// Sets, moves or clears a timer.
    pub(super) fn apply(&mut self, write: &TimerWrite) {
        let rule = (write.plugin.clone(), write.rule.clone());
        let timers = self.rules.entry(rule).or_default();
        if let Some(old) = timers.due.remove(&write.key) {
            timers.order.remove(&(old, write.key.clone()));
        }
        if let Some(due) = write.due {
            timers.order.insert((due, write.key.clone()));
            timers.due.insert(write.key.clone(), due);
        }
    }

    /// Whether a timer is set, and for this moment.
    pub(super) fn is_set(&self, plugin: &str, rule: &str, key: &str, due: i64) -> bool {
        let rule = (plugin.to_owned(), rule.to_owned());
        let timers = self.rules.get(&rule);
        timers.and_then(|timers| timers.due.get(key)) == Some(&due)
    }

    /// A plugin's timers that are due at `time` or before, in the order (due, rule, key).
    pub(super) fn due(&self, plugin: &str, time: i64) -> Vec<(i64, String, String)> {
        let mut found = Vec::new();
        for ((owner, rule), timers) in &self.rules {
            if owner == plugin {
                let due = timers.order.iter().take_while(|(due, _)| *due <= time);
                found.extend(due.map(|(due, key)| (*due, rule.clone(), key.clone())));
            }
        }
        found.sort();
        found
    }

    /// When the next timer is due of those whose rule `runs`, by plugin and rule.
    pub(super) fn next_due(&self, runs: impl Fn(&str, &str) -> bool) -> Option<i64> {
        self.rules
            .iter()
            .filter(|((plugin, rule), _)| runs(plugin, rule))
            .filter_map(|(_, timers)| timers.order.first())
            .map(|(due, _)| *due)
            .min()
    }
}
