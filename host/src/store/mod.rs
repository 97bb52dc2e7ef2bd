//! The store: everything that must survive, in one redb database.
//!
//! Owns the database file, its tables and their byte formats (`docs/store-format.md`). The committer writes it, a
//! whole group of [`WriteSet`]s in one transaction; everyone else reads snapshots. It never decides what to
//! write. When a write fails the transaction is gone as if it had never begun; after an error of the
//! disk the store must be opened again.
//!
//! Nothing outside this module names redb.

mod backend;
mod commit;
mod error;
mod log;
mod reader;
mod records;
mod retention;
mod rows;
mod tables;
mod write_set;

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use redb::{Database, ReadableDatabase};

use crate::{catalog::Catalog, limits::Limits};

pub use backend::Backend;
pub use commit::CommitStats;
pub use error::Error;
pub use reader::{Reader, StoredRow};
pub use write_set::{
    DeadLetter, IdempotencyRecord, Notification, PluginVersion, RowWrite, RuleRecord, RuleStatus,
    TableWrites, TimerWrite, WriteSet,
};

use tables::{FORMAT, meta};

/// The database's file in the data directory.
const FILE: &str = "store.redb";
/// Its name until it can be opened: redb can't tell a file that it had only begun to make from one that isn't its own.
const UNFINISHED: &str = "store.redb.new";

/// The open store.
pub struct Store {
    database: Database,
    /// The catalog as last stored: commits need it for indexes.
    catalog: Mutex<Arc<Catalog>>,
}

impl Store {
    /// Opens the store in this directory, making both where they aren't there.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it; [`Error::NewerFormat`]; [`Error::NotAStore`]; or why the
    /// directory or the file can't be made or read.
    pub fn open(dir: &Path, limits: &Limits) -> Result<Self, Error> {
        std::fs::create_dir_all(dir)
            .map_err(|error| Error::Database(format!("can't make {}: {error}", dir.display())))?;
        let open = |name: &str| {
            let path = dir.join(name);
            Database::builder()
                .set_cache_size(limits.store_cache_bytes)
                .create(&path)
                .map_err(|error| Error::opening(error, dir, path))
        };
        if Self::exists(dir) {
            return Self::prepare(open(FILE)?);
        }
        let database = match open(UNFINISHED) {
            // A start that was killed while it made the file; nobody has its lock.
            Err(Error::NotAStore(path)) => {
                std::fs::remove_file(path).map_err(Error::io)?;
                open(UNFINISHED)?
            }
            opened => opened?,
        };
        let store = Self::prepare(database)?;
        // Whoever holds the lock on the unfinished file may rename it, so nobody replaces a store.
        if Self::exists(dir) {
            return Err(Error::Locked(dir.to_owned()));
        }
        std::fs::rename(dir.join(UNFINISHED), dir.join(FILE)).map_err(Error::io)?;
        #[cfg(unix)]
        std::fs::File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(Error::io)?;
        Ok(store)
    }

    /// Whether a directory holds a store.
    pub fn exists(dir: &Path) -> bool {
        dir.join(FILE).is_file()
    }

    /// A store in memory, for tests and trials.
    ///
    /// # Errors
    /// If the database fails.
    pub fn in_memory() -> Result<Self, Error> {
        let backend = redb::backends::InMemoryBackend::new();
        Self::prepare(Database::builder().create_with_backend(backend)?)
    }

    /// A store on other storage than a file, for tests of what happens when that fails.
    ///
    /// # Errors
    /// As [`open`](Self::open), but nothing locks the storage.
    pub fn with_backend(backend: impl Backend, limits: &Limits) -> Result<Self, Error> {
        let database = Database::builder()
            .set_cache_size(limits.store_cache_bytes)
            .create_with_backend(backend::Adapter(backend))?;
        Self::prepare(database)
    }

    fn prepare(database: Database) -> Result<Self, Error> {
        let transaction = database.begin_read()?;
        let (found, catalog) = match transaction.open_table(tables::META) {
            Ok(meta_table) => (
                commit::get_number(&meta_table, meta::FORMAT)?,
                // A newer format may have another catalog.
                match commit::get_number(&meta_table, meta::FORMAT)? {
                    FORMAT => reader::read_catalog(&meta_table)?,
                    _ => Catalog::default(),
                },
            ),
            Err(redb::TableError::TableDoesNotExist(_)) => (0, Catalog::default()),
            Err(error) => return Err(error.into()),
        };
        if found > FORMAT {
            return Err(Error::NewerFormat {
                found,
                known: FORMAT,
            });
        }
        if found == 0 && transaction.list_tables()?.next().is_some() {
            return Err(Error::Damaged(
                "it is a redb database, but has no format number: another program made it".into(),
            ));
        }
        drop(transaction);
        if found == 0 {
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            for table in tables::FIXED {
                transaction.open_table(table)?;
            }
            {
                let mut meta_table = transaction.open_table(tables::META)?;
                commit::put_number(&mut meta_table, meta::FORMAT, FORMAT)?;
            }
            transaction.commit()?;
        }
        Ok(Self {
            database,
            catalog: Mutex::new(Arc::new(catalog)),
        })
    }
}

#[cfg(test)]
mod tests;
