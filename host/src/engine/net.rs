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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::change::Seq;

    /// A row's change to what a word says, if it says anything: table, key, before, after.
    type Told = (u32, &'static str, &'static str, &'static str);

    fn row(word: &'static str) -> Option<Bytes> {
        (!word.is_empty()).then(|| Bytes::from_static(word.as_bytes()))
    }

    /// The writes of calls, as the engine takes them down: the changes of all, and for each call its tables.
    fn taken(calls: &[&[Told]]) -> (Vec<Change>, Vec<TableWrites>) {
        let (mut changes, mut tables) = (Vec::new(), Vec::new());
        for call in calls {
            let mut of_call: Vec<TableWrites> = Vec::new();
            for &(table, key, before, after) in *call {
                let seq = Seq(changes.len() as u64 + 1);
                let change = Change {
                    seq,
                    cause: seq,
                    table: TableId(table),
                    op: Op::between(&row(before), &row(after)),
                    key: Bytes::from_static(key.as_bytes()),
                    before: row(before),
                    after: row(after),
                    time: 0,
                };
                let write = RowWrite {
                    key: change.key.clone(),
                    before: change.before.clone(),
                    after: change.after.clone(),
                    seq,
                    version: 1,
                };
                changes.push(change);
                let is_it = |writes: &&mut TableWrites| writes.table == TableId(table);
                match of_call.iter_mut().find(is_it) {
                    Some(writes) => writes.rows.push(write),
                    None => of_call.push(TableWrites {
                        table: TableId(table),
                        generation: 1,
                        rows: vec![write],
                    }),
                }
            }
            tables.append(&mut of_call);
        }
        (changes, tables)
    }

    fn word(row: Option<&Bytes>) -> String {
        row.map(|row| String::from_utf8_lossy(row).into_owned())
            .unwrap_or_default()
    }

    fn line(table: TableId, key: &Bytes, seq: Seq, rows: [&Option<Bytes>; 2]) -> String {
        let [before, after] = rows.map(|row| word(row.as_ref()));
        format!("{table}.{} {before}>{after} {seq}", word(Some(key)))
    }

    /// What is left, of the log and of the tables.
    fn merged(calls: &[&[Told]], kept: bool) -> (Vec<String>, Vec<String>) {
        let (mut changes, mut tables) = taken(&[&[(9, "k", "", "first")]]);
        let (mut later, mut later_tables) = taken(calls);
        let (start, first) = (changes.len(), tables.len());
        changes.append(&mut later);
        tables.append(&mut later_tables);
        merge(&mut changes, start, &mut tables, first, kept);
        assert_eq!(changes.remove(0).table, TableId(9), "what stood before");
        assert_eq!(tables.remove(0).rows.len(), 1, "what stood before");
        let of_change = |change: &Change| {
            assert_eq!(change.op, Op::between(&change.before, &change.after));
            let rows = [&change.before, &change.after];
            line(change.table, &change.key, change.seq, rows)
        };
        let mut rows = Vec::new();
        for writes in &tables {
            rows.extend(writes.rows.iter().map(|write| {
                let rows = [&write.before, &write.after];
                line(writes.table, &write.key, write.seq, rows)
            }));
        }
        (changes.iter().map(of_change).collect(), rows)
    }

    #[test]
    fn a_row_has_one_change_from_what_it_was_first_to_what_it_is_last() {
        let (log, rows) = merged(
            &[
                &[(1, "a", "", "x"), (2, "a", "p", "q"), (1, "b", "m", "n")],
                &[(2, "b", "", "r"), (1, "a", "x", "y")],
                &[(1, "b", "n", ""), (2, "a", "q", "s"), (1, "c", "", "z")],
            ],
            false,
        );
        let expected = ["2.b >r 4", "1.a >y 5", "1.b m> 6", "2.a p>s 7", "1.c >z 8"];
        assert_eq!(log, expected);
        // By table, since that is how they are stored.
        let expected = ["1.a >y 5", "1.b m> 6", "1.c >z 8", "2.b >r 4", "2.a p>s 7"];
        assert_eq!(rows, expected);
    }

    #[test]
    fn a_row_that_is_what_it_was_has_no_change() {
        let calls: &[&[Told]] = &[
            &[(1, "a", "x", "y"), (1, "b", "", "n"), (1, "c", "s", "t")],
            &[(1, "a", "y", ""), (1, "b", "n", "")],
            &[(1, "a", "", "x")],
        ];
        let expected = vec!["1.c s>t 3".to_owned()];
        assert_eq!(merged(calls, false), (expected.clone(), expected));
    }

    #[test]
    fn what_one_call_wrote_is_looked_at_only_if_it_was_kept_by_and_by() {
        let calls: &[&[Told]] = &[&[(1, "a", "x", "y"), (1, "a", "y", "z")]];
        assert_eq!(merged(calls, false).0.len(), 2);
        let expected = vec!["1.a x>z 2".to_owned()];
        assert_eq!(merged(calls, true), (expected.clone(), expected));
    }
}
