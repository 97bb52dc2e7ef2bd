//! Rules that are not at the head: new ones that take over the rows that are there, and resumed
//! ones that catch up from the log.
//!
//! A *backfill* reads its table in key order, a batch of rows at a time, as they are at that moment, each time
//! between two live batches; from then on the rule handles the changes of the keys read so far and
//! passes over those of keys still to be read. So every row is seen exactly once as it stood and then in each of its
//! changes, the live path never waits for more than one batch, and the key reached is all that a restart needs: it is
//! stored with the effects. In the same way a rule is told how a table that was rebuilt differs from the one that served before
//! ([`super::differences`]).
//!
//! *Catching up* hands the log's changes to the rule in batches, likewise between live ones, until the
//! cursor meets the head.

use crate::{
    catalog::{Stage, TableId},
    change::{Change, Seq},
    store::{Reader, RuleStatus, WriteSet},
};

use super::{
    Backfill, Engine, Fatal,
    items::{Body, Item},
    rebuild,
    run::Output,
    schedule::Counter,
    state::Order,
};

/// How many times a batch's changes of the log, or rows of a table, are looked through for one batch of a rule's.
pub(super) const LOOK_AHEAD: usize = 16;

/// Whether a step was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// No rule is behind.
    Idle,
    /// A batch was handled.
    Done,
    /// The log on disk is used up: the rule can go on once everything decided is durable.
    NeedsCommit,
}

impl Engine {
    /// Takes one step with a retry, else with the rule that is behind at the lowest level.
    pub(super) fn step_behind(&mut self) -> Result<Step, Fatal> {
        if self.step_retry()? || self.step_rebuild()? {
            return Ok(Step::Done);
        }
        self.drain_past()?;
        let mut behind: Option<(u32, Seq, usize, usize)> = None;
        for (place, plugin) in self.plugins.iter().enumerate() {
            for (number, rule) in plugin.rules.iter().enumerate() {
                let state = &self.states[self.state_of(place, number)];
                let lags =
                    state.is_behind() || (state.takes_live() && state.record.backfill.is_some());
                let cursor = state.record.cursor;
                let is_first = |(level, least, ..): (u32, Seq, usize, usize)| {
                    (rule.level, cursor) < (level, least)
                };
                if lags && behind.is_none_or(is_first) {
                    behind = Some((rule.level, cursor, place, number));
                }
            }
        }
        let Some((_, _, plugin, rule)) = behind else {
            self.forget_past();
            return Ok(Step::Idle);
        };
        if self.states[self.state_of(plugin, rule)].is_behind() {
            self.catch_up(plugin, rule)
        } else {
            self.backfill(plugin, rule)
        }
    }

    fn backfill(&mut self, plugin: usize, rule: usize) -> Result<Step, Fatal> {
        let state = self.state_of(plugin, rule);
        let Some(input) = self.plugins[plugin].rules[rule].input else {
            self.end_backfill(state);
            return Ok(Step::Done);
        };
        let table = self.plugins[plugin].tables[usize::from(input)].id;
        let record = &self.states[state].record;
        let replaced = record.replaced;
        if let Some(old) = replaced
            && self.catalog.load().table(old).stage != (Stage::Replaced { by: table })
        {
            // A new version is called for another table: what differed in the old one is nothing to it.
            self.end_backfill(state);
            return Ok(Step::Done);
        }
        let found = self.differences(table, replaced, record.backfill.as_deref())?;
        let rows = found.changes;
        if rows.is_empty() {
            match found.reached {
                Some(reached) => {
                    let state = &mut self.states[state];
                    state.record.backfill = Some(reached.to_vec());
                    state.dirty = true;
                    self.finish(WriteSet::default(), 0);
                }
                None => self.end_backfill(state),
            }
            return Ok(Step::Done);
        }
        self.last_seq = rows.last().map_or(self.last_seq, |last| last.seq);
        let items = rows.iter().map(|row| {
            let mut item = Item::of_change(row, 0, input, 1 << rule);
            if let Body::Change { read, .. } = &mut item.body {
                *read = replaced.is_none();
            }
            item
        });
        self.run_behind(plugin, rule, items.collect(), self.watermark)?;
        let record = &self.states[state].record;
        if record.status != RuleStatus::Running {
            let handled = rows.partition_point(|row| row.seq <= record.cursor);
            let state = &mut self.states[state];
            if let Some(last) = handled.checked_sub(1) {
                state.record.backfill = Some(rows[last].key.to_vec());
            }
            state.dirty = true;
        } else if let Some(reached) = found.reached {
            let state = &mut self.states[state];
            state.record.backfill = Some(reached.to_vec());
            state.dirty = true;
        } else {
            self.end_backfill(state);
        }
        Ok(Step::Done)
    }

