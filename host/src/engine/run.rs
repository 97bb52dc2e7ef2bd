//! Running rules: items into calls, calls into effects.
//!
//! Where a call ends in a fault nothing of it counts, and its items are handed over again in parts. A guest that says
//! itself which item it was at (a panic), and effects that name one, leave two parts, before and behind it; else a part
//! is halved, each half in a fresh instance, until the item at fault stands alone. So one bad change costs a batch a second run of
//! its items at the best and the logarithm of their number in calls at the worst; and of a guest that has panicked lately
//! (`panics.rs`) not even that. A rule that returns an error
//! has already undone that item itself.
//!
//! Time is shared out so that a change that never ends holds everybody else up for `plugin_call_ms_max` and no longer: half of it
//! for the call that runs out of time, a little for each part in the search, the rest for the change alone.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use crate::{
    change::{Change, Key, Seq},
    row::RowError,
    rule::Fault,
    store::{RuleStatus, WriteSet},
};

use super::{
    Engine, Fatal,
    access::CallState,
    firing::Rounds,
    items::{Body, ChangeRef, Item, write_batch},
    net,
    parts::{Part, Share},
    state::{Line, Order},
};

/// The bits of a rule mask, as rule numbers.
pub(super) fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let bit = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        Some(bit)
    })
}

/// Items that a call gets after a fault.
pub(super) const REACH_MIN: usize = 64;

/// What a run produced for later levels and the log.
pub(super) struct Output<'a> {
    pub(super) write_set: &'a mut WriteSet,
    /// Net changes of derived tables.
    pub(super) derived: &'a mut Vec<Change>,
    /// The seq that derived changes get in the log; `None`: that of the item behind them.
    pub(super) log_seq: Option<Seq>,
    /// Items that one call may have, at the most.
    pub(super) part_max: usize,
    /// Rules whose timers fire as the items' times reach them.
    pub(super) timers: u64,
    /// Items are being run again after they had been parked: a fault parks nothing, it is noted here.
    pub(super) retry: Option<&'a mut Failed>,
}

/// Lines in which a parked change or timer failed again: which one, and the fault.
pub(super) type Failed = HashMap<Line, (Order, String)>;

