//! Timers go by the changes' own time. A cart that is emptied within its half hour is never abandoned, however old
//! the changes are, whatever the batches, and whether or not the host sleeps in between; one that nobody touches is,
//! once time has gone on for half an hour since the last change.
//!
//! A timer once fired although an earlier change of the same batch had cleared it, where the timers made the batch
//! too long for one call; and one fired by the clock while year-old changes were read in.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod alarms;
mod corners;
mod faults;
mod many;
mod model;
mod shown;

use std::sync::Arc;

use rulemill::{change::RawOp, store::Store};
use rulemill_tests::{
    native::Make,
    rig::{Options, Rig, TestChange},
};
use rulemill_wire::ValueRef;

mod carts {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "carts")]
    pub struct Cart {
        #[key]
        pub id: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "abandoned_carts")]
    pub struct AbandonedCart {
        #[key]
        id: i64,
        pub times: i64,
    }

    #[rule]
    pub fn carts(change: Change<Cart>, timers: &mut Timers, now: Now) -> Outcome {
        let id = change.key().to_string();
        if change.after.is_some() {
            timers.set("abandon", id, now.plus_minutes(30)?)?;
        } else {
            timers.clear("abandon", id)?;
        }
        Ok(())
    }

    #[rule]
    pub fn abandon(timer: Timer, abandoned: &mut Table<AbandonedCart>) -> Outcome {
        let id: i64 = timer.key.parse()?;
        abandoned.entry(id)?.times += 1;
        Ok(())
    }

    rulemill_sdk::plugin!(carts, abandon);
}

/// The same, but a cart is remembered a second time.
mod twice {
    use rulemill_sdk::prelude::*;

    use super::carts::{self, AbandonedCart};

    #[rule]
    pub fn abandon(
        timer: Timer,
        abandoned: &mut Table<AbandonedCart>,
        timers: &mut Timers,
        now: Now,
    ) -> Outcome {
        let row = abandoned.entry(timer.key.parse::<i64>()?)?;
        row.times += 1;
        if row.times % 2 == 1 {
            timers.set("abandon", timer.key, now.plus_minutes(5)?)?;
        }
        Ok(())
    }

    rulemill_sdk::plugin!(carts::carts, abandon);
}

const MINUTE: i64 = 60_000_000;
const START: i64 = 1_000_000 * MINUTE;
/// The host's clock, many years later.
const CLOCK: i64 = 30_000_000 * MINUTE;

const PLUGINS: [(&str, Make, &str); 1] = [("carts", carts::plugin, "1")];

fn change<'a>(op: RawOp, id: i64, time: i64) -> TestChange<'a> {
    TestChange {
        table: "carts",
        op,
        row: vec![("id", ValueRef::I64(id))],
        time: Some(time),
    }
}

fn options(batch: usize) -> Options {
    let mut options = Options {
        ticks: true,
        ..Options::default()
    };
    options.limits.batch_changes_max = batch;
    options
}

fn store() -> Arc<Store> {
    Arc::new(Store::in_memory().unwrap())
}

/// A cart a second, each emptied after ten minutes but for every hundredth.
fn shopping() -> Vec<TestChange<'static>> {
    let mut changes = Vec::new();
    for id in 0..3_000 {
        let time = START + id * MINUTE / 60;
        changes.push(change(RawOp::Insert, id, time));
        if id % 100 != 0 {
            changes.push(change(RawOp::Delete, id, time + 10 * MINUTE));
        }
    }
    changes.sort_by_key(|change| change.time);
    changes
}

/// The carts whose half hour ends before the last change, which comes after 3,599 seconds.
fn abandoned() -> Vec<String> {
    let ids = (0..1_800).step_by(100);
    ids.map(|id| format!("id={id} times=1")).collect()
}

#[test]
fn batches_and_the_clock_do_not_show() {
    for batch in [1, 7, 1_000, 4_096] {
        let rig = Rig::start_at(store(), &options(batch), &PLUGINS, CLOCK).unwrap();
        let changes = shopping();
        for part in changes.chunks(batch.max(100)) {
            rig.apply(part).unwrap();
        }
        assert_eq!(
            rig.rows("abandoned_carts").unwrap(),
            abandoned(),
            "batches of {batch}"
        );
        rig.stop().unwrap();
    }
}

#[test]
fn one_transaction_over_several_calls_fires_what_no_change_before_has_cleared() {
    let rig = Rig::start_at(store(), &options(64), &PLUGINS, CLOCK).unwrap();
    rig.apply(&shopping()).unwrap();
    assert_eq!(rig.rows("abandoned_carts").unwrap(), abandoned());
}

#[test]
fn a_timer_of_a_rule_that_does_not_run_waits_for_it() {
    let rig = Rig::start_at(store(), &options(4_096), &PLUGINS, CLOCK).unwrap();
    rig.apply(&[change(RawOp::Insert, 1, START)]).unwrap();
    rig.pause("abandon").unwrap();
    let store = rig.stop().unwrap();
    // It is due at once. Nobody may count on it, least of all whoever waits for the host's end.
    let rig = Rig::start_at(store, &options(4_096), &PLUGINS, CLOCK + 60 * MINUTE).unwrap();
    let receipt = rig.apply(&[change(RawOp::Insert, 2, START)]).unwrap();
    assert_eq!(receipt.seq.0, 2);
    let store = rig.stop().unwrap();
    let rig = Rig::start_at(store, &options(4_096), &PLUGINS, CLOCK + 60 * MINUTE).unwrap();
    assert!(rig.rows("abandoned_carts").unwrap().is_empty());
    rig.resume("abandon").unwrap();
    rig.wait_for(|_| {
        rig.rows("abandoned_carts")
            .unwrap()
            .contains(&"id=1 times=1".to_owned())
    });
    rig.stop().unwrap();
}

