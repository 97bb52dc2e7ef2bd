//! From what sources say to what happened: numbering, and holding changes against the mirror.
//!
//! The mirror is what rules have seen, so it decides: an insert of a row that is there is an
//! update, a delete of a row that isn't is nothing, and the row before is the mirror's whatever
//! the source sent. A change of key is a delete and an insert. So a source that repeats itself can't make
//! an aggregate count twice.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    catalog::{Catalog, Table, TableId},
    change::{BadInput, Change, Key, Op, RawChange, RawOp, Seq, SourceBatch},
    render,
    row::Row,
};

use super::{Engine, Fatal, view::View};

/// The greatest key of each table, so that a row with a greater one is known to be new without a look at
/// the store: sources mostly number their rows upwards.
#[derive(Debug, Default)]
pub(super) struct GreatestKeys {
    by_table: Vec<Option<Key>>,
}

impl GreatestKeys {
    /// Whether a key is greater than every key that the table has had since the start; if so it is now
    /// the greatest.
    fn exceeds(&mut self, view: &View, table: &Table, key: &Key) -> Result<bool, Fatal> {
        let place = table.id.0 as usize;
        if place >= self.by_table.len() {
            self.by_table.resize(place + 1, None);
        }
        if self.by_table[place].is_none() {
            let mut greatest = Key::new();
            view.scan(table, &[], None, true, Seq(u64::MAX), |key, _| {
                greatest = key.clone();
                false
            })?;
            self.by_table[place] = Some(greatest);
        }
        let greatest = self.by_table[place].get_or_insert_default();
        if key > greatest {
            *greatest = key.clone();
            return Ok(true);
        }
        Ok(false)
    }
}

impl Engine {
    /// Takes from a batch what was decoded while a table was still a source's that now belongs to a plugin.
    pub(super) fn refuse_claimed(&self, catalog: &Catalog, batch: &mut SourceBatch) {
        let is_refused = |change: &mut RawChange| self.claimed.contains(&change.table);
        for change in batch.changes.extract_if(.., is_refused) {
            let table = catalog.table(change.table);
            let name = table.plain_name();
            let reason = format!(
                "table {name} belongs to the rules of a plugin that was loaded while this was read: no source can write it"
            );
            tracing::warn!(source = &*batch.source, reason, "a change can't be taken");
            let (text, cut) = said(table, name, &change, self.limits.bad_input_bytes_max);
            batch.bad.push(BadInput {
                origin: batch.source.to_string(),
                line: 0,
                offset_bytes: 0,
                reason,
                text,
                cut,
            });
        }
    }

    /// Numbers the changes, holds them against the mirror, and makes them the view's current batch.
    pub(super) fn ingest(
        &mut self,
        catalog: &Arc<Catalog>,
        raw: Vec<RawChange>,
    ) -> Result<(), Fatal> {
        let mut ingest = Ingest {
            catalog,
            greatest: std::mem::take(&mut self.greatest_keys),
            next_seq: self.last_seq.next(),
            lacking: BTreeSet::new(),
            now: None,
        };
        let clock = self.clock.clone();
        let base = self.last_seq;
        let view = self.view_mut();
        view.begin_batch(base, raw.len());
        for change in raw {
            ingest.take(view, change, &clock)?;
        }
        self.last_seq = Seq(ingest.next_seq.0 - 1);
        self.greatest_keys = ingest.greatest;
        self.lacking = ingest.lacking;
        Ok(())
    }
}

struct Ingest<'a> {
    catalog: &'a Catalog,
    greatest: GreatestKeys,
    next_seq: Seq,
    /// Changes whose row leaves out a column that somebody has named.
    lacking: BTreeSet<Seq>,
    /// The clock's time for changes of this batch that bring none.
    now: Option<i64>,
}

impl Ingest<'_> {
    fn take(
        &mut self,
        view: &mut View,
        raw: RawChange,
        clock: &Arc<dyn Fn() -> i64 + Send + Sync>,
    ) -> Result<(), Fatal> {
        let table = self.catalog.table(raw.table).clone();
        let time = raw
            .time
            .unwrap_or_else(|| *self.now.get_or_insert_with(|| clock()));
        if !table.mirror {
            let op = match raw.op {
                RawOp::Truncate => return Ok(()),
                RawOp::Delete => Op::Delete,
                RawOp::Update => Op::Update,
                RawOp::Upsert if raw.before.is_some() => Op::Update,
                RawOp::Insert | RawOp::Read | RawOp::Upsert => Op::Insert,
            };
            let change = self.change(raw.table, op, raw.key, raw.before, raw.after, time);
            if raw.lacks {
                self.lacking.insert(change.seq);
            }
            view.push_unmirrored(change);
            return Ok(());
        }
        match raw.op {
            RawOp::Truncate => {
                let mut rows = Vec::new();
                view.scan(&table, &[], None, false, Seq(u64::MAX), |key, row| {
                    rows.push((key.clone(), row.clone()));
                    true
                })?;
                for (key, row) in rows {
                    let change = self.change(table.id, Op::Delete, key, Some(row), None, time);
                    view.push(&table, change);
                }
            }
            RawOp::Delete => {
                if let Some(before) = view.row(&table, &raw.key)? {
                    let change =
                        self.change(table.id, Op::Delete, raw.key, Some(before), None, time);
                    view.push(&table, change);
                }
            }
            RawOp::Insert | RawOp::Update | RawOp::Upsert | RawOp::Read => {
                if let Some(old_key) = raw.old_key.filter(|old| *old != raw.key)
                    && let Some(before) = view.row(&table, &old_key)?
                {
                    let change =
                        self.change(table.id, Op::Delete, old_key, Some(before), None, time);
                    view.push(&table, change);
                }
                let before = if self.greatest.exceeds(view, &table, &raw.key)? {
                    None
                } else {
                    view.row(&table, &raw.key)?
                };
                let op = if before.is_some() {
                    Op::Update
                } else {
                    Op::Insert
                };
                let change = self.change(table.id, op, raw.key, before, raw.after, time);
                if raw.lacks {
                    self.lacking.insert(change.seq);
                }
                view.push(&table, change);
            }
        }
        Ok(())
    }

    fn change(
        &mut self,
        table: TableId,
        op: Op,
        key: Key,
        before: Option<Row>,
        after: Option<Row>,
        time: i64,
    ) -> Change {
        let seq = self.next_seq;
        self.next_seq = seq.next();
        Change {
            seq,
            cause: seq,
            table,
            op,
            key,
            before,
            after,
            time,
        }
    }
}

/// A change in the form in which it could have come, as much of it as is kept.
fn said(table: &Table, name: &str, change: &RawChange, bytes_max: usize) -> (String, bool) {
    let op = match change.op {
        RawOp::Insert | RawOp::Read => "insert",
        RawOp::Update => "update",
        RawOp::Upsert => "upsert",
        RawOp::Delete => "delete",
        RawOp::Truncate => "truncate",
    };
    let mut said = serde_json::json!({ "table": name, "op": op });
    // What can't be shown is left out: the reason says what is wrong.
    if let Ok(key) = render::key_to_json(table, &change.key) {
        said["key"] = key;
    }
    for (side, row) in [("before", &change.before), ("after", &change.after)] {
        if let Some(Ok(row)) = row.as_ref().map(|row| render::row_to_json(table, row)) {
            said[side] = row;
        }
    }
    let mut text = said.to_string();
    let cut = text.len() > bytes_max;
    if cut {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
    (text, cut)
}