/// What is next.
enum Frame<'a> {
    Run(Part<'a>),
    /// More items than a call gets now: they go from the front, a part at a time.
    Queue(VecDeque<Item<'a>>, i64, Share),
    /// The one rule of this item is at fault, with this message; what stands before the item has been run.
    Verdict(Item<'a>, String, bool, i64),
}

pub(super) enum Outcome {
    Taken,
    /// The same items again, less those that are now refused. True if the call's effects were thrown away.
    Again(bool),
    /// An item that doesn't fit stands behind others of its key: they go first.
    Unfit(usize, String),
    /// What stands before this item goes first, then the timer that came due before it.
    Cut(usize),
    /// The fault, and the item and the rule that are at fault if that is known.
    Fault(Fault, Option<(usize, Option<u16>)>),
}

impl Engine {
    /// Calls the plugin for these items and takes its effects.
    pub(super) fn run_items(
        &mut self,
        plugin: usize,
        items: Vec<Item<'_>>,
        watermark: i64,
        output: &mut Output<'_>,
    ) -> Result<(), Fatal> {
        let name = self.plugins[plugin].name.clone();
        self.board.begin_call(name, items.len(), Instant::now());
        let (start, first) = (output.derived.len(), output.write_set.tables.len());
        let was_wary = self.plugins[plugin].wary != 0;
        let result = self.run_parts(plugin, items, watermark, output);
        self.board.end_call();
        // Where what others see between two changes counts, a part is a change.
        if output.part_max > 1 {
            let kept = was_wary || self.plugins[plugin].wary != 0;
            net::merge(
                output.derived,
                start,
                &mut output.write_set.tables,
                first,
                kept,
            );
        }
        result
    }

    /// The same, however many calls it takes.
    fn run_parts(
        &mut self,
        plugin: usize,
        items: Vec<Item<'_>>,
        watermark: i64,
        output: &mut Output<'_>,
    ) -> Result<(), Fatal> {
        let mut stack: Vec<Frame<'_>> = Part::cut(items, watermark, output.part_max)
            .into_iter()
            .rev()
            .map(Frame::Run)
            .collect();
        // How many items the next call gets: few after a fault, so that little is run again if the next one is near, then more and
        // more again.
        let mut reach = self
            .wary_reach(plugin)
            .unwrap_or(output.part_max)
            .min(output.part_max);
        let mut rounds = Rounds::default();
        while let Some(frame) = stack.pop() {
            let mut part = match frame {
                Frame::Run(part) if part.items.len() > reach => {
                    let Part {
                        items,
                        watermark,
                        share,
                        ..
                    } = part;
                    stack.push(Frame::Queue(items.into(), watermark, share));
                    continue;
                }
                Frame::Run(part) => part,
                Frame::Queue(mut items, watermark, share) => {
                    let next = items.drain(..reach.min(items.len())).collect();
                    let part = Part::whole(next, watermark, share);
                    if !items.is_empty() {
                        stack.push(Frame::Queue(items, part.end(), share));
                    }
                    part
                }
                Frame::Verdict(item, message, timed_out, watermark) => {
                    if output.retry.is_none() && !self.is_still_set(plugin, &item) {
                        continue;
                    }
                    if self.must_be_told_otherwise(plugin, &item, output) {
                        // What it faulted on is not what the rule will get.
                        let part = Part::whole(vec![item], watermark, Share::Alone);
                        stack.push(Frame::Run(part));
                        continue;
                    }
                    let mut alone = vec![item];
                    self.sift(plugin, &mut alone, output);
                    for item in &alone {
                        self.verdict(plugin, item, &message, timed_out, output);
                    }
                    continue;
                }
            };
            if output.timers != 0 && !part.resumes {
                let (items, watermark) = (&mut part.items, part.watermark);
                let rest =
                    self.fit_timers(plugin, items, output.timers, watermark, reach, &mut rounds);
                push_behind(&part, rest, &mut stack);
                self.end_runaway(plugin, &mut part.items, &mut rounds, output);
                if let Some(place) = self.park_waiting_timers(plugin, &mut part.items, output) {
                    let behind = part.items.split_off(place);
                    push_behind(&part, behind, &mut stack);
                }
            }
            // A rule may have halted, or a key been parked, since these items were chosen.
            self.sift(plugin, &mut part.items, output);
            if part
                .items
                .iter()
                .all(|item| matches!(item.body, Body::Tick))
            {
                continue;
            }
            match self.call(plugin, &mut part, output)? {
                Outcome::Taken => {
                    let further = self.wary_reach(plugin).unwrap_or(reach * 2);
                    reach = further.min(output.part_max);
                }
                Outcome::Again(called) => {
                    if called {
                        self.drop_instance(plugin);
                    }
                    pass_over(&mut part.items, output.timers);
                    stack.push(Frame::Run(part));
                }
                Outcome::Cut(place) => {
                    self.drop_instance(plugin);
                    reach = REACH_MIN.min(output.part_max);
                    let behind = part.items.split_off(place);
                    push_behind(&part, behind, &mut stack);
                    stack.push(Frame::Run(part));
                }
                Outcome::Unfit(place, message) => {
                    divide(
                        part,
                        &message,
                        false,
                        Some((place, None)),
                        true,
                        output.timers,
                        &mut stack,
                    );
                }
                Outcome::Fault(fault, culprit) => {
                    self.drop_instance(plugin);
                    tracing::debug!(plugin = &*self.plugins[plugin].name, %fault, items = part.items.len(), "call faulted");
                    if culprit.is_some() {
                        let next = self.wary_reach(plugin).unwrap_or(REACH_MIN);
                        reach = next.min(output.part_max);
                    }
                    let timed_out = matches!(fault, Fault::TimeOut { .. });
                    rounds.timed_out |= timed_out;
                    // It may not be the item, but a timer that came due before it: alone it shows.
                    let again_alone = output.timers != 0
                        && culprit.is_some_and(|(place, rule)| place > 0 && rule.is_none());
                    divide(
                        part,
                        &fault.to_string(),
                        timed_out,
                        culprit,
                        again_alone,
                        output.timers,
                        &mut stack,
                    );
                }
            }
        }
        Ok(())
    }

    /// Takes away from items the rules that have stopped since, parks what stands behind a parked key, and tells a rule
    /// that has missed changes of a row what it needs to know.
    fn sift(&mut self, plugin: usize, items: &mut Vec<Item<'_>>, output: &mut Output<'_>) {
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
                    let earlier = item.rules & ((1 << rule) - 1);
                    if earlier != 0 {
                        items.push(Item {
                            rules: earlier,
                            ..item.clone()
                        });
                    }
                    match item.told(1 << rule, seen) {
                        Some(told) => items.push(told),
                        None => self.close_gap(state, &key, output.write_set),
                    }
                    item.rules &= !(earlier | 1 << rule);
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
    fn must_be_told_otherwise(&self, plugin: usize, item: &Item<'_>, output: &Output<'_>) -> bool {
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

    pub(super) fn is_running(&self, plugin: usize, rule: usize) -> bool {
        self.states[self.state_of(plugin, rule)].record.status == RuleStatus::Running
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

    /// Deals with items whose rows don't fit what the plugin declared; nothing has been called yet.
    fn take_unfit(
        &mut self,
        plugin: usize,
        items: &mut Vec<Item<'_>>,
        unfit: Vec<(usize, RowError)>,
        output: &mut Output<'_>,
    ) -> Outcome {
        let first = (unfit[0].0, unfit[0].1.to_string());
        let mut before = HashSet::new();
        let mut start = 0;
        let mut is_dealt_with = false;
        for (place, error) in unfit {
            before.extend(items[start..place].iter().filter_map(Item::key).cloned());
            start = place;
            let item = &items[place];
            // What stands behind others of its key comes after them.
            if item.key().is_some_and(|key| before.contains(key))
                || self.must_be_told_otherwise(plugin, item, output)
            {
                continue;
            }
            let mut alone = vec![item.clone()];
            items[place].rules = 0;
            is_dealt_with = true;
            // What stands behind a halt or a parked change is dealt with as that says.
            self.sift(plugin, &mut alone, output);
            for item in &alone {
                match &error {
                    // The next will lack it too: that is no change's fault.
                    RowError::Null { column } if self.lacking.contains(&item.seq) => {
                        let what = "which it reads, is gone at the source";
                        self.stop_lacking(plugin, item, column, what, output.write_set);
                    }
                    RowError::Type {
                        column,
                        found,
                        expected,
                    } if self.lacking.contains(&item.seq) => {
                        let what = format!(
                            "which it reads as {expected}, has become {found} at the source"
                        );
                        self.stop_lacking(plugin, item, column, &what, output.write_set);
                    }
                    _ => self.verdict(plugin, item, &error.to_string(), false, output),
                }
            }
        }
        pass_over(items, output.timers);
        match is_dealt_with {
            true => Outcome::Again(false),
            false => Outcome::Unfit(first.0, first.1),
        }
    }

    fn call(
        &mut self,
        plugin: usize,
        part: &mut Part<'_>,
        output: &mut Output<'_>,
    ) -> Result<Outcome, Fatal> {
        let items = &mut part.items;
        let catalog = self.catalog.load();
        let tables = self.plugins[plugin].tables.clone();
        let held = self.held_timers(plugin, output);
        let batch = write_batch(items, part.watermark, held, &tables, &catalog);
        if !batch.unfit.is_empty() {
            return Ok(self.take_unfit(plugin, items, batch.unfit, output));
        }
        match self.renew_instance(plugin) {
            Ok(()) => {}
            Err(Fault::Store(error)) => return Err(Fatal::store(error)),
            Err(fault) => return Ok(Outcome::Fault(fault, None)),
        }
        let linked = &mut self.plugins[plugin];
        let Some(instance) = &mut linked.instance else {
            unreachable!("it has just been made");
        };
        instance.set_saving(linked.wary != 0);
        // Its timers may fire by themselves.
        let rules = items
            .iter()
            .fold(output.timers, |rules, item| rules | item.rules);
        let manifest = linked.plugin.manifest();
        let own = bits(rules).filter_map(|rule| manifest.rules.get(rule));
        let own = own.flat_map(|rule| rule.writes.clone()).collect();
        let state = Arc::new(CallState {
            view: self.view.clone(),
            catalog: catalog.clone(),
            tables: tables.clone(),
            page_rows_max: self.limits.scan_page_rows_max,
            page_bytes_max: self.limits.effects_bytes_max,
            own,
        });
        instance.set_time(part.share.of(self.limits.plugin_call_ms_max));
        let bytes = match instance.apply(&batch.bytes, state) {
            Ok(bytes) => bytes,
            Err(Fault::Store(error)) => return Err(Fatal::store(error)),
            Err(Fault::LimitExceeded { .. }) if linked.wary != 0 => {
                linked.wary = 0;
                return Ok(Outcome::Again(true));
            }
            Err(fault) => {
                let culprit = instance.culprit();
                return self.take_culprit(plugin, part, &batch.places, fault, culprit, output);
            }
        };
        let checker = self.checker(plugin, &catalog, batch.places.len());
        let effects = match checker.check(&bytes) {
            Ok(effects) => effects,
            // What a call leaves may be less than what was kept of it on the way.
            Err(_) if self.plugins[plugin].wary != 0 => {
                self.plugins[plugin].wary = 0;
                return Ok(Outcome::Again(true));
            }
            Err((fault, at)) => {
                let place = at.map(|at| batch.places[at as usize] as usize);
                return Ok(Outcome::Fault(fault, place.map(|place| (place, None))));
            }
        };
        if !effects.faults.is_empty() {
            let at = effects.faults_at(&batch.places);
            if let Some(place) = self.left_to_fire(plugin, items, at, output) {
                return Ok(Outcome::Cut(place));
            }
            if self.take_faults(plugin, items, &batch.places, &effects, output) {
                return Ok(Outcome::Again(true));
            }
        }
        let handled = items.len() as u64;
        self.take_effects(plugin, items, &batch.places, effects, &catalog, output)?;
        let linked = &mut self.plugins[plugin];
        linked.wary = linked.wary.saturating_sub(handled);
        Ok(Outcome::Taken)
    }
}

/// Has what stands behind a part handed over after it.
fn push_behind<'a>(part: &Part<'a>, items: Vec<Item<'a>>, stack: &mut Vec<Frame<'a>>) {
    if !items.is_empty() {
        stack.push(Frame::Run(Part::whole(items, part.end(), part.share)));
    }
}

/// What stays of an item that no rule gets any more: it was the moment at which timers came due.
fn what_remains<'a>(item: &Item<'a>, timers: u64) -> Option<Item<'a>> {
    (timers != 0 && item.key().is_some()).then(|| item.passed())
}

/// Takes out the items that no rule gets any more.
fn pass_over(items: &mut Vec<Item<'_>>, timers: u64) {
    items.retain_mut(|item| {
        if item.rules == 0
            && let Some(passed) = what_remains(item, timers)
        {
            *item = passed;
        }
        item.rules != 0 || matches!(item.body, Body::Tick)
    });
}

/// The turns in which an item goes to the rules in question, alone, and before and behind them to its others.
fn turns_around(rules: u64, all: u64, share: Share) -> Vec<(u64, Share)> {
    let first = 1u64.checked_shl(rules.trailing_zeros()).unwrap_or(0);
    let earlier = all & !rules & first.saturating_sub(1);
    let later = all & !rules & !earlier;
    let of_others = |others: u64| (others != 0).then_some((others, share));
    // A moment has no rules, and timers of its own: it gets its turn all the same.
    let turns = [
        of_others(earlier),
        Some((rules, Share::Alone)),
        of_others(later),
    ];
    turns.into_iter().flatten().collect()
}

/// What to do with a part whose call faulted, last thing first.
fn divide<'a>(
    mut part: Part<'a>,
    message: &str,
    timed_out: bool,
    culprit: Option<(usize, Option<u16>)>,
    again_alone: bool,
    timers: u64,
    stack: &mut Vec<Frame<'a>>,
) {
    if part.resumes && part.items.len() > 1 {
        let behind = part.items.split_off(1);
        push_behind(&part, behind, stack);
    }
    let share = match part.share {
        Share::Whole if timed_out => Share::Search,
        share => share,
    };
    let (place, rule) = match culprit {
        Some((place, rule)) => (place, rule),
        None if part.items.len() == 1 => (0, None),
        None => {
            let right = part.items.split_off(part.items.len() / 2);
            part.share = share;
            push_behind(&part, right, stack);
            stack.push(Frame::Run(part));
            return;
        }
    };
    let mut behind = part.items.split_off(place);
    let before = part;
    let watermark = before.end();
    let item = &behind[0];
    let time = item.time;
    let rules = match rule {
        Some(rule) if item.rules & 1u64.checked_shl(rule.into()).unwrap_or(0) != 0 => 1 << rule,
        _ => item.rules,
    };
    let resumes = before.resumes;
    let of_rules = |item: &Item<'a>, rules: u64| Item {
        rules,
        ..item.clone()
    };
    let is_one_rule = rules.count_ones() == 1;
    let alone: Vec<Frame<'a>> = if is_one_rule && !again_alone && before.share != Share::Search {
        let item = of_rules(item, rules);
        behind[0].rules &= !rules;
        pass_over(&mut behind, timers);
        let verdict = Frame::Verdict(item, message.to_owned(), timed_out, watermark);
        vec![verdict]
    } else {
        let turns = if again_alone || is_one_rule {
            // It comes to its turn when those before it have had theirs, or has had a moment only.
            turns_around(rules, item.rules, before.share)
        } else {
            // Which of the rules it was shows when each gets the item alone.
            bits(rules).map(|rule| (1 << rule, Share::Alone)).collect()
        };
        let item = behind.remove(0);
        let parts = turns.into_iter().enumerate();
        let parts = parts.map(|(place, (rules, share))| Part {
            resumes: resumes || place > 0,
            ..Part::whole(vec![of_rules(&item, rules)], watermark, share)
        });
        parts.map(Frame::Run).collect()
    };
    if !behind.is_empty() {
        // Of a part that resumes these are the other rules of its one item.
        stack.push(Frame::Run(Part {
            resumes,
            ..Part::whole(behind, watermark.max(time), before.share)
        }));
    }
    stack.extend(alone.into_iter().rev());
    if !before.items.is_empty() {
        stack.push(Frame::Run(before));
    }
}
