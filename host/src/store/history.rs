//! Rows as they were: for each change since some seq, the row before it, so that tables can be read as of any change since.
//!
//! A scratch database beside the store, made from the log when a rule is behind that may look other tables up, and thrown away
//! when none is: nothing in it has to survive. It holds only changes; what it doesn't name is as it is now.
//!
//! ```text
//! rows/TABLE           key = row's key, seq (8 bytes, big-endian), place (8)   value = cause:varint  0, or 1 and the row before
//! entries/TABLE/INDEX  key = index entry of the row before, seq, place         value = row's key
//! ```
//!
//! The state as of a change *i* is what stood before the first change (in the order of the log) that *i* is not behind:
//! one with a later seq and a later cause.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::Mutex,
};

use redb::{Database, ReadTransaction, ReadableDatabase, TableError};
use rulemill_wire::codec;

use crate::{
    catalog::{Catalog, Table},
    change::{Change, Key, Seq},
    row::Row,
};

use super::{
    Backend, Error, Store,
    backend::Adapter,
    reader::{Entries, range},
    rows::write_index_entry,
    tables,
};

/// Seq and place behind a key.
const SUFFIX: usize = 16;

/// A scratch file: it has no name, and nothing in it has to be durable.
#[derive(Debug)]
struct Scratch(Mutex<File>);

impl Scratch {
    fn at<T>(&self, run: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        let mut file = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        run(&mut file)
    }
}

impl Backend for Scratch {
    fn size(&self) -> io::Result<u64> {
        self.at(|file| Ok(file.metadata()?.len()))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.at(|file| {
            file.seek(SeekFrom::Start(offset))?;
            file.read_exact(out)
        })
    }

    fn resize(&self, len: u64) -> io::Result<()> {
        self.at(|file| file.set_len(len))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.at(|file| {
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(data)
        })
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Rows before changes, being gathered.
pub struct History {
    database: Database,
    /// Tells changes of one row and one seq apart.
    places: u64,
}

/// A row as of some change, where that isn't as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// The row then.
    pub row: Option<Row>,
    /// The cause of the row's next change.
    pub until: Seq,
}

impl Store {
    /// An empty history, in a file without a name in the store's directory, or in memory if the store is.
    ///
    /// # Errors
    /// If the file can't be made.
    pub fn history(&self) -> Result<History, Error> {
        let mut builder = Database::builder();
        // Lookups go to few rows; the store's own cache is what matters.
        builder.set_cache_size(16 << 20);
        let dir = self.file.as_deref().and_then(Path::parent);
        let database = match dir {
            Some(dir) => {
                let file = tempfile::tempfile_in(dir).map_err(Error::io)?;
                builder.create_with_backend(Adapter(Scratch(Mutex::new(file))))?
            }
            None => builder.create_with_backend(redb::backends::InMemoryBackend::new())?,
        };
        Ok(History {
            database,
            places: 0,
        })
    }
}

impl History {
    /// Adds changes, in any order but for those of one seq.
    ///
    /// # Errors
    /// If the scratch database fails, or a row is damaged.
    pub fn add(&mut self, catalog: &Catalog, changes: &[Change]) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut by_table: Vec<&Change> = changes.iter().collect();
        by_table.sort_by_key(|change| change.table);
        let transaction = self.database.begin_write()?;
        for of_table in by_table.chunk_by(|a, b| a.table == b.table) {
            let table = catalog.table(of_table[0].table);
            let name = rows_name(table);
            let mut rows = transaction.open_table(tables::Bytes::new(&name))?;
            let mut indexes = Vec::new();
            for index in 0..table.indexes.len() {
                let name = entries_name(table, index);
                indexes.push(transaction.open_table(tables::Bytes::new(&name))?);
            }
            let (mut at, mut value) = (Vec::new(), Vec::new());
            for change in of_table {
                self.places += 1;
                let suffix = [change.seq.0.to_be_bytes(), self.places.to_be_bytes()].concat();
                at.clear();
                at.extend_from_slice(&change.key);
                at.extend_from_slice(&suffix);
                value.clear();
                codec::write_u64(change.cause.0, &mut value);
                value.push(u8::from(change.before.is_some()));
                value.extend_from_slice(change.before.as_deref().unwrap_or_default());
                rows.insert(&at[..], &value[..])?;
                let Some(before) = &change.before else {
                    continue;
                };
                for (index, entries) in indexes.iter_mut().enumerate() {
                    at.clear();
                    write_index_entry(table, index, before, &change.key, &mut at)?;
                    at.extend_from_slice(&suffix);
                    entries.insert(&at[..], &change.key[..])?;
                }
            }
        }
        Ok(transaction.commit()?)
    }

    /// What has been added so far.
    ///
    /// # Errors
    /// If the scratch database fails.
    pub fn reader(&self) -> Result<HistoryReader, Error> {
        Ok(HistoryReader {
            transaction: self.database.begin_read()?,
        })
    }
}

/// An index entry that a row had then, the row's key, and the row.
pub type EntryThen = (Vec<u8>, Key, Row);

/// A snapshot of a history.
pub struct HistoryReader {
    transaction: ReadTransaction,
}

impl HistoryReader {
    fn entries(
        &self,
        name: &str,
        from: &[u8],
        to: Option<&[u8]>,
        descending: bool,
    ) -> Result<Entries, Error> {
        // A bound that continues a key divides that key's entries; `lies_in` tells on which side they belong.
        let to = to.map(|to| [to, &[0xff; SUFFIX + 1]].concat());
        let table = match self.transaction.open_table(tables::Bytes::new(name)) {
            Ok(table) => Some(table),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Entries {
            range: range(table.as_ref(), from, to.as_deref())?,
            descending,
        })
    }

