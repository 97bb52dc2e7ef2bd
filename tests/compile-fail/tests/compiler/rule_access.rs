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
fn writes_a_source(change: Change<Order>, orders: &mut Table<Order>) -> Outcome {
    Ok(())
}

#[rule]
fn looks_up_its_own(change: Change<Order>, totals: &Lookup<Total>) -> Outcome {
    Ok(())
}

fn main() {}
