//! Rows that are decided but not yet on disk.
//!
//! An overlay maps keys to what their rows have become; a key that is here hides the same key in
//! whatever lies below. Point reads hash; the order that scans need is built at a table's first scan
//! and kept from then on, so that tables which nobody scans never pay for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::OnceLock,
};

use hashbrown::HashMap;
use rulemill_wire::key;

use crate::{
    catalog::{Table, TableId},
    change::Key,
    row::{self, Row},
};

/// No earlier change of this key in the batch.
pub(super) const NONE: u32 = u32::MAX;

/// What a row has become.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The row; `None` if it is gone.
    pub(super) row: Option<Row>,
    /// The batch that decided it.
    pub(super) batch: u64,
    /// The last change of this key in that batch, by place; [`NONE`] for a derived row.
    pub(super) last: u32,
}

/// Decided rows of all tables.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    tables: Vec<TableOverlay>,
}

#[derive(Debug, Default)]
struct TableOverlay {
    rows: HashMap<Key, Entry, foldhash::fast::FixedState>,
    /// The keys in order, once a scan has asked for it.
    sorted: OnceLock<BTreeSet<Key>>,
    /// For each index its entries in order, with the row's key, once a scan has asked for it.
    indexes: Vec<OnceLock<BTreeMap<Vec<u8>, Key>>>,
}

impl Overlay {
    /// What has become of a row; `None` if nothing was decided here.
    #[inline]
    pub(super) fn get(&self, table: TableId, key: &[u8]) -> Option<&Entry> {
        self.tables.get(table.0 as usize)?.rows.get(key)
    }

    /// Whether nothing was decided for this table here.
    pub(super) fn is_untouched(&self, table: TableId) -> bool {
        self.tables
            .get(table.0 as usize)
            .is_none_or(|overlay| overlay.rows.is_empty())
    }

    /// Decides a row and gives the entry that stood for it, if one did.
    pub(super) fn put(&mut self, table: &Table, key: Key, entry: Entry) -> Option<Entry> {
        let place = table.id.0 as usize;
        if place >= self.tables.len() {
            self.tables.resize_with(place + 1, TableOverlay::default);
        }
        let overlay = &mut self.tables[place];
        if let Some(sorted) = overlay.sorted.get_mut() {
            sorted.insert(key.clone());
        }
        if overlay.indexes.len() < table.indexes.len() {
            overlay
                .indexes
                .resize_with(table.indexes.len(), OnceLock::new);
        }
        for (number, index) in overlay.indexes.iter_mut().enumerate() {
            let Some(entries) = index.get_mut() else {
                continue;
            };
            if let Some(row) = overlay.rows.get(&key).and_then(|old| old.row.as_ref()) {
                entries.remove(&index_entry(table, number, row, &key));
            }
            if let Some(row) = &entry.row {
                entries.insert(index_entry(table, number, row, &key), key.clone());
            }
        }
        overlay.rows.insert(key, entry)
    }

    /// The decided keys of a range, in order.
    pub(super) fn keys(&self, table: TableId, from: &[u8], to: Option<&[u8]>) -> KeyRange<'_> {
        let Some(overlay) = self.tables.get(table.0 as usize) else {
            return KeyRange::default();
        };
        let sorted = overlay
            .sorted
            .get_or_init(|| overlay.rows.keys().cloned().collect());
        KeyRange(valid(from, to).map(|bounds| sorted.range::<[u8], _>(bounds)))
    }

    /// The entries of an index in a range, with their rows' keys, in order.
    pub(super) fn index_entries(
        &self,
        table: &Table,
        number: usize,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Option<std::collections::btree_map::Range<'_, Vec<u8>, Key>> {
        let overlay = self.tables.get(table.id.0 as usize)?;
        let entries = overlay.indexes.get(number)?.get_or_init(|| {
            overlay
                .rows
                .iter()
                .filter_map(|(key, entry)| {
                    let row = entry.row.as_ref()?;
                    Some((index_entry(table, number, row, key), key.clone()))
                })
                .collect()
        });
        valid(from, to).map(|bounds| entries.range::<[u8], _>(bounds))
    }
}

/// Keys in order, from both ends.
#[derive(Default)]
pub(super) struct KeyRange<'a>(Option<std::collections::btree_set::Range<'a, Key>>);

impl<'a> Iterator for KeyRange<'a> {
    type Item = &'a Key;

    fn next(&mut self) -> Option<&'a Key> {
        self.0.as_mut()?.next()
    }
}

impl DoubleEndedIterator for KeyRange<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.as_mut()?.next_back()
    }
}

/// The two ends of a range of keys.
type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The bounds of a range; `None` if it is empty (a B-tree takes no bounds that cross).
fn valid<'a>(from: &'a [u8], to: Option<&'a [u8]>) -> Option<Bounds<'a>> {
    match to {
        Some(to) if to <= from => None,
        Some(to) => Some((Bound::Included(from), Bound::Excluded(to))),
        None => Some((Bound::Included(from), Bound::Unbounded)),
    }
}

/// A row's entry in an index: the indexed columns, then the row's key.
pub(super) fn index_entry(table: &Table, number: usize, row: &[u8], key: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(32);
    for &column in &table.indexes[number].columns {
        // A row in the overlay was checked when it was made.
        let value = row::value(row, column).unwrap_or(rulemill_wire::ValueRef::Null);
        let nullable = table.columns[usize::from(column)].nullable;
        key::write_index_column(value, nullable, &mut entry);
    }
    entry.extend_from_slice(key);
    entry
}
