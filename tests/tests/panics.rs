//! Rules of one plugin that panic, run out of time and return errors, each over changes of its own, while the others get the same changes: what one has
//! done before another's panic is kept, and counts once.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rulemill::{
    change::{Op, RawOp, Seq},
    store::Store,
};
use rulemill_sdk::prelude::*;
use rulemill_tests::{
    native::{ENDLESS, Make},
    random::{Random, from_environment},
    rig::{Options, Rig, TestChange},
};
use rulemill_wire::ValueRef;

const RULES: [&str; 3] = ["one", "two", "three"];

/// What an order's amount makes of a rule.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Counts,
    Panics,
    Refuses,
    Hangs,
}

const CODES: [i64; 10] = [0, 1, 2, 10, 11, 12, 20, 30, 31, 32];

fn does(rule: usize, amount: i64) -> Does {
    match amount % 100 {
        code if code == rule as i64 => Does::Panics,
        code if code == 10 + rule as i64 => Does::Refuses,
        code if code == 30 + rule as i64 => Does::Hangs,
        // All of them.
        20 => Does::Panics,
        _ => Does::Counts,
    }
}

#[derive(Row)]
#[table(source = "orders")]
struct Order {
    #[key]
    id: i64,
    user_id: i64,
    amount: i64,
}

macro_rules! counting {
    ($rule:ident, $number:expr, $total:ident, $table:literal) => {
        #[derive(Row, Default)]
        #[table(derived = $table)]
        struct $total {
            #[key]
            user_id: i64,
            orders: i64,
            amount: i64,
        }

        #[rule]
        fn $rule(change: Change<Order>, totals: &mut Table<$total>) -> Outcome {
            for Delta { row, sign } in change.deltas() {
                let total = totals.entry(row.user_id)?;
                total.orders += sign;
                total.amount += row.amount * sign;
                match does($number, row.amount) {
                    Does::Counts => {}
                    Does::Panics => panic!("a beast"),
                    Does::Refuses => return Err("no".into()),
                    Does::Hangs => std::panic::panic_any(ENDLESS),
                }
            }
            Ok(())
        }
    };
}

counting!(one, 0, One, "one");
counting!(two, 1, Two, "two");
counting!(three, 2, Three, "three");

rulemill_sdk::plugin!(one, two, three);

const PLUGIN: (&str, Make, &str) = ("counts", plugin, "1");

/// The totals by user, and the orders that are set aside.
#[derive(Default)]
struct Model {
    totals: BTreeMap<i64, (i64, i64)>,
    parked: BTreeSet<i64>,
    letters: u64,
}

type Stored = BTreeMap<i64, (i64, i64)>;

impl Model {
    fn take(
        &mut self,
        rule: usize,
        id: i64,
        before: Option<(i64, i64)>,
        after: Option<(i64, i64)>,
    ) {
        let rows = || before.iter().chain(&after);
        if self.parked.contains(&id) || rows().any(|row| does(rule, row.1) != Does::Counts) {
            self.parked.insert(id);
            self.letters += 1;
            return;
        }
        for (row, sign) in [(before, -1), (after, 1)] {
            if let Some((user, amount)) = row {
                let total = self.totals.entry(user).or_default();
                total.0 += sign;
                total.1 += amount * sign;
            }
        }
    }

    fn rows(&self) -> Vec<String> {
        let totals = self.totals.iter();
        totals
            .map(|(user, (orders, amount))| {
                format!("user_id={user} orders={orders} amount={amount}")
            })
            .collect()
    }
}

fn changes(seed: u64, models: &mut [Model; 3]) -> Vec<TestChange<'static>> {
    let mut random = Random::new(seed);
    let mut stored = Stored::new();
    let mut changes = Vec::new();
    for step in 0..700 {
        let id = random.between(1, 200);
        let before = stored.get(&id).copied();
        let after = (before.is_none() || !random.one_in(4)).then(|| {
            let code = match random.one_in(25) {
                true => CODES[random.below(CODES.len() as u64) as usize],
                false => 50,
            };
            (random.between(1, 9), random.between(0, 49) * 100 + code)
        });
        match after {
            Some(row) => stored.insert(id, row),
            None => stored.remove(&id),
        };
        for (rule, model) in models.iter_mut().enumerate() {
            model.take(rule, id, before, after);
        }
        let (user_id, amount) = after.or(before).unwrap_or_default();
        changes.push(TestChange {
            table: "orders",
            op: match (before, after) {
                (None, _) => RawOp::Insert,
                (_, Some(_)) => RawOp::Update,
                (_, None) => RawOp::Delete,
            },
            row: vec![
                ("id", ValueRef::I64(id)),
                ("user_id", ValueRef::I64(user_id)),
                ("amount", ValueRef::I64(amount)),
            ],
            time: Some(1_000_000 + step),
        });
    }
    changes
}

/// Where others fault must not show in what a table's changes are: one for each row that a batch leaves otherwise.
#[test]
fn a_batch_that_is_cut_by_faults_changes_each_row_once() {
    let mut models: [Model; 3] = Default::default();
    let changes = changes(1, &mut models);
    let mut options = Options::default();
    options.limits.breaker_faults_percent = 100;
    options.limits.breaker_timeouts_max = 10_000;
    let store = Arc::new(Store::in_memory().unwrap());
    let rig = Rig::start(store, &options, &[PLUGIN]).unwrap();
    rig.apply(&changes).unwrap();
    let reader = rig.store.reader().unwrap();
    let catalog = reader.catalog().unwrap();
    for (name, model) in RULES.iter().zip(&models) {
        assert!(model.parked.len() > 2, "nothing to see");
        let table = catalog.by_name(name).unwrap().id;
        let logged = reader.log(Seq(0)).unwrap().map(|change| change.unwrap());
        let logged: Vec<_> = logged.filter(|change| change.table == table).collect();
        assert_eq!(logged.len(), model.totals.len(), "{name}");
        assert!(
            logged.iter().all(|change| change.op == Op::Insert),
            "{name}"
        );
    }
}

#[test]
fn what_the_rules_of_a_plugin_did_before_one_panics_counts_once() {
    let first = from_environment("RULEMILL_SEED", 1);
    for seed in first..first + from_environment("RULEMILL_SEEDS", 12) {
        for batch in [1, 7, 300, 4_096] {
            let case = format!("batches of {batch}, RULEMILL_SEED={seed}");
            let mut models: [Model; 3] = Default::default();
            let changes = changes(seed, &mut models);
            let mut options = Options::default();
            options.limits.batch_changes_max = batch;
            // None of them is to be paused.
            options.limits.breaker_faults_percent = 100;
            options.limits.breaker_timeouts_max = 10_000;
            let store = Arc::new(Store::in_memory().unwrap());
            let rig = Rig::start(store, &options, &[PLUGIN]).unwrap();
            for part in changes.chunks(batch) {
                rig.apply(part).unwrap();
            }
            for (name, model) in RULES.iter().zip(&models) {
                rig.wait_for(|status| {
                    let rule = &status.rules[&format!("counts.{name}")];
                    assert_eq!(rule.status, "running", "{case}, {name}");
                    assert!(rule.parked <= model.letters, "{case}, {name}");
                    rule.parked == model.letters
                });
                let told = rig.rows(name).unwrap();
                assert_eq!(told, model.rows(), "{case}, {name}");
            }
            rig.stop().unwrap();
        }
    }
}