    fn end_backfill(&mut self, state: usize) {
        let state = &mut self.states[state];
        state.record.backfill = None;
        let replaced = state.record.replaced.take();
        state.dirty = true;
        self.schedule_dirty = true;
        let rule = state.full_name();
        let mut write_set = WriteSet::default();
        match replaced {
            None => tracing::info!(rule, "has taken over the rows that were there"),
            Some(_) => {
                tracing::info!(rule, "has been told how its rebuilt table differs");
                if self.drop_replaced() {
                    self.store_catalog(&mut write_set);
                }
            }
        }
        self.finish(write_set, 0);
    }

    fn catch_up(&mut self, plugin: usize, rule: usize) -> Result<Step, Fatal> {
        let place = self.state_of(plugin, rule);
        let state = &self.states[place];
        let cursor = state.record.cursor;
        let Some(input) = self.plugins[plugin].rules[rule].input else {
            self.join(place);
            return Ok(Step::Done);
        };
        if cursor >= self.last_seq {
            self.join(place);
            return Ok(Step::Done);
        }
        let snapshot = self.view.snapshot().clone();
        let durable = snapshot.last_seq();
        if cursor >= durable {
            return Ok(Step::NeedsCommit);
        }
        // A table that was rebuilt has no changes of its own before the switch.
        let since = self.input_since(place).next();
        let reaches = snapshot.log_first_seq()?.map(|first| first.max(since));
        if reaches.is_none_or(|first| first > cursor.next()) {
            self.leave_log(plugin, place, reaches)?;
            return Ok(Step::Done);
        }
        let table = self.plugins[plugin].tables[usize::from(input)].id;
        let sets_timers = self.plugins[plugin].plugin.manifest().rules[rule].sets_timers;
        let stretch = self.stretch(&snapshot, place, table, sets_timers)?;
        let watermark = self.states[place].record.cursor_watermark;
        if !stretch.items.is_empty() {
            let causes = stretch.items.iter().map(|(change, _)| change.cause);
            let from = causes.min().map_or(cursor, |first| first.min(cursor));
            if !self.reach_back(from)? {
                return Ok(Step::Done);
            }
            let items = stretch
                .items
                .iter()
                .map(|(change, nth)| match nth {
                    Some(nth) => Item::of_change(change, *nth, input, 1 << rule),
                    None => Item::tick(change.cause, change.time),
                })
                .collect();
            self.run_behind(plugin, rule, items, watermark)?;
        }
        let state = &mut self.states[place];
        if state.record.status == RuleStatus::Running {
            state.record.cursor = stretch.reached;
            state.record.cursor_changes = stretch.reached_changes;
            state.record.cursor_watermark = stretch.watermark;
        }
        state.dirty = true;
        if stretch.items.is_empty() {
            self.finish(WriteSet::default(), 0);
        }
        Ok(Step::Done)
    }

    /// The seq of the switch since which the table serves that a rule is called for: what differed there is in no log.
    pub(super) fn input_since(&self, place: usize) -> Seq {
        let name = self.states[place].full_name();
        let catalog = self.catalog.load();
        let since = self.plugins.iter().find_map(|plugin| {
            let mut rules = plugin.rules.iter();
            let input = rules.find(|rule| *rule.full_name == *name)?.input?;
            Some(catalog.table(plugin.tables[usize::from(input)].id).since())
        });
        Seq(since.unwrap_or_default())
    }

    /// The log no longer reaches back to where a rule stands. If its plugin's tables may be made from a snapshot they are; else
    /// a person must decide.
    fn leave_log(
        &mut self,
        plugin: usize,
        place: usize,
        reaches: Option<Seq>,
    ) -> Result<(), Fatal> {
        let name = self.plugins[plugin].name.to_string();
        let cursor = self.states[place].record.cursor;
        let first = reaches.map_or_else(|| "nothing".to_owned(), |seq| format!("change {seq}"));
        let gap = format!("it stands at change {cursor} and the log reaches back to {first} only");
        let begun = match self.plugins[plugin].options.backfill {
            _ if rebuild::is_shadow(&name) => Err("it is being rebuilt itself".to_owned()),
            Backfill::Snapshot => match self.begin_rebuild(&name) {
                Err(error) if !self.is_rebuilding(&name) => Err(error.to_string()),
                _ => Ok(()),
            },
            _ => Err("backfill isn't \"snapshot\"".to_owned()),
        };
        let reason = match begun {
            Ok(()) => format!("{gap}: the tables of plugin {name} are made again from a snapshot"),
            Err(why) => format!(
                "{gap}, and its tables can't be made from a snapshot ({why}): decide whether it \
                 goes on from there without what is gone (`rulemill rules resume --skip-gap {name}.{}`), or `rulemill rebuild {name}`",
                self.states[place].record.rule
            ),
        };
        tracing::warn!(rule = self.states[place].full_name(), reason, "paused");
        let version = self.plugins[plugin].version;
        let state = &mut self.states[place];
        state.record.version = version;
        state.record.status = RuleStatus::Tripped(reason);
        state.dirty = true;
        self.schedule_dirty = true;
        self.finish(WriteSet::default(), 0);
        self.post_status();
        Ok(())
    }

