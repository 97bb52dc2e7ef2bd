//! The engine with rules compiled natively: what comes out of each kind of change, and that batching doesn't show.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

use std::sync::Arc;

use rulemill::{
    change::{Idempotency, RawOp, Refused},
    engine::{Backfill, Control, OnError, PluginOptions, Status, TableOptions},
    store::Store,
};
use rulemill_tests::{
    native::Make,
    rig::{Options, Rig, TestChange},
};
use rulemill_wire::{ColumnType, ValueRef};

mod shop {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "orders")]
    pub struct Order {
        #[key]
        pub id: i64,
        pub user_id: i64,
        pub amount: i64,
    }

    #[derive(Row)]
    #[table(source = "users")]
    pub struct User {
        #[key]
        id: i64,
        name: String,
    }

    #[derive(Row, Default)]
    #[table(derived = "user_totals")]
    pub struct UserTotal {
        #[key]
        user_id: i64,
        orders: i64,
        amount: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "named_orders")]
    pub struct NamedOrder {
        #[key]
        id: i64,
        #[index]
        user_id: i64,
        user: String,
    }

    #[derive(Row, Default)]
    #[table(derived = "grand_total")]
    pub struct GrandTotal {
        #[key]
        id: i64,
        users: i64,
        amount: i64,
    }

    #[rule]
    pub fn user_totals(change: Change<Order>, totals: &mut Table<UserTotal>) -> Outcome {
        for Delta { row, sign } in change.deltas() {
            if row.amount == 13 {
                return Err("thirteen".into());
            }
            assert_ne!(row.amount, 666, "the number of the beast");
            let total = totals.entry(row.user_id)?;
            total.orders += sign;
            total.amount += row.amount * sign;
        }
        Ok(())
    }

    #[rule]
    pub fn named_orders(
        change: Change<Order>,
        users: &Lookup<User>,
        named: &mut Table<NamedOrder>,
    ) -> Outcome {
        if let Some(order) = &change.before {
            named.remove(order.id)?;
        }
        if let Some(order) = &change.after {
            let user = users.get(order.user_id)?.map(|user| user.name.clone());
            named.insert(NamedOrder {
                id: order.id,
                user_id: order.user_id,
                user: user.unwrap_or_else(|| "nobody".into()),
            });
        }
        Ok(())
    }

    #[rule]
    pub fn grand_total(change: Change<UserTotal>, grand: &mut Table<GrandTotal>) -> Outcome {
        for Delta { row, sign } in change.deltas() {
            let total = grand.entry(0)?;
            total.users += sign;
            total.amount += row.amount * sign;
        }
        Ok(())
    }

    rulemill_sdk::plugin!(user_totals, named_orders, grand_total);
}

mod late {
    use rulemill_sdk::prelude::*;

    use super::shop::Order;

    #[derive(Row, Default)]
    #[table(derived = "order_count")]
    pub struct Count {
        #[key]
        id: i64,
        orders: i64,
        amount: i64,
    }

    #[rule]
    pub fn order_count(change: Change<Order>, counts: &mut Table<Count>) -> Outcome {
        for Delta { row, sign } in change.deltas() {
            let count = counts.entry(0)?;
            count.orders += sign;
            count.amount += row.amount * sign;
        }
        Ok(())
    }

    rulemill_sdk::plugin!(order_count);
}

fn order<'a>(op: RawOp, id: i64, user: i64, amount: i64) -> TestChange<'a> {
    TestChange {
        table: "orders",
        op,
        row: vec![
            ("id", ValueRef::I64(id)),
            ("user_id", ValueRef::I64(user)),
            ("amount", ValueRef::I64(amount)),
        ],
        time: Some(id),
    }
}

fn user(id: i64, name: &str) -> TestChange<'_> {
    TestChange {
        table: "users",
        op: RawOp::Upsert,
        row: vec![("id", ValueRef::I64(id)), ("name", ValueRef::Text(name))],
        time: Some(id),
    }
}

fn store() -> Arc<Store> {
    Arc::new(Store::in_memory().unwrap())
}

fn rig(options: &Options) -> Rig {
    Rig::start(store(), options, &[("shop", shop::plugin, "1")]).unwrap()
}

