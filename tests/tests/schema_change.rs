//! A source's table changes its columns under rules that run. What no rule needs doesn't matter; a rule whose column is gone stops
//! before the first change without it, and goes on from there when a version comes that does without.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

use std::sync::Arc;

use rulemill::{change::SourceBatch, decode, limits::Limits, store::Store};
use rulemill_tests::{
    native::Make,
    rig::{Options, Rig},
};

macro_rules! shop {
    ($name:ident, $amount:ty, $value:expr) => {
        mod $name {
            use rulemill_sdk::prelude::*;

            #[derive(Row)]
            #[table(source = "orders")]
            pub struct Order {
                #[key]
                id: i64,
                user: i64,
                amount: $amount,
                note: Option<String>,
            }

            #[derive(Row)]
            #[table(source = "users")]
            pub struct User {
                #[key]
                id: i64,
            }

            #[derive(Row, Default)]
            #[table(derived = "totals")]
            pub struct Total {
                #[key]
                user: i64,
                orders: i64,
                amount: i64,
                notes: i64,
            }

            #[derive(Row, Default)]
            #[table(derived = "counts")]
            pub struct Count {
                #[key]
                id: i64,
                users: i64,
            }

            #[rule]
            pub fn totals(change: Change<Order>, totals: &mut Table<Total>) -> Outcome {
                for Delta { row, sign } in change.deltas() {
                    let total = totals.entry(row.user)?;
                    total.orders += sign;
                    let value: fn(&$amount) -> i64 = $value;
                    total.amount += value(&row.amount) * sign;
                    total.notes += sign * i64::from(row.note.is_some());
                }
                Ok(())
            }

            #[rule]
            pub fn counts(change: Change<User>, counts: &mut Table<Count>) -> Outcome {
                for Delta { sign, .. } in change.deltas() {
                    counts.entry(0)?.users += sign;
                }
                Ok(())
            }

            rulemill_sdk::plugin!(totals, counts);
        }
    };
}

shop!(needs_amount, i64, |amount| *amount);
shop!(does_without, Option<i64>, |amount| amount
    .unwrap_or_default());

/// A neighbour that reads the same table, but not that column.
mod neighbour {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "orders")]
    pub struct Order {
        #[key]
        id: i64,
        user: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "orders_of")]
    pub struct OrdersOf {
        #[key]
        user: i64,
        orders: i64,
    }

    #[rule]
    pub fn orders_of(change: Change<Order>, orders_of: &mut Table<OrdersOf>) -> Outcome {
        for Delta { row, sign } in change.deltas() {
            orders_of.entry(row.user)?.orders += sign;
        }
        Ok(())
    }

    rulemill_sdk::plugin!(orders_of);
}

const PLUGINS: [(&str, Make, &str); 2] = [
    ("shop", needs_amount::plugin, "1"),
    ("neighbour", neighbour::plugin, "1"),
];

fn start(batch: usize) -> Rig {
    let mut options = Options::default();
    options.limits.batch_changes_max = batch;
    Rig::start(Arc::new(Store::in_memory().unwrap()), &options, &PLUGINS).unwrap()
}

/// Hands lines in as a source does.
fn post(rig: &Rig, lines: &[&str]) {
    let body = lines.join("\n");
    let changes =
        decode::decode_ndjson(body.as_bytes(), &rig.handle.catalog, &Limits::default()).unwrap();
    let (sender, receiver) = crossbeam_channel::bounded(1);
    rig.handle
        .submit(SourceBatch {
            source: "test".into(),
            changes,
            bad: Vec::new(),
            positions: Vec::new(),
            input_bytes: body.len(),
            idempotency: None,
            done: Some(Box::new(move |result| drop(sender.send(result)))),
        })
        .unwrap();
    receiver.recv().unwrap().unwrap();
}

fn status(rig: &Rig, rule: &str) -> String {
    rig.handle.board.load().rules[rule].status.clone()
}

#[test]
fn a_column_added_widened_or_dropped_that_no_rule_needs_changes_nothing() {
    let rig = start(4_096);
    post(
        &rig,
        &[
            r#"{"table":"orders","op":"insert","after":{"id":1,"user":1,"amount":5,"note":"a","color":"red"}}"#,
            // Added; widened; dropped, and one that is an option with it.
            r#"{"table":"orders","op":"insert","after":{"id":2,"user":1,"amount":6,"note":"b","color":"red","size":"L"}}"#,
            r#"{"table":"orders","op":"insert","after":{"id":3,"user":1,"amount":7000000000,"note":"c","color":17,"size":2.5}}"#,
            r#"{"table":"orders","op":"insert","after":{"id":4,"user":1,"amount":8}}"#,
        ],
    );
    assert_eq!(
        rig.rows("totals").unwrap(),
        ["user=1 orders=4 amount=7000000019 notes=3"]
    );
    assert_eq!(status(&rig, "shop.totals"), "running");
}

