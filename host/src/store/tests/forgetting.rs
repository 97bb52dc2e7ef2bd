//! What retention removes, and what it leaves.

use redb::{ReadableTableMetadata, TableHandle};

use super::*;

const HOUR: i64 = 3_600_000_000;

fn request(key: &str, taken_at: i64) -> IdempotencyRecord {
    IdempotencyRecord {
        key: key.into(),
        body_hash: [7; 32],
        seq: Seq(1),
        changes: 1,
        taken_at,
    }
}

#[test]
fn requests_go_by_age() {
    let store = Store::in_memory().unwrap();
    let set = |requests: Vec<IdempotencyRecord>| WriteSet {
        idempotency: requests,
        ..WriteSet::default()
    };
    store
        .commit(&mut [set(vec![
            request("a", HOUR),
            request("b", 2 * HOUR),
            request("c", HOUR),
        ])])
        .unwrap();
    // Taken again once it was forgotten by the engine: only the newer one counts.
    store
        .commit(&mut [set(vec![request("c", 3 * HOUR)])])
        .unwrap();
    let limits = Limits {
        idempotency_age_hours_max: 1,
        ..Limits::default()
    };
    assert!(!store.prune(2 * HOUR, &limits).unwrap());
    let kept = |key| store.reader().unwrap().idempotency(key).unwrap();
    assert_eq!(kept("a"), Some(request("a", HOUR)));
    assert!(!store.prune(2 * HOUR + 1, &limits).unwrap());
    assert_eq!(kept("a"), None);
    assert_eq!(kept("b"), Some(request("b", 2 * HOUR)));
    assert_eq!(kept("c"), Some(request("c", 3 * HOUR)));
}

#[test]
fn each_source_keeps_its_newest_bad_input() {
    let store = Store::in_memory().unwrap();
    let bad = |line| BadInput {
        origin: String::new(),
        line,
        offset_bytes: 0,
        reason: String::new(),
        text: String::new(),
        cut: false,
    };
    let loud: Arc<str> = "loud".into();
    let quiet: Arc<str> = "quiet".into();
    let mut set = WriteSet::default();
    set.bad_input
        .extend((1..=2_500).map(|line| (loud.clone(), bad(line))));
    set.bad_input.push((quiet.clone(), bad(1)));
    store.commit(&mut [set]).unwrap();
    let limits = Limits {
        bad_input_kept_max: 2,
        ..Limits::default()
    };
    let lines = |source: &str| -> Vec<(u64, u64)> {
        let reader = store.reader().unwrap();
        let entries = reader.bad_input(source).unwrap();
        entries
            .map(|entry| entry.map(|(id, bad)| (id, bad.line)).unwrap())
            .collect()
    };
    let mut calls = 1;
    while store.prune(0, &limits).unwrap() {
        calls += 1;
    }
    // A bounded number of entries each.
    assert_eq!(calls, 3);
    assert_eq!(lines("loud"), [(2_499, 2_499), (2_500, 2_500)]);
    assert_eq!(lines("quiet"), [(1, 1)]);
    let set = WriteSet {
        bad_input: vec![(loud, bad(9)), (quiet, bad(2))],
        ..WriteSet::default()
    };
    store.commit(&mut [set]).unwrap();
    assert_eq!(lines("loud"), [(2_499, 2_499), (2_500, 2_500), (2_501, 9)]);
    assert_eq!(lines("quiet"), [(1, 1), (2, 2)]);
}

#[test]
fn the_outbox_keeps_its_newest_and_goes_on_counting() {
    let store = Store::in_memory().unwrap();
    let notification = || Notification {
        id: 0,
        seq: Seq(1),
        plugin: "p".into(),
        rule: "r".into(),
        ordinal: 0,
        topic: "t".into(),
        body: "{}".into(),
        time: 0,
    };
    let commit = |count| {
        let mut group = [WriteSet {
            notifications: (0..count).map(|_| notification()).collect(),
            ..WriteSet::default()
        }];
        store.commit(&mut group).unwrap();
        let given = &group[0].notifications;
        given.iter().map(|given| given.id).collect::<Vec<_>>()
    };
    assert_eq!(commit(3), [1, 2, 3]);
    let limits = Limits {
        outbox_max: 0,
        ..Limits::default()
    };
    store.prune(0, &limits).unwrap();
    assert_eq!(commit(2), [4, 5]);
    let reader = store.reader().unwrap();
    let ids: Vec<u64> = reader
        .notifications(5)
        .unwrap()
        .map(|found| found.unwrap().id)
        .collect();
    assert_eq!(ids, [5]);
    assert_eq!(reader.notifications(0).unwrap().count(), 2);
}

#[test]
fn a_write_set_leaves_the_log_whole() {
    let store = Store::in_memory().unwrap();
    let many: Vec<_> = (0..20_000).map(|id| (id, None, Some("Rome"))).collect();
    store
        .commit(&mut [WriteSet {
            catalog: first().catalog,
            ..moves(1, &many)
        }])
        .unwrap();
    store.commit(&mut [moves(2, &[(1, None, None)])]).unwrap();
    let bytes = store.reader().unwrap().log_bytes().unwrap();
    // One byte too large: all blocks of the first set go.
    let limits = Limits {
        log_bytes_max: bytes - 1,
        ..Limits::default()
    };
    assert!(!store.prune(0, &limits).unwrap());
    let reader = store.reader().unwrap();
    let seqs: Vec<u64> = reader
        .log(Seq(0))
        .unwrap()
        .map(|change| change.unwrap().seq.0)
        .collect();
    assert_eq!(seqs, [2]);
    assert_eq!(reader.log_first_seq().unwrap(), Some(Seq(2)));
    assert!(reader.log_bytes().unwrap() < 200);
}

/// The rows of a table that was rebuilt go a bounded part at a time, and its indexes' entries.
#[test]
fn a_dropped_table_goes_in_steps() {
    let store = Store::in_memory().unwrap();
    let rows: Vec<_> = (0..25_000).map(|id| (id, None, Some("Oslo"))).collect();
    let mut sets = [WriteSet {
        catalog: first().catalog,
        ..moves(1, &rows)
    }];
    store.commit(&mut sets).unwrap();
    assert!(!store.prune(1, &Limits::default()).unwrap());
    let dropped = Table {
        stage: crate::catalog::Stage::Dropped,
        ..table()
    };
    let mut sets = [WriteSet {
        catalog: Some(Arc::new(Catalog::from_tables(vec![dropped.clone()]))),
        ..WriteSet::default()
    }];
    sets[0].last_seq = Seq(2);
    store.commit(&mut sets).unwrap();
    let left = || {
        let reader = store.reader().unwrap();
        let rows = reader.rows(&dropped, &[], None, false).unwrap().count();
        let transaction = store.database.begin_read().unwrap();
        let entries = tables::index_name(dropped.id, 0, 0);
        let entries = transaction.open_table(tables::Bytes::new(&entries));
        (rows, entries.map_or(0, |entries| entries.len().unwrap()))
    };
    let mut steps = Vec::new();
    while store.prune(1, &Limits::default()).unwrap() {
        steps.push(left());
    }
    assert_eq!(
        steps,
        [
            (15_000, 25_000),
            (5_000, 25_000),
            (0, 25_000),
            (0, 15_000),
            (0, 5_000)
        ]
    );
    assert_eq!(left(), (0, 0));
    let transaction = store.database.begin_read().unwrap();
    let mut names = transaction.list_tables().unwrap();
    assert!(names.all(|table| !table.name().contains('/')));
}
