//! The store: everything that must survive, in one redb database.
//!
//! Owns the database file, its tables and their byte formats. The committer writes it, a whole group
//! of [`WriteSet`]s in one transaction; everyone else reads snapshots. It never decides what to
//! write. When a write fails the transaction is gone as if it had never begun.
//!
//! Nothing outside this module names redb.

mod write_set;

/// The open store.
pub struct Store {}

pub use write_set::{
    DeadLetter, IdempotencyRecord, Notification, PluginVersion, RowWrite, RuleRecord, RuleStatus,
    TableWrites, TimerWrite, WriteSet,
};
