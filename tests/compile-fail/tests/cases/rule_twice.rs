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
fn twice(change: Change<Order>, totals: &mut Table<Total>, again: &mut Table<Total>) -> Outcome {
    Ok(())
}

fn main() {}
