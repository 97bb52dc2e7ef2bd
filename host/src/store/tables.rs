//! The database's tables: names, keys and values. `docs/store-format.md` has the bytes.

use redb::TableDefinition;

use crate::catalog::TableId;

/// Bytes to bytes: every table here.
pub(super) type Bytes<'a> = TableDefinition<'a, &'static [u8], &'static [u8]>;

/// The format that this code writes, and the newest that it reads.
///
/// 2: log entries name their cause; rules' cursors, parked changes and what rules missed have records of their own form.
pub(super) const FORMAT: u64 = 2;

pub(super) const META: Bytes<'_> = Bytes::new("meta");
pub(super) const LOG: Bytes<'_> = Bytes::new("log");
pub(super) const POSITIONS: Bytes<'_> = Bytes::new("positions");
pub(super) const BAD_INPUT: Bytes<'_> = Bytes::new("bad_input");
pub(super) const RULES: Bytes<'_> = Bytes::new("rules");
pub(super) const PLUGIN_VERSIONS: Bytes<'_> = Bytes::new("plugin_versions");
pub(super) const PLUGIN_CODE: Bytes<'_> = Bytes::new("plugin_code");
pub(super) const TIMERS: Bytes<'_> = Bytes::new("timers");
pub(super) const OUTBOX: Bytes<'_> = Bytes::new("outbox");
pub(super) const DEAD_LETTERS: Bytes<'_> = Bytes::new("dead_letters");
pub(super) const GAPS: Bytes<'_> = Bytes::new("gaps");
pub(super) const IDEMPOTENCY: Bytes<'_> = Bytes::new("idempotency");
pub(super) const IDEMPOTENCY_BY_AGE: Bytes<'_> = Bytes::new("idempotency_by_age");

/// All tables with a fixed name, made when the store is.
pub(super) const FIXED: [Bytes<'_>; 13] = [
    META,
    LOG,
    POSITIONS,
    BAD_INPUT,
    RULES,
    PLUGIN_VERSIONS,
    PLUGIN_CODE,
    TIMERS,
    OUTBOX,
    DEAD_LETTERS,
    GAPS,
    IDEMPOTENCY,
    IDEMPOTENCY_BY_AGE,
];

/// Keys of `meta`; numbers are 8 bytes, big-endian.
pub(super) mod meta {
    pub(in super::super) const FORMAT: &[u8] = b"format";
    pub(in super::super) const LAST_SEQ: &[u8] = b"last_seq";
    pub(in super::super) const WATERMARK: &[u8] = b"watermark";
    pub(in super::super) const WATERMARK_CLOCK: &[u8] = b"watermark_clock";
    pub(in super::super) const CATALOG: &[u8] = b"catalog";
    /// How many tables the catalog has.
    pub(in super::super) const TABLES: &[u8] = b"tables";
    /// The first seq from which the log is complete.
    pub(in super::super) const LOG_FROM: &[u8] = b"log_from";
    /// Bytes of the log's blocks.
    pub(in super::super) const LOG_BYTES: &[u8] = b"log_bytes";
    pub(in super::super) const LAST_DEAD_LETTER: &[u8] = b"last_dead_letter";
    pub(in super::super) const LAST_NOTIFICATION: &[u8] = b"last_notification";
}

/// The table of a table's rows.
pub(super) fn rows_name(table: TableId, generation: u32) -> String {
    format!("rows/{table}/{generation}")
}

/// The table of an index.
pub(super) fn index_name(table: TableId, generation: u32, index: usize) -> String {
    format!("index/{table}/{generation}/{index}")
}
