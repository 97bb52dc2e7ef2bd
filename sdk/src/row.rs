//! Row types: how a Rust struct stands for a table's rows.
//!
//! `#[derive(Row)]` writes the implementations; nothing here reads or writes tables.

use std::{fmt::Debug, hash::Hash, marker::PhantomData};

use rulemill_wire::{
    ColumnType, ColumnValue, Date, Decimal, DecodeError, Json, KeyValue, Reader, Timestamp, Uuid,
    key,
    manifest::{Access, Column, Index as ManifestIndex, Table as ManifestTable},
};

/// A struct that stands for the rows of a table. Derive it.
///
/// ```
/// use rulemill_sdk::prelude::*;
///
/// /// Rows of a table that the plugin reads: only the columns it needs.
/// #[derive(Row)]
/// #[table(source = "orders")]
/// struct Order {
///     #[key]
///     id: i64,
///     #[column(name = "customer")]
///     user_id: i64,
///     note: Option<String>,
/// }
///
/// /// Rows of a table that the plugin owns, with an index over one column and one over two.
/// #[derive(Row, Default)]
/// #[table(derived = "user_days", index(orders, day))]
/// struct UserDay {
///     #[key]
///     user_id: i64,
///     #[key]
///     day: Date,
///     #[index]
///     orders: i64,
/// }
///
/// let order = Order { id: 7, user_id: 1, note: None };
/// assert_eq!(order.key(), 7);
/// assert_eq!(UserDay::default().key(), (0, Date::default()));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a row type",
    label = "this has to be a struct with `#[derive(Row)]`",
    note = "write `#[derive(Row)]` and `#[table(source = \"...\")]` or `#[table(derived = \"...\")]` on the struct"
)]
pub trait Row: Sized + Send + Sync + 'static {
    /// The key's type: the type of the `#[key]` field, or a tuple of them in field order.
    type Key: RowKey;

    /// The table's name, columns, key and indexes.
    #[doc(hidden)]
    const SPEC: RowSpec;

    /// The row's key.
    fn key(&self) -> Self::Key;

    #[doc(hidden)]
    fn has_key(&self, key: &Self::Key) -> bool;

    #[doc(hidden)]
    fn set_key(&mut self, key: &Self::Key);

    #[doc(hidden)]
    fn read_row(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;

    #[doc(hidden)]
    fn write_row(&self, out: &mut Vec<u8>);

    #[doc(hidden)]
    fn write_index(&self, index: usize, out: &mut Vec<u8>);

    #[doc(hidden)]
    fn duplicate(&self) -> Self;
}

/// A row type of a table that the plugin only reads (`#[table(source = "...")]`).
///
/// ```
/// use rulemill_sdk::{SourceRow, prelude::*};
///
/// #[derive(Row)]
/// #[table(source = "users")]
/// struct User { #[key] id: i64, name: String }
///
/// fn read_only<T: SourceRow>() {}
/// read_only::<User>();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is a row of a table that this plugin owns",
    label = "a `Lookup` reads tables of others",
    note = "to read and write a table of your own, write `&mut Table<{Self}>`"
)]
pub trait SourceRow: Row {}

/// A row type of a table that the plugin owns (`#[table(derived = "...")]`).
///
/// ```
/// use rulemill_sdk::{DerivedRow, prelude::*};
///
/// #[derive(Row, Default)]
/// #[table(derived = "totals")]
/// struct Total { #[key] id: i64, sum: Decimal }
///
/// fn owned<T: DerivedRow>() {}
/// owned::<Total>();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is a row of a table that this plugin only reads",
    label = "a `Table` is one that the plugin owns",
    note = "to look it up, write `&Lookup<{Self}>`; to own the table, write `#[table(derived = \"...\")]` on the struct"
)]
pub trait DerivedRow: Row {}

/// What a row type says of its table.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct RowSpec {
    pub table: &'static str,
    pub access: Access,
    pub columns: &'static [(&'static str, ColumnType, bool)],
    pub key: &'static [u16],
    pub indexes: &'static [&'static [u16]],
}

