//! Reading the host's tables during a batch, as plain Rust.
//!
//! In a plugin the reader is the imported interface `state`; natively it is whatever the caller of
//! [`PluginRuntime::apply`](crate::runtime::PluginRuntime::apply) gives, and in tests
//! [`MemoryState`](crate::testing::MemoryState). The words are those of `sdk/wit/v1/plugin.wit`.

/// A row, if there is one, and how long the answer holds.
///
/// ```
/// use rulemill_sdk::state::Found;
///
/// let missing = Found { row: None, until: u64::MAX };
/// assert!(missing.row.is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The row's columns in manifest order, in wire form.
    pub row: Option<Vec<u8>>,
    /// The first seq of this batch at which the row may be another; `u64::MAX` if it stays the same
    /// to the batch's end.
    pub until: u64,
}

/// The rows between two keys, or between two entries of an index.
///
/// ```
/// use rulemill_sdk::state::Range;
///
/// let everything = Range { index: None, from: vec![], to: None, descending: false, limit: 100 };
/// assert_eq!(everything.limit, 100);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The index by its place in the manifest's table; `None` to go by key.
    pub index: Option<u32>,
    /// The first key in key form (any prefix will do), inclusive.
    pub from: Vec<u8>,
    /// Where the range ends, exclusive; `None` for no end.
    pub to: Option<Vec<u8>>,
    /// Whether to go from the end to the beginning.
    pub descending: bool,
    /// Rows to return at the most.
    pub limit: u32,
}

/// Rows of a range, and where to go on.
///
/// ```
/// use rulemill_sdk::state::Page;
///
/// let empty = Page { count: 0, rows: vec![], next: None };
/// assert_eq!(empty.count, 0);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// How many rows there are.
    pub count: u32,
    /// The rows' columns in manifest order, one row after the other, in wire form.
    pub rows: Vec<u8>,
    /// Where the rest of the range begins (ascending: its `from`; descending: its `to`); `None` if
    /// the range has no more.
    pub next: Option<Vec<u8>>,
}

/// Answers reads of tables during a batch. `table` is the table's number in the manifest; `at` the
/// seq of the change being handled: a table that the plugin only reads is seen as it stood then, one
/// that it owns as it stood before the batch.
///
/// ```
/// use rulemill_sdk::state::{Found, Page, Range, StateReader};
///
/// struct Empty;
///
/// impl StateReader for Empty {
///     fn get(&self, _table: u32, _key: &[u8], _at: u64) -> Found {
///         Found { row: None, until: u64::MAX }
///     }
///
///     fn scan(&self, _table: u32, _range: &Range, _at: u64) -> Page {
///         Page { count: 0, rows: vec![], next: None }
///     }
/// }
///
/// assert_eq!(Empty.get_many(0, &[vec![1], vec![2]], 7).len(), 2);
/// ```
pub trait StateReader: Send + Sync {
    /// The row with this key (in key form).
    fn get(&self, table: u32, key: &[u8], at: u64) -> Found;

    /// The rows with these keys, in the order of the keys.
    fn get_many(&self, table: u32, keys: &[Vec<u8>], at: u64) -> Vec<Found> {
        keys.iter().map(|key| self.get(table, key, at)).collect()
    }

    /// The first rows of a range, in order.
    fn scan(&self, table: u32, range: &Range, at: u64) -> Page;

    /// Whether the effects of this batch are wanted call by call, to be had even if a later call panics.
    fn saves(&self) -> bool {
        false
    }
}
