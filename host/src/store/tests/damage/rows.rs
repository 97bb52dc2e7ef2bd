//! Rows, their indexes, and which tables there are.

use super::*;

#[test]
fn rows() {
    let bern = row(1, "Bern");
    check(
        |t| put(t, "rows/0/0", &key(1), &stored(2, 0, &[99])),
        &["orders 1: the row can't be read: unknown tag 99"],
    );
    check(
        |t| put(t, "rows/0/0", &key(1), &stored(2, 0, &row(7, "Bern"))),
        &[
            "orders 1: its columns make another key: 7",
            "orders 1: its row isn't what its last change in the log, 2, left",
        ],
    );
    check(
        |t| put(t, "rows/0/0", &key(1), &stored(2, 1, &bern)),
        &["orders 1: plugin version 1 wrote it, and its table comes from a source"],
    );
    check(
        |t| put(t, "rows/1/0", &key(1), &stored(4, 1, &bern)),
        &["totals 1: change 4 wrote it, and the last is 3"],
    );
    check(
        |t| put(t, "rows/1/0", &key(1), &stored(2, 3, &bern)),
        &["totals 1: plugin version 3 wrote it, and there is no such version"],
    );
    check(
        |t| put(t, "rows/1/0", &key(1), &stored(2, 2, &bern)),
        &["totals 1: plugin other wrote it, and its table belongs to shop"],
    );
    let long = [&bern[..], &[0, 1, 1]].concat();
    check(
        |t| put(t, "rows/0/0", &key(1), &stored(2, 0, &long)),
        &["orders 1: it has 4 values, and its table 2 columns"],
    );
}

#[test]
fn indexes() {
    let entry = |city: &str, id: i64| {
        let mut entry = text_key(&[city]);
        entry.extend_from_slice(&key(id));
        entry
    };
    check(
        |t| remove(t, "index/1/0/0", &entry("Bern", 1)),
        &["totals 1: index 0 has no entry for it"],
    );
    check(
        |t| put(t, "index/1/0/0", &entry("Bonn", 8), &key(8)),
        &["totals 8: entry 0x426f6e6e00018000000000000008 of index 0 has no row"],
    );
    check(
        |t| put(t, "index/1/0/0", &entry("Bonn", 1), &key(1)),
        &["totals 1: entry 0x426f6e6e00018000000000000001 of index 0 has a row with other values"],
    );
}

#[test]
fn tables_and_the_catalog() {
    check(
        |t| put(t, "rows/7/0", &key(1), &[1]),
        &["rows/7/0: no table of the catalog has it"],
    );
    check(
        |t| {
            let _ = t.delete_table(tables::TIMERS).unwrap();
        },
        &["timers: the database has no such table"],
    );
    check(
        |t| meta(t, b"tables", 3),
        &["meta tables: says that the catalog has 3 tables, and it has 2"],
    );
    check(
        |t| put(t, "meta", b"catalog", &[7]),
        &["meta: a record: Hit the end of buffer, expected more data"],
    );
    check(
        |t| put(t, "meta", b"last_seq", &[7]),
        &["meta: a number is not 8 bytes long"],
    );
    check(
        |t| {
            let mut wrong = catalog();
            let mut totals = Table::clone(wrong.table(TOTALS));
            totals.name = "orders".into();
            totals.key = vec![4];
            wrong.put(totals);
            let stored: Vec<&Table> = wrong.tables().map(|table| &**table).collect();
            put_record(t, "meta", b"catalog", &stored);
        },
        &[
            "meta catalog: two tables are named orders",
            "meta catalog: table orders has a key or index of a column that isn't there",
            "log change 1: there is no table 1",
            "log change 2: there is no table 1",
        ],
    );
}
