//! Alarms at random, some of which fail, in batches of every size: what was rung, what is parked in which order, what is
//! still set must be what a plain list of timers comes to that is gone through change by change.
//!
//! What could go wrong shows only there. A guest fires by itself what its own batch sets: such a timer could fail unnoticed, wait for
//! nobody, or be laid at the door of the change it came before; a parked one could be passed by one that was set later.
//!
//! `RULEMILL_SEED=N` repeats a seed, as a failure prints it.

use std::collections::BTreeMap;

use rulemill::{engine::OnError, store::LetterState};
use rulemill_tests::{
    random::{Random, from_environment},
    rig::{Rig, TestChange},
};

use crate::alarms::{AGAIN, FAULTY, alarm, mend, options, parked, retry, set, start};

const IDS: [&str; 8] = [
    "err-1", "some-1", "some-2", "panic-1", "big-1", "well-1", "twice-1", "twice-2",
];

fn is_bad(id: &str, due: i64) -> bool {
    match id.split_once('-') {
        Some(("well" | "twice", _)) => false,
        // One that waits might not fail.
        Some(("some", _)) => due % 3 == 0,
        _ => true,
    }
}

/// A change of an alarm.
#[derive(Debug, Clone, Copy)]
struct Step {
    id: &'static str,
    delay: Option<i64>,
    version: i64,
    time: i64,
}

impl Step {
    fn change(&self) -> TestChange<'static> {
        alarm(self.id, self.delay, self.version, self.time)
    }
}

fn steps(random: &mut Random, len: usize) -> Vec<Step> {
    let mut there: BTreeMap<&str, bool> = BTreeMap::new();
    let mut time = 1_000;
    let mut steps = Vec::new();
    for version in 0..len as i64 {
        let id = IDS[random.below(IDS.len() as u64) as usize];
        let is_there = there.entry(id).or_default();
        // Some come late.
        time += random.between(-2, 6);
        let goes = *is_there && random.one_in(5);
        let delay = match random.below(6) {
            0 => random.between(-20, 0),
            1 => 50,
            _ => random.between(1, 12),
        };
        *is_there = !goes;
        steps.push(Step {
            id,
            delay: (!goes).then_some(delay),
            version,
            time,
        });
    }
    steps
}

/// A parked or skipped timer: key, when it was due, how it stands.
type Parked = (String, i64, LetterState);

#[derive(Default)]
struct Model {
    timers: BTreeMap<String, i64>,
    /// How often each rang, and when the last was due.
    rung: BTreeMap<String, (i64, i64)>,
    parked: Vec<Parked>,
    watermark: i64,
    skips: bool,
}

impl Model {
    fn apply(&mut self, step: &Step) {
        self.watermark = self.watermark.max(step.time);
        self.fire();
        match step.delay {
            Some(delay) => drop(self.timers.insert(step.id.into(), step.time + delay)),
            None => drop(self.timers.remove(step.id)),
        }
    }

    fn fire(&mut self) {
        loop {
            let due = self.timers.iter().map(|(key, due)| (*due, key.clone()));
            let Some((due, key)) = due.min().filter(|(due, _)| *due <= self.watermark) else {
                return;
            };
            self.timers.remove(&key);
            let is_waiting = self.parked.iter().any(|(parked, ..)| *parked == key);
            let state = match is_bad(&key, due) {
                true if self.skips => LetterState::Skipped,
                _ if is_waiting && !self.skips => LetterState::Waiting,
                true => LetterState::Faulted,
                false => {
                    self.ring(key, due);
                    continue;
                }
            };
            self.parked.push((key, due, state));
        }
    }

    fn ring(&mut self, key: String, due: i64) {
        let rung = self.rung.entry(key.clone()).or_default();
        *rung = (rung.0 + 1, due);
        if key.starts_with("twice") && rung.0 % 2 == 1 {
            self.timers.insert(key, due + AGAIN);
        }
    }

    /// Rings what is parked, in order.
    fn retry(&mut self) {
        for (key, due, _) in std::mem::take(&mut self.parked) {
            self.ring(key, due);
        }
    }

    fn rows(&self) -> Vec<String> {
        let rung = self.rung.iter();
        rung.map(|(id, (times, last))| {
            format!("id={id} times={times} last={last} now={last} loud=0 text=")
        })
        .collect()
    }

    fn set(&self) -> Vec<(String, i64)> {
        let timers = self.timers.iter();
        timers.map(|(key, due)| (key.clone(), *due)).collect()
    }

