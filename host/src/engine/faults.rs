//! What a rule's fault does: the change or the timer is parked, skipped, or the rule stops.
//!
//! Which of a call's faults count, what `on_error` says of each, and how a rule is stopped right before an item. How a change is set aside says
//! `engine::aside`. A rule that faults on most of what it gets is paused instead, by its window.

use std::collections::{HashMap, HashSet};

use crate::{
    change::Key,
    row::Row,
    store::{Gap, LetterState, RuleStatus, Subject, TimerWrite, WriteSet},
};

use super::{
    Engine,
    effects::Effects,
    items::{Body, Item, bits},
    run::{Outcome, Output},
    setup::OnError,
    state::{Line, Order},
};

/// Faults of a rule that are each told in the log; then the 16th is, the 32nd, and so on.
const TOLD_MAX: u64 = 10;

/// An item's place in a call, the rule that returned an error for it, and which.
type FaultAt<'a> = (usize, u16, &'a str);

/// Items of a call that stand behind a fault of their key, and so must wait, or be told otherwise.
struct Behind {
    /// The first of them, by place and rule, of which there is anything to see.
    seen: Option<(usize, u16)>,
}

impl Behind {
    /// Those behind the first faults of each key, if there are any. Of the faults only these are left: what fails behind one
    /// of its key is dealt with when the rest is run again.
    fn of(
        items: &[Item<'_>],
        faults: &mut Vec<FaultAt<'_>>,
        is_told_otherwise: bool,
    ) -> Option<Self> {
        let start = faults.first()?.0;
        let rules = faults
            .iter()
            .fold(0u64, |rules, (_, rule, _)| rules | 1 << rule);
        let mut first_of: HashMap<(u16, Key), usize> = HashMap::new();
        let mut failed: HashSet<(usize, u16)> = HashSet::new();
        faults.retain(|&(place, rule, _)| {
            let Some(key) = items[place].key() else {
                return true;
            };
            let is_first = *first_of.entry((rule, key.clone())).or_insert(place) == place;
            if !is_first {
                failed.insert((place, rule));
            }
            is_first
        });
        let mut found = (!failed.is_empty()).then_some(Self { seen: None });
        for (place, item) in items.iter().enumerate().skip(start) {
            let Some(key) = item.key() else { continue };
            for rule in bits(item.rules & rules) {
                let rule = rule as u16;
                let first = first_of.get(&(rule, key.clone()));
                if first.is_none_or(|&first| first >= place) {
                    continue;
                }
                // Its own error has undone what it did, and waiting it does nothing either.
                if is_told_otherwise || !failed.contains(&(place, rule)) {
                    return Some(Self {
                        seen: Some((place, rule)),
                    });
                }
                found = Some(Self { seen: None });
            }
        }
        found
    }
}

impl Engine {
    /// Deals with the errors that rules returned. If something is given the call must be made again, without some items, because they
    /// came after a parked change of the same key or after a rule's stop.
    ///
    /// What a rule did with such an item others of the plugin have seen behind it. So faults only count that stand before the first of these
    /// items: where there are others, what stands before it goes first.
    pub(super) fn take_faults(
        &mut self,
        plugin: usize,
        items: &mut [Item<'_>],
        places: &[u32],
        effects: &Effects,
        output: &mut Output<'_>,
    ) -> Option<Outcome> {
        let on_error = self.plugins[plugin].options.on_error;
        // What comes behind a fault of its key is parked behind it, or told otherwise.
        let is_keyed = output.retry.is_some() || on_error != OnError::Halt;
        let mut faults: Vec<FaultAt<'_>> = Vec::new();
        for fault in &effects.faults {
            let place = places[fault.item as usize] as usize;
            if items[place].rules & 1 << fault.rule != 0 {
                faults.push((place, fault.rule, &fault.message));
            }
        }
        if faults.is_empty() {
            return None;
        }
        // In the order in which they came about: the rules of an item are called in theirs.
        faults.sort_by_key(|&(place, rule, _)| (place, rule));
        let mut again = false;
        if is_keyed {
            let is_told_otherwise = output.retry.is_none() && on_error == OnError::Skip;
            let behind = Behind::of(items, &mut faults, is_told_otherwise);
            again = behind.is_some();
            if let Some(Behind { seen: Some(first) }) = behind
                && faults.iter().any(|&(place, rule, _)| (place, rule) > first)
            {
                return Some(Outcome::Cut(first.0));
            }
        }
        if output.retry.is_none()
            && on_error != OnError::Halt
            && self.trip(plugin, items, places, &faults, output.write_set)
        {
            return Some(Outcome::Again(true));
        }
        for (place, rule, message) in faults {
            let number = usize::from(rule);
            let state = self.state_of(plugin, number);
            let was_held = self.states[state].timer_lines > 0;
            self.verdict_of(plugin, number, &items[place], message, output);
            // What is run again after it was parked stops no rule, and asks for none that runs.
            if output.retry.is_none() && self.states[state].record.status != RuleStatus::Running {
                return Some(Outcome::Again(true));
            }
            items[place].rules &= !(1 << rule);
            // One that was set again in this call, under the same key, has not waited.
            let holds = self.states[state].timer_lines > 0;
            if holds && !was_held && place + 1 < items.len() {
                return Some(Outcome::Again(true));
            }
        }
        again.then_some(Outcome::Again(true))
    }

    /// Pauses the first rule that faults on most of what it gets, before its first fault of this call. True if there is one.
    fn trip(
        &mut self,
        plugin: usize,
        items: &[Item<'_>],
        places: &[u32],
        faults: &[FaultAt<'_>],
        write_set: &mut WriteSet,
    ) -> bool {
        let mut looked_at = 0u64;
        for &(place, rule, message) in faults {
            let bit = 1u64 << rule;
            if looked_at & bit != 0 {
                continue;
            }
            looked_at |= bit;
            let count = faults.iter().filter(|(_, other, _)| *other == rule).count();
            let state = self.state_of(plugin, rule.into());
            let window = self.states[state].window;
            // Cheap where there are few faults, as nearly always.
            if count as u64 * 100
                < self.limits.breaker_changes_min * self.limits.breaker_faults_percent
                && window.trips(0, count as u64, &self.limits).is_none()
            {
                continue;
            }
            let handled = places
                .iter()
                .filter(|&&place| items[place as usize].rules & bit != 0)
                .count();
            let reason = window.trips(handled as u64, count as u64, &self.limits);
            if let Some(reason) = reason {
                let item = &items[place];
                self.stop_faulting(plugin, rule.into(), item, &reason, message, write_set);
                return true;
            }
        }
        false
    }

    fn stop_faulting(
        &mut self,
        plugin: usize,
        rule: usize,
        item: &Item<'_>,
        reason: &str,
        message: &str,
        write_set: &mut WriteSet,
    ) {
        let place = self.state_of(plugin, rule);
        let reason = format!("{reason}, on {item} with: {message}");
        self.states[place].fault(message);
        self.pause_before(plugin, place, item, reason, write_set);
    }

    /// Pauses the rules of an item before it, since the source no longer has a column as they read it.
    pub(super) fn stop_lacking(
        &mut self,
        plugin: usize,
        item: &Item<'_>,
        column: &str,
        what: &str,
        write_set: &mut WriteSet,
    ) {
        let Body::Change { change, .. } = &item.body else {
            return;
        };
        let table = self.catalog.load().table(change.table).name.clone();
        for rule in bits(item.rules) {
            let place = self.state_of(plugin, rule);
            let reason = format!(
                "column {column} of table {table}, {what} since change {}: load a version that fits, or resume the rule to have such changes parked",
                item.seq
            );
            self.pause_before(plugin, place, item, reason, write_set);
        }
    }

    /// Pauses a rule right before an item; `place` is that of its state.
    pub(super) fn pause_before(
        &mut self,
        plugin: usize,
        place: usize,
        item: &Item<'_>,
        reason: String,
        write_set: &mut WriteSet,
    ) {
        let state = &mut self.states[place];
        tracing::error!(rule = state.full_name(), reason, "paused");
        state.record.version = self.plugins[plugin].version;
        self.stop_before(place, item, RuleStatus::Tripped(reason), write_set);
    }

    /// Stops a rule right before an item. What was parked of the items behind it, since it stands behind an earlier change of
    /// its key, is taken back: the rule will come to it again. So is a timer, which is set again; one that came due at
    /// the same place stays parked, since nothing will hand it over a second time.
    fn stop_before(
        &mut self,
        place: usize,
        item: &Item<'_>,
        status: RuleStatus,
        write_set: &mut WriteSet,
    ) {
        let watermark = self.batch_watermark;
        self.dealt_with += 1;
        let Self { states, timers, .. } = self;
        let state = &mut states[place];
        if state.record.at_head {
            state.record.cursor_watermark = watermark;
        }
        state.stop_before(item.order(), status);
        state.sets_until = Some(match item.body {
            Body::Timer { .. } => item.order().right_before(),
            // What comes due before it isn't its doing.
            _ => item.order(),
        });
        self.schedule_dirty = true;
        let WriteSet {
            dead_letters,
            gaps,
            timers: timer_writes,
            ..
        } = write_set;
        // Keys of which a change has been parked: the first one of each closed the gap, if there was one.
        let mut keys: HashSet<Vec<u8>> = HashSet::new();
        dead_letters.retain(|letter| {
            let is_its_own =
                letter.plugin == state.record.plugin && letter.rule == state.record.rule;
            let is_behind = match &letter.subject {
                Subject::Change(_) => Order::of(letter) >= item.order(),
                Subject::Timer(_) => Order::of(letter) > item.order(),
            };
            let is_first = match &letter.subject {
                Subject::Change(change) if is_its_own && letter.state != LetterState::Skipped => {
                    keys.insert(change.key.clone())
                }
                _ => false,
            };
            if !is_its_own || !is_behind {
                return true;
            }
            state.unpark(&Line::of(&letter.subject), letter.id);
            state.skipped.retain(|skipped| skipped.id != letter.id);
            if let Subject::Change(change) = &letter.subject {
                // The gap that this change left is before it, now that it comes again.
                if let Some(place) = state.gap_places.get_mut(&change.key[..])
                    && *place == Order::of(letter)
                {
                    *place = place.right_before();
                }
            }
            let change = match &letter.subject {
                Subject::Change(change) => change,
                Subject::Timer(timer) => {
                    let write = TimerWrite {
                        plugin: letter.plugin.clone(),
                        rule: letter.rule.clone(),
                        key: timer.key.clone(),
                        due: Some(timer.due),
                    };
                    timers.apply(&write);
                    timer_writes.push(write);
                    return false;
                }
            };
            let closed = |gap: &Gap| {
                gap.seen.is_none()
                    && gap.key == change.key
                    && gap.rule == letter.rule
                    && gap.plugin == letter.plugin
            };
            // What the rule last saw was said by the letter alone.
            if is_first && gaps.iter().any(closed) {
                gaps.push(Gap {
                    plugin: letter.plugin.clone(),
                    rule: letter.rule.clone(),
                    key: change.key.clone(),
                    seen: Some(change.before.clone()),
                });
                let seen = change.before.clone().map(Row::from);
                state.gaps.insert(Key::copy_from_slice(&change.key), seen);
            }
            false
        });
    }

    /// Does with the fault of an item's one rule what the plugin's `on_error` says, unless the rule faults too often.
    pub(super) fn verdict(
        &mut self,
        plugin: usize,
        item: &Item<'_>,
        message: &str,
        timed_out: bool,
        output: &mut Output<'_>,
    ) {
        for rule in bits(item.rules) {
            if output.retry.is_none() {
                let state = self.state_of(plugin, rule);
                if timed_out {
                    self.states[state].window.add_time_out();
                }
                let trips = self.states[state].window.trips(1, 1, &self.limits);
                if let Some(reason) = trips
                    && self.plugins[plugin].options.on_error != OnError::Halt
                {
                    let write_set = &mut *output.write_set;
                    self.stop_faulting(plugin, rule, item, &reason, message, write_set);
                    continue;
                }
            }
            self.verdict_of(plugin, rule, item, message, output);
        }
    }

    fn verdict_of(
        &mut self,
        plugin: usize,
        rule: usize,
        item: &Item<'_>,
        message: &str,
        output: &mut Output<'_>,
    ) {
        if let Some(failed) = &mut output.retry {
            self.dealt_with += 1;
            if let Some(line) = item.line() {
                failed.insert(line, (item.order(), message.to_owned()));
            }
            return;
        }
        let place = self.state_of(plugin, rule);
        let linked = &self.plugins[plugin];
        let name = linked.rules[rule].full_name.clone();
        self.states[place].fault(message);
        self.states[place].window.add(1, 1, &self.limits);
        let seq = item.seq.0;
        let what = match item.body {
            Body::Timer { .. } => "timer",
            _ => "change",
        };
        // A rule that fails often would fill the log; each change is among the dead letters all the same.
        let faults = self.states[place].record.faults;
        let is_told = faults <= TOLD_MAX || faults.is_power_of_two();
        match linked.options.on_error {
            OnError::Skip => {
                if is_told {
                    tracing::warn!(
                        rule = &*name,
                        seq,
                        faults,
                        error = message,
                        "skipped a {what}"
                    );
                }
                self.skip(plugin, rule, item, message, output.write_set);
            }
            OnError::Park => {
                if is_told {
                    tracing::warn!(
                        rule = &*name,
                        seq,
                        faults,
                        error = message,
                        "parked a {what}"
                    );
                }
                let state = LetterState::Faulted;
                self.park(plugin, rule, item, message, state, output.write_set);
            }
            OnError::Halt => {
                tracing::error!(rule = &*name, seq, error = message, "halted");
                self.states[place].record.version = self.plugins[plugin].version;
                let status = RuleStatus::Halted(format!("faulted on {item}: {message}"));
                self.stop_before(place, item, status, output.write_set);
            }
        }
    }
}
