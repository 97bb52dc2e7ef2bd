//! What can go wrong with the store.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why the store can't be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error(
        "the data directory {} is in use by another rulemill: stop that one, or give this one a data_dir of its own",
        .0.display()
    )]
    Locked(PathBuf),
    /// A newer rulemill wrote it.
    #[error(
        "the store has format {found}, and this rulemill reads up to format {known}: use the newer rulemill"
    )]
    NewerFormat {
        /// The store's format.
        found: u64,
        /// The newest that is known here.
        known: u64,
    },
    /// It was written before the first release.
    #[error(
        "the store has format {found}, which was never released and can't be read any more: give this rulemill another data_dir and read the sources again"
    )]
    OlderFormat {
        /// The store's format.
        found: u64,
    },
    /// The file is no store.
    #[error(
        "{} is not a store of rulemill, or no longer begins like one: move it away, or give this rulemill another data_dir",
        .0.display()
    )]
    NotAStore(PathBuf),
    /// The file is there and has no bytes.
    #[error(
        "the store is damaged: {} is empty: put a copy of it back, or move it away to begin with an empty store",
        .0.display()
    )]
    Empty(PathBuf),
    /// Something in it is not what it must be.
    #[error("the store is damaged: {0}; `rulemill verify` says what else is")]
    Damaged(String),
    /// There is no room left.
    #[error("the disk is full: make room, then start again")]
    Full,
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(String),
}

impl Error {
    /// Why the file at `path` in the data directory `dir` couldn't be opened.
    pub(super) fn opening(error: redb::DatabaseError, dir: &Path, path: &Path) -> Self {
        match error {
            redb::DatabaseError::DatabaseAlreadyOpen => Self::Locked(dir.to_owned()),
            redb::DatabaseError::Storage(redb::StorageError::Io(error))
                if error.kind() == io::ErrorKind::InvalidData =>
            {
                Self::NotAStore(path.to_owned())
            }
            error => error.into(),
        }
    }

    /// What is wrong, for a list of all that is: without the advice to have one made.
    pub fn finding(&self) -> String {
        match self {
            Self::Damaged(what) => what.clone(),
            error => error.to_string(),
        }
    }

    pub(super) fn io(error: io::Error) -> Self {
        redb::StorageError::Io(error).into()
    }
}

impl From<redb::Error> for Error {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => Self::Full,
            redb::Error::PreviousIo => {
                Self::Database("an earlier error of the disk has closed it: start again".to_owned())
            }
            redb::Error::Corrupted(what) => Self::Damaged(what),
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                Self::Damaged("its file doesn't begin like a store's".to_owned())
            }
            redb::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Damaged("its file ends too early".to_owned())
            }
            error => Self::Database(error.to_string()),
        }
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for Error {
            fn from(error: redb::$error) -> Self {
                redb::Error::from(error).into()
            }
        }
    )*};
}

from_redb!(
    CommitError,
    CursorError,
    DatabaseError,
    StorageError,
    TableError,
    TransactionError
);

impl From<rulemill_wire::DecodeError> for Error {
    fn from(error: rulemill_wire::DecodeError) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<postcard::Error> for Error {
    fn from(error: postcard::Error) -> Self {
        Self::Damaged(format!("a record: {error}"))
    }
}
