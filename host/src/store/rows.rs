//! Writing rows and their index entries: merged by key, in key order.
//!
//! redb's cost is the descent to each key's page and the copy of each page touched, so every key is written once a
//! commit and neighbours follow each other. Keys behind the table's last one (new orders, a first fill) go through
//! a cursor, which packs whole pages.

use std::{collections::BTreeMap, ops::Bound};

use redb::{ReadableTable, WriteTransaction};
use rulemill_wire::{ValueRef, codec, key};

use crate::{
    catalog::{Catalog, Table, TableId},
    change::{Change, Seq},
    row,
};

use super::{Error, RowWrite, WriteSet, commit::BytesTable, tables};

/// Fewer keys than this behind the last one aren't worth a cursor.
const APPEND_MIN: usize = 16;

/// A row's write: what a rule wrote, or what became of a source's row.
#[derive(Clone, Copy)]
enum Write<'a> {
    Row(&'a RowWrite),
    /// A change of a table with a mirror: its row after is the mirror's.
    Mirrored(&'a Change),
}

impl<'a> Write<'a> {
    fn key(self) -> &'a [u8] {
        match self {
            Self::Row(write) => &write.key,
            Self::Mirrored(change) => &change.key,
        }
    }

    /// The row before, where indexes need it.
    fn before(self) -> Option<&'a [u8]> {
        match self {
            Self::Row(write) => write.before.as_deref(),
            Self::Mirrored(change) => change.before.as_deref(),
        }
    }

    fn after(self) -> Option<&'a [u8]> {
        match self {
            Self::Row(write) => write.after.as_deref(),
            Self::Mirrored(change) => change.after.as_deref(),
        }
    }

    /// The change and the plugin version that wrote it.
    fn writer(self) -> (Seq, u32) {
        match self {
            Self::Row(write) => (write.seq, write.version),
            Self::Mirrored(change) => (change.seq, 0),
        }
    }
}

/// A write with eight bytes of its key to sort by, those behind what all keys have in common.
struct Place<'a> {
    prefix: u64,
    write: Write<'a>,
}

/// Writes the group's rows; gives how many, after merging.
pub(super) fn write_rows(
    transaction: &WriteTransaction,
    group: &[WriteSet],
    catalog: &Catalog,
) -> Result<u64, Error> {
    let mut by_table: BTreeMap<(TableId, u32), Vec<Write<'_>>> = BTreeMap::new();
    for set in group {
        for writes in &set.tables {
            by_table
                .entry((writes.table, writes.generation))
                .or_default()
                .extend(writes.rows.iter().map(Write::Row));
        }
        // Changes of one table mostly follow each other.
        for changes in set.log.chunk_by(|a, b| a.table == b.table) {
            let table = catalog.table(changes[0].table);
            if table.mirror && !table.is_derived() {
                by_table
                    .entry((table.id, table.generation))
                    .or_default()
                    .extend(changes.iter().map(Write::Mirrored));
            }
        }
    }
    let mut rows = 0;
    for ((id, generation), writes) in by_table {
        let table = catalog.table(id);
        let places = sorted(&writes);
        drop(writes);
        let mut last_writes = Vec::with_capacity(places.len());
        let mut indexes: Vec<IndexWrites<'_>> = Vec::new();
        indexes.resize_with(table.indexes.len(), IndexWrites::default);
        for same_key in
            places.chunk_by(|a, b| a.prefix == b.prefix && a.write.key() == b.write.key())
        {
            let (first, last) = (same_key[0].write, same_key[same_key.len() - 1].write);
            last_writes.push(last);
            for (index, writes) in indexes.iter_mut().enumerate() {
                writes.add(table, index, first.before(), last)?;
            }
        }
        rows += last_writes.len() as u64;
        let name = tables::rows_name(id, generation);
        let mut to = transaction.open_table(tables::Bytes::new(&name))?;
        put_sorted(
            &mut to,
            &last_writes,
            |write| write.key(),
            |write, value| {
                let Some(row) = write.after() else {
                    return false;
                };
                let (seq, version) = write.writer();
                codec::write_u64(seq.0, value);
                codec::write_u64(version.into(), value);
                value.extend_from_slice(row);
                true
            },
        )?;
        for (index, writes) in indexes.iter_mut().enumerate() {
            if !writes.entries.is_empty() {
                let name = tables::index_name(id, generation, index);
                writes.apply(&mut transaction.open_table(tables::Bytes::new(&name))?)?;
            }
        }
    }
    Ok(rows)
}

