//! What the end-to-end tests and the benchmarks share.

pub mod daemon;
pub mod fuzzing;
pub mod native;
pub mod random;
pub mod rig;
pub mod site;
pub mod storage;
pub mod wait;

/// The guide's and the README's rules, compiled as a reader would.
#[cfg(doctest)]
#[doc = include_str!("../../docs/writing-rules.md")]
pub struct WritingRules;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
