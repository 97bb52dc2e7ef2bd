//! Tables that the plugin only reads, as a rule sees them: as they stood at the change being handled.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use rulemill_wire::Reader;
use rustc_hash::FxHashMap;

use crate::{
    error::StateError,
    row::{Index, KeyPrefix, Row, SourceRow},
    runtime::Call,
    scan::{Ends, KeyBounds, Pages, Scan, Source, prefix_ends},
    schema::{Schema, Typed},
    state::{Found, StateReader},
    testing::MemoryState,
};

/// A table that the plugin only reads; a rule takes it as `&Lookup<T>`. It shows the table as it
/// stood when the change being handled was made.
///
/// That holds for derived tables too, and for a rule that comes late: one that catches up (it was paused, halted or unloaded), or is
/// handed a parked change again. Only a rule that takes over the rows that were there before it sees the table as it is now.
///
/// In a test, [`from_rows`](Self::from_rows) makes one with no host.
///
/// ```
/// use rulemill_sdk::prelude::*;
///
/// #[derive(Row)]
/// #[table(source = "users")]
/// struct User { #[key] id: i64, name: String }
///
/// let users = Lookup::from_rows([User { id: 1, name: "Ada".into() }]);
/// assert_eq!(users.get(1)?.map(|user| user.name.clone()), Some("Ada".into()));
/// assert!(users.get(2)?.is_none());
/// # Ok::<(), RuleError>(())
/// ```
pub struct Lookup<T: Row> {
    pub(crate) core: LookupCore<Typed<T>>,
}

impl<T: Row> std::fmt::Debug for Lookup<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lookup of table {}", T::SPEC.table)
    }
}

impl<T: SourceRow> Lookup<T> {
    pub(crate) fn new(number: u16) -> Self {
        Self {
            core: LookupCore::new(Typed::new(), number),
        }
    }

    /// A table for a test with these rows in it.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row)] #[table(source = "users")] struct User { #[key] id: i64, name: String }
    /// let nobody = Lookup::<User>::from_rows([]);
    /// assert!(nobody.get(1)?.is_none());
    /// # Ok::<(), RuleError>(())
    /// ```
    pub fn from_rows(rows: impl IntoIterator<Item = T>) -> Self {
        let mut lookup = Self::new(0);
        lookup.core.state = Some(Arc::new(MemoryState::of_rows(rows)));
        lookup
    }

    /// The row with this key, if there is one.
    ///
    /// # Errors
    /// If the host's row can't be read as `T`.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row)] #[table(source = "users")] struct User { #[key] id: i64, name: String }
    /// # let users = Lookup::from_rows([User { id: 1, name: "Ada".into() }]);
    /// let Some(user) = users.get(1)? else {
    ///     return Err("no such user".into());
    /// };
    /// assert_eq!(user.name, "Ada");
    /// # Ok::<(), RuleError>(())
    /// ```
    pub fn get(&self, key: impl Into<T::Key>) -> Result<Option<Arc<T>>, StateError> {
        self.core.get(key.into())
    }

    /// The rows with these keys, in the order of the keys: one question to the host for all that are
    /// not known yet.
    ///
    /// # Errors
    /// If one of the host's rows can't be read as `T`.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row)] #[table(source = "users")] struct User { #[key] id: i64, name: String }
    /// # let users = Lookup::from_rows([User { id: 1, name: "Ada".into() }]);
    /// let found = users.get_many([1, 2])?;
    /// assert!(found[0].is_some() && found[1].is_none());
    /// # Ok::<(), RuleError>(())
    /// ```
    pub fn get_many<K: Into<T::Key>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Arc<T>>>, StateError> {
        self.core
            .get_many(keys.into_iter().map(Into::into).collect())
    }

    fn pages(&self, index: Option<u32>, ends: &Ends) -> Scan<'_, T> {
        Scan::new(Source::Plain(self.core.pages(index, ends), Typed::new()))
    }

    /// The rows whose keys lie in this range, in the order of their keys.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row)] #[table(source = "users")] struct User { #[key] id: i64, name: String }
    /// # let users = Lookup::from_rows([User { id: 1, name: "Ada".into() }]);
    /// assert_eq!(users.range(1..10).count(), 1);
    /// ```
    pub fn range(&self, bounds: impl KeyBounds<T::Key>) -> Scan<'_, T> {
        self.pages(None, &bounds.ends())
    }

    /// The rows whose keys begin with these columns, in the order of their keys.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// #[derive(Row)]
    /// #[table(source = "order_lines")]
    /// struct Line { #[key] order_id: i64, #[key] line: i64 }
    ///
    /// let lines = Lookup::from_rows([Line { order_id: 1, line: 1 }, Line { order_id: 1, line: 2 }]);
    /// assert_eq!(lines.prefix(1).count(), 2);
    /// ```
    pub fn prefix(&self, prefix: impl KeyPrefix<T::Key>) -> Scan<'_, T> {
        self.pages(None, &prefix_ends(&prefix))
    }

    /// The rows whose indexed columns (or the first of them) have these values. The index has to be
    /// there: one of a table that another plugin owns.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// #[derive(Row)]
    /// #[table(source = "carts")]
    /// struct Cart { #[key] id: i64, #[index] user_id: i64 }
    ///
    /// let carts = Lookup::from_rows([Cart { id: 1, user_id: 7 }]);
    /// assert_eq!(carts.by(Cart::BY_USER_ID, 7).count(), 1);
    /// ```
    pub fn by<K>(&self, index: Index<T, K>, prefix: impl KeyPrefix<K>) -> Scan<'_, T> {
        self.pages(Some(index.place()), &prefix_ends(&prefix))
    }

    /// The rows whose indexed columns lie in this range, in the order of the index and then of their
    /// keys. The index has to be there: one of a table that another plugin owns.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row)] #[table(source = "carts")] struct Cart { #[key] id: i64, #[index] user_id: i64 }
    /// # let carts = Lookup::from_rows([Cart { id: 1, user_id: 7 }]);
    /// assert_eq!(carts.by_range(Cart::BY_USER_ID, 1..=7).count(), 1);
    /// ```
    pub fn by_range<K>(&self, index: Index<T, K>, bounds: impl KeyBounds<K>) -> Scan<'_, T> {
        self.pages(Some(index.place()), &bounds.ends())
    }
}

