//! The store through its own doors: what one commit writes, a reader finds, also after it has been opened again.

use std::sync::Arc;

use rulemill_wire::{ColumnType, ValueRef, key};

use crate::{
    catalog::{Catalog, Column, Index, Origin, Table, TableId},
    change::{BadInput, Change, Key, Op, Position, Seq},
    limits::Limits,
    row::{Row, RowBuilder},
};

use super::*;

mod damage;
mod faults;
mod forgetting;
mod letters;
mod model;
mod room;

fn table() -> Table {
    let column = |name: &str, ty| Column {
        name: name.into(),
        ty: Some(ty),
        nullable: false,
    };
    Table {
        id: TableId(0),
        name: "totals".into(),
        generation: 0,
        origin: Origin::Derived {
            plugin: "shop".into(),
        },
        columns: vec![
            column("id", ColumnType::I64),
            column("city", ColumnType::Text),
        ],
        key: vec![0],
        indexes: vec![Index { columns: vec![1] }],
        mirror: true,
        stage: crate::catalog::Stage::default(),
    }
}

fn key(id: i64) -> Key {
    let mut out = Vec::new();
    key::write(ValueRef::I64(id), &mut out);
    out.into()
}

fn row(id: i64, city: &str) -> Row {
    let mut builder = RowBuilder::default();
    builder.set(0, ValueRef::I64(id));
    builder.set(1, ValueRef::Text(city));
    let mut out = Vec::new();
    builder.finish(&mut out);
    out.into()
}

/// A write set in which row `id` goes from one city to another.
fn moves(seq: u64, moves: &[(i64, Option<&str>, Option<&str>)]) -> WriteSet {
    WriteSet {
        last_seq: Seq(seq),
        watermark: seq as i64,
        tables: vec![TableWrites {
            table: TableId(0),
            generation: 0,
            rows: moves
                .iter()
                .map(|&(id, before, after)| RowWrite {
                    key: key(id),
                    before: before.map(|city| row(id, city)),
                    after: after.map(|city| row(id, city)),
                    seq: Seq(seq),
                    version: 3,
                })
                .collect(),
        }],
        log: moves
            .iter()
            .map(|&(id, before, after)| Change {
                seq: Seq(seq),
                cause: Seq(seq),
                table: TableId(0),
                op: Op::Update,
                key: key(id),
                before: before.map(|city| row(id, city)),
                after: after.map(|city| row(id, city)),
                time: seq as i64,
            })
            .collect(),
        ..WriteSet::default()
    }
}

fn first() -> WriteSet {
    WriteSet {
        catalog: Some(Arc::new(Catalog::from_tables(vec![table()]))),
        ..moves(
            1,
            &[
                (1, None, Some("Rome")),
                (2, None, Some("Oslo")),
                (3, None, Some("Rome")),
            ],
        )
    }
}

