//! The store: everything that must survive, in one redb database.
//!
//! Owns the database file, its tables and their byte formats. The committer writes it, a whole group
//! of [`WriteSet`]s in one transaction; everyone else reads snapshots. It never decides what to
//! write. When a write fails the transaction is gone as if it had never begun.
//!
//! Nothing outside this module names redb.

mod commit;
mod error;
mod log;
mod reader;
mod retention;
mod tables;
mod write_set;

use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase};

use crate::limits::Limits;

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

/// The open store.
pub struct Store {
    database: Database,
    /// Its file; none in memory.
    file: Option<PathBuf>,
}

impl Store {
    /// Opens the store in this directory, making both where they aren't there.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it; [`Error::NewerFormat`]; or why the directory or the
    /// file can't be made or read.
    pub fn open(dir: &Path, limits: &Limits) -> Result<Self, Error> {
        std::fs::create_dir_all(dir)
            .map_err(|error| Error::Database(format!("can't make {}: {error}", dir.display())))?;
        let database = Database::builder()
            .set_cache_size(limits.store_cache_bytes)
            .create(dir.join(FILE))
            .map_err(|error| match error {
                redb::DatabaseError::DatabaseAlreadyOpen => Error::Locked(dir.to_owned()),
                error => error.into(),
            })?;
        Self::prepare(database, Some(dir.join(FILE)))
    }

    /// Whether a directory holds a store.
    pub fn exists(dir: &Path) -> bool {
        dir.join(FILE).is_file()
    }

    /// The size of the store's file; 0 in memory.
    ///
    /// # Errors
    /// If the file can't be looked at.
    pub fn file_bytes(&self) -> std::io::Result<u64> {
        self.file
            .as_ref()
            .map_or(Ok(0), |file| Ok(file.metadata()?.len()))
    }

    /// A store in memory, for tests and trials.
    ///
    /// # Errors
    /// If the database fails.
    pub fn in_memory() -> Result<Self, Error> {
        let backend = redb::backends::InMemoryBackend::new();
        Self::prepare(Database::builder().create_with_backend(backend)?, None)
    }

    fn prepare(database: Database, file: Option<PathBuf>) -> Result<Self, Error> {
        let transaction = database.begin_read()?;
        let found = match transaction.open_table(tables::META) {
            Ok(meta_table) => commit::get_number(&meta_table, meta::FORMAT)?,
            Err(redb::TableError::TableDoesNotExist(_)) => 0,
            Err(error) => return Err(error.into()),
        };
        if found > FORMAT {
            return Err(Error::NewerFormat {
                found,
                known: FORMAT,
            });
        }
        drop(transaction);
        if found == 0 {
            let transaction = database.begin_write()?;
            for table in tables::FIXED {
                transaction.open_table(table)?;
            }
            {
                let mut meta_table = transaction.open_table(tables::META)?;
                commit::put_number(&mut meta_table, meta::FORMAT, FORMAT)?;
            }
            transaction.commit()?;
        }
        Ok(Self { database, file })
    }
}

#[cfg(test)]
mod tests;
