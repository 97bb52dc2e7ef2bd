//! Timers set aside where something else happens to their rule: it stops before them, or is no longer one for timers.

use std::sync::Arc;

use rulemill::{
    change::RawOp,
    engine::OnError,
    store::{LetterState, Store, Subject},
};
use rulemill_tests::{
    native::Make,
    rig::{Options, Rig, TestChange},
};
use rulemill_wire::{ValueRef, key};

use crate::alarms::{ROW_BYTES_MAX, options, parked, retry, set};

/// Rows of all versions.
mod shared {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "steps")]
    pub struct Step {
        #[key]
        pub id: String,
        pub kind: String,
    }

    #[derive(Row, Default)]
    #[table(derived = "flags")]
    pub struct Flag {
        #[key]
        pub id: String,
        pub times: i64,
    }
}

macro_rules! bells {
    ($name:ident, $faulty:expr) => {
        mod $name {
            use std::sync::atomic::{AtomicU64, Ordering};

            use rulemill_sdk::prelude::*;

            use super::shared::{Flag, Step};

            static SLOW_CALLS: AtomicU64 = AtomicU64::new(0);

            #[derive(Row)]
            #[table(source = "plans")]
            pub struct Plan {
                #[key]
                id: String,
                due: i64,
            }

            #[rule]
            pub fn plan(change: Change<Plan>, timers: &mut Timers) -> Outcome {
                if let Some(plan) = &change.after {
                    let due = Timestamp::from_micros(plan.due).ok_or("no such time")?;
                    timers.set("ring", plan.id.clone(), due)?;
                }
                Ok(())
            }

            /// Its effects are refused, which name no rule.
            #[rule]
            pub fn mark(change: Change<Plan>, flags: &mut Table<Flag>) -> Outcome {
                if $faulty && change.key() == "huge" {
                    flags.entry("x".repeat(super::ROW_BYTES_MAX))?.times += 1;
                }
                Ok(())
            }

            #[rule]
            pub fn step(change: Change<Step>, flags: &mut Table<Flag>) -> Outcome {
                let Some(step) = change.after else {
                    return Ok(());
                };
                if $faulty && step.kind == "err" {
                    return Err("a bad step".into());
                }
                flags.entry(step.kind)?.times += 1;
                Ok(())
            }

            #[rule]
            pub fn ring(timer: Timer, flags: &mut Table<Flag>) -> Outcome {
                let is_up = flags.get("flag")?.is_some_and(|flag| flag.times > 0);
                let is_bad = match timer.key.split('-').next() {
                    Some("bad") => true,
                    Some("dep") => !is_up,
                    // No rule can: so it stands for one that has no time left the second time.
                    Some("slow") => SLOW_CALLS.fetch_add(1, Ordering::SeqCst) == 1,
                    _ => false,
                };
                if $faulty && is_bad {
                    return Err("a bad bell".into());
                }
                flags.entry(timer.key)?.times += 1;
                Ok(())
            }

            rulemill_sdk::plugin!(plan, mark, step, ring);
        }
    };
}

bells!(faulty, true);
bells!(mended, false);

fn upsert<'a>(
    table: &'a str,
    id: &'a str,
    column: &'a str,
    value: ValueRef<'a>,
    time: i64,
) -> TestChange<'a> {
    TestChange {
        table,
        op: RawOp::Upsert,
        row: vec![("id", ValueRef::Text(id)), (column, value)],
        time: Some(time),
    }
}

fn plan(id: &str, due: i64, time: i64) -> TestChange<'_> {
    upsert("plans", id, "due", ValueRef::I64(due), time)
}

fn step<'a>(id: &'a str, kind: &'a str, time: i64) -> TestChange<'a> {
    upsert("steps", id, "kind", ValueRef::Text(kind), time)
}

fn start(options: &Options, make: Make) -> Rig {
    let store = Arc::new(Store::in_memory().unwrap());
    Rig::start(store, options, &[("alarms", make, "1")]).unwrap()
}

