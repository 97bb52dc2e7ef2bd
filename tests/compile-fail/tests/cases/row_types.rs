#![allow(unused)]

use rulemill_sdk::prelude::*;

#[derive(Row)]
#[table(source = "orders")]
struct Small {
    #[key]
    id: i32,
}

#[derive(Row)]
#[table(source = "orders")]
struct Unsigned {
    #[key]
    id: i64,
    size: u64,
}

#[derive(Row)]
#[table(source = "orders")]
struct Borrowed {
    #[key]
    id: i64,
    name: &'static str,
}

#[derive(Row)]
#[table(source = "orders")]
struct Float {
    #[key]
    id: i64,
    price: Option<f32>,
}

#[derive(Row)]
#[table(source = "orders")]
struct Nested {
    #[key]
    id: i64,
    note: Option<Option<String>>,
}

fn main() {}
