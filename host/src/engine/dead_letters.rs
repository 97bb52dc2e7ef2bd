//! Parked changes: run again, or given up.

use std::collections::BTreeMap;

use crate::{
    change::{Change, Key},
    row::Row,
    store::{DeadLetter, WriteSet},
};

use super::{
    ControlError, Engine, Fatal,
    items::{Body, Item},
    run::Output,
};

impl Engine {
    /// Runs parked changes again through the rules as they are now, each key's in order until one
    /// fails; a key's are settled in one write set. Gives how many went through and how many stay.
    pub(super) fn retry_dead_letters(
        &mut self,
        rule: Option<usize>,
        id: Option<u64>,
    ) -> Result<Result<(u64, u64), ControlError>, Fatal> {
        let by_key = match self.chosen_letters(rule, id)? {
            Ok(by_key) => by_key,
            Err(error) => return Ok(Err(error)),
        };
        let (mut settled, mut kept) = (0, 0);
        for ((state, _), letters) in by_key {
            let name = format!(
                "{}.{}",
                self.states[state].record.plugin, self.states[state].record.rule
            );
            let found = self.plugins.iter().enumerate().find_map(|(place, plugin)| {
                let rule = plugin
                    .rules
                    .iter()
                    .position(|rule| *rule.full_name == *name)?;
                Some((place, rule, plugin.rules[rule].input?))
            });
            let Some((plugin, rule, input)) = found else {
                return Ok(Err(ControlError::Conflict(format!(
                    "the parked changes of rule {name} can't be retried: its plugin isn't loaded"
                ))));
            };
            let (went, stays) = self.retry_key(state, plugin, rule, input, &letters)?;
            settled += went;
            kept += stays;
        }
        Ok(Ok((settled, kept)))
    }

    fn retry_key(
        &mut self,
        state: usize,
        plugin: usize,
        rule: usize,
        input: u16,
        letters: &[DeadLetter],
    ) -> Result<(u64, u64), Fatal> {
        let mut write_set = WriteSet::default();
        let mut derived = Vec::new();
        let seq = self.last_seq.next();
        self.view_mut().begin_batch(0);
        let mut settled = 0;
        for letter in letters {
            let change = Change {
                seq: letter.seq,
                table: letter.table,
                op: letter.op,
                key: Key::copy_from_slice(&letter.key),
                before: letter.before.clone().map(Row::from),
                after: letter.after.clone().map(Row::from),
                time: letter.time,
            };
            let item = Item {
                seq: change.seq,
                time: change.time,
                rules: 1 << rule,
                body: Body::Change {
                    change: &change,
                    table: input,
                    read: false,
                },
            };
            let mut faults = Vec::new();
            let mut output = Output {
                write_set: &mut write_set,
                derived: &mut derived,
                log_seq: Some(seq),
                timers: 0,
                retry: Some(&mut faults),
            };
            self.run_items(plugin, vec![item], &mut output)?;
            if let Some((_, message)) = faults.pop() {
                self.states[state].fault(&message);
                break;
            }
            self.states[state].unpark(&letter.key);
            write_set.settled_dead_letters.push(letter.id);
            settled += 1;
        }
        self.last_seq = seq;
        self.run_schedule(&[], None, &mut write_set, &mut derived)?;
        self.view_mut().end_batch();
        write_set.log = derived;
        self.finish(write_set, 0);
        Ok((settled, letters.len() as u64 - settled))
    }

    /// Gives parked changes up.
    pub(super) fn drop_dead_letters(
        &mut self,
        rule: Option<usize>,
        id: Option<u64>,
    ) -> Result<Result<u64, ControlError>, Fatal> {
        let by_key = match self.chosen_letters(rule, id)? {
            Ok(by_key) => by_key,
            Err(error) => return Ok(Err(error)),
        };
        let mut write_set = WriteSet::default();
        for ((state, key), letters) in by_key {
            for letter in letters {
                self.states[state].unpark(&key);
                self.states[state].dirty = true;
                write_set.settled_dead_letters.push(letter.id);
            }
        }
        let count = write_set.settled_dead_letters.len() as u64;
        self.finish(write_set, 0);
        Ok(Ok(count))
    }

    /// The parked changes that are on disk and chosen, by rule and key, each key's in order.
    #[allow(
        clippy::type_complexity,
        reason = "a map and its error, used twice, here"
    )]
    fn chosen_letters(
        &mut self,
        rule: Option<usize>,
        id: Option<u64>,
    ) -> Result<Result<BTreeMap<(usize, Vec<u8>), Vec<DeadLetter>>, ControlError>, Fatal> {
        let settled: Vec<u64> = self
            .pending
            .iter()
            .flat_map(|write_set| write_set.settled_dead_letters.iter().copied())
            .collect();
        let mut chosen: BTreeMap<_, Vec<DeadLetter>> = BTreeMap::new();
        for letter in self.view.snapshot().clone().dead_letters()? {
            let letter = letter?;
            let name = format!("{}.{}", letter.plugin, letter.rule);
            let Some(&state) = self.state_places.get(&name) else {
                continue;
            };
            if rule.is_some_and(|rule| rule != state)
                || id.is_some_and(|id| id != letter.id)
                || settled.contains(&letter.id)
            {
                continue;
            }
            chosen
                .entry((state, letter.key.clone()))
                .or_default()
                .push(letter);
        }
        for letters in chosen.values_mut() {
            letters.sort_by_key(|letter| letter.seq);
        }
        match id {
            Some(id) if chosen.is_empty() => Ok(Err(ControlError::NoSuchDeadLetter(id))),
            _ => Ok(Ok(chosen)),
        }
    }
}
