//! One table's columns as the decoder sees them, and reading a JSON object into a row of it.

use std::{fmt, ops::Range};

use hashbrown::HashMap;
use rulemill_wire::{ColumnType, ValueRef, key};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    Reason, Text, invalid,
    schema::Row as RowSchema,
    value::{self, Scratch},
};
use crate::{
    catalog::Table,
    row::{ColumnId, RowBuilder},
};

/// A column, with what reading a value of it needs.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) ty: Option<ColumnType>,
    nullable: bool,
    in_key: bool,
    /// The rounds in which it was last met, and last met with a value.
    met: u64,
    filled: u64,
}

/// A table, with what reading rows of it needs. Made anew when the catalog changes.
pub(super) struct TableDecoder {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    key: Vec<ColumnId>,
    is_ready: bool,
    by_name: HashMap<String, ColumnId, foldhash::fast::RandomState>,
    /// Columns that must have a value, besides the key's.
    required: Vec<ColumnId>,
    /// Columns in the order in which the last row had them: the next one most likely does too.
    order: Vec<ColumnId>,
    round: u64,
}

/// What there is to know of a row besides its values.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowFacts {
    /// A key column without a value.
    missing_key: Option<ColumnId>,
    /// Another column that needs a value and has none.
    missing: Option<ColumnId>,
    /// Whether a column outside the key has a value, or there is none outside the key.
    pub(super) has_values: bool,
}

impl TableDecoder {
    pub(super) fn new(table: &Table) -> Self {
        let columns: Vec<Column> = table
            .columns
            .iter()
            .enumerate()
            .map(|(place, column)| Column {
                name: column.name.clone(),
                ty: column.ty,
                nullable: column.nullable,
                in_key: table.key.contains(&(place as ColumnId)),
                met: 0,
                filled: 0,
            })
            .collect();
        let by_name = columns
            .iter()
            .enumerate()
            .map(|(place, column)| (column.name.clone(), place as ColumnId))
            .collect();
        let required = columns
            .iter()
            .enumerate()
            .filter(|(_, column)| !column.nullable && !column.in_key)
            .map(|(place, _)| place as ColumnId)
            .collect();
        Self {
            name: table.name.clone(),
            columns,
            is_ready: !table.is_derived()
                && table.key_columns().all(|(_, column)| column.ty.is_some()),
            key: table.key.clone(),
            by_name,
            required,
            order: Vec::new(),
            round: 0,
        }
    }

    /// Whether sources may write it and every key column has a type, without which no key can be
    /// written.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// The column with this name, which is expected at `place` of the row.
    #[inline]
    fn find(&mut self, name: &str, place: usize) -> Option<ColumnId> {
        if let Some(&expected) = self.order.get(place)
            && self.columns[usize::from(expected)].name == name
        {
            return Some(expected);
        }
        let id = *self.by_name.get(name)?;
        self.order.truncate(place);
        if self.order.len() == place {
            self.order.push(id);
        }
        Some(id)
    }

    /// Begins a row.
    pub(super) fn begin(&mut self) {
        self.round += 1;
    }

    /// Notes that the row has the column; false if it had it before.
    #[inline]
    pub(super) fn meet(&mut self, id: ColumnId, has_value: bool) -> bool {
        let column = &mut self.columns[usize::from(id)];
        if column.met == self.round {
            return false;
        }
        column.met = self.round;
        if has_value {
            column.filled = self.round;
        }
        true
    }

    /// Ends a row that has `filled` columns with a value outside the key.
    pub(super) fn end(&self, filled: usize) -> RowFacts {
        let empty = |id: &&ColumnId| self.columns[usize::from(**id)].filled != self.round;
        RowFacts {
            missing_key: self.key.iter().find(empty).copied(),
            missing: self.required.iter().find(empty).copied(),
            has_values: filled > 0 || self.columns.len() == self.key.len(),
        }
    }

    /// Says what is wrong with a column's value.
    pub(super) fn wrong(&self, id: ColumnId, what: impl fmt::Display) -> String {
        format!(
            "column {} of table {}: {what}",
            self.columns[usize::from(id)].name,
            self.name
        )
    }

    /// Refuses a row in which a column that needs a value has none.
    pub(super) fn complete(&self, facts: &RowFacts) -> Result<(), Reason> {
        let Some(id) = facts.missing else {
            return Ok(());
        };
        invalid(self.wrong(id, "has no value, and it is declared as never null"))
    }

