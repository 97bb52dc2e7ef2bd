//! What the table core needs to know of a table's rows: the one seam between tables whose rows are
//! Rust structs and tables whose columns are known at run time only.

use std::{fmt::Debug, hash::Hash, marker::PhantomData};

use rulemill_wire::{DecodeError, Reader};

use crate::row::{Row, RowKey};

/// A table's rows and keys, and their forms as bytes.
pub(crate) trait Schema: Send + 'static {
    type Row: Send + 'static;
    type Key: Clone + Eq + Hash + Debug + Send + 'static;

    fn table(&self) -> &str;
    fn key(&self, row: &Self::Row) -> Self::Key;
    fn has_key(&self, row: &Self::Row, key: &Self::Key) -> bool;
    fn read(&self, reader: &mut Reader<'_>) -> Result<Self::Row, DecodeError>;
    fn write(&self, row: &Self::Row, out: &mut Vec<u8>);
    /// Key columns in wire form, as the effects name a row to remove.
    fn write_key_wire(&self, key: &Self::Key, out: &mut Vec<u8>);
    /// Key columns in key form, as state reads name a row.
    fn write_key_form(&self, key: &Self::Key, out: &mut Vec<u8>);
    /// An index's columns in key form.
    fn write_index(&self, index: usize, row: &Self::Row, out: &mut Vec<u8>);
    fn duplicate(&self, row: &Self::Row) -> Self::Row;
}

/// The schema of a row type: everything is known at compile time.
pub(crate) struct Typed<T>(PhantomData<fn() -> T>);

impl<T> Typed<T> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Row> Schema for Typed<T> {
    type Row = T;
    type Key = T::Key;

    fn table(&self) -> &str {
        T::SPEC.table
    }

    #[inline]
    fn key(&self, row: &T) -> T::Key {
        row.key()
    }

    #[inline]
    fn has_key(&self, row: &T, key: &T::Key) -> bool {
        row.has_key(key)
    }

    #[inline]
    fn read(&self, reader: &mut Reader<'_>) -> Result<T, DecodeError> {
        T::read_row(reader)
    }

    #[inline]
    fn write(&self, row: &T, out: &mut Vec<u8>) {
        row.write_row(out);
    }

    fn write_key_wire(&self, key: &T::Key, out: &mut Vec<u8>) {
        key.write_wire(out);
    }

    #[inline]
    fn write_key_form(&self, key: &T::Key, out: &mut Vec<u8>) {
        key.write_form(out);
    }

    fn write_index(&self, index: usize, row: &T, out: &mut Vec<u8>) {
        row.write_index(index, out);
    }

    #[inline]
    fn duplicate(&self, row: &T) -> T {
        row.duplicate()
    }
}
