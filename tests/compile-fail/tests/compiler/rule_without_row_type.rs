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
fn of_nothing(change: Change) -> Outcome {
    Ok(())
}

#[rule]
fn table_of_nothing(change: Change<Order>, totals: &mut Table) -> Outcome {
    Ok(())
}

fn main() {}