/// Ids and cities by key, then ids by index.
fn contents(store: &Store, descending: bool) -> (Vec<String>, Vec<i64>) {
    let reader = store.reader().unwrap();
    let text = |row: &Row| {
        crate::row::values(row)
            .map(|value| match value.unwrap() {
                ValueRef::I64(id) => id.to_string(),
                ValueRef::Text(city) => city.to_owned(),
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
            .join(" ")
    };
    let rows = reader
        .rows(&table(), &[], None, descending)
        .unwrap()
        .map(|entry| text(&entry.unwrap().1.row))
        .collect();
    let by_index = reader
        .index_rows(&table(), 0, &[], None, descending)
        .unwrap()
        .map(|entry| match crate::row::value(&entry.unwrap().2.row, 0) {
            Ok(ValueRef::I64(id)) => id,
            other => panic!("{other:?}"),
        })
        .collect();
    (rows, by_index)
}

#[test]
fn rows_and_indexes_follow_merged_write_sets() {
    let store = Store::in_memory().unwrap();
    let mut group = vec![
        first(),
        moves(
            2,
            &[(1, Some("Rome"), Some("Bern")), (2, Some("Oslo"), None)],
        ),
        moves(
            3,
            &[(1, Some("Bern"), Some("Wien")), (4, None, Some("Bonn"))],
        ),
        moves(4, &[(4, Some("Bonn"), None)]),
    ];
    let stats = store.commit(&mut group).unwrap();
    assert_eq!(stats.rows, 4);
    assert_eq!(
        contents(&store, false),
        (vec!["1 Wien".into(), "3 Rome".into()], vec![3, 1])
    );
    assert_eq!(
        contents(&store, true),
        (vec!["3 Rome".into(), "1 Wien".into()], vec![1, 3])
    );
    store
        .commit(&mut [moves(
            5,
            &[(3, Some("Rome"), Some("Aachen")), (1, Some("Wien"), None)],
        )])
        .unwrap();
    assert_eq!(contents(&store, false), (vec!["3 Aachen".into()], vec![3]));
    let reader = store.reader().unwrap();
    assert_eq!((reader.last_seq(), reader.watermark()), (Seq(5), 5));
    let stored = reader.row(&table(), &key(3)).unwrap().unwrap();
    assert_eq!((stored.seq, stored.version), (Seq(5), 3));
    assert_eq!(reader.row(&table(), &key(1)).unwrap(), None);
    assert_eq!(reader.row_count(&table()).unwrap(), 1);
}

#[test]
fn a_range_has_its_bounds() {
    let store = Store::in_memory().unwrap();
    store.commit(&mut [first()]).unwrap();
    let reader = store.reader().unwrap();
    let check = |from: &[u8], to: Option<&[u8]>, expected: &[i64]| {
        for descending in [false, true] {
            let mut found: Vec<_> = reader
                .rows(&table(), from, to, descending)
                .unwrap()
                .map(|entry| entry.unwrap().0)
                .collect();
            if descending {
                found.reverse();
            }
            assert_eq!(
                found,
                expected.iter().map(|&id| key(id)).collect::<Vec<_>>()
            );
        }
    };
    check(&key(2), None, &[2, 3]);
    check(&key(1), Some(&key(3)), &[1, 2]);
    check(&key(2), Some(&key(2)), &[]);
    check(&key(3), Some(&key(1)), &[]);
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let store = Store::in_memory().unwrap();
    store.commit(&mut [first()]).unwrap();
    let before = store.reader().unwrap();
    store
        .commit(&mut [moves(2, &[(1, Some("Rome"), None)])])
        .unwrap();
    assert!(before.row(&table(), &key(1)).unwrap().is_some());
    assert!(
        store
            .reader()
            .unwrap()
            .row(&table(), &key(1))
            .unwrap()
            .is_none()
    );
}

#[test]
fn records_come_back() {
    let store = Store::in_memory().unwrap();
    let source: Arc<str> = "shop".into();
    let position = |part: &str, at: u8| Position {
        part: part.into(),
        bytes: vec![at],
    };
    let bad = |line| BadInput {
        origin: "orders.jsonl".into(),
        line,
        offset_bytes: 0,
        reason: "no JSON".into(),
        text: "{".into(),
        cut: false,
    };
    let timer = |due| TimerWrite {
        plugin: "p".into(),
        rule: "r".into(),
        key: "k".into(),
        due,
    };
    let mut set = first();
    set.positions = vec![
        (source.clone(), position("a", 1)),
        (source.clone(), position("b", 1)),
        (source.clone(), position("a", 2)),
        ("shops".into(), position("a", 9)),
    ];
    set.bad_input = vec![(source.clone(), bad(1)), (source.clone(), bad(2))];
    set.timers = vec![timer(Some(5)), timer(Some(7))];
    store.commit(&mut [set]).unwrap();
    let reader = store.reader().unwrap();
    assert_eq!(
        reader.positions("shop").unwrap(),
        [position("a", 2), position("b", 1)]
    );
    let bad_input: Vec<_> = reader
        .bad_input("shop")
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(bad_input, [(1, bad(1)), (2, bad(2))]);
    let timers: Vec<_> = reader.timers().unwrap().map(Result::unwrap).collect();
    assert_eq!(timers, [timer(Some(7))]);
    let mut set = WriteSet {
        last_seq: Seq(2),
        timers: vec![timer(None)],
        ..WriteSet::default()
    };
    store.commit(std::slice::from_mut(&mut set)).unwrap();
    assert_eq!(store.reader().unwrap().timers().unwrap().count(), 0);
}

#[test]
fn the_log_is_read_from_any_seq_and_forgotten_from_the_front() {
    let store = Store::in_memory().unwrap();
    store.commit(&mut [first()]).unwrap();
    for seq in 2..=50 {
        store
            .commit(&mut [moves(seq, &[(1, Some("Rome"), Some("Rome"))])])
            .unwrap();
    }
    let seqs = |from| -> Vec<u64> {
        let reader = store.reader().unwrap();
        reader
            .log(Seq(from))
            .unwrap()
            .map(|change| change.unwrap().seq.0)
            .collect()
    };
    assert_eq!(seqs(48), [48, 49, 50]);
    let limits = Limits {
        log_age_hours_max: 0,
        ..Limits::default()
    };
    // The commit times are the seqs.
    assert!(!store.prune(40, &limits).unwrap());
    assert_eq!(
        store.reader().unwrap().log_first_seq().unwrap(),
        Some(Seq(40))
    );
    assert_eq!(seqs(0), (40..=50).collect::<Vec<_>>());
    let bytes = store.reader().unwrap().log_bytes().unwrap();
    let limits = Limits {
        log_bytes_max: bytes / 2,
        ..Limits::default()
    };
    store.prune(0, &limits).unwrap();
    let kept = store.reader().unwrap().log_bytes().unwrap();
    assert!(kept <= bytes / 2 && kept > 0, "{kept} of {bytes}");
}

#[test]
fn a_directory_has_one_owner_and_keeps_what_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits::default();
    let store = Store::open(dir.path(), &limits).unwrap();
    store.commit(&mut [first()]).unwrap();
    let second = Store::open(dir.path(), &limits).err().unwrap();
    assert!(matches!(second, Error::Locked(_)), "{second}");
    let named = second.to_string();
    assert!(named.contains(&dir.path().display().to_string()), "{named}");
    assert!(named.contains("another rulemill"), "{named}");
    drop(store);
    let store = Store::open(dir.path(), &limits).unwrap();
    assert_eq!(contents(&store, false).0, ["1 Rome", "2 Oslo", "3 Rome"]);
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits::default();
    let store = Store::open(dir.path(), &limits).unwrap();
    let transaction = store.database.begin_write().unwrap();
    {
        let mut meta_table = transaction.open_table(tables::META).unwrap();
        commit::put_number(&mut meta_table, meta::FORMAT, FORMAT + 1).unwrap();
    }
    transaction.commit().unwrap();
    drop(store);
    let error = Store::open(dir.path(), &limits).err().unwrap();
    assert!(matches!(error, Error::NewerFormat { .. }), "{error}");
}

#[test]
fn a_file_of_another_program_is_refused() {
    let limits = Limits::default();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE), "something else").unwrap();
    let error = Store::open(dir.path(), &limits).err().unwrap();
    assert!(matches!(error, Error::NotAStore(_)), "{error}");

    let dir = tempfile::tempdir().unwrap();
    let other = Database::create(dir.path().join(FILE)).unwrap();
    let transaction = other.begin_write().unwrap();
    transaction
        .open_table(tables::Bytes::new("something else"))
        .unwrap();
    transaction.commit().unwrap();
    drop(other);
    let error = Store::open(dir.path(), &limits).err().unwrap();
    assert!(matches!(error, Error::Damaged(_)), "{error}");
}

