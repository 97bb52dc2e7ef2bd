//! The core of an owned table: rows in slots, found by key, with the batch's own writes on top of
//! what the host has.
//!
//! A slot is read from the host once and then kept, over batches too: nobody else writes the table,
//! and the host throws the instance away whenever it didn't take its effects. Each call of a rule
//! can be undone: the first touch of a slot in a call puts a copy of its row into the journal.
//! Nothing here knows of rules or of WebAssembly.

use std::{hash::BuildHasher, sync::Arc};

use hashbrown::{HashTable, hash_table::Entry};
use rulemill_wire::{Reader, effects::EffectsWriter};
use rustc_hash::FxBuildHasher;

use crate::{
    error::{RuleError, StateError},
    overlay::Overlay,
    runtime::Call,
    schema::Schema,
    state::StateReader,
};

pub(crate) struct Slot<S: Schema> {
    pub(crate) key: S::Key,
    pub(crate) row: Option<S::Row>,
    /// The call that last touched the row; 0 for none in this batch.
    call: u32,
    /// The item whose handling last touched it.
    item: u32,
    /// Whether `row` says what the table holds; if not, the host has to be asked.
    known: bool,
    /// Whether the host may have a row, so that its removal must be told.
    stored: bool,
    /// Whether the row differs from the host's.
    pub(crate) dirty: bool,
    /// Whether the slot stands in `listed`.
    listed: bool,
}

/// Slots that a table which is used gets room for at once.
const SLOTS_MIN: usize = 64;

/// A slot as it was before a call touched it.
struct Undo<S: Schema> {
    slot: u32,
    row: Option<S::Row>,
    item: u32,
    known: bool,
    dirty: bool,
}

pub(crate) struct Store<S: Schema> {
    pub(crate) schema: S,
    /// The table's number in the manifest.
    pub(crate) table: u32,
    pub(crate) slots: Vec<Slot<S>>,
    places: HashTable<u32>,
    /// Slots touched in this batch, each once.
    listed: Vec<u32>,
    journal: Vec<Undo<S>>,
    /// The orders in which the batch's writes were scanned; see [`Overlay`].
    pub(crate) overlays: Vec<Overlay>,
    /// Slots touched since there are overlays; may name one several times.
    touched: Vec<u32>,
    pub(crate) state: Option<Arc<dyn StateReader>>,
    pub(crate) call: Call,
    buffer: Vec<u8>,
    /// Bytes of the rows read from the host, in wire form: a measure of what texts hold.
    row_bytes: usize,
}

#[inline]
fn hash<K: std::hash::Hash>(key: &K) -> u64 {
    FxBuildHasher.hash_one(key)
}

impl<S: Schema> Store<S> {
    pub(crate) fn new(schema: S, table: u32) -> Self {
        Self {
            schema,
            table,
            slots: Vec::new(),
            places: HashTable::new(),
            listed: Vec::new(),
            journal: Vec::new(),
            overlays: Vec::new(),
            touched: Vec::new(),
            state: None,
            call: Call::default(),
            buffer: Vec::new(),
            row_bytes: 0,
        }
    }

    /// The slot of this key; a new one, of which nothing is known, if there is none.
    #[inline]
    fn slot(&mut self, key: S::Key) -> usize {
        if self.slots.capacity() == 0 {
            self.reserve();
        }
        let slots = &mut self.slots;
        let entry = self.places.entry(
            hash(&key),
            |&place| slots[place as usize].key == key,
            |&place| hash(&slots[place as usize].key),
        );
        match entry {
            Entry::Occupied(entry) => *entry.get() as usize,
            Entry::Vacant(entry) => {
                let place = slots.len();
                entry.insert(place as u32);
                slots.push(Slot {
                    key,
                    row: None,
                    call: 0,
                    item: 0,
                    known: false,
                    stored: true,
                    dirty: false,
                    listed: false,
                });
                place
            }
        }
    }

