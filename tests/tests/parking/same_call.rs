//! Several changes of one call at fault, where one of them is at fault only for what another did that must wait itself, or be told otherwise, or
//! was of a rule that has stopped by then. Whatever the batches: each is judged by what stands before it once the others have been dealt with.

use super::{
    batches::{compare, run, start},
    *,
};

/// A level that must not fall below nothing, and checks of it: each may fail for what rows with other keys, and the other rule, did.
macro_rules! levels {
    ($name:ident, $first_refused:expr) => {
        mod $name {
            use std::sync::atomic::{AtomicU64, Ordering};

            use rulemill_sdk::prelude::*;

            /// How often it has been called for moves of the rows that are counted: those below nothing.
            #[allow(dead_code, reason = "of one version only")]
            pub static CALLS: AtomicU64 = AtomicU64::new(0);

            #[derive(Row)]
            #[table(source = "moves")]
            pub struct Move {
                #[key]
                id: i64,
                amount: i64,
            }

            #[derive(Row)]
            #[table(source = "checks")]
            pub struct Check {
                #[key]
                id: i64,
                amount: i64,
            }

            #[derive(Row, Default)]
            #[table(derived = "levels")]
            pub struct Level {
                #[key]
                id: i64,
                amount: i64,
                moves: i64,
                checks: i64,
            }

            #[rule]
            pub fn moves(change: Change<Move>, levels: &mut Table<Level>) -> Outcome {
                let amount = |row: &Option<Move>| row.as_ref().map_or(0, |row| row.amount);
                let (before, after) = (amount(&change.before), amount(&change.after));
                if change.key() < 0 {
                    CALLS.fetch_add(1, Ordering::SeqCst);
                }
                if change.key() >= $first_refused {
                    return Err("not yet".into());
                }
                if after == super::REFUSED {
                    return Err("thirteen".into());
                }
                let level = levels.entry(0)?;
                level.moves += 1;
                level.amount += after - before;
                if level.amount < 0 {
                    return Err(format!("overdrawn: {}", level.amount).into());
                }
                Ok(())
            }

            #[rule]
            pub fn checks(change: Change<Check>, levels: &mut Table<Level>) -> Outcome {
                let max = change.after.map_or(i64::MAX, |check| check.amount);
                let level = levels.entry(0)?;
                level.checks += 1;
                assert!(level.amount < super::PANICS, "far too much");
                if level.amount > max {
                    return Err(format!("too much: {}", level.amount).into());
                }
                Ok(())
            }

            rulemill_sdk::plugin!(moves, checks);
        }
    };
}

levels!(cautious, 100);
levels!(bold, i64::MAX);

fn row(table: &str, id: i64, amount: Option<i64>) -> TestChange<'_> {
    let mut row = vec![("id", ValueRef::I64(id))];
    row.extend(amount.map(|amount| ("amount", ValueRef::I64(amount))));
    TestChange {
        table,
        op: if amount.is_some() {
            RawOp::Upsert
        } else {
            RawOp::Delete
        },
        row,
        time: Some(1_000_000),
    }
}

#[test]
fn a_change_is_not_parked_for_what_one_did_that_waits() {
    let changes = [
        row("moves", 1, Some(REFUSED)),
        // Waits behind it. Had it not, the level would be too high for the checks.
        row("moves", 1, Some(20)),
        row("checks", 1, Some(5)),
        row("moves", 2, Some(4)),
        row("checks", 2, Some(5)),
    ];
    let alone = run(cautious::plugin, &changes, OnError::Park, 1);
    assert_eq!(alone.levels, ["id=0 amount=4 moves=1 checks=2"]);
    assert_eq!(alone.letters.len(), 2, "{alone:#?}");
    assert_eq!(run(cautious::plugin, &changes, OnError::Park, 4_096), alone);
}

/// A plugin that panics is handed over again what stands before the change at which it does; only then it shows that one of those must wait.
#[test]
fn a_change_is_not_parked_for_a_panic_over_what_one_did_that_waits() {
    let changes = [
        row("moves", 1, Some(REFUSED)),
        row("moves", 1, Some(PANICS + REFUSED)),
        row("checks", 1, Some(PANICS)),
    ];
    let alone = run(cautious::plugin, &changes, OnError::Park, 1);
    assert_eq!(alone.levels, ["id=0 amount=0 moves=0 checks=1"]);
    assert_eq!(run(cautious::plugin, &changes, OnError::Park, 4_096), alone);
}

#[test]
fn a_retried_change_does_not_stay_for_what_one_did_that_waits() {
    let rig = start(cautious::plugin, OnError::Park, |_| {});
    rig.apply(&[
        row("moves", 1, Some(30)),
        row("moves", 100, Some(REFUSED)),
        row("moves", 100, Some(-7)),
        // Too much where the one before it counts.
        row("moves", 101, Some(-15)),
    ])
    .unwrap();
    assert_eq!(letters(&rig).len(), 3);
    rig.load("shop", bold::plugin, "2").unwrap();
    assert_eq!(rig.retry(None, None).unwrap(), (1, 2));
    let level = rig.rows("levels").unwrap();
    assert_eq!(level, ["id=0 amount=15 moves=2 checks=0"]);
}

#[test]
fn batches_do_not_show_where_one_fault_leads_to_another() {
    compare(cautious::plugin, |random| {
        let change = |_| {
            let table = ["moves", "moves", "checks"][random.below(3) as usize];
            let amount = match random.below(16) {
                0 | 1 if table == "moves" => Some(REFUSED),
                // While it counts, checks panic.
                2 if table == "moves" => Some(PANICS),
                3 | 4 => None,
                _ => Some(random.between(-12, 14)),
            };
            row(table, random.between(1, 12), amount)
        };
        (0..60).map(change).collect()
    });
}

/// Each bad row is followed by one that waits behind it, and then by the next bad one: no fault may have all that stands behind it run again.
#[test]
fn faults_that_are_looked_into_one_by_one_have_others_run_again_seldom() {
    for on_error in [OnError::Park, OnError::Skip] {
        let rig = start(cautious::plugin, on_error, |_| {});
        let changes: Vec<_> = (0..2_000)
            .flat_map(|pair| {
                let id = pair % 1_000 - 10_000;
                let bad = pair % 10 == 0;
                [
                    row("moves", id, Some(if bad { REFUSED } else { pair })),
                    row("moves", id, Some(pair + 1)),
                ]
            })
            .collect();
        let before = cautious::CALLS.load(Ordering::SeqCst);
        rig.apply(&changes).unwrap();
        let calls = cautious::CALLS.load(Ordering::SeqCst) - before;
        // Once each, and of the few that a call gets after such a fault some a few times more.
        let max = 8 * changes.len() as u64;
        assert!(calls <= max, "{on_error:?}: {calls} calls");
    }
}
