//! Changes of two tables from a seed, some of them poisoned, and what every plugin must have made of them.

use std::collections::BTreeMap;

use rulemill::change::RawOp;
use rulemill_tests::{random::Random, rig::TestChange};
use rulemill_wire::ValueRef;

use crate::copier::POISON;

/// Changes of one batch: no more than the frozen guest can take, and enough for a search to take its time.
pub(crate) const BATCH_CHANGES: u64 = 64;
/// Batches of a run.
const BATCHES: usize = 24;
/// Batches that hold a poisoned change.
const POISONED: usize = 4;

/// A change of `numbers` or `letters`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    table: &'static str,
    id: i64,
    /// The row's value; none: the row goes.
    value: Option<i64>,
}

impl Step {
    /// The change as the engine gets it. The value stands there twice; where it is poison, once as text.
    pub(crate) fn change(&self) -> TestChange<'static> {
        let mut row = vec![("id", ValueRef::I64(self.id))];
        if let Some(value) = self.value {
            row.push(("value", ValueRef::I64(value)));
            let note = match value {
                POISON => ValueRef::Text("no number"),
                value => ValueRef::I64(value),
            };
            row.push(("note", note));
        }
        TestChange {
            table: self.table,
            op: match self.value {
                Some(_) => RawOp::Upsert,
                None => RawOp::Delete,
            },
            row,
            time: None,
        }
    }
}

/// A key of its own, so that the first fault stands alone.
const ALONE: i64 = 40;

/// A run's batches. The first is one poisoned change and nothing else: the measure of what one fault takes.
pub(crate) fn batches(seed: u64) -> Vec<Vec<Step>> {
    let mut random = Random::new(seed);
    let mut batches: Vec<Vec<Step>> = (0..BATCHES)
        .map(|_| (0..BATCH_CHANGES).map(|_| step(&mut random)).collect())
        .collect();
    let poisoned = |id| Step {
        table: "numbers",
        id,
        value: Some(POISON),
    };
    for number in 0..POISONED {
        let batch = 1 + number * BATCHES / POISONED;
        let place = random.below(BATCH_CHANGES) as usize;
        // Each of another key, whose later changes wait.
        batches[batch][place] = poisoned(number as i64);
    }
    batches.insert(0, vec![poisoned(ALONE)]);
    batches
}

fn step(random: &mut Random) -> Step {
    Step {
        table: if random.one_in(4) {
            "letters"
        } else {
            "numbers"
        },
        id: random.between(0, 30),
        value: (!random.one_in(6)).then(|| random.between(0, 500)),
    }
}

/// A change that is set aside: the row's value, and whether it is the one at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parked {
    pub(crate) value: Option<i64>,
    pub(crate) faulty: bool,
}

/// What is set aside, by key, in order.
pub(crate) type ParkedByKey = BTreeMap<i64, Vec<Parked>>;

/// What the tables must hold.
#[derive(Default)]
pub(crate) struct Expected {
    pub(crate) numbers: BTreeMap<i64, i64>,
    pub(crate) letters: BTreeMap<i64, i64>,
    /// Changes that are changes: what a neighbour handles, each once.
    pub(crate) numbers_changes: u64,
    pub(crate) letters_changes: u64,
    /// The hostile plugin's copy of `numbers`.
    pub(crate) copied: BTreeMap<i64, i64>,
    pub(crate) parked: ParkedByKey,
}

impl Expected {
    /// What there is after these batches.
    pub(crate) fn of(batches: &[Vec<Step>]) -> Self {
        let mut expected = Self::default();
        for step in batches.iter().flatten() {
            expected.apply(step);
        }
        expected
    }

    fn apply(&mut self, step: &Step) {
        let table = match step.table {
            "letters" => &mut self.letters,
            _ => &mut self.numbers,
        };
        if !set(table, step) {
            return;
        }
        if step.table == "letters" {
            self.letters_changes += 1;
            return;
        }
        self.numbers_changes += 1;
        let faulty = step.value == Some(POISON);
        let parked = Parked {
            value: step.value,
            faulty: faulty && !self.parked.contains_key(&step.id),
        };
        match self.parked.get_mut(&step.id) {
            Some(behind) => behind.push(parked),
            None if faulty => drop(self.parked.insert(step.id, vec![parked])),
            None => drop(set(&mut self.copied, step)),
        }
    }

    /// Changes that are set aside, and those among them that are at fault.
    pub(crate) fn counts(&self) -> (u64, u32) {
        let all = || self.parked.values().flatten();
        let faults = all().filter(|parked| parked.faulty).count();
        (all().count() as u64, faults as u32)
    }
}

/// Changes a table; false if the row that goes isn't there, which is no change.
fn set(table: &mut BTreeMap<i64, i64>, step: &Step) -> bool {
    match step.value {
        Some(value) => {
            table.insert(step.id, value);
            true
        }
        None => table.remove(&step.id).is_some(),
    }
}

/// How many poisoned changes a batch has.
pub(crate) fn poisoned(batch: &[Step]) -> u32 {
    batch
        .iter()
        .filter(|step| step.value == Some(POISON))
        .count() as u32
}
