//! Faults: what is parked, skipped or dropped, in which order, and what the others notice of it.
//!
//! Running totals are the witness. A total that counts a row it must not, or takes back one that it never counted, is wrong
//! for ever, and nothing later mends it; that is what a bad record did to aggregates before changes of one key were kept in
//! order behind it, and what skipping one did before the rule was told rows as it had last seen them.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

use std::sync::{Arc, atomic::Ordering};

use rulemill::{
    change::RawOp,
    engine::{Backfill, Control, ControlError, OnError, PluginOptions, Status},
    http::read,
    store::Store,
};
use rulemill_tests::{
    native::Make,
    rig::{Options, Rig, TestChange},
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

fn order<'a>(op: RawOp, id: i64, user_id: i64, amount: i64) -> TestChange<'a> {
    TestChange {
        table: "orders",
        op,
        row: vec![
            ("id", ValueRef::I64(id)),
            ("user_id", ValueRef::I64(user_id)),
            ("amount", ValueRef::I64(amount)),
        ],
        time: Some(1_000_000 + id),
    }
}

fn retry(rig: &Rig, id: Option<u64>) -> Result<(u64, u64), ControlError> {
    rig.handle.ask(|reply| Control::RetryDeadLetters {
        rule: None,
        id,
        reply,
    })
}

fn drop_letters(rig: &Rig, id: Option<u64>) -> Result<u64, ControlError> {
    rig.handle.ask(|reply| Control::DropDeadLetters {
        rule: None,
        id,
        reply,
    })
}

fn letters(rig: &Rig) -> Vec<(u64, String)> {
    let reader = rig.store.reader().unwrap();
    let letters = reader.dead_letters().unwrap();
    letters
        .map(|letter| letter.unwrap())
        .map(|letter| (letter.id, letter.error))
        .collect()
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
fn skipped_changes_are_kept_up_to_their_limit() {
    let mut options = options(OnError::Skip);
    options.limits.skipped_kept_max = 3;
    let rig = start(&options);
    for id in 1..=10 {
        rig.apply(&[order(RawOp::Insert, id, 1, REFUSED)]).unwrap();
    }
    let kept: Vec<u64> = letters(&rig).iter().map(|(id, _)| *id).collect();
    assert_eq!(kept, [8, 9, 10]);
    // Whoever looks at the status sees them, from the daemon and from the disk.
    let shown = |status: &Status| {
        let rule = &status.rules["shop.totals"];
        (rule.skipped, rule.skipped_since.clone())
    };
    let since = Some("1970-01-01T00:00:01Z".to_owned());
    rig.wait_for(|status| shown(status) == (3, since.clone()));
    let reader = rig.store.reader().unwrap();
    assert_eq!(shown(&read::stored_status(&reader).unwrap()), (3, since));
    drop(reader);
    assert!(matches!(
        retry(&rig, Some(9)),
        Err(ControlError::Conflict(reason)) if reason.contains("was skipped")
    ));
    assert_eq!(retry(&rig, None).unwrap(), (0, 0));
    assert_eq!(drop_letters(&rig, Some(9)).unwrap(), 1);
    assert_eq!(drop_letters(&rig, None).unwrap(), 2);
    assert!(letters(&rig).is_empty());
    rig.wait_for(|status| shown(status) == (0, None));
    let store = rig.stop().unwrap();
    let reader = store.reader().unwrap();
    assert_eq!(shown(&read::stored_status(&reader).unwrap()), (0, None));
}

#[test]
fn a_dropped_change_is_made_up_for_with_the_next_of_its_row() {
    let rig = start(&options(OnError::Park));
    // Each comes to be parked alone, and is dropped before the next.
    for change in bad_rows() {
        rig.apply(&[change]).unwrap();
        drop_letters(&rig, None).unwrap();
    }
    assert_eq!(rig.rows("totals").unwrap(), [OF_BAD_ROWS]);
    // All parked behind each other, and dropped together.
    let rig = start(&options(OnError::Park));
    rig.apply(&bad_rows()).unwrap();
    assert_eq!(
        rig.rows("totals").unwrap(),
        ["user_id=1 orders=2 amount=105"]
    );
    assert_eq!(drop_letters(&rig, None).unwrap(), 9);
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
    assert_eq!(drop_letters(&rig, Some(of_totals[1])).unwrap(), 1);
    assert_eq!(rig.rows("totals").unwrap(), ["user_id=1 orders=1 amount=7"]);
    assert_eq!(drop_letters(&rig, Some(of_totals[0])).unwrap(), 1);
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
        drop_letters(&rig, Some(last_of_totals(&rig))).unwrap();
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
        drop_letters(&rig, Some(first)).unwrap();
        // A restart knows of it too.
        let store = rig.stop().unwrap();
        let rig = Rig::start(store, &options, &[FAULTY]).unwrap();
        rig.apply(&[order(RawOp::Insert, 1, 4, 6)]).unwrap();
        rig.load("shop", mended::plugin, "2").unwrap();
        retry(&rig, None).unwrap();
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
        assert_eq!(drop_letters(&rig, Some(last)).unwrap(), 1);
        assert_eq!(retry(&rig, None).unwrap(), (0, 1));
        rig.load("shop", mended::plugin, "2").unwrap();
        assert_eq!(retry(&rig, None).unwrap(), (1, 0));
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
    assert_eq!(retry(&rig, Some(second)).unwrap(), (0, 2));
    rig.load("shop", mended::plugin, "2").unwrap();
    // Order 1's second: with its first, without its third. Order 2's stays.
    assert_eq!(retry(&rig, Some(second)).unwrap(), (2, 0));
    assert_eq!(rig.rows("totals").unwrap(), ["user_id=1 orders=1 amount=2"]);
    rig.wait_for(|status| status.rules["shop.totals"].parked == 2);
    // What comes for order 1 still waits behind its third.
    rig.apply(&[order(RawOp::Update, 1, 1, 4)]).unwrap();
    assert_eq!(rig.rows("totals").unwrap(), ["user_id=1 orders=1 amount=2"]);
    assert_eq!(retry(&rig, None).unwrap(), (3, 0));
    assert_eq!(
        rig.rows("totals").unwrap(),
        [format!("user_id=1 orders=2 amount={}", 4 + REFUSED)]
    );
    assert!(matches!(
        retry(&rig, Some(second)),
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
    assert_eq!(retry(&rig, None).unwrap(), (0, 3));
    let before = letters(&rig);
    assert!(before[0].1.contains("thirteen"), "{before:?}");
    assert!(before[1].1.contains("waits behind"), "{before:?}");
    drop_letters(&rig, Some(before[0].0)).unwrap();
    rig.wait_for(|_| {
        let after = letters(&rig);
        after.len() == 2 && after[0].1.contains("the beast")
    });
}

#[test]
fn a_rule_that_faults_on_most_of_what_it_gets_is_paused_and_goes_on_when_mended() {
    for (bad, batch) in [
        (REFUSED, 4_096),
        (PANICS, 4_096),
        (REFUSED, 10),
        (PANICS, 1),
    ] {
        let mut options = options(OnError::Park);
        options.limits.batch_changes_max = batch;
        let rig = start(&options);
        let good: Vec<_> = (1..=400).map(|id| order(RawOp::Insert, id, 1, 1)).collect();
        for part in good.chunks(batch) {
            rig.apply(part).unwrap();
        }
        let worse: Vec<_> = (401..=3_000)
            .map(|id| order(RawOp::Insert, id, 2, bad))
            .collect();
        for part in worse.chunks(batch.max(100)) {
            rig.apply(part).unwrap();
        }
        rig.wait_for(|status| {
            status.rules["shop.totals"]
                .status
                .starts_with("paused: it faulted on")
        });
        let parked = parked(&rig, "shop.totals");
        assert!(parked <= 1_000, "{parked} parked");
        // The others have not noticed.
        let board = rig.handle.board.load();
        assert_eq!(board.rules["shop.sums"].status, "running");
        let sums = rig.rows("sums").unwrap();
        assert!(sums[0].starts_with("id=0 halves=6000 "), "{sums:?}");
        rig.load("shop", mended::plugin, "2").unwrap();
        rig.wait_for(|status| status.rules["shop.totals"].status == "running");
        assert_eq!(retry(&rig, None).unwrap(), (parked, 0));
        let of_bad = format!("user_id=2 orders=2600 amount={}", 2_600 * bad);
        assert_eq!(
            rig.rows("totals").unwrap(),
            ["user_id=1 orders=400 amount=400", &*of_bad]
        );
    }
}

#[test]
fn a_paused_rule_that_is_resumed_unmended_is_paused_again_where_it_stands() {
    let rig = start(&options(OnError::Park));
    let bad: Vec<_> = (1..=1_000)
        .map(|id| order(RawOp::Insert, id, 1, REFUSED))
        .collect();
    rig.apply(&bad).unwrap();
    let is_paused = |status: &rulemill::engine::Status| {
        let rule = &status.rules["shop.totals"];
        rule.status.starts_with("paused: ") && rule.cursor == 0
    };
    rig.wait_for(is_paused);
    let faults = rig.handle.board.load().rules["shop.totals"].faults;
    let rule = "shop.totals".to_owned();
    let resume = |reply| Control::Resume {
        rule,
        skip_gap: false,
        reply,
    };
    rig.handle.ask(resume).unwrap();
    rig.wait_for(|status| status.rules["shop.totals"].faults > faults && is_paused(status));
    assert_eq!(parked(&rig, "shop.totals"), 0);
}

/// Not one fault may have its whole batch run change by change; and once a plugin has panicked, what comes before its next panic
/// isn't run again.
#[test]
fn the_change_at_fault_is_found_without_running_the_others_often() {
    for bad in [REFUSED, PANICS] {
        let rig = start(&options(OnError::Park));
        let before = faulty::CALLS.load(Ordering::SeqCst);
        let changes: Vec<_> = (1..=4_000)
            .map(|id| {
                let amount = if id % 100 == 0 { bad } else { 1 };
                order(RawOp::Insert, id, COUNTED, amount)
            })
            .collect();
        rig.apply(&changes).unwrap();
        rig.wait_for(|status| status.rules["shop.totals"].parked == 40);
        assert_eq!(
            rig.rows("totals").unwrap(),
            ["user_id=77 orders=3960 amount=3960"]
        );
        let calls = faulty::CALLS.load(Ordering::SeqCst) - before;
        // Once each, and what led up to the first panic once more.
        assert!(calls <= 4_000 + 200, "{calls} calls for 4,000 changes");
        rig.stop().unwrap();
    }
}

/// Both halves of an order come under one seq. The rule once stopped between them, and took the first again when it went on.
#[test]
fn a_rule_that_halts_between_changes_of_one_seq_repeats_none_of_them() {
    for batch in [1, 4_096] {
        let mut options = options(OnError::Halt);
        options.limits.batch_changes_max = batch;
        let rig = start(&options);
        // Halves of 60 and 61, of 70 and 71, of 80 and 81.
        rig.apply(&[
            order(RawOp::Insert, 1, 1, 6),
            order(RawOp::Insert, 2, 1, 7),
            order(RawOp::Insert, 3, 1, 8),
        ])
        .unwrap();
        rig.wait_for(|status| status.rules["shop.sums"].status.starts_with("halted"));
        assert_eq!(
            rig.rows("sums").unwrap(),
            ["id=0 halves=3 amount=191"],
            "60, 61 and 70"
        );
        let store = rig.stop().unwrap();
        let plugins = [("shop", mended::plugin as Make, "2")];
        let rig = Rig::start(store, &options, &plugins).unwrap();
        rig.wait_for(|status| status.rules["shop.sums"].status == "running");
        rig.wait_for(|_| rig.rows("sums").unwrap() == ["id=0 halves=6 amount=423"]);
    }
}

#[test]
fn parked_changes_are_bounded_by_their_bytes_too() {
    let mut options = options(OnError::Park);
    options.limits.dead_letters_bytes_max = 200;
    let rig = start(&options);
    for id in 1..=20 {
        rig.apply(&[order(RawOp::Insert, id, 1, REFUSED)]).unwrap();
    }
    rig.wait_for(|status| {
        status.rules["shop.totals"]
            .status
            .contains("limits.dead_letters_bytes_max")
    });
    let kept = parked(&rig, "shop.totals");
    assert!((2..10).contains(&kept), "{kept} parked");
    rig.load("shop", mended::plugin, "2").unwrap();
    rig.wait_for(|status| status.rules["shop.totals"].status == "running");
    assert_eq!(retry(&rig, None).unwrap(), (kept, 0));
    assert_eq!(
        rig.rows("totals").unwrap(),
        ["user_id=1 orders=20 amount=260"]
    );
}

/// What a rule last saw of rows whose changes it skipped is kept for as many rows as may be parked; it is not forgotten silently.
#[test]
fn a_rule_that_can_not_remember_what_it_skips_is_paused() {
    let mut options = options(OnError::Skip);
    options.limits.dead_letters_max = 3;
    let rig = start(&options);
    let known: Vec<_> = (1..=6)
        .map(|id| order(RawOp::Insert, id, 1, id * 10))
        .collect();
    rig.apply(&known).unwrap();
    let bad = |id| order(RawOp::Update, id, 1, REFUSED);
    rig.apply(&[bad(1), bad(2), bad(3)]).unwrap();
    // The same row again needs no more room, nor does a change that leaves the row as it is.
    rig.apply(&[order(RawOp::Update, 3, 2, REFUSED)]).unwrap();
    assert_eq!(
        rig.handle.board.load().rules["shop.totals"].status,
        "running"
    );
    rig.apply(&[
        order(RawOp::Insert, 7, 1, 5),
        bad(4),
        order(RawOp::Insert, 8, 1, 5),
    ])
    .unwrap();
    rig.wait_for(|status| {
        status.rules["shop.totals"].status
            == "paused: it has missed changes of 3 rows that have not changed since, and limits.dead_letters_max allows no more: load a version that takes them, or raise the limit, then resume the rule"
    });
    assert_eq!(
        rig.rows("totals").unwrap(),
        ["user_id=1 orders=7 amount=215"]
    );
    // A version that takes them goes on from there and makes up for what was skipped, a row at a time.
    rig.load("shop", mended::plugin, "2").unwrap();
    rig.wait_for(|status| status.rules["shop.totals"].status == "running");
    let again: Vec<_> = (1..=3)
        .map(|id| order(RawOp::Update, id, 1, id * 10))
        .collect();
    rig.apply(&again).unwrap();
    assert_eq!(
        rig.rows("totals").unwrap(),
        [format!("user_id=1 orders=8 amount={}", 220 - 40 + REFUSED)]
    );
}

#[test]
fn what_can_not_be_remembered_is_not_dropped() {
    let mut options = options(OnError::Park);
    options.limits.dead_letters_max = 3;
    let rig = start(&options);
    let known: Vec<_> = (1..=6)
        .map(|id| order(RawOp::Insert, id, 1, id * 10))
        .collect();
    rig.apply(&known).unwrap();
    let bad = |id| order(RawOp::Update, id, 1, REFUSED);
    rig.apply(&[bad(1), bad(2)]).unwrap();
    assert_eq!(drop_letters(&rig, None), Ok(2));
    rig.apply(&[bad(3), bad(4)]).unwrap();
    let refused = drop_letters(&rig, None).unwrap_err().to_string();
    assert!(
        refused.contains("rule shop.totals has missed changes of 2 rows that have not changed since, and would miss those of 2 more; limits.dead_letters_max allows 3"),
        "{refused}"
    );
    assert_eq!(parked(&rig, "shop.totals"), 2);
    let id = letters(&rig)[0].0;
    assert_eq!(drop_letters(&rig, Some(id)), Ok(1));
    // Once the rule knows the others again there is room.
    rig.apply(&[order(RawOp::Update, 1, 1, 11)]).unwrap();
    assert_eq!(drop_letters(&rig, None), Ok(1));
    rig.apply(&[
        order(RawOp::Update, 2, 1, 20),
        order(RawOp::Update, 3, 1, 30),
        order(RawOp::Update, 4, 1, 40),
    ])
    .unwrap();
    assert_eq!(
        rig.rows("totals").unwrap(),
        ["user_id=1 orders=6 amount=211"]
    );
}
