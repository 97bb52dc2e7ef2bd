//! The plain recomputation: what the tables must hold, from the list of what was accepted, one change after the other.
//!
//! It shares no code with the engine and none of its ideas: no batches, no overlay, no write sets, no log. A rule is the rows
//! that it has handled and the changes that it has yet to; most derived tables are a fold over those rows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rulemill::change::RawOp;

use crate::{
    feed::{Row, Said, Source},
    rules::{self, flaw},
};

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
    /// Parked changes were run again: of one rule or all.
    Retry(Option<&'static str>),
    /// Parked changes were given up.
    Drop(Option<&'static str>),
    /// The clock was looked at.
    Tick {
        clock: i64,
    },
}

/// What happened to a row.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) table: Source,
    pub(crate) key: i64,
    pub(crate) before: Option<Row>,
    pub(crate) after: Option<Row>,
    pub(crate) time: i64,
    /// What `enrich.names` finds at this moment, and what `reader.standings` does.
    name: String,
    standing: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Running,
    Paused,
    Halted,
    Tripped,
    Unloaded,
}

/// A rule over a source table.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    plugin: &'static str,
    table: Source,
    pub(crate) status: Status,
    /// The plugin's version number when it halted.
    halted_at: u64,
    /// The rows as it has handled them.
    seen: BTreeMap<i64, Row>,
    /// What it has yet to handle.
    queue: VecDeque<Change>,
    pub(crate) parked: BTreeMap<i64, Vec<Change>>,
    /// Whether parked changes have gone through: notifications of several keys then come in another order.
    pub(crate) has_retried: bool,
    /// Changes handled.
    pub(crate) handled: u64,
}

/// A plugin in the store.
#[derive(Debug, Clone, Default)]
struct Plugin {
    loaded: bool,
    label: u32,
    number: u64,
}

/// Where everything stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    dead_letters_max: usize,
    sources: BTreeMap<Source, BTreeMap<i64, Row>>,
    plugins: BTreeMap<&'static str, Plugin>,
    pub(crate) rules: Vec<Rule>,
    requests: BTreeSet<u64>,
    watermark: i64,
    watermark_clock: i64,
    timers: BTreeMap<String, i64>,
    reminded: BTreeMap<i64, (i64, i64)>,
    names: BTreeMap<i64, String>,
    standings: BTreeMap<i64, String>,
    counts: BTreeMap<i64, (i64, i64)>,
    /// `shop.buckets`' input while it stands still.
    frozen_totals: Option<BTreeMap<i64, (i64, i64)>>,
    buckets_status: Option<Status>,
    /// By rule.
    pub(crate) notifications: BTreeMap<&'static str, Vec<String>>,
    /// Every change of `orders`, for rules that begin with the log.
    log: Vec<Change>,
    /// Changes of all source tables.
    pub(crate) changes: usize,
}

pub(crate) const BUCKETS: &str = "shop.buckets";

/// Rules over source tables: name, plugin, table.
const RULES: [(&str, &str, Source); 11] = [
    ("shop.totals", "shop", Source::Orders),
    ("shop.flags", "shop", Source::Orders),
    ("shop.notices", "shop", Source::Orders),
    ("enrich.names", "enrich", Source::Orders),
    ("enrich.shaky", "enrich", Source::Orders),
    ("stock.entries", "stock", Source::Items),
    ("ledger.counts", "ledger", Source::Orders),
    ("lenient.sums", "lenient", Source::Orders),
    ("reader.standings", "reader", Source::Orders),
    ("late.sums", "late", Source::Orders),
    ("tardy.sums", "tardy", Source::Orders),
];

impl Model {
    pub(crate) fn new(dead_letters_max: usize) -> Self {
        Self {
            dead_letters_max,
            ..Self::default()
        }
    }

