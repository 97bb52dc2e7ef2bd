//! The engine: numbers changes, holds them against the mirror, runs the rules in table order.
//!
//! Owns the one thread that decides what happens, the read view it decides from, and the write sets
//! it makes; never writes the store itself. A rule's fault parks or halts that rule alone; an error of
//! the store stops the host with the store as it was.

mod handle;

pub use handle::{Control, ControlError, Handle, PluginEvent, Status, StatusBoard};
