//! The clock by which guests are stopped: moves the engine's epoch on while guests run.
//!
//! Owns one thread. It ticks while there are calls and for a while after, then sleeps until the
//! next call, so that an idle host is idle. It ends when the [`Ticker`] is dropped.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use wasmtime::Engine;

/// How often the epoch moves on: the grain of a guest's time limits.
const TICK: Duration = Duration::from_millis(10);

/// Ticks without a call after which the thread sleeps.
const IDLE_TICKS_MAX: u32 = 100;

#[derive(Default)]
struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// Moves an engine's epoch on; shared by all its plugins.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts the thread.
    pub(super) fn start(engine: Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new().name("plugin-ticker".into()).spawn({
            let shared = Arc::clone(&shared);
            move || tick(&engine, &shared)
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Ticks for as long as the guard lives. Taken around every call into a guest.
    #[inline]
    pub(super) fn run(&self) -> Running<'_> {
        // With `asleep` this makes a pair of flags that each side sets before it reads the other's,
        // so at least one of them sees that there is work.
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
        Running(&self.shared.running)
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that stops plugins in time has panicked");
        }
    }
}

/// A call is running.
pub(super) struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The epochs after which a call that may take `limit_ms` has taken longer.
pub(super) fn ticks(limit_ms: u64) -> u64 {
    // One more, since the first tick may come at once.
    limit_ms.div_ceil(TICK.as_millis() as u64) + 1
}

fn tick(engine: &Engine, shared: &Shared) {
    let stopped = || shared.stop.load(Ordering::SeqCst);
    let mut idle_ticks = 0;
    while !stopped() {
        if shared.running.load(Ordering::SeqCst) > 0 {
            idle_ticks = 0;
        } else {
            idle_ticks += 1;
        }
        if idle_ticks > IDLE_TICKS_MAX {
            shared.asleep.store(true, Ordering::SeqCst);
            while shared.running.load(Ordering::SeqCst) == 0 && !stopped() {
                thread::park();
            }
            shared.asleep.store(false, Ordering::SeqCst);
            idle_ticks = 0;
        }
        // Parking may end early; a guest's time may not.
        let begun = Instant::now();
        while let Some(left) = TICK.checked_sub(begun.elapsed())
            && !left.is_zero()
            && !stopped()
        {
            thread::park_timeout(left);
        }
        engine.increment_epoch();
    }
}
