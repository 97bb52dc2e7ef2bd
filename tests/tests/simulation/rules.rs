//! The plugins of the simulated world: what the engine runs, as users write it.
//!
//! Each plugin comes in two versions. The first fails on rows with a certain `flaw`: it returns an error after half of its
//! work, panics, writes a row that the host refuses, or can't read a row without `amount`. The second is mended. Every rule has its own flaws,
//! so that a fault of one shows where it touches another.
#![allow(
    clippy::unwrap_used,
    reason = "a macro's expansion: the same rules once for each version"
)]

/// What is wrong with a row of `orders` or `items`, for the first versions.
pub(crate) mod flaw {
    pub(crate) const NONE: i64 = 0;
    /// `shop.totals` returns an error when half done.
    pub(crate) const TOTALS_ERROR: i64 = 1;
    /// `shop.totals` panics.
    pub(crate) const TOTALS_PANIC: i64 = 2;
    /// `shop.flags` writes a row that is too large.
    pub(crate) const FLAGS_REFUSED: i64 = 3;
    /// `shop.notices` returns an error after it has sent.
    pub(crate) const NOTICES_ERROR: i64 = 4;
    /// `ledger.counts`, which halts, returns an error.
    pub(crate) const COUNTS_ERROR: i64 = 5;
    /// `ledger.counts` panics.
    pub(crate) const COUNTS_PANIC: i64 = 6;
    /// `enrich.shaky` panics.
    pub(crate) const SHAKY_PANIC: i64 = 7;
    /// `stock.entries` returns an error when half done.
    pub(crate) const ENTRIES_ERROR: i64 = 8;
    /// `stock.entries` panics when half done.
    pub(crate) const ENTRIES_PANIC: i64 = 9;
    pub(crate) const ALL: i64 = 10;
}

/// The limit that `shop.flags` breaks.
pub(crate) const ROW_BYTES_MAX: usize = 256;

/// A panic that prints nothing: there are many, and they are meant.
pub(crate) fn quiet_panic(what: &str) -> ! {
    std::panic::resume_unwind(Box::new(what.to_owned()))
}

/// A column that the first versions need and the second can do without.
pub(crate) trait Amount {
    fn amount(&self) -> i64;
}

impl Amount for i64 {
    fn amount(&self) -> i64 {
        *self
    }
}

impl Amount for Option<i64> {
    fn amount(&self) -> i64 {
        self.unwrap_or_default()
    }
}

macro_rules! orders {
    ($($amount:tt)+) => {
        #[derive(Row)]
        #[table(source = "orders")]
        pub struct Order {
            #[key]
            pub id: i64,
            pub user: i64,
            pub amount: $($amount)+,
            pub flaw: i64,
        }

        /// Whether a version that has flaws stumbles over this one.
        #[allow(dead_code, reason = "not in every plugin")]
        fn has(change: &Change<Order>, faulty: bool, flaw: i64) -> bool {
            let rows = [&change.before, &change.after];
            faulty && rows.into_iter().flatten().any(|row| row.flaw == flaw)
        }
    };
}

pub(crate) mod carts;
pub(crate) mod enrich;
pub(crate) mod followers;
pub(crate) mod shop;
pub(crate) mod stock;
pub(crate) mod sums;
