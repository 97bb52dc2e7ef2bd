//! Row types and codec that the Rulemill host and its plugins share.
//!
//! Bytes cross the WebAssembly boundary in the [postcard wire format][pc]: one list in (a
//! [`batch`]), one list out (its [`effects`]). Both sides know every table's columns from the
//! plugin's [`manifest`], so a row is just its column values one after the other, with no names and
//! no tags; a nullable column has one byte before its value (0 null, 1 present).
//!
//! Keys have a second form, [`key`], in which the order of the bytes is the order of the values;
//! that form addresses rows in state reads and in the host's store.
//!
//! This crate owns the formats and nothing else: no I/O, no tables, no policy.
//!
//! [pc]: https://postcard.jamesmunns.com/wire-format

pub mod batch;
pub mod codec;
pub mod column;
pub mod effects;
pub mod key;
pub mod manifest;
mod serde_values;
pub mod value;

pub use codec::{DecodeError, Reader};
pub use column::{ColumnValue, KeyValue};
pub use value::{ColumnType, Date, Decimal, Json, Timestamp, Uuid, Value, ValueRef};
