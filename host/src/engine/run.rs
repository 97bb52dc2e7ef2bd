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
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use crate::{
    change::{Change, Seq},
    row::RowError,
    rule::Fault,
    store::{RuleStatus, WriteSet},
};

use super::{
    Engine, Fatal,
    access::CallState,
    firing::Rounds,
    items::{Body, Item, bits, write_batch},
    net,
    parts::{Frame, Part, Verdict, divide, pass_over, push_alone, push_behind},
    state::{Line, Order},
};

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

pub(super) enum Outcome {
    Taken,
    /// The same items again, less those that are now refused. True if the call's effects were thrown away.
    Again(bool),
    /// An item that doesn't fit stands behind others of its key: they go first.
    Unfit(usize, String),
    /// What stands before this item goes first: a timer came due before it, or it may have to wait for something there.
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
        self.plugins[plugin].kept = false;
        let result = self.run_parts(plugin, items, watermark, output);
        self.board.end_call();
        // Where what others see between two changes counts, a part is a change.
        if output.part_max > 1 {
            net::merge(
                output.derived,
                start,
                &mut output.write_set.tables,
                first,
                self.plugins[plugin].kept,
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
                Frame::Verdict(mut part, verdict) => {
                    let item = &part.items[0];
                    if output.retry.is_none() && !self.is_still_set(plugin, item) {
                        continue;
                    }
                    if self.dealt_with != verdict.dealt_with
                        || self.must_be_told_otherwise(plugin, item, output)
                    {
                        // What it faulted on may be what one did that has to wait, or isn't what the rule will get.
                        push_alone(part, &mut stack);
                        continue;
                    }
                    self.sift(plugin, &mut part.items, output);
                    for item in &part.items {
                        let Verdict {
                            message, timed_out, ..
                        } = &verdict;
                        self.verdict(plugin, item, message, *timed_out, output);
                    }
                    continue;
                }
            };
            if output.timers != 0 && !part.resumes {
                if let Some(place) = self.setters_stop(plugin, &part.items) {
                    let behind = part.items.split_off(place);
                    push_behind(&part, behind, &mut stack);
                }
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
            let dealt_with = self.dealt_with;
            self.sift(plugin, &mut part.items, output);
            if output.timers != 0 && self.dealt_with != dealt_with {
                // A rule that has stopped here may be one that timers wait for.
                stack.push(Frame::Run(part));
                continue;
            }
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
                    let verdict = self.against(message, false);
                    let at = Some((place, None));
                    divide(part, verdict, at, true, output.timers, &mut stack);
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
                        self.against(fault.to_string(), timed_out),
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

    /// What a call that was just made shows.
    fn against(&self, message: String, timed_out: bool) -> Verdict {
        Verdict {
            message,
            timed_out,
            dealt_with: self.dealt_with,
        }
    }

    pub(super) fn is_running(&self, plugin: usize, rule: usize) -> bool {
        self.states[self.state_of(plugin, rule)].record.status == RuleStatus::Running
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
        let held = self.held_timers(plugin, items, output);
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
        let saves = linked.wary != 0;
        instance.set_saving(saves);
        linked.kept |= saves;
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
            let outcome = self.take_faults(plugin, items, &batch.places, &effects, output);
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
        }
        let handled = items.len() as u64;
        self.take_effects(plugin, items, &batch.places, effects, &catalog, output)?;
        let linked = &mut self.plugins[plugin];
        linked.wary = linked.wary.saturating_sub(handled);
        Ok(Outcome::Taken)
    }
}
