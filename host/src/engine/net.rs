//! What several calls with the parts of a batch come to together.
//!
//! A plugin says of each row only what a call leaves of it. Where a fault has cut a batch into parts this makes one change of a row's
//! changes again, so that neither the log nor the rules behind it see where others faulted.

use std::hash::BuildHasher;

use hashbrown::{HashTable, hash_table::Entry};

use crate::{
    catalog::TableId,
    change::{Change, Op},
    store::{RowWrite, TableWrites},
};

/// What becomes of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is the only one of its row.
    Stays,
    /// It is the last of its row, and tells what the others did as well.
    Last,
    /// Another tells of it, or the row is again what it was.
    Goes,
}

/// Makes one change of all that a row has gone through in `changes` from `start` on, where its last one stands; a row that is again what
/// it was has none. `tables` from `first` on have the same writes, those of a table in the same order, and come to the same. A call may have
/// written a row several times if its effects were `kept` one by one.
pub(super) fn merge(
    changes: &mut Vec<Change>,
    start: usize,
    tables: &mut Vec<TableWrites>,
    first: usize,
    kept: bool,
) {
    let mut known: Vec<TableId> = Vec::new();
    let is_single = tables[first..].iter().all(|writes| {
        let is_new = !known.contains(&writes.table);
        known.push(writes.table);
        is_new
    });
    if is_single && !kept {
        return;
    }
    let fates = fates(&mut changes[start..]);
    merge_rows(&changes[start..], &fates, tables, first);
    let mut place = 0;
    changes.retain(|_| {
        place += 1;
        place <= start || fates[place - 1 - start] != Fate::Goes
    });
}

/// Gives each row's last change what was there before its first, and says what becomes of which.
fn fates(changes: &mut [Change]) -> Vec<Fate> {
    let hasher = foldhash::fast::RandomState::default();
    let hash = |change: &Change| hasher.hash_one((change.table, &change.key[..]));
    let mut fates = vec![Fate::Stays; changes.len()];
    let mut places: HashTable<usize> = HashTable::with_capacity(changes.len());
    for place in 0..changes.len() {
        let change = &changes[place];
        let is_row = |&other: &usize| {
            let other = &changes[other];
            other.table == change.table && other.key == change.key
        };
        match places.entry(hash(change), is_row, |&other| hash(&changes[other])) {
            Entry::Vacant(entry) => {
                entry.insert(place);
            }
            Entry::Occupied(mut entry) => {
                let earlier = std::mem::replace(entry.get_mut(), place);
                fates[earlier] = Fate::Goes;
                fates[place] = Fate::Last;
                let before = changes[earlier].before.take();
                let change = &mut changes[place];
                change.op = Op::between(&before, &change.after);
                change.before = before;
            }
        }
    }
    for (fate, change) in fates.iter_mut().zip(changes) {
        if *fate == Fate::Last && change.before == change.after {
            *fate = Fate::Goes;
        }
    }
    fates
}

/// Makes one of each table's writes, less those whose changes go.
fn merge_rows(changes: &[Change], fates: &[Fate], tables: &mut Vec<TableWrites>, first: usize) {
    // How far each table's changes have been gone through.
    let mut reached: Vec<usize> = Vec::new();
    for mut writes in tables.split_off(first) {
        let known = tables[first..]
            .iter()
            .position(|known| (known.table, known.generation) == (writes.table, writes.generation));
        let known = known.unwrap_or_else(|| {
            reached.push(0);
            tables.push(TableWrites {
                rows: Vec::new(),
                ..writes
            });
            tables.len() - 1 - first
        });
        let reached = &mut reached[known];
        let rows = &mut tables[first + known].rows;
        rows.reserve(writes.rows.len());
        rows.extend(writes.rows.drain(..).filter_map(|row| {
            *reached += changes[*reached..]
                .iter()
                .position(|change| change.table == writes.table)?;
            let place = *reached;
            *reached += 1;
            debug_assert_eq!(changes[place].key, row.key, "a write has its change");
            match fates[place] {
                Fate::Goes => None,
                Fate::Stays => Some(row),
                Fate::Last => Some(RowWrite {
                    before: changes[place].before.clone(),
                    ..row
                }),
            }
        }));
    }
}