    /// What the log holds next for a rule: as much as makes a batch, found in a bounded part of the log.
    fn stretch(
        &self,
        snapshot: &Reader,
        place: usize,
        table: TableId,
        ticks: bool,
    ) -> Result<Stretch, Fatal> {
        let state = &self.states[place];
        let cursor = state.record.cursor;
        let items_max = self.limits.batch_changes_max.max(1);
        let mut stretch = Stretch {
            items: Vec::new(),
            reached: snapshot.last_seq(),
            reached_changes: 0,
            watermark: state.record.cursor_watermark,
        };
        let (mut counter, mut seen) = (Counter::default(), 0);
        for change in snapshot.log(cursor.next())? {
            let change = change?;
            if change.seq <= cursor {
                continue;
            }
            let nth = (change.table == table).then(|| counter.count(&change));
            // A seq that many derived changes share is looked through to its end, or the cursor would stay before it.
            let gets_on = !stretch.items.is_empty() || change.seq > cursor.next();
            if stretch.items.len() >= items_max || (seen >= items_max * LOOK_AHEAD && gets_on) {
                // Right before this change.
                stretch.reached = Seq(change.seq.0 - 1);
                stretch.reached_changes = match nth {
                    Some(nth) => nth,
                    // Of its table's changes with this seq, those that came before it.
                    None => counter.of(change.seq, table),
                };
                break;
            }
            seen += 1;
            let time = change.time;
            let is_new = nth.is_some_and(|nth| {
                let seq = change.seq;
                !state.has_passed(Order { seq, nth }) && !state.is_ahead_of_backfill(&change.key)
            });
            if is_new {
                stretch.items.push((change, nth));
            } else if ticks && time > stretch.watermark {
                stretch.items.push((change, None));
            }
            stretch.watermark = stretch.watermark.max(time);
        }
        Ok(stretch)
    }

    fn join(&mut self, place: usize) {
        let state = &mut self.states[place];
        state.record.at_head = true;
        state.record.cursor_changes = 0;
        state.dirty = true;
        self.schedule_dirty = true;
        tracing::info!(
            rule = state.full_name(),
            seq = self.last_seq.0,
            "is at the head"
        );
        self.finish(WriteSet::default(), 0);
    }

    /// Runs one rule over these items in a batch of its own, and whatever depends on what it derives.
    fn run_behind(
        &mut self,
        plugin: usize,
        rule: usize,
        items: Vec<Item<'_>>,
        watermark: i64,
    ) -> Result<(), Fatal> {
        let part_max = self.part_max(plugin, rule);
        let seq = self.last_seq.next();
        self.last_seq = seq;
        self.view_mut().begin_batch(seq, 0);
        let mut write_set = WriteSet::default();
        let mut derived = Vec::new();
        let rules = &self.plugins[plugin].rules;
        // While another rule that sets them is behind too they wait for the last. One that is called for timers has nothing to catch
        // up on.
        let manifest = self.plugins[plugin].plugin.manifest();
        let others_are_behind = (0..rules.len()).any(|other| {
            other != rule
                && rules[other].input.is_some()
                && manifest.rules[other].sets_timers
                && !self.states[self.state_of(plugin, other)].takes_live()
        });
        let timers =
            (0..rules.len()).filter(|&rule| rules[rule].input.is_none() && !others_are_behind);
        let mut output = Output {
            write_set: &mut write_set,
            derived: &mut derived,
            log_seq: Some(seq),
            timers: timers.fold(0, |mask, rule| mask | 1 << rule),
            part_max,
            retry: None,
        };
        self.run_items(plugin, items, watermark, &mut output)?;
        self.run_schedule(&[], None, &mut write_set, &mut derived)?;
        self.view_mut().end_batch();
        write_set.log = derived;
        self.finish(write_set, 0);
        Ok(())
    }
}

/// A part of the log that a rule is to catch up on.
struct Stretch {
    /// Changes of its table, and which of its table with its seq each is; else a change whose time only matters.
    items: Vec<(Change, Option<u32>)>,
    /// Where the rule's cursor will be.
    reached: Seq,
    reached_changes: u32,
    watermark: i64,
}
