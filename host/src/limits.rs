//! Every limit of the host, by name: the `[limits]` section of the configuration.
//!
//! A name ends in its unit. Whoever enforces a limit names it in the error on its far side.

use serde::{Deserialize, Serialize};

macro_rules! limits {
    ($($(#[doc = $doc:literal])* $name:ident: $ty:ty = $default:expr,)*) => {
        /// The host's limits, with their defaults.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Limits {
            $($(#[doc = $doc])* pub $name: $ty,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }
    };
}

limits! {
    /// Changes that one batch hands to the rules, at the most; a larger source transaction is still
    /// taken whole.
    batch_changes_max: usize = 4_096,
    /// Bytes of rows in one batch, at the most.
    batch_bytes_max: usize = 8 << 20,
    /// How long a batch that isn't full waits for more, in milliseconds; 0 takes what is there.
    batch_wait_ms: u64 = 0,
    /// Changes that share one commit, at the most.
    commit_changes_max: usize = 131_072,
    /// Bytes of rows that share one commit, at the most.
    commit_bytes_max: usize = 128 << 20,
    /// Batches that wait between two stages, at the most.
    queue_batches_max: usize = 16,
    /// Changes in one source transaction or HTTP request, at the most.
    transaction_changes_max: usize = 1_000_000,
    /// One line of input, in bytes, at the most.
    line_bytes_max: usize = 16 << 20,
    /// One HTTP request's body, in bytes, at the most.
    request_bytes_max: usize = 64 << 20,
    /// Rows in one answer over HTTP, at the most.
    response_rows_max: usize = 10_000,
    /// Rows in one answer over HTTP, in bytes of JSON, at the most; a larger row still comes alone.
    response_bytes_max: usize = 16 << 20,
    /// How long one HTTP request's body may take to arrive, in milliseconds.
    request_ms_max: u64 = 60_000,
    /// HTTP requests that write at the same time, at the most.
    requests_max: usize = 64,
    /// Text kept of input that could not be taken, in bytes, at the most.
    bad_input_bytes_max: usize = 4 << 10,
    /// Dead letters kept for each source, at the most; the oldest go first.
    bad_input_kept_max: usize = 10_000,
    /// Parked changes kept for each rule, at the most, and rows of which it has missed changes; then the rule is paused.
    dead_letters_max: usize = 100_000,
    /// Parked changes kept for each rule, in bytes of their rows and keys, at the most; then the rule is paused.
    dead_letters_bytes_max: usize = 256 << 20,
    /// Skipped changes kept to be read for each rule, at the most; the oldest go first.
    skipped_kept_max: usize = 1_000,
    /// Changes by which a rule is judged, at the most: the latest.
    breaker_window_changes: u64 = 1_000,
    /// Changes by which a rule is judged, at the least.
    breaker_changes_min: u64 = 100,
    /// Of those changes, the share on which a rule may fault, in percent; above it the rule is paused.
    breaker_faults_percent: u64 = 50,
    /// Of those changes, how many may run out of time, at the most; then the rule is paused.
    breaker_timeouts_max: u64 = 10,
    /// Columns of one table, at the most.
    table_columns_max: usize = 1_000,
    /// Tables of one plugin, at the most.
    plugin_tables_max: usize = 256,
    /// A key, in bytes of its key form, at the most.
    key_bytes_max: usize = 8 << 10,
    /// A row, in bytes, at the most.
    row_bytes_max: usize = 16 << 20,
    /// A plugin's file, in bytes, at the most.
    plugin_bytes_max: usize = 64 << 20,
    /// A plugin's memory, in bytes, at the most.
    plugin_memory_bytes_max: usize = 256 << 20,
    /// One call of a plugin for one batch, in milliseconds, at the most.
    plugin_call_ms_max: u64 = 10_000,
    /// Describing itself, in milliseconds, at the most.
    plugin_describe_ms_max: u64 = 2_000,
    /// The effects of one call, in bytes, at the most.
    effects_bytes_max: usize = 64 << 20,
    /// State reads (rows and pages) in one call, at the most.
    state_reads_max: u64 = 10_000_000,
    /// Rows in one page of a scan, at the most.
    scan_page_rows_max: u32 = 1_024,
    /// Log lines of a plugin in one call, at the most.
    plugin_log_lines_max: u64 = 100,
    /// How long after a plugin file's last change it is read, in milliseconds.
    plugin_debounce_ms: u64 = 100,
    /// The log is kept for this long, in hours.
    log_age_hours_max: u64 = 168,
    /// The log's compressed size, in bytes, at the most.
    log_bytes_max: u64 = 8 << 30,
    /// Idempotency keys are kept for this long, in hours.
    idempotency_age_hours_max: u64 = 24,
    /// Memory for the store's pages, in bytes.
    store_cache_bytes: usize = 256 << 20,
    /// Notifications kept in the outbox, at the most; the oldest go first.
    outbox_max: usize = 1_000_000,
}
