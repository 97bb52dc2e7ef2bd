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
fn shared_table(change: Change<Order>, totals: &Table<Total>) -> Outcome {
    Ok(())
}

#[rule]
fn owned_table(change: Change<Order>, totals: Table<Total>) -> Outcome {
    Ok(())
}

#[rule]
fn mutable_lookup(change: Change<Order>, orders: &mut Lookup<Order>) -> Outcome {
    Ok(())
}

#[rule]
fn owned_notify(change: Change<Order>, notify: Notify) -> Outcome {
    Ok(())
}

#[rule]
fn shared_timers(change: Change<Order>, timers: &Timers) -> Outcome {
    Ok(())
}

#[rule]
fn owned_config(change: Change<Order>, config: Config<i64>) -> Outcome {
    Ok(())
}

#[rule]
fn borrowed_now(change: Change<Order>, now: &Now) -> Outcome {
    Ok(())
}

fn main() {}
