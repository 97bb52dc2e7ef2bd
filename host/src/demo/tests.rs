//! The shop plugin, run natively over the shop's changes, against the recomputation: what the demo
//! checks through a host, here without one.

use std::collections::HashMap;

use rulemill_sdk::{Change, Row as SdkRow, testing::Harness};
use serde_json::Value as Json;
use shop_plugin::{Order, Product, User};

use super::*;

/// Turns a row after a change, as JSON, into the plugin's row.
trait FromJson: SdkRow {
    fn from_json(row: &Json) -> Self;
}

fn amount(json: &Json) -> rulemill_wire::Decimal {
    match json {
        Json::String(text) => text.parse().unwrap(),
        number => number.to_string().parse().unwrap(),
    }
}

fn text(json: &Json) -> String {
    json.as_str().unwrap().to_owned()
}

impl FromJson for User {
    fn from_json(row: &Json) -> Self {
        Self {
            id: row["id"].as_i64().unwrap(),
            name: text(&row["name"]),
            city: row["city"].as_str().map(str::to_owned),
        }
    }
}

impl FromJson for Product {
    fn from_json(row: &Json) -> Self {
        Self {
            id: row["id"].as_i64().unwrap(),
            name: text(&row["name"]),
            price: amount(&row["price"]),
            stock: row["stock"].as_i64().unwrap(),
            reorder_below: row["reorder_below"].as_i64(),
        }
    }
}

impl FromJson for Order {
    fn from_json(row: &Json) -> Self {
        Self {
            id: row["id"].as_i64().unwrap(),
            user_id: row["user_id"].as_i64().unwrap(),
            product_id: row["product_id"].as_i64().unwrap(),
            quantity: row["quantity"].as_i64().unwrap(),
            amount: amount(&row["amount"]),
            status: text(&row["status"]),
        }
    }
}

/// Hands a change on with its row before, which the lines don't always tell.
fn push<T: FromJson>(
    harness: &mut Harness,
    live: &mut HashMap<i64, Json>,
    before: &Json,
    after: &Json,
) {
    let change = if after.is_object() {
        let row = T::from_json(after);
        match live.insert(after["id"].as_i64().unwrap(), after.clone()) {
            Some(old) => Change::update(T::from_json(&old), row),
            None => Change::insert(row),
        }
    } else {
        let old = live.remove(&before["id"].as_i64().unwrap()).unwrap();
        Change::delete(T::from_json(&old))
    };
    harness.push(change);
}

#[test]
fn the_plugin_and_the_recomputation_agree() {
    let mut harness = Harness::new(shop_plugin::plugin()).unwrap().batches_of(500);
    let mut recomputation = Recomputation::default();
    let mut live: HashMap<String, HashMap<i64, Json>> = HashMap::new();
    for line in Shop::new(3, 6_000).take(6_000) {
        recomputation.apply(&line).unwrap();
        let mut json: Json = serde_json::from_str(&line).unwrap();
        if let Some(payload) = json.get_mut("payload") {
            json = payload.take();
        }
        let time = match &json["ts"] {
            Json::String(ts) => ts.parse().unwrap(),
            _ => rulemill_wire::Timestamp::from_micros(json["ts_ms"].as_i64().unwrap() * 1_000)
                .unwrap(),
        };
        harness.at(time);
        let table = json.get("table").unwrap_or(&json["source"]["table"]);
        let rows = live.entry(text(table)).or_default();
        let (before, after) = (&json["before"], &json["after"]);
        match table.as_str().unwrap() {
            "users" => push::<User>(&mut harness, rows, before, after),
            "products" => push::<Product>(&mut harness, rows, before, after),
            _ => push::<Order>(&mut harness, rows, before, after),
        }
    }
    harness.run();
    assert!(harness.faults().is_empty(), "{:?}", harness.faults());
    assert_eq!(harness.notifications().len() as u64, recomputation.warnings);
    assert!(
        recomputation.warnings > 10,
        "stock ran low {} times only",
        recomputation.warnings
    );
    for (table, expected) in recomputation.tables().unwrap() {
        // The harness gives values in the order of the plugin's columns; their names are the expected rows'.
        let names = columns(&table);
        let found: Rows = harness
            .values(&table)
            .iter()
            .map(|values| {
                let row = names
                    .iter()
                    .map(|name| (*name).to_owned())
                    .zip(values.iter().cloned());
                let rulemill_wire::Value::I64(key) = values[0] else {
                    panic!("the key of {table} is {:?}", values[0]);
                };
                (key, row.collect())
            })
            .collect();
        assert!(expected.len() > 5, "{table} has {} rows", expected.len());
        let wrong = differences(&table, &expected, &found);
        assert!(wrong.is_empty(), "{}", wrong[0]);
    }
}

/// The columns of the plugin's tables, in its order.
fn columns(table: &str) -> Vec<String> {
    let mut plugin = shop_plugin::plugin();
    plugin.describe("null").unwrap();
    let manifest = plugin.manifest().unwrap();
    let table = manifest
        .tables
        .iter()
        .find(|known| known.name == table)
        .unwrap();
    table
        .columns
        .iter()
        .map(|column| column.name.clone())
        .collect()
}
