//! What a plugin has done before a panic is what it would have done if the batch had ended there.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use rulemill_sdk::{
    prelude::*,
    runtime,
    state::{Found, Page, Range, StateReader},
    wire::{
        batch::{BatchWriter, ItemHeader, Kind},
        effects::{Effect, EffectsReader},
    },
};

/// The amount over which `sum` returns an error, and the one over which it panics.
const REFUSED: i64 = 13;
const PANICS: i64 = 666;

#[derive(Row)]
#[table(source = "orders")]
struct Order {
    #[key]
    id: i64,
    user_id: i64,
    amount: i64,
}

#[derive(Row, Default)]
#[table(derived = "sums")]
struct Sum {
    #[key]
    user_id: i64,
    orders: i64,
    amount: i64,
}

/// Tells of each order, and sets a timer for its user, of which some come due within the batch.
#[rule]
fn tell(change: Change<Order>, notify: &mut Notify, timers: &mut Timers, now: Now) -> Outcome {
    for Delta { row, sign } in change.deltas() {
        notify.send("orders", &row.id)?;
        let key = row.user_id.to_string();
        if sign.is_minus() {
            timers.clear("late", key)?;
        } else {
            let due = now.timestamp().micros() + row.amount % 7;
            timers.set("late", key, Timestamp::from_micros(due).unwrap_or_default())?;
        }
    }
    Ok(())
}

/// Removes the row of a user without orders.
#[rule]
fn sum(change: Change<Order>, sums: &mut Table<Sum>) -> Outcome {
    for Delta { row, sign } in change.deltas() {
        let sum = sums.entry(row.user_id)?;
        sum.orders += sign;
        sum.amount += row.amount * sign;
        let is_empty = sum.orders == 0;
        assert!(row.amount != PANICS, "the beast");
        if row.amount == REFUSED {
            return Err("thirteen".into());
        }
        if is_empty {
            sums.remove(row.user_id)?;
        }
    }
    Ok(())
}

#[rule]
fn late(timer: Timer, sums: &mut Table<Sum>, notify: &mut Notify) -> Outcome {
    let user_id: i64 = timer.key.parse()?;
    sums.entry(-user_id)?.orders += 1;
    notify.send("late", &timer.key)?;
    assert!(user_id != PANICS, "a late beast");
    Ok(())
}

rulemill_sdk::plugin!(tell, sum, late);

/// A host without rows.
struct Host {
    saves: bool,
}

impl StateReader for Host {
    fn get(&self, _table: u32, _key: &[u8], _at: u64) -> Found {
        Found {
            row: None,
            until: u64::MAX,
        }
    }

    fn scan(&self, _table: u32, _range: &Range, _at: u64) -> Page {
        Page {
            count: 0,
            rows: Vec::new(),
            next: None,
        }
    }

    fn saves(&self) -> bool {
        self.saves
    }
}

struct Step {
    kind: Kind,
    rules: u64,
    order: Order,
}

fn write(steps: &[Step]) -> Vec<u8> {
    let mut batch = BatchWriter::new(1, 0, 0);
    for (place, step) in steps.iter().enumerate() {
        let header = ItemHeader {
            seq: place as u64 + 1,
            time: place as i64,
            rules: step.rules,
            kind: step.kind,
        };
        step.order.write_row(batch.item(header));
    }
    batch.finish()
}

/// What effects come to, whatever the order in which rows and timers were written.
#[derive(Debug, Default, PartialEq)]
struct Outcomes {
    rows: BTreeMap<i64, (i64, i64)>,
    timers: BTreeMap<(u16, String), Option<i64>>,
    notifications: Vec<(u16, u32, String, String)>,
    faults: Vec<(u16, u32, String)>,
}

