#![allow(unused)]

use rulemill_sdk::prelude::*;

// No table.
#[derive(Row)]
struct Unnamed {
    #[key]
    id: i64,
}

#[derive(Row)]
#[table(name = "orders")]
struct UnknownOption {
    #[key]
    id: i64,
}

#[derive(Row)]
#[table(source = "orders", derived = "totals")]
struct TwoTables {
    #[key]
    id: i64,
}

#[derive(Row)]
#[table(derived = "totals", index(id, missing))]
struct UnknownIndex {
    #[key]
    id: i64,
}

#[derive(Row)]
#[table(derived = "totals", index(id))]
struct ShortIndex {
    #[key]
    id: i64,
}

fn main() {}
