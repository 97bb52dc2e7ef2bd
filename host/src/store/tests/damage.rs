//! Each thing that can be wrong in a store, done to a healthy one through redb itself, and what is said of it: that and
//! nothing else.

use redb::{ReadableTable, WriteTransaction};
use sha2::{Digest, Sha256};

use super::*;
use crate::store::{
    commit::{age_key, put_number, text_key},
    tables,
};

const ORDERS: TableId = TableId(0);
const TOTALS: TableId = TableId(1);
const CODE: &[u8] = b"code";

fn catalog() -> Catalog {
    let orders = Table {
        name: "orders".into(),
        origin: Origin::Source,
        indexes: Vec::new(),
        ..table()
    };
    let totals = Table {
        id: TOTALS,
        ..table()
    };
    Catalog::from_tables(vec![orders, totals])
}

fn change(seq: u64, table: TableId, id: i64, before: Option<&str>, after: Option<&str>) -> Change {
    Change {
        seq: Seq(seq),
        table,
        op: match (before, after) {
            (None, _) => Op::Insert,
            (_, None) => Op::Delete,
            _ => Op::Update,
        },
        key: key(id),
        before: before.map(|city| row(id, city)),
        after: after.map(|city| row(id, city)),
        time: seq as i64,
    }
}

fn version(id: u32, plugin: &str) -> PluginVersion {
    PluginVersion {
        id,
        plugin: plugin.into(),
        hash: Sha256::digest(CODE).into(),
        label: "1".into(),
        from_seq: Seq(1),
        code: CODE.into(),
    }
}

fn letter(id: u64, seq: u64) -> DeadLetter {
    DeadLetter {
        id,
        plugin: "shop".into(),
        rule: "totals".into(),
        version: 1,
        seq: Seq(seq),
        table: ORDERS,
        op: Op::Insert,
        key: key(2).to_vec(),
        before: None,
        after: Some(row(2, "Oslo").to_vec()),
        time: 3,
        error: "a test".into(),
        parked_at: 3,
    }
}

fn notification(seq: u64) -> Notification {
    Notification {
        id: 0,
        seq: Seq(seq),
        plugin: "shop".into(),
        rule: "totals".into(),
        ordinal: 0,
        topic: "topic".into(),
        body: "{}".into(),
        time: 1,
    }
}

fn timer(key: &str, rule: &str) -> TimerWrite {
    TimerWrite {
        plugin: "shop".into(),
        rule: rule.into(),
        key: key.into(),
        due: Some(9),
    }
}

fn rule() -> RuleRecord {
    RuleRecord {
        plugin: "shop".into(),
        rule: "totals".into(),
        status: RuleStatus::Running,
        cursor: Seq(3),
        at_head: true,
        backfill: None,
        version: 1,
        changes: 3,
        faults: 0,
        last_error: None,
    }
}

fn request(key: &str) -> IdempotencyRecord {
    IdempotencyRecord {
        key: key.into(),
        body_hash: [0; 32],
        seq: Seq(2),
        changes: 2,
        taken_at: 7,
    }
}

