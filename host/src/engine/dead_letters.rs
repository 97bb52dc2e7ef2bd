//! Parked changes and timers: run again, or given up.
//!
//! A retry is work like catching up: it goes on in steps between live batches, a bounded number of keys in each, every
//! key's changes in order and in one write set. What a step finds parked is what it runs, so that a change which came to stand
//! behind the others meanwhile goes with them.
//!
//! A change that is retried sees other tables as of itself. A timer sees them as they are now, as one does whose rule stood still when
//! it came due; only its own time is the old one. Timers go one a call: a guest takes the second of a key for one that the first
//! has moved.

use std::collections::VecDeque;

use crossbeam_channel::Sender;

use crate::{
    change::{Change, Op, Seq},
    store::{DeadLetter, LetterState, ParkedChange, Reader, Subject, WriteSet},
};

use super::{
    ControlError, Engine, Fatal,
    items::{Body, Item},
    run::{Failed, Output},
    state::{Letter, Line, Order, Skipped},
};

/// What a rule has parked in one line, up to a number.
#[derive(Debug)]
pub(super) struct Chosen {
    /// The rule's full name: its place among the states may change meanwhile.
    rule: String,
    line: Line,
    up_to: u64,
}

/// A retry under way.
pub(super) struct Retry {
    left: VecDeque<Chosen>,
    settled: u64,
    kept: u64,
    reply: Option<Sender<Result<(u64, u64), ControlError>>>,
}

impl Retry {
    pub(super) fn new(
        left: VecDeque<Chosen>,
        reply: Sender<Result<(u64, u64), ControlError>>,
    ) -> Self {
        Self {
            left,
            settled: 0,
            kept: 0,
            reply: Some(reply),
        }
    }
}

/// One rule's part of a step.
struct Batch {
    state: usize,
    letters: Vec<DeadLetter>,
}

impl Engine {
    /// Chooses what to retry: all, those of a rule, or one with those before it of the same key.
    pub(super) fn begin_retry(
        &self,
        rule: Option<usize>,
        id: Option<u64>,
    ) -> Result<VecDeque<Chosen>, ControlError> {
        let mut found = VecDeque::new();
        for (state, keys) in self.chosen(rule, id)? {
            if self.runs_as(state).is_none() {
                return Err(ControlError::Conflict(format!(
                    "what rule {} has parked can't be retried: its plugin isn't loaded",
                    self.states[state].full_name()
                )));
            }
            for (_, line) in keys {
                found.push_back(Chosen {
                    rule: self.states[state].full_name(),
                    line,
                    up_to: id.unwrap_or(u64::MAX),
                });
            }
        }
        Ok(found)
    }

    /// Takes one step with the oldest retry. False if there is none.
    pub(super) fn step_retry(&mut self) -> Result<bool, Fatal> {
        let Some(mut retry) = self.retries.pop_front() else {
            return Ok(false);
        };
        if !retry.left.is_empty() {
            // What is parked is read from the disk.
            self.settle_all()?;
        }
        let of_changes = retry.left.iter();
        let of_changes = of_changes.filter(|chosen| !chosen.line.is_of_timers());
        let oldest = of_changes.filter_map(|chosen| {
            let state = *self.state_places.get(&chosen.rule)?;
            let letters = self.states[state].parked.get(&chosen.line)?;
            letters.iter().map(|letter| letter.cause).min()
        });
        if let Some(oldest) = oldest.min()
            && !self.reach_back(oldest)?
        {
            self.retries.push_front(retry);
            return Ok(true);
        }
        let max = self.limits.batch_changes_max.max(1);
        let mut batches: Vec<Batch> = Vec::new();
        let mut taken = 0;
        while taken < max
            && let Some(chosen) = retry.left.pop_front()
        {
            let letters = self.letters_of(&chosen)?;
            taken += letters.len();
            let Some(&state) = self.state_places.get(&chosen.rule) else {
                continue;
            };
            match batches.iter_mut().find(|batch| batch.state == state) {
                Some(batch) => batch.letters.extend(letters),
                None => batches.push(Batch { state, letters }),
            }
        }
        let (settled, kept) = self.run_letters(batches)?;
        retry.settled += settled;
        retry.kept += kept;
        if !retry.left.is_empty() {
            self.retries.push_front(retry);
        } else if let Some(reply) = retry.reply {
            self.answer(reply, Ok((retry.settled, retry.kept)));
            self.post_status();
        }
        Ok(true)
    }

