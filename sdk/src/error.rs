//! What a rule returns, and what can go wrong while it reads tables.
//!
//! An error of a rule is data: it undoes that one change for that one rule and names the reason.
//! Nothing here ends the plugin.

use std::fmt;

use rulemill_wire::DecodeError;

/// Why a rule could not handle a change: any error, or a text.
///
/// ```
/// use rulemill_sdk::prelude::*;
///
/// fn quantity(text: &str) -> Result<i64, RuleError> {
///     let quantity: i64 = text.parse()?; // any error type
///     if quantity < 0 {
///         return Err("a quantity can't be negative".into()); // a text
///     }
///     Ok(quantity)
/// }
/// assert_eq!(quantity("12").unwrap(), 12);
/// assert!(quantity("-1").is_err());
/// assert!(quantity("many").is_err());
/// ```
pub type RuleError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What a rule returns. An error undoes what the rule did for this change, and the host parks,
/// skips or stops as its configuration says.
///
/// ```
/// use rulemill_sdk::prelude::*;
///
/// fn only_positive(amount: i64) -> Outcome {
///     if amount < 0 {
///         reject!("the amount {amount} is negative");
///     }
///     Ok(())
/// }
/// assert_eq!(only_positive(-5).unwrap_err().to_string(), "the amount -5 is negative");
/// ```
pub type Outcome = Result<(), RuleError>;

/// Returns an error with a formatted message from the rule.
///
/// ```
/// use rulemill_sdk::prelude::*;
///
/// fn check(stock: i64) -> Outcome {
///     if stock < 0 {
///         reject!("stock fell to {stock}");
///     }
///     Ok(())
/// }
/// assert!(check(-1).is_err());
/// ```
#[macro_export]
macro_rules! reject {
    ($($message:tt)+) => {
        return ::core::result::Result::Err(::std::format!($($message)+).into())
    };
}

/// A row that the host returned could not be read as the row type says.
///
/// ```
/// use rulemill_sdk::{StateError, prelude::*};
///
/// fn is_error<E: std::error::Error>() {}
/// is_error::<StateError>(); // so `?` works on it in a rule
/// ```
#[derive(Debug)]
pub struct StateError(Box<(String, DecodeError)>);

impl StateError {
    #[cold]
    pub(crate) fn new(table: &str, error: DecodeError) -> Self {
        Self(Box::new((table.to_owned(), error)))
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (table, error) = &*self.0;
        write!(f, "can't read a row of table {table}: {error}")
    }
}

impl std::error::Error for StateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0.1)
    }
}

/// An error and its causes in one line.
pub(crate) fn message(error: &RuleError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many error types already end with their cause.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
