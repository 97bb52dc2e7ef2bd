#![allow(unused)]

use rulemill_sdk::prelude::*;

struct Money(i64);

#[derive(Row)]
#[table(source = "orders")]
struct Own {
    #[key]
    id: i64,
    price: Money,
}

fn main() {}
