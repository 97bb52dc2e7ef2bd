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
async fn waits(change: Change<Order>) -> Outcome {
    Ok(())
}

#[rule]
fn generic<T: Row>(change: Change<T>) -> Outcome {
    Ok(())
}

struct Shop;

impl Shop {
    #[rule]
    fn method(&self, change: Change<Order>) -> Outcome {
        Ok(())
    }
}

#[rule(table = "orders")]
fn with_options(change: Change<Order>) -> Outcome {
    Ok(())
}

#[rule]
struct NoFunction;

fn main() {}