    /// Appends the row's key and gives its place.
    pub(super) fn key(
        &self,
        row: &RowBuilder,
        facts: &RowFacts,
        part: &str,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, Reason> {
        if let Some(id) = facts.missing_key {
            return invalid(self.wrong(id, format_args!("the key has no value in `{part}`")));
        }
        let start = out.len();
        for &id in &self.key {
            let value = row
                .get(id)
                .map_err(|error| Reason::Invalid(self.wrong(id, error)))?;
            key::write(value, out);
        }
        let bytes = out.len() - start;
        if bytes > bytes_max {
            return invalid(format!(
                "the key of table {} takes {bytes} bytes, and limits.key_bytes_max is {bytes_max}",
                self.name
            ));
        }
        Ok(start..out.len())
    }

    /// Appends the row and gives its place.
    pub(super) fn row(
        &self,
        row: &RowBuilder,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, Reason> {
        let range = row.finish(out);
        if range.len() > bytes_max {
            return invalid(format!(
                "a row of table {} takes {} bytes, and limits.row_bytes_max is {bytes_max}",
                self.name,
                range.len()
            ));
        }
        Ok(range)
    }
}

/// The names in a row, with their values as text.
pub(super) fn names(row: &str) -> Result<Vec<(Text<'_>, &str)>, String> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Vec<(Text<'de>, &'de str)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a row as a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut names = Vec::new();
            while let Some(name) = map.next_key::<&RawValue>()? {
                let name = match name.get() {
                    plain if !plain.contains('\\') => Text::Borrowed(plain.trim_matches('"')),
                    escaped => {
                        Text::Owned(serde_json::from_str(escaped).map_err(de::Error::custom)?)
                    }
                };
                names.push((name, map.next_value::<&RawValue>()?.get()));
            }
            Ok(names)
        }
    }
    let mut json = serde_json::Deserializer::from_str(row);
    (&mut json)
        .deserialize_map(Names)
        .map_err(|error| super::bare_message(&error))
}

/// Reads a JSON object, or null, into a row.
pub(super) struct RowSeed<'s> {
    pub(super) table: &'s mut TableDecoder,
    pub(super) row: &'s mut RowBuilder,
    pub(super) scratch: &'s mut Scratch,
    /// Gets what is wrong, where the error can't carry it.
    pub(super) wrong: &'s mut Option<String>,
    pub(super) debezium: bool,
    pub(super) schema: Option<&'s RowSchema>,
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = Option<RowFacts>;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = Option<RowFacts>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row as a JSON object")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Self {
            table,
            row,
            scratch,
            wrong,
            ..
        } = self;
        row.clear();
        table.begin();
        let (mut place, mut filled) = (0, 0);
        while let Some(found) = map.next_key_seed(ColumnSeed { table, place })? {
            place += 1;
            let raw: &'de RawValue = map.next_value()?;
            let Some(id) = found else {
                *wrong = Some(format!(
                    "table {} got a column while it was read",
                    table.name
                ));
                return Err(de::Error::custom("unknown column"));
            };
            let column = &table.columns[usize::from(id)];
            let logical = self.schema.and_then(|schema| schema.get(&column.name));
            let read = match logical {
                None => value::json(raw.get(), column.ty, self.debezium, scratch),
                Some(logical) => logical.read(raw.get(), column.ty, scratch),
            };
            let value = match read {
                Ok(value) => value,
                Err(what) => {
                    *wrong = Some(table.wrong(id, what));
                    return Err(de::Error::custom("wrong value"));
                }
            };
            let has_value = !matches!(value, ValueRef::Null);
            filled += usize::from(has_value && !column.in_key);
            row.set(id, value);
            if !table.meet(id, has_value) {
                *wrong = Some(table.wrong(id, "it stands in the row twice"));
                return Err(de::Error::custom("repeated column"));
            }
        }
        Ok(Some(table.end(filled)))
    }
}

/// A column's name; `None` if the dictionary doesn't have it.
struct ColumnSeed<'s> {
    table: &'s mut TableDecoder,
    place: usize,
}

impl<'de> DeserializeSeed<'de> for ColumnSeed<'_> {
    type Value = Option<ColumnId>;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for ColumnSeed<'_> {
    type Value = Option<ColumnId>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a column's name")
    }

    #[inline]
    fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.table.find(name, self.place))
    }
}
