//! The only time a rule knows.

use std::{fmt, ops::Deref};

use rulemill_wire::Timestamp;

/// When the change being handled was committed where it comes from; for a timer, when it was due. A
/// rule takes it as `Now`. Running the same changes again gives the same times.
///
/// ```
/// use rulemill_sdk::prelude::*;
///
/// let now = Now::at("2026-01-31T12:00:00Z".parse()?);
/// assert_eq!(now.date().to_string(), "2026-01-31");
/// # Ok::<(), RuleError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    timestamp: Timestamp,
}

impl Now {
    /// A time for a test.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// assert_eq!(Now::at(Timestamp::default()).timestamp().micros(), 0);
    /// ```
    pub fn at(timestamp: Timestamp) -> Self {
        Self { timestamp }
    }

    /// The time.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// let now = Now::at("2026-01-31T12:00:00Z".parse()?);
    /// assert_eq!(now.timestamp().to_string(), "2026-01-31T12:00:00Z");
    /// # Ok::<(), RuleError>(())
    /// ```
    pub fn timestamp(self) -> Timestamp {
        self.timestamp
    }

    /// So many minutes later, for a timer.
    ///
    /// # Errors
    /// If that lies outside the calendar.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// let now = Now::at("2026-01-31T12:00:00Z".parse()?);
    /// assert_eq!(now.plus_minutes(30)?.to_string(), "2026-01-31T12:30:00Z");
    /// # Ok::<(), RuleError>(())
    /// ```
    pub fn plus_minutes(self, minutes: i64) -> Result<Timestamp, OutsideCalendar> {
        minutes
            .checked_mul(60)
            .and_then(|seconds| self.timestamp.plus_seconds(seconds))
            .ok_or(OutsideCalendar)
    }
}

impl Deref for Now {
    type Target = Timestamp;

    fn deref(&self) -> &Timestamp {
        &self.timestamp
    }
}

/// A time lies outside the calendar (about 262,000 years either side of year 0).
///
/// ```
/// # use rulemill_sdk::prelude::*;
/// let error = Now::at(Timestamp::default()).plus_minutes(i64::MAX).unwrap_err();
/// assert_eq!(error.to_string(), "the time lies outside the calendar");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutsideCalendar;

impl fmt::Display for OutsideCalendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time lies outside the calendar")
    }
}

impl std::error::Error for OutsideCalendar {}
