//! A disk with little room.
//!
//! Like a file system it gives a file any length, and room only to the pages that are written: so it is a write in the
//! middle of a commit that finds none, and part of that write may be there.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rulemill::store::Backend;

/// Room is given in pages of this size.
const PAGE_BYTES: usize = 4096;

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// Pages that have room.
    pages: BTreeSet<usize>,
    pages_max: usize,
    refused: u64,
}

/// The disk; clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SmallDisk(Arc<Mutex<State>>);

impl SmallDisk {
    /// An empty disk with room for so many pages of 4096 bytes.
    pub fn new(pages_max: usize) -> Self {
        let disk = Self::default();
        disk.set_room(pages_max);
        disk
    }

    /// Gives it room for so many pages; what is written stays.
    pub fn set_room(&self, pages_max: usize) {
        self.state().pages_max = pages_max;
    }

    /// How many pages have been written.
    pub fn pages(&self) -> usize {
        self.state().pages.len()
    }

    /// How often there was no room.
    pub fn refused(&self) -> u64 {
        self.state().refused
    }

    /// What it holds.
    pub fn bytes(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for SmallDisk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let start = offset as usize;
        let found = state.bytes.get(start..start + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn resize(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        let len = len as usize;
        state.bytes.resize(len, 0);
        state.pages.retain(|page| page * PAGE_BYTES < len);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let start = offset as usize;
        let end = start + data.len();
        if end > state.bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut at = start;
        while at < end {
            let page = at / PAGE_BYTES;
            if !state.pages.contains(&page) {
                if state.pages.len() >= state.pages_max {
                    state.refused += 1;
                    return Err(io::ErrorKind::StorageFull.into());
                }
                state.pages.insert(page);
            }
            let to = end.min((page + 1) * PAGE_BYTES);
            state.bytes[at..to].copy_from_slice(&data[at - start..to - start]);
            at = to;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