#[test]
fn derived_tables_follow_inserts_updates_and_deletes() {
    let rig = rig(&Options::default());
    rig.apply(&[
        user(1, "Ann"),
        order(RawOp::Insert, 1, 1, 10),
        order(RawOp::Insert, 2, 1, 5),
        order(RawOp::Insert, 3, 2, 7),
    ])
    .unwrap();
    rig.apply(&[
        order(RawOp::Update, 2, 2, 6),
        order(RawOp::Delete, 1, 0, 0),
        order(RawOp::Delete, 99, 0, 0),
    ])
    .unwrap();
    assert_eq!(
        rig.rows("user_totals").unwrap(),
        [
            "user_id=1 orders=0 amount=0",
            "user_id=2 orders=2 amount=13"
        ]
    );
    assert_eq!(rig.rows("grand_total").unwrap(), ["id=0 users=2 amount=13"]);
    assert_eq!(
        rig.rows("named_orders").unwrap(),
        ["id=2 user_id=2 user=nobody", "id=3 user_id=2 user=nobody"]
    );
    rig.stop().unwrap();
}

/// Such a rule once was said to have asked for state that it may not read, as if it had gone beyond its rights.
#[test]
fn a_row_that_is_looked_up_and_lacks_a_value_is_told_by_table_key_and_column() {
    let rig = rig(&Options::default());
    let nameless = TestChange {
        row: vec![("id", ValueRef::I64(8))],
        ..user(8, "")
    };
    rig.apply(&[user(7, "Ann"), nameless]).unwrap();
    rig.apply(&[
        order(RawOp::Insert, 1, 8, 10),
        order(RawOp::Insert, 2, 7, 10),
    ])
    .unwrap();
    let reader = rig.store.reader().unwrap();
    let letters = reader.dead_letters().unwrap().map(|letter| letter.unwrap());
    assert_eq!(
        letters.map(|letter| letter.error).collect::<Vec<_>>(),
        [
            "looked up a row that doesn't fit its row type: table users, key 8: column name is null or missing, which the \
             rule's row type doesn't allow: give it a value, or make it an Option"
        ]
    );
    // The others of its batch are none the worse.
    assert_eq!(
        rig.rows("named_orders").unwrap(),
        ["id=2 user_id=7 user=Ann"]
    );
    // A row that is mended counts for what comes then; the parked change sees what was there at its time.
    rig.apply(&[user(8, "Bo")]).unwrap();
    let retried = rig.handle.ask(|reply| Control::RetryDeadLetters {
        rule: None,
        id: None,
        reply,
    });
    assert_eq!(retried.unwrap(), (0, 1));
    rig.apply(&[order(RawOp::Insert, 3, 8, 10)]).unwrap();
    assert_eq!(
        rig.rows("named_orders").unwrap(),
        ["id=2 user_id=7 user=Ann", "id=3 user_id=8 user=Bo"]
    );
    rig.stop().unwrap();
}

#[test]
fn a_lookup_sees_the_table_as_the_change_left_it() {
    for batch in [1, 2, 100] {
        let rig = rig(&Options::default());
        let changes = [
            order(RawOp::Insert, 1, 1, 10),
            user(1, "Ann"),
            order(RawOp::Insert, 2, 1, 10),
            user(1, "Anna"),
            order(RawOp::Insert, 3, 1, 10),
        ];
        for part in changes.chunks(batch) {
            rig.apply(part).unwrap();
        }
        assert_eq!(
            rig.rows("named_orders").unwrap(),
            [
                "id=1 user_id=1 user=nobody",
                "id=2 user_id=1 user=Ann",
                "id=3 user_id=1 user=Anna"
            ],
            "in batches of {batch}"
        );
        rig.stop().unwrap();
    }
}

#[test]
fn a_change_that_faults_is_parked_with_those_behind_it_and_retried_in_order() {
    for amount in [13, 666] {
        let rig = rig(&Options::default());
        rig.apply(&[
            order(RawOp::Insert, 1, 1, 10),
            order(RawOp::Insert, 2, 1, amount),
            order(RawOp::Insert, 3, 2, 5),
            order(RawOp::Update, 2, 1, 14),
        ])
        .unwrap();
        rig.apply(&[order(RawOp::Update, 2, 2, 15)]).unwrap();
        // The other rule of the plugin handled every change.
        assert_eq!(rig.rows("named_orders").unwrap().len(), 3);
        assert_eq!(
            rig.rows("user_totals").unwrap(),
            [
                "user_id=1 orders=1 amount=10",
                "user_id=2 orders=1 amount=5"
            ]
        );
        rig.wait_for(|status| status.rules["shop.user_totals"].parked == 3);
        let retried = rig
            .handle
            .ask(|reply| Control::RetryDeadLetters {
                rule: Some("user_totals".into()),
                id: None,
                reply,
            })
            .unwrap();
        assert_eq!(
            retried,
            (0, 3),
            "the first still faults, so the others wait"
        );
        let store = rig.stop().unwrap();
        // A new version without the fault takes them in order.
        let rig = Rig::start(store, &Options::default(), &[("shop", fixed::plugin, "2")]).unwrap();
        let retried = rig
            .handle
            .ask(|reply| Control::RetryDeadLetters {
                rule: None,
                id: None,
                reply,
            })
            .unwrap();
        assert_eq!(retried, (3, 0));
        let store = rig.stop().unwrap();
        assert_eq!(
            rulemill_tests::rig::rows(&store, "user_totals").unwrap(),
            [
                "user_id=1 orders=1 amount=10",
                "user_id=2 orders=2 amount=20"
            ]
        );
    }
}

