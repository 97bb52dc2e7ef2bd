#![allow(unused)]

use rulemill_sdk::prelude::*;

#[derive(Row)]
#[table(source = "orders")]
struct Order {
    #[key]
    id: i64,
}

#[derive(Row, Default)]
#[table(derived = "totals")]
struct Total {
    #[key]
    id: i64,
    orders: i64,
}

#[rule]
fn returns_nothing(change: Change<Order>) {}

#[rule]
fn returns_a_number(change: Change<Order>) -> i64 {
    0
}

fn main() {}
