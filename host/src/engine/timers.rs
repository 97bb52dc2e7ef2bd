//! The timers that are set, by rule and by when they are due.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_set},
    iter::Peekable,
};

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

    /// A plugin's timers for these rules (number and name), in the order (due, rule, key): none is looked at before it
    /// is asked for.
    pub(super) fn due<'n>(
        &self,
        plugin: &str,
        rules: impl Iterator<Item = (u16, &'n str)>,
    ) -> Due<'_> {
        let mut plugin_rule = (plugin.to_owned(), String::new());
        let mut of_rules = Vec::new();
        for (number, name) in rules {
            name.clone_into(&mut plugin_rule.1);
            if let Some(timers) = self.rules.get(&plugin_rule) {
                of_rules.push((number, timers.order.iter().peekable()));
            }
        }
        Due { rules: of_rules }
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

/// Several rules' timers as one run, in the order in which they come due.
pub(super) struct Due<'a> {
    /// By rule number.
    rules: Vec<(u16, OneRules<'a>)>,
}

/// One rule's timers, by due and key.
type OneRules<'a> = Peekable<btree_set::Iter<'a, (i64, String)>>;

impl<'a> Due<'a> {
    /// The next one: when it is due, its rule's number and its key.
    pub(super) fn first(&mut self) -> Option<(i64, u16, &'a str)> {
        self.earliest().map(|(first, _)| first)
    }

    /// The next one, and the place of its rule.
    fn earliest(&mut self) -> Option<((i64, u16, &'a str), usize)> {
        let rules = self.rules.iter_mut().enumerate();
        let firsts = rules.filter_map(|(place, (rule, timers))| {
            let (due, key) = timers.peek()?;
            Some(((*due, *rule, key.as_str()), place))
        });
        firsts.min()
    }
}

impl<'a> Iterator for Due<'a> {
    type Item = (i64, u16, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (first, place) = self.earliest()?;
        self.rules[place].1.next();
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timers(rule: &str, due: impl Iterator<Item = i64>, all: &mut Timers) {
        for (number, due) in due.enumerate() {
            all.apply(&TimerWrite {
                plugin: "carts".into(),
                rule: rule.into(),
                key: format!("{number:05}"),
                due: Some(due),
            });
        }
    }

    /// Each part of a batch takes a few of those that are due: looking at all of them each time took longer than anybody waits.
    #[test]
    fn taking_a_few_looks_at_no_others() {
        let mut all = Timers::default();
        timers("late", (0..50_000).map(|due| due * 2), &mut all);
        timers("early", (0..50_000).map(|due| due * 2 + 1), &mut all);
        timers("other", 0..100, &mut all);
        let mut due = all.due(
            "carts",
            [(3, "late"), (5, "early"), (9, "none")].into_iter(),
        );
        let taken: Vec<(i64, u16)> = due
            .by_ref()
            .take(10)
            .map(|(due, rule, _)| (due, rule))
            .collect();
        let expected = (0..10).map(|due| (due, if due % 2 == 0 { 3 } else { 5 }));
        assert_eq!(taken, expected.collect::<Vec<_>>());
        let left: usize = due.rules.iter().map(|(_, timers)| timers.len()).sum();
        assert_eq!(left, 100_000 - 10);
    }

    #[test]
    fn those_due_at_once_come_by_rule_and_key() {
        let mut all = Timers::default();
        timers("a", [7, 7].into_iter(), &mut all);
        timers("b", [7, 3].into_iter(), &mut all);
        // The rules' numbers count, as they do where a guest fires them.
        let due = all.due("carts", [(2, "a"), (1, "b")].into_iter());
        let expected = [
            (3, 1, "00001"),
            (7, 1, "00000"),
            (7, 2, "00000"),
            (7, 2, "00001"),
        ];
        assert_eq!(due.collect::<Vec<_>>(), expected);
    }
}