mod fixed {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "orders")]
    pub struct Order {
        #[key]
        pub id: i64,
        pub user_id: i64,
        pub amount: Option<i64>,
    }

    #[derive(Row, Default)]
    #[table(derived = "user_totals")]
    pub struct UserTotal {
        #[key]
        user_id: i64,
        orders: i64,
        amount: i64,
    }

    #[rule]
    pub fn user_totals(change: Change<Order>, totals: &mut Table<UserTotal>) -> Outcome {
        for Delta { row, sign } in change.deltas() {
            let total = totals.entry(row.user_id)?;
            total.orders += sign;
            total.amount += row.amount.unwrap_or_default() * sign;
        }
        Ok(())
    }

    rulemill_sdk::plugin!(user_totals);
}

#[test]
fn a_row_that_does_not_fit_is_parked_at_its_place() {
    let rig = rig(&Options::default());
    let null = |id| {
        let mut order = order(RawOp::Update, id, 1, 0);
        order.row.retain(|(name, _)| *name != "amount");
        order
    };
    rig.apply(&[
        order(RawOp::Insert, 1, 1, 1),
        order(RawOp::Update, 1, 1, 2),
        null(1),
        order(RawOp::Update, 1, 1, 4),
        null(1),
        order(RawOp::Update, 1, 1, 6),
        order(RawOp::Insert, 2, 2, 8),
    ])
    .unwrap();
    let expected = ["user_id=1 orders=1 amount=2", "user_id=2 orders=1 amount=8"];
    assert_eq!(rig.rows("user_totals").unwrap(), expected);
    rig.wait_for(|status| status.rules["shop.user_totals"].parked == 4);
    let store = rig.stop().unwrap();
    let plugins = [("shop", fixed::plugin as Make, "2")];
    let rig = Rig::start(store, &Options::default(), &plugins).unwrap();
    let retried = rig
        .handle
        .ask(|reply| Control::RetryDeadLetters {
            rule: Some("user_totals".into()),
            id: None,
            reply,
        })
        .unwrap();
    assert_eq!(retried, (4, 0));
    // The answer came after the disk.
    let expected = ["user_id=1 orders=1 amount=6", "user_id=2 orders=1 amount=8"];
    assert_eq!(rig.rows("user_totals").unwrap(), expected);
}

#[test]
fn of_two_rows_that_do_not_fit_the_first_halts() {
    let rig = rig(&with_on_error(OnError::Halt));
    let null = |id| {
        let mut order = order(RawOp::Insert, id, 1, 0);
        order.row.retain(|(name, _)| *name != "amount");
        order
    };
    rig.apply(&[
        order(RawOp::Insert, 1, 1, 10),
        null(2),
        order(RawOp::Insert, 3, 1, 5),
        null(4),
        order(RawOp::Insert, 5, 1, 1),
    ])
    .unwrap();
    let halted = |status: &Status| {
        status.rules["shop.user_totals"]
            .status
            .starts_with("halted")
    };
    rig.wait_for(halted);
    assert_eq!(rig.handle.board.load().rules["shop.user_totals"].cursor, 1);
    let store = rig.stop().unwrap();
    let plugins = [("shop", fixed::plugin as Make, "2")];
    let rig = Rig::start(store, &Options::default(), &plugins).unwrap();
    rig.wait_for(|status| status.rules["shop.user_totals"].status == "running");
    let store = rig.stop().unwrap();
    assert_eq!(
        rulemill_tests::rig::rows(&store, "user_totals").unwrap(),
        ["user_id=1 orders=5 amount=16"]
    );
}

