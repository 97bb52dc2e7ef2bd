//! The state that the engine decides from: the last commit, what is on its way to disk, and the
//! batch at hand.
//!
//! A row is looked for in the overlay of the batches not yet handed to the committer, then in that of the
//! group being committed, then in the snapshot. Source tables can be read as of any change of the
//! current batch: changes of one key are chained, newest first, each with its before image.

use std::sync::Arc;

use crate::{
    catalog::{Table, TableId},
    change::{Change, Key, Seq},
    row::Row,
    store::{self, HistoryReader, Reader},
};

use super::overlay::{Entry, NONE, Overlay};

/// The state as of now, and as of each change of the current batch.
pub(super) struct View {
    snapshot: Arc<Reader>,
    settling: Arc<Overlay>,
    young: Overlay,
    /// The current batch's number; 0 before the first.
    batch: u64,
    /// The last seq before the current batch: what is asked for as of a change up to here is the past.
    base: Seq,
    /// What leads back there, while a rule is behind.
    past: Option<Arc<HistoryReader>>,
    /// The current batch's source changes.
    changes: Arc<Vec<Change>>,
    /// For each of them the place of the change before it of the same key, or [`NONE`].
    previous: Vec<u32>,
}

impl View {
    pub(super) fn new(snapshot: Arc<Reader>) -> Self {
        Self {
            snapshot,
            settling: Arc::default(),
            young: Overlay::default(),
            batch: 0,
            base: Seq(0),
            past: None,
            changes: Arc::default(),
            previous: Vec::new(),
        }
    }

    /// The last commit.
    pub(super) fn snapshot(&self) -> &Arc<Reader> {
        &self.snapshot
    }

    /// The current batch's source changes, in seq order.
    pub(super) fn changes(&self) -> &Arc<Vec<Change>> {
        &self.changes
    }

    /// Begins a batch behind `base`: what it decides can be told from what was decided before.
    pub(super) fn begin_batch(&mut self, base: Seq, expected_changes: usize) {
        self.base = base;
        self.batch += 1;
        self.changes = Arc::new(Vec::with_capacity(expected_changes));
        self.previous.clear();
    }

    /// Ends the batch and gives its source changes, for the log.
    pub(super) fn end_batch(&mut self) -> Vec<Change> {
        self.previous.clear();
        // Entries made by this batch keep its number; with the next one they are no longer chained.
        self.batch += 1;
        let changes = std::mem::take(&mut self.changes);
        Arc::try_unwrap(changes).unwrap_or_else(|shared| Vec::clone(&shared))
    }

    /// What has been decided so far goes to the committer as one group.
    pub(super) fn hand_over(&mut self) -> Arc<Overlay> {
        self.settling = Arc::new(std::mem::take(&mut self.young));
        self.settling.clone()
    }

    /// The group is on disk and `snapshot` holds it.
    pub(super) fn settled(&mut self, snapshot: Arc<Reader>) -> Arc<Overlay> {
        self.snapshot = snapshot;
        std::mem::take(&mut self.settling)
    }

    /// What leads back to the past from now on.
    pub(super) fn set_past(&mut self, past: Option<Arc<HistoryReader>>) {
        self.past = past;
    }

    /// What leads back to where the change `at` stood, if that is another place than here.
    pub(super) fn past(&self, at: Seq) -> Option<&HistoryReader> {
        self.past.as_deref().filter(|_| at <= self.base)
    }

    /// The row as it is now.
    pub(super) fn row(&self, table: &Table, key: &[u8]) -> Result<Option<Row>, store::Error> {
        if let Some(entry) = self.entry(table.id, key) {
            return Ok(entry.row.clone());
        }
        Ok(self.snapshot.row(table, key)?.map(|stored| stored.row))
    }

    fn entry(&self, table: TableId, key: &[u8]) -> Option<&Entry> {
        self.young
            .get(table, key)
            .or_else(|| self.settling.get(table, key))
    }

    /// Whether a row of this table has been decided since the last commit.
    pub(super) fn is_touched(&self, table: TableId) -> bool {
        !(self.young.is_untouched(table) && self.settling.is_untouched(table))
    }

    /// Adds a source change to the batch and makes its outcome the row's state.
    pub(super) fn push(&mut self, table: &Table, change: Change) {
        let changes = Arc::make_mut(&mut self.changes);
        let place = changes.len() as u32;
        let old = self.young.put(
            table,
            change.key.clone(),
            Entry {
                row: change.after.clone(),
                batch: self.batch,
                last: place,
            },
        );
        let previous = match old {
            Some(old) if old.batch == self.batch => old.last,
            _ => NONE,
        };
        self.previous.push(previous);
        changes.push(change);
    }

    /// Adds a change of a table without a mirror: it leaves no state behind.
    pub(super) fn push_unmirrored(&mut self, change: Change) {
        self.previous.push(NONE);
        Arc::make_mut(&mut self.changes).push(change);
    }

    /// Decides a derived row.
    pub(super) fn put_derived(&mut self, table: &Table, key: Key, row: Option<Row>) {
        let batch = self.batch;
        self.young.put(
            table,
            key,
            Entry {
                row,
                batch,
                last: NONE,
            },
        );
    }

    /// The row of a source table as the change `at` left it, and the seq of the batch's next change
    /// of it (`u64::MAX` if there is none).
    pub(super) fn row_as_of(
        &self,
        table: &Table,
        key: &[u8],
        at: Seq,
    ) -> Result<(Option<Row>, u64), store::Error> {
        let Some(entry) = self.entry(table.id, key) else {
            let stored = self.snapshot.row(table, key)?;
            return Ok((stored.map(|stored| stored.row), u64::MAX));
        };
        Ok(self.entry_as_of(entry, at))
    }

