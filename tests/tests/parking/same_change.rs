//! Plugins whose rules are called for the same changes and write the same row: what one of them makes of a change shows in what the next does. Whatever
//! the batches, and wherever a rule panics, fails or stops in them, what is left is the same.

use rulemill::change::Seq;

use super::{
    batches::{Left, compare, left, run, start},
    *,
};

/// What the plugins read and write.
mod rows {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "moves")]
    pub struct Move {
        #[key]
        pub id: i64,
        pub amount: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "levels")]
    pub struct Level {
        #[key]
        pub id: i64,
        pub amount: i64,
        pub seen: i64,
        pub rung: i64,
    }
}

/// Two rules: the second panics over what the first has done.
mod both {
    use std::sync::atomic::{AtomicU64, Ordering};

    use rulemill_sdk::prelude::*;

    use super::rows::{Level, Move};

    /// How often it has refused a change.
    pub static REFUSALS: AtomicU64 = AtomicU64::new(0);

    #[rule]
    pub fn first(change: Change<Move>, levels: &mut Table<Level>) -> Outcome {
        let amount = |row: &Option<Move>| row.as_ref().map_or(0, |row| row.amount);
        let (before, after) = (amount(&change.before), amount(&change.after));
        if after == super::REFUSED {
            REFUSALS.fetch_add(1, Ordering::SeqCst);
            return Err("thirteen".into());
        }
        levels.entry(0)?.amount += after - before;
        Ok(())
    }

    #[rule]
    pub fn second(change: Change<Move>, levels: &mut Table<Level>) -> Outcome {
        if change.key() < 2 {
            return Ok(());
        }
        let level = levels.entry(0)?;
        assert!(level.amount < super::PANICS, "far too much");
        level.seen += level.amount;
        Ok(())
    }

    rulemill_sdk::plugin!(first, second);
}

/// Two rules and timers, which see each other's work.
mod timed {
    use rulemill_sdk::prelude::*;

    use super::rows::{Level, Move};

    /// Sets a timer now and then.
    #[rule]
    pub fn first(
        change: Change<Move>,
        levels: &mut Table<Level>,
        timers: &mut Timers,
        now: Now,
    ) -> Outcome {
        let amount = |row: &Option<Move>| row.as_ref().map_or(0, |row| row.amount);
        let (before, after) = (amount(&change.before), amount(&change.after));
        if after == super::REFUSED {
            return Err("thirteen".into());
        }
        let level = levels.entry(0)?;
        assert!(level.amount < super::PANICS || after % 5 != 0, "loud");
        level.amount += after - before;
        if after % 4 == 0 {
            let key = (change.key() % 3).to_string();
            timers.set(
                "ring",
                key,
                now.plus_seconds(after.rem_euclid(3)).ok_or("late")?,
            )?;
        }
        Ok(())
    }

    #[rule]
    pub fn second(change: Change<Move>, levels: &mut Table<Level>) -> Outcome {
        let amount = |row: &Option<Move>| row.as_ref().map_or(0, |row| row.amount);
        let (before, after) = (amount(&change.before), amount(&change.after));
        let level = levels.entry(0)?;
        if after == 12 {
            return Err("twelve".into());
        }
        assert!(level.amount < super::PANICS, "far too much");
        assert!(after != 8, "eight");
        level.seen =
            level.seen.wrapping_mul(31) + level.amount * 7 + after - before + level.rung * 3;
        Ok(())
    }

    #[rule]
    pub fn ring(timer: Timer, levels: &mut Table<Level>) -> Outcome {
        let level = levels.entry(0)?;
        if level.amount % 9 == 1 {
            return Err("nine".into());
        }
        assert!(level.amount % 9 != 2, "bell");
        level.rung += 1;
        level.seen = level.seen.wrapping_mul(17) + timer.key.parse::<i64>()?;
        Ok(())
    }

    rulemill_sdk::plugin!(first, second, ring);
}

/// Writes one row, and later nothing for long.
mod seldom {
    use rulemill_sdk::prelude::*;

    use super::rows::{Level, Move};

    #[rule]
    pub fn first(change: Change<Move>, levels: &mut Table<Level>) -> Outcome {
        let amount = change.after.as_ref().map_or(0, |row| row.amount);
        assert!(amount != super::PANICS, "far too much");
        if change.key() < 100 {
            levels.entry(0)?.amount += amount;
        }
        Ok(())
    }

    rulemill_sdk::plugin!(first);
}

fn move_(id: i64, amount: i64, seconds: i64) -> TestChange<'static> {
    TestChange {
        table: "moves",
        op: RawOp::Upsert,
        row: vec![("id", ValueRef::I64(id)), ("amount", ValueRef::I64(amount))],
        time: Some(seconds * 1_000_000),
    }
}

