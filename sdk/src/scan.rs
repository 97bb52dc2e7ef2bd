//! Walking over ranges of a table in the order of its key or of an index.

use std::{
    collections::{VecDeque, btree_map},
    marker::PhantomData,
    ops::{Bound, Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive},
    sync::Arc,
};

use rulemill_wire::{Reader, key::prefix_end};

use crate::{
    error::StateError,
    overlay,
    row::{KeyPrefix, Row},
    schema::{Schema, Typed},
    state::{self, StateReader},
    store::Store,
};

/// Rows asked of the host in one read.
const PAGE_ROWS_MAX: u32 = 256;

/// The ends of a range in key form: the first bytes, inclusive, and the end, exclusive.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    pub from: Vec<u8>,
    pub to: Option<Vec<u8>>,
    /// Nothing can lie in the range (`to` would have to lie after the last possible key).
    pub empty: bool,
}

/// What [`range`](crate::Table::range) and [`by`](crate::Table::by) take: `..`, or `a..b`, `a..=b`,
/// `a..`, `..b`, `..=b` where each end is a key or its first columns. With only the first columns,
/// `a..=b` includes every key that begins with `b`.
///
/// ```
/// use rulemill_sdk::{KeyBounds, prelude::*};
///
/// fn bounds<B: KeyBounds<(i64, Date)>>(_: B) {}
/// bounds(..);
/// bounds(3..=5); // every date of 3, 4 and 5
/// bounds((3, Date::default())..(4, Date::default()));
/// ```
pub trait KeyBounds<K> {
    #[doc(hidden)]
    fn ends(&self) -> Ends;
}

fn ends<K, P: KeyPrefix<K>>(from: Bound<&P>, to: Bound<&P>) -> Ends {
    let form = |prefix: &P| {
        let mut bytes = Vec::new();
        prefix.write_prefix(&mut bytes);
        bytes
    };
    let from = match from {
        Bound::Included(prefix) => form(prefix),
        Bound::Excluded(_) | Bound::Unbounded => Vec::new(),
    };
    let (to, empty) = match to {
        Bound::Included(prefix) => (prefix_end(&form(prefix)), false),
        Bound::Excluded(prefix) => {
            let to = form(prefix);
            (Some(to.clone()), to <= from)
        }
        Bound::Unbounded => (None, false),
    };
    let empty = empty || to.as_ref().is_some_and(|to| *to <= from);
    Ends { from, to, empty }
}

impl<K> KeyBounds<K> for RangeFull {
    fn ends(&self) -> Ends {
        Ends {
            from: Vec::new(),
            to: None,
            empty: false,
        }
    }
}

macro_rules! bounds {
    ($($range:ident),*) => {$(
        impl<K, P: KeyPrefix<K>> KeyBounds<K> for $range<P> {
            fn ends(&self) -> Ends {
                use std::ops::RangeBounds;
                ends::<K, P>(self.start_bound(), self.end_bound())
            }
        }
    )*};
}

bounds!(Range, RangeInclusive, RangeFrom, RangeTo, RangeToInclusive);

pub(crate) fn prefix_ends<K>(prefix: &impl KeyPrefix<K>) -> Ends {
    ends::<K, _>(Bound::Included(prefix), Bound::Included(prefix))
}

/// The host's rows of a range, page by page.
pub(crate) struct Pages<S: Schema> {
    state: Option<Arc<dyn StateReader>>,
    table: u32,
    at: u64,
    range: state::Range,
    rows: VecDeque<S::Row>,
    done: bool,
}

impl<S: Schema> Pages<S> {
    pub(crate) fn new(
        state: Option<Arc<dyn StateReader>>,
        table: u32,
        at: u64,
        index: Option<u32>,
        ends: &Ends,
    ) -> Self {
        Self {
            done: state.is_none() || ends.empty,
            state,
            table,
            at,
            range: state::Range {
                index,
                from: ends.from.clone(),
                to: ends.to.clone(),
                descending: false,
                limit: PAGE_ROWS_MAX,
            },
            rows: VecDeque::new(),
        }
    }

