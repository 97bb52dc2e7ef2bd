#![allow(unused)]

use rulemill_sdk::prelude::*;

#[derive(Row)]
#[table(source = "orders")]
struct Tuple(i64);

#[derive(Row)]
#[table(source = "orders")]
enum Choice {
    One,
}

#[derive(Row)]
#[table(source = "orders")]
struct Generic<T> {
    #[key]
    id: T,
}

#[derive(Row)]
#[table(source = "orders")]
struct SameColumn {
    #[key]
    id: i64,
    #[column(name = "id")]
    other: i64,
}

#[derive(Row)]
#[table(source = "orders")]
struct UnknownColumnOption {
    #[key]
    #[column(rename = "id")]
    id: i64,
}

#[derive(Row)]
#[table(derived = "totals")]
struct WholeOwned {
    #[key]
    id: i64,
    #[whole_row]
    row: Json,
}

#[derive(Row)]
#[table(source = "orders")]
struct WholeText {
    #[key]
    id: i64,
    #[whole_row]
    row: String,
}

fn main() {}