    /// Makes room for a few rows: growing from nothing takes longer than they are worth.
    #[cold]
    fn reserve(&mut self) {
        self.slots.reserve(SLOTS_MIN);
        // There is nothing yet that would have to be hashed again.
        self.places.reserve(SLOTS_MIN, |_| 0);
    }

    /// The slot of this key, if there is one.
    pub(crate) fn existing(&self, key: &S::Key) -> Option<&Slot<S>> {
        let place = self
            .places
            .find(hash(key), |&place| self.slots[place as usize].key == *key)?;
        Some(&self.slots[*place as usize])
    }

    /// The slot of this key, with what the host has.
    #[inline]
    fn loaded(&mut self, key: S::Key) -> Result<usize, StateError> {
        let place = self.slot(key);
        if !self.slots[place].known {
            self.load(place)?;
        }
        Ok(place)
    }

    #[cold]
    fn load(&mut self, place: usize) -> Result<(), StateError> {
        let slot = &mut self.slots[place];
        if let Some(state) = &self.state {
            self.buffer.clear();
            self.schema.write_key_form(&slot.key, &mut self.buffer);
            let found = state.get(self.table, &self.buffer, self.call.seq);
            if let Some(bytes) = found.row {
                let row = self
                    .schema
                    .read(&mut Reader::new(&bytes))
                    .map_err(|error| StateError::new(self.schema.table(), error))?;
                self.row_bytes += bytes.len();
                slot.row = Some(row);
            }
        }
        slot.known = true;
        slot.stored = slot.row.is_some();
        Ok(())
    }

    /// Keeps the slot as it is for an undo and marks it as written.
    #[inline]
    fn touch(&mut self, place: usize) {
        let slot = &mut self.slots[place];
        if slot.call != self.call.number {
            self.journal.push(Undo {
                slot: place as u32,
                row: slot.row.as_ref().map(|row| self.schema.duplicate(row)),
                item: slot.item,
                known: slot.known,
                dirty: slot.dirty,
            });
            slot.call = self.call.number;
            slot.item = self.call.item;
            slot.dirty = true;
            if !slot.listed {
                slot.listed = true;
                self.listed.push(place as u32);
            }
        }
        if !self.overlays.is_empty() {
            self.touched.push(place as u32);
        }
    }

    /// The row with this key, to be changed in place; `make` makes it where there is none.
    #[inline]
    pub(crate) fn entry(
        &mut self,
        key: S::Key,
        make: impl FnOnce(&S, &S::Key) -> S::Row,
    ) -> Result<&mut S::Row, StateError> {
        let place = self.loaded(key)?;
        self.touch(place);
        let slot = &mut self.slots[place];
        let schema = &self.schema;
        let key = &slot.key;
        Ok(slot.row.get_or_insert_with(|| make(schema, key)))
    }

    /// The row with this key, to be changed in place if there is one.
    pub(crate) fn get_mut(&mut self, key: S::Key) -> Result<Option<&mut S::Row>, StateError> {
        let place = self.loaded(key)?;
        if self.slots[place].row.is_some() {
            self.touch(place);
        }
        Ok(self.slots[place].row.as_mut())
    }

    #[inline]
    pub(crate) fn get(&mut self, key: S::Key) -> Result<Option<&S::Row>, StateError> {
        let place = self.loaded(key)?;
        Ok(self.slots[place].row.as_ref())
    }

    /// Writes a row, whatever was there.
    pub(crate) fn insert(&mut self, row: S::Row) {
        let place = self.slot(self.schema.key(&row));
        self.touch(place);
        let slot = &mut self.slots[place];
        slot.row = Some(row);
        slot.known = true;
    }

    pub(crate) fn remove(&mut self, key: S::Key) -> Result<Option<S::Row>, StateError> {
        let place = self.loaded(key)?;
        if self.slots[place].row.is_none() {
            return Ok(None);
        }
        self.touch(place);
        Ok(self.slots[place].row.take())
    }

