//! What a guest may use: its memory, its time, its reads, its lines of log.
//!
//! Owns the data of a guest's wasmtime store. The adapters of the WIT majors hand every import to it;
//! it charges the call's allowance and asks the [`StateAccess`] that was given for the call. What goes
//! wrong comes back as the [`Fault`] that [`fault`](Sandbox::fault) finds in wasmtime's error.

use std::sync::Arc;

use wasmtime::{ResourceLimiter, Trap};

use super::{
    panic,
    plugin::{Culprit, Fault, Found, Page, ScanRange, StateAccess},
};
use crate::limits::Limits;

/// Core instances of one plugin at the most. A wrapped module makes three.
const INSTANCES_MAX: usize = 64;
/// Tables, and memories, of one plugin at the most.
const TABLES_MAX: usize = 64;
/// What one element of a table takes in the host.
const TABLE_ELEMENT_BYTES: usize = 16;
/// A line of log, a panic's message or an error's, in bytes, at the most; the rest is cut.
const MESSAGE_BYTES_MAX: usize = 8 << 10;
/// What a guest may hand over in one call or return, in bytes, even where its effects may be less.
const TRANSFER_BYTES_MIN: usize = 16 << 20;

/// How serious a guest's line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// For the author.
    Debug,
    /// Worth knowing.
    Info,
    /// Something to look at.
    Warn,
    /// Something is wrong.
    Error,
}