#[test]
fn time_goes_on_from_the_last_change_also_while_the_host_sleeps() {
    let rig = Rig::start_at(store(), &options(4_096), &PLUGINS, CLOCK).unwrap();
    rig.apply(&[change(RawOp::Insert, 1, START)]).unwrap();
    rig.apply(&[change(RawOp::Insert, 2, START + 20 * MINUTE)])
        .unwrap();
    let store = rig.stop().unwrap();
    // Eleven minutes after the last change the first cart's half hour is over, the second's isn't.
    let rig = Rig::start_at(store, &options(4_096), &PLUGINS, CLOCK + 11 * MINUTE).unwrap();
    rig.wait_for(|_| rig.rows("abandoned_carts").unwrap() == ["id=1 times=1"]);
    rig.apply(&[change(RawOp::Delete, 2, START + 40 * MINUTE)])
        .unwrap();
    assert_eq!(rig.rows("abandoned_carts").unwrap(), ["id=1 times=1"]);
}

#[test]
fn what_a_rule_catches_up_on_fires_as_if_it_had_been_there() {
    for batch in [50, 4_096] {
        for pauses in [&["carts"][..], &["carts", "abandon"], &["abandon", "carts"]] {
            let options = options(batch);
            let rig = Rig::start_at(store(), &options, &PLUGINS, CLOCK).unwrap();
            let changes = shopping();
            let (before, after) = changes.split_at(500);
            rig.apply(before).unwrap();
            for rule in pauses {
                rig.pause(rule).unwrap();
            }
            for part in after.chunks(333) {
                rig.apply(part).unwrap();
            }
            // The last to be paused is the first to go on: a rule for timers goes on with those that set them.
            for rule in pauses.iter().rev() {
                rig.resume(rule).unwrap();
            }
            rig.wait_for(|status| status.rules["carts.carts"].status == "running");
            rig.wait_for(|status| status.rules["carts.abandon"].status == "running");
            rig.wait_for(|_| rig.rows("abandoned_carts").unwrap() == abandoned());
            let store = rig.stop().unwrap();
            let rig = Rig::start_at(store, &options, &PLUGINS, CLOCK).unwrap();
            assert_eq!(rig.rows("abandoned_carts").unwrap(), abandoned());
        }
    }
}

/// A plugin was away, and a rule of it that is called for timers sets some itself: it was taken for one that has yet to catch up on
/// something, so the other one caught up on its first batch without a timer fired, and cleared those that had come due.
#[test]
fn a_plugin_that_was_away_fires_its_timers_as_if_it_had_been_there() {
    let rows = |is_away: bool, batch: usize| {
        let plugins: [(&str, Make, &str); 1] = [("carts", twice::plugin, "1")];
        let rig = Rig::start_at(store(), &options(batch), &plugins, CLOCK).unwrap();
        let changes = shopping();
        // Emptied once the half hour is over.
        let late = changes.into_iter().map(|mut cart| {
            if cart.op == RawOp::Delete {
                cart.time = cart.time.map(|time| time + 22 * MINUTE);
            }
            cart
        });
        let mut changes: Vec<_> = late.collect();
        changes.sort_by_key(|change| change.time);
        let (before, after) = changes.split_at(500);
        rig.apply(before).unwrap();
        if is_away {
            rig.remove("carts").unwrap();
        }
        for part in after.chunks(batch) {
            rig.apply(part).unwrap();
        }
        if is_away {
            rig.load("carts", twice::plugin, "1").unwrap();
            rig.wait_for(|status| {
                let mut rules = status.rules.values();
                rules.all(|rule| rule.status == "running")
            });
        }
        let store = rig.stop().unwrap();
        rulemill_tests::rig::rows(&store, "abandoned_carts").unwrap()
    };
    let expected = rows(false, 333);
    assert!(expected.iter().any(|row| row.ends_with("times=2")));
    for batch in [50, 333, 4_096] {
        assert_eq!(rows(true, batch), expected, "batches of {batch}");
    }
}

#[test]
fn a_paused_rule_is_not_called_in_the_batch_that_sets_its_timer() {
    let rig = Rig::start_at(store(), &options(4_096), &PLUGINS, CLOCK).unwrap();
    rig.pause("abandon").unwrap();
    rig.apply(&[
        change(RawOp::Insert, 1, START),
        change(RawOp::Insert, 2, START + 40 * MINUTE),
    ])
    .unwrap();
    assert!(rig.rows("abandoned_carts").unwrap().is_empty());
    rig.resume("abandon").unwrap();
    rig.wait_for(|_| rig.rows("abandoned_carts").unwrap() == ["id=1 times=1"]);
}

#[test]
fn very_many_that_come_due_at_once_come_in_batches() {
    let mut options = options(100);
    options.limits.effects_bytes_max = 8 << 10;
    let rig = Rig::start_at(store(), &options, &PLUGINS, CLOCK).unwrap();
    let carts: Vec<_> = (0..5_000)
        .map(|id| change(RawOp::Insert, id, START))
        .collect();
    for part in carts.chunks(100) {
        rig.apply(part).unwrap();
    }
    rig.apply(&[
        change(RawOp::Insert, 5_000, START + 40 * MINUTE),
        change(RawOp::Delete, 0, START + 41 * MINUTE),
    ])
    .unwrap();
    // More at once would not have had room among a call's effects.
    let status = rig.handle.board.load();
    assert_eq!(status.rules["carts.abandon"].faults, 0);
    let abandoned = rig.rows("abandoned_carts").unwrap();
    assert_eq!(abandoned.len(), 5_000);
    assert!(abandoned.iter().all(|row| row.ends_with(" times=1")));
}
