//! What a plugin's source begins with: `use rulemill_sdk::prelude::*;`.
//!
//! ```
//! use rulemill_sdk::prelude::*;
//!
//! let amount = Decimal::new(1250, 2);
//! assert_eq!((amount * Sign::MINUS).to_string(), "-12.50");
//! ```

pub use crate::{
    Change, ChangeKind, Config, Date, Decimal, Delta, Json, Lookup, Notification, Notify, Now,
    Outcome, PendingTimer, Row, RuleError, Scan, Sign, Table, Timer, Timers, Timestamp, Uuid,
    reject, rule,
};
pub use serde_json::json;