#[test]
fn a_store_that_was_only_begun_is_made_again() {
    let limits = Limits::default();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("store.redb.begun"), [0; 4096]).unwrap();
    drop(Store::open(dir.path(), &limits).unwrap());
    assert!(Store::exists(dir.path()));
}

#[test]
fn an_iterator_keeps_its_snapshot() {
    let store = Store::in_memory().unwrap();
    store.commit(&mut [first()]).unwrap();
    let rows = store
        .reader()
        .unwrap()
        .rows(&table(), &[], None, false)
        .unwrap();
    // Were the snapshot gone, these would take its pages.
    for seq in 2..200 {
        store
            .commit(&mut [moves(seq, &[(1, Some("Rome"), Some("Rome"))])])
            .unwrap();
    }
    let seqs: Vec<u64> = rows.map(|entry| entry.unwrap().1.seq.0).collect();
    assert_eq!(seqs, [1, 1, 1]);
}

#[test]
fn the_catalog_is_kept_for_later_commits() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits::default();
    let store = Store::open(dir.path(), &limits).unwrap();
    store.commit(&mut [first()]).unwrap();
    drop(store);
    let store = Store::open(dir.path(), &limits).unwrap();
    store
        .commit(&mut [moves(2, &[(1, Some("Rome"), Some("Ulm"))])])
        .unwrap();
    assert_eq!(contents(&store, false).1, [2, 3, 1]);
    let catalog = store.reader().unwrap().catalog().unwrap();
    assert_eq!(**catalog.table(TableId(0)), table());
}