/// Something of everything: two orders, of which the first was moved, and their totals.
fn healthy() -> Store {
    let store = Store::in_memory().unwrap();
    let totals = |id, before: Option<&str>, after: &str, seq| TableWrites {
        table: TOTALS,
        generation: 0,
        rows: vec![RowWrite {
            key: key(id),
            before: before.map(|city| row(id, city)),
            after: Some(row(id, after)),
            seq: Seq(seq),
            version: 1,
        }],
    };
    let bad = BadInput {
        origin: "file".into(),
        line: 1,
        offset_bytes: 0,
        reason: "a test".into(),
        text: "?".into(),
        cut: false,
    };
    let first = WriteSet {
        last_seq: Seq(1),
        catalog: Some(Arc::new(catalog())),
        plugin_versions: vec![version(1, "shop"), version(2, "other")],
        rules: vec![rule()],
        tables: vec![totals(1, None, "Rome", 1)],
        log: vec![
            change(1, ORDERS, 1, None, Some("Rome")),
            change(1, TOTALS, 1, None, Some("Rome")),
        ],
        positions: vec![(
            "inbox".into(),
            Position {
                part: "a".into(),
                bytes: vec![1],
            },
        )],
        bad_input: vec![("inbox".into(), bad.clone()), ("inbox".into(), bad)],
        ..WriteSet::default()
    };
    let second = WriteSet {
        last_seq: Seq(2),
        tables: vec![totals(1, Some("Rome"), "Bern", 2)],
        log: vec![
            change(2, ORDERS, 1, Some("Rome"), Some("Bern")),
            change(2, TOTALS, 1, Some("Rome"), Some("Bern")),
        ],
        timers: vec![timer("a", "totals")],
        notifications: vec![notification(2)],
        idempotency: vec![request("r")],
        ..WriteSet::default()
    };
    let third = WriteSet {
        last_seq: Seq(3),
        log: vec![change(3, ORDERS, 2, None, Some("Oslo"))],
        dead_letters: vec![letter(1, 3)],
        ..WriteSet::default()
    };
    store.commit(&mut [first]).unwrap();
    store.commit(&mut [second, third]).unwrap();
    store
}

fn findings(store: &mut Store) -> Vec<String> {
    let mut lines = Vec::new();
    store
        .verify(&mut |finding| {
            let key = finding.key.map(|key| format!(" {key}"));
            let key = key.unwrap_or_default();
            lines.push(format!("{}{key}: {}", finding.table, finding.problem));
        })
        .unwrap();
    lines
}

/// Damages a healthy store, and says what is found.
#[track_caller]
fn check(damage: impl FnOnce(&WriteTransaction), expected: &[&str]) {
    let mut store = healthy();
    let transaction = store.database.begin_write().unwrap();
    damage(&transaction);
    transaction.commit().unwrap();
    assert_eq!(findings(&mut store), expected);
}

fn put(transaction: &WriteTransaction, table: &str, key: &[u8], value: &[u8]) {
    let mut table = transaction.open_table(tables::Bytes::new(table)).unwrap();
    table.insert(key, value).unwrap();
}

fn put_record(
    transaction: &WriteTransaction,
    table: &str,
    key: &[u8],
    value: &impl serde::Serialize,
) {
    put(
        transaction,
        table,
        key,
        &postcard::to_allocvec(value).unwrap(),
    );
}

fn remove(transaction: &WriteTransaction, table: &str, key: &[u8]) {
    let mut table = transaction.open_table(tables::Bytes::new(table)).unwrap();
    assert!(table.remove(key).unwrap().is_some(), "nothing was there");
}

fn meta(transaction: &WriteTransaction, key: &[u8], value: u64) {
    put_number(
        &mut transaction.open_table(tables::META).unwrap(),
        key,
        value,
    )
    .unwrap();
}

/// A stored row: who wrote it, then its bytes.
fn stored(seq: u8, version: u8, row: &[u8]) -> Vec<u8> {
    [&[seq, version][..], row].concat()
}

fn log_key(seq: u64) -> [u8; 12] {
    crate::store::log::block_key(Seq(seq), 0)
}

/// A block of these changes in place of one, with the log's size as it should be.
fn put_log(transaction: &WriteTransaction, seq: u64, changes: &[Change]) {
    crate::store::log::write_blocks(Seq(seq), changes, &mut Vec::new(), |key, value| {
        put(transaction, "log", key, value);
        Ok(())
    })
    .unwrap();
    settle_log(transaction);
}

fn settle_log(transaction: &WriteTransaction) {
    let bytes = {
        let table = transaction.open_table(tables::LOG).unwrap();
        let values = table.iter().unwrap();
        values
            .map(|entry| entry.unwrap().1.value().len() as u64)
            .sum()
    };
    meta(transaction, b"log_bytes", bytes);
}

