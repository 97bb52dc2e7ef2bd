//! Each thing that can be wrong in a store, done to a healthy one through redb itself, and what is said of it: that and
//! nothing else.

use redb::{ReadableTable, WriteTransaction};
use sha2::{Digest, Sha256};

use super::*;
use crate::store::{
    commit::{age_key, put_number, text_key},
    tables,
};

mod log;
mod records;
mod rows;

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
        cause: Seq(seq),
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

/// The change of a letter.
fn order(table: TableId, after: Vec<u8>) -> ParkedChange {
    ParkedChange {
        table,
        op: Op::Insert,
        key: key(2).to_vec(),
        before: None,
        after: Some(after),
    }
}

/// A letter of a timer whose key is the bytes of a row's.
fn timer_letter(id: u64, seq: u64) -> DeadLetter {
    DeadLetter {
        subject: Subject::Timer(ParkedTimer {
            key: "2".into(),
            due: 2,
        }),
        ..letter(id, seq)
    }
}

fn letter(id: u64, seq: u64) -> DeadLetter {
    DeadLetter {
        id,
        plugin: "shop".into(),
        rule: "totals".into(),
        version: 1,
        seq: Seq(seq),
        nth: 0,
        cause: Seq(seq),
        state: LetterState::Faulted,
        subject: Subject::Change(order(ORDERS, row(2, "Oslo").to_vec())),
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
        cursor_changes: 0,
        cursor_watermark: 0,
        at_head: true,
        backfill: None,
        replaced: None,
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
        dead_letters: vec![letter(1, 3), timer_letter(2, 3)],
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
    assert_eq!(seen.records, 12);
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