/// These writes by key; those of one key in the order in which they came.
fn sorted<'a>(writes: &[Write<'a>]) -> Vec<Place<'a>> {
    let mut common: Option<&[u8]> = None;
    for write in writes {
        let key = write.key();
        common = Some(match common {
            None => key,
            Some(common) => {
                let same = common.iter().zip(key);
                &common[..same.take_while(|(a, b)| a == b).count()]
            }
        });
    }
    let skip = common.map_or(0, <[u8]>::len);
    let mut places: Vec<Place<'_>> = Vec::with_capacity(writes.len());
    places.extend(writes.iter().map(|&write| Place {
        prefix: prefix(&write.key()[skip..]),
        write,
    }));
    places.sort_by(|a, b| {
        a.prefix
            .cmp(&b.prefix)
            .then_with(|| a.write.key().cmp(b.write.key()))
    });
    places
}

fn prefix(key: &[u8]) -> u64 {
    match key.first_chunk() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(bytes)
        }
    }
}

/// Inserts or removes keys that come in order, each once. `value_of` appends the value, or says by
/// `false` that the key goes.
fn put_sorted<W>(
    to: &mut BytesTable<'_>,
    writes: &[W],
    key_of: impl Fn(&W) -> &[u8],
    value_of: impl Fn(&W, &mut Vec<u8>) -> bool,
) -> Result<(), Error> {
    let behind = match to.last()? {
        None => 0,
        Some((last, _)) => writes.partition_point(|write| key_of(write) <= last.value()),
    };
    let behind = if writes.len() - behind < APPEND_MIN {
        writes.len()
    } else {
        behind
    };
    let mut value = Vec::new();
    for write in &writes[..behind] {
        value.clear();
        if value_of(write, &mut value) {
            to.insert(key_of(write), &value[..])?;
        } else {
            to.remove(key_of(write))?;
        }
    }
    if behind == writes.len() {
        return Ok(());
    }
    let mut end = to.upper_bound_mut(Bound::<&[u8]>::Unbounded)?;
    for write in &writes[behind..] {
        value.clear();
        if value_of(write, &mut value) {
            end.insert_before(key_of(write), &value[..])?;
        }
    }
    Ok(end.close()?)
}

/// Appends a row's entry in an index: the indexed columns, then the row's key.
pub(super) fn write_index_entry(
    table: &Table,
    index: usize,
    row: &[u8],
    row_key: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    for &column in &table.indexes[index].columns {
        let value: ValueRef<'_> = row::value(row, column)?;
        let nullable = table.columns[usize::from(column)].nullable;
        key::write_index_column(value, nullable, out);
    }
    out.extend_from_slice(row_key);
    Ok(())
}

/// What changes in one index. Entries lie in one buffer, one after the other.
#[derive(Default)]
struct IndexWrites<'a> {
    bytes: Vec<u8>,
    /// Where an entry lies, and the row's key if the entry is new.
    entries: Vec<(std::ops::Range<usize>, Option<&'a [u8]>)>,
}

impl<'a> IndexWrites<'a> {
    fn add(
        &mut self,
        table: &Table,
        index: usize,
        before: Option<&[u8]>,
        last: Write<'a>,
    ) -> Result<(), Error> {
        let start = self.bytes.len();
        if let Some(before) = before {
            self.push_entry(table, index, before, last.key())?;
        }
        let middle = self.bytes.len();
        if let Some(after) = last.after() {
            self.push_entry(table, index, after, last.key())?;
        }
        let end = self.bytes.len();
        if self.bytes[start..middle] == self.bytes[middle..end] {
            self.bytes.truncate(start);
            return Ok(());
        }
        if start < middle {
            self.entries.push((start..middle, None));
        }
        if middle < end {
            self.entries.push((middle..end, Some(last.key())));
        }
        Ok(())
    }

    /// Appends a row's entry: the indexed columns, then the row's key.
    fn push_entry(
        &mut self,
        table: &Table,
        index: usize,
        row: &[u8],
        row_key: &[u8],
    ) -> Result<(), Error> {
        write_index_entry(table, index, row, row_key, &mut self.bytes)
    }

    fn apply(&mut self, to: &mut BytesTable<'_>) -> Result<(), Error> {
        let bytes = &self.bytes;
        // An entry holds its row's key, so none comes twice.
        self.entries
            .sort_unstable_by(|a, b| bytes[a.0.clone()].cmp(&bytes[b.0.clone()]));
        put_sorted(
            to,
            &self.entries,
            |(place, _)| &bytes[place.clone()],
            |(_, row_key), value| match row_key {
                Some(row_key) => {
                    value.extend_from_slice(row_key);
                    true
                }
                None => false,
            },
        )
    }
}
