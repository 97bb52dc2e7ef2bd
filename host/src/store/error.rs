//! What can go wrong with the store.

use std::path::PathBuf;

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
    /// Something in it is not what it must be.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// There is no room left.
    #[error("the disk is full")]
    Full,
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(String),
}

impl From<redb::Error> for Error {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => Self::Full,
            redb::Error::Corrupted(what) => Self::Damaged(what),
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
