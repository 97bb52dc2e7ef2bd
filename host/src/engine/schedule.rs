//! Who is called, in which order, with what: the table graph laid out for running.

use rulemill_wire::manifest::Input;

use crate::{
    catalog::TableId,
    change::{Change, Seq},
    store::WriteSet,
};

use super::{
    Engine, Fatal,
    items::{Body, Item, bits},
    run::Output,
    slices::Slices,
};

/// One call of a plugin in a batch: its rules of one level.
#[derive(Debug, Default)]
pub(super) struct Call {
    plugin: usize,
    /// By table number: the manifest tables and rules that its changes go to.
    routes: Vec<Vec<(u16, u64)>>,
    /// Rules that are called for timers.
    timers: u64,
    /// Whether the plugin must be told how time moves on.
    ticks: bool,
    /// Rules that don't get every change.
    backfilling: u64,
}

impl Call {
    fn routes(&self, table: TableId) -> &[(u16, u64)] {
        self.routes.get(table.0 as usize).map_or(&[], Vec::as_slice)
    }
}

/// The calls of a batch, level by level.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    levels: Vec<Vec<Call>>,
    slices: Slices,
}

/// A moment without a change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tick {
    pub(super) seq: Seq,
    pub(super) time: i64,
}

impl Engine {
    /// Lays the rules out that take live changes.
    pub(super) fn lay_schedule(&mut self) {
        let mut levels: Vec<Vec<Call>> = Vec::new();
        for (place, plugin) in self.plugins.iter().enumerate() {
            let manifest = plugin.plugin.manifest();
            let deepest = plugin.rules.iter().map(|rule| rule.level).max();
            for level in 0..=deepest.unwrap_or_default() {
                let mut call = Call {
                    plugin: place,
                    ..Call::default()
                };
                for (number, rule) in plugin.rules.iter().enumerate() {
                    let state = &self.states[self.state_of(place, number)];
                    if rule.level != level || !state.takes_live() {
                        continue;
                    }
                    let bit = 1u64 << number;
                    if state.record.backfill.is_some() {
                        call.backfilling |= bit;
                    }
                    call.ticks |= manifest.rules[number].sets_timers;
                    let Some(input) = rule.input else {
                        if !self.holds_timers(place) {
                            call.timers |= bit;
                        }
                        continue;
                    };
                    let table = plugin.tables[usize::from(input)].id.0 as usize;
                    if call.routes.len() <= table {
                        call.routes.resize(table + 1, Vec::new());
                    }
                    match call.routes[table].iter_mut().find(|(to, _)| *to == input) {
                        Some((_, mask)) => *mask |= bit,
                        None => call.routes[table].push((input, bit)),
                    }
                }
                call.ticks &= manifest
                    .rules
                    .iter()
                    .any(|rule| rule.input == Input::Timers);
                if call.routes.is_empty() && call.timers == 0 {
                    continue;
                }
                if levels.len() <= level as usize {
                    levels.resize_with(level as usize + 1, Vec::new);
                }
                levels[level as usize].push(call);
            }
        }
        let slices = Slices::of(&self.plugins);
        self.schedule = Schedule { levels, slices };
        self.schedule_dirty = false;
    }

    /// Where a batch of source changes must be cut (the last end is that of the batch).
    pub(super) fn slice_ends(&mut self, source: &[Change]) -> Vec<usize> {
        if self.schedule_dirty {
            self.lay_schedule();
        }
        self.schedule.slices.ends(source)
    }

    /// How many items a call may have where what it writes is seen by others as of each change.
    pub(super) fn part_max(&mut self, plugin: usize, rule: usize) -> usize {
        if self.schedule_dirty {
            self.lay_schedule();
        }
        let plugin = &self.plugins[plugin];
        let writes = &plugin.plugin.manifest().rules[rule].writes;
        let seen = &self.schedule.slices.seen_between;
        let is_seen = |place: &u16| seen.contains(&plugin.tables[usize::from(*place)].id);
        match writes.iter().any(is_seen) {
            true => 1,
            false => self.limits.batch_changes_max.max(1),
        }
    }

