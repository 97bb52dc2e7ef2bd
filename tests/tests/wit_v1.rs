//! A guest frozen when plugin interface v1 was published still loads and handles a batch.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

#[path = "../guests/mod.rs"]
mod guests;

use std::sync::Arc;

use guests::{Read, State};
use rulemill::{
    limits::Limits,
    rule::{Page, ScanRange},
};
use rulemill_wire::{
    Reader, ValueRef,
    batch::{BatchWriter, ItemHeader, Kind},
    codec,
    effects::{Effect, EffectsReader},
    key,
    manifest::Input,
};

fn row(values: &[i64]) -> Vec<u8> {
    let mut row = Vec::new();
    for &value in values {
        codec::write_i64(value, &mut row);
    }
    row
}

fn key(id: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    key::write(ValueRef::I64(id), &mut bytes);
    bytes
}

fn batch(items: &[(u64, Kind, &[i64])]) -> Vec<u8> {
    let mut batch = BatchWriter::new(1_000, 5, 0);
    for &(seq, kind, values) in items {
        let header = ItemHeader {
            seq,
            time: 1_700_000_000_000_000,
            rules: 1,
            kind,
        };
        batch.item(header).extend(row(values));
    }
    batch.finish()
}

/// The writes among the effects: item, id, and the value of a put.
fn writes(effects: &[u8]) -> Vec<(u32, i64, Option<i64>)> {
    let mut reader = EffectsReader::new(effects).unwrap();
    let mut writes = Vec::new();
    while let Some(effect) = reader.next_effect().unwrap() {
        let body: &mut Reader<'_> = reader.body();
        writes.push(match effect {
            Effect::Put { table: 1, item } => {
                (item, body.i64().unwrap(), Some(body.i64().unwrap()))
            }
            Effect::Delete { table: 1, item } => (item, body.i64().unwrap(), None),
            other => panic!("{other:?}"),
        });
    }
    writes
}

#[test]
fn the_frozen_guest_loads_and_handles_a_batch() {
    let plugin = guests::load(&Limits::default(), guests::assemble(guests::V1)).unwrap();
    let manifest = plugin.manifest();
    assert_eq!(manifest.name, "frozen");
    assert_eq!(manifest.tables[0].name, "numbers");
    assert_eq!(manifest.tables[1].name, "sums");
    assert_eq!(manifest.rules[0].input, Input::Changes(0));
    assert_eq!(manifest.rules[0].writes, [1]);

    let state = Arc::new(State {
        row: Some(row(&[0, 300])),
        page: Page {
            count: 2,
            rows: row(&[1, 10, 2, 20]),
            next: Some(key(2)),
        },
        ..State::default()
    });
    let mut instance = plugin.instantiate().unwrap();
    for _ in 0..3 {
        let batch = batch(&[
            (1_001, Kind::Insert, &[-7, 1]),
            (1_002, Kind::Update, &[8, 1_000, 8, 1_234]),
            (1_005, Kind::Delete, &[i64::MIN, 0]),
            (1_005, Kind::Read, &[i64::MAX, -2]),
        ]);
        let effects = instance.apply(&batch, state.clone()).unwrap();
        assert_eq!(
            writes(&effects),
            [
                (0, -7, Some(301)),
                (1, 8, Some(534)),
                (2, i64::MIN, None),
                (3, i64::MAX, Some(0)),
            ]
        );
        let range = ScanRange {
            index: Some(0),
            from: key(i64::MAX),
            to: None,
            descending: true,
            limit: 5,
        };
        assert_eq!(
            std::mem::take(&mut *state.reads.lock().unwrap()),
            [
                Read::Get(1, key(-7), 1_001),
                Read::Get(1, key(8), 1_002),
                Read::Scan(1, range, 1_005),
            ]
        );
    }
    assert_eq!(
        Arc::strong_count(&state),
        1,
        "the state is let go of before a call returns"
    );
}

#[test]
fn its_panic_is_told() {
    let plugin = guests::load(&Limits::default(), guests::assemble(guests::V1)).unwrap();
    let mut instance = plugin.instantiate().unwrap();
    let fault = instance
        .apply(
            &batch(&[(1, Kind::Tick, &[0, 0])]),
            Arc::new(State::default()),
        )
        .unwrap_err();
    assert_eq!(fault.to_string(), "trapped: no such kind");
}
