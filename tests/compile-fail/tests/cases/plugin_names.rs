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

mod other {
    use super::*;

    #[rule]
    pub fn orders(change: Change<Order>) -> Outcome {
        Ok(())
    }
}

#[rule]
fn orders(change: Change<Order>) -> Outcome {
    Ok(())
}

rulemill_sdk::plugin!(orders, other::orders);

fn main() {}
