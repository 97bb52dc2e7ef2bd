//! The part of an input that is in memory: read, and not yet used.

use std::io::{self, Read};

/// Bytes asked for at once.
pub(super) const READ_BYTES: usize = 256 << 10;
/// More memory than this isn't kept for later once what needed it has gone.
const KEPT_BYTES: usize = 4 * READ_BYTES;

/// Bytes of an input from a place on. What has been used is dropped when more is read, so that the front isn't
/// moved for each batch.
#[derive(Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    used: usize,
}

impl Window {
    /// Read, and not yet used.
    pub(super) fn unused(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    /// These bytes at the front have been used.
    pub(super) fn take(&mut self, len: usize) {
        self.used += len;
        debug_assert!(self.used <= self.bytes.len(), "used what isn't there");
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.used = 0;
    }

    /// Reads until as much has come as is asked for at once, or the input has no more now; gives how much.
    pub(super) fn fill(&mut self, input: &mut impl Read) -> io::Result<usize> {
        self.make_room();
        input.take(READ_BYTES as u64).read_to_end(&mut self.bytes)
    }

    /// Takes what the input has now.
    pub(super) fn fill_some(&mut self, input: &mut impl Read) -> io::Result<usize> {
        self.make_room();
        let start = self.bytes.len();
        self.bytes.resize(start + READ_BYTES, 0);
        let read = input.read(&mut self.bytes[start..]);
        self.bytes.truncate(start + *read.as_ref().unwrap_or(&0));
        read
    }

    /// The memory it takes.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    fn make_room(&mut self) {
        self.bytes.drain(..self.used);
        self.used = 0;
        if self.bytes.capacity() > KEPT_BYTES && self.bytes.len() < READ_BYTES {
            self.bytes.shrink_to(KEPT_BYTES);
        }
        self.bytes.reserve(READ_BYTES);
    }
}
