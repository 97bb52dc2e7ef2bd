//! What happens when the disk is full: the commit waits until there is room.
//!
//! Owns that wait. It lies below the database, so that a commit which finds no room just takes long: nothing has to be
//! undone, opened again or committed a second time, readers go on with the last commit, and whoever feeds the host feels
//! back-pressure.
//!
//! The database writes under locks that readers need too, so a write mustn't wait. One that finds no room is kept in
//! memory, with all that follow it, and it is the sync which writes them, and waits. A commit has two syncs and is in the
//! store with the second, so nothing counts before it lies on the disk; and no more than one commit's pages are kept. That a
//! sync itself failed is passed on, as what was written before may be lost then.
//!
//! Where nobody waits (while the store opens, in commands that only read, once the host has to end) a full disk is an
//! error like any other, and leaves the store as after a crash.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt, io,
    ops::Bound,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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
    /// Since when a commit waits.
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
    /// From now on commits wait for room.
    pub fn wait(&self) {
        let mut state = self.state();
        if matches!(state.patience, Patience::None) {
            state.patience = Patience::Endless;
        }
    }

    /// Commits wait for room as long as this, all together, and then no more: for a host that has to end.
    pub fn wait_at_most(&self, time: Duration) {
        self.state().patience = Patience::Until(Instant::now() + time);
        self.0.changed.notify_all();
    }

    /// Since when a commit waits because the disk is full; `None` if none does.
    pub fn full_since(&self) -> Option<Instant> {
        self.state().full_since
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock guards no data: each field is set whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waits(&self) -> bool {
        !matches!(self.state().patience, Patience::None)
    }

    /// Writes, again and again while there is no room.
    fn write(&self, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        loop {
            let error = match write() {
                Err(error) if is_full(&error) => error,
                result => return result,
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

/// What is kept at a time of what found no room.
pub(super) const PAGE_BYTES: u64 = 4096;

/// Storage whose syncs wait for room.
pub(super) struct Patient<B> {
    storage: B,
    room: Room,
    /// What has found no room, by page; each as long as the storage is there.
    kept: Mutex<BTreeMap<u64, Vec<u8>>>,
    /// Whether there is any: nearly never, and then nothing is locked.
    keeps: AtomicBool,
    /// Whether the last that was done was to give the storage its length.
    resized: AtomicBool,
}

impl<B: StorageBackend> Patient<B> {
    pub(super) fn new(storage: B, room: Room) -> Self {
        Self {
            storage,
            room,
            kept: Mutex::default(),
            keeps: AtomicBool::new(false),
            resized: AtomicBool::new(false),
        }
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<u8>>> {
        // Nothing that holds it can panic between two changes that belong together.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps bytes until there is room.
    fn keep(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut kept = self.kept();
        let size = self.storage.len()?;
        let end = offset + data.len() as u64;
        for number in offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES) {
            let start = number * PAGE_BYTES;
            let page = match kept.entry(number) {
                Entry::Occupied(page) => page.into_mut(),
                Entry::Vacant(none) => {
                    let len = PAGE_BYTES.min(size.saturating_sub(start));
                    let mut page = vec![0; len as usize];
                    self.storage.read(start, &mut page)?;
                    none.insert(page)
                }
            };
            let from = offset.max(start);
            let to = end.min(start + page.len() as u64);
            let place = (from - start) as usize..(to - start) as usize;
            page[place].copy_from_slice(&data[(from - offset) as usize..(to - offset) as usize]);
        }
        self.keeps.store(true, Ordering::Release);
        Ok(())
    }

    /// Writes what was kept, once there is room for it.
    fn write_kept(&self) -> io::Result<()> {
        // It is the one who writes that syncs, so nothing is added meanwhile; readers go on.
        let numbers: Vec<u64> = self.kept().keys().copied().collect();
        for number in numbers {
            let Some(page) = self.kept().get(&number).cloned() else {
                continue;
            };
            let offset = number * PAGE_BYTES;
            self.room.write(|| self.storage.write(offset, &page))?;
        }
        self.kept().clear();
        self.keeps.store(false, Ordering::Release);
        self.room.has_room();
        Ok(())
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
        if !self.keeps.load(Ordering::Acquire) {
            return self.storage.read(offset, out);
        }
        let kept = self.kept();
        self.storage.read(offset, out)?;
        let end = offset + out.len() as u64;
        for (number, page) in kept.range(offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES)) {
            let start = number * PAGE_BYTES;
            let from = offset.max(start);
            let to = end.min(start + page.len() as u64);
            if from < to {
                let place = (from - offset) as usize..(to - offset) as usize;
                let page = &page[(from - start) as usize..(to - start) as usize];
                out[place].copy_from_slice(page);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.storage.set_len(len)?;
        self.resized.store(true, Ordering::Release);
        if self.keeps.load(Ordering::Acquire) {
            let mut kept = self.kept();
            kept.retain(|number, _| number * PAGE_BYTES < len);
            for (number, page) in kept.iter_mut() {
                let most = PAGE_BYTES.min(len - number * PAGE_BYTES);
                page.resize(most as usize, 0);
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        // redb makes a new length durable in the middle of a transaction, of which nothing has to be on the disk yet, and
        // holds a lock meanwhile that readers need. Before a commit's syncs it always writes.
        let only_length = self.resized.load(Ordering::Acquire);
        if self.keeps.load(Ordering::Acquire) && !only_length {
            self.write_kept()?;
        }
        self.storage.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.resized.store(false, Ordering::Release);
        if !self.keeps.load(Ordering::Acquire) {
            match self.storage.write(offset, data) {
                Err(error) if is_full(&error) && self.room.waits() => {}
                result => return result,
            }
        }
        self.keep(offset, data)
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
