//! Tables whose columns are known at run time only: their description, and the schema under which the
//! table core keeps their rows.

use std::sync::Arc;

use rulemill_wire::{
    ColumnType, Date, Decimal, DecodeError, Json, Reader, Timestamp, Uuid, Value, ValueRef, key,
    manifest::{Access, Column, Index, Table as ManifestTable, WHOLE_ROW},
};

use super::record::{ColumnError, Record, check};
use crate::schema::Schema;

/// A table's description while it is being made.
///
/// ```
/// use rulemill_sdk::dynamic::{ColumnType, Plugin, Table};
///
/// let mut plugin = Plugin::new();
/// let orders = plugin.table(
///     Table::source("orders").column("id", ColumnType::I64).whole_row().key(["id"]),
/// )?;
/// let days = plugin.table(
///     Table::derived("days")
///         .column("user", ColumnType::I64)
///         .column("day", ColumnType::Date)
///         .nullable("note", ColumnType::Text)
///         .key(["user", "day"])
///         .index(["note"]),
/// )?;
/// assert_eq!((orders.name(), days.name()), ("orders", "days"));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a table is added with `Plugin::table`"]
pub struct Table {
    name: String,
    access: Access,
    columns: Vec<Column>,
    key: Vec<String>,
    indexes: Vec<Vec<String>>,
}

/// See [`Table`] for an example of each.
impl Table {
    fn new(name: impl Into<String>, access: Access) -> Self {
        Self {
            name: name.into(),
            access,
            columns: Vec::new(),
            key: Vec::new(),
            indexes: Vec::new(),
        }
    }

    /// A table that the plugin only reads.
    pub fn source(name: impl Into<String>) -> Self {
        Self::new(name, Access::Read)
    }

    /// A table that the plugin owns.
    pub fn derived(name: impl Into<String>) -> Self {
        Self::new(name, Access::Own)
    }

    /// Adds a column that is never null.
    pub fn column(mut self, name: impl Into<String>, ty: ColumnType) -> Self {
        self.columns.push(Column {
            name: name.into(),
            ty,
            nullable: false,
        });
        self
    }

    /// Adds a column that may be null.
    pub fn nullable(mut self, name: impl Into<String>, ty: ColumnType) -> Self {
        self.columns.push(Column {
            name: name.into(),
            ty,
            nullable: true,
        });
        self
    }

    /// Adds the whole row, with all its columns, as one JSON object; its name here is `*`. Only for a
    /// table that is read.
    pub fn whole_row(self) -> Self {
        self.column(WHOLE_ROW, ColumnType::Json)
    }

    /// Names the key's columns, in key order.
    pub fn key(mut self, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.key = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Adds an index over these columns. Its number is its place among the table's indexes, from 0.
    pub fn index(mut self, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.indexes
            .push(columns.into_iter().map(Into::into).collect());
        self
    }

    pub(super) fn into_manifest(self) -> Result<ManifestTable, String> {
        let Self {
            name,
            access,
            columns,
            key,
            indexes,
        } = self;
        let place = |column: &String| {
            let place = columns.iter().position(|known| known.name == *column);
            place.map(|place| place as u16).ok_or_else(|| {
                format!("table {name} has no column {column} for its key or an index")
            })
        };
        if key.is_empty() {
            return Err(format!("table {name} has no key; name its key columns"));
        }
        for (i, column) in columns.iter().enumerate() {
            if columns[..i].iter().any(|other| other.name == column.name) {
                return Err(format!("table {name} has column {} twice", column.name));
            }
            if column.name == WHOLE_ROW && access == Access::Own {
                return Err(format!(
                    "table {name} is owned: it has no whole row to be read"
                ));
            }
        }
        let key = key.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        for &place in &key {
            let column = &columns[usize::from(place)];
            if column.nullable || !column.ty.can_be_key() {
                return Err(format!(
                    "column {} of table {name} can't be part of the key: it is {}",
                    column.name,
                    if column.nullable {
                        "nullable"
                    } else {
                        column.ty.name()
                    }
                ));
            }
        }
        let indexes = indexes
            .iter()
            .map(|index| {
                let columns = index.iter().map(place).collect::<Result<_, _>>()?;
                Ok(Index { columns })
            })
            .collect::<Result<_, String>>()?;
        Ok(ManifestTable {
            name,
            access,
            columns,
            key,
            indexes,
        })
    }
}

/// A table of a plugin: what rules name it by.
///
/// ```
/// use rulemill_sdk::dynamic::{ColumnType, Plugin, Table};
///
/// let mut plugin = Plugin::new();
/// let users = plugin.table(Table::source("users").column("id", ColumnType::I64).key(["id"]))?;
/// assert_eq!(users.name(), "users");
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone)]
pub struct TableHandle {
    pub(super) number: u16,
    pub(super) schema: Runtime,
}

impl TableHandle {
    /// The table's name.
    ///
    /// ```
    /// # use rulemill_sdk::dynamic::{ColumnType, Plugin, Table};
    /// # let mut plugin = Plugin::new();
    /// # let users = plugin.table(Table::source("users").column("id", ColumnType::I64).key(["id"]))?;
    /// assert_eq!(users.name(), "users");
    /// # Ok::<(), String>(())
    /// ```
    pub fn name(&self) -> &str {
        &self.schema.table.name
    }

