//! A rule over a source table: the rows that it has handled, and what it has yet to.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    feed::{ORDERS_FLAW, Row, Source},
    rules::flaw,
};

use super::{Change, Model, Reading, Status, deployment::Sums, parked::Letter};

/// A rule.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(super) table: Source,
    pub(super) status: Status,
    /// The plugin's version number when it halted.
    pub(super) halted_at: u64,
    pub(super) reading: Reading,
    /// The log no longer has all that it has yet to handle.
    pub(super) lost: bool,
    /// The rows as it has handled them.
    pub(super) seen: BTreeMap<i64, Row>,
    /// What it has yet to handle.
    pub(super) queue: VecDeque<Change>,
    /// The time that it has come to.
    pub(super) watermark: i64,
    pub(super) parked: BTreeMap<i64, Vec<Letter>>,
    /// Rows as what is parked of them would leave them, where a later change was dropped.
    pub(super) left: BTreeMap<i64, Option<Row>>,
    /// Changes handled.
    pub(crate) handled: u64,
    /// What it has made that is no fold over its rows.
    pub(super) texts: BTreeMap<i64, String>,
    pub(super) sums: Sums,
}

/// A parked change: its rule, its key and which of the key's it is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) rule: String,
    pub(crate) key: i64,
    pub(crate) nth: usize,
}

impl Rule {
    pub(super) fn new(name: &'static str, table: Source, watermark: i64) -> Self {
        Self {
            name,
            table,
            status: Status::Running,
            halted_at: 0,
            reading: Reading::Done,
            lost: false,
            seen: BTreeMap::new(),
            queue: VecDeque::new(),
            watermark,
            parked: BTreeMap::new(),
            left: BTreeMap::new(),
            handled: 0,
            texts: BTreeMap::new(),
            sums: Sums::new(),
        }
    }

    pub(super) fn plugin(&self) -> &'static str {
        self.name.split('.').next().unwrap_or_default()
    }

    /// Whether it has yet to read the row with this key.
    pub(super) fn will_read(&self, key: i64) -> bool {
        match self.reading {
            Reading::Done => false,
            Reading::At(reached) => reached.is_none_or(|reached| key > reached),
        }
    }

    /// Whether it goes by the time of other tables' changes.
    fn goes_by_time(&self) -> bool {
        self.name == super::timers::WATCH
    }

    /// It will never handle this change, and is told later ones as if it had.
    pub(super) fn pass(&mut self, change: &Change) {
        match &change.after {
            Some(row) => drop(self.seen.insert(change.key, row.clone())),
            None => drop(self.seen.remove(&change.key)),
        }
    }

    /// A change as it is told it: the row before is what it last saw of it.
    pub(super) fn told(&self, change: &Change) -> Change {
        Change {
            before: self.seen.get(&change.key).cloned(),
            ..change.clone()
        }
    }
}

impl Model {
    pub(super) fn runs(&self, place: usize, rule: usize) -> bool {
        let deployment = &self.deployments[place];
        deployment.loaded && deployment.rules[rule].status == Status::Running
    }

    /// A change has come in.
    pub(super) fn offer(&mut self, place: usize, rule: usize, change: &Change) {
        let state = &self.deployments[place].rules[rule];
        let is_its = state.table == change.table && !state.will_read(change.key);
        match self.runs(place, rule) {
            true if is_its => self.take(place, rule, change, true),
            false if is_its || state.goes_by_time() => {
                self.deployments[place].rules[rule]
                    .queue
                    .push_back(change.clone());
            }
            _ => {}
        }
    }

    /// Handles what has come while the rule stood still.
    pub(super) fn catch_up(&mut self, place: usize, rule: usize) {
        if self.runs(place, rule) && self.deployments[place].rules[rule].lost {
            self.trip(place, rule);
            self.leave_log(place);
            return;
        }
        while self.runs(place, rule)
            && let Some(change) = self.deployments[place].rules[rule].queue.pop_front()
        {
            let state = &self.deployments[place].rules[rule];
            let is_its = state.table == change.table;
            if state.goes_by_time() {
                self.time_comes_to(place, rule, change.time, is_its);
            }
            if is_its {
                self.take(place, rule, &change, false);
            }
        }
    }

    fn trip(&mut self, place: usize, rule: usize) {
        let deployment = &mut self.deployments[place];
        deployment.rules[rule].status = Status::Tripped;
        deployment.rules[rule].halted_at = deployment.number;
    }

    /// A change's turn has come; `live` if it has just been said.
    pub(super) fn take(&mut self, place: usize, rule: usize, change: &Change, live: bool) {
        let state = &self.deployments[place].rules[rule];
        if state.parked.contains_key(&change.key) {
            let before = state.left.get(&change.key).unwrap_or(&change.before);
            let told = Change {
                before: before.clone(),
                ..change.clone()
            };
            if told.before.is_some() || told.after.is_some() {
                self.set_aside(place, rule, change, Letter::waiting(told));
            } else {
                self.deployments[place].rules[rule].left.remove(&change.key);
            }
            return;
        }
        let told = state.told(change);
        if told.before.is_none() && told.after.is_none() {
            // It never knew of the row that goes.
            return;
        }
        if live && change.lacks && self.is_unfit(place, rule, &told) {
            // The next will lack it too: that is no change's fault.
            self.deployments[place].rules[rule]
                .queue
                .push_front(change.clone());
            self.trip(place, rule);
            self.outcome("a rule whose column is gone");
        } else if self.stumbles(place, rule, &told) {
            self.set_aside(place, rule, change, Letter::faulted(told));
        } else {
            self.handle(place, rule, &told);
        }
    }

