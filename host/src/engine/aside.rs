//! What is set aside: changes and timers that are parked or skipped, and what a rule must be told for it later.
//!
//! A parked change keeps every later one of its key behind it, for that rule. A skipped or dropped one leaves a *gap*: the row as
//! the rule last saw it, which the next change of the row is told with as the row before; so a running total never takes
//! back what it never counted. Where there is no room for more the rule is paused right before it.
//!
//! A timer that is parked or skipped is set no more: what is parked is its firing. One that is set again under its key is another, and
//! waits behind it when it comes due. It leaves no gap, since nothing is told of it but itself.

use crate::{
    change::{Change, Key, Op},
    row::Row,
    store::{DeadLetter, Gap, LetterState, Subject, TimerWrite, WriteSet},
};

use super::{
    Engine,
    items::{Body, Item},
    state::{Letter, Order, Skipped},
};

impl Engine {
    /// Sets a change or a timer aside behind a parked one of its key.
    pub(super) fn park_behind(
        &mut self,
        plugin: usize,
        rule: usize,
        item: &Item<'_>,
        write_set: &mut WriteSet,
    ) {
        let message = match item.body {
            Body::Timer { .. } => "waits behind a parked timer of the same key",
            _ => "waits behind a parked change of the same key",
        };
        let state = LetterState::Waiting;
        self.park(plugin, rule, item, message, state, write_set);
    }

    pub(super) fn park(
        &mut self,
        plugin: usize,
        rule: usize,
        item: &Item<'_>,
        message: &str,
        letter_state: LetterState,
        write_set: &mut WriteSet,
    ) {
        let (Some(subject), Some(line)) = (item.subject(), item.line()) else {
            return;
        };
        let place = self.state_of(plugin, rule);
        let bytes = DeadLetter::bytes_of(&subject, message);
        let version = self.plugins[plugin].version;
        let state = &mut self.states[place];
        if let Some(limit) = state.is_full(bytes, &self.limits) {
            let reason = format!(
                "{} dead letters are kept, and limits.{limit} allows no more: retry or drop some, then resume the rule",
                state.parked_count
            );
            self.pause_before(plugin, place, item, reason, write_set);
            return;
        }
        let id = self.write_letter(
            place,
            version,
            item,
            subject,
            message,
            letter_state,
            write_set,
        );
        let state = &mut self.states[place];
        state.dirty = true;
        let (order, cause) = (item.order(), item.cause);
        let letter = Letter {
            id,
            order,
            cause,
            bytes,
        };
        state.park(line, letter);
        match item.key() {
            // The parked change says now what the rule last saw.
            Some(key) => self.close_gap(place, key, write_set),
            None => self.spend(place, item, write_set),
        }
    }

    /// A timer that is set aside is set no more.
    fn spend(&mut self, place: usize, item: &Item<'_>, write_set: &mut WriteSet) {
        let Body::Timer { key, .. } = &item.body else {
            return;
        };
        let record = &self.states[place].record;
        let write = TimerWrite {
            plugin: record.plugin.clone(),
            rule: record.rule.clone(),
            key: key.clone(),
            due: None,
        };
        self.timers.apply(&write);
        write_set.timers.push(write);
    }

    /// Passes a change or a timer over, but for what the rule must be told with the row's next change.
    pub(super) fn skip(
        &mut self,
        plugin: usize,
        rule: usize,
        item: &Item<'_>,
        message: &str,
        write_set: &mut WriteSet,
    ) {
        let Some(subject) = item.subject() else {
            return;
        };
        let place = self.state_of(plugin, rule);
        let version = self.plugins[plugin].version;
        let state = &mut self.states[place];
        if let Body::Change { change, .. } = &item.body
            && leaves_gap(change)
            && !state.gaps.contains_key(&change.key)
            && state.gaps.len() >= self.limits.dead_letters_max
        {
            let reason = format!(
                "it has missed changes of {} rows that have not changed since, and limits.dead_letters_max allows no more: load a \
                 version that takes them, or raise the limit, then resume the rule",
                state.gaps.len()
            );
            self.pause_before(plugin, place, item, reason, write_set);
            return;
        }
        let skipped = LetterState::Skipped;
        let id = self.write_letter(place, version, item, subject, message, skipped, write_set);
        let at = (self.clock)();
        let state = &mut self.states[place];
        state.skipped.push_back(Skipped { id, at });
        while state.skipped.len() > self.limits.skipped_kept_max {
            let oldest = state.skipped.pop_front();
            write_set
                .settled_dead_letters
                .extend(oldest.map(|skipped| skipped.id));
        }
        match &item.body {
            Body::Change { change, .. } => {
                self.open_gap(place, change, Some(item.order()), write_set);
            }
            _ => self.spend(place, item, write_set),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one record")]
    fn write_letter(
        &mut self,
        state: usize,
        version: u32,
        item: &Item<'_>,
        subject: Subject,
        message: &str,
        letter_state: LetterState,
        write_set: &mut WriteSet,
    ) -> u64 {
        self.last_dead_letter += 1;
        self.dealt_with += 1;
        let record = &self.states[state].record;
        write_set.dead_letters.push(DeadLetter {
            id: self.last_dead_letter,
            plugin: record.plugin.clone(),
            rule: record.rule.clone(),
            version,
            seq: item.seq,
            nth: item.nth,
            cause: item.cause,
            state: letter_state,
            subject,
            time: item.time,
            error: message.to_owned(),
            parked_at: (self.clock)(),
        });
        self.last_dead_letter
    }

    /// Notes that a rule will not get this change, so that it is told the next one of the row as from what it last saw.
    pub(super) fn open_gap(
        &mut self,
        state: usize,
        change: &Change,
        place: Option<Order>,
        write_set: &mut WriteSet,
    ) {
        if !leaves_gap(change) {
            return;
        }
        // Whoever passes a change over has made sure that there is room.
        let state = &mut self.states[state];
        write_set.gaps.push(Gap {
            plugin: state.record.plugin.clone(),
            rule: state.record.rule.clone(),
            key: change.key.to_vec(),
            seen: Some(change.before.as_ref().map(|row| row.to_vec())),
        });
        // Of its own: the row's bytes are a slice of a whole batch's.
        let seen = change.before.as_ref().map(|row| Row::copy_from_slice(row));
        let key = Key::copy_from_slice(&change.key);
        match place {
            Some(place) => drop(state.gap_places.insert(key.clone(), place)),
            None => drop(state.gap_places.remove(&key)),
        }
        state.gaps.insert(key, seen);
    }

    /// The rule knows the row again.
    pub(super) fn close_gap(&mut self, state: usize, key: &[u8], write_set: &mut WriteSet) {
        let state = &mut self.states[state];
        state.gap_places.remove(key);
        if state.gaps.remove(key).is_some() {
            write_set.gaps.push(Gap {
                plugin: state.record.plugin.clone(),
                rule: state.record.rule.clone(),
                key: key.to_vec(),
                seen: None,
            });
        }
    }
}

/// Whether a rule that doesn't get this change no longer knows the row. Without a mirror the row before may not be known; then
/// nothing can be mended.
fn leaves_gap(change: &Change) -> bool {
    let is_known = change.before.is_some() || change.op == Op::Insert;
    is_known && change.before != change.after
}