    /// A row of this table: null in each column that may be null, and nought, nothing or the epoch in
    /// the others.
    ///
    /// ```
    /// # use rulemill_sdk::dynamic::{ColumnType, Plugin, Table, Value};
    /// # let mut plugin = Plugin::new();
    /// # let users = plugin.table(Table::source("users").column("id", ColumnType::I64).key(["id"]))?;
    /// assert_eq!(users.record().values(), [Value::I64(0)]);
    /// # Ok::<(), String>(())
    /// ```
    pub fn record(&self) -> Record {
        self.schema.record()
    }
}

/// The schema of a table whose columns are known at run time only.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    table: Arc<ManifestTable>,
}

impl Runtime {
    pub(super) fn new(table: ManifestTable) -> Self {
        Self {
            table: Arc::new(table),
        }
    }

    pub(super) fn record(&self) -> Record {
        let value = |column: &Column| match column.ty {
            _ if column.nullable => Value::Null,
            ColumnType::Bool => Value::Bool(false),
            ColumnType::I64 => Value::I64(0),
            ColumnType::F64 => Value::F64(0.0),
            ColumnType::Decimal => Value::Decimal(Decimal::ZERO),
            ColumnType::Text => Value::Text(String::new()),
            ColumnType::Bytes => Value::Bytes(Vec::new()),
            ColumnType::Date => Value::Date(Date::default()),
            ColumnType::Timestamp => Value::Timestamp(Timestamp::default()),
            ColumnType::Uuid => Value::Uuid(Uuid::default()),
            ColumnType::Json => Value::Json(Json::default()),
        };
        Record {
            values: self.table.columns.iter().map(value).collect(),
            table: self.table.clone(),
        }
    }

    /// A record with this key and nothing else.
    pub(super) fn record_of_key(&self, key: &[u8]) -> Record {
        let mut record = self.record();
        let mut reader = Reader::new(key);
        for &place in &self.table.key {
            let place = usize::from(place);
            // The key was written from values of these types.
            if let Ok(value) = key::read(self.table.columns[place].ty, &mut reader) {
                record.values[place] = value;
            }
        }
        record
    }

    /// A key in key form.
    pub(super) fn key_form(&self, key: &[Value]) -> Result<Box<[u8]>, ColumnError> {
        if key.len() != self.table.key.len() {
            return Err(ColumnError::new(format!(
                "the key of table {} has {} columns, not {}",
                self.table.name,
                self.table.key.len(),
                key.len()
            )));
        }
        Ok(self.prefix_form(None, key)?.into())
    }

    /// The first columns of a key or of an index in key form.
    pub(super) fn prefix_form(
        &self,
        index: Option<u32>,
        values: &[Value],
    ) -> Result<Vec<u8>, ColumnError> {
        let name = &self.table.name;
        let places = match index {
            None => &self.table.key,
            Some(index) => match self.table.indexes.get(index as usize) {
                Some(index) => &index.columns,
                None => {
                    return Err(ColumnError::new(format!(
                        "table {name} has no index {index}"
                    )));
                }
            },
        };
        if values.len() > places.len() {
            return Err(ColumnError::new(format!(
                "{} values for the {} columns of the key or index of table {name}",
                values.len(),
                places.len()
            )));
        }
        let mut form = Vec::new();
        for (value, &place) in values.iter().zip(places) {
            let column = &self.table.columns[usize::from(place)];
            check(name, column, value)?;
            key::write_index_column(value.as_ref(), column.nullable, &mut form);
        }
        Ok(form)
    }
}

impl Schema for Runtime {
    type Row = Record;
    /// In key form.
    type Key = Box<[u8]>;

    fn table(&self) -> &str {
        &self.table.name
    }

    fn key(&self, row: &Record) -> Box<[u8]> {
        let mut form = Vec::new();
        for &place in &self.table.key {
            key::write(row.values[usize::from(place)].as_ref(), &mut form);
        }
        form.into()
    }

    fn has_key(&self, row: &Record, key: &Box<[u8]>) -> bool {
        self.key(row) == *key
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Record, DecodeError> {
        let read = |column: &Column| {
            if column.nullable {
                match reader.u8()? {
                    0 => return Ok(Value::Null),
                    1 => {}
                    tag => return Err(DecodeError::BadTag(tag)),
                }
            }
            ValueRef::read_payload(column.ty, reader).map(ValueRef::to_owned)
        };
        Ok(Record {
            values: self
                .table
                .columns
                .iter()
                .map(read)
                .collect::<Result<_, _>>()?,
            table: self.table.clone(),
        })
    }

    fn write(&self, row: &Record, out: &mut Vec<u8>) {
        for (column, value) in self.table.columns.iter().zip(&row.values) {
            let value = value.as_ref();
            if column.nullable {
                out.push(u8::from(!matches!(value, ValueRef::Null)));
            }
            value.write_payload(out);
        }
    }

    fn write_key_wire(&self, key: &Box<[u8]>, out: &mut Vec<u8>) {
        let record = self.record_of_key(key);
        for &place in &self.table.key {
            record.values[usize::from(place)]
                .as_ref()
                .write_payload(out);
        }
    }

    fn write_key_form(&self, key: &Box<[u8]>, out: &mut Vec<u8>) {
        out.extend_from_slice(key);
    }

    fn write_index(&self, index: usize, row: &Record, out: &mut Vec<u8>) {
        for &place in &self.table.indexes[index].columns {
            let place = usize::from(place);
            let nullable = self.table.columns[place].nullable;
            key::write_index_column(row.values[place].as_ref(), nullable, out);
        }
    }

    fn duplicate(&self, row: &Record) -> Record {
        row.clone()
    }
}
