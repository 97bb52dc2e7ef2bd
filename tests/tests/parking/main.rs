//! Faults: what is parked, skipped or dropped, in which order, and what the others notice of it.
//!
//! Running totals are the witness. A total that counts a row it must not, or takes back one that it never counted, is wrong
//! for ever, and nothing later mends it; that is what a bad record did to aggregates before changes of one key were kept in
//! order behind it, and what skipping one did before the rule was told rows as it had last seen them.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod batches;
mod bytes;
mod limits;
mod same_call;
mod same_change;
mod stops;
mod taken_back;

use std::sync::{Arc, atomic::Ordering};

use rulemill::{
    change::RawOp,
    engine::{Backfill, ControlError, OnError, PluginOptions},
    store::Store,
};
use rulemill_tests::{
    native::Make,
    rig::{Options, Rig, TestChange, order},
};
use rulemill_wire::ValueRef;

/// An amount that the first version returns an error for, one that it panics on, one that it can't write.
const REFUSED: i64 = 13;
const PANICS: i64 = 666;
/// A user of whose orders the calls of the rule are counted; of one test.
const COUNTED: i64 = 77;

macro_rules! shop {
    ($name:ident, $faulty:expr) => {
        mod $name {
            use std::sync::atomic::{AtomicU64, Ordering};

            use rulemill_sdk::prelude::*;

            /// How often the rule has been called for orders of the user who is counted.
            #[allow(dead_code, reason = "of one version only")]
            pub static CALLS: AtomicU64 = AtomicU64::new(0);

            #[derive(Row)]
            #[table(source = "orders")]
            pub struct Order {
                #[key]
                id: i64,
                user_id: i64,
                amount: i64,
            }

            #[derive(Row, Default)]
            #[table(derived = "totals")]
            pub struct Total {
                #[key]
                user_id: i64,
                orders: i64,
                amount: i64,
            }

            #[derive(Row)]
            #[table(derived = "halves")]
            pub struct Half {
                #[key]
                order_id: i64,
                #[key]
                part: i64,
                amount: i64,
            }

            #[derive(Row, Default)]
            #[table(derived = "sums")]
            pub struct Sum {
                #[key]
                id: i64,
                halves: i64,
                amount: i64,
            }

            #[rule]
            pub fn totals(change: Change<Order>, totals: &mut Table<Total>) -> Outcome {
                if change
                    .deltas()
                    .any(|delta| delta.row.user_id == super::COUNTED)
                {
                    CALLS.fetch_add(1, Ordering::SeqCst);
                }
                for Delta { row, sign } in change.deltas() {
                    if $faulty && row.amount == super::REFUSED {
                        return Err("thirteen".into());
                    }
                    assert!(!$faulty || row.amount != super::PANICS, "the beast");
                    let total = totals.entry(row.user_id)?;
                    total.orders += sign;
                    total.amount += row.amount * sign;
                }
                Ok(())
            }

            /// Two rows for each order, under one seq.
            #[rule]
            pub fn halves(change: Change<Order>, halves: &mut Table<Half>) -> Outcome {
                for part in 0..2 {
                    if let Some(order) = &change.before {
                        halves.remove((order.id, part))?;
                    }
                    if let Some(order) = &change.after {
                        halves.insert(Half {
                            order_id: order.id,
                            part,
                            amount: order.amount * 10 + part,
                        });
                    }
                }
                Ok(())
            }

            #[rule]
            pub fn sums(change: Change<Half>, sums: &mut Table<Sum>) -> Outcome {
                for Delta { row, sign } in change.deltas() {
                    if $faulty && row.amount == 71 {
                        return Err("seventy-one".into());
                    }
                    let sum = sums.entry(0)?;
                    sum.halves += sign;
                    sum.amount += row.amount * sign;
                }
                Ok(())
            }

            rulemill_sdk::plugin!(totals, halves, sums);
        }
    };
}

shop!(faulty, true);
shop!(mended, false);

const FAULTY: (&str, Make, &str) = ("shop", faulty::plugin, "1");

fn options(on_error: OnError) -> Options {
    let mut options = Options::default();
    let backfill = Backfill::Snapshot;
    options
        .plugins
        .insert("shop".into(), PluginOptions { on_error, backfill });
    options
}

fn start(options: &Options) -> Rig {
    let store = Arc::new(Store::in_memory().unwrap());
    Rig::start(store, options, &[FAULTY]).unwrap()
}

fn letters(rig: &Rig) -> Vec<(u64, String)> {
    let letters = rig.letters().unwrap().into_iter();
    letters.map(|letter| (letter.id, letter.error)).collect()
}

fn parked(rig: &Rig, rule: &str) -> u64 {
    rig.handle.board.load().rules[rule].parked
}

