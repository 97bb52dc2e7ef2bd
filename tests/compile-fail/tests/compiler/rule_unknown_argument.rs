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
fn unknown(change: Change<Order>, clock: std::time::SystemTime) -> Outcome {
    Ok(())
}

#[rule]
fn no_row(change: Change<String>) -> Outcome {
    Ok(())
}

fn main() {}
