//! What several calls with the parts of a batch come to together.
//!
//! A plugin says of each row only what a call leaves of it. Where a fault has cut a batch into parts this makes one change of a row's
//! changes again, so that neither the log nor the rules behind it see where others faulted.

use hashbrown::{HashMap, HashSet};

use crate::{
    catalog::TableId,
    change::{Change, Key, Op},
    store::{RowWrite, TableWrites},
};

type Hash = foldhash::fast::RandomState;

/// Makes one change of all that a row has gone through in `changes` from `start` on, where its last one stands; a row that is again what
/// it was has none. `tables` from `first` on have the same writes, and come to the same. A call may have written a row several times if its
/// effects were `kept` one by one.
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
    let unchanged = merge_changes(changes, start);
    let writes: Vec<TableWrites> = tables.drain(first..).collect();
    for writes in writes {
        let of_table = |known: &&mut TableWrites| {
            (known.table, known.generation) == (writes.table, writes.generation)
        };
        match tables[first..].iter_mut().find(of_table) {
            Some(known) => known.rows.extend(writes.rows),
            None => tables.push(writes),
        }
    }
    for writes in &mut tables[first..] {
        merge_rows(writes, &unchanged);
    }
}

/// Gives the rows that are again what they were.
fn merge_changes(changes: &mut Vec<Change>, start: usize) -> HashSet<(TableId, Key), Hash> {
    let mut places: HashMap<(TableId, Key), usize, Hash> =
        HashMap::with_capacity_and_hasher(changes.len() - start, Hash::default());
    let mut unchanged = HashSet::with_hasher(Hash::default());
    let mut is_merged = vec![false; changes.len()];
    for place in start..changes.len() {
        let row = (changes[place].table, changes[place].key.clone());
        if let Some(earlier) = places.insert(row, place) {
            is_merged[earlier] = true;
            let before = changes[earlier].before.take();
            let change = &mut changes[place];
            change.op = Op::between(&before, &change.after);
            change.before = before;
        }
    }
    let mut place = 0;
    changes.retain(|change| {
        let is_gone = is_merged[place];
        place += 1;
        if place <= start || is_gone {
            return !is_gone;
        }
        if change.before == change.after {
            unchanged.insert((change.table, change.key.clone()));
            return false;
        }
        true
    });
    unchanged
}

fn merge_rows(writes: &mut TableWrites, unchanged: &HashSet<(TableId, Key), Hash>) {
    let mut places: HashMap<Key, usize, Hash> =
        HashMap::with_capacity_and_hasher(writes.rows.len(), Hash::default());
    let mut rows: Vec<RowWrite> = Vec::with_capacity(writes.rows.len());
    for row in writes.rows.drain(..) {
        match places.get(&row.key) {
            Some(&place) => {
                let before = rows[place].before.take();
                rows[place] = RowWrite { before, ..row };
            }
            None => {
                places.insert(row.key.clone(), rows.len());
                rows.push(row);
            }
        }
    }
    let table = writes.table;
    rows.retain(|row| !unchanged.contains(&(table, row.key.clone())));
    writes.rows = rows;
}