    /// Runs every rule that these changes concern, level by level. `derived` begins with what came before
    /// the schedule (a rule catching up) and ends with all net changes of derived tables.
    pub(super) fn run_schedule(
        &mut self,
        source: &[Change],
        tick: Option<Tick>,
        write_set: &mut WriteSet,
        derived: &mut Vec<Change>,
    ) -> Result<(), Fatal> {
        if self.schedule_dirty {
            self.lay_schedule();
        }
        let schedule = std::mem::take(&mut self.schedule);
        let is_behind = source.is_empty() && tick.is_none();
        let mut result = match is_behind {
            true => self.feed_past(derived),
            false => Ok(()),
        };
        'levels: for level in &schedule.levels {
            if result.is_err() {
                break;
            }
            let mut fresh = Vec::new();
            for call in level {
                let items = self.choose(call, source, derived, tick);
                if items.is_empty() {
                    continue;
                }
                // What came of old changes is looked up as of each.
                let writes = self.plugins[call.plugin].plugin.manifest().rules.iter();
                let mut writes = writes.flat_map(|rule| &rule.writes);
                let tables = &self.plugins[call.plugin].tables;
                let seen = &schedule.slices.seen_between;
                let is_seen = writes.any(|table| seen.contains(&tables[usize::from(*table)].id));
                let part_max = match is_behind && is_seen {
                    true => 1,
                    false => self.limits.batch_changes_max.max(1),
                };
                let mut output = Output {
                    write_set,
                    derived: &mut fresh,
                    log_seq: None,
                    timers: call.timers,
                    part_max,
                    retry: None,
                };
                result = self.run_items(call.plugin, items, self.batch_watermark, &mut output);
                if result.is_err() {
                    break 'levels;
                }
            }
            if is_behind {
                result = self.feed_past(&fresh);
            }
            derived.append(&mut fresh);
        }
        if !self.schedule_dirty {
            self.schedule = schedule;
        }
        result
    }

    /// The items of a call, in seq order across tables.
    fn choose<'a>(
        &self,
        call: &Call,
        source: &'a [Change],
        derived: &'a [Change],
        tick: Option<Tick>,
    ) -> Vec<Item<'a>> {
        let wanted = |change: &&Change| !call.routes(change.table).is_empty();
        let mut late: Vec<&Change> = derived.iter().filter(wanted).collect();
        // Stable: changes of one seq stay in the order of their tables' levels.
        late.sort_by_key(|change| change.seq);
        let mut counter = Counter::default();
        let mut chooser = Chooser {
            engine: self,
            call,
            watermark: self.batch_watermark,
            items: Vec::with_capacity(source.len() + late.len()),
        };
        let mut late = late.into_iter().peekable();
        for change in source {
            while let Some(earlier) = late.next_if(|late| late.seq < change.seq) {
                chooser.change(earlier, counter.count(earlier));
            }
            chooser.change(change, 0);
        }
        for change in late {
            chooser.change(change, counter.count(change));
        }
        if let Some(tick) = tick {
            chooser.tick(tick.seq, tick.time);
        }
        let items = chooser.items;
        let reached = items.iter().map(|item| item.time).max();
        let is_due = |time| call.timers != 0 && self.next_due().is_some_and(|due| due <= time);
        if items.iter().all(|item| matches!(item.body, Body::Tick)) && !reached.is_some_and(is_due)
        {
            return Vec::new();
        }
        items
    }
}

struct Chooser<'e, 'c, 'a> {
    engine: &'e Engine,
    call: &'c Call,
    watermark: i64,
    items: Vec<Item<'a>>,
}

impl<'a> Chooser<'_, '_, 'a> {
    #[inline]
    fn change(&mut self, change: &'a Change, nth: u32) {
        let before = self.items.len();
        for &(table, mut rules) in self.call.routes(change.table) {
            if rules & self.call.backfilling != 0 {
                for rule in bits(rules & self.call.backfilling) {
                    let state = self.engine.state_of(self.call.plugin, rule);
                    if self.engine.states[state].is_ahead_of_backfill(&change.key) {
                        rules &= !(1 << rule);
                    }
                }
            }
            if rules != 0 {
                self.items.push(Item::of_change(change, nth, table, rules));
            }
        }
        if self.items.len() == before && change.time > self.watermark {
            self.tick(change.cause, change.time);
        }
        self.watermark = self.watermark.max(change.time);
    }

    /// Time has come to `time`.
    fn tick(&mut self, seq: Seq, time: i64) {
        if self.call.ticks || self.call.timers != 0 {
            self.items.push(Item::tick(seq, time));
        }
    }
}

/// Counts the changes of each table that share a seq.
#[derive(Debug, Default)]
pub(super) struct Counter {
    seq: Seq,
    tables: Vec<(TableId, u32)>,
}

impl Counter {
    /// How many changes of a table with this seq have been counted.
    pub(super) fn of(&self, seq: Seq, table: TableId) -> u32 {
        let found = self.tables.iter().find(|(counted, _)| *counted == table);
        found.map_or(0, |(_, count)| if seq == self.seq { *count } else { 0 })
    }

    /// Which change of its table with its seq this one is, from 0. Changes come in the order of their seqs.
    pub(super) fn count(&mut self, change: &Change) -> u32 {
        if change.seq != self.seq {
            self.seq = change.seq;
            self.tables.clear();
        }
        match self
            .tables
            .iter_mut()
            .find(|(table, _)| *table == change.table)
        {
            Some((_, count)) => {
                *count += 1;
                *count - 1
            }
            None => {
                self.tables.push((change.table, 1));
                0
            }
        }
    }
}
