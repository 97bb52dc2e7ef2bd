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

#[derive(Row)]
#[table(derived = "plain")]
struct Plain {
    #[key]
    id: i64,
}

#[rule]
fn no_default(change: Change<Order>, plain: &mut Table<Plain>) -> Outcome {
    plain.entry(1)?;
    Ok(())
}

fn main() {}
