//! The disk under the simulated store: bytes that outlive every store over them, fail when told to, and lose
//! what wasn't synced when the power goes.
//!
//! Fault model: from some operation on everything fails, until it is mended. A process that dies leaves all that was written;
//! when the power goes, of the writes since the last sync any may be missing.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use rulemill::store::Backend;
use rulemill_tests::random::Random;

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// Writes since the last sync: offset, what was there, what is.
    unsynced: Vec<(usize, Vec<u8>, Vec<u8>)>,
    /// The length at the last sync.
    synced_len: usize,
    /// Operations until the disk fails; `None` if it won't.
    left: Option<u64>,
    failed: bool,
}

/// The disk; copies are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// Everything fails after this many operations more.
    pub(crate) fn fail_after(&self, operations: u64) {
        self.state().left = Some(operations);
    }

    /// Whether an operation has failed since it was mended.
    pub(crate) fn has_failed(&self) -> bool {
        self.state().failed
    }

    /// Nothing gets through any more, as for a process that is dead.
    pub(crate) fn kill(&self) {
        let mut state = self.state();
        state.left = Some(0);
    }

    /// It works again.
    pub(crate) fn mend(&self) {
        let mut state = self.state();
        state.left = None;
        state.failed = false;
    }

    /// Loses some of the writes since the last sync.
    pub(crate) fn lose_power(&self, random: &mut Random) {
        let mut state = self.state();
        let unsynced = std::mem::take(&mut state.unsynced);
        for (offset, before, _) in unsynced.iter().rev() {
            state.bytes[*offset..offset + before.len()].copy_from_slice(before);
        }
        // Everything, nothing, or every other.
        let keep = random.below(3);
        for (offset, _, after) in unsynced {
            if keep == 0 || (keep == 1 && random.one_in(2)) {
                state.bytes[offset..offset + after.len()].copy_from_slice(&after);
            }
        }
        // A file that has become longer may have kept its length: that is written with the metadata.
        if random.one_in(2) && state.synced_len < state.bytes.len() && keep == 2 {
            let len = state.synced_len;
            state.bytes.truncate(len);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn operation(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        match &mut state.left {
            Some(0) => {
                state.failed = true;
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(left) => {
                *left -= 1;
                Ok(state)
            }
            None => Ok(state),
        }
    }
}

impl Backend for Disk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.operation()?.bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.operation()?;
        let start = offset as usize;
        match state.bytes.get(start..start + out.len()) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    fn resize(&self, len: u64) -> io::Result<()> {
        let mut state = self.operation()?;
        // What is cut off can't be lost any more.
        state
            .unsynced
            .retain(|(offset, before, _)| (offset + before.len()) as u64 <= len);
        state.bytes.resize(len as usize, 0);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.operation()?;
        let start = offset as usize;
        let place = start..start + data.len();
        let before = state.bytes[place.clone()].to_vec();
        state.bytes[place].copy_from_slice(data);
        state.unsynced.push((start, before, data.to_vec()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.operation()?;
        state.unsynced.clear();
        state.synced_len = state.bytes.len();
        Ok(())
    }
}
