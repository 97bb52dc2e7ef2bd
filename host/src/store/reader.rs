//! Reading: a snapshot of the store as of a commit.

use std::sync::{Arc, OnceLock};

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableError,
};

use crate::{
    catalog::{Catalog, Table},
    change::{Key, Seq},
    row::Row,
};

use super::{
    Error, Store,
    commit::get_number,
    tables::{self, meta},
};

type BytesTable = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// A row with who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    /// The row.
    pub row: Row,
    /// The change that wrote it.
    pub seq: Seq,
    /// The plugin version that wrote it; 0 for a row from a source.
    pub version: u32,
}

/// A snapshot. Tables of rows stay open once they have been read.
pub struct Reader {
    transaction: ReadTransaction,
    last_seq: Seq,
    watermark: i64,
    watermark_clock: i64,
    catalog: OnceLock<Arc<Catalog>>,
    /// By table number.
    tables: Vec<OnceLock<OpenTable>>,
}

/// A generation of a table, opened. Nothing is open where nothing was ever written.
struct OpenTable {
    generation: u32,
    rows: Option<BytesTable>,
    indexes: Vec<OnceLock<Option<BytesTable>>>,
}

impl Store {
    /// A snapshot of the last commit.
    ///
    /// # Errors
    /// If the database fails.
    pub fn reader(&self) -> Result<Reader, Error> {
        let transaction = self.database.begin_read()?;
        let meta_table = transaction.open_table(tables::META)?;
        let tables = get_number(&meta_table, meta::TABLES)?;
        Ok(Reader {
            last_seq: Seq(get_number(&meta_table, meta::LAST_SEQ)?),
            watermark: get_number(&meta_table, meta::WATERMARK)? as i64,
            watermark_clock: get_number(&meta_table, meta::WATERMARK_CLOCK)? as i64,
            catalog: OnceLock::new(),
            tables: (0..tables).map(|_| OnceLock::new()).collect(),
            transaction,
        })
    }
}

