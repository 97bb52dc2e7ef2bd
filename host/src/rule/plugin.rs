//! What the engine knows of a plugin, whatever runs it: WebAssembly, or the same rules compiled
//! into the host (the benchmark's control).

use std::{fmt, sync::Arc};

use rulemill_wire::manifest::Manifest;

/// SHA-256 of a plugin file's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PluginHash(pub [u8; 32]);

impl fmt::Display for PluginHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PluginHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PluginHash({self})")
    }
}

/// A plugin that is compiled, checked and described; makes instances.
pub trait Plugin: Send + Sync {
    /// What it says of itself.
    fn manifest(&self) -> &Manifest;

    /// SHA-256 of its file.
    fn hash(&self) -> PluginHash;

    /// Its file's bytes.
    fn code(&self) -> Arc<[u8]>;

    /// A fresh instance that has been described and is ready for batches.
    ///
    /// # Errors
    /// A fault if it traps, exceeds its limits, or describes itself otherwise than when it was loaded.
    fn instantiate(&self) -> Result<Box<dyn Instance>, Fault>;
}

/// A running plugin, with its own memory.
pub trait Instance: Send {
    /// Hands over a batch (`rulemill_wire::batch`) and returns the effects' bytes
    /// (`rulemill_wire::effects`), not yet checked. Lets go of `state` before it returns.
    ///
    /// # Errors
    /// A fault; the instance must then be dropped.
    fn apply(&mut self, batch: &[u8], state: Arc<dyn StateAccess>) -> Result<Vec<u8>, Fault>;

    /// How long the next calls may take, in milliseconds.
    fn set_time(&mut self, _ms_max: u64) {}

    /// Whether the next calls are to keep what each call of a rule has done, to be had even if a later one panics.
    fn set_saving(&mut self, _saves: bool) {}

    /// After a fault: what the instance was at, if it said so itself. Asking takes it away.
    fn culprit(&mut self) -> Option<Culprit> {
        None
    }
}

/// What a guest was at when it panicked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Culprit {
    /// The item's place in the batch.
    pub item: u32,
    /// The rule's number in the manifest; another one for a timer that came due inside the batch.
    pub rule: u32,
    /// The effects of all calls of rules before it, if they were kept; not yet checked.
    pub done: Option<Vec<u8>>,
}

/// Why a call into a plugin ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It trapped: the trap, with the panic's message where it gave one.
    #[error("trapped: {0}")]
    Trap(String),
    /// It ran longer than its limit.
    #[error("ran longer than limits.{limit} = {value}")]
    TimeOut {
        /// The limit's name.
        limit: &'static str,
        /// Its value.
        value: u64,
    },
    /// It wanted more memory, table entries or bytes than its limit.
    #[error("exceeded limits.{limit} = {value}")]
    LimitExceeded {
        /// The limit's name.
        limit: &'static str,
        /// Its value.
        value: u64,
    },
    /// It asked for state that it may not read, or with a key that is none.
    #[error("asked for state that it may not read: {0}")]
    BadStateRead(String),
    /// It looked up a row that the row type it declared doesn't take.
    #[error("looked up a row that doesn't fit its row type: {0}")]
    UnfitRow(String),
    /// It could not read its batch, or returned what is no effects.
    #[error("broke the plugin interface: {0}")]
    Protocol(String),
    /// The store failed while the guest was reading it: not the guest's fault.
    #[error("the store failed during a state read: {0}")]
    Store(String),
}

/// Why a file is refused as a plugin; the one that ran before goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It can't be compiled: no Wasm, truncated, or invalid.
    #[error("is no valid WebAssembly: {0}")]
    Invalid(String),
    /// It is WebAssembly, but not what a plugin has to be.
    #[error("is no plugin: {0}")]
    NotAPlugin(String),
    /// It imports what a rule may not have.
    #[error(
        "imports {0}, but a rule can only compute: it has no files, network, clock or randomness"
    )]
    ForbiddenImport(String),
    /// It was built for a plugin interface that this host doesn't speak.
    #[error("{0}")]
    Version(String),
    /// It faulted while describing itself.
    #[error("faulted while describing itself: {0}")]
    Describe(Fault),
    /// It refused its configuration.
    #[error("refused its configuration: {0}")]
    Config(String),
    /// Its manifest contradicts itself or a limit.
    #[error("describes itself wrongly: {0}")]
    Manifest(String),
    /// The file can't be read, or is larger than its limit.
    #[error("can't be read: {0}")]
    File(String),
}

/// A row as a guest reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The row in wire form; `None` if there is none.
    pub row: Option<Vec<u8>>,
    /// The first seq of the batch at which the answer may be another; `u64::MAX` if none.
    pub until: u64,
}

/// A range that a guest scans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanRange {
    /// The index's place in the manifest's table; `None` to go by key.
    pub index: Option<u32>,
    /// Inclusive lower bound, key form.
    pub from: Vec<u8>,
    /// Exclusive upper bound; `None` for none.
    pub to: Option<Vec<u8>>,
    /// From the end to the beginning.
    pub descending: bool,
    /// Rows at the most.
    pub limit: u32,
}

/// Rows of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// How many.
    pub count: u32,
    /// The rows in wire form, one after the other.
    pub rows: Vec<u8>,
    /// Where to go on (ascending: the next `from`; descending: the next `to`).
    pub next: Option<Vec<u8>>,
}

/// The state that a plugin may read during one call, by its manifest's table numbers. The engine
/// implements it for one plugin and one batch.
pub trait StateAccess: Send + Sync {
    /// The row with this key, as of the change `at` (its own tables: as before the batch).
    ///
    /// # Errors
    /// [`Fault::BadStateRead`] for a table that isn't the plugin's to read, [`Fault::UnfitRow`] for a row that isn't as it declared
    /// the table, [`Fault::Store`] if the store fails.
    fn get(&self, table: u32, key: &[u8], at: u64) -> Result<Found, Fault>;

    /// The first rows of a range.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn scan(&self, table: u32, range: &ScanRange, at: u64) -> Result<Page, Fault>;
}