    /// The overlay of an index (or of the key), up to date with every write so far.
    pub(crate) fn overlay(&mut self, index: Option<u32>) -> &Overlay {
        let known = self
            .overlays
            .iter()
            .position(|overlay| overlay.index == index);
        let place = known.unwrap_or_else(|| {
            self.overlays.push(Overlay::new(index, self.touched.len()));
            self.overlays.len() - 1
        });
        let overlay = &mut self.overlays[place];
        if known.is_none() {
            overlay.update(&self.schema, &self.slots, &self.listed);
        } else {
            let touched = &self.touched[overlay.synced..];
            overlay.update(&self.schema, &self.slots, touched);
            overlay.synced = self.touched.len();
        }
        overlay
    }

    /// Begins a call of a rule: what was touched before it can't be undone any more.
    #[inline]
    pub(crate) fn begin(&mut self, call: &Call) {
        self.call = *call;
        self.journal.clear();
    }

    /// Whether the call left every row under its key.
    pub(crate) fn check(&self) -> Result<(), RuleError> {
        for undo in &self.journal {
            let slot = &self.slots[undo.slot as usize];
            if let Some(row) = &slot.row
                && !self.schema.has_key(row, &slot.key)
            {
                return Err(format!(
                    "a row of table {} was fetched with key {:?} and its key columns were changed to {:?}; \
                     remove the row and insert it under its new key",
                    self.schema.table(),
                    slot.key,
                    self.schema.key(row)
                )
                .into());
            }
        }
        Ok(())
    }

    /// Takes back what the call did.
    #[cold]
    pub(crate) fn undo(&mut self) {
        for undo in self.journal.drain(..).rev() {
            let slot = &mut self.slots[undo.slot as usize];
            slot.row = undo.row;
            slot.item = undo.item;
            slot.known = undo.known;
            slot.dirty = undo.dirty;
            if !self.overlays.is_empty() {
                self.touched.push(undo.slot);
            }
        }
    }

    /// Appends the writes of the call that ended.
    pub(crate) fn save(&mut self, effects: &mut EffectsWriter) {
        let table = self.table as u16;
        for undo in &self.journal {
            let slot = &self.slots[undo.slot as usize];
            match &slot.row {
                _ if !slot.dirty => {}
                Some(row) => self.schema.write(row, effects.put(table, slot.item)),
                // An earlier call of the batch may have written it.
                None => self
                    .schema
                    .write_key_wire(&slot.key, effects.delete(table, slot.item)),
            }
        }
    }

    /// Appends the batch's writes to the effects; from now on the host has them.
    pub(crate) fn flush(&mut self, effects: &mut EffectsWriter) {
        let table = self.table as u16;
        for &place in &self.listed {
            let slot = &mut self.slots[place as usize];
            slot.listed = false;
            slot.call = 0;
            if !std::mem::take(&mut slot.dirty) {
                continue;
            }
            match &slot.row {
                Some(row) => {
                    let out = effects.put(table, slot.item);
                    let start = out.len();
                    self.schema.write(row, out);
                    if !slot.stored {
                        self.row_bytes += out.len() - start;
                    }
                }
                None if slot.stored => self
                    .schema
                    .write_key_wire(&slot.key, effects.delete(table, slot.item)),
                None => {}
            }
            slot.stored = slot.row.is_some();
        }
        self.listed.clear();
        self.touched.clear();
        self.overlays.clear();
        self.journal.clear();
        self.state = None;
    }

    /// About how much memory the rows take.
    pub(crate) fn cache_bytes(&self) -> usize {
        self.slots.capacity() * (size_of::<Slot<S>>() + 8) + self.row_bytes
    }

    /// Forgets every row; only between batches, when the host has them.
    pub(crate) fn drop_cache(&mut self) {
        self.slots = Vec::new();
        self.places = HashTable::new();
        self.row_bytes = 0;
    }
}