    fn next(&mut self, schema: &S) -> Result<Option<S::Row>, StateError> {
        loop {
            if let Some(row) = self.rows.pop_front() {
                return Ok(Some(row));
            }
            let (false, Some(state)) = (self.done, &self.state) else {
                return Ok(None);
            };
            let page = state.scan(self.table, &self.range, self.at);
            let mut reader = Reader::new(&page.rows);
            for _ in 0..page.count {
                let row = schema
                    .read(&mut reader)
                    .map_err(|error| StateError::new(schema.table(), error))?;
                self.rows.push_back(row);
            }
            match page.next {
                None => self.done = true,
                Some(next) if self.range.descending => self.range.to = Some(next),
                Some(next) => self.range.from = next,
            }
        }
    }
}

/// A row and its entry in the scanned order.
type Head<S> = (Vec<u8>, <S as Schema>::Row);

/// The host's rows merged with the batch's own.
pub(crate) struct Merge<'a, S: Schema> {
    store: &'a Store<S>,
    index: Option<u32>,
    pages: Pages<S>,
    theirs: Option<Head<S>>,
    ours: btree_map::Range<'a, Vec<u8>, u32>,
    our_head: Option<(&'a Vec<u8>, u32)>,
    started: bool,
}

impl<'a, S: Schema> Merge<'a, S> {
    pub(crate) fn new(store: &'a mut Store<S>, index: Option<u32>, ends: &Ends) -> Self {
        store.overlay(index);
        let store = &*store;
        let pages = Pages::new(
            store.state.clone(),
            store.table,
            store.call.seq,
            index,
            ends,
        );
        let overlay = store
            .overlays
            .iter()
            .find(|overlay| overlay.index == index)
            .map(|overlay| &overlay.entries);
        let from = Bound::Included(ends.from.as_slice());
        let to = match &ends.to {
            _ if ends.empty => Bound::Excluded(ends.from.as_slice()),
            Some(to) => Bound::Excluded(to.as_slice()),
            None => Bound::Unbounded,
        };
        let ours = match overlay {
            Some(entries) => entries.range::<[u8], _>((from, to)),
            None => unreachable!("the overlay was just made"),
        };
        Self {
            store,
            index,
            pages,
            theirs: None,
            ours,
            our_head: None,
            started: false,
        }
    }

    fn next_of_host(&mut self) -> Result<(), StateError> {
        self.theirs = None;
        while let Some(row) = self.pages.next(&self.store.schema)? {
            let key = self.store.schema.key(&row);
            // The batch wrote the row: what it holds now is among ours, if it is there at all.
            if self.store.existing(&key).is_some_and(|slot| slot.dirty) {
                continue;
            }
            let mut bytes = Vec::new();
            overlay::entry(&self.store.schema, self.index, &key, &row, &mut bytes);
            self.theirs = Some((bytes, row));
            break;
        }
        Ok(())
    }

    fn next_of_ours(&mut self) {
        let next = if self.pages.range.descending {
            self.ours.next_back()
        } else {
            self.ours.next()
        };
        self.our_head = next.map(|(bytes, &place)| (bytes, place));
    }

    fn next(&mut self) -> Result<Option<S::Row>, StateError> {
        if !self.started {
            self.started = true;
            self.next_of_host()?;
            self.next_of_ours();
        }
        let ours_first = match (&self.theirs, &self.our_head) {
            (None, None) => return Ok(None),
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (Some((theirs, _)), Some((ours, _))) => (*ours < theirs) != self.pages.range.descending,
        };
        if ours_first {
            let place = self.our_head.map(|(_, place)| place as usize);
            let row = place.and_then(|place| self.store.slots[place].row.as_ref());
            let row = row.map(|row| self.store.schema.duplicate(row));
            self.next_of_ours();
            Ok(row)
        } else {
            let row = self.theirs.take().map(|(_, row)| row);
            self.next_of_host()?;
            Ok(row)
        }
    }
}