#[test]
fn rules_and_their_code_come_back() {
    let store = Store::in_memory().unwrap();
    let rule = |status: RuleStatus, changes| RuleRecord {
        plugin: "shop".into(),
        rule: "totals".into(),
        status,
        cursor: Seq(4),
        cursor_changes: 2,
        cursor_watermark: -5,
        at_head: false,
        backfill: Some(vec![1, 2]),
        replaced: None,
        version: 2,
        changes,
        faults: 1,
        last_error: Some("no".into()),
    };
    let version = |id| PluginVersion {
        id,
        plugin: "shop".into(),
        hash: [id as u8; 32],
        label: "0.1.0".into(),
        from_seq: Seq(1),
        code: Arc::from(&b"wasm"[..]),
    };
    store
        .commit(&mut [WriteSet {
            rules: vec![
                rule(RuleStatus::Halted("why".into()), 1),
                rule(RuleStatus::Running, 2),
            ],
            plugin_versions: vec![version(1), version(2)],
            ..first()
        }])
        .unwrap();
    let reader = store.reader().unwrap();
    assert_eq!(reader.rules().unwrap(), [rule(RuleStatus::Running, 2)]);
    let versions = reader.plugin_versions().unwrap();
    let ids: Vec<u32> = versions.iter().map(|version| version.id).collect();
    assert_eq!(ids, [1, 2]);
    assert!(versions[0].code.is_empty());
    assert_eq!(
        reader.plugin_code(&[2; 32]).unwrap().as_deref(),
        Some(&b"wasm"[..])
    );
    assert_eq!(reader.plugin_code(&[3; 32]).unwrap(), None);
}

#[test]
fn dead_letters_stay_until_they_are_settled() {
    let store = Store::in_memory().unwrap();
    let letter = |id| DeadLetter {
        id,
        plugin: "shop".into(),
        rule: "totals".into(),
        version: 1,
        seq: Seq(1),
        nth: 2,
        cause: Seq(1),
        state: LetterState::Faulted,
        subject: match id {
            2 => Subject::Timer(ParkedTimer {
                key: "cart 7".into(),
                due: -8,
            }),
            _ => Subject::Change(ParkedChange {
                table: TableId(0),
                op: Op::Delete,
                key: vec![1],
                before: Some(vec![2]),
                after: None,
            }),
        },
        time: 3,
        error: "boom".into(),
        parked_at: 4,
    };
    let ids = || -> Vec<u64> {
        let reader = store.reader().unwrap();
        let letters = reader.dead_letters().unwrap();
        letters.map(|letter| letter.unwrap().id).collect()
    };
    let set = WriteSet {
        dead_letters: vec![letter(1), letter(2), letter(3)],
        ..WriteSet::default()
    };
    store.commit(&mut [set]).unwrap();
    assert_eq!(ids(), [1, 2, 3]);
    let set = WriteSet {
        settled_dead_letters: vec![1, 3],
        ..WriteSet::default()
    };
    store.commit(&mut [set]).unwrap();
    assert_eq!(ids(), [2]);
    // What is read is what was written.
    let stored = store.reader().unwrap().dead_letter(2).unwrap();
    assert_eq!(stored, Some(letter(2)));
    // Numbers aren't given again.
    assert_eq!(store.reader().unwrap().last_dead_letter().unwrap(), 3);
}
