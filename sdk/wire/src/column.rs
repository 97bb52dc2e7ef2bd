//! How Rust types stand for columns.

use std::hash::Hash;

use crate::{
    codec::{DecodeError, Reader},
    key,
    value::{ColumnType, Date, Decimal, Json, Timestamp, Uuid, ValueRef},
};

/// A Rust type that a column can have.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no type that a column can have",
    label = "not a column's type",
    note = "a column is bool, i64, f64, Decimal, String, Vec<u8>, Date, Timestamp, Uuid or Json, or an Option of one"
)]
pub trait ColumnValue: Sized {
    /// The column's type.
    const TYPE: ColumnType;
    /// Whether the column may be null.
    const NULLABLE: bool;

    /// The value, borrowed.
    fn value(&self) -> ValueRef<'_>;

    /// The value made from a borrowed one; `None` if that is of another type.
    fn from_value(value: ValueRef<'_>) -> Option<Self>;

    /// Appends the value in its wire form.
    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        let value = self.value();
        if Self::NULLABLE {
            out.push(u8::from(!matches!(value, ValueRef::Null)));
        }
        value.write_payload(out);
    }

    /// Reads a value in its wire form.
    ///
    /// # Errors
    /// If the bytes are no value of this type.
    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let value = if Self::NULLABLE {
            match reader.u8()? {
                0 => ValueRef::Null,
                1 => ValueRef::read_payload(Self::TYPE, reader)?,
                tag => return Err(DecodeError::BadTag(tag)),
            }
        } else {
            ValueRef::read_payload(Self::TYPE, reader)?
        };
        Self::from_value(value).ok_or(DecodeError::OutOfRange("a column's type"))
    }
}

/// A column type that can be part of a key: it has one total order, and equal values have the same
/// bytes.
pub trait KeyValue: ColumnValue + Clone + Eq + Ord + Hash {
    /// Appends the value in key form (see [`key`]).
    #[inline]
    fn write_key(&self, out: &mut Vec<u8>) {
        key::write(self.value(), out);
    }
}

macro_rules! column_value {
    ($rust:ty, $variant:ident, |$owned:ident| $borrow:expr, |$borrowed:ident| $own:expr) => {
        impl ColumnValue for $rust {
            const TYPE: ColumnType = ColumnType::$variant;
            const NULLABLE: bool = false;

            #[inline]
            fn value(&self) -> ValueRef<'_> {
                let $owned = self;
                ValueRef::$variant($borrow)
            }

            #[inline]
            fn from_value(value: ValueRef<'_>) -> Option<Self> {
                match value {
                    ValueRef::$variant($borrowed) => Some($own),
                    _ => None,
                }
            }
        }
    };
}

column_value!(bool, Bool, |v| *v, |v| v);
column_value!(i64, I64, |v| *v, |v| v);
column_value!(f64, F64, |v| *v, |v| v);
column_value!(Decimal, Decimal, |v| *v, |v| v);
column_value!(String, Text, |v| v, |v| v.into());
column_value!(Vec<u8>, Bytes, |v| v, |v| v.into());
column_value!(Date, Date, |v| *v, |v| v);
column_value!(Timestamp, Timestamp, |v| *v, |v| v);
column_value!(Uuid, Uuid, |v| *v, |v| v);
column_value!(Json, Json, |v| v.as_str(), |v| Json::from_text(v));

impl<T: ColumnValue> ColumnValue for Option<T> {
    const TYPE: ColumnType = T::TYPE;
    const NULLABLE: bool = {
        assert!(!T::NULLABLE, "a column can't be an Option of an Option");
        true
    };

    #[inline]
    fn value(&self) -> ValueRef<'_> {
        self.as_ref().map_or(ValueRef::Null, T::value)
    }

    #[inline]
    fn from_value(value: ValueRef<'_>) -> Option<Self> {
        match value {
            ValueRef::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

impl KeyValue for bool {}
impl KeyValue for i64 {}
impl KeyValue for Decimal {}
impl KeyValue for String {}
impl KeyValue for Vec<u8> {}
impl KeyValue for Date {}
impl KeyValue for Timestamp {}
impl KeyValue for Uuid {}
