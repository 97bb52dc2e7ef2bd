//! Whether a store is what it must be: everything in it is walked and held against everything else.
//!
//! Owns the checks. It never mends anything (what redb mends of its own pages is reported), and decides nothing: what is
//! wrong comes out as [`Finding`]s. A table that can't be read to its end is a finding too, and the walk goes on with
//! the next. Memory is bounded: tables are walked and not collected, and the log's chains are followed for a
//! part of the keys at a time; only what there are few of (tables, rules, plugin versions) is held.

mod log;
mod records;
mod rows;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use redb::{ReadTransaction, ReadableDatabase, TableHandle};

use crate::{
    catalog::{Catalog, Table, TableId},
    change::Seq,
};

use super::{
    Error, PluginVersion, Store,
    commit::{get_number, log_from},
    log as blocks, reader,
    reader::{Entries, range},
    tables::{self, meta},
};

type BytesTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// Something that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The table: that of the store's tables, or the database's where it holds records; empty for the database itself.
    pub table: String,
    /// What it is found under there, as people read it.
    pub key: Option<String>,
    /// What is wrong.
    pub problem: String,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Tables of rows.
    pub tables: u64,
    /// Rows.
    pub rows: u64,
    /// Entries of indexes.
    pub index_entries: u64,
    /// Changes in the log.
    pub log_changes: u64,
    /// Timers, dead letters, notifications, positions and whatever else has a record.
    pub records: u64,
}

impl Store {
    /// Walks everything, and calls `found` for each thing that is wrong.
    ///
    /// # Errors
    /// If the storage fails. A store that is damaged is no error.
    pub fn verify(&mut self, found: &mut dyn FnMut(Finding)) -> Result<Verified, Error> {
        let mut report = |table: &str, problem: String| {
            found(Finding {
                table: table.to_owned(),
                key: None,
                problem,
            });
        };
        match self.database.check_integrity() {
            Ok(true) => {}
            Ok(false) => report(
                "",
                "its pages were not accounted for as they should be; opened for writing, it is mended"
                    .into(),
            ),
            Err(redb::DatabaseError::Storage(redb::StorageError::Corrupted(what))) => {
                report("", format!("its pages are damaged: {what}"));
                return Ok(Verified::default());
            }
            Err(error) => return Err(error.into()),
        }
        let transaction = self.database.begin_read()?;
        let head = match Head::read(&transaction) {
            Ok(head) => head,
            Err(error @ Error::Damaged(_)) => {
                report("meta", error.finding());
                return Ok(Verified::default());
            }
            Err(error) => return Err(error),
        };
        let mut check = Check {
            transaction,
            head,
            versions: BTreeMap::new(),
            rules: HashSet::new(),
            counts: Verified::default(),
            found,
        };
        check.names()?;
        check.records()?;
        check.all_rows()?;
        check.log()?;
        Ok(check.counts)
    }
}

/// What `meta` says.
struct Head {
    catalog: Arc<Catalog>,
    last_seq: Seq,
    log_from: Seq,
    log_bytes: u64,
    last_dead_letter: u64,
    last_notification: u64,
    tables: u64,
}

impl Head {
    fn read(transaction: &ReadTransaction) -> Result<Self, Error> {
        let table = transaction.open_table(tables::META)?;
        let number = |key| get_number(&table, key);
        Ok(Self {
            catalog: Arc::new(reader::read_catalog(&table)?),
            last_seq: Seq(number(meta::LAST_SEQ)?),
            log_from: log_from(&table)?,
            log_bytes: number(meta::LOG_BYTES)?,
            last_dead_letter: number(meta::LAST_DEAD_LETTER)?,
            last_notification: number(meta::LAST_NOTIFICATION)?,
            tables: number(meta::TABLES)?,
        })
    }
}

/// The walk.
struct Check<'a> {
    transaction: ReadTransaction,
    head: Head,
    /// Plugin versions by number.
    versions: BTreeMap<u32, PluginVersion>,
    /// Plugin and rule.
    rules: HashSet<(String, String)>,
    counts: Verified,
    found: &'a mut dyn FnMut(Finding),
}