    /// Runs parked changes and timers through their rules; gives how many went through and how many stay.
    fn run_letters(&mut self, batches: Vec<Batch>) -> Result<(u64, u64), Fatal> {
        let (mut settled, mut kept) = (0, 0);
        if batches.is_empty() {
            return Ok((settled, kept));
        }
        let mut write_set = WriteSet::default();
        let mut derived = Vec::new();
        let seq = self.last_seq.next();
        self.view_mut().begin_batch(seq, 0);
        for Batch { state, mut letters } in batches {
            let Some((plugin, rule, input)) = self.runs_as(state) else {
                kept += letters.len() as u64;
                continue;
            };
            // Rows of a table that has been rebuilt since can't be read as the new one's, nor timers by a rule that is now called
            // for changes: they can only be dropped.
            let table = input.map(|input| self.plugins[plugin].tables[usize::from(input)].id);
            let parked = letters.len() as u64;
            letters.retain(|letter| match &letter.subject {
                Subject::Change(change) => table == Some(change.table),
                Subject::Timer(_) => table.is_none(),
            });
            kept += parked - letters.len() as u64;
            match input {
                Some(_) => letters.sort_by_key(Order::of),
                None => letters.sort_by_key(|letter| letter.id),
            }
            let changes: Vec<Change> = letters.iter().filter_map(DeadLetter::change).collect();
            let (items, part_max): (Vec<Item<'_>>, usize) = match input {
                Some(input) => {
                    let items = changes.iter().zip(&letters).map(|(change, letter)| {
                        Item::of_change(change, letter.nth, input, 1 << rule)
                    });
                    (items.collect(), self.part_max(plugin, rule))
                }
                None => (timers_again(&letters, rule as u16, seq), 1),
            };
            let orders: Vec<Order> = items.iter().map(Item::order).collect();
            let mut failed = Failed::new();
            let mut output = Output {
                write_set: &mut write_set,
                derived: &mut derived,
                log_seq: Some(seq),
                timers: 0,
                part_max,
                retry: Some(&mut failed),
            };
            self.run_items(plugin, items, i64::MIN, &mut output)?;
            let version = self.plugins[plugin].version;
            for (letter, order) in letters.into_iter().zip(orders) {
                let line = Line::of(&letter.subject);
                match failed.get(&line) {
                    Some((first, _)) if order > *first => kept += 1,
                    Some((first, message)) if order == *first => {
                        kept += 1;
                        let letter = DeadLetter {
                            state: LetterState::Faulted,
                            version,
                            error: message.clone(),
                            parked_at: (self.clock)(),
                            ..letter
                        };
                        let state = &mut self.states[state];
                        state.fault(message);
                        state.rewritten(&line, letter.id, letter.bytes());
                        write_set.dead_letters.push(letter);
                    }
                    _ => {
                        self.states[state].unpark(&line, letter.id);
                        write_set.settled_dead_letters.push(letter.id);
                        settled += 1;
                    }
                }
            }
        }
        self.last_seq = seq;
        self.run_schedule(&[], None, &mut write_set, &mut derived)?;
        self.view_mut().end_batch();
        write_set.log = derived;
        self.finish(write_set, 0);
        Ok((settled, kept))
    }

