//! What the end-to-end tests and the benchmarks share.

pub mod native;
pub mod rig;
