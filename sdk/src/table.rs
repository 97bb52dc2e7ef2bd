//! Tables that the plugin owns, as a rule sees them.

use std::sync::Arc;

use crate::{
    error::StateError,
    row::{DerivedRow, Index, KeyPrefix, Row},
    scan::{KeyBounds, Merge, Scan, Source, prefix_ends},
    schema::Typed,
    store::Store,
    testing::MemoryState,
};

/// A table that the plugin owns and alone writes; a rule takes it as `&mut Table<T>`.
///
/// What a rule writes is seen at once by the rest of the rule and by the rules after it. If the rule
/// returns an error, its writes for that change are undone.
///
/// In a test, [`in_memory`](Self::in_memory) and [`from_rows`](Self::from_rows) make one with no
/// host; there, an error of the rule undoes nothing (the
/// [`Harness`](crate::testing::Harness) does it as the host would).
///
/// ```
/// use rulemill_sdk::prelude::*;
///
/// #[derive(Row, Default, Debug, PartialEq)]
/// #[table(derived = "totals")]
/// struct Total { #[key] product_id: i64, orders: i64 }
///
/// let mut totals = Table::<Total>::in_memory();
/// totals.entry(7)?.orders += 1;
/// totals.insert(Total { product_id: 8, orders: 5 });
/// assert_eq!(totals.get(7)?.map(|row| row.orders), Some(1));
/// assert_eq!(totals.remove(8)?, Some(Total { product_id: 8, orders: 5 }));
/// assert_eq!(totals.rows(), [Total { product_id: 7, orders: 1 }]);
/// # Ok::<(), RuleError>(())
/// ```
pub struct Table<T: Row> {
    pub(crate) store: Store<Typed<T>>,
}

impl<T: Row> std::fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table {}", T::SPEC.table)
    }
}

impl<T: DerivedRow> Table<T> {
    pub(crate) fn new(number: u16) -> Self {
        Self {
            store: Store::new(Typed::new(), number.into()),
        }
    }

    /// An empty table for a test.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row, Default, Debug, PartialEq)] #[table(derived = "totals")]
    /// # struct Total { #[key] product_id: i64, orders: i64 }
    /// let totals = Table::<Total>::in_memory();
    /// assert!(totals.rows().is_empty());
    /// ```
    pub fn in_memory() -> Self {
        Self::from_rows([])
    }

    /// A table for a test with these rows in it.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row, Default, Debug, PartialEq)] #[table(derived = "totals")]
    /// # struct Total { #[key] product_id: i64, orders: i64 }
    /// let mut totals = Table::from_rows([Total { product_id: 1, orders: 2 }]);
    /// assert_eq!(totals.entry(1)?.orders, 2);
    /// # Ok::<(), RuleError>(())
    /// ```
    pub fn from_rows(rows: impl IntoIterator<Item = T>) -> Self {
        let mut table = Self::new(0);
        table.store.state = Some(Arc::new(MemoryState::of_rows(rows)));
        table
    }

    /// The row with this key, to be changed in place. Where there is none it is made with `Default`
    /// and the key. The row must keep its key.
    ///
    /// # Errors
    /// If the host's row can't be read as `T`.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row, Default, Debug, PartialEq)] #[table(derived = "totals")]
    /// # struct Total { #[key] product_id: i64, orders: i64 }
    /// # let mut totals = Table::<Total>::in_memory();
    /// let total = totals.entry(7)?;
    /// total.orders += 1;
    /// assert_eq!(*total, Total { product_id: 7, orders: 1 });
    /// # Ok::<(), RuleError>(())
    /// ```
    #[inline]
    pub fn entry(&mut self, key: impl Into<T::Key>) -> Result<&mut T, StateError>
    where
        T: Default,
    {
        self.store.entry(key.into(), |_, key| {
            let mut row = T::default();
            row.set_key(key);
            row
        })
    }

    /// The row with this key, to be changed in place, if there is one. The row must keep its key.
    ///
    /// # Errors
    /// If the host's row can't be read as `T`.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row, Default, Debug, PartialEq)] #[table(derived = "totals")]
    /// # struct Total { #[key] product_id: i64, orders: i64 }
    /// let mut totals = Table::from_rows([Total { product_id: 1, orders: 2 }]);
    /// if let Some(total) = totals.get_mut(1)? {
    ///     total.orders = 0;
    /// }
    /// assert!(totals.get_mut(2)?.is_none());
    /// # Ok::<(), RuleError>(())
    /// ```
    pub fn get_mut(&mut self, key: impl Into<T::Key>) -> Result<Option<&mut T>, StateError> {
        self.store.get_mut(key.into())
    }

    /// The row with this key, if there is one.
    ///
    /// # Errors
    /// If the host's row can't be read as `T`.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row, Default, Debug, PartialEq)] #[table(derived = "totals")]
    /// # struct Total { #[key] product_id: i64, orders: i64 }
    /// # let mut totals = Table::<Total>::in_memory();
    /// assert!(totals.get(7)?.is_none());
    /// # Ok::<(), RuleError>(())
    /// ```
    #[inline]
    pub fn get(&mut self, key: impl Into<T::Key>) -> Result<Option<&T>, StateError> {
        self.store.get(key.into())
    }

    /// Writes a row; one with the same key is replaced.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row, Default, Debug, PartialEq)] #[table(derived = "totals")]
    /// # struct Total { #[key] product_id: i64, orders: i64 }
    /// # let mut totals = Table::<Total>::in_memory();
    /// totals.insert(Total { product_id: 7, orders: 1 });
    /// totals.insert(Total { product_id: 7, orders: 2 });
    /// assert_eq!(totals.rows().len(), 1);
    /// ```
    pub fn insert(&mut self, row: T) {
        self.store.insert(row);
    }