    /// Gives up what is parked: of changes, the next one of each row is told to the rule as from what it last saw.
    pub(super) fn drop_dead_letters(
        &mut self,
        rule: Option<usize>,
        id: Option<u64>,
    ) -> Result<Result<u64, ControlError>, Fatal> {
        if let Err(error) = self.room_to_drop(rule, id) {
            return Ok(Err(error));
        }
        let mut write_set = WriteSet::default();
        // Skipped changes are only kept to be read.
        for (place, state) in self.states.iter_mut().enumerate() {
            if rule.is_none_or(|rule| rule == place) {
                let is_chosen = |skipped: &Skipped| id.is_none_or(|id| id == skipped.id);
                let (gone, stay): (VecDeque<Skipped>, _) =
                    state.skipped.iter().partition(|skipped| is_chosen(skipped));
                state.skipped = stay;
                let gone = gone.into_iter().map(|skipped| skipped.id);
                write_set.settled_dead_letters.extend(gone);
            }
        }
        let chosen = match self.chosen(rule, id) {
            Ok(chosen) => chosen,
            Err(_) if !write_set.settled_dead_letters.is_empty() => Vec::new(),
            Err(error) => return Ok(Err(error)),
        };
        self.settle_all()?;
        let snapshot = self.view.snapshot().clone();
        let mut dropped = write_set.settled_dead_letters.len() as u64;
        let mut go_on = VecDeque::new();
        for (state, lines) in chosen {
            for (letters, line) in lines {
                // All of a line, or one.
                let first = letters
                    .iter()
                    .position(|letter| id.is_none_or(|id| id == letter.id));
                let Some(first) = first else { continue };
                let len = id.map_or(letters.len(), |_| 1);
                let (given_up, behind) = letters[first..].split_at(len);
                let next = match behind.first() {
                    Some(next) => Some(letter_of(&snapshot, next)?),
                    None => None,
                };
                // What only waited for the one that is gone has nothing to wait for.
                let waited = next.as_ref().map(|next| next.state) == Some(LetterState::Waiting);
                if first == 0 && waited && self.runs_as(state).is_some() {
                    go_on.push_back(Chosen {
                        rule: self.states[state].full_name(),
                        line: line.clone(),
                        up_to: u64::MAX,
                    });
                }
                for letter in given_up {
                    self.states[state].unpark(&line, letter.id);
                    write_set.settled_dead_letters.push(letter.id);
                    dropped += 1;
                }
                let of_change = |letter: &Letter| -> Result<Option<Change>, Fatal> {
                    Ok(letter_of(&snapshot, letter)?.change())
                };
                if let [first, .., last] | [first @ last] = given_up
                    && let (Some(first), Some(last)) = (of_change(first)?, of_change(last)?)
                {
                    let change = Change {
                        after: last.after,
                        ..first
                    };
                    match next {
                        None => self.open_gap(state, &change, None, &mut write_set),
                        Some(next) => {
                            let next = told_from(&change, next);
                            self.states[state].rewritten(&line, next.id, next.bytes());
                            write_set.dead_letters.push(next);
                        }
                    }
                }
                self.states[state].dirty = true;
            }
        }
        self.finish(write_set, 0);
        if !go_on.is_empty() {
            self.retries.push_back(Retry {
                left: go_on,
                settled: 0,
                kept: 0,
                reply: None,
            });
        }
        Ok(Ok(dropped))
    }

    /// Whether what a rule last saw of the rows whose changes are given up can be kept.
    fn room_to_drop(&self, rule: Option<usize>, id: Option<u64>) -> Result<(), ControlError> {
        let max = self.limits.dead_letters_max;
        // That nothing is chosen is said later.
        for (state, keys) in self.chosen(rule, id).unwrap_or_default() {
            let is_given_up = |letters: &[Letter]| id.is_none() || letters.len() == 1;
            let keys = keys
                .iter()
                .filter(|(letters, line)| !line.is_of_timers() && is_given_up(letters));
            let (opened, open) = (keys.count(), self.states[state].gaps.len());
            if opened > 0 && opened + open > max {
                return Err(ControlError::Conflict(format!(
                    "rule {} has missed changes of {open} rows that have not changed since, and would miss those of {opened} more; \
                     limits.dead_letters_max allows {max}: retry the parked changes, drop fewer, or raise the limit",
                    self.states[state].full_name()
                )));
            }
        }
        Ok(())
    }

