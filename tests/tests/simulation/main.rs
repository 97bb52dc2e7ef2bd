//! The whole engine against a plain recomputation, more than a thousand seeded steps at a time.
//!
//! One seed drives the real engine ([`Stepped`](rulemill::engine::Stepped)) and the real store, over a disk in memory: source
//! transactions and requests, columns that come and go, where batches and groups end, how far the disk is behind, plugins that come,
//! change, go and are refused, rules that fault, are paused, halt and catch up, parked changes that are run again or given up, all or
//! one, timers and the clock, a log that forgets what rules have yet to handle, plugins that are rebuilt, for that reason or on demand,
//! a disk that fails, crashes with and without power, restarts, in the middle of all this. After every restart, once rules that were behind are at the
//! head, all tables, timers, notifications, parked changes and rules' states must be what [`model`] says, which shares
//! nothing with the engine. In the end every rule is mended and everything parked is run again: then all must be as if
//! nothing had ever failed.
//!
//! Two kinds of runs: in a strict one everything is compared after every restart, so commands wait until what is behind has caught
//! up. In a loose one commands come at any time, room for parked changes runs out and a later rule faults on what an earlier one
//! derived: what those rules hold is then known only in the end.
//!
//! Everything that happens is counted, and in a run of many seeds each kind must happen often.
//!
//! `RULEMILL_SEEDS=100000 cargo test --workspace --test simulation seeds` runs longer; a failure prints the command that repeats
//! its seed, and `RULEMILL_LAST_STEPS=2000` shows more of the steps before it.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod compare;
mod disk;
mod feed;
mod model;
mod plugins;
mod rules;
mod script;
mod serial;
mod world;

/// Every rule, by full name.
pub(crate) const RULES: [&str; 15] = [
    "shop.totals",
    "shop.buckets",
    "shop.flags",
    "shop.notices",
    "enrich.names",
    "enrich.shaky",
    "stock.entries",
    "ledger.counts",
    "carts.watch",
    "carts.remind",
    "lenient.sums",
    "reader.standings",
    "late.sums",
    "tardy.sums",
    "follow.users",
];