#[test]
fn a_halt_while_rows_are_taken_over_loses_none_of_them() {
    for amount in [13, 666] {
        let mut options = with_on_error(OnError::Halt);
        options.limits.batch_changes_max = 8;
        let rig = Rig::start(store(), &options, &[("late", late::plugin, "1")]).unwrap();
        for id in 1..=30 {
            let amount = if id == 21 { amount } else { 1 };
            rig.apply(&[order(RawOp::Insert, id, 1, amount)]).unwrap();
        }
        rig.load("shop", shop::plugin, "1").unwrap();
        rig.wait_for(|status| {
            status.rules["shop.user_totals"]
                .status
                .starts_with("halted")
        });
        rig.apply(&[
            order(RawOp::Update, 3, 1, 2),
            order(RawOp::Update, 29, 1, 2),
        ])
        .unwrap();
        assert_eq!(
            rig.rows("user_totals").unwrap(),
            ["user_id=1 orders=20 amount=20"]
        );
        rig.load("shop", fixed::plugin, "2").unwrap();
        rig.wait_for(|status| status.rules["shop.user_totals"].status == "running");
        let expected = format!("user_id=1 orders=30 amount={}", 31 + amount);
        rig.wait_for(|_| rig.rows("user_totals").unwrap() == [&*expected]);
    }
}

#[test]
fn a_rule_with_no_room_to_park_is_paused_before_the_change() {
    let mut options = Options::default();
    options.limits.dead_letters_max = 1;
    let rig = rig(&options);
    rig.apply(&[order(RawOp::Insert, 1, 1, 13)]).unwrap();
    rig.apply(&[
        order(RawOp::Update, 1, 1, 14),
        order(RawOp::Insert, 2, 2, 5),
        order(RawOp::Update, 1, 1, 15),
        order(RawOp::Insert, 3, 3, 7),
    ])
    .unwrap();
    rig.wait_for(|status| {
        status.rules["shop.user_totals"]
            .status
            .starts_with("paused: ")
    });
    assert_eq!(rig.handle.board.load().rules["shop.user_totals"].cursor, 1);
    let store = rig.stop().unwrap();
    let plugins = [("shop", fixed::plugin as Make, "2")];
    let rig = Rig::start(store, &Options::default(), &plugins).unwrap();
    rig.wait_for(|status| status.rules["shop.user_totals"].status == "running");
    let retried = rig.handle.ask(|reply| Control::RetryDeadLetters {
        rule: None,
        id: None,
        reply,
    });
    assert_eq!(retried.unwrap(), (3, 0));
    assert_eq!(
        rig.rows("user_totals").unwrap(),
        [
            "user_id=1 orders=1 amount=15",
            "user_id=2 orders=1 amount=5",
            "user_id=3 orders=1 amount=7"
        ]
    );
}

fn with_on_error(on_error: OnError) -> Options {
    let mut options = Options::default();
    options.plugins.insert(
        "shop".into(),
        PluginOptions {
            on_error,
            backfill: Backfill::Snapshot,
        },
    );
    options
}

#[test]
fn skip_passes_a_fault_over() {
    let rig = rig(&with_on_error(OnError::Skip));
    rig.apply(&[
        order(RawOp::Insert, 1, 1, 10),
        order(RawOp::Insert, 2, 1, 13),
        order(RawOp::Insert, 3, 1, 666),
        order(RawOp::Insert, 4, 1, 1),
    ])
    .unwrap();
    assert_eq!(
        rig.rows("user_totals").unwrap(),
        ["user_id=1 orders=2 amount=11"]
    );
    rig.wait_for(|status| status.rules["shop.user_totals"].faults == 2);
    rig.stop().unwrap();
}

#[test]
fn halt_stops_before_the_fault_and_goes_on_from_there() {
    for amount in [13, 666] {
        let rig = rig(&with_on_error(OnError::Halt));
        rig.apply(&[
            order(RawOp::Insert, 1, 1, 10),
            order(RawOp::Insert, 2, 1, amount),
            order(RawOp::Insert, 3, 1, 1),
        ])
        .unwrap();
        rig.apply(&[order(RawOp::Insert, 4, 1, 2)]).unwrap();
        assert_eq!(
            rig.rows("user_totals").unwrap(),
            ["user_id=1 orders=1 amount=10"]
        );
        assert_eq!(rig.rows("named_orders").unwrap().len(), 4);
        rig.wait_for(|status| {
            status.rules["shop.user_totals"]
                .status
                .starts_with("halted")
        });
        let store = rig.stop().unwrap();
        // The same code would fault again.
        let same = [("shop", shop::plugin as Make, "1")];
        let rig = Rig::start(store, &with_on_error(OnError::Halt), &same).unwrap();
        let halted = rig.handle.board.load().rules["shop.user_totals"].clone();
        assert!(halted.status.starts_with("halted"), "{halted:?}");
        let store = rig.stop().unwrap();
        let rig = Rig::start(store, &Options::default(), &[("shop", fixed::plugin, "2")]).unwrap();
        rig.wait_for(|status| status.rules["shop.user_totals"].status == "running");
        let store = rig.stop().unwrap();
        assert_eq!(
            rulemill_tests::rig::rows(&store, "user_totals").unwrap(),
            [format!("user_id=1 orders=4 amount={}", 13 + amount)]
        );
    }
}