fn read(effects: &[u8]) -> Outcomes {
    let mut outcomes = Outcomes::default();
    let mut reader = EffectsReader::new(effects).unwrap();
    while let Some(effect) = reader.next_effect().unwrap() {
        match effect {
            Effect::Put { .. } => {
                let row = Sum::read_row(reader.body()).unwrap();
                outcomes.rows.insert(row.user_id, (row.orders, row.amount));
            }
            Effect::Delete { .. } => {
                outcomes.rows.remove(&reader.body().i64().unwrap());
            }
            Effect::Timer { rule, key, due, .. } => {
                outcomes.timers.insert((rule, key.to_owned()), due);
            }
            Effect::Notification {
                rule,
                item,
                topic,
                body,
            } => outcomes
                .notifications
                .push((rule, item, topic.to_owned(), body.to_owned())),
            Effect::Fault {
                rule,
                item,
                message,
            } => outcomes.faults.push((rule, item, message.to_owned())),
        }
    }
    outcomes
}

/// Runs a batch in a fresh plugin: its effects, or where it panicked and what it had done by then.
fn run(steps: &[Step], saves: bool) -> Result<Outcomes, (u32, u32, Option<Outcomes>)> {
    let mut plugin = plugin();
    plugin.describe("null").unwrap();
    let host: Arc<dyn StateReader> = Arc::new(Host { saves });
    let batch = write(steps);
    match catch_unwind(AssertUnwindSafe(|| plugin.apply(&batch, &host))) {
        Ok(effects) => Ok(read(&effects.unwrap())),
        Err(_) => {
            let panicked = runtime::panicked_call().unwrap();
            let done = panicked.done.map(|done| read(&done));
            Err((panicked.item, panicked.rule, done))
        }
    }
}

/// Orders of few users: new ones, and the removal of earlier ones.
fn steps(seed: u64, count: usize) -> Vec<Step> {
    let mut state = seed;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut live: Vec<(i64, i64, i64)> = Vec::new();
    let mut steps = Vec::new();
    for id in 0..count as i64 {
        let removed = (!live.is_empty() && random(3) == 0)
            .then(|| live.swap_remove(random(live.len() as u64) as usize));
        let (kind, (id, user_id, amount)) = match removed {
            Some(order) => (Kind::Delete, order),
            None => {
                let amount = if random(9) == 0 {
                    REFUSED
                } else {
                    random(12) as i64
                };
                let order = (id, random(5) as i64, amount);
                live.push(order);
                (Kind::Insert, order)
            }
        };
        // Both rules, or one.
        let rules = [0b11, 0b11, 0b01, 0b10][random(4) as usize];
        let order = Order {
            id,
            user_id,
            amount,
        };
        steps.push(Step { kind, rules, order });
    }
    steps
}

#[test]
fn keeping_effects_call_by_call_changes_nothing() {
    for seed in 0..200 {
        let steps = steps(seed, 60);
        assert_eq!(run(&steps, true), run(&steps, false), "seed {seed}");
    }
}

#[test]
fn what_was_done_before_a_panic_is_what_the_batch_had_come_to() {
    for seed in 0..200 {
        let at = 10 + seed as usize % 40;
        let mut batch = steps(seed, 60);
        batch[at].kind = Kind::Insert;
        batch[at].rules = 0b11;
        batch[at].order.amount = PANICS;
        let (item, rule, done) = run(&batch, true).unwrap_err();
        assert_eq!((item, rule), (at as u32, 1), "seed {seed}");
        // What came before it, and the rule that got the same change before.
        let mut expected = steps(seed, 60);
        expected.truncate(at + 1);
        expected[at].kind = Kind::Insert;
        expected[at].rules = 0b01;
        expected[at].order.amount = PANICS;
        assert_eq!(done, Some(run(&expected, false).unwrap()), "seed {seed}");
        let unasked = run(&batch, false).unwrap_err();
        assert_eq!(unasked, (item, rule, None), "seed {seed}");
    }
}

/// It is no change's fault: the host must find it by firing the timer itself.
#[test]
fn a_timer_that_panics_inside_the_batch_is_told_from_the_change_before_which_it_fires() {
    let order = |id, user_id, amount| Step {
        kind: Kind::Insert,
        rules: 0b11,
        order: Order {
            id,
            user_id,
            amount,
        },
    };
    let batch = [order(1, PANICS, 0), order(2, 1, 1)];
    let (item, rule, done) = run(&batch, true).unwrap_err();
    assert_eq!((item, rule), (1, u32::MAX));
    assert_eq!(done, Some(run(&batch[..1], false).unwrap()));
}
