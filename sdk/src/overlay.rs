//! The rows that a batch wrote, in the order of the table's key or of one of its indexes, so that a
//! scan can merge them with the host's pages.
//!
//! Made when a batch first scans in that order, kept up to date from the list of touched slots, and
//! dropped at the batch's end.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::{schema::Schema, store::Slot};

pub(crate) struct Overlay {
    /// The index, or `None` for the key.
    pub(crate) index: Option<u32>,
    /// How much of the store's list of touched slots has been taken in.
    pub(crate) synced: usize,
    /// Entry (index columns, then key, in key form) to slot, for rows that exist.
    pub(crate) entries: BTreeMap<Vec<u8>, u32>,
    /// Slot to its entry.
    current: FxHashMap<u32, Vec<u8>>,
}

/// A row's entry in an index or in the key's order.
pub(crate) fn entry<S: Schema>(
    schema: &S,
    index: Option<u32>,
    key: &S::Key,
    row: &S::Row,
    out: &mut Vec<u8>,
) {
    if let Some(index) = index {
        schema.write_index(index as usize, row, out);
    }
    schema.write_key_form(key, out);
}

impl Overlay {
    pub(crate) fn new(index: Option<u32>, synced: usize) -> Self {
        Self {
            index,
            synced,
            entries: BTreeMap::new(),
            current: FxHashMap::default(),
        }
    }

    /// Takes in the present state of these slots.
    pub(crate) fn update<S: Schema>(&mut self, schema: &S, slots: &[Slot<S>], touched: &[u32]) {
        for &place in touched {
            if let Some(old) = self.current.remove(&place) {
                self.entries.remove(&old);
            }
            let slot = &slots[place as usize];
            // A slot that was undone holds what the host holds again.
            if let (true, Some(row)) = (slot.dirty, &slot.row) {
                let mut bytes = Vec::new();
                entry(schema, self.index, &slot.key, row, &mut bytes);
                self.entries.insert(bytes.clone(), place);
                self.current.insert(place, bytes);
            }
        }
    }
}