#[test]
fn a_table_that_is_configured_without_a_key_has_that_of_the_row_type() {
    let mut options = Options::default();
    options.tables.push(TableOptions {
        name: "orders".into(),
        key: Vec::new(),
        mirror: true,
        columns: vec![("note".into(), ColumnType::Text, true)],
    });
    let rig = rig(&options);
    rig.apply(&[
        order(RawOp::Insert, 1, 1, 10),
        order(RawOp::Insert, 2, 1, 5),
    ])
    .unwrap();
    assert_eq!(rig.rows("orders").unwrap().len(), 2);
    assert_eq!(
        rig.rows("user_totals").unwrap(),
        ["user_id=1 orders=2 amount=15"]
    );
}

#[test]
fn a_paused_rule_catches_up_with_what_it_missed() {
    let mut options = Options::default();
    options.limits.batch_changes_max = 3;
    let rig = rig(&options);
    rig.apply(&[order(RawOp::Insert, 1, 1, 10)]).unwrap();
    rig.handle
        .ask(|reply| Control::Pause {
            rule: "user_totals".into(),
            reply,
        })
        .unwrap();
    for id in 2..20 {
        rig.apply(&[
            order(RawOp::Insert, id, id % 3, id + 20),
            order(RawOp::Update, 1, 1, id + 20),
        ])
        .unwrap();
    }
    assert_eq!(
        rig.rows("user_totals").unwrap(),
        ["user_id=1 orders=1 amount=10"]
    );
    rig.handle
        .ask(|reply| Control::Resume {
            rule: "user_totals".into(),
            skip_gap: false,
            reply,
        })
        .unwrap();
    rig.wait_for(|status| status.rules["shop.user_totals"].status == "running");
    let rows = {
        let store = rig.stop().unwrap();
        rulemill_tests::rig::rows(&store, "grand_total").unwrap()
    };
    let amount: i64 = (22..40).sum::<i64>() + 39;
    assert_eq!(rows, [format!("id=0 users=3 amount={amount}")]);
}

#[test]
fn a_new_rule_takes_over_the_rows_that_are_there_while_they_change() {
    let mut options = Options::default();
    options.limits.batch_changes_max = 4;
    let rig = rig(&options);
    for id in 0..100 {
        rig.apply(&[order(RawOp::Insert, id, 1, 1)]).unwrap();
    }
    rig.load("late", late::plugin, "1").unwrap();
    // Changes land before and behind the key that the backfill has come to.
    for id in 0..100 {
        rig.apply(&[
            order(RawOp::Update, 99 - id, 1, 2),
            order(RawOp::Insert, 100 + id, 1, 5),
        ])
        .unwrap();
    }
    rig.wait_for(|status| status.rules["late.order_count"].status == "running");
    let store = rig.stop().unwrap();
    assert_eq!(
        rulemill_tests::rig::rows(&store, "order_count").unwrap(),
        ["id=0 orders=200 amount=700"]
    );
}

#[test]
fn an_idempotency_key_is_taken_once() {
    let rig = rig(&Options::default());
    let request = |body: u8| {
        Some(Idempotency {
            key: "k1".into(),
            body_hash: [body; 32],
        })
    };
    let changes = [order(RawOp::Insert, 1, 1, 10)];
    let first = rig.apply_request(&changes, request(1)).unwrap().unwrap();
    let second = rig.apply_request(&changes, request(1)).unwrap().unwrap();
    assert!(!first.repeated && second.repeated);
    assert_eq!((first.seq, first.changes), (second.seq, second.changes));
    let other = rig.apply_request(&changes, request(2)).unwrap();
    assert!(matches!(other, Err(Refused::KeyReused)));
    // Also after a restart.
    let store = rig.stop().unwrap();
    let rig = Rig::start(store, &Options::default(), &[("shop", shop::plugin, "1")]).unwrap();
    assert!(
        rig.apply_request(&changes, request(1))
            .unwrap()
            .unwrap()
            .repeated
    );
    assert_eq!(
        rig.rows("user_totals").unwrap(),
        ["user_id=1 orders=1 amount=10"]
    );
    rig.stop().unwrap();
}