    /// A row as of the change `at`; `None` if it hasn't changed since.
    ///
    /// # Errors
    /// If the scratch database fails.
    pub fn row(&self, table: &Table, key: &[u8], at: Seq) -> Result<Option<Past>, Error> {
        Ok(self.find(table, key, at)?.map(|(past, _)| past))
    }

    /// The same, with seq and place of the change that came next.
    fn find(
        &self,
        table: &Table,
        key: &[u8],
        at: Seq,
    ) -> Result<Option<(Past, [u8; SUFFIX])>, Error> {
        let from = [key, &at.next().0.to_be_bytes()].concat();
        for entry in self.entries(&rows_name(table), &from, Some(key), false)? {
            let (name, value) = entry?;
            let past = read_past(value.value())?;
            if past.until > at {
                return Ok(Some((past, suffix_of(name.value())?)));
            }
        }
        Ok(None)
    }

    /// The rows of a key range that have changed since `at`, each as it was then, in order.
    ///
    /// # Errors
    /// If the scratch database fails, here or while the iterator runs.
    pub fn rows(
        &self,
        table: &Table,
        from: &[u8],
        to: Option<&[u8]>,
        descending: bool,
        at: Seq,
    ) -> Result<impl Iterator<Item = Result<(Key, Option<Row>), Error>>, Error> {
        let entries = self.entries(&rows_name(table), from, to, descending)?;
        let (from, to) = (from.to_vec(), to.map(<[u8]>::to_vec));
        let mut entries = entries
            .filter(move |entry| {
                let name = entry.as_ref().map(|(name, _)| name.value());
                name.map_or(true, |name| lies_in(name, &from, to.as_deref()))
            })
            .peekable();
        Ok(std::iter::from_fn(move || {
            // Entries of one key follow each other; the first that `at` isn't behind says the row.
            let mut found: Option<(Key, Option<Row>)> = None;
            loop {
                let next = match entries.peek() {
                    None => return found.map(Ok),
                    Some(Err(_)) => return entries.next().and_then(Result::err).map(Err),
                    Some(Ok((name, _))) => name.value(),
                };
                let key = &next[..next.len().saturating_sub(SUFFIX)];
                if let Some((current, row)) = &found
                    && current[..] != *key
                {
                    return Some(Ok((current.clone(), row.clone())));
                }
                let key = Key::copy_from_slice(key);
                let entry = match entries.next() {
                    Some(Ok(entry)) => entry,
                    Some(Err(error)) => return Some(Err(error)),
                    None => return found.map(Ok),
                };
                let is_later = |suffix: [u8; SUFFIX]| suffix[..8] > at.0.to_be_bytes()[..];
                match (read_past(entry.1.value()), suffix_of(entry.0.value())) {
                    (Ok(past), Ok(suffix)) => {
                        if past.until > at && is_later(suffix) && (descending || found.is_none()) {
                            found = Some((key, past.row));
                        }
                    }
                    (Err(error), _) | (_, Err(error)) => return Some(Err(error)),
                }
            }
        }))
    }

    /// The entries of an index's range that rows which have changed since `at` had then, with key and row, in order.
    ///
    /// # Errors
    /// If the scratch database fails, here or while the iterator runs.
    pub fn index_rows<'r>(
        &'r self,
        table: &'r Table,
        index: usize,
        from: &[u8],
        to: Option<&[u8]>,
        descending: bool,
        at: Seq,
    ) -> Result<impl Iterator<Item = Result<EntryThen, Error>> + use<'r>, Error> {
        let entries = self.entries(&entries_name(table, index), from, to, descending)?;
        let (from, to) = (from.to_vec(), to.map(<[u8]>::to_vec));
        Ok(entries.filter_map(move |entry| {
            let read = || {
                let (name, key) = entry?;
                if !lies_in(name.value(), &from, to.as_deref()) {
                    return Ok(None);
                }
                let suffix = suffix_of(name.value())?;
                let found = self.find(table, key.value(), at)?;
                // The row stood so for a while; what counts is whether it did then.
                let Some((Past { row: Some(row), .. }, _)) =
                    found.filter(|(_, next)| *next == suffix)
                else {
                    return Ok(None);
                };
                let entry = name.value()[..name.value().len() - SUFFIX].to_vec();
                Ok(Some((entry, Key::copy_from_slice(key.value()), row)))
            };
            read().transpose()
        }))
    }
}

fn rows_name(table: &Table) -> String {
    format!("rows/{}", table.id)
}

fn entries_name(table: &Table, index: usize) -> String {
    format!("entries/{}/{index}", table.id)
}

/// Whether what stands before the suffix lies in a range.
fn lies_in(name: &[u8], from: &[u8], to: Option<&[u8]>) -> bool {
    let name = &name[..name.len().saturating_sub(SUFFIX)];
    name >= from && to.is_none_or(|to| name < to)
}

fn suffix_of(name: &[u8]) -> Result<[u8; SUFFIX], Error> {
    let suffix = name.last_chunk::<SUFFIX>();
    suffix
        .copied()
        .ok_or_else(|| Error::Damaged("a key of the history is too short".into()))
}

fn read_past(value: &[u8]) -> Result<Past, Error> {
    let mut reader = rulemill_wire::Reader::new(value);
    let until = Seq(reader.u64()?);
    let row = match reader.u8()? {
        0 => None,
        _ => Some(Row::copy_from_slice(reader.rest())),
    };
    Ok(Past { row, until })
}
