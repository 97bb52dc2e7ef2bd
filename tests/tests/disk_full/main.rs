//! The disk is full, wherever in a commit that shows. The host takes nothing more, says why, keeps what it has, and goes
//! on by itself once there is room; one that has to end before then ends soon, with the store as the last commit
//! left it.
//!
//! In memory the room ends at every page of the last stretch in turn. The daemon is tried on a small file system, where
//! this process may mount one.
#![allow(clippy::unwrap_used, reason = "tests")]

mod daemon;
mod engine;
