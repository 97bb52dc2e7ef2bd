//! Parked changes: run again, or given up.

use crate::feed::Row;

use super::{Change, Model, Place, Rule, tables};

/// A parked change.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    change: Change,
    /// It only stands behind another one of its key.
    waits: bool,
}

impl Letter {
    pub(super) fn waiting(change: Change) -> Self {
        Self {
            change,
            waits: true,
        }
    }

    pub(super) fn faulted(change: Change) -> Self {
        Self {
            change,
            waits: false,
        }
    }
}

impl Rule {
    pub(super) fn letters(&self) -> usize {
        self.parked.values().map(Vec::len).sum()
    }

    /// What is parked, in order by key, a line each.
    pub(crate) fn parked_lines(&self) -> Vec<String> {
        let letters = self.parked.values().flatten();
        letters
            .map(|Letter { change, .. }| {
                let row = |row: &Option<Row>| {
                    let row = row.as_ref();
                    row.map_or_else(String::new, |row| {
                        tables::line(change.table, change.key, row)
                    })
                };
                let (before, after) = (row(&change.before), row(&change.after));
                format!("{before} -> {after} at {}", change.time)
            })
            .collect()
    }
}

impl Model {
    pub(super) fn retry(&mut self, name: Option<&str>) {
        for place in 0..self.deployments.len() {
            for rule in 0..self.deployments[place].rules.len() {
                let state = &self.deployments[place].rules[rule];
                let full_name = self.deployments[place].full_name(state.name);
                if name.is_some_and(|name| name != full_name) {
                    continue;
                }
                let keys: Vec<i64> = state.parked.keys().copied().collect();
                for key in keys {
                    self.retry_key(place, rule, key, usize::MAX);
                }
            }
        }
    }

    pub(super) fn retry_one(&mut self, letter: &Place) {
        if let Some((place, rule)) = self.rule_with_letters(&letter.rule) {
            self.retry_key(place, rule, letter.key, letter.nth + 1);
        }
    }

    /// Runs a key's first parked changes, until one stumbles again.
    fn retry_key(&mut self, place: usize, rule: usize, key: i64, count: usize) {
        let state = &mut self.deployments[place].rules[rule];
        let mut letters = state.parked.remove(&key).unwrap_or_default();
        let mut gone = 0;
        for letter in letters.iter_mut().take(count) {
            let state = &self.deployments[place].rules[rule];
            let told = state.told(&letter.change);
            if self.stumbles(place, rule, &told) {
                *letter = Letter::faulted(told);
                break;
            }
            self.disordered.insert(state.name);
            if told.before.is_some() || told.after.is_some() {
                self.handle(place, rule, &told);
            } else {
                // Of a row that it never knew of nothing can go; it is counted all the same.
                self.deployments[place].rules[rule].handled += 1;
            }
            gone += 1;
        }
        letters.drain(..gone);
        let state = &mut self.deployments[place].rules[rule];
        if letters.is_empty() {
            state.left.remove(&key);
        } else {
            state.parked.insert(key, letters);
        }
    }

    pub(super) fn give_up(&mut self, name: Option<&str>) {
        for deployment in &mut self.deployments {
            for rule in 0..deployment.rules.len() {
                let full_name = deployment.full_name(deployment.rules[rule].name);
                if name.is_none_or(|name| name == full_name) {
                    deployment.rules[rule].parked.clear();
                    deployment.rules[rule].left.clear();
                }
            }
        }
    }

    /// The change behind it is told from the row before it.
    pub(super) fn give_up_one(&mut self, letter: &Place) {
        let Some((place, rule)) = self.rule_with_letters(&letter.rule) else {
            return;
        };
        let deployment = &mut self.deployments[place];
        let loaded = deployment.loaded;
        let Rule { parked, left, .. } = &mut deployment.rules[rule];
        let Some(letters) = parked.get_mut(&letter.key) else {
            return self.complain(format!("{letter:?} isn't parked"));
        };
        let gone = letters.remove(letter.nth);
        let goes_on = match letters.get_mut(letter.nth) {
            Some(next) => {
                next.change.before = gone.change.before;
                // What only waited for it has nothing to wait for.
                letter.nth == 0 && next.waits && loaded
            }
            None => {
                // What comes next has to know how the row stood before it.
                left.insert(letter.key, gone.change.before);
                false
            }
        };
        if letters.is_empty() {
            parked.remove(&letter.key);
            left.remove(&letter.key);
        }
        if goes_on {
            self.retry_key(place, rule, letter.key, usize::MAX);
        }
    }

    fn rule_with_letters(&mut self, name: &str) -> Option<(usize, usize)> {
        let deployments = self.deployments.iter().enumerate();
        let found = deployments
            .flat_map(|(place, deployment)| {
                let rules = deployment.rules.iter().enumerate();
                rules.map(move |(rule, state)| (place, rule, deployment.full_name(state.name)))
            })
            .find(|(.., full_name)| full_name == name);
        if found.is_none() {
            self.complain(format!("changes are parked for {name}, which nobody knows"));
        }
        found.map(|(place, rule, _)| (place, rule))
    }
}
