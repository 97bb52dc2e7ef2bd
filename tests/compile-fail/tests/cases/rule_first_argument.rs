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

// Nothing says what the rules are called for.
#[rule]
fn nothing() -> Outcome {
    Ok(())
}

#[rule]
fn table_first(totals: &mut Table<Total>, change: Change<Order>) -> Outcome {
    Ok(())
}

#[rule]
fn row_first(order: Order) -> Outcome {
    Ok(())
}

#[rule]
fn borrowed(change: &Change<Order>) -> Outcome {
    Ok(())
}

#[rule]
fn two_inputs(change: Change<Order>, timer: Timer) -> Outcome {
    Ok(())
}

fn main() {}