impl Check<'_> {
    fn report(&mut self, table: &str, key: Option<String>, problem: impl Into<String>) {
        (self.found)(Finding {
            table: table.to_owned(),
            key,
            problem: problem.into(),
        });
    }

    /// Calls `each` with what a table of the database holds, in order; `called` is what it is called in findings.
    fn walk(
        &mut self,
        name: &str,
        called: &str,
        descending: bool,
        mut each: impl FnMut(&mut Self, &[u8], &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let range = match self.open(name) {
            Ok(table) => range(table.as_ref(), &[], None),
            Err(error) => Err(error),
        };
        let mut entries = match range {
            Ok(range) => Entries { range, descending },
            Err(error) => return self.unreadable(called, error),
        };
        loop {
            match entries.next() {
                None => return Ok(()),
                Some(Ok((key, value))) => each(self, key.value(), value.value())?,
                Some(Err(error)) => return self.unreadable(called, error),
            }
        }
    }

    /// A table of the database; `None` if nothing was ever written to it.
    fn open(&self, name: &str) -> Result<Option<BytesTable>, Error> {
        match self.transaction.open_table(tables::Bytes::new(name)) {
            Ok(table) => Ok(Some(table)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(redb::TableError::Storage(error)) => Err(error.into()),
            Err(error) => Err(Error::Damaged(error.to_string())),
        }
    }

    fn unreadable(&mut self, called: &str, error: Error) -> Result<(), Error> {
        match error {
            Error::Damaged(what) => {
                self.report(called, None, format!("it can't be read to its end: {what}"));
                Ok(())
            }
            error => Err(error),
        }
    }

    /// The catalog, and which tables the database has.
    fn names(&mut self) -> Result<(), Error> {
        let catalog = self.head.catalog.clone();
        let count = catalog.tables().count() as u64;
        if self.head.tables != count {
            let said = self.head.tables;
            let problem = format!("says that the catalog has {said} tables, and it has {count}");
            self.report("meta", Some("tables".into()), problem);
        }
        let mut expected: BTreeSet<String> = BTreeSet::new();
        let mut names = HashSet::new();
        for (place, table) in catalog.tables().enumerate() {
            if table.id.0 as usize != place {
                let problem = format!(
                    "table {} has number {}, at place {place}",
                    table.name, table.id
                );
                self.report("meta", Some("catalog".into()), problem);
                continue;
            }
            if !names.insert(table.name.clone()) {
                let problem = format!("two tables are named {}", table.name);
                self.report("meta", Some("catalog".into()), problem);
            }
            let indexed = table.indexes.iter().flat_map(|index| &index.columns);
            if indexed
                .chain(&table.key)
                .any(|&column| usize::from(column) >= table.columns.len())
            {
                let problem = format!(
                    "table {} has a key or index of a column that isn't there",
                    table.name
                );
                self.report("meta", Some("catalog".into()), problem);
            }
            // What an earlier generation left is nobody's.
            for generation in 0..=table.generation {
                expected.insert(tables::rows_name(table.id, generation));
                for index in 0..table.indexes.len() {
                    expected.insert(tables::index_name(table.id, generation, index));
                }
            }
        }
        let there: BTreeSet<String> = self
            .transaction
            .list_tables()?
            .map(|table| table.name().to_owned())
            .collect();
        for fixed in tables::FIXED {
            if !there.contains(fixed.name()) {
                self.report(fixed.name(), None, "the database has no such table");
            }
            expected.insert(fixed.name().to_owned());
        }
        for name in there.difference(&expected) {
            self.report(name, None, "no table of the catalog has it");
        }
        Ok(())
    }

    /// The table with this number, if the catalog has one that can be used.
    fn table(&self, id: TableId) -> Option<Arc<Table>> {
        let place = id.0 as usize;
        let table = self.head.catalog.tables().nth(place)?;
        let columns = table.columns.len();
        let indexed = table.indexes.iter().flat_map(|index| &index.columns);
        let fits = indexed
            .chain(&table.key)
            .all(|&column| usize::from(column) < columns);
        (table.id == id && fits).then(|| table.clone())
    }
}

/// A row's key as people read it.
fn shown(table: &Table, key: &[u8]) -> Option<String> {
    let json = crate::render::key_to_json(table, key);
    Some(json.map_or_else(|_| hex(key), |json| json.to_string()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = "0x".to_owned();
    for byte in bytes {
        // Writing to a text can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
