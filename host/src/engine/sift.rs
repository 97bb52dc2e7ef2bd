//! What becomes of a call's items right before it: those of rules that have stopped go, those behind a parked change of their key are parked,
//! and a rule that has missed changes of a row is told what it needs to know.
//!
//! Items are chosen for a batch, and a batch may take many calls: what a call leaves (a halt, a parked key, a gap) shows here in the
//! next one's items.

use std::collections::HashSet;

use crate::{change::Key, store::RuleStatus};

use super::{
    Engine,
    items::{Body, ChangeRef, Item, bits},
    parts::what_remains,
    run::Output,
};

impl Engine {
    /// Takes away from items the rules that have stopped since, parks what stands behind a parked key, and tells a rule
    /// that has missed changes of a row what it needs to know.
    pub(super) fn sift(
        &mut self,
        plugin: usize,
        items: &mut Vec<Item<'_>>,
        output: &mut Output<'_>,
    ) {
        if let Some(failed) = &output.retry {
            items.retain(|item| {
                let failed = item.line().and_then(|line| failed.get(&line));
                failed.is_none_or(|(order, _)| item.order() < *order)
            });
            return;
        }
        let (mut stopped, mut parking, mut gapped) = (0u64, 0u64, 0u64);
        let rules = 0..self.plugins[plugin].rules.len();
        let places: Vec<usize> = rules.map(|rule| self.state_of(plugin, rule)).collect();
        for (rule, &place) in places.iter().enumerate() {
            let state = &self.states[place];
            if state.record.status != RuleStatus::Running {
                stopped |= 1 << rule;
            } else if !state.parked.is_empty() {
                parking |= 1 << rule;
            }
            if !state.gaps.is_empty() {
                gapped |= 1 << rule;
            }
        }
        if stopped | parking | gapped == 0 {
            return;
        }
        let concerns = |item: &Item<'_>| {
            item.rules & stopped != 0
                || self
                    .key_that_matters(item, &places, parking | gapped)
                    .is_some()
        };
        let Some(first) = items.iter().position(concerns) else {
            return;
        };
        // Of the changes of a row only the first tells of what was missed.
        let mut told: HashSet<(usize, Key)> = HashSet::new();
        for mut item in items.split_off(first) {
            let told_of = items.len();
            for rule in bits(item.rules & stopped) {
                // It may still handle what stands before the place where it stopped.
                if !self.states[places[rule]].has_passed(item.order()) {
                    item.rules &= !(1 << rule);
                }
            }
            if let Some(key) = self.key_that_matters(&item, &places, parking | gapped) {
                for rule in bits(item.rules & parking) {
                    let state = places[rule];
                    if self.states[state].row_waits(&key, item.order()) {
                        item.rules &= !(1 << rule);
                        match self.told_behind_gap(state, &item, &key, rule) {
                            Some(told) => self.park_behind(plugin, rule, &told, output.write_set),
                            // The row came and went without the rule.
                            None => self.close_gap(state, &key, output.write_set),
                        }
                        if self.states[state].record.status != RuleStatus::Running {
                            // No room to park it: the rule has stopped before it.
                            stopped |= 1 << rule;
                            parking &= !(1 << rule);
                        }
                    }
                }
                for rule in bits(item.rules & gapped) {
                    let state = places[rule];
                    if !self.states[state].is_behind_gap(&key, item.order()) {
                        continue;
                    }
                    let Some(seen) = self.states[state].gaps.get(&key).cloned() else {
                        continue;
                    };
                    if !told.insert((rule, key.clone())) {
                        continue;
                    }
                    // The rules of an item are called in their order.
                    let (earlier, later) = item.rules_around(1 << rule);
                    if earlier != 0 {
                        items.push(item.for_rules(earlier));
                    }
                    match item.told(1 << rule, seen) {
                        Some(told) => items.push(told),
                        None => self.close_gap(state, &key, output.write_set),
                    }
                    item.rules = later;
                }
            }
            if item.rules != 0 || matches!(item.body, Body::Tick) {
                items.push(item);
            } else if items.len() == told_of {
                items.extend(what_remains(&item, output.timers));
            }
        }
    }

    /// An item that is to stand behind parked ones of its key, as the rule is told it once they have gone through: the last of them may have
    /// been dropped. `None` if nothing is left to tell.
    fn told_behind_gap<'a>(
        &self,
        state: usize,
        item: &Item<'a>,
        key: &Key,
        rule: usize,
    ) -> Option<Item<'a>> {
        let state = &self.states[state];
        match state.gaps.get(key) {
            Some(seen) if state.is_behind_gap(key, item.order()) => {
                item.told(1 << rule, seen.clone())
            }
            _ => Some(item.clone()),
        }
    }

    /// Whether a rule of the item has come to miss a change of its row since the item was made. What is run again after it was parked
    /// comes before whatever the rule has missed since.
    pub(super) fn must_be_told_otherwise(
        &self,
        plugin: usize,
        item: &Item<'_>,
        output: &Output<'_>,
    ) -> bool {
        if output.retry.is_some() {
            return false;
        }
        let Body::Change {
            change: ChangeRef::Made(change),
            ..
        } = &item.body
        else {
            return false;
        };
        bits(item.rules).any(|rule| {
            let state = &self.states[self.state_of(plugin, rule)];
            state.is_behind_gap(&change.key, item.order())
        })
    }

    /// The item's key, if a change of it is parked for one of these of its rules, or was missed by one. `places` are the rules'
    /// states.
    #[inline]
    fn key_that_matters(&self, item: &Item<'_>, places: &[usize], rules: u64) -> Option<Key> {
        if item.rules & rules == 0 {
            return None;
        }
        let key = item.key()?;
        let matters = bits(item.rules & rules).any(|rule| {
            let state = &self.states[places[rule]];
            state.row_waits(key, item.order()) || state.gaps.contains_key(key)
        });
        matters.then(|| key.clone())
    }
}
