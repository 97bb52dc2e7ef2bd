//! What a commit holds: the engine makes write sets, the committer merges and stores them.

use std::sync::Arc;

use rulemill_wire::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    catalog::{Catalog, TableId},
    change::{BadInput, Change, Done, Key, Op, Position, Receipt, Seq},
    row::Row,
};

/// All that one batch moves. Write sets are stored in the order of their seqs; several may share
/// one transaction.
#[derive(Default)]
pub struct WriteSet {
    /// The last seq that the store holds once this is in (the one before it, if there are no changes).
    pub last_seq: Seq,
    /// The latest commit time seen so far, in microseconds: how far timers have come.
    pub watermark: i64,
    /// The host's clock when a change or a timer moved it there, in microseconds.
    pub watermark_clock: i64,
    /// Rows written by rules, each key at most once a table.
    pub tables: Vec<TableWrites>,
    /// The changes for the log: those of sources in seq order, then those of derived tables in the
    /// order of their tables' levels. Those of tables with a mirror are written to the mirror too.
    pub log: Vec<Change>,
    /// Where each source has come to.
    pub positions: Vec<(Arc<str>, Position)>,
    /// Input that could not be taken, by source.
    pub bad_input: Vec<(Arc<str>, BadInput)>,
    /// Idempotency keys taken with this batch.
    pub idempotency: Vec<IdempotencyRecord>,
    /// The catalog, if it has changed since it was last stored.
    pub catalog: Option<Arc<Catalog>>,
    /// Rules whose state has changed.
    pub rules: Vec<RuleRecord>,
    /// Rules that are gone, by plugin and name.
    pub removed_rules: Vec<(String, String)>,
    /// Plugin versions that begin to run with this batch.
    pub plugin_versions: Vec<PluginVersion>,
    /// Timers set, moved and cleared.
    pub timers: Vec<TimerWrite>,
    /// Notifications for the outbox.
    pub notifications: Vec<Notification>,
    /// Changes and timers parked for a rule.
    pub dead_letters: Vec<DeadLetter>,
    /// Those that are settled: retried with success, or dropped.
    pub settled_dead_letters: Vec<u64>,
    /// Rows that rules have missed changes of, or no longer have.
    pub gaps: Vec<Gap>,
    /// Who is told once this is durable.
    pub done: Vec<(Done, Receipt)>,
}

/// Rows written to one table.
#[derive(Debug)]
pub struct TableWrites {
    /// The table.
    pub table: TableId,
    /// The generation written to.
    pub generation: u32,
    /// The rows, in any order.
    pub rows: Vec<RowWrite>,
}

/// One row written or removed.
#[derive(Debug, Clone)]
pub struct RowWrite {
    /// The row's key.
    pub key: Key,
    /// The row before this write set, for the indexes; left out for tables without one.
    pub before: Option<Row>,
    /// The row; `None` removes it.
    pub after: Option<Row>,
    /// The change that wrote it.
    pub seq: Seq,
    /// The plugin version that wrote it; 0 for a row that came from a source.
    pub version: u32,
}

/// A request that must not be applied twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRecord {
    /// The client's key.
    pub key: String,
    /// SHA-256 of the request's body.
    pub body_hash: [u8; 32],
    /// What it was answered.
    pub seq: Seq,
    /// Changes it applied.
    pub changes: u64,
    /// When it was taken, for retention: microseconds since 1970, host clock.
    pub taken_at: i64,
}

/// A rule as the store knows it; its key is plugin and rule name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRecord {
    /// The plugin.
    pub plugin: String,
    /// The rule.
    pub rule: String,
    /// Whether it runs.
    pub status: RuleStatus,
    /// The seq up to which it has processed its input, if it isn't at the head.
    pub cursor: Seq,
    /// Of the changes of its input with the seq behind the cursor: how many it has processed too. Only changes of derived
    /// tables share a seq.
    pub cursor_changes: u32,
    /// The latest commit time up to the cursor, in microseconds: how far time has come for its timers.
    pub cursor_watermark: i64,
    /// Whether the rule stands at the head, so that its true cursor is the store's last seq.
    pub at_head: bool,
    /// While the rule takes over the rows that were there before it: the key up to which it has
    /// read them. It handles the changes of keys up to here, and will read the others as they then are.
    pub backfill: Option<Vec<u8>>,
    /// While the rule is told how a rebuilt table differs from the one that served before: that one. `backfill` is then the
    /// key up to which it has been told.
    pub replaced: Option<TableId>,
    /// The plugin version that it last ran with.
    pub version: u32,
    /// Changes handled, ever.
    pub changes: u64,
    /// Changes that it faulted on, ever.
    pub faults: u64,
    /// The last fault's message.
    pub last_error: Option<String>,
}

/// Whether a rule runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleStatus {
    /// It handles changes.
    Running,
    /// An operator has stopped it; its cursor stays.
    Paused,
    /// `on_error = "halt"`, or something that a person must decide: the reason.
    Halted(String),
    /// The host has paused it, since going on would only do harm: the reason.
    Tripped(String),
    /// Its plugin's file is gone; its tables stay.
    Unloaded,
}