/// Bad rows that come, are mended, get worse and go, beside good ones.
fn bad_rows() -> Vec<TestChange<'static>> {
    vec![
        order(RawOp::Insert, 1, 1, 5),
        order(RawOp::Insert, 2, 1, REFUSED),
        order(RawOp::Insert, 3, 1, PANICS),
        order(RawOp::Insert, 4, 1, 100),
        // Mended: what comes now is told as new.
        order(RawOp::Update, 2, 1, 20),
        // It never was anything to the rule.
        order(RawOp::Delete, 3, 1, 0),
        // From good to bad and away: the hundred must go.
        order(RawOp::Update, 4, 1, PANICS),
        order(RawOp::Delete, 4, 1, 0),
        // From bad to worse to good.
        order(RawOp::Insert, 5, 1, REFUSED),
        order(RawOp::Update, 5, 1, PANICS),
        order(RawOp::Update, 5, 1, 3),
    ]
}

const OF_BAD_ROWS: &str = "user_id=1 orders=3 amount=28";

#[test]
fn a_skipped_change_is_made_up_for_with_the_next_of_its_row() {
    for batch in [1, 2, 7, 4_096] {
        let mut options = options(OnError::Skip);
        options.limits.batch_changes_max = batch;
        let mut rig = start(&options);
        for (place, part) in bad_rows().chunks(batch).enumerate() {
            rig.apply(part).unwrap();
            if place == 4 {
                // What a rule has missed outlives the host.
                let store = rig.stop().unwrap();
                rig = Rig::start(store, &options, &[FAULTY]).unwrap();
            }
        }
        assert_eq!(
            rig.rows("totals").unwrap(),
            [OF_BAD_ROWS],
            "batches of {batch}"
        );
        assert_eq!(parked(&rig, "shop.totals"), 0);
        // They are kept to be read.
        assert_eq!(letters(&rig).len(), 5);
        assert!(rig.store.reader().unwrap().gaps().unwrap().next().is_none());
    }
}

#[test]
fn a_dropped_change_is_made_up_for_with_the_next_of_its_row() {
    let rig = start(&options(OnError::Park));
    // Each comes to be parked alone, and is dropped before the next.
    for change in bad_rows() {
        rig.apply(&[change]).unwrap();
        rig.drop_letters(None, None).unwrap();
    }
    assert_eq!(rig.rows("totals").unwrap(), [OF_BAD_ROWS]);
    // All parked behind each other, and dropped together.
    let rig = start(&options(OnError::Park));
    rig.apply(&bad_rows()).unwrap();
    assert_eq!(
        rig.rows("totals").unwrap(),
        ["user_id=1 orders=2 amount=105"]
    );
    assert_eq!(rig.drop_letters(None, None).unwrap(), 9);
    rig.wait_for(|status| status.rules["shop.totals"].parked == 0);
    for id in 1..=5 {
        rig.apply(&[order(RawOp::Upsert, id, 1, 1)]).unwrap();
    }
    assert_eq!(rig.rows("totals").unwrap(), ["user_id=1 orders=5 amount=5"]);
}

#[test]
fn what_waited_only_for_a_dropped_change_goes_on() {
    let rig = start(&options(OnError::Park));
    rig.apply(&[
        order(RawOp::Insert, 1, 1, 7),
        order(RawOp::Update, 1, 1, REFUSED),
        order(RawOp::Update, 1, 1, 8),
        order(RawOp::Update, 1, 1, 9),
    ])
    .unwrap();
    // (An order of 7 has a half of 71, so the other rule has parked too; its letters are its own.)
    let of_totals: Vec<u64> = {
        let reader = rig.store.reader().unwrap();
        let letters = reader.dead_letters().unwrap().map(|letter| letter.unwrap());
        letters
            .filter(|letter| letter.rule == "totals")
            .map(|letter| letter.id)
            .collect()
    };
    assert_eq!(of_totals.len(), 3);
    // One in the middle may go too.
    assert_eq!(rig.drop_letters(None, Some(of_totals[1])).unwrap(), 1);
    assert_eq!(rig.rows("totals").unwrap(), ["user_id=1 orders=1 amount=7"]);
    assert_eq!(rig.drop_letters(None, Some(of_totals[0])).unwrap(), 1);
    rig.wait_for(|status| status.rules["shop.totals"].parked == 0);
    rig.wait_for(|_| rig.rows("totals").unwrap() == ["user_id=1 orders=1 amount=9"]);
}

