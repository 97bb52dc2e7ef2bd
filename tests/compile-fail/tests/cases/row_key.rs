#![allow(unused)]

use rulemill_sdk::prelude::*;

#[derive(Row)]
#[table(source = "orders")]
struct NoKey {
    id: i64,
}

#[derive(Row)]
#[table(source = "orders")]
struct NullableKey {
    #[key]
    id: Option<i64>,
}

#[derive(Row)]
#[table(source = "orders")]
struct FloatKey {
    #[key]
    id: f64,
}

#[derive(Row)]
#[table(source = "orders")]
struct JsonKey {
    #[key]
    id: Json,
}

#[derive(Row)]
#[table(source = "orders")]
struct KeyOnStruct {
    #[key(id, line)]
    id: i64,
}

fn main() {}
