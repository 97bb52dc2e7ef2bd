//! The plain data that passes between the stages.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{catalog::TableId, row::Row};

/// The host's own number for a change: one order over all sources. The first is 1.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The one that follows.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key in key form (see `rulemill_wire::key`): addresses a row in its table.
pub type Key = Bytes;

/// What a source says happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawOp {
    /// A row came to be.
    Insert,
    /// A row changed.
    Update,
    /// A row came to be or changed.
    Upsert,
    /// A row went.
    Delete,
    /// All rows of the table went.
    Truncate,
    /// A row of a source's own snapshot.
    Read,
}

/// A change as a source's decoder hands it over: not yet numbered, not yet held against the mirror.
#[derive(Debug, Clone)]
pub struct RawChange {
    /// The table.
    pub table: TableId,
    /// What the source says happened.
    pub op: RawOp,
    /// The key of the row: of `after`, else of `before`. Empty for a truncate.
    pub key: Key,
    /// The key before, where the change moved the row to another one.
    pub old_key: Option<Key>,
    /// The row before, where the source gave it whole and no mirror knows it.
    pub before: Option<Row>,
    /// The row after.
    pub after: Option<Row>,
    /// Whether the source's table has changed: `after` leaves out a column that a row type or the configuration names, where null would
    /// have been said as null, or has one of another type, as the source says itself.
    pub lacks: bool,
    /// The commit time that the source gave, in microseconds since 1970.
    pub time: Option<i64>,
}

/// What happened to a row, once held against the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// There was no row with this key, now there is.
    Insert,
    /// The row with this key is another now.
    Update,
    /// There was a row with this key, now there is none.
    Delete,
}

impl Op {
    /// What led from one state of a row to the next.
    pub fn between<B, A>(before: &Option<B>, after: &Option<A>) -> Self {
        match (before, after) {
            (None, _) => Self::Insert,
            (Some(_), Some(_)) => Self::Update,
            (Some(_), None) => Self::Delete,
        }
    }
}

/// A numbered change: what rules see, what the log keeps.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its place in the order of all. Changes of derived tables bear the number of the source change behind them, if the
    /// rule that made them was at the head; else one of their own.
    pub seq: Seq,
    /// The source change behind it: `seq`, or for what a rule derived behind the head an earlier one. Lookups show
    /// other tables as of it, and rows name it as what wrote them.
    pub cause: Seq,
    /// The table.
    pub table: TableId,
    /// What happened.
    pub op: Op,
    /// The row's key.
    pub key: Key,
    /// The row before; none for an insert (and where there is no mirror to know it from).
    pub before: Option<Row>,
    /// The row after; none for a delete.
    pub after: Option<Row>,
    /// The commit time, in microseconds since 1970.
    pub time: i64,
}

/// How a source names a place in itself. Its bytes mean something only to that source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Which part of the source: for `files` a file's name; empty where there is only one.
    pub part: String,
    /// The place.
    pub bytes: Vec<u8>,
}

/// Input that could not be taken, as kept in the dead letters of its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadInput {
    /// Where it stood: for a file its name; for HTTP the request.
    pub origin: String,
    /// The line, from 1; 0 if it isn't known any more.
    pub line: u64,
    /// The offset of its first byte in the file or request.
    pub offset_bytes: u64,
    /// What is wrong and how to mend it.
    pub reason: String,
    /// The input, or as much of it as `bad_input_bytes_max` keeps, with invalid UTF-8 replaced.
    pub text: String,
    /// Whether `text` was cut.
    pub cut: bool,
}

/// What became of a batch once it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The last seq that the store holds with it.
    pub seq: Seq,
    /// Changes taken (0 where the request had been taken before).
    pub changes: u64,
    /// Whether the idempotency key had been seen before, so that nothing was applied again.
    pub repeated: bool,
}

/// Why a batch was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    /// The host is stopping or has failed; the store doesn't hold the batch.
    #[error("the host is stopping: {0}")]
    Stopped(Arc<str>),
    /// The idempotency key was used before with another body.
    #[error("the idempotency key was used before with another body: use a new key for new changes")]
    KeyReused,
}

/// Called once with what became of a batch, after it is durable or refused; from the committer's or
/// the engine's thread, so it must not block.
pub type Done = Box<dyn FnOnce(Result<Receipt, Refused>) + Send>;

/// A retry-safe request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The client's key.
    pub key: String,
    /// SHA-256 of the request's body.
    pub body_hash: [u8; 32],
}

/// Whole source transactions, decoded, with the place up to which they reach.
pub struct SourceBatch {
    /// The source's name in the configuration; `http` for posted changes.
    pub source: Arc<str>,
    /// The changes in order. The batch is applied whole: no reader sees half of it.
    pub changes: Vec<RawChange>,
    /// Input between them that could not be taken.
    pub bad: Vec<BadInput>,
    /// How far the source has been read once this batch is durable.
    pub positions: Vec<Position>,
    /// Bytes of input behind the batch, for limits and metrics.
    pub input_bytes: usize,
    /// The request's idempotency key.
    pub idempotency: Option<Idempotency>,
    /// Who wants to know.
    pub done: Option<Done>,
}

impl fmt::Debug for SourceBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceBatch")
            .field("source", &self.source)
            .field("changes", &self.changes.len())
            .field("bad", &self.bad.len())
            .field("positions", &self.positions)
            .finish_non_exhaustive()
    }
}
