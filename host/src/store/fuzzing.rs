//! The store's forms of rows and of the log's blocks, for the fuzzers in `tests/src/fuzzing`. No part of the library's
//! interface.
//!
//! Owns nothing but the way in: what is called is what commits and snapshots call.

use crate::change::{Change, Seq};

use super::{Error, StoredRow, log, reader};

/// The changes of a block of the log.
///
/// # Errors
/// If the bytes are no block.
pub fn read_block(bytes: &[u8]) -> Result<Vec<Change>, Error> {
    log::read_block(bytes)
}

/// The newest commit time that a block says it has.
///
/// # Errors
/// If the bytes don't begin as a block does.
pub fn block_newest(bytes: &[u8]) -> Result<i64, Error> {
    log::block_newest(bytes)
}

/// The blocks, in order, of a write set that ends at this seq.
///
/// # Errors
/// If they can't be compressed.
pub fn write_blocks(last_seq: Seq, changes: &[Change]) -> Result<Vec<Vec<u8>>, Error> {
    let mut blocks = Vec::new();
    log::write_blocks(last_seq, changes, &mut Vec::new(), |_, block| {
        blocks.push(block.to_vec());
        Ok(())
    })?;
    Ok(blocks)
}

/// A row as it lies in the store, with who wrote it.
///
/// # Errors
/// If the bytes are none.
pub fn read_stored_row(bytes: &[u8]) -> Result<StoredRow, Error> {
    reader::stored_row(bytes)
}