pub(super) fn read_catalog(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<Catalog, Error> {
    match table.get(meta::CATALOG)? {
        None => Ok(Catalog::default()),
        Some(bytes) => Ok(Catalog::from_tables(postcard::from_bytes(bytes.value())?)),
    }
}

pub(super) fn stored_row(bytes: &[u8]) -> Result<StoredRow, Error> {
    let mut reader = rulemill_wire::Reader::new(bytes);
    let seq = Seq(reader.u64()?);
    let version = u32::try_from(reader.u64()?)
        .map_err(|_| Error::Damaged("a row's plugin version".into()))?;
    Ok(StoredRow {
        row: Row::copy_from_slice(reader.rest()),
        seq,
        version,
    })
}

impl Reader {
    /// The last seq that is in.
    pub fn last_seq(&self) -> Seq {
        self.last_seq
    }

    /// The latest commit time seen, in microseconds.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// The host's clock when the watermark was moved there, in microseconds.
    pub fn watermark_clock(&self) -> i64 {
        self.watermark_clock
    }

    /// The tables.
    ///
    /// # Errors
    /// If the database fails.
    pub fn catalog(&self) -> Result<Arc<Catalog>, Error> {
        if let Some(catalog) = self.catalog.get() {
            return Ok(catalog.clone());
        }
        let catalog = Arc::new(read_catalog(&self.open(tables::META)?)?);
        Ok(self.catalog.get_or_init(|| catalog).clone())
    }

    pub(super) fn open(&self, table: tables::Bytes<'_>) -> Result<BytesTable, Error> {
        Ok(self.transaction.open_table(table)?)
    }

    fn open_existing(&self, name: &str) -> Result<Option<BytesTable>, Error> {
        match self.transaction.open_table(tables::Bytes::new(name)) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn open_table(&self, table: &Table) -> Result<OpenTable, Error> {
        Ok(OpenTable {
            generation: table.generation,
            rows: self.open_existing(&tables::rows_name(table.id, table.generation))?,
            indexes: table.indexes.iter().map(|_| OnceLock::new()).collect(),
        })
    }

    /// Reads from an opened table; `None` if it is newer than the snapshot.
    fn with_table<T>(
        &self,
        table: &Table,
        read: impl FnOnce(Option<&OpenTable>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(slot) = self.tables.get(table.id.0 as usize) else {
            return read(None);
        };
        let kept = match slot.get() {
            Some(kept) => kept,
            None => {
                let opened = self.open_table(table)?;
                slot.get_or_init(|| opened)
            }
        };
        let same = kept.generation == table.generation && kept.indexes.len() == table.indexes.len();
        if same {
            read(Some(kept))
        } else {
            read(Some(&self.open_table(table)?))
        }
    }

    /// A row by its key.
    ///
    /// # Errors
    /// If the database fails or the row is damaged.
    pub fn row(&self, table: &Table, key: &[u8]) -> Result<Option<StoredRow>, Error> {
        self.with_table(table, |open| {
            let Some(rows) = open.and_then(|open| open.rows.as_ref()) else {
                return Ok(None);
            };
            match rows.get(key)? {
                Some(value) => stored_row(value.value()).map(Some),
                None => Ok(None),
            }
        })
    }

    /// How many rows a table has.
    ///
    /// # Errors
    /// If the database fails.
    pub fn row_count(&self, table: &Table) -> Result<u64, Error> {
        self.with_table(table, |open| {
            let rows = open.and_then(|open| open.rows.as_ref());
            Ok(rows.map_or(Ok(0), |rows| rows.len())?)
        })
    }

    /// The rows with keys from `from` (inclusive) to `to` (exclusive; `None` for no end), in key order or
    /// the other way.
    ///
    /// # Errors
    /// If the database fails, here or while the iterator runs.
    pub fn rows(
        &self,
        table: &Table,
        from: &[u8],
        to: Option<&[u8]>,
        descending: bool,
    ) -> Result<impl Iterator<Item = Result<(Key, StoredRow), Error>> + use<>, Error> {
        let range = self.with_table(table, |open| {
            range(open.and_then(|open| open.rows.as_ref()), from, to)
        })?;
        Ok(Entries { range, descending }.map(|entry| {
            let (key, value) = entry?;
            Ok((
                Key::copy_from_slice(key.value()),
                stored_row(value.value())?,
            ))
        }))
    }

    /// The entries of an index in a range, each with its row's key and its row.
    ///
    /// # Errors
    /// If the database fails, here or while the iterator runs; if an entry has no row.
    pub fn index_rows<'r>(
        &'r self,
        table: &'r Table,
        index: usize,
        from: &[u8],
        to: Option<&[u8]>,
        descending: bool,
    ) -> Result<impl Iterator<Item = Result<(Key, Key, StoredRow), Error>> + use<'r>, Error> {
        let range = self.with_table(table, |open| {
            let Some(slot) = open.and_then(|open| open.indexes.get(index)) else {
                return Ok(None);
            };
            if slot.get().is_none() {
                let name = tables::index_name(table.id, table.generation, index);
                // Another thread may have been quicker with the same.
                let _ = slot.set(self.open_existing(&name)?);
            }
            range(slot.get().and_then(Option::as_ref), from, to)
        })?;
        Ok(Entries { range, descending }.map(move |entry| {
            let (entry, key) = entry?;
            let row = self.row(table, key.value())?.ok_or_else(|| {
                Error::Damaged(format!(
                    "an entry of index {index} of table {} has no row",
                    table.name
                ))
            })?;
            Ok((
                Key::copy_from_slice(entry.value()),
                Key::copy_from_slice(key.value()),
                row,
            ))
        }))
    }
}

type Range = redb::OwnedRange<&'static [u8], &'static [u8]>;
type Guard = redb::OwnedAccessGuard<&'static [u8]>;

/// A range that keeps its snapshot alive; `None` where it is empty for certain.
pub(super) fn range(
    table: Option<&BytesTable>,
    from: &[u8],
    to: Option<&[u8]>,
) -> Result<Option<Range>, Error> {
    let Some(table) = table else { return Ok(None) };
    Ok(match to {
        // redb takes no bounds that cross.
        Some(to) if to <= from => None,
        Some(to) => Some(table.range_owned::<&[u8]>(from..to)?),
        None => Some(table.range_owned::<&[u8]>(from..)?),
    })
}

/// Entries of a range in either direction.
pub(super) struct Entries {
    pub(super) range: Option<Range>,
    pub(super) descending: bool,
}

impl Iterator for Entries {
    type Item = Result<(Guard, Guard), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let range = self.range.as_mut()?;
        let entry = if self.descending {
            range.next_back()
        } else {
            range.next()
        }?;
        Some(entry.map_err(Error::from))
    }
}