/// The keys of the timers that are parked.
fn of_ring(rig: &Rig) -> Vec<String> {
    let letters = rig.letters().unwrap().into_iter();
    let timers = letters.filter_map(|letter| match letter.subject {
        Subject::Timer(timer) => Some(timer.key),
        Subject::Change(_) => None,
    });
    timers.collect()
}

/// A timer was parked for what it did not find only because a change counted that has to wait, as shows when it has been handed over with it.
#[test]
fn a_timer_is_not_parked_before_a_change_that_waits_has_been_taken_out() {
    for batch in [1, 4_096] {
        let mut options = options(OnError::Park, batch);
        options.limits.dead_letters_max = 2;
        let rig = start(&options, faulty::plugin);
        for change in [
            plan("bad-0", 150, 100),
            plan("dep", 800, 101),
            plan("bad-1", 900, 102),
            step("z", "calm", 200),
        ] {
            rig.apply(&[change]).unwrap();
        }
        let faulted = |key: &str, due| (key.to_owned(), due, LetterState::Faulted);
        assert_eq!(parked(&rig), [faulted("bad-0", 150)]);
        let changes = [
            step("k", "err", 500),
            // Waits behind it: and then `dep` has no flag.
            step("k", "flag", 700),
            step("x", "calm", 800),
            step("y", "calm", 900),
        ];
        for part in changes.chunks(batch) {
            rig.apply(part).unwrap();
        }
        rig.wait_for(|status| {
            let status = &status.rules["alarms.ring"].status;
            status.contains("limits.dead_letters_max")
        });
        assert_eq!(of_ring(&rig), ["bad-0", "dep"], "batches of {batch}");
        assert_eq!(set(&rig), [("bad-1".to_owned(), 900)]);
        assert_eq!(rig.rows("flags").unwrap(), ["id=calm times=3"]);
        // Each fires once, now that there is nothing to fail at.
        rig.load("alarms", mended::plugin, "2").unwrap();
        rig.wait_for(|status| status.rules["alarms.ring"].status == "running");
        rig.apply(&[step("w", "calm", 1_000)]).unwrap();
        assert_eq!(retry(&rig, None).unwrap(), (2, 0));
        let rang = ["id=bad-0 times=1", "id=bad-1 times=1", "id=calm times=4"];
        let flags = rig.rows("flags").unwrap();
        assert_eq!(flags[..3], rang);
        assert_eq!(flags[3], "id=dep times=1");
    }
}

/// A call's later faults have been dealt with when it is made again, and then the rule stops at an earlier place: what was parked behind that is
/// a timer that is set again.
#[test]
fn a_timer_that_was_parked_behind_the_place_where_its_rule_stops_is_set_again() {
    let mut options = options(OnError::Park, 4_096);
    options.limits.dead_letters_max = 2;
    let rig = start(&options, faulty::plugin);
    rig.apply(&[
        plan("bad-0", 150, 100),
        plan("slow", 800, 101),
        plan("bad-1", 900, 102),
        step("z", "calm", 200),
    ])
    .unwrap();
    assert_eq!(of_ring(&rig), ["bad-0"]);
    rig.apply(&[
        step("k", "err", 500),
        step("x", "calm", 800),
        step("y", "calm", 900),
        // Waits behind the first of them, so that all is handed over again without it.
        step("k", "flag", 950),
    ])
    .unwrap();
    rig.wait_for(|status| {
        let status = &status.rules["alarms.ring"].status;
        status.contains("limits.dead_letters_max")
    });
    assert_eq!(of_ring(&rig), ["bad-0"]);
    let still_set = [("bad-1".to_owned(), 900), ("slow".to_owned(), 800)];
    assert_eq!(set(&rig), still_set);
    assert_eq!(rig.rows("flags").unwrap(), ["id=calm times=3"]);
    rig.load("alarms", mended::plugin, "2").unwrap();
    rig.wait_for(|status| status.rules["alarms.ring"].status == "running");
    rig.apply(&[step("w", "calm", 1_000)]).unwrap();
    assert_eq!(retry(&rig, None).unwrap(), (1, 0));
    let flags = rig.rows("flags").unwrap();
    assert_eq!(
        flags,
        [
            "id=bad-0 times=1",
            "id=bad-1 times=1",
            "id=calm times=4",
            "id=slow times=1"
        ]
    );
}