    fn check(&self, rig: &Rig, context: &str) {
        assert_eq!(parked(rig), self.parked, "{context}");
        assert_eq!(set(rig), self.set(), "{context}");
        assert_eq!(rig.rows("rung").unwrap(), self.rows(), "{context}");
    }
}

/// Runs steps in batches of this size, with a restart, a pause and a retry in vain between, then a retry that mends all.
fn run(steps: &[Step], on_error: OnError, batch: usize, context: &str) {
    let mut options = options(on_error, batch);
    // So many faults are the point here.
    options.limits.breaker_changes_min = 1_000_000;
    let mut rig = start(&options);
    let mut model = Model {
        skips: on_error == OnError::Skip,
        ..Model::default()
    };
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let middle = steps.len() / batch / 2;
    for (number, part) in steps.chunks(batch).enumerate() {
        let changes: Vec<_> = part.iter().map(Step::change).collect();
        rig.apply(&changes).unwrap();
        for step in part {
            model.apply(step);
            *counts.entry(step.id).or_default() += 1;
        }
        // What the batch's last change set may be due at once, and fires with the next.
        model.check(&rig, &format!("{context}, after part {number}"));
        if number == middle {
            let store = rig.stop().unwrap();
            rig = Rig::start(store, &options, &[FAULTY]).unwrap();
            if on_error == OnError::Park {
                let parked = model.parked.len() as u64;
                assert_eq!(retry(&rig, None).unwrap(), (0, parked), "{context}");
            }
            model.check(&rig, &format!("{context}, after a restart"));
        }
    }
    let counted: Vec<String> = counts
        .iter()
        .map(|(id, changes)| format!("id={id} changes={changes}"))
        .collect();
    assert_eq!(rig.rows("seen").unwrap(), counted, "{context}");
    let board = rig.handle.board.load();
    for rule in ["alarms.watch", "alarms.count", "alarms.ring"] {
        assert_eq!(board.rules[rule].status, "running", "{context}");
    }
    if on_error == OnError::Skip {
        assert_eq!(
            rig.drop_letters(None, None).unwrap(),
            model.parked.len() as u64
        );
        return;
    }
    mend(&rig);
    let parked = model.parked.len() as u64;
    assert_eq!(retry(&rig, None).unwrap(), (parked, 0), "{context}");
    model.retry();
    model.check(&rig, &format!("{context}, mended"));
}

#[test]
fn batches_do_not_show_where_timers_fail() {
    let seed = from_environment("RULEMILL_SEED", 0xa1a2);
    for seed in seed..seed + 8 {
        let steps = steps(&mut Random::new(seed), 240);
        for on_error in [OnError::Park, OnError::Skip] {
            for batch in [1, 2, 7, 64, 4_096] {
                let context = format!("RULEMILL_SEED={seed}, {on_error:?}, batches of {batch}");
                run(&steps, on_error, batch, &context);
            }
        }
    }
}

/// A rule that catches up fires timers at places that lie before what is parked: they wait all the same.
#[test]
fn what_a_rule_catches_up_on_waits_too() {
    let seed = from_environment("RULEMILL_SEED", 0xb1b2);
    for seed in seed..seed + 4 {
        let context = format!("RULEMILL_SEED={seed}");
        let steps = steps(&mut Random::new(seed), 240);
        let (before, after) = steps.split_at(80);
        let mut options = options(OnError::Park, 64);
        options.limits.breaker_changes_min = 1_000_000;
        let rig = start(&options);
        let mut model = Model::default();
        let apply = |steps: &[Step]| {
            for part in steps.chunks(16) {
                let changes: Vec<_> = part.iter().map(Step::change).collect();
                rig.apply(&changes).unwrap();
            }
        };
        apply(before);
        rig.pause("alarms.watch").unwrap();
        apply(after);
        rig.resume("alarms.watch").unwrap();
        for step in &steps {
            model.apply(step);
        }
        rig.wait_for(|status| {
            let watch = &status.rules["alarms.watch"];
            watch.status == "running" && status.durable_seq == status.last_seq
        });
        rig.wait_for(|_| set(&rig) == model.set());
        model.check(&rig, &context);
        mend(&rig);
        let parked = model.parked.len() as u64;
        assert_eq!(retry(&rig, None).unwrap(), (parked, 0), "{context}");
        model.retry();
        model.check(&rig, &context);
    }
}
