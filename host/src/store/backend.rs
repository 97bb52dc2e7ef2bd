//! Where the database's bytes lie, if not in a file: a narrow door for tests that lose power or fill the disk.
//!
//! Owns the trait and its translation to redb's. It keeps no bytes itself.

use std::{fmt::Debug, io};

/// Storage under a store, as one growing array of bytes.
///
/// What was written is durable after [`sync`](Self::sync); before that any part of it may be lost.
pub trait Backend: Debug + Send + Sync + 'static {
    /// Its length in bytes.
    ///
    /// # Errors
    /// If the storage fails.
    fn size(&self) -> io::Result<u64>;

    /// Fills `out` from this offset.
    ///
    /// # Errors
    /// If the storage fails or ends before.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Cuts it or extends it with zeros.
    ///
    /// # Errors
    /// If the storage fails.
    fn resize(&self, len: u64) -> io::Result<()>;

    /// Writes at this offset.
    ///
    /// # Errors
    /// If the storage fails.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes all that was written durable.
    ///
    /// # Errors
    /// If the storage fails.
    fn sync(&self) -> io::Result<()>;
}

/// Gives redb a [`Backend`].
#[derive(Debug)]
pub(super) struct Adapter<B>(pub(super) B);

impl<B: Backend> redb::StorageBackend for Adapter<B> {
    fn len(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.resize(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
