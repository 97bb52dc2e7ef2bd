//! What the engine has decided and the disk doesn't hold yet.
//!
//! A row that a rule reads lies in one of three places: *committed* in the store, *settling* (with the committer,
//! not yet durable) or *young* (decided since). Every read has to find the row in the youngest place that has
//! it and in no other, and an idempotency key has to be known from the moment at which its request is taken,
//! wherever its record lies. Here the committer is held in the middle of its work, so that each of the
//! three is there for as long as a test needs it.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod held;
mod index_scan;
mod model;
mod plugins;
mod requests;
