//! Rulemill: row changes in, sandboxed WebAssembly rules, one transaction out.
//!
//! ```text
//! source -> decode -> engine (log + mirror, rules in table order) -> commit -> acknowledge
//! ```
//!
//! Plain data passes from stage to stage ([`change`], [`row`], write sets); no stage
//! imports its neighbour, the engine joins them. `store` alone names redb, `rule` alone wasmtime.
//! `ARCHITECTURE.md` has the picture, the nouns and the invariants.

pub mod catalog;
pub mod change;
pub mod cli;
pub mod commit;
pub mod config;
pub mod convert;
pub mod daemon;
pub mod decode;
pub mod demo;
pub mod engine;
mod file_events;
pub mod graph;
pub mod guest_build;
pub mod http;
pub mod limits;
pub mod plugin_dir;
pub mod render;
pub mod row;
pub mod rule;
pub mod scaffold;
pub mod source;
pub mod store;
