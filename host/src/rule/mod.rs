//! Rules as code: plugins loaded from WebAssembly, checked, and called in a sandbox.
//!
//! Owns compiling, instances, limits of time and memory, and the adapter of each WIT major. It never
//! reads or writes tables itself: state comes through [`StateAccess`], effects go back as bytes for
//! the engine to check. When a guest misbehaves the call ends with a [`Fault`] and its instance is
//! thrown away.
//!
//! Nothing outside this module names wasmtime.

mod guest;
mod interface;
mod manifest;
mod panic;
mod plugin;
mod probe;
mod runtime;
mod sandbox;
mod ticker;
mod v1;

pub use plugin::{
    Culprit, Fault, Found, Instance, LoadError, Page, Plugin, PluginHash, ScanRange, StateAccess,
};
pub use runtime::{CacheCounts, Runtime, check_size, hash};
pub(crate) use sandbox::cut;