#[test]
fn a_healthy_store_is_well() {
    let mut store = healthy();
    assert_eq!(findings(&mut store), [""; 0]);
    let seen = store.verify(&mut |_| {}).unwrap();
    let counts = (seen.tables, seen.rows, seen.index_entries, seen.log_changes);
    assert_eq!(counts, (2, 3, 1, 5));
    assert_eq!(seen.records, 11);
    // So is one that was pruned.
    let limits = Limits {
        log_bytes_max: 1,
        bad_input_kept_max: 1,
        ..Limits::default()
    };
    while store.prune(0, &limits).unwrap() {}
    assert_eq!(findings(&mut store), [""; 0]);
}

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
fn the_log_by_itself() {
    let bytes = healthy().reader().unwrap().log_bytes().unwrap();
    check(
        |t| meta(t, b"log_bytes", 1),
        &[&format!(
            "meta log_bytes: says that the log has 1 bytes, and it has {bytes}"
        )],
    );
    check(
        |t| {
            put(t, "log", &log_key(3), &[9, 0, 1]);
            settle_log(t);
        },
        &[
            "log 3 0: the store is damaged: a log block says 9 bytes and has 0",
            "orders 2: change 3 wrote it, and the log, which begins with 1, doesn't have that",
        ],
    );
    check(
        |t| meta(t, b"log_from", 2),
        &["log 1 0: the log begins with change 2"],
    );
    check(
        |t| put_log(t, 9, &[change(3, ORDERS, 2, Some("Oslo"), Some("Oslo"))]),
        &["log 9 0: the last change is 3"],
    );
    check(
        |t| put_log(t, 3, &[change(5, ORDERS, 2, None, Some("Oslo"))]),
        &[
            "log change 5: table orders, key 2: it is in the write set that ends with 3",
            "orders 2: change 3 wrote its row, and its last change in the log is 5",
        ],
    );
    check(
        |t| {
            let mut wrong = change(3, ORDERS, 2, None, Some("Oslo"));
            wrong.op = Op::Delete;
            put_log(t, 3, &[wrong]);
        },
        &["log change 3: table orders, key 2: its Delete doesn't fit the row after it"],
    );
    check(
        |t| {
            let unknown = change(3, TableId(7), 2, None, Some("Oslo"));
            put_log(t, 3, &[change(3, ORDERS, 2, None, Some("Oslo")), unknown]);
        },
        &["log change 3: there is no table 7"],
    );
    check(
        |t| {
            let mut value = {
                let table = t.open_table(tables::LOG).unwrap();
                let value = table.get(&log_key(3)[..]).unwrap().unwrap();
                value.value().to_vec()
            };
            remove(t, "log", &log_key(3));
            // The newest time stands behind the length.
            value[1] += 2;
            put(t, "log", &crate::store::log::block_key(Seq(3), 1), &value);
        },
        &[
            "log 3 1: block 0 of its write set is missing",
            "log 3 1: its newest change has another time than it says",
        ],
    );
}