#[test]
fn a_source_that_repeats_itself_counts_once() {
    let rig = rig(&Options::default());
    for _ in 0..3 {
        rig.apply(&[
            order(RawOp::Insert, 1, 1, 10),
            order(RawOp::Insert, 1, 1, 10),
        ])
        .unwrap();
    }
    assert_eq!(
        rig.rows("user_totals").unwrap(),
        ["user_id=1 orders=1 amount=10"]
    );
    rig.apply(&[
        order(RawOp::Delete, 1, 1, 10),
        order(RawOp::Delete, 1, 1, 10),
    ])
    .unwrap();
    assert_eq!(
        rig.rows("user_totals").unwrap(),
        ["user_id=1 orders=0 amount=0"]
    );
    rig.stop().unwrap();
}

#[test]
fn truncate_deletes_every_row() {
    let rig = rig(&Options::default());
    rig.apply(&[
        order(RawOp::Insert, 1, 1, 10),
        order(RawOp::Insert, 2, 1, 10),
    ])
    .unwrap();
    rig.apply(&[
        order(RawOp::Insert, 3, 1, 10),
        TestChange {
            op: RawOp::Truncate,
            ..order(RawOp::Truncate, 0, 0, 0)
        },
        order(RawOp::Insert, 4, 1, 7),
    ])
    .unwrap();
    assert_eq!(rig.rows("orders").unwrap(), ["id=4 user_id=1 amount=7"]);
    assert_eq!(
        rig.rows("user_totals").unwrap(),
        ["user_id=1 orders=1 amount=7"]
    );
    rig.stop().unwrap();
}

#[test]
fn a_plugin_that_does_not_fit_is_refused_and_the_old_one_goes_on() {
    let rig = rig(&Options::default());
    let refused = rig
        .load("thief", fixed::plugin, "1")
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("user_totals") && refused.contains("shop"),
        "{refused}"
    );
    rig.apply(&[order(RawOp::Insert, 1, 1, 10)]).unwrap();
    assert_eq!(
        rig.rows("user_totals").unwrap(),
        ["user_id=1 orders=1 amount=10"]
    );
    rig.stop().unwrap();
}

/// A rule that doesn't return before it is told to.
mod slow {
    use std::sync::{Condvar, Mutex};

    use rulemill_sdk::prelude::*;

    pub static MAY_RETURN: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    #[derive(Row)]
    #[table(source = "orders")]
    pub struct Order {
        #[key]
        id: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "slow")]
    pub struct Slow {
        #[key]
        id: i64,
    }

    #[rule]
    pub fn slow(change: Change<Order>, slow: &mut Table<Slow>) -> Outcome {
        let (lock, told) = &MAY_RETURN;
        let may_return = lock.lock().unwrap();
        drop(told.wait_while(may_return, |may| !*may).unwrap());
        slow.entry(change.row().id)?;
        Ok(())
    }

    rulemill_sdk::plugin!(slow);
}

#[test]
fn a_call_that_takes_long_is_told_while_it_does() {
    let store = Arc::new(Store::in_memory().unwrap());
    let plugins = [("slow", slow::plugin as Make, "1")];
    let rig = Rig::start(store, &Options::default(), &plugins).unwrap();
    let change = TestChange {
        table: "orders",
        op: RawOp::Insert,
        row: vec![("id", ValueRef::I64(1))],
        time: Some(1),
    };
    rig.handle.submit(rig.batch(&[change]).unwrap()).unwrap();
    rig.wait_for(|_| rig.handle.board.long_call().is_some());
    let call = rig.handle.board.long_call().unwrap();
    assert_eq!((&*call.plugin, call.items), ("slow", 1));
    assert!(call.taken_ms >= 1_000, "{call:?}");
    let (lock, told) = &slow::MAY_RETURN;
    *lock.lock().unwrap() = true;
    told.notify_all();
    rig.wait_for(|_| rig.rows("slow").unwrap() == ["id=1"]);
    assert_eq!(rig.handle.board.long_call(), None);
}