    fn entry_as_of(&self, entry: &Entry, at: Seq) -> (Option<Row>, u64) {
        let mut until = u64::MAX;
        if entry.batch != self.batch || entry.last == NONE {
            return (entry.row.clone(), until);
        }
        let mut place = entry.last;
        loop {
            let change = &self.changes[place as usize];
            if change.seq <= at {
                return (change.after.clone(), until);
            }
            until = change.seq.0;
            match self.previous[place as usize] {
                NONE => return (change.before.clone(), until),
                earlier => place = earlier,
            }
        }
    }

    /// Calls `take` with each row of a key range as of `at`, in order, until it returns false.
    pub(super) fn scan(
        &self,
        table: &Table,
        from: &[u8],
        to: Option<&[u8]>,
        descending: bool,
        at: Seq,
        mut take: impl FnMut(&Key, &Row) -> bool,
    ) -> Result<(), store::Error> {
        let mut decided = Merged::new(
            self.young.keys(table.id, from, to),
            self.settling.keys(table.id, from, to),
            descending,
        );
        let mut decided_key = decided.next();
        let comes_first = |a: &Key, b: &Key| if descending { a > b } else { a < b };
        let as_of = |key: &Key| {
            self.entry(table.id, key)
                .and_then(|entry| self.entry_as_of(entry, at).0)
        };
        for stored in self.snapshot.rows(table, from, to, descending)? {
            let (key, stored) = stored?;
            while let Some(earlier) = decided_key.filter(|decided| comes_first(decided, &key)) {
                if let Some(row) = as_of(earlier)
                    && !take(earlier, &row)
                {
                    return Ok(());
                }
                decided_key = decided.next();
            }
            let goes_on = if decided_key == Some(&key) {
                decided_key = decided.next();
                as_of(&key).is_none_or(|row| take(&key, &row))
            } else {
                take(&key, &stored.row)
            };
            if !goes_on {
                return Ok(());
            }
        }
        while let Some(key) = decided_key {
            if let Some(row) = as_of(key)
                && !take(key, &row)
            {
                return Ok(());
            }
            decided_key = decided.next();
        }
        Ok(())
    }

    /// Calls `take` with each entry of a derived table's index range, its key and its row, in order, until it
    /// returns false.
    pub(super) fn scan_index(
        &self,
        table: &Table,
        index: usize,
        from: &[u8],
        to: Option<&[u8]>,
        descending: bool,
        mut take: impl FnMut(&[u8], &[u8], &Row) -> bool,
    ) -> Result<(), store::Error> {
        // Decided rows hide whatever lies below, at whichever index entry that stands.
        let young = self.young.index_entries(table, index, from, to);
        let settling = self.settling.index_entries(table, index, from, to);
        let hidden = |key: &Key| self.young.get(table.id, key).is_some();
        let mut decided: Vec<(&[u8], &[u8], &Row)> = Vec::new();
        for (entry, key) in young.into_iter().flatten() {
            if let Some(row) = self.young.get(table.id, key).and_then(|e| e.row.as_ref()) {
                decided.push((entry, key, row));
            }
        }
        for (entry, key) in settling
            .into_iter()
            .flatten()
            .filter(|(_, key)| !hidden(key))
        {
            if let Some(row) = self
                .settling
                .get(table.id, key)
                .and_then(|e| e.row.as_ref())
            {
                decided.push((entry, key, row));
            }
        }
        decided.sort_unstable_by(|a, b| a.0.cmp(b.0));
        if descending {
            decided.reverse();
        }
        let mut decided = decided.into_iter().peekable();
        for stored in self
            .snapshot
            .index_rows(table, index, from, to, descending)?
        {
            let (entry, key, stored) = stored?;
            while let Some((earlier, row_key, row)) = decided.next_if(|(decided, ..)| {
                if descending {
                    *decided > &entry[..]
                } else {
                    *decided < &entry[..]
                }
            }) {
                if !take(earlier, row_key, row) {
                    return Ok(());
                }
            }
            if self.entry(table.id, &key).is_none() && !take(&entry, &key, &stored.row) {
                return Ok(());
            }
        }
        for (entry, key, row) in decided {
            if !take(entry, key, row) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Two ordered runs of keys as one, each key once.
struct Merged<'a, I: Iterator<Item = &'a Key>> {
    a: std::iter::Peekable<I>,
    b: std::iter::Peekable<I>,
    descending: bool,
}

impl<'a> Merged<'a, Box<dyn Iterator<Item = &'a Key> + 'a>> {
    fn new(
        a: impl DoubleEndedIterator<Item = &'a Key> + 'a,
        b: impl DoubleEndedIterator<Item = &'a Key> + 'a,
        descending: bool,
    ) -> Self {
        Self {
            a: directed(a, descending).peekable(),
            b: directed(b, descending).peekable(),
            descending,
        }
    }
}

fn directed<'a>(
    keys: impl DoubleEndedIterator<Item = &'a Key> + 'a,
    descending: bool,
) -> Box<dyn Iterator<Item = &'a Key> + 'a> {
    if descending {
        Box::new(keys.rev())
    } else {
        Box::new(keys)
    }
}

impl<'a, I: Iterator<Item = &'a Key>> Iterator for Merged<'a, I> {
    type Item = &'a Key;

    fn next(&mut self) -> Option<&'a Key> {
        match (self.a.peek(), self.b.peek()) {
            (Some(a), Some(b)) if a == b => {
                self.b.next();
                self.a.next()
            }
            (Some(a), Some(b)) if (a < b) == self.descending => self.b.next(),
            (Some(_), _) => self.a.next(),
            (None, _) => self.b.next(),
        }
    }
}