#[test]
fn the_log_against_the_rows() {
    check(
        |t| remove(t, "rows/0/0", &key(2)),
        &["orders 2: it isn't there, and its last change in the log, 3, left a row"],
    );
    check(
        |t| put(t, "rows/0/0", &key(1), &stored(1, 0, &row(1, "Bern"))),
        &["orders 1: change 1 wrote its row, and its last change in the log is 2"],
    );
    check(
        |t| put(t, "rows/0/0", &key(5), &stored(2, 0, &row(5, "Bern"))),
        &["orders 5: change 2 wrote it, and the log, which begins with 1, doesn't have that"],
    );
    check(
        |t| {
            put_log(
                t,
                2,
                &[
                    change(2, ORDERS, 1, Some("Wien"), Some("Bern")),
                    change(2, TOTALS, 1, Some("Rome"), Some("Bern")),
                ],
            );
        },
        &["orders 1: change 1 leaves another row than the next one, 2, found"],
    );
    check(
        |t| {
            put_log(t, 2, &[change(2, ORDERS, 1, Some("Rome"), Some("Bern"))]);
        },
        &["totals 1: its row isn't what its last change in the log, 1, left"],
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
        &["meta: the store is damaged: a record: Hit the end of buffer, expected more data"],
    );
    check(
        |t| put(t, "meta", b"last_seq", &[7]),
        &["meta: the store is damaged: a number is not 8 bytes long"],
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

#[test]
fn plugins_and_rules() {
    let hash = Sha256::digest(CODE);
    let code = "0x5694d08a2e53ffcae0c3103e5ad6f6076abd960eb1f8a56577040bc1028f702b";
    check(
        |t| put(t, "plugin_code", &hash, b"other"),
        &[&format!("plugin_code {code}: its code has another SHA-256")],
    );
    check(
        |t| remove(t, "plugin_code", &hash),
        &[
            &format!("plugin_versions 1: its code {code} isn't there"),
            &format!("plugin_versions 2: its code {code} isn't there"),
        ],
    );
    check(
        |t| put(t, "plugin_code", &Sha256::digest(b"x"), b"x"),
        &[
            "plugin_code 0x2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881: no plugin version has this code",
        ],
    );
    check(
        |t| {
            let late = PluginVersion {
                from_seq: Seq(5),
                ..version(3, "shop")
            };
            put_record(t, "plugin_versions", &4u32.to_be_bytes(), &late);
        },
        &[
            "plugin_versions 4: its record says that it is version 3",
            "plugin_versions 4: it begins with change 5, and the last is 3",
        ],
    );
    let at = text_key(&["shop", "totals"]);
    check(
        |t| put(t, "rules", &at, &[1]),
        &[
            "rules shop totals: its record can't be read: Hit the end of buffer, expected more data",
            "timers shop totals a: there is no rule shop.totals",
            "outbox 1: there is no rule shop.totals",
            "dead_letters 1: there is no rule shop.totals",
        ],
    );
    check(
        |t| {
            let rule = RuleRecord {
                cursor: Seq(4),
                version: 2,
                ..rule()
            };
            put_record(t, "rules", &at, &rule);
        },
        &[
            "rules shop totals: it stands at change 4, and the last is 3",
            "rules shop totals: it ran with version 2, which is one of plugin other",
        ],
    );
    check(
        |t| {
            put_record(
                t,
                "rules",
                &text_key(&["a", "b"]),
                &RuleRecord {
                    version: 8,
                    ..rule()
                },
            )
        },
        &[
            "rules a b: its record is of rule shop.totals",
            "rules a b: there is no plugin version 8",
        ],
    );
}

#[test]
fn timers_notifications_and_dead_letters() {
    let at = text_key(&["shop", "totals", "b"]);
    check(
        |t| put_record(t, "timers", &at, &timer("a", "gone")),
        &[
            "timers shop totals b: its record is of another timer",
            "timers shop totals b: there is no rule shop.gone",
        ],
    );
    check(
        |t| {
            put_record(
                t,
                "timers",
                &at,
                &TimerWrite {
                    due: None,
                    ..timer("b", "totals")
                },
            )
        },
        &["timers shop totals b: it is due never"],
    );
    check(
        |t| {
            put_record(
                t,
                "outbox",
                &2u64.to_be_bytes(),
                &Notification {
                    id: 2,
                    ..notification(4)
                },
            )
        },
        &[
            "outbox 2: the last number given is 1",
            "outbox 2: it is about change 4, and the last is 3",
        ],
    );
    check(
        |t| put_record(t, "outbox", &1u64.to_be_bytes(), &notification(1)),
        &["outbox 1: its record has number 0"],
    );
    check(
        |t| {
            let letter = DeadLetter {
                version: 5,
                table: TableId(9),
                ..letter(2, 4)
            };
            put_record(t, "dead_letters", &3u64.to_be_bytes(), &letter);
        },
        &[
            "dead_letters 3: its record has number 2",
            "dead_letters 3: the last number given is 1",
            "dead_letters 3: it is change 4, and the last is 3",
            "dead_letters 3: there is no plugin version 5",
            "dead_letters 3: there is no table 9",
        ],
    );
    check(
        |t| {
            let letter = DeadLetter {
                after: Some(vec![77]),
                ..letter(1, 3)
            };
            put_record(t, "dead_letters", &1u64.to_be_bytes(), &letter);
        },
        &["dead_letters 1: table orders, key 2: the row can't be read: unknown tag 77"],
    );
    check(
        |t| {
            let mut bytes = postcard::to_allocvec(&letter(1, 3)).unwrap();
            bytes.push(0);
            put(t, "dead_letters", &1u64.to_be_bytes(), &bytes);
        },
        &["dead_letters 1: 1 bytes stand behind its record"],
    );
}

#[test]
fn pages() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path(), &Limits::default()).map(|store| {
        let catalog = Some(Arc::new(catalog()));
        let log = vec![change(
            1,
            ORDERS,
            1,
            None,
            Some("a city that is nowhere else"),
        )];
        let set = WriteSet {
            last_seq: Seq(1),
            catalog,
            log,
            ..WriteSet::default()
        };
        store.commit(&mut [set]).unwrap();
    }));
    let file = Store::file(dir.path());
    let mut bytes = std::fs::read(&file).unwrap();
    let city = b"a city that is nowhere else";
    // In the mirror; the log has it compressed.
    let places: Vec<usize> = (0..bytes.len())
        .filter(|&at| bytes[at..].starts_with(city))
        .collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at] ^= 1;
    }
    std::fs::write(&file, bytes).unwrap();
    let mut store = Store::open(dir.path(), &Limits::default()).unwrap();
    let found = findings(&mut store);
    assert!(
        found.len() == 1 && found[0].starts_with(": its pages are damaged"),
        "{found:?}"
    );
}