/// Where the rules of a change must each be tried alone, what the first sets is not due before the second has had its turn: it comes after
/// the change.
#[test]
fn a_timer_does_not_fire_between_the_rules_of_the_change_that_sets_it() {
    for batch in [1, 4_096] {
        let rig = start(&options(OnError::Park, batch), faulty::plugin);
        rig.apply(&[plan("huge", 50, 100)]).unwrap();
        let [letter] = &rig.letters().unwrap()[..] else {
            panic!("one");
        };
        assert_eq!(letter.rule, "mark");
        assert_eq!(set(&rig), [("huge".to_owned(), 50)]);
        assert!(rig.rows("flags").unwrap().is_empty());
        rig.apply(&[step("z", "calm", 200)]).unwrap();
        let rang = ["id=calm times=1", "id=huge times=1"];
        assert_eq!(rig.rows("flags").unwrap(), rang);
    }
}

mod of_rows {
    use rulemill_sdk::prelude::*;

    use super::shared::{Flag, Step};

    /// Has the name of a rule that is called for timers in other versions.
    #[rule]
    pub fn ring(_change: Change<Step>, flags: &mut Table<Flag>) -> Outcome {
        flags.entry("never")?.times += 1;
        Err("not today".into())
    }

    rulemill_sdk::plugin!(ring);
}

/// A row's key and a timer's may be the same bytes, of one rule: neither waits for the other, nor is run as the other.
#[test]
fn a_timer_does_not_wait_behind_a_row_with_the_same_key() {
    let options = options(OnError::Park, 4_096);
    let rig = start(&options, of_rows::plugin);
    rig.apply(&[step("x", "calm", 100)]).unwrap();
    let mut bytes = Vec::new();
    key::write(ValueRef::Text("x"), &mut bytes);
    let Subject::Change(change) = &rig.letters().unwrap()[0].subject else {
        panic!("a change");
    };
    assert_eq!(change.key, bytes);
    let same = String::from_utf8(bytes).unwrap();
    rig.load("alarms", faulty::plugin, "2").unwrap();
    rig.apply(&[plan(&same, 300, 200), step("y", "calm", 400)])
        .unwrap();
    let rang = format!("id={same} times=1");
    assert!(rig.rows("flags").unwrap().contains(&rang));
    assert_eq!(rig.letters().unwrap().len(), 1);
    // The rule is for timers now: the row can only be dropped.
    assert_eq!(retry(&rig, None).unwrap(), (0, 1));
    // And the other way round.
    rig.apply(&[plan("bad", 500, 400), step("z", "calm", 600)])
        .unwrap();
    assert_eq!(rig.letters().unwrap().len(), 2);
    rig.load("alarms", of_rows::plugin, "3").unwrap();
    let retried = rig.retry(None, None);
    assert_eq!(retried.unwrap(), (0, 2));
    assert!(matches!(
        rig.letters().unwrap()[1].subject,
        Subject::Timer(_)
    ));
    let dropped = rig.letters().unwrap().len() as u64;
    assert_eq!(rig.drop_letters(None, None).unwrap(), dropped);
}

/// A rule that its plugin no longer has keeps what it has parked: there is nobody to retry it, but it can be dropped.
#[test]
fn what_a_rule_has_parked_that_is_gone_can_be_dropped() {
    let options = options(OnError::Park, 4_096);
    let rig = start(&options, faulty::plugin);
    rig.apply(&[plan("bad", 150, 100), step("z", "calm", 200)])
        .unwrap();
    let store = rig.stop().unwrap();
    let rig = Rig::start(store, &options, &[]).unwrap();
    let refused = retry(&rig, None).unwrap_err().to_string();
    assert!(refused.contains("its plugin isn't loaded"), "{refused}");
    assert_eq!(parked(&rig).len(), 1);
    assert_eq!(rig.drop_letters(None, None).unwrap(), 1);
    assert!(rig.letters().unwrap().is_empty());
}