/// A limit by its name.
pub(super) type Limit = (&'static str, u64);

/// The data of a guest's store.
pub(super) struct Sandbox {
    plugin: Arc<str>,
    limits: Arc<Limits>,
    memory_bytes: usize,
    time: Limit,
    state: Option<Arc<dyn StateAccess>>,
    reads_left: u64,
    log_lines: u64,
    panic: Option<String>,
    culprit: Option<Culprit>,
    saves: bool,
}

impl Sandbox {
    /// A sandbox for a new instance.
    pub(super) fn new(plugin: Arc<str>, limits: Arc<Limits>) -> Self {
        let time = ("plugin_describe_ms_max", limits.plugin_describe_ms_max);
        Self {
            plugin,
            limits,
            memory_bytes: 0,
            time,
            state: None,
            reads_left: 0,
            log_lines: 0,
            panic: None,
            culprit: None,
            saves: false,
        }
    }

    /// Begins a call: its allowances are whole again.
    pub(super) fn begin(&mut self, time: Limit, state: Option<Arc<dyn StateAccess>>) {
        self.time = time;
        self.reads_left = self.limits.state_reads_max;
        self.log_lines = 0;
        self.panic = None;
        self.culprit = None;
        self.state = state;
    }

    /// Ends a call: lets go of the state.
    pub(super) fn end(&mut self) {
        self.state = None;
        let dropped = self
            .log_lines
            .saturating_sub(self.limits.plugin_log_lines_max);
        if dropped > 0 {
            tracing::warn!(
                plugin = %self.plugin,
                "dropped {dropped} log lines of one call: limits.plugin_log_lines_max is {}",
                self.limits.plugin_log_lines_max
            );
        }
    }

    /// The bytes that wasmtime may copy out of the guest at once.
    pub(super) fn transfer_bytes_max(limits: &Limits) -> usize {
        limits.effects_bytes_max.max(TRANSFER_BYTES_MIN)
    }

    fn effects_limit(&self) -> Fault {
        Fault::LimitExceeded {
            limit: "effects_bytes_max",
            value: self.limits.effects_bytes_max as u64,
        }
    }

    fn memory_limit(&self) -> Fault {
        Fault::LimitExceeded {
            limit: "plugin_memory_bytes_max",
            value: self.limits.plugin_memory_bytes_max as u64,
        }
    }

    /// Refuses effects that are too large.
    pub(super) fn check_effects(&self, effects: &[u8]) -> Result<(), Fault> {
        if effects.len() > self.limits.effects_bytes_max {
            return Err(self.effects_limit());
        }
        Ok(())
    }

    /// The state to read `count` times.
    #[inline]
    pub(super) fn reads(&mut self, count: u64) -> Result<Arc<dyn StateAccess>, Fault> {
        let Some(state) = &self.state else {
            return Err(Fault::BadStateRead(
                "state can be read only while a batch is handled".into(),
            ));
        };
        match self.reads_left.checked_sub(count) {
            Some(left) => self.reads_left = left,
            None => {
                return Err(Fault::LimitExceeded {
                    limit: "state_reads_max",
                    value: self.limits.state_reads_max,
                });
            }
        }
        Ok(Arc::clone(state))
    }

    /// Adds an answer to those of the same call, which the guest must be able to hold.
    pub(super) fn collect(
        &self,
        found: Found,
        answers: &mut Vec<Found>,
        answer_bytes: &mut usize,
    ) -> Result<(), Fault> {
        *answer_bytes += found.row.as_ref().map_or(0, Vec::len) + size_of::<Found>();
        if *answer_bytes > self.limits.plugin_memory_bytes_max {
            return Err(self.memory_limit());
        }
        answers.push(found);
        Ok(())
    }

    /// A page of a scan.
    pub(super) fn scan(
        &mut self,
        table: u32,
        mut range: ScanRange,
        at: u64,
    ) -> Result<Page, Fault> {
        range.limit = range.limit.min(self.limits.scan_page_rows_max);
        self.reads(1)?.scan(table, &range, at)
    }

    /// Writes a guest's line to the host's log.
    pub(super) fn log(&mut self, level: Level, message: &str) {
        self.log_lines += 1;
        if self.log_lines > self.limits.plugin_log_lines_max {
            return;
        }
        let (plugin, message) = (&self.plugin, cut(message));
        match level {
            Level::Debug => tracing::debug!(%plugin, "{message}"),
            Level::Info => tracing::info!(%plugin, "{message}"),
            Level::Warn => tracing::warn!(%plugin, "{message}"),
            Level::Error => tracing::error!(%plugin, "{message}"),
        }
    }

    /// Keeps what a guest says before it traps.
    pub(super) fn panicked(&mut self, message: &str, at: Option<Culprit>) {
        self.panic = Some(panic::readable(cut(message)));
        self.culprit = at;
    }

    /// What the guest was at when it said that it traps.
    pub(super) fn culprit(&mut self) -> Option<Culprit> {
        self.culprit.take()
    }

    /// Whether the guest is to keep its effects call by call, from now on.
    pub(super) fn set_saving(&mut self, saves: bool) {
        self.saves = saves;
    }

    /// Whether it is.
    pub(super) fn saves(&self) -> bool {
        self.saves
    }

    /// Why a call ended early.
    pub(super) fn fault(&mut self, error: &wasmtime::Error) -> Fault {
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return fault.clone();
        }
        let panic = self.panic.take();
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => Fault::TimeOut {
                limit: self.time.0,
                value: self.time.1,
            },
            Some(Trap::StackOverflow) => {
                Fault::Trap("the call stack is exhausted: recursion that goes too deep".into())
            }
            Some(trap) => Fault::Trap(panic.unwrap_or_else(|| {
                let trap = trap.to_string();
                trap.strip_prefix("wasm trap: ").unwrap_or(&trap).to_owned()
            })),
            // wasmtime gives this one no type; a hostile guest in the tests pins the text.
            None if format!("{error:#}").contains("hostcalls has been exhausted") => {
                self.effects_limit()
            }
            None => Fault::Protocol(panic.unwrap_or_else(|| format!("{error:#}"))),
        }
    }

    fn grow(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
        unit_bytes: usize,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let bytes = desired.saturating_sub(current).saturating_mul(unit_bytes);
        let wanted = self.memory_bytes.saturating_add(bytes);
        if wanted > self.limits.plugin_memory_bytes_max {
            // A trap, not a refusal: guests abort on a refusal, and this says why.
            return Err(wasmtime::Error::new(self.memory_limit()));
        }
        self.memory_bytes = wanted;
        Ok(true)
    }
}

impl ResourceLimiter for Sandbox {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(current, desired, maximum, 1)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(current, desired, maximum, TABLE_ELEMENT_BYTES)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        TABLES_MAX
    }
}

/// As much of a text as is kept.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MESSAGE_BYTES_MAX)]
}