/// The core of a lookup: rows read from the host, each kept for as long as the answer holds.
pub(crate) struct LookupCore<S: Schema> {
    schema: S,
    table: u32,
    at: Cell<u64>,
    pub(crate) state: Option<Arc<dyn StateReader>>,
    cache: RefCell<Cache<S>>,
}

struct Cache<S: Schema> {
    /// Each row asked for, and the first seq at which it may be another.
    rows: FxHashMap<S::Key, (Shared<S>, u64)>,
    buffer: Vec<u8>,
}

type Shared<S> = Option<Arc<<S as Schema>::Row>>;

impl<S: Schema> LookupCore<S> {
    pub(crate) fn new(schema: S, number: u16) -> Self {
        Self {
            schema,
            table: number.into(),
            at: Cell::new(0),
            state: None,
            cache: RefCell::new(Cache {
                rows: FxHashMap::default(),
                buffer: Vec::new(),
            }),
        }
    }

    #[inline]
    pub(crate) fn begin(&self, call: &Call) {
        self.at.set(call.seq);
    }

    /// Forgets what was read: it held to the end of the batch before.
    pub(crate) fn start_batch(&mut self, state: Option<&Arc<dyn StateReader>>) {
        self.state = state.cloned();
        self.cache.get_mut().rows.clear();
    }

    fn decode(&self, found: &Found) -> Result<Shared<S>, StateError> {
        let Some(bytes) = &found.row else {
            return Ok(None);
        };
        let row = self
            .schema
            .read(&mut Reader::new(bytes))
            .map_err(|error| StateError::new(self.schema.table(), error))?;
        Ok(Some(Arc::new(row)))
    }

    fn cached(&self, key: &S::Key) -> Option<Shared<S>> {
        let cache = self.cache.borrow();
        let (row, until) = cache.rows.get(key)?;
        (self.at.get() < *until).then(|| row.clone())
    }

    pub(crate) fn get(&self, key: S::Key) -> Result<Shared<S>, StateError> {
        if let Some(row) = self.cached(&key) {
            return Ok(row);
        }
        let Some(state) = &self.state else {
            return Ok(None);
        };
        let mut cache = self.cache.borrow_mut();
        cache.buffer.clear();
        self.schema.write_key_form(&key, &mut cache.buffer);
        let found = state.get(self.table, &cache.buffer, self.at.get());
        let row = self.decode(&found)?;
        cache.rows.insert(key, (row.clone(), found.until));
        Ok(row)
    }

    pub(crate) fn get_many(&self, keys: Vec<S::Key>) -> Result<Vec<Shared<S>>, StateError> {
        let mut rows: Vec<Option<Shared<S>>> = keys.iter().map(|key| self.cached(key)).collect();
        let missing: Vec<usize> = (0..keys.len()).filter(|&i| rows[i].is_none()).collect();
        if let (Some(state), false) = (&self.state, missing.is_empty()) {
            let forms: Vec<Vec<u8>> = missing
                .iter()
                .map(|&i| {
                    let mut form = Vec::new();
                    self.schema.write_key_form(&keys[i], &mut form);
                    form
                })
                .collect();
            let found = state.get_many(self.table, &forms, self.at.get());
            let mut cache = self.cache.borrow_mut();
            for (&i, found) in missing.iter().zip(found) {
                let row = self.decode(&found)?;
                cache
                    .rows
                    .insert(keys[i].clone(), (row.clone(), found.until));
                rows[i] = Some(row);
            }
        }
        Ok(rows.into_iter().map(Option::flatten).collect())
    }

    pub(crate) fn pages(&self, index: Option<u32>, ends: &Ends) -> Pages<S> {
        Pages::new(self.state.clone(), self.table, self.at.get(), index, ends)
    }
}
