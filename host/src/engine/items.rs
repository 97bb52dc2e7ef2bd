//! The items of a call: which changes a plugin gets, and their batch.

use rulemill_wire::{
    batch::{BatchWriter, ItemHeader, Kind},
    codec,
};

use crate::{
    catalog::Catalog,
    change::{Change, Key, Op, Seq},
    row::RowError,
};

use super::link::LinkedTable;

/// One thing that a plugin is told.
#[derive(Debug, Clone)]
pub(super) struct Item<'a> {
    /// Its place in the order of all.
    pub(super) seq: Seq,
    /// Its commit time.
    pub(super) time: i64,
    /// The rules that get it, as bits.
    pub(super) rules: u64,
    pub(super) body: Body<'a>,
}

/// What it is told.
#[derive(Debug, Clone)]
pub(super) enum Body<'a> {
    /// A row changed.
    Change {
        change: &'a Change,
        /// The manifest's table.
        table: u16,
        /// The row was there before the rule was.
        read: bool,
    },
    /// A timer is due.
    Timer { rule: u16, key: String, due: i64 },
    /// Time has moved on.
    Tick,
}

impl Item<'_> {
    /// The changed row's key; all items of one rule are of one table.
    pub(super) fn key(&self) -> Option<Key> {
        match &self.body {
            Body::Change { change, .. } => Some(change.key.clone()),
            _ => None,
        }
    }
}

/// A batch's bytes, with what had to be left out.
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// For each item of the batch its place among the items it was made from.
    pub(super) places: Vec<u32>,
    /// Items whose rows don't fit what the plugin declared.
    pub(super) unfit: Vec<(usize, RowError)>,
}

/// Writes the batch of these items.
pub(super) fn write_batch(
    items: &[Item<'_>],
    watermark: i64,
    tables: &[LinkedTable],
    catalog: &Catalog,
) -> Batch {
    let base = items.first().map_or(0, |item| item.seq.0);
    let mut writer = BatchWriter::new(base, watermark, items.len() * 48);
    let mut places = Vec::with_capacity(items.len());
    let mut unfit = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let mark = writer.mark();
        match write_item(item, &mut writer, tables, catalog) {
            Ok(()) => places.push(place as u32),
            Err(error) => {
                writer.reset(mark);
                unfit.push((place, error));
            }
        }
    }
    Batch {
        bytes: writer.finish(),
        places,
        unfit,
    }
}

fn write_item(
    item: &Item<'_>,
    writer: &mut BatchWriter,
    tables: &[LinkedTable],
    catalog: &Catalog,
) -> Result<(), RowError> {
    let header = |kind| ItemHeader {
        seq: item.seq.0,
        time: item.time,
        rules: item.rules,
        kind,
    };
    match &item.body {
        Body::Tick => {
            writer.item(header(Kind::Tick));
        }
        Body::Timer { key, due, .. } => {
            let out = writer.item(header(Kind::Timer));
            codec::write_bytes(key.as_bytes(), out);
            codec::write_i64(*due, out);
        }
        Body::Change {
            change,
            table,
            read,
        } => {
            let linked = &tables[usize::from(*table)];
            let table = catalog.table(linked.id);
            // Where there is no mirror the source may not have told the row before.
            let kind = match (change.op, &change.before, &change.after) {
                (_, None, Some(_)) if *read => Kind::Read,
                (_, None, Some(_)) => Kind::Insert,
                (Op::Update | Op::Insert, Some(_), Some(_)) => Kind::Update,
                (_, Some(_), _) => Kind::Delete,
                (_, None, None) => Kind::Tick,
            };
            let out = writer.item(header(kind));
            if matches!(kind, Kind::Update | Kind::Delete)
                && let Some(row) = &change.before
            {
                linked.projection.to_wire(table, row, out)?;
            }
            if matches!(kind, Kind::Update | Kind::Insert | Kind::Read)
                && let Some(row) = &change.after
            {
                linked.projection.to_wire(table, row, out)?;
            }
        }
    }
    Ok(())
}