#[test]
fn input() {
    check(
        |t| put(t, "positions", &[7], &[]),
        &["positions 0x07: its key is no source and part"],
    );
    let bad = |number: u64| [&text_key(&["inbox"])[..], &number.to_be_bytes()].concat();
    check(
        |t| {
            let value = {
                let table = t.open_table(tables::BAD_INPUT).unwrap();
                let value = table.get(&bad(2)[..]).unwrap().unwrap();
                value.value().to_vec()
            };
            put(t, "bad_input", &bad(4), &value);
        },
        &["bad_input inbox 4: the one before it is number 2"],
    );
    check(
        |t| put(t, "bad_input", &bad(2), &[1]),
        &["bad_input inbox 2: its record can't be read: Hit the end of buffer, expected more data"],
    );
}

#[test]
fn requests() {
    check(
        |t| remove(t, "idempotency", b"r"),
        &["idempotency_by_age 7 r: there is no such request"],
    );
    check(
        |t| remove(t, "idempotency_by_age", &age_key(7, b"r")),
        &["idempotency r: it isn't listed by age, so it would never be forgotten"],
    );
    check(
        |t| put(t, "idempotency_by_age", &age_key(9, b"r"), &[]),
        &["idempotency_by_age 9 r: the request was taken at 7"],
    );
    check(
        |t| put(t, "idempotency_by_age", &[1], &[]),
        &["idempotency_by_age 0x01: its key is no time and request"],
    );
    check(
        |t| {
            put_record(
                t,
                "idempotency",
                b"s",
                &IdempotencyRecord {
                    seq: Seq(9),
                    ..request("r")
                },
            );
            put(t, "idempotency_by_age", &age_key(7, b"s"), &[]);
        },
        &[
            "idempotency s: its record is of request r",
            "idempotency s: it was answered 9, and the last is 3",
        ],
    );
}
