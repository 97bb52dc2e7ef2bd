//! Lines for the people who run the plugin. None of it reaches a table.

/// How serious a line is.
///
/// ```
/// use rulemill_sdk::{Level, log};
/// log(Level::Warn, "an order without a product was skipped");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For the author, while developing.
    Debug,
    /// Worth knowing.
    Info,
    /// Something to look at.
    Warn,
    /// Something is wrong.
    Error,
}

/// Writes a line to the host's log, marked with the plugin's name; natively, to standard error. The
/// host cuts or drops what is over its limit. See also [`log!`](crate::log!).
///
/// ```
/// use rulemill_sdk::{Level, log};
/// log(Level::Info, "first snapshot begins");
/// ```
pub fn log(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::guest::log(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?}: {message}");
}

/// Writes a formatted line to the host's log: `log!(Warn, "stock of {product} is {left}")`. The level
/// is one of [`Level`]'s.
///
/// ```
/// let product = 7;
/// rulemill_sdk::log!(Warn, "product {product} has no price");
/// ```
#[macro_export]
macro_rules! log {
    ($level:ident, $($message:tt)+) => {
        $crate::log($crate::Level::$level, &::std::format!($($message)+))
    };
}
