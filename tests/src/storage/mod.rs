//! Storage under a store that does what real disks do: forgets what wasn't synced, fails, is full.
//!
//! Owns back ends in memory for [`rulemill::store::Store::with_backend`]. They never look into the bytes. What they do
//! wrong is asked for by the test, and the same for the same seed.

mod failing;
mod journal;
mod small;

pub use failing::{FailingDisk, Failure};
pub use journal::{Entry, Journal, JournalDisk, LOSSES, Loss};
pub use small::SmallDisk;
