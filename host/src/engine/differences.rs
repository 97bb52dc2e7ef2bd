//! What a rule must be told of a table whose past it doesn't know: all its rows, or how they differ from those of the table that
//! served before.
//!
//! Rows are read in key order, a bounded part at a time, each as it is at that moment. The replaced table no longer changes, so
//! what was told up to some key stays told, and that key is all that has to be remembered; changes of the keys behind it are
//! passed over until they are reached. So neither memory nor a transaction grows with the rows that differ: a part holds no more than
//! `batch_changes_max` of them, and no more than `batch_bytes_max` and one row, of a bounded number looked at.

use crate::{
    catalog::{Table, TableId},
    change::{Change, Key, Op, Seq},
    row::{self, Row, RowBuilder},
};

use super::{Engine, Fatal, behind::LOOK_AHEAD};

/// A part of what a rule must be told.
pub(super) struct Part {
    /// In key order, each with a seq of its own behind the last one given.
    pub(super) changes: Vec<Change>,
    /// The key up to which rows were looked at, if there are more behind it.
    pub(super) reached: Option<Key>,
}

/// A part being gathered.
struct Gathering {
    table: TableId,
    seq: Seq,
    time: i64,
    changes_max: usize,
    bytes_max: usize,
    changes: Vec<Change>,
    bytes: usize,
    looked_at: usize,
    reached: Option<Key>,
    /// There are more rows than were looked at.
    more: bool,
    failed: Option<Fatal>,
}

impl Gathering {
    /// Takes a key with what it had and has. False, without having taken it, if the part is full.
    fn take(&mut self, key: &Key, before: Option<Row>, after: Option<Row>) -> bool {
        if self.changes.len() >= self.changes_max
            || self.bytes >= self.bytes_max
            || self.looked_at >= self.changes_max.saturating_mul(LOOK_AHEAD)
        {
            self.more = true;
            return false;
        }
        self.looked_at += 1;
        self.reached = Some(key.clone());
        if before == after {
            return true;
        }
        let bytes = |row: &Option<Row>| row.as_ref().map_or(0, |row| row.len());
        self.bytes += key.len() + bytes(&before) + bytes(&after);
        self.seq = self.seq.next();
        self.changes.push(Change {
            seq: self.seq,
            cause: self.seq,
            table: self.table,
            op: Op::between(&before, &after),
            key: key.clone(),
            before,
            after,
            time: self.time,
        });
        true
    }
}

impl Engine {
    /// The next part of what a rule must be told that is called for changes of `table` and has been told of the keys up to
    /// `told`: how it differs from `replaced`, or all of it.
    pub(super) fn differences(
        &self,
        table: TableId,
        replaced: Option<TableId>,
        told: Option<&[u8]>,
    ) -> Result<Part, Fatal> {
        let catalog = self.catalog.load();
        let table: &Table = catalog.table(table);
        let mut from = told.unwrap_or_default().to_vec();
        if !from.is_empty() {
            from.push(0);
        }
        let mut gathering = Gathering {
            table: table.id,
            seq: self.last_seq,
            time: self.watermark,
            changes_max: self.limits.batch_changes_max.max(1),
            bytes_max: self.limits.batch_bytes_max.max(1),
            changes: Vec::new(),
            bytes: 0,
            looked_at: 0,
            reached: None,
            more: false,
            failed: None,
        };
        // All of it was on disk before the switch. Whoever is called for a table names its key, so both have the same.
        let replaced = replaced.map(|id| catalog.table(id));
        let mut old = match replaced {
            None => None,
            Some(replaced) => Some(self.view.snapshot().rows(replaced, &from, None, false)?),
        };
        let mut next_old = || -> Result<Option<(Key, Row)>, Fatal> {
            let (Some(old), Some(replaced)) = (&mut old, replaced) else {
                return Ok(None);
            };
            let Some((key, stored)) = old.next().transpose()? else {
                return Ok(None);
            };
            Ok(Some((key, converted(replaced, table, &stored.row)?)))
        };
        let mut first = next_old()?;
        let now = Seq(u64::MAX);
        self.view.scan(table, &from, None, false, now, |key, new| {
            loop {
                let is_gone = matches!(&first, Some((old, _)) if old < key);
                let before = match first.take_if(|(old, _)| *old <= *key) {
                    None => return gathering.take(key, None, Some(new.clone())),
                    Some(before) => before,
                };
                first = match next_old() {
                    Ok(next) => next,
                    Err(error) => {
                        gathering.failed = Some(error);
                        return false;
                    }
                };
                let (old, row) = before;
                let after = (!is_gone).then(|| new.clone());
                if !gathering.take(&old, Some(row), after) {
                    return false;
                }
                if !is_gone {
                    return true;
                }
            }
        })?;
        if let Some(error) = gathering.failed {
            return Err(error);
        }
        while !gathering.more
            && let Some((key, row)) = first.take()
        {
            gathering.take(&key, Some(row), None);
            first = next_old()?;
        }
        Ok(Part {
            changes: gathering.changes,
            reached: gathering.reached.filter(|_| gathering.more),
        })
    }
}

/// A row of one table with the columns of another; what it doesn't have, or has of another type, is null.
fn converted(from: &Table, to: &Table, row: &Row) -> Result<Row, row::RowError> {
    if from.columns == to.columns {
        return Ok(row.clone());
    }
    let mut builder = RowBuilder::default();
    for (place, column) in to.columns.iter().enumerate() {
        if let Some((id, had)) = from.column(&column.name)
            && had.ty == column.ty
        {
            builder.set(place as u16, row::value(row, id)?);
        }
    }
    let mut out = Vec::new();
    builder.finish(&mut out);
    Ok(out.into())
}
