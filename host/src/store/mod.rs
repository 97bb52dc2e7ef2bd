//! The store: everything that must survive, in one redb database.
//!
//! Owns the database file, its tables and their byte formats (`docs/store-format.md`). The committer writes it, a
//! whole group of [`WriteSet`]s in one transaction; everyone else reads snapshots. It never decides what to
//! write. When a write fails the transaction is gone as if it had never begun; after an error of the
//! disk the store must be opened again. While the disk is full, a commit waits ([`Room`]).
//!
//! Nothing outside this module names redb.

mod backend;
mod commit;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod history;
mod log;
mod panics;
mod reader;
mod records;
mod retention;
mod room;
mod rows;
mod tables;
mod verify;
mod write_set;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use redb::{Database, ReadableDatabase};

use crate::{catalog::Catalog, limits::Limits};

pub use backend::Backend;
pub use commit::CommitStats;
pub use error::Error;
pub use history::{EntryThen, History, HistoryReader, Past};
pub use panics::despite_panics;
pub use reader::{Reader, StoredRow};
pub use room::{FULL, Room};
pub use verify::{Finding, Verified};
pub use write_set::{
    DeadLetter, Gap, IdempotencyRecord, LetterState, Notification, ParkedChange, ParkedTimer,
    PluginVersion, RowWrite, RuleRecord, RuleStatus, Subject, TableWrites, TimerWrite, WriteSet,
};

use room::Patient;
use tables::{FORMAT, meta};

/// The database's file in the data directory.
const FILE: &str = "store.redb";

/// The open store.
pub struct Store {
    database: Database,
    /// Its file; none if it isn't in one.
    file: Option<PathBuf>,
    room: Room,
    /// The catalog as last stored: commits need it for indexes.
    catalog: Mutex<Arc<Catalog>>,
}

impl Store {
    /// Refuses a file that has been emptied: a store gets its name when it is whole, so that one without bytes never was one, and
    /// would be taken for a new one.
    ///
    /// # Errors
    /// [`Error::Empty`], or why it can't be looked at.
    pub(crate) fn check_whole(file: &Path) -> Result<(), Error> {
        match std::fs::metadata(file).map_err(Error::io)?.len() {
            0 => Err(Error::Empty(file.to_owned())),
            _ => Ok(()),
        }
    }

    /// Opens the store in this directory, making both where they aren't there.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it; [`Error::NewerFormat`]; [`Error::NotAStore`]; or why the
    /// directory or the file can't be made or read.
    pub fn open(dir: &Path, limits: &Limits) -> Result<Self, Error> {
        despite_panics(|| Self::open_file(dir, limits))
    }

    fn open_file(dir: &Path, limits: &Limits) -> Result<Self, Error> {
        std::fs::create_dir_all(dir)
            .map_err(|error| Error::Database(format!("can't make {}: {error}", dir.display())))?;
        let file = Self::file(dir);
        let open = |path: &Path| -> Result<Self, Error> {
            let opening = |error| Error::opening(error, dir, path);
            let room = Room::default();
            let storage = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(|error| opening(redb::StorageError::Io(error).into()))?;
            let storage = redb::backends::FileBackend::new(storage).map_err(opening)?;
            let database = Database::builder()
                .set_cache_size(limits.store_cache_bytes)
                .create_with_backend(Patient::new(storage, room.clone()))
                .map_err(opening)?;
            Self::prepare(database, room, Some(file.clone()))
        };
        if Self::exists(dir) {
            Self::check_whole(&file)?;
            return open(&file);
        }
        // redb can't open a file that it had only begun to make: it gets its name when it is whole.
        let unfinished = tempfile::Builder::new()
            .prefix("store.redb.")
            .tempfile_in(dir)
            .map_err(Error::io)?
            .into_temp_path();
        let store = open(&unfinished)?;
        match unfinished.persist_noclobber(&file) {
            Ok(()) => sync_dir(dir)?,
            // Another process was quicker.
            Err(_) if Self::exists(dir) => return open(&file),
            Err(error) => return Err(Error::io(error.error)),
        }
        Ok(store)
    }

    /// Whether a directory holds a store.
    pub fn exists(dir: &Path) -> bool {
        Self::file(dir).is_file()
    }

    /// The store's file in a directory.
    pub fn file(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    /// The size of the store's file; 0 if it isn't in one.
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
        let database = Database::builder().create_with_backend(backend)?;
        Self::prepare(database, Room::default(), None)
    }

    /// A store on other storage than a file, for tests of what happens when that fails.
    ///
    /// # Errors
    /// As [`open`](Self::open), but nothing locks the storage.
    pub fn with_backend(backend: impl Backend, limits: &Limits) -> Result<Self, Error> {
        let room = Room::default();
        let storage = Patient::new(backend::Adapter(backend), room.clone());
        let database = Database::builder()
            .set_cache_size(limits.store_cache_bytes)
            .create_with_backend(storage)?;
        Self::prepare(database, room, None)
    }

    /// Whether there is room on its disk.
    pub fn room(&self) -> &Room {
        &self.room
    }

    fn prepare(database: Database, room: Room, file: Option<PathBuf>) -> Result<Self, Error> {
        let transaction = database.begin_read()?;
        let mut catalog = Catalog::default();
        let found = match transaction.open_table(tables::META) {
            Ok(meta_table) => {
                let found = commit::get_number(&meta_table, meta::FORMAT)?;
                if found > FORMAT {
                    return Err(Error::NewerFormat {
                        found,
                        known: FORMAT,
                    });
                }
                if found != 0 && found < FORMAT {
                    return Err(Error::OlderFormat { found });
                }
                catalog = reader::read_catalog(&meta_table)?;
                found
            }
            Err(redb::TableError::TableDoesNotExist(_)) => 0,
            Err(error) => return Err(error.into()),
        };
        if found == 0 && transaction.list_tables()?.next().is_some() {
            return Err(Error::Damaged(
                "it is a redb database without a format number: another program made it, or that is gone"
                    .into(),
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
            file,
            room,
            catalog: Mutex::new(Arc::new(catalog)),
        })
    }
}

/// Makes a file's new name durable.
fn sync_dir(dir: &Path) -> Result<(), Error> {
    if cfg!(unix) {
        let dir = std::fs::File::open(dir).map_err(Error::io)?;
        dir.sync_all().map_err(Error::io)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