/// A plugin's code as it ran from some seq on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginVersion {
    /// The store's number for this version, from 1; rows name it as their writer.
    pub id: u32,
    /// The plugin's name.
    pub plugin: String,
    /// SHA-256 of the file's bytes, under which the store keeps them.
    pub hash: [u8; 32],
    /// The version that the plugin says of itself.
    pub label: String,
    /// The first seq that it handled.
    pub from_seq: Seq,
    /// The file's bytes, stored once under their hash; empty when read back.
    #[serde(skip)]
    pub code: Arc<[u8]>,
}

/// A timer set, moved or cleared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerWrite {
    /// The plugin.
    pub plugin: String,
    /// The rule that it fires for.
    pub rule: String,
    /// Its key, unique in the rule.
    pub key: String,
    /// When it is due, in microseconds; `None` clears it.
    pub due: Option<i64>,
}

/// A notification in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// Its place in the outbox, given by the store at commit; 0 before.
    pub id: u64,
    /// The change that it is about.
    pub seq: Seq,
    /// The plugin that sent it.
    pub plugin: String,
    /// The rule that sent it.
    pub rule: String,
    /// Which notification of this rule for this change, and for the timers that came due before it, from 0; given when its write set is
    /// complete.
    pub ordinal: u32,
    /// Its topic.
    pub topic: String,
    /// A JSON document.
    pub body: String,
    /// The change's commit time, in microseconds.
    pub time: i64,
}

/// Why a change or a timer stands among the dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LetterState {
    /// The rule faulted on it; a retry or a drop settles it.
    Faulted,
    /// It waits behind a parked one of the same key.
    Waiting,
    /// `on_error = "skip"`: it is kept to be read, nothing waits for it.
    Skipped,
}

/// A row as a rule last saw it, where it was passed over since: the next change of the row comes to the rule with this as
/// the row before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The plugin.
    pub plugin: String,
    /// The rule.
    pub rule: String,
    /// The row's key.
    pub key: Vec<u8>,
    /// What the rule knows of the row: nothing (`Some(None)`), or the row; `None` where there is no gap any more.
    pub seen: Option<Option<Vec<u8>>>,
}

/// What is set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// A change of a row.
    Change(ParkedChange),
    /// A timer that came due.
    Timer(ParkedTimer),
}

/// A change that is set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedChange {
    /// The table.
    pub table: TableId,
    /// What happened.
    pub op: Op,
    /// The row's key.
    pub key: Vec<u8>,
    /// The row before.
    pub before: Option<Vec<u8>>,
    /// The row after.
    pub after: Option<Vec<u8>>,
}

/// A timer that is set aside: it isn't set any more, only fires when it is retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedTimer {
    /// Its key, unique in the rule among those that are set; of those that are parked several may share one.
    pub key: String,
    /// When it was due, in microseconds.
    pub due: i64,
}

impl Subject {
    /// What it weighs: its key and its rows.
    fn bytes(&self) -> usize {
        match self {
            Self::Change(change) => {
                let row = |row: &Option<Vec<u8>>| row.as_ref().map_or(0, Vec::len);
                change.key.len() + row(&change.before) + row(&change.after)
            }
            Self::Timer(timer) => timer.key.len(),
        }
    }
}

/// A change or a timer set aside for one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The store's number for it, given by the engine, from 1.
    pub id: u64,
    /// The plugin.
    pub plugin: String,
    /// The rule.
    pub rule: String,
    /// The plugin version that faulted.
    pub version: u32,
    /// The change's seq; a timer's is that of what it came due before.
    pub seq: Seq,
    /// Which change of its table with that seq it is, from 0.
    pub nth: u32,
    /// The source change behind it.
    pub cause: Seq,
    /// What it waits for.
    pub state: LetterState,
    /// What is set aside.
    pub subject: Subject,
    /// The change's commit time, or that of what the timer came due before, in microseconds.
    pub time: i64,
    /// The fault; for one behind a parked one of the same key, that it waits for it.
    pub error: String,
    /// When it was parked, in microseconds, host clock.
    pub parked_at: i64,
}

impl DeadLetter {
    /// What it weighs: its key, its rows and its error.
    pub fn bytes(&self) -> u64 {
        Self::bytes_of(&self.subject, &self.error)
    }

    /// The same for one that has yet to be made.
    pub fn bytes_of(subject: &Subject, error: &str) -> u64 {
        (subject.bytes() + error.len()) as u64
    }

    /// The change, as its rule is told it; `None` if it is a timer.
    pub fn change(&self) -> Option<Change> {
        let Subject::Change(change) = &self.subject else {
            return None;
        };
        Some(Change {
            seq: self.seq,
            cause: self.cause,
            table: change.table,
            op: change.op,
            key: Key::copy_from_slice(&change.key),
            before: change.before.clone().map(Row::from),
            after: change.after.clone().map(Row::from),
            time: self.time,
        })
    }

    /// When it was parked.
    pub fn parked(&self) -> Option<Timestamp> {
        Timestamp::from_micros(self.parked_at)
    }
}