    fn set_aside(&mut self, place: usize, rule: usize, change: &Change, letter: Letter) {
        let full = self.deployments[place].rules[rule].letters() >= self.dead_letters_max;
        let deployment = &mut self.deployments[place];
        let state = &mut deployment.rules[rule];
        if full || state.plugin() == "ledger" {
            state.status = match state.plugin() {
                "ledger" => Status::Halted,
                _ => Status::Tripped,
            };
            state.halted_at = deployment.number;
            state.queue.push_front(change.clone());
        } else if state.plugin() != "lenient" {
            state.left.remove(&change.key);
            state.parked.entry(change.key).or_default().push(letter);
        }
    }

    /// Whether a row lacks what the present version needs.
    fn is_unfit(&self, place: usize, rule: usize, change: &Change) -> bool {
        let deployment = &self.deployments[place];
        let needs = deployment.label != 2 && deployment.rules[rule].plugin() == "shop";
        let mut rows = [&change.before, &change.after].into_iter().flatten();
        needs && rows.any(|row| row[1].is_none())
    }

    /// Whether the rule in its present version can't handle the change.
    pub(super) fn stumbles(&self, place: usize, rule: usize, change: &Change) -> bool {
        let deployment = &self.deployments[place];
        if deployment.label == 2 {
            return false;
        }
        let state = &deployment.rules[rule];
        let (column, flaws): (_, &[i64]) = match state.name {
            "shop.totals" | "lenient.sums" => {
                (ORDERS_FLAW, &[flaw::TOTALS_ERROR, flaw::TOTALS_PANIC])
            }
            "shop.flags" => (ORDERS_FLAW, &[flaw::FLAGS_REFUSED]),
            "shop.notices" => (ORDERS_FLAW, &[flaw::NOTICES_ERROR]),
            "enrich.shaky" => (ORDERS_FLAW, &[flaw::SHAKY_PANIC]),
            "stock.entries" => (1, &[flaw::ENTRIES_ERROR, flaw::ENTRIES_PANIC]),
            "ledger.counts" => (ORDERS_FLAW, &[flaw::COUNTS_ERROR, flaw::COUNTS_PANIC]),
            _ => return false,
        };
        let mut rows = [&change.before, &change.after].into_iter().flatten();
        rows.any(|row| flaws.contains(&row[column].unwrap_or_default()))
            || self.is_unfit(place, rule, change)
    }

    pub(super) fn handle(&mut self, place: usize, rule: usize, change: &Change) {
        let is_shadow = self.deployments[place].is_shadow;
        let state = &mut self.deployments[place].rules[rule];
        state.handled += 1;
        state.pass(change);
        let (key, name) = (change.key, state.name);
        let amount = |row: &Row| row[1].unwrap_or_default();
        let mut text = |text: &String| match &change.after {
            Some(_) => drop(state.texts.insert(key, text.clone())),
            None => drop(state.texts.remove(&key)),
        };
        match name {
            "enrich.names" => text(&change.name),
            "reader.standings" => text(&change.standing),
            "shop.notices" if !is_shadow => match &change.after {
                Some(row) if amount(row) >= 60 => {
                    self.notify(name, format!("large [{key},{}]", amount(row)));
                }
                Some(_) => {}
                None => self.notify(name, format!("gone {key}")),
            },
            "ledger.counts" => {
                let count = state.sums.entry(key.rem_euclid(4)).or_default();
                count.0 += 1;
                count.1 += change.after.as_ref().map_or(0, amount);
                count.1 -= change.before.as_ref().map_or(0, amount);
            }
            "late.sums" | "tardy.sums" => {
                for (row, sign) in [(&change.before, -1), (&change.after, 1)] {
                    let Some(row) = row else { continue };
                    let slot = row[0].unwrap_or_default().rem_euclid(3);
                    let sum = state.sums.entry(slot).or_default();
                    sum.0 += sign;
                    sum.1 += amount(row) * sign;
                    if sum.0 == 0 {
                        state.sums.remove(&slot);
                    }
                }
            }
            super::timers::WATCH => self.watch(place, change),
            _ => {}
        }
    }

    /// What `enrich.names` finds of a user and its neighbours.
    pub(super) fn name(&self, user: i64) -> String {
        let tier = |id: i64| self.sources.get(&Source::Users)?.get(&id)?[0];
        let near = (user - 1..user + 2).filter_map(|id| Some(format!("{id}:{}", tier(id)?)));
        let near: Vec<String> = near.collect();
        let tier = tier(user).map_or_else(String::new, |tier| format!(" tier={tier}"));
        format!("{tier} near={}", near.join(","))
    }

    /// What `reader.standings` finds of a user.
    pub(super) fn standing(&self, user: i64) -> String {
        let rows = self.seen("shop.totals").map(|(_, row)| row);
        let amounts: Vec<i64> = rows
            .filter(|row| row[0] == Some(user))
            .map(|row| row[1].unwrap_or_default())
            .collect();
        match amounts.len() {
            0 => String::new(),
            orders => format!(" orders={orders} amount={}", amounts.iter().sum::<i64>()),
        }
    }

    /// The rows that a rule has handled.
    pub(super) fn seen(&self, name: &str) -> impl Iterator<Item = (&i64, &Row)> {
        let rule = self.rule(name);
        let rule = rule.map(|(place, rule)| &self.deployments[place].rules[rule]);
        rule.into_iter().flat_map(|rule| &rule.seen)
    }
}
