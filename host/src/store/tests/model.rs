//! Any sequence of groups leaves what a plain map would hold.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A row write: its key, and the city it moves to, if any.
type Write = (i64, Option<u8>);
/// Groups of write sets.
type Groups = Vec<Vec<Vec<Write>>>;

fn groups() -> impl Strategy<Value = Groups> {
    let write = (0..60i64, proptest::option::weighted(0.8, 0..5u8));
    let set = proptest::collection::vec(write, 0..40);
    // Runs of new keys at the end, as a source's inserts are.
    let run = (0..200i64, 1..60i64)
        .prop_map(|(start, len)| (start..start + len).map(|id| (id, Some(1))).collect());
    let set = prop_oneof![3 => set, 1 => run];
    proptest::collection::vec(proptest::collection::vec(set, 1..4), 1..5)
}

fn city(number: u8) -> String {
    format!("city {number}")
}

fn check(groups: Groups, from: i64, to: i64) {
    let store = Store::in_memory().unwrap();
    let catalog = Catalog::from_tables(vec![table()]);
    store
        .commit(&mut [WriteSet {
            catalog: Some(Arc::new(catalog)),
            ..WriteSet::default()
        }])
        .unwrap();
    let mut model: BTreeMap<i64, (String, Seq)> = BTreeMap::new();
    let mut seq = Seq(0);
    for group in groups {
        let mut sets = Vec::new();
        for writes in group {
            seq = seq.next();
            // Each key once in a write set.
            let writes: BTreeMap<i64, Option<String>> = writes
                .into_iter()
                .map(|(id, to)| (id, to.map(city)))
                .collect();
            let moves_now: Vec<_> = writes
                .iter()
                .map(|(&id, to)| (id, model.get(&id).map(|(city, _)| city.clone()), to.clone()))
                .collect();
            let borrowed: Vec<_> = moves_now
                .iter()
                .map(|(id, from, to)| (*id, from.as_deref(), to.as_deref()))
                .collect();
            sets.push(moves(seq.0, &borrowed));
            for (id, to) in writes {
                match to {
                    Some(to) => model.insert(id, (to, seq)),
                    None => model.remove(&id),
                };
            }
        }
        store.commit(&mut sets).unwrap();
    }

    let reader = store.reader().unwrap();
    assert_eq!(reader.row_count(&table()).unwrap(), model.len() as u64);
    for id in 0..260 {
        let found = reader.row(&table(), &key(id)).unwrap();
        let found = found.map(|stored| (stored.row, stored.seq));
        let expected = model.get(&id).map(|(city, seq)| (row(id, city), *seq));
        assert_eq!(found, expected, "row {id}");
    }
    let mut by_city: Vec<(String, i64)> = model
        .iter()
        .map(|(id, (city, _))| (city.clone(), *id))
        .collect();
    by_city.sort();
    for descending in [false, true] {
        let mut found: Vec<Key> = reader
            .rows(&table(), &key(from), Some(&key(to)), descending)
            .unwrap()
            .map(|entry| entry.unwrap().0)
            .collect();
        let mut entries: Vec<(Row, Key)> = reader
            .index_rows(&table(), 0, &[], None, descending)
            .unwrap()
            .map(|entry| {
                let (_, key, stored) = entry.unwrap();
                (stored.row, key)
            })
            .collect();
        if descending {
            found.reverse();
            entries.reverse();
        }
        let bounded = model.keys().filter(|id| (from..to).contains(*id));
        assert_eq!(found, bounded.map(|&id| key(id)).collect::<Vec<_>>());
        let expected: Vec<(Row, Key)> = by_city
            .iter()
            .map(|(city, id)| (row(*id, city), key(*id)))
            .collect();
        assert_eq!(entries, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn groups_leave_what_a_map_would(groups in groups(), from in 0..260i64, to in 0..260i64) {
        check(groups, from, to);
    }
}