impl RowSpec {
    /// The table as the manifest has it.
    pub fn to_manifest(&self) -> ManifestTable {
        ManifestTable {
            name: self.table.to_owned(),
            access: self.access,
            columns: self
                .columns
                .iter()
                .map(|&(name, ty, nullable)| Column {
                    name: name.to_owned(),
                    ty,
                    nullable,
                })
                .collect(),
            key: self.key.to_vec(),
            indexes: self
                .indexes
                .iter()
                .map(|columns| ManifestIndex {
                    columns: columns.to_vec(),
                })
                .collect(),
        }
    }
}

/// A row's key: a key column's type, or a tuple of up to six of them.
///
/// ```
/// use rulemill_sdk::{RowKey, prelude::*};
///
/// fn is_key<K: RowKey>() {}
/// is_key::<i64>();
/// is_key::<(String, Date)>();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a key",
    note = "a key is bool, i64, Decimal, String, Vec<u8>, Date, Timestamp or Uuid, or a tuple of them"
)]
pub trait RowKey: Clone + Eq + Ord + Hash + Debug + Send + Sync + 'static {
    /// Appends the key's columns in wire form.
    #[doc(hidden)]
    fn write_wire(&self, out: &mut Vec<u8>);

    /// Appends the key's columns in key form.
    #[doc(hidden)]
    fn write_form(&self, out: &mut Vec<u8>);
}

/// The first columns of a key or of an index, or all of them; what ranges are bounded by. `K` is the
/// key's type or the tuple of the index's column types.
///
/// ```
/// use rulemill_sdk::{KeyPrefix, prelude::*};
///
/// fn begins<K, P: KeyPrefix<K>>(_: P) {}
/// begins::<(i64, Date), _>(7); // all dates of 7
/// begins::<(i64, Date), _>((7, Date::default())); // one key
/// ```
pub trait KeyPrefix<K> {
    /// Appends the values in key form.
    #[doc(hidden)]
    fn write_prefix(&self, out: &mut Vec<u8>);
}

#[doc(hidden)]
#[inline]
pub fn write_index_column<T: ColumnValue>(value: &T, out: &mut Vec<u8>) {
    key::write_index_column(value.value(), T::NULLABLE, out);
}

macro_rules! single {
    ($($ty:ty),*) => {$(
        impl KeyPrefix<$ty> for $ty {
            #[inline]
            fn write_prefix(&self, out: &mut Vec<u8>) {
                write_index_column(self, out);
            }
        }

        impl KeyPrefix<Option<$ty>> for Option<$ty> {
            #[inline]
            fn write_prefix(&self, out: &mut Vec<u8>) {
                write_index_column(self, out);
            }
        }
    )*};
}

single!(
    bool,
    i64,
    f64,
    Decimal,
    String,
    Vec<u8>,
    Date,
    Timestamp,
    Uuid,
    Json
);

macro_rules! single_key {
    ($($ty:ty),*) => {$(
        impl RowKey for $ty {
            #[inline]
            fn write_wire(&self, out: &mut Vec<u8>) {
                ColumnValue::write(self, out);
            }

            #[inline]
            fn write_form(&self, out: &mut Vec<u8>) {
                self.write_key(out);
            }
        }
    )*};
}

single_key!(bool, i64, Decimal, String, Vec<u8>, Date, Timestamp, Uuid);

// A text can bound a range without being copied first.
impl KeyPrefix<String> for &str {
    fn write_prefix(&self, out: &mut Vec<u8>) {
        key::write(rulemill_wire::ValueRef::Text(self), out);
    }
}

macro_rules! tuple_key {
    ($($part:ident $place:tt),+) => {
        impl<$($part: KeyValue + Debug + Send + Sync + 'static),+> RowKey for ($($part,)+) {
            #[inline]
            fn write_wire(&self, out: &mut Vec<u8>) {
                $(ColumnValue::write(&self.$place, out);)+
            }

            #[inline]
            fn write_form(&self, out: &mut Vec<u8>) {
                $(self.$place.write_key(out);)+
            }
        }
    };
}