    /// Removes the row with this key and gives it back, if there is one.
    ///
    /// # Errors
    /// If the host's row can't be read as `T`.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row, Default, Debug, PartialEq)] #[table(derived = "totals")]
    /// # struct Total { #[key] product_id: i64, orders: i64 }
    /// # let mut totals = Table::<Total>::in_memory();
    /// assert_eq!(totals.remove(7)?, None);
    /// # Ok::<(), RuleError>(())
    /// ```
    pub fn remove(&mut self, key: impl Into<T::Key>) -> Result<Option<T>, StateError> {
        self.store.remove(key.into())
    }

    /// The rows whose keys lie in this range, in the order of their keys.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// #[derive(Row, Default)]
    /// #[table(derived = "user_days")]
    /// struct UserDay { #[key] user_id: i64, #[key] day: Date, orders: i64 }
    ///
    /// let day = |day| Date::from_ymd(2026, 1, day).unwrap_or_default();
    /// let mut days = Table::from_rows([1, 2, 3].map(|d| UserDay { user_id: 7, day: day(d), orders: d.into() }));
    /// let mut orders = 0;
    /// for row in days.range((7, day(1))..(7, day(3))) {
    ///     orders += row?.orders;
    /// }
    /// assert_eq!(orders, 3);
    /// # Ok::<(), RuleError>(())
    /// ```
    pub fn range(&mut self, bounds: impl KeyBounds<T::Key>) -> Scan<'_, T> {
        let ends = bounds.ends();
        Scan::new(Source::Merged(Merge::new(&mut self.store, None, &ends)))
    }

    /// The rows whose keys begin with these columns, in the order of their keys.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row, Default)] #[table(derived = "user_days")]
    /// # struct UserDay { #[key] user_id: i64, #[key] day: Date, orders: i64 }
    /// # let mut days = Table::from_rows([UserDay { user_id: 7, ..UserDay::default() }]);
    /// assert_eq!(days.prefix(7).count(), 1);
    /// assert_eq!(days.prefix(8).count(), 0);
    /// ```
    pub fn prefix(&mut self, prefix: impl KeyPrefix<T::Key>) -> Scan<'_, T> {
        let ends = prefix_ends(&prefix);
        Scan::new(Source::Merged(Merge::new(&mut self.store, None, &ends)))
    }

    /// The rows whose indexed columns (or the first of them) have these values, in the order of the
    /// index and then of their keys.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// #[derive(Row, Default)]
    /// #[table(derived = "carts")]
    /// struct Cart { #[key] id: i64, #[index] user_id: i64 }
    ///
    /// let mut carts = Table::from_rows([Cart { id: 1, user_id: 7 }, Cart { id: 2, user_id: 7 }]);
    /// assert_eq!(carts.by(Cart::BY_USER_ID, 7).count(), 2);
    /// ```
    pub fn by<K>(&mut self, index: Index<T, K>, prefix: impl KeyPrefix<K>) -> Scan<'_, T> {
        let ends = prefix_ends(&prefix);
        let index = Some(index.place());
        Scan::new(Source::Merged(Merge::new(&mut self.store, index, &ends)))
    }

    /// The rows whose indexed columns lie in this range, in the order of the index and then of their
    /// keys.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// #[derive(Row, Default)]
    /// #[table(derived = "days")]
    /// struct Day { #[key] day: Date, #[index] revenue: Decimal }
    ///
    /// let mut days = Table::from_rows([Day { revenue: 5.into(), ..Day::default() }]);
    /// let best: Vec<Day> = days
    ///     .by_range(Day::BY_REVENUE, ..)
    ///     .descending()
    ///     .limit(10)
    ///     .collect::<Result<_, _>>()?;
    /// assert_eq!(best.len(), 1);
    /// # Ok::<(), RuleError>(())
    /// ```
    pub fn by_range<K>(&mut self, index: Index<T, K>, bounds: impl KeyBounds<K>) -> Scan<'_, T> {
        let ends = bounds.ends();
        let index = Some(index.place());
        Scan::new(Source::Merged(Merge::new(&mut self.store, index, &ends)))
    }

    /// Every row, in the order of their keys: for the assertions of a test.
    ///
    /// # Panics
    /// If a row can't be read, which rows that a test made always can.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row, Default, Debug, PartialEq)] #[table(derived = "totals")]
    /// # struct Total { #[key] product_id: i64, orders: i64 }
    /// let totals = Table::from_rows([2, 1].map(|product_id| Total { product_id, orders: 0 }));
    /// assert_eq!(totals.rows()[0].product_id, 1);
    /// ```
    pub fn rows(&self) -> Vec<T> {
        let mut copy = Self::from_rows([]);
        let mut rows: Vec<T> = Vec::new();
        if let Some(state) = &self.store.state {
            copy.store.state = Some(state.clone());
        }
        copy.store.table = self.store.table;
        copy.store.call = self.store.call;
        for slot in self.store.slots.iter().filter(|slot| slot.dirty) {
            match &slot.row {
                Some(row) => copy.insert(row.duplicate()),
                None => drop(copy.remove(slot.key.clone())),
            }
        }
        for row in copy.range(..) {
            match row {
                Ok(row) => rows.push(row),
                Err(error) => panic!("{error}"),
            }
        }
        rows
    }
}