    /// The plugin files as of the last event.
    pub(crate) fn directory(&self) -> BTreeMap<&'static str, u32> {
        let loaded = self.plugins.iter().filter(|(_, plugin)| plugin.loaded);
        loaded.map(|(&name, plugin)| (name, plugin.label)).collect()
    }

    /// Takes the next event.
    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Start { directory, clock } => {
                if self.watermark_clock == 0 {
                    self.watermark_clock = *clock;
                }
                let gone: Vec<_> = self.plugins.keys().copied().collect();
                for name in gone {
                    if !directory.contains_key(name) {
                        self.remove(name);
                    }
                }
                for (name, label) in directory {
                    self.load(name, *label);
                }
            }
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
            Event::Pause(rule) => self.stop(rule, Status::Paused),
            Event::Resume(rule) => self.resume(rule),
            Event::Retry(rule) => self.retry(*rule),
            Event::Drop(rule) => self.give_up(*rule),
            Event::Tick { clock } => self.tick(*clock),
        }
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
                changes.push(change(said.key, before, Some(row)));
                changes
            }
        }
    }

    fn change(&mut self, mut change: Change) {
        self.changes += 1;
        if let (Source::Orders, Some(row)) = (change.table, &change.after) {
            change.name = self.name(row[0].unwrap_or_default());
        }
        let watches = change.table == Source::Carts && self.is_loaded("carts");
        if change.time > self.watermark || watches {
            self.watermark = self.watermark.max(change.time);
            self.fire(self.watermark);
        }
        if watches {
            let key = change.key.to_string();
            match &change.after {
                Some(row) => {
                    let wait = row[0].unwrap_or_default();
                    self.timers.insert(key, change.time + wait);
                }
                None => drop(self.timers.remove(&key)),
            }
        }
        // What looks up what others derive comes after them.
        let mut rules: Vec<usize> = (0..self.rules.len()).collect();
        rules.sort_by_key(|&rule| self.rules[rule].plugin == "reader");
        for rule in rules {
            if self.rules[rule].plugin == "reader"
                && let Some(row) = &change.after
            {
                change.standing = self.standing(row[0].unwrap_or_default());
            }
            if self.rules[rule].table == change.table {
                self.offer(rule, change.clone());
            }
        }
        if change.table == Source::Orders {
            self.log.push(change);
        }
    }

    /// Fires what is due, and what that sets.
    fn fire(&mut self, time: i64) {
        if !self.is_loaded("carts") {
            return;
        }
        while let Some((due, key)) = self
            .timers
            .iter()
            .map(|(key, due)| (*due, key.clone()))
            .min()
            .filter(|(due, _)| *due <= time)
        {
            self.timers.remove(&key);
            let id = key.parse().expect("a cart's id");
            let reminded = self.reminded.entry(id).or_default();
            *reminded = (reminded.0 + 1, due);
            if reminded.0 % 2 == 1 {
                self.timers.insert(key.clone(), due + rules::AGAIN);
            }
            self.notify("carts.remind", format!("reminded [\"{key}\",{due}]"));
        }
    }

    fn tick(&mut self, clock: i64) {
        let now = self.watermark + (clock - self.watermark_clock).max(0);
        let due = self.timers.values().min().is_some_and(|due| *due <= now);
        if due && self.is_loaded("carts") {
            self.fire(now);
            self.watermark = now;
            self.watermark_clock = clock;
        }
    }

    fn notify(&mut self, rule: &'static str, what: String) {
        self.notifications.entry(rule).or_default().push(what);
    }

    fn is_loaded(&self, plugin: &str) -> bool {
        self.plugins.get(plugin).is_some_and(|plugin| plugin.loaded)
    }

    fn load(&mut self, name: &'static str, label: u32) {
        let plugin = self.plugins.entry(name).or_default();
        if plugin.label != label {
            plugin.label = label;
            plugin.number += 1;
        }
        plugin.loaded = true;
        let number = plugin.number;
        if name == "shop" && self.buckets_status != Some(Status::Paused) {
            self.frozen_totals = None;
            self.buckets_status = Some(Status::Running);
        }
        let known = self.rules.iter().any(|rule| rule.plugin == name);
        if !known {
            for (rule, plugin, table) in RULES.iter().filter(|(_, plugin, _)| *plugin == name) {
                self.begin(rule, plugin, *table);
            }
        }
        for rule in 0..self.rules.len() {
            let state = &mut self.rules[rule];
            if state.plugin == name {
                match state.status {
                    Status::Unloaded => state.status = Status::Running,
                    Status::Halted | Status::Tripped if state.halted_at != number => {
                        state.status = Status::Running;
                    }
                    _ => {}
                }
                self.catch_up(rule);
            }
        }
    }

    fn begin(&mut self, name: &'static str, plugin: &'static str, table: Source) {
        let mut rule = Rule {
            name,
            plugin,
            table,
            status: Status::Running,
            halted_at: 0,
            seen: BTreeMap::new(),
            queue: VecDeque::new(),
            parked: BTreeMap::new(),
            has_retried: false,
            handled: 0,
        };
        match plugin {
            "tardy" => rule.queue.extend(self.log.iter().cloned()),
            "late" => {
                let rows = self.sources.get(&table).into_iter().flatten();
                rule.queue.extend(rows.map(|(&key, row)| Change {
                    table,
                    key,
                    before: None,
                    after: Some(row.clone()),
                    time: 0,
                    name: String::new(),
                    standing: String::new(),
                }));
            }
            _ => {}
        }
        self.rules.push(rule);
    }

    fn remove(&mut self, name: &'static str) {
        let Some(plugin) = self.plugins.get_mut(name) else {
            return;
        };
        if !std::mem::take(&mut plugin.loaded) {
            return;
        }
        if name == "shop" {
            self.stop(BUCKETS, Status::Unloaded);
        }
        for rule in &mut self.rules {
            if rule.plugin == name && rule.status == Status::Running {
                rule.status = Status::Unloaded;
            }
        }
    }

    fn stop(&mut self, name: &str, status: Status) {
        if name == BUCKETS {
            if self.buckets_status == Some(Status::Running) {
                self.buckets_status = Some(status);
                let totals = self.totals();
                self.frozen_totals.get_or_insert(totals);
            }
            return;
        }
        let mut rules = self.rules.iter_mut();
        if let Some(rule) = rules.find(|rule| rule.name == name && rule.status == Status::Running) {
            rule.status = status;
        }
    }

    fn resume(&mut self, name: &str) {
        if name == BUCKETS {
            if self.buckets_status == Some(Status::Paused) {
                self.buckets_status = Some(Status::Running);
                if self.is_loaded("shop") {
                    self.frozen_totals = None;
                }
            }
            return;
        }
        let place = self.rules.iter().position(|rule| rule.name == name);
        if let Some(place) = place
            && self.rules[place].status != Status::Unloaded
        {
            self.rules[place].status = Status::Running;
            self.catch_up(place);
        }
    }

    fn runs(&self, rule: usize) -> bool {
        self.rules[rule].status == Status::Running && self.is_loaded(self.rules[rule].plugin)
    }

    fn offer(&mut self, rule: usize, change: Change) {
        if self.runs(rule) {
            self.take(rule, change);
        } else {
            self.rules[rule].queue.push_back(change);
        }
    }

    fn catch_up(&mut self, rule: usize) {
        while self.runs(rule)
            && let Some(change) = self.rules[rule].queue.pop_front()
        {
            self.take(rule, change);
        }
    }

    fn take(&mut self, rule: usize, change: Change) {
        let waits = self.rules[rule].parked.contains_key(&change.key);
        let told = match waits {
            true => change.clone(),
            false => self.as_told(rule, change.clone()),
        };
        if !waits && told.before.is_none() && told.after.is_none() {
            // It never knew of the row that goes.
            return;
        }
        if !waits && !self.stumbles(rule, &told) {
            self.handle(rule, &told);
            return;
        }
        let number = self.plugins[self.rules[rule].plugin].number;
        let full = self.letters(rule) >= self.dead_letters_max;
        let state = &mut self.rules[rule];
        if full || state.plugin == "ledger" {
            state.status = match state.plugin {
                "ledger" => Status::Halted,
                _ => Status::Tripped,
            };
            state.halted_at = number;
            state.queue.push_front(change);
        } else if state.plugin != "lenient" {
            state.parked.entry(change.key).or_default().push(told);
        }
    }

    /// A change as the rule is told it: the row before is what it last saw of it.
    fn as_told(&self, rule: usize, change: Change) -> Change {
        Change {
            before: self.rules[rule].seen.get(&change.key).cloned(),
            ..change
        }
    }

    pub(crate) fn letters(&self, rule: usize) -> usize {
        self.rules[rule].parked.values().map(Vec::len).sum()
    }

    /// Whether the rule in its present version can't handle the change.
    fn stumbles(&self, rule: usize, change: &Change) -> bool {
        let state = &self.rules[rule];
        if self.plugins[state.plugin].label == 2 {
            return false;
        }
        let rows = || [&change.before, &change.after].into_iter().flatten();
        let flaws: &[i64] = match state.name {
            "shop.totals" | "lenient.sums" => &[flaw::TOTALS_ERROR, flaw::TOTALS_PANIC],
            "shop.flags" => &[flaw::FLAGS_REFUSED],
            "shop.notices" => &[flaw::NOTICES_ERROR],
            "enrich.shaky" => &[flaw::SHAKY_PANIC],
            "stock.entries" => &[flaw::ENTRIES_ERROR, flaw::ENTRIES_PANIC],
            "ledger.counts" => &[flaw::COUNTS_ERROR, flaw::COUNTS_PANIC],
            _ => &[],
        };
        rows().any(|row| {
            let flaw = row.last().copied().flatten().unwrap_or_default();
            let unfit = state.plugin == "shop" && row[1].is_none();
            unfit || flaws.contains(&flaw)
        })
    }

    fn handle(&mut self, rule: usize, change: &Change) {
        let state = &mut self.rules[rule];
        state.handled += 1;
        match &change.after {
            Some(row) => drop(state.seen.insert(change.key, row.clone())),
            None => drop(state.seen.remove(&change.key)),
        }
        let amount = |row: &Row| row[1].unwrap_or_default();
        match state.name {
            "shop.notices" => {
                let key = change.key;
                match &change.after {
                    Some(row) if amount(row) >= 60 => {
                        self.notify("shop.notices", format!("large [{key},{}]", amount(row)));
                    }
                    Some(_) => {}
                    None => self.notify("shop.notices", format!("gone {key}")),
                }
            }
            "enrich.names" => match &change.after {
                Some(_) => drop(self.names.insert(change.key, change.name.clone())),
                None => drop(self.names.remove(&change.key)),
            },
            "reader.standings" => match &change.after {
                Some(_) => drop(self.standings.insert(change.key, change.standing.clone())),
                None => drop(self.standings.remove(&change.key)),
            },
            "ledger.counts" => {
                let count = self.counts.entry(change.key.rem_euclid(4)).or_default();
                count.0 += 1;
                count.1 += change.after.as_ref().map_or(0, amount);
                count.1 -= change.before.as_ref().map_or(0, amount);
            }
            _ => {}
        }
    }

    /// What `enrich.names` finds of a user and its neighbours.
    fn name(&self, user: i64) -> String {
        let tier = |id: i64| self.sources.get(&Source::Users)?.get(&id)?[0];
        let near = (user - 1..user + 2).filter_map(|id| Some(format!("{id}:{}", tier(id)?)));
        let near: Vec<String> = near.collect();
        let tier = tier(user).map_or_else(String::new, |tier| format!(" tier={tier}"));
        format!("{tier} near={}", near.join(","))
    }

    /// What `reader.standings` finds of a user.
    fn standing(&self, user: i64) -> String {
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

    fn retry(&mut self, name: Option<&str>) {
        for rule in 0..self.rules.len() {
            if name.is_some_and(|name| name != self.rules[rule].name) {
                continue;
            }
            for (key, letters) in std::mem::take(&mut self.rules[rule].parked) {
                let mut letters = letters.into_iter();
                let stays = letters.by_ref().find_map(|change| {
                    let change = self.as_told(rule, change);
                    if self.stumbles(rule, &change) {
                        return Some(change);
                    }
                    self.handle(rule, &change);
                    self.rules[rule].has_retried = true;
                    None
                });
                if let Some(stays) = stays {
                    let letters = std::iter::once(stays).chain(letters).collect();
                    self.rules[rule].parked.insert(key, letters);
                }
            }
        }
    }

    fn give_up(&mut self, name: Option<&str>) {
        for rule in &mut self.rules {
            if name.is_none_or(|name| name == rule.name) {
                rule.parked.clear();
            }
        }
    }

    fn seen(&self, name: &str) -> impl Iterator<Item = (&i64, &Row)> {
        let rule = self.rules.iter().find(|rule| rule.name == name);
        rule.into_iter().flat_map(|rule| &rule.seen)
    }

    /// Orders and amount by `slot` of a row.
    fn sums(&self, rule: &str, slot: impl Fn(i64) -> i64) -> BTreeMap<i64, (i64, i64)> {
        let mut sums: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
        for (_, row) in self.seen(rule) {
            let sum = sums.entry(slot(row[0].unwrap_or_default())).or_default();
            *sum = (sum.0 + 1, sum.1 + row[1].unwrap_or_default());
        }
        sums
    }

    fn totals(&self) -> BTreeMap<i64, (i64, i64)> {
        self.sums("shop.totals", |user| user)
    }

    /// A table's rows, a line each, in key order.
    pub(crate) fn rows(&self, table: &str) -> Vec<String> {
        let sums = |sums: BTreeMap<i64, (i64, i64)>| {
            let line =
                |(slot, (orders, amount))| format!("slot={slot} orders={orders} amount={amount}");
            sums.into_iter().map(line).collect()
        };
        match table {
            "totals" => (self.totals().into_iter())
                .map(|(user, (orders, amount))| {
                    format!("user={user} orders={orders} amount={amount}")
                })
                .collect(),
            "buckets" => {
                let mut buckets: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
                let totals = self.frozen_totals.clone().unwrap_or_else(|| self.totals());
                for (_, amount) in totals.into_values() {
                    let bucket = buckets.entry(amount.div_euclid(64)).or_default();
                    *bucket = (bucket.0 + 1, bucket.1 + amount);
                }
                let line = |(bucket, (users, amount))| {
                    format!("bucket={bucket} users={users} amount={amount}")
                };
                buckets.into_iter().map(line).collect()
            }
            "flags" => self
                .seen("shop.flags")
                .map(|(id, row)| {
                    let number = |column: usize| row[column].unwrap_or_default();
                    format!("id={id} text={}/{}", number(0), number(1))
                })
                .collect(),
            "refused" => Vec::new(),
            "shaky" => self
                .seen("enrich.shaky")
                .map(|(id, row)| format!("id={id} user={}", row[0].unwrap_or_default()))
                .collect(),
            "names" => (self.names.iter())
                .map(|(id, name)| format!("id={id}{name}"))
                .collect(),
            "standings" => (self.standings.iter())
                .map(|(id, standing)| format!("id={id}{standing}"))
                .collect(),
            "lenient_sums" => sums(self.sums("lenient.sums", |user| user.rem_euclid(3))),
            "entries" => self
                .seen("stock.entries")
                .map(|(id, row)| format!("id={id} level={}", row[0].unwrap_or_default()))
                .collect(),
            "levels" => {
                let mut levels: BTreeMap<i64, Vec<String>> = BTreeMap::new();
                for (id, row) in self.seen("stock.entries") {
                    let level = levels.entry(row[0].unwrap_or_default()).or_default();
                    level.push(id.to_string());
                }
                let line = |(level, ids): (i64, Vec<String>)| {
                    format!("level={level} ids={}", ids.join(","))
                };
                levels.into_iter().map(line).collect()
            }
            "counts" => (self.counts.iter())
                .map(|(slot, (handled, amount))| {
                    format!("slot={slot} handled={handled} amount={amount}")
                })
                .collect(),
            "reminded" => (self.reminded.iter())
                .map(|(id, (times, last))| format!("id={id} times={times} last={last}"))
                .collect(),
            "late_sums" => sums(self.sums("late.sums", |user| user.rem_euclid(3))),
            "tardy_sums" => sums(self.sums("tardy.sums", |user| user.rem_euclid(3))),
            source => {
                let mut sources = Source::ALL.into_iter();
                let source = sources.find(|known| known.name() == source);
                let source = source.expect("a table of this world");
                let rows = self.sources.get(&source).into_iter().flatten();
                rows.map(|(key, row)| line(source, *key, row)).collect()
            }
        }
    }

    /// The timers that are set.
    pub(crate) fn timers(&self) -> Vec<String> {
        let timers = self.timers.iter();
        timers.map(|(key, due)| format!("{key} {due}")).collect()
    }

    /// The parked changes of a rule, in order by key.
    pub(crate) fn parked(&self, rule: usize) -> Vec<String> {
        let rule = &self.rules[rule];
        let letters = rule.parked.values().flatten();
        letters
            .map(|change| {
                let row = |row: &Option<Row>| {
                    let row = row.as_ref();
                    row.map_or_else(String::new, |row| line(change.table, change.key, row))
                };
                let (before, after) = (row(&change.before), row(&change.after));
                format!("{}: {before} -> {after} at {}", rule.name, change.time)
            })
            .collect()
    }

    /// Where the rule over a derived table stands.
    pub(crate) fn buckets_status(&self) -> Option<Status> {
        self.buckets_status
    }
}

fn line(source: Source, key: i64, row: &Row) -> String {
    let mut cells = vec![format!("id={key}")];
    for (column, value) in source.columns()[1..].iter().zip(row) {
        if let Some(value) = value {
            cells.push(format!("{column}={value}"));
        }
    }
    cells.join(" ")
}
