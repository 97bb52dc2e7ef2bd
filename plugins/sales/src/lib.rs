//! Cleans raw sales and totals them.
//!
//! ```text
//! sales ──> sales_clean ──> sales_by_day ──> sales_by_month
//!      └──> sales_dropped, sales_dropped_reasons   └──> sales_best_days
//! ```
//!
//! Every table says the same whatever order the raw rows came in, so a year read as one batch and the
//! same year followed live end equal.

mod clean;
mod parse;
mod totals;

pub use clean::{DroppedReason, DroppedSale, Sale, sales_clean};
pub use parse::RawSale;
pub use totals::{
    BestDay, RankedDay, SalesDay, SalesMonth, sales_best_days, sales_by_day, sales_by_month,
};

rulemill_sdk::plugin!(sales_clean, sales_by_day, sales_by_month, sales_best_days);
