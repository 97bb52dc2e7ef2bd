//! What the end-to-end tests and the benchmarks share.

pub mod daemon;
pub mod native;
pub mod rig;
