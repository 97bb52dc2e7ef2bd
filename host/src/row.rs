//! A row in the host's own form, in memory, in the store and in the log.
//!
//! ```text
//! row   = (tag:u8 payload)*        one per column of the table's dictionary, in column order
//! tag   = 0 null, else the number of the value's ColumnType; the payload is its wire form
//! ```
//!
//! Columns behind the last that is not null are left out, so a column added to the dictionary later
//! reads as null in every older row. Values carry their own type because a source's columns may be
//! stored before any rule says what they are; [`Projection`] turns a row into what a rule declared.
//!
//! This module owns the form. It never decides what a row means, and never panics on bytes it was given:
//! a row that can't be read is a [`RowError`].

use bytes::Bytes;
use rulemill_wire::{ColumnType, DecodeError, Reader, ValueRef};

/// A row: a slice of a batch's or a page's buffer.
pub type Row = Bytes;

/// A column's place in its table's dictionary.
pub type ColumnId = u16;

/// Why a row could not be read or turned into what was asked for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RowError {
    /// The row's bytes are damaged.
    #[error("the stored row can't be read: {0}")]
    Decode(#[from] DecodeError),
    /// A column that must have a value has none.
    #[error(
        "column {column} is null or missing, which the rule's row type doesn't allow: give it a value, or make it an Option"
    )]
    Null {
        /// The column's name.
        column: String,
    },
    /// A value can't be taken for the type that was asked for.
    #[error("column {column} holds {found}, which is no {expected}")]
    Type {
        /// The column's name.
        column: String,
        /// What it holds.
        found: String,
        /// What was asked for.
        expected: ColumnType,
    },
}

/// Reads the next value with its tag.
#[inline]
pub fn read_tagged<'a>(reader: &mut Reader<'a>) -> Result<ValueRef<'a>, DecodeError> {
    match reader.u8()? {
        0 => Ok(ValueRef::Null),
        tag => {
            let ty = ColumnType::from_u8(tag).ok_or(DecodeError::BadTag(tag))?;
            ValueRef::read_payload(ty, reader)
        }
    }
}

/// Appends a value with its tag.
#[inline]
pub fn write_tagged(value: ValueRef<'_>, out: &mut Vec<u8>) {
    out.push(value.column_type().map_or(0, |ty| ty as u8));
    value.write_payload(out);
}

/// The row's values in column order; columns left out at the end are not yielded.
pub fn values(row: &[u8]) -> impl Iterator<Item = Result<ValueRef<'_>, DecodeError>> {
    let mut reader = Reader::new(row);
    std::iter::from_fn(move || (!reader.is_empty()).then(|| read_tagged(&mut reader)))
}

/// One column's value; null if the row is older than the column.
///
/// # Errors
/// If the row's bytes are damaged.
pub fn value(row: &[u8], column: ColumnId) -> Result<ValueRef<'_>, DecodeError> {
    let mut reader = Reader::new(row);
    for _ in 0..column {
        if reader.is_empty() {
            return Ok(ValueRef::Null);
        }
        let tag = reader.u8()?;
        if tag != 0 {
            let ty = ColumnType::from_u8(tag).ok_or(DecodeError::BadTag(tag))?;
            ValueRef::skip_payload(ty, &mut reader)?;
        }
    }
    if reader.is_empty() {
        return Ok(ValueRef::Null);
    }
    read_tagged(&mut reader)
}

/// Puts values that come in any order into a row.
///
/// The builder is kept and used again: after warm-up a row costs no allocation.
#[derive(Debug, Default)]
pub struct RowBuilder {
    scratch: Vec<u8>,
    /// For each column its tagged value's place in `scratch`; an empty range is null.
    places: Vec<(u32, u32)>,
}

impl RowBuilder {
    /// Forgets the values set so far.
    pub fn clear(&mut self) {
        self.scratch.clear();
        self.places.clear();
    }

    /// Sets a column. The last value set counts.
    #[inline]
    pub fn set(&mut self, column: ColumnId, value: ValueRef<'_>) {
        let place = usize::from(column);
        if place >= self.places.len() {
            self.places.resize(place + 1, (0, 0));
        }
        let start = self.scratch.len() as u32;
        if !matches!(value, ValueRef::Null) {
            write_tagged(value, &mut self.scratch);
        }
        self.places[place] = (start, self.scratch.len() as u32);
    }

    /// A column's value as set so far; null if it wasn't set.
    ///
    /// # Errors
    /// Never for values that [`set`](Self::set) wrote.
    #[inline]
    pub fn get(&self, column: ColumnId) -> Result<ValueRef<'_>, DecodeError> {
        match self.places.get(usize::from(column)) {
            Some(&(start, end)) if start < end => read_tagged(&mut Reader::new(
                &self.scratch[start as usize..end as usize],
            )),
            _ => Ok(ValueRef::Null),
        }
    }

    /// Whether a column has no value so far.
    #[inline]
    pub fn is_null(&self, column: ColumnId) -> bool {
        self.places
            .get(usize::from(column))
            .is_none_or(|(start, end)| start == end)
    }

    /// Appends the finished row to `out` and gives the range it takes there.
    pub fn finish(&self, out: &mut Vec<u8>) -> std::ops::Range<usize> {
        let start = out.len();
        let columns = self
            .places
            .iter()
            .rposition(|(start, end)| start < end)
            .map_or(0, |last| last + 1);
        // Values that came in column order stand side by side, and go together.
        let mut run = 0..0;
        for &(from, to) in &self.places[..columns] {
            if from as usize == run.end && from < to {
                run.end = to as usize;
                continue;
            }
            out.extend_from_slice(&self.scratch[run]);
            if from == to {
                out.push(0);
            }
            run = from as usize..to as usize;
        }
        out.extend_from_slice(&self.scratch[run]);
        start..out.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, option, prelude::*};
    use rulemill_wire::Value;

    fn value() -> impl Strategy<Value = Value> {
        let some = prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::I64),
            (-1e9..1e9).prop_map(Value::F64),
            ".{0,5}".prop_map(Value::Text),
            vec(any::<u8>(), 0..5).prop_map(Value::Bytes),
        ];
        option::weighted(0.8, some).prop_map(Option::unwrap_or_default)
    }

    fn row(values: &[(ColumnId, Value)]) -> Vec<u8> {
        let mut builder = RowBuilder::default();
        for (column, value) in values {
            builder.set(*column, value.as_ref());
        }
        let mut out = Vec::new();
        builder.finish(&mut out);
        out
    }

    proptest! {
        /// Values may come in any order, and again.
        #[test]
        fn a_row_holds_what_was_set_last(values in vec((0..9u16, value()), 0..20)) {
            let bytes = row(&values);
            let read: Vec<_> = super::values(&bytes).collect::<Result<_, _>>().unwrap();
            prop_assert!(read.last() != Some(&ValueRef::Null), "{:?}", read);
            for column in 0..12 {
                let set = values.iter().rev().find(|(of, _)| *of == column);
                let expected = set.map_or(ValueRef::Null, |(_, value)| value.as_ref());
                prop_assert_eq!(super::value(&bytes, column), Ok(expected));
                let place = usize::from(column);
                prop_assert_eq!(read.get(place).copied().unwrap_or(ValueRef::Null), expected);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let read: Result<Vec<_>, _> = super::values(&bytes).collect();
            for column in 0..12 {
                let value = super::value(&bytes, column);
                prop_assert!(value.is_ok() || read.is_err());
            }
        }
    }
}