    /// The plugin and the rule that a state is of, and the rule's input if it is called for changes, if it is loaded.
    fn runs_as(&self, state: usize) -> Option<(usize, usize, Option<u16>)> {
        let name = self.states[state].full_name();
        self.plugins.iter().enumerate().find_map(|(place, plugin)| {
            let mut rules = plugin.rules.iter();
            let rule = rules.position(|rule| *rule.full_name == *name)?;
            Some((place, rule, plugin.rules[rule].input))
        })
    }

    /// What is parked and chosen, by rule and line, each in order; lines in the order of their first.
    #[expect(clippy::type_complexity, reason = "said in the sentence above")]
    fn chosen(
        &self,
        rule: Option<usize>,
        id: Option<u64>,
    ) -> Result<Vec<(usize, Vec<(Vec<Letter>, Line)>)>, ControlError> {
        let mut chosen = Vec::new();
        for (place, state) in self.states.iter().enumerate() {
            if rule.is_some_and(|rule| rule != place) {
                continue;
            }
            let mut lines: Vec<(Vec<Letter>, Line)> = state
                .parked
                .iter()
                .filter(|(_, letters)| {
                    id.is_none_or(|id| letters.iter().any(|letter| letter.id == id))
                })
                .map(|(line, letters)| (letters.clone(), line.clone()))
                .collect();
            lines.sort_by_key(|(letters, _)| letters.first().map(|first| (first.order, first.id)));
            if !lines.is_empty() {
                chosen.push((place, lines));
            }
        }
        match id {
            Some(id) if self.states.iter().any(|state| state.has_skipped(id)) => {
                Err(ControlError::Conflict(format!(
                    "dead letter {id} was skipped, and is kept only to be read"
                )))
            }
            Some(id) if chosen.is_empty() => Err(ControlError::NoSuchDeadLetter(id)),
            _ => Ok(chosen),
        }
    }

    /// What is parked in a line, from the disk.
    fn letters_of(&self, chosen: &Chosen) -> Result<Vec<DeadLetter>, Fatal> {
        let state = self.state_places.get(&chosen.rule);
        let Some(letters) = state.and_then(|&state| self.states[state].parked.get(&chosen.line))
        else {
            return Ok(Vec::new());
        };
        let end = letters
            .iter()
            .position(|letter| letter.id == chosen.up_to)
            .map_or(letters.len(), |place| place + 1);
        let snapshot = self.view.snapshot();
        letters[..end]
            .iter()
            .map(|letter| letter_of(snapshot, letter))
            .collect()
    }
}

/// A parked change or timer, from the disk.
fn letter_of(snapshot: &Reader, letter: &Letter) -> Result<DeadLetter, Fatal> {
    let found = snapshot.dead_letter(letter.id)?;
    found.ok_or_else(|| Fatal::Store(format!("dead letter {} is gone", letter.id)))
}

/// What stands behind changes that are dropped, told as from the row before them.
fn told_from(dropped: &Change, next: DeadLetter) -> DeadLetter {
    let Subject::Change(change) = next.subject else {
        return next;
    };
    let before = dropped.before.as_ref().map(|row| row.to_vec());
    DeadLetter {
        subject: Subject::Change(ParkedChange {
            op: Op::between(&before, &change.after),
            before,
            ..change
        }),
        ..next
    }
}

/// The items of parked timers, in this order, in a write set with this seq.
fn timers_again<'a>(letters: &[DeadLetter], rule: u16, seq: Seq) -> Vec<Item<'a>> {
    let timers = letters.iter().filter_map(|letter| match &letter.subject {
        Subject::Timer(timer) => Some((timer, letter.time)),
        Subject::Change(_) => None,
    });
    let items = timers.zip(0..).map(|((timer, time), nth)| Item {
        seq,
        nth,
        cause: seq,
        time,
        rules: 1 << rule,
        body: Body::Timer {
            rule,
            key: timer.key.clone(),
            due: timer.due,
        },
    });
    items.collect()
}
