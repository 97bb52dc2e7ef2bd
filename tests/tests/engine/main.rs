//! The engine with rules compiled natively: what comes out of each kind of change, and that batching doesn't show.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod faults;
mod running;

use std::sync::Arc;

use rulemill::{change::RawOp, engine::TableOptions, store::Store};
use rulemill_tests::{
    native::Make,
    rig::{Options, Rig, TestChange, order},
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
    let letters = rig.letters().unwrap();
    assert_eq!(
        letters
            .into_iter()
            .map(|letter| letter.error)
            .collect::<Vec<_>>(),
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
    assert_eq!(rig.retry(None, None).unwrap(), (0, 1));
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
