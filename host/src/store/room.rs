//! What happens when the disk is full: the write waits until there is room.
//!
//! Owns that wait. It lies below the database, so that a commit which finds no room just takes long: nothing has to be
//! undone, opened again or committed a second time, readers go on with the last commit, and whoever feeds the host feels
//! back-pressure. Only what can be made again without harm is: writing bytes to a place, and giving the file a length. That a
//! sync failed is passed on, as what was written before may be lost then.
//!
//! Where nobody waits (while the store opens, in commands that only read, once the host has to end) a full disk is an
//! error like any other, and leaves the store as after a crash.

use std::{
    fmt, io,
    ops::Bound,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redb::{BackendError, StorageBackend};

/// How often it is tried whether there is room again.
const TRY_EVERY: Duration = Duration::from_millis(200);

/// Whether there is room on the store's disk, and what is done while there is none; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Room(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    patience: Patience,
    /// Since when a write waits.
    full_since: Option<Instant>,
}

#[derive(Debug, Default, Clone, Copy)]
enum Patience {
    /// A full disk is an error.
    #[default]
    None,
    /// Until there is room,
    Endless,
    /// or until this moment.
    Until(Instant),
}

impl Room {
    /// From now on writes wait for room.
    pub fn wait(&self) {
        let mut state = self.state();
        if matches!(state.patience, Patience::None) {
            state.patience = Patience::Endless;
        }
    }

    /// Writes wait for room as long as this, all together, and then no more: for a host that has to end.
    pub fn wait_at_most(&self, time: Duration) {
        self.state().patience = Patience::Until(Instant::now() + time);
        self.0.changed.notify_all();
    }

    /// Since when a write waits because the disk is full; `None` if none does.
    pub fn full_since(&self) -> Option<Instant> {
        self.state().full_since
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock guards no data: each field is set whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes, again and again while there is no room.
    fn write(&self, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        loop {
            let error = match write() {
                Err(error) if is_full(&error) => error,
                result => {
                    self.has_room();
                    return result;
                }
            };
            if !self.wait_a_while(&error) {
                return Err(io::Error::new(io::ErrorKind::StorageFull, error));
            }
        }
    }

    fn has_room(&self) {
        let mut state = self.state();
        if let Some(since) = state.full_since.take() {
            let seconds = since.elapsed().as_secs();
            tracing::info!("there is room on the disk again, after {seconds} s: going on");
        }
    }

    /// Waits before the next try; false if there is no time left for one.
    fn wait_a_while(&self, error: &io::Error) -> bool {
        let mut state = self.state();
        let left = match state.patience {
            Patience::None => return false,
            Patience::Endless => TRY_EVERY,
            Patience::Until(end) => {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return false;
                }
                left.min(TRY_EVERY)
            }
        };
        if state.full_since.is_none() {
            state.full_since = Some(Instant::now());
            tracing::error!("{FULL} ({error})");
        }
        // Whatever woke it, the next try shows.
        let waited = self.0.changed.wait_timeout(state, left);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        true
    }
}

/// What is said of a full disk.
pub const FULL: &str =
    "disk full: nothing can be stored, so no changes are taken until there is room";

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Storage on which writes wait for room.
pub(super) struct Patient<B> {
    storage: B,
    room: Room,
}

impl<B> Patient<B> {
    pub(super) fn new(storage: B, room: Room) -> Self {
        Self { storage, room }
    }
}

impl<B: fmt::Debug> fmt::Debug for Patient<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.storage.fmt(f)
    }
}

/// A range of bytes as redb names one for a lock.
type Place = Bound<u64>;

impl<B: StorageBackend> StorageBackend for Patient<B> {
    fn len(&self) -> io::Result<u64> {
        self.storage.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.storage.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room.write(|| self.storage.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.storage.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room.write(|| self.storage.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.storage.close()
    }

    fn try_lock_range(&self, start: Place, end: Place) -> Result<bool, BackendError> {
        self.storage.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Place, end: Place) -> Result<bool, BackendError> {
        self.storage.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Place, end: Place) -> Result<(), BackendError> {
        self.storage.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Place, end: Place) -> Result<(), BackendError> {
        self.storage.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Place, end: Place) -> Result<(), BackendError> {
        self.storage.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Place, end: Place) -> Result<bool, BackendError> {
        self.storage.query_lock_range(start, end)
    }
}
