//! Reading: a snapshot of the store as of a commit.

use std::sync::{Arc, OnceLock};

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableError,
};
use rulemill_wire::{ColumnType, Value};

use crate::{
    catalog::{Catalog, Table},
    change::{BadInput, Change, Key, Position, Seq},
    row::Row,
};

use super::{
    DeadLetter, Error, IdempotencyRecord, Notification, PluginVersion, RuleRecord, Store,
    TimerWrite,
    commit::{get_number, log_from, number, text_key},
    log,
    tables::{self, meta},
};

type BytesTable = ReadOnlyTable<&'static [u8], &'static [u8]>;
type Range = redb::Range<'static, &'static [u8], &'static [u8]>;

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
    catalog: OnceLock<Arc<Catalog>>,
    /// By table number: the generation and its rows; no rows if none was ever written.
    rows: Vec<OnceLock<(u32, Option<BytesTable>)>>,
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
            catalog: OnceLock::new(),
            rows: (0..tables).map(|_| OnceLock::new()).collect(),
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

fn stored_row(bytes: &[u8]) -> Result<StoredRow, Error> {
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

    fn open(&self, table: tables::Bytes<'_>) -> Result<BytesTable, Error> {
        Ok(self.transaction.open_table(table)?)
    }

    fn open_existing(&self, name: &str) -> Result<Option<BytesTable>, Error> {
        match self.transaction.open_table(tables::Bytes::new(name)) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A table's rows; `None` if none was ever written.
    fn with_rows<T>(
        &self,
        table: &Table,
        read: impl FnOnce(Option<&BytesTable>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(slot) = self.rows.get(table.id.0 as usize) else {
            return read(None);
        };
        if slot.get().is_none() {
            let rows = self.open_existing(&tables::rows_name(table.id, table.generation))?;
            // Another thread may have been quicker with the same.
            let _ = slot.set((table.generation, rows));
        }
        match slot.get() {
            Some((generation, rows)) if *generation == table.generation => read(rows.as_ref()),
            _ => {
                let rows = self.open_existing(&tables::rows_name(table.id, table.generation))?;
                read(rows.as_ref())
            }
        }
    }

    /// A row by its key.
    ///
    /// # Errors
    /// If the database fails or the row is damaged.
    pub fn row(&self, table: &Table, key: &[u8]) -> Result<Option<StoredRow>, Error> {
        self.with_rows(table, |rows| {
            let Some(rows) = rows else { return Ok(None) };
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
        self.with_rows(table, |rows| Ok(rows.map_or(Ok(0), |rows| rows.len())?))
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
        let range = self.with_rows(table, |rows| range(rows, from, to))?;
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
        let name = tables::index_name(table.id, table.generation, index);
        let entries = self.open_existing(&name)?;
        let range = range(entries.as_ref(), from, to)?;
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

    /// Where a source has come to, part by part.
    ///
    /// # Errors
    /// If the database fails.
    pub fn positions(&self, source: &str) -> Result<Vec<Position>, Error> {
        let from = text_key(&[source]);
        let mut positions = Vec::new();
        for entry in self.prefixed(tables::POSITIONS, &from)? {
            let (key, value) = entry?;
            let mut reader = rulemill_wire::Reader::new(&key.value()[from.len()..]);
            let Value::Text(part) = rulemill_wire::key::read(ColumnType::Text, &mut reader)? else {
                return Err(Error::Damaged(format!("a position of source {source}")));
            };
            positions.push(Position {
                part,
                bytes: value.value().to_vec(),
            });
        }
        Ok(positions)
    }

    /// Input of a source that could not be taken, with its number, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub fn bad_input(
        &self,
        source: &str,
    ) -> Result<impl Iterator<Item = Result<(u64, BadInput), Error>> + use<>, Error> {
        let from = text_key(&[source]);
        let skip = from.len();
        Ok(self.prefixed(tables::BAD_INPUT, &from)?.map(move |entry| {
            let (key, value) = entry?;
            Ok((
                number(&key.value()[skip..])?,
                postcard::from_bytes(value.value())?,
            ))
        }))
    }

    /// Every rule that the store knows.
    ///
    /// # Errors
    /// If the database fails.
    pub fn rules(&self) -> Result<Vec<RuleRecord>, Error> {
        self.records(tables::RULES, &[])?.collect()
    }

    /// Every plugin version that ever ran, oldest first, without its code.
    ///
    /// # Errors
    /// If the database fails.
    pub fn plugin_versions(&self) -> Result<Vec<PluginVersion>, Error> {
        self.records(tables::PLUGIN_VERSIONS, &[])?.collect()
    }

    /// The bytes of a plugin's file, by their SHA-256.
    ///
    /// # Errors
    /// If the database fails.
    pub fn plugin_code(&self, hash: &[u8; 32]) -> Result<Option<Vec<u8>>, Error> {
        let code = self.open(tables::PLUGIN_CODE)?.get(&hash[..])?;
        Ok(code.map(|code| code.value().to_vec()))
    }

    /// Every timer that is set.
    ///
    /// # Errors
    /// If the database fails.
    pub fn timers(&self) -> Result<impl Iterator<Item = Result<TimerWrite, Error>> + use<>, Error> {
        self.records(tables::TIMERS, &[])
    }

    /// Notifications from this number on.
    ///
    /// # Errors
    /// If the database fails.
    pub fn notifications(
        &self,
        from: u64,
    ) -> Result<impl Iterator<Item = Result<Notification, Error>> + use<>, Error> {
        self.records(tables::OUTBOX, &from.to_be_bytes())
    }

    /// Parked changes, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub fn dead_letters(
        &self,
    ) -> Result<impl Iterator<Item = Result<DeadLetter, Error>> + use<>, Error> {
        self.records(tables::DEAD_LETTERS, &[])
    }

    /// The highest number that a parked change ever had.
    ///
    /// # Errors
    /// If the database fails.
    pub fn last_dead_letter(&self) -> Result<u64, Error> {
        get_number(&self.open(tables::META)?, meta::LAST_DEAD_LETTER)
    }

    /// What was answered to a request.
    ///
    /// # Errors
    /// If the database fails.
    pub fn idempotency(&self, key: &str) -> Result<Option<IdempotencyRecord>, Error> {
        match self.open(tables::IDEMPOTENCY)?.get(key.as_bytes())? {
            None => Ok(None),
            Some(record) => Ok(Some(postcard::from_bytes(record.value())?)),
        }
    }

    /// The first seq from which the log holds every change.
    ///
    /// # Errors
    /// If the database fails.
    pub fn log_first_seq(&self) -> Result<Option<Seq>, Error> {
        Ok(Some(log_from(&self.open(tables::META)?)?))
    }

    /// The log's compressed size.
    ///
    /// # Errors
    /// If the database fails.
    pub fn log_bytes(&self) -> Result<u64, Error> {
        get_number(&self.open(tables::META)?, meta::LOG_BYTES)
    }

    /// The logged changes of every write set that ends at `from` or later, in order; so the first few may
    /// have lower seqs.
    ///
    /// # Errors
    /// If the database fails, here or while the iterator runs.
    pub fn log(
        &self,
        from: Seq,
    ) -> Result<impl Iterator<Item = Result<Change, Error>> + use<>, Error> {
        let table = self.open(tables::LOG)?;
        let range = range(Some(&table), &log::block_key(from, 0), None)?;
        let blocks = Entries {
            range,
            descending: false,
        };
        Ok(blocks.flat_map(|entry| {
            let changes = entry.and_then(|(_, value)| log::read_block(value.value()));
            let (changes, error) = match changes {
                Ok(changes) => (changes, None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            changes.into_iter().map(Ok).chain(error)
        }))
    }

    fn prefixed(&self, table: tables::Bytes<'_>, prefix: &[u8]) -> Result<Entries, Error> {
        let table = self.open(table)?;
        let to = rulemill_wire::key::prefix_end(prefix);
        Ok(Entries {
            range: range(Some(&table), prefix, to.as_deref())?,
            descending: false,
        })
    }

    fn records<T: serde::de::DeserializeOwned>(
        &self,
        table: tables::Bytes<'_>,
        from: &[u8],
    ) -> Result<impl Iterator<Item = Result<T, Error>> + use<T>, Error> {
        let table = self.open(table)?;
        let entries = Entries {
            range: range(Some(&table), from, None)?,
            descending: false,
        };
        Ok(entries.map(|entry| Ok(postcard::from_bytes(entry?.1.value())?)))
    }
}

fn range(
    table: Option<&BytesTable>,
    from: &[u8],
    to: Option<&[u8]>,
) -> Result<Option<Range>, Error> {
    let Some(table) = table else { return Ok(None) };
    Ok(match to {
        // An empty range; redb takes no bounds that cross.
        Some(to) if to <= from => None,
        Some(to) => Some(table.range::<&[u8]>(from..to)?),
        None => Some(table.range::<&[u8]>(from..)?),
    })
}

type Guard = redb::AccessGuard<'static, &'static [u8]>;

/// Entries of a range in either direction.
struct Entries {
    range: Option<Range>,
    descending: bool,
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