#[test]
fn a_rule_that_is_handed_its_change_again_comes_behind_the_earlier_rules_of_it() {
    let changes = [
        move_(1, REFUSED, 1),
        // Waits behind it. Had it not, the second rule would panic at the next.
        move_(1, PANICS + REFUSED, 1),
        move_(2, 5, 1),
    ];
    for on_error in [OnError::Park, OnError::Skip] {
        let alone = run(both::plugin, &changes, on_error, 1);
        if on_error == OnError::Park {
            assert_eq!(alone.levels, ["id=0 amount=5 seen=5 rung=0"]);
        }
        assert_eq!(
            run(both::plugin, &changes, on_error, 4_096),
            alone,
            "{on_error:?}"
        );
    }
}

#[test]
fn a_timer_does_not_fire_between_the_rules_of_a_change_that_panics_again() {
    let changes = [
        move_(9, 1, 10),
        move_(1, REFUSED, 10),
        // The first rule sets a timer that is due already, the second panics, twice: something before it had to be parked.
        move_(2, 8, 1),
    ];
    let alone = run(timed::plugin, &changes, OnError::Park, 1);
    assert!(alone.levels[0].ends_with("rung=0"), "{alone:?}");
    assert_eq!(run(timed::plugin, &changes, OnError::Park, 4_096), alone);
}

#[test]
fn batches_do_not_show_in_what_two_rules_make_of_a_change() {
    compare(both::plugin, |random| {
        let change = |_| {
            let amount = match random.below(10) {
                0 | 1 => REFUSED,
                2 => PANICS,
                _ => random.between(-12, 12),
            };
            move_(random.between(1, 6), amount, 1)
        };
        (0..30).map(change).collect()
    });
}

#[test]
fn batches_do_not_show_in_what_rules_and_timers_make_of_a_change() {
    compare(timed::plugin, |random| {
        let mut time = 1;
        let change = |_| {
            let amount = match random.below(12) {
                0 | 1 => REFUSED,
                2 => PANICS,
                3 => 12,
                4 | 5 => 8,
                _ => random.between(-12, 11),
            };
            time += random.between(0, 2);
            move_(random.between(1, 6), amount, time)
        };
        (0..25).map(change).collect()
    });
}

#[test]
fn timers_due_before_the_place_where_their_setter_stops_fire() {
    let changes = [
        // Sets a timer that is due at 1.
        move_(1, 4, 0),
        // The timer fires before this one.
        move_(2, 5, 10),
        // Sets another, due at 12.
        move_(6, -4, 10),
        move_(3, REFUSED, 11),
        move_(5, REFUSED, 11),
        // That would fire before this one, had the setter not stopped.
        move_(4, 6, 12),
    ];
    let rung = |left: &Left| left.levels.iter().any(|row| row.ends_with("rung=1"));
    let halted = run(timed::plugin, &changes, OnError::Halt, 1);
    assert!(rung(&halted), "{halted:?}");
    for batch in [2, 3, 4, 4_096] {
        assert_eq!(run(timed::plugin, &changes, OnError::Halt, batch), halted);
    }
    // It stops for want of room, at the second that it refuses or at one that waits.
    for second in [(5, REFUSED), (3, 7)] {
        let mut changes = changes.clone();
        changes[4] = move_(second.0, second.1, 11);
        let full = |batch| {
            let rig = start(timed::plugin, OnError::Park, |limits| {
                limits.batch_changes_max = batch;
                limits.dead_letters_max = 1;
            });
            for part in changes.chunks(batch) {
                rig.apply(part).unwrap();
            }
            left(&rig)
        };
        let alone = full(1);
        assert!(rung(&alone), "{alone:?}");
        for batch in [2, 3, 4, 4_096] {
            assert_eq!(full(batch), alone, "batches of {batch}");
        }
    }
}

#[test]
fn what_fails_again_is_tried_once_also_for_a_rule_that_is_paused() {
    const CHANGES: i64 = 1_000;
    let rig = start(both::plugin, OnError::Park, |_| {});
    let changes: Vec<_> = (0..CHANGES).map(|id| move_(id, REFUSED, 1)).collect();
    rig.apply(&changes).unwrap();
    rig.pause("first").unwrap();
    let before = both::REFUSALS.load(Ordering::SeqCst);
    assert_eq!(rig.retry(None, None).unwrap(), (0, CHANGES as u64));
    let calls = both::REFUSALS.load(Ordering::SeqCst) - before;
    // Other tests of this process refuse some as well.
    assert!(
        calls < 20 * CHANGES as u64,
        "{calls} calls for {CHANGES} changes"
    );
}

#[test]
fn a_batch_of_many_calls_changes_each_row_once() {
    let rig = start(seldom::plugin, OnError::Park, |_| {});
    let mut changes = vec![move_(1, PANICS, 1)];
    changes.extend((2..40).map(|id| move_(id, 1, 1)));
    changes.push(move_(40, PANICS, 1));
    // So many that no panic is expected any more.
    changes.extend((100..15_000).map(|id| move_(id, 1, 1)));
    rig.apply(&changes).unwrap();
    let reader = rig.store.reader().unwrap();
    let table = reader.catalog().unwrap().by_name("levels").unwrap().id;
    let logged = reader.log(Seq(0)).unwrap().map(|change| change.unwrap());
    assert_eq!(logged.filter(|change| change.table == table).count(), 1);
}