pub(crate) enum Source<'a, S: Schema> {
    Merged(Merge<'a, S>),
    Plain(Pages<S>, S),
}

impl<S: Schema> Source<'_, S> {
    pub(crate) fn next(&mut self) -> Result<Option<S::Row>, StateError> {
        match self {
            Self::Merged(merge) => merge.next(),
            Self::Plain(pages, schema) => pages.next(schema),
        }
    }

    fn range(&mut self) -> &mut state::Range {
        match self {
            Self::Merged(merge) => &mut merge.pages.range,
            Self::Plain(pages, _) => &mut pages.range,
        }
    }

    pub(crate) fn set_descending(&mut self) {
        let range = self.range();
        range.descending = !range.descending;
    }

    pub(crate) fn set_limit(&mut self, rows: usize) {
        // One more than asked for costs less than a second read where the batch removed a row.
        let limit = u32::try_from(rows).unwrap_or(PAGE_ROWS_MAX);
        self.range().limit = limit.saturating_add(1).min(PAGE_ROWS_MAX);
    }
}

/// The rows of a range, in order; an iterator of `Result`, since rows may have to be read from the
/// host. Rows come as they are now, with everything that the rule and others before it wrote.
///
/// ```
/// use rulemill_sdk::prelude::*;
///
/// #[derive(Row, Default)]
/// #[table(derived = "days")]
/// struct Day { #[key] day: Date, revenue: Decimal }
///
/// #[rule]
/// fn totals(change: Change<Order>, days: &mut Table<Day>) -> Outcome {
///     days.entry(change.row().day)?.revenue += change.row().amount;
///     let mut sum = Decimal::ZERO;
///     for day in days.range(..).descending().limit(7) {
///         sum += day?.revenue;
///     }
///     Ok(())
/// }
/// # #[derive(Row)] #[table(source = "orders")]
/// # struct Order { #[key] id: i64, day: Date, amount: Decimal }
/// # let order = Order { id: 1, day: Date::default(), amount: 5.into() };
/// # totals(Change::insert(order), &mut Table::in_memory())?;
/// # Ok::<(), RuleError>(())
/// ```
#[must_use = "a scan reads nothing until it is iterated"]
pub struct Scan<'a, T: Row> {
    source: Source<'a, Typed<T>>,
    left: usize,
    failed: bool,
    row: PhantomData<T>,
}

impl<T: Row> std::fmt::Debug for Scan<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scan of table {}", T::SPEC.table)
    }
}

impl<'a, T: Row> Scan<'a, T> {
    pub(crate) fn new(source: Source<'a, Typed<T>>) -> Self {
        Self {
            source,
            left: usize::MAX,
            failed: false,
            row: PhantomData,
        }
    }

    /// Goes from the last row to the first.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row, Default)] #[table(derived = "days")] struct Day { #[key] day: i64 }
    /// let mut days = Table::from_rows([Day { day: 1 }, Day { day: 2 }]);
    /// let last = days.range(..).descending().next().transpose()?;
    /// assert_eq!(last.map(|row| row.day), Some(2));
    /// # Ok::<(), RuleError>(())
    /// ```
    pub fn descending(mut self) -> Self {
        self.source.set_descending();
        self
    }

    /// Ends after so many rows. Better than `take`, as the host is not asked for more.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row, Default)] #[table(derived = "days")] struct Day { #[key] day: i64 }
    /// let mut days = Table::from_rows([Day { day: 1 }, Day { day: 2 }]);
    /// assert_eq!(days.range(..).limit(1).count(), 1);
    /// ```
    pub fn limit(mut self, rows: usize) -> Self {
        self.left = rows;
        self.source.set_limit(rows);
        self
    }
}

impl<T: Row> Iterator for Scan<'_, T> {
    type Item = Result<T, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 || self.failed {
            return None;
        }
        let next = self.source.next();
        self.left -= 1;
        self.failed = next.is_err();
        next.transpose()
    }
}
