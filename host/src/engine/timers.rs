//! The timers that are set, by rule and by when they are due.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::store::TimerWrite;

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

    /// A plugin's timers.
    pub(super) fn of(&self, plugin: &str) -> Vec<TimerWrite> {
        let mut found = Vec::new();
        for ((owner, rule), timers) in &self.rules {
            if owner == plugin {
                let timers = timers.order.iter();
                found.extend(timers.map(|(due, key)| TimerWrite {
                    plugin: owner.clone(),
                    rule: rule.clone(),
                    key: key.clone(),
                    due: Some(*due),
                }));
            }
        }
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
