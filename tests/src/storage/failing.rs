//! A disk of which one operation fails.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rulemill::store::Backend;

/// How the operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// With an error of the disk.
    Error,
    /// There is no room: only what writes can fail so.
    Full,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    done: u64,
    fails_at: Option<(u64, Failure)>,
    failed: bool,
}

/// The disk; clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct FailingDisk(Arc<Mutex<State>>);

impl FailingDisk {
    /// A disk that holds these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State {
            bytes,
            ..State::default()
        })))
    }

    /// Lets the n-th operation from now fail (from 0), and no other.
    pub fn fail_at(&self, number: u64, failure: Failure) {
        let mut state = self.state();
        state.fails_at = Some((state.done + number, failure));
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.state().done
    }

    /// Whether the one that should fail has.
    pub fn has_failed(&self) -> bool {
        self.state().failed
    }

    /// What it holds.
    pub fn bytes(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, writes: bool) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        let now = state.done;
        state.done += 1;
        let Some((_, failure)) = state.fails_at.filter(|&(at, failure)| {
            // Where this one can't fail so, the next that can does.
            !state.failed && now >= at && (writes || failure == Failure::Error)
        }) else {
            return Ok(state);
        };
        state.failed = true;
        Err(match failure {
            Failure::Error => io::Error::other("the disk failed"),
            Failure::Full => io::ErrorKind::StorageFull.into(),
        })
    }
}

impl Backend for FailingDisk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.step(false)?.bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.step(false)?;
        let start = offset as usize;
        let found = state.bytes.get(start..start + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn resize(&self, len: u64) -> io::Result<()> {
        self.step(true)?.bytes.resize(len as usize, 0);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.step(true)?;
        let start = offset as usize;
        let Some(to) = state.bytes.get_mut(start..start + data.len()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        to.copy_from_slice(data);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.step(true).map(drop)
    }
}