tuple_key!(A 0, B 1);
tuple_key!(A 0, B 1, C 2);
tuple_key!(A 0, B 1, C 2, D 3);
tuple_key!(A 0, B 1, C 2, D 3, E 4);
tuple_key!(A 0, B 1, C 2, D 3, E 4, F 5);

macro_rules! tuple_prefix {
    ($first:ident; $($part:ident $place:tt),+; $($rest:ident),*) => {
        impl<$($part: ColumnValue,)+ $($rest),*> KeyPrefix<($($part,)+ $($rest,)*)> for ($($part,)+) {
            #[inline]
            fn write_prefix(&self, out: &mut Vec<u8>) {
                $(write_index_column(&self.$place, out);)+
            }
        }
    };
}

macro_rules! first_column {
    ($first:ident; $($rest:ident),+) => {
        impl<$first: ColumnValue, $($rest),+> KeyPrefix<($first, $($rest),+)> for $first {
            #[inline]
            fn write_prefix(&self, out: &mut Vec<u8>) {
                write_index_column(self, out);
            }
        }
    };
}

first_column!(A; B);
first_column!(A; B, C);
first_column!(A; B, C, D);
first_column!(A; B, C, D, E);
first_column!(A; B, C, D, E, F);
tuple_prefix!(A; A 0; B);
tuple_prefix!(A; A 0; B, C);
tuple_prefix!(A; A 0; B, C, D);
tuple_prefix!(A; A 0; B, C, D, E);
tuple_prefix!(A; A 0; B, C, D, E, F);
tuple_prefix!(A; A 0, B 1;);
tuple_prefix!(A; A 0, B 1; C);
tuple_prefix!(A; A 0, B 1; C, D);
tuple_prefix!(A; A 0, B 1; C, D, E);
tuple_prefix!(A; A 0, B 1; C, D, E, F);
tuple_prefix!(A; A 0, B 1, C 2;);
tuple_prefix!(A; A 0, B 1, C 2; D);
tuple_prefix!(A; A 0, B 1, C 2; D, E);
tuple_prefix!(A; A 0, B 1, C 2; D, E, F);
tuple_prefix!(A; A 0, B 1, C 2, D 3;);
tuple_prefix!(A; A 0, B 1, C 2, D 3; E);
tuple_prefix!(A; A 0, B 1, C 2, D 3; E, F);
tuple_prefix!(A; A 0, B 1, C 2, D 3, E 4;);
tuple_prefix!(A; A 0, B 1, C 2, D 3, E 4; F);
tuple_prefix!(A; A 0, B 1, C 2, D 3, E 4, F 5;);

/// An index of a row type; the derive makes one for each `#[index]` field, named `BY_` and the
/// field's name, and one for each `index(a, b)`, named `BY_A_B`.
///
/// ```
/// use rulemill_sdk::prelude::*;
///
/// #[derive(Row, Default)]
/// #[table(derived = "totals")]
/// struct Total { #[key] product_id: i64, #[index] shop: String, sold: i64 }
///
/// let mut totals = Table::from_rows([
///     Total { product_id: 1, shop: "north".into(), sold: 3 },
///     Total { product_id: 2, shop: "south".into(), sold: 5 },
/// ]);
/// let north: Vec<_> = totals.by(Total::BY_SHOP, "north").collect::<Result<_, _>>()?;
/// assert_eq!(north[0].product_id, 1);
/// # Ok::<(), RuleError>(())
/// ```
pub struct Index<T, K> {
    place: u32,
    row: PhantomData<fn() -> (T, K)>,
}

impl<T, K> Clone for Index<T, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, K> Copy for Index<T, K> {}

impl<T, K> std::fmt::Debug for Index<T, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index({})", self.place)
    }
}

impl<T, K> Index<T, K> {
    #[doc(hidden)]
    pub const fn new(place: u32) -> Self {
        Self {
            place,
            row: PhantomData,
        }
    }

    pub(crate) fn place(self) -> u32 {
        self.place
    }
}