/// The last of a row's parked changes was dropped by its number, others of the row still waited, and its next change was parked behind those: as
/// the source said it, so that its total kept what the dropped one would have taken away.
#[test]
fn what_comes_behind_parked_changes_of_which_the_last_was_dropped_is_told_from_what_they_leave() {
    let last_of_totals = |rig: &Rig| {
        let reader = rig.store.reader().unwrap();
        let letters = reader.dead_letters().unwrap().map(|letter| letter.unwrap());
        let of_totals = letters.filter(|letter| letter.rule == "totals");
        of_totals.map(|letter| letter.id).max().unwrap()
    };
    for batch in [1, 4_096] {
        let mut options = options(OnError::Park);
        options.limits.batch_changes_max = batch;
        let rig = start(&options);
        rig.apply(&[
            order(RawOp::Insert, 1, 1, REFUSED),
            order(RawOp::Delete, 1, 1, 0),
            order(RawOp::Insert, 2, 2, REFUSED),
            order(RawOp::Update, 2, 2, 20),
        ])
        .unwrap();
        rig.drop_letters(None, Some(last_of_totals(&rig))).unwrap();
        rig.apply(&[order(RawOp::Update, 2, 2, REFUSED)]).unwrap();
        rig.apply(&[order(RawOp::Update, 2, 3, 5), order(RawOp::Delete, 3, 1, 0)])
            .unwrap();
        let first = {
            let reader = rig.store.reader().unwrap();
            let letters = reader.dead_letters().unwrap().map(|letter| letter.unwrap());
            let mut of_first =
                letters.filter(|letter| letter.rule == "totals" && letter.seq.0 == 2);
            of_first.next().unwrap().id
        };
        rig.drop_letters(None, Some(first)).unwrap();
        // A restart knows of it too.
        let store = rig.stop().unwrap();
        let rig = Rig::start(store, &options, &[FAULTY]).unwrap();
        rig.apply(&[order(RawOp::Insert, 1, 4, 6)]).unwrap();
        rig.load("shop", mended::plugin, "2").unwrap();
        rig.retry(None, None).unwrap();
        assert_eq!(
            rig.rows("totals").unwrap(),
            [
                "user_id=1 orders=0 amount=0",
                "user_id=2 orders=0 amount=0",
                "user_id=3 orders=1 amount=5",
                "user_id=4 orders=1 amount=6"
            ]
        );
    }
}

/// The same, and what is parked is retried first. Where it failed again it was taken for what the rule must be told otherwise, and run again
/// for ever; where it went through, the dropped one was forgotten.
#[test]
fn a_retry_has_nothing_to_do_with_a_later_change_that_was_dropped() {
    for amount in [REFUSED, PANICS] {
        let rig = start(&options(OnError::Park));
        rig.apply(&[
            order(RawOp::Insert, 1, 1, amount),
            order(RawOp::Update, 1, 1, 2),
        ])
        .unwrap();
        let last = letters(&rig).iter().map(|(id, _)| *id).max().unwrap();
        assert_eq!(rig.drop_letters(None, Some(last)).unwrap(), 1);
        assert_eq!(rig.retry(None, None).unwrap(), (0, 1));
        rig.load("shop", mended::plugin, "2").unwrap();
        assert_eq!(rig.retry(None, None).unwrap(), (1, 0));
        rig.apply(&[order(RawOp::Update, 1, 1, 3)]).unwrap();
        assert_eq!(rig.rows("totals").unwrap(), ["user_id=1 orders=1 amount=3"]);
    }
}

#[test]
fn one_retried_by_its_number_takes_those_before_it_along() {
    let rig = start(&options(OnError::Park));
    rig.apply(&[
        order(RawOp::Insert, 1, 1, REFUSED),
        order(RawOp::Update, 1, 1, 2),
        order(RawOp::Update, 1, 1, 3),
        order(RawOp::Insert, 2, 1, REFUSED),
    ])
    .unwrap();
    assert_eq!(letters(&rig).len(), 4);
    let second = {
        let reader = rig.store.reader().unwrap();
        let mut letters = reader.dead_letters().unwrap().map(|letter| letter.unwrap());
        letters.find(|letter| letter.seq.0 == 2).unwrap().id
    };
    assert_eq!(rig.retry(None, Some(second)).unwrap(), (0, 2));
    rig.load("shop", mended::plugin, "2").unwrap();
    // Order 1's second: with its first, without its third. Order 2's stays.
    assert_eq!(rig.retry(None, Some(second)).unwrap(), (2, 0));
    assert_eq!(rig.rows("totals").unwrap(), ["user_id=1 orders=1 amount=2"]);
    rig.wait_for(|status| status.rules["shop.totals"].parked == 2);
    // What comes for order 1 still waits behind its third.
    rig.apply(&[order(RawOp::Update, 1, 1, 4)]).unwrap();
    assert_eq!(rig.rows("totals").unwrap(), ["user_id=1 orders=1 amount=2"]);
    assert_eq!(rig.retry(None, None).unwrap(), (3, 0));
    assert_eq!(
        rig.rows("totals").unwrap(),
        [format!("user_id=1 orders=2 amount={}", 4 + REFUSED)]
    );
    assert!(matches!(
        rig.retry(None, Some(second)),
        Err(ControlError::NoSuchDeadLetter(id)) if id == second
    ));
}

#[test]
fn what_fails_again_says_why_now() {
    let rig = start(&options(OnError::Park));
    rig.apply(&[
        order(RawOp::Insert, 1, 1, REFUSED),
        order(RawOp::Update, 1, 1, PANICS),
        order(RawOp::Update, 1, 1, 2),
    ])
    .unwrap();
    assert_eq!(rig.retry(None, None).unwrap(), (0, 3));
    let before = letters(&rig);
    assert!(before[0].1.contains("thirteen"), "{before:?}");
    assert!(before[1].1.contains("waits behind"), "{before:?}");
    rig.drop_letters(None, Some(before[0].0)).unwrap();
    rig.wait_for(|_| {
        let after = letters(&rig);
        after.len() == 2 && after[0].1.contains("the beast")
    });
}
