//! Tests without a host: tables in memory, and a whole plugin run over changes.

mod harness;
mod memory;

pub use harness::{Fault, Harness};
pub use memory::MemoryState;
