//! What a rule is called with: a change of a row, or a timer.
//!
//! Both are plain data that a test can make.

use std::fmt;

use rulemill_wire::Timestamp;

use crate::{row::Row, sign::Sign};

/// What happened to a row.
///
/// ```
/// use rulemill_sdk::prelude::*;
///
/// # #[derive(Row)] #[table(source = "users")] struct User { #[key] id: i64 }
/// assert_eq!(Change::insert(User { id: 1 }).kind, ChangeKind::Insert);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// The row came to be.
    Insert,
    /// The row changed.
    Update,
    /// The row went.
    Delete,
    /// The row was there before the rule was: part of the rule's first snapshot.
    Read,
}

/// One change of one row of a table, as it was and as it is.
///
/// ```
/// use rulemill_sdk::prelude::*;
///
/// #[derive(Row)]
/// #[table(source = "orders")]
/// struct Order { #[key] id: i64, amount: Decimal }
///
/// let change = Change::update(
///     Order { id: 1, amount: 5.into() },
///     Order { id: 1, amount: 8.into() },
/// );
/// assert_eq!(change.key(), 1);
/// assert_eq!(change.row().amount, 8.into());
/// let difference: Decimal = change.deltas().map(|Delta { row, sign }| row.amount * sign).sum();
/// assert_eq!(difference, 3.into());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Change<T> {
    /// What happened.
    pub kind: ChangeKind,
    /// The row as it was; `None` for an insert or a read.
    pub before: Option<T>,
    /// The row as it is; `None` for a delete.
    pub after: Option<T>,
}

impl<T> Change<T> {
    /// A row that came to be.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row)] #[table(source = "users")] struct User { #[key] id: i64 }
    /// let change = Change::insert(User { id: 1 });
    /// assert!(change.before.is_none());
    /// ```
    #[inline]
    pub fn insert(row: T) -> Self {
        Self {
            kind: ChangeKind::Insert,
            before: None,
            after: Some(row),
        }
    }

    /// A row that changed.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row)] #[table(source = "users")] struct User { #[key] id: i64, age: i64 }
    /// let change = Change::update(User { id: 1, age: 30 }, User { id: 1, age: 31 });
    /// assert_eq!(change.row().age, 31);
    /// ```
    #[inline]
    pub fn update(before: T, after: T) -> Self {
        Self {
            kind: ChangeKind::Update,
            before: Some(before),
            after: Some(after),
        }
    }

    /// A row that went.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row)] #[table(source = "users")] struct User { #[key] id: i64 }
    /// assert!(Change::delete(User { id: 1 }).after.is_none());
    /// ```
    #[inline]
    pub fn delete(row: T) -> Self {
        Self {
            kind: ChangeKind::Delete,
            before: Some(row),
            after: None,
        }
    }

    /// A row that was there before the rule was.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row)] #[table(source = "users")] struct User { #[key] id: i64 }
    /// assert_eq!(Change::read(User { id: 1 }).kind, ChangeKind::Read);
    /// ```
    #[inline]
    pub fn read(row: T) -> Self {
        Self {
            kind: ChangeKind::Read,
            before: None,
            after: Some(row),
        }
    }

    /// The row as it is, or as it last was where it is gone.
    ///
    /// # Panics
    /// If both `before` and `after` were set to `None`; none of the constructors does that.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row)] #[table(source = "users")] struct User { #[key] id: i64 }
    /// assert_eq!(Change::delete(User { id: 4 }).row().id, 4);
    /// ```
    #[inline]
    #[track_caller]
    pub fn row(&self) -> &T {
        match self.after.as_ref().or(self.before.as_ref()) {
            Some(row) => row,
            None => panic!("a change has a row before or after it"),
        }
    }

    /// The old row with sign -1 and the new row with sign +1: what a running sum adds.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row)] #[table(source = "users")] struct User { #[key] id: i64 }
    /// let mut users = 10;
    /// for Delta { sign, .. } in Change::delete(User { id: 4 }).deltas() {
    ///     users += sign;
    /// }
    /// assert_eq!(users, 9);
    /// ```
    #[inline]
    pub fn deltas(&self) -> Deltas<'_, T> {
        Deltas {
            before: self.before.as_ref(),
            after: self.after.as_ref(),
        }
    }
}

impl<T: Row> Change<T> {
    /// The row's key.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row)] #[table(source = "users")] struct User { #[key] id: i64 }
    /// assert_eq!(Change::insert(User { id: 4 }).key(), 4);
    /// ```
    #[inline]
    pub fn key(&self) -> T::Key {
        self.row().key()
    }
}

impl<T: fmt::Debug> fmt::Debug for Change<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("kind", &self.kind)
            .field("before", &self.before)
            .field("after", &self.after)
            .finish()
    }
}

/// One side of a change: a row, and whether it goes (-1) or comes (+1).
///
/// ```
/// use rulemill_sdk::prelude::*;
///
/// # #[derive(Row)] #[table(source = "users")] struct User { #[key] id: i64 }
/// let change = Change::insert(User { id: 4 });
/// let Delta { row, sign } = change.deltas().next().unwrap();
/// assert_eq!((row.id, sign.get()), (4, 1));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Delta<'a, T> {
    /// The row.
    pub row: &'a T,
    /// -1 for the row as it was, +1 for the row as it is.
    pub sign: Sign,
}

/// The sides of a change; see [`Change::deltas`].
///
/// ```
/// use rulemill_sdk::prelude::*;
///
/// # #[derive(Row)] #[table(source = "users")] struct User { #[key] id: i64 }
/// let change = Change::update(User { id: 4 }, User { id: 4 });
/// assert_eq!(change.deltas().count(), 2);
/// ```
#[derive(Debug)]
pub struct Deltas<'a, T> {
    before: Option<&'a T>,
    after: Option<&'a T>,
}

impl<'a, T> Iterator for Deltas<'a, T> {
    type Item = Delta<'a, T>;

    #[inline]
    fn next(&mut self) -> Option<Delta<'a, T>> {
        if let Some(row) = self.before.take() {
            return Some(Delta {
                row,
                sign: Sign::MINUS,
            });
        }
        self.after.take().map(|row| Delta {
            row,
            sign: Sign::PLUS,
        })
    }
}

/// A timer that is due: what a rule whose first argument is `Timer` is called with.
///
/// Inside such a rule [`Now`](crate::Now) is the moment at which the timer was due.
///
/// ```
/// use rulemill_sdk::prelude::*;
///
/// #[rule]
/// fn remind(timer: Timer, notify: &mut Notify) -> Outcome {
///     notify.send("reminders", &timer.key)?;
///     Ok(())
/// }
///
/// let mut notify = Notify::default();
/// remind(Timer { key: "cart 7".into(), due: Timestamp::default() }, &mut notify)?;
/// assert_eq!(notify.sent()[0].body, "\"cart 7\"");
/// # Ok::<(), RuleError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// The key under which it was set.
    pub key: String,
    /// When it was due.
    pub due: Timestamp,
}