#[test]
fn a_rule_whose_column_is_gone_stops_before_it_and_goes_on_with_a_version_that_fits() {
    for batch in [1, 4_096] {
        let rig = start(batch);
        post(
            &rig,
            &[
                r#"{"table":"orders","op":"insert","after":{"id":1,"user":1,"amount":5,"note":"a"}}"#,
                r#"{"table":"orders","op":"insert","after":{"id":2,"user":2,"amount":6,"note":"b"}}"#,
                r#"{"table":"orders","op":"insert","after":{"id":3,"user":1,"note":"c"}}"#,
                r#"{"table":"users","op":"insert","after":{"id":1}}"#,
                r#"{"table":"orders","op":"update","after":{"id":1,"user":1,"note":"a"}}"#,
                r#"{"table":"orders","op":"delete","before":{"id":2}}"#,
            ],
        );
        rig.wait_for(|status| {
            let rule = &status.rules["shop.totals"];
            rule.status.starts_with(
                "paused: column amount of table orders, which it reads, is gone at the source since change 3",
            ) && rule.cursor == 2
                && rule.parked == 0
        });
        // It alone.
        assert_eq!(
            rig.rows("totals").unwrap(),
            [
                "user=1 orders=1 amount=5 notes=1",
                "user=2 orders=1 amount=6 notes=1"
            ]
        );
        assert_eq!(status(&rig, "shop.counts"), "running");
        assert_eq!(rig.rows("counts").unwrap(), ["id=0 users=1"]);
        assert_eq!(
            rig.rows("orders_of").unwrap(),
            ["user=1 orders=2", "user=2 orders=0"]
        );
        rig.load("shop", does_without::plugin, "2").unwrap();
        rig.wait_for(|status| status.rules["shop.totals"].status == "running");
        rig.wait_for(|_| {
            rig.rows("totals").unwrap()
                == [
                    "user=1 orders=2 amount=0 notes=2",
                    "user=2 orders=0 amount=0 notes=0",
                ]
        });
        assert_eq!(rig.handle.board.load().rules["shop.totals"].faults, 0);
    }
}

#[test]
fn a_null_is_the_rows_own_fault() {
    let rig = start(4_096);
    post(
        &rig,
        &[
            r#"{"table":"orders","op":"insert","after":{"id":1,"user":1,"amount":null,"note":"a"}}"#,
            r#"{"table":"orders","op":"insert","after":{"id":2,"user":1,"amount":6,"note":null}}"#,
        ],
    );
    assert_eq!(
        rig.rows("totals").unwrap(),
        ["user=1 orders=1 amount=6 notes=0"]
    );
    rig.wait_for(|status| status.rules["shop.totals"].parked == 1);
    assert_eq!(status(&rig, "shop.totals"), "running");
}

shop!(reads_text, String, |amount| amount.len() as i64);

/// A Debezium change that says itself of which type `amount` is.
fn debezium(amount: &str, ty: &str, id: i64, before: Option<&str>) -> String {
    let row = |amount: &str| format!(r#"{{"id":{id},"user":1,"amount":{amount},"note":null}}"#);
    let before = before.map_or("null".to_owned(), row);
    format!(
        r#"{{"schema":{{"type":"struct","fields":[{{"field":"after","type":"struct","fields":[{{"field":"id","type":"int64"}},{{"field":"user","type":"int64"}},{{"field":"amount","type":"{ty}"}},{{"field":"note","type":"string"}}]}}]}},"payload":{{"op":"c","before":{before},"after":{},"source":{{"table":"orders"}},"ts_ms":1}}}}"#,
        row(amount)
    )
}

#[test]
fn a_rule_whose_column_becomes_of_another_type_stops_before_it_and_goes_on_with_a_version_that_fits()
 {
    for batch in [1, 4_096] {
        let rig = start(batch);
        let lines = [
            debezium("5", "int32", 1, None),
            // Widened, and still what the rule reads.
            debezium("60", "int64", 2, None),
            debezium("\"seven\"", "string", 3, None),
            debezium("\"eight\"", "string", 1, Some("5")),
        ];
        post(&rig, &lines.each_ref().map(String::as_str));
        rig.wait_for(|status| {
            let rule = &status.rules["shop.totals"];
            rule.status.starts_with(
                "paused: column amount of table orders, which it reads as i64, has become a text: ",
            ) && rule.cursor == 2
                && rule.parked == 0
        });
        assert_eq!(
            rig.rows("totals").unwrap(),
            ["user=1 orders=2 amount=65 notes=0"]
        );
        assert_eq!(rig.rows("orders_of").unwrap(), ["user=1 orders=3"]);
        rig.load("shop", reads_text::plugin, "2").unwrap();
        rig.wait_for(|status| status.rules["shop.totals"].status == "running");
        // 65, and "seven", and "eight" for "5".
        rig.wait_for(|_| rig.rows("totals").unwrap() == ["user=1 orders=3 amount=74 notes=0"]);
    }
}

#[test]
fn text_where_the_source_says_a_number_is_no_change_of_the_table() {
    let rig = start(1);
    let line = debezium("\"seven\"", "int64", 1, None);
    let changes = decode::decode_ndjson(line.as_bytes(), &rig.handle.catalog, &Limits::default());
    let refused = changes.map(|changes| changes.len()).unwrap_err();
    assert!(
        refused.reason.text.contains("column amount is"),
        "{}",
        refused.reason.text
    );
}
