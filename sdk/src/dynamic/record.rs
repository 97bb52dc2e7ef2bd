//! Rows whose columns are known at run time only, and their form as JSON.

use std::{fmt, sync::Arc};

use rulemill_wire::{
    ColumnType, Json, Value,
    manifest::{Column, Table},
};
use serde::{Serialize, Serializer, ser::SerializeMap};

/// A row: a value for each column of its table, in the table's order.
///
/// A record comes from a change, from a table, or from
/// [`TableHandle::record`](super::TableHandle::record). Serde writes it as a JSON object.
///
/// ```
/// use rulemill_sdk::dynamic::{ColumnType, Plugin, Table, Value};
///
/// let mut plugin = Plugin::new();
/// let users = plugin.table(
///     Table::derived("users").column("id", ColumnType::I64).nullable("name", ColumnType::Text).key(["id"]),
/// )?;
/// let mut user = users.record();
/// user.set("id", Value::I64(1))?;
/// user.set("name", Value::Text("Ada".into()))?;
/// assert_eq!(user.get("name"), Some(&Value::Text("Ada".into())));
/// assert!(user.set("id", Value::Null).is_err());
/// assert_eq!(rulemill_sdk::serde_json::to_string(&user)?, r#"{"id":1,"name":"Ada"}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Record {
    pub(super) table: Arc<Table>,
    pub(super) values: Vec<Value>,
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values && self.table.columns == other.table.columns
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.columns()).finish()
    }
}

/// A column that the table doesn't have, or a value that the column can't have.
///
/// ```
/// # use rulemill_sdk::dynamic::{ColumnType, Plugin, Table, Value};
/// # let mut plugin = Plugin::new();
/// let users = plugin.table(Table::source("users").column("id", ColumnType::I64).key(["id"]))?;
/// let error = users.record().set("id", Value::Bool(true)).unwrap_err();
/// assert_eq!(error.to_string(), "column id of table users is i64, not bool");
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnError(String);

impl ColumnError {
    pub(super) fn new(message: String) -> Self {
        Self(message)
    }
}

impl fmt::Display for ColumnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ColumnError {}

fn type_name(value: &Value) -> &'static str {
    value
        .as_ref()
        .column_type()
        .map_or("null", ColumnType::name)
}

/// Whether the column can have the value.
pub(super) fn check(table: &str, column: &Column, value: &Value) -> Result<(), ColumnError> {
    let fits = match value.as_ref().column_type() {
        None => column.nullable,
        Some(ty) => ty == column.ty,
    };
    if fits {
        return Ok(());
    }
    Err(ColumnError(format!(
        "column {} of table {table} is {}{}, not {}",
        column.name,
        column.ty,
        if column.nullable { " or null" } else { "" },
        type_name(value)
    )))
}

impl Record {
    fn place(&self, column: &str) -> Result<usize, ColumnError> {
        let columns = &self.table.columns;
        columns
            .iter()
            .position(|known| known.name == column)
            .ok_or_else(|| {
                ColumnError(format!(
                    "table {} has no column {column} here",
                    self.table.name
                ))
            })
    }

    /// The column's value, if there is such a column.
    ///
    /// ```
    /// # use rulemill_sdk::dynamic::{ColumnType, Plugin, Table, Value};
    /// # let mut plugin = Plugin::new();
    /// # let users = plugin.table(Table::source("users").column("id", ColumnType::I64).key(["id"]))?;
    /// assert_eq!(users.record().get("id"), Some(&Value::I64(0)));
    /// assert_eq!(users.record().get("age"), None);
    /// # Ok::<(), String>(())
    /// ```
    pub fn get(&self, column: &str) -> Option<&Value> {
        self.place(column).ok().map(|place| &self.values[place])
    }

    /// The column's value.
    ///
    /// # Errors
    /// If there is no such column.
    ///
    /// ```
    /// # use rulemill_sdk::dynamic::{ColumnType, Plugin, Table, Value};
    /// # let mut plugin = Plugin::new();
    /// # let users = plugin.table(Table::source("users").column("id", ColumnType::I64).key(["id"]))?;
    /// assert!(users.record().value("age").is_err());
    /// # Ok::<(), String>(())
    /// ```
    pub fn value(&self, column: &str) -> Result<&Value, ColumnError> {
        self.place(column).map(|place| &self.values[place])
    }

    /// The integer in this column.
    ///
    /// # Errors
    /// If there is no such column, or its value is none.
    ///
    /// ```
    /// # use rulemill_sdk::dynamic::{ColumnType, Plugin, Table, Value};
    /// # let mut plugin = Plugin::new();
    /// # let users = plugin.table(Table::source("users").column("id", ColumnType::I64).key(["id"]))?;
    /// assert_eq!(users.record().i64("id"), Ok(0));
    /// # Ok::<(), String>(())
    /// ```
    pub fn i64(&self, column: &str) -> Result<i64, ColumnError> {
        match self.value(column)? {
            Value::I64(value) => Ok(*value),
            other => Err(ColumnError(format!(
                "column {column} of table {} is {}, not i64",
                self.table.name,
                type_name(other)
            ))),
        }
    }

    /// The values, in the order of the table's columns.
    ///
    /// ```
    /// # use rulemill_sdk::dynamic::{ColumnType, Plugin, Table, Value};
    /// # let mut plugin = Plugin::new();
    /// # let users = plugin.table(Table::source("users").column("id", ColumnType::I64).key(["id"]))?;
    /// assert_eq!(users.record().values(), [Value::I64(0)]);
    /// # Ok::<(), String>(())
    /// ```
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The columns' names with their values.
    ///
    /// ```
    /// # use rulemill_sdk::dynamic::{ColumnType, Plugin, Table, Value};
    /// # let mut plugin = Plugin::new();
    /// # let users = plugin.table(Table::source("users").column("id", ColumnType::I64).key(["id"]))?;
    /// assert_eq!(users.record().columns().next(), Some(("id", &Value::I64(0))));
    /// # Ok::<(), String>(())
    /// ```
    pub fn columns(&self) -> impl Iterator<Item = (&str, &Value)> {
        let names = self.table.columns.iter().map(|column| &*column.name);
        names.zip(&self.values)
    }

    /// Gives the column a value.
    ///
    /// # Errors
    /// If there is no such column, or the value is not of its type.
    ///
    /// ```
    /// # use rulemill_sdk::dynamic::{ColumnType, Plugin, Table, Value};
    /// # let mut plugin = Plugin::new();
    /// # let users = plugin.table(Table::source("users").column("id", ColumnType::I64).key(["id"]))?;
    /// let mut user = users.record();
    /// assert!(user.set("id", Value::I64(7)).is_ok());
    /// # Ok::<(), String>(())
    /// ```
    pub fn set(&mut self, column: &str, value: Value) -> Result<(), ColumnError> {
        let place = self.place(column)?;
        check(&self.table.name, &self.table.columns[place], &value)?;
        self.values[place] = value;
        Ok(())
    }

    /// The values of the key's columns, in key order: what `get`, `entry` and `remove` take.
    ///
    /// ```
    /// # use rulemill_sdk::dynamic::{ColumnType, Plugin, Table, Value};
    /// # let mut plugin = Plugin::new();
    /// # let users = plugin.table(Table::source("users").column("id", ColumnType::I64).key(["id"]))?;
    /// assert_eq!(users.record().key(), [Value::I64(0)]);
    /// # Ok::<(), String>(())
    /// ```
    pub fn key(&self) -> Vec<Value> {
        let places = self.table.key.iter();
        places
            .map(|&place| self.values[usize::from(place)].clone())
            .collect()
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.values.len()))?;
        for (column, value) in self.columns() {
            map.serialize_entry(column, &to_json(value))?;
        }
        map.end()
    }
}

/// A value as JSON: decimals, dates, timestamps and UUIDs as text, bytes as hexadecimal text, a JSON
/// document as itself.
///
/// ```
/// use rulemill_sdk::{dynamic::{Value, to_json}, prelude::*};
/// assert_eq!(to_json(&Value::Decimal(Decimal::new(125, 2))), json!("1.25"));
/// assert_eq!(to_json(&Value::Json(Json::from_text("[1]"))), json!([1]));
/// ```
pub fn to_json(value: &Value) -> serde_json::Value {
    use serde_json::Value as J;
    match value {
        Value::Null => J::Null,
        Value::Bool(v) => J::from(*v),
        Value::I64(v) => J::from(*v),
        Value::F64(v) => J::from(*v),
        Value::Decimal(v) => J::from(v.to_string()),
        Value::Text(v) => J::from(v.as_str()),
        Value::Bytes(v) => J::from(
            v.iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>(),
        ),
        Value::Date(v) => J::from(v.to_string()),
        Value::Timestamp(v) => J::from(v.to_string()),
        Value::Uuid(v) => J::from(v.to_string()),
        // Text that is no JSON can't come from the host; kept as text if it does.
        Value::Json(v) => serde_json::from_str(v.as_str()).unwrap_or_else(|_| J::from(v.as_str())),
    }
}

/// A value of a column's type from JSON: the other way round than [`to_json`]. Decimals may also be
/// numbers.
///
/// # Errors
/// With what was expected, if the JSON is no such value.
///
/// ```
/// use rulemill_sdk::{dynamic::{ColumnType, Value, from_json}, prelude::*};
/// assert_eq!(from_json(ColumnType::Decimal, &json!("1.25")), Ok(Value::Decimal(Decimal::new(125, 2))));
/// assert!(from_json(ColumnType::I64, &json!("seven")).is_err());
/// assert_eq!(from_json(ColumnType::I64, &json!(null)), Ok(Value::Null));
/// ```
pub fn from_json(ty: ColumnType, json: &serde_json::Value) -> Result<Value, ColumnError> {
    use serde_json::Value as J;
    let value = match (ty, json) {
        (ColumnType::Json, json) => Some(Value::Json(Json::from_text(json.to_string()))),
        (_, J::Null) => Some(Value::Null),
        (ColumnType::Bool, J::Bool(v)) => Some(Value::Bool(*v)),
        (ColumnType::I64, J::Number(v)) => v.as_i64().map(Value::I64),
        (ColumnType::F64, J::Number(v)) => v.as_f64().map(Value::F64),
        (ColumnType::Decimal, J::Number(v)) => v.to_string().parse().ok().map(Value::Decimal),
        (ColumnType::Decimal, J::String(v)) => v.parse().ok().map(Value::Decimal),
        (ColumnType::Text, J::String(v)) => Some(Value::Text(v.clone())),
        (ColumnType::Bytes, J::String(v)) => hexadecimal(v).map(Value::Bytes),
        (ColumnType::Date, J::String(v)) => v.parse().ok().map(Value::Date),
        (ColumnType::Timestamp, J::String(v)) => v.parse().ok().map(Value::Timestamp),
        (ColumnType::Uuid, J::String(v)) => v.parse().ok().map(Value::Uuid),
        _ => None,
    };
    value.ok_or_else(|| ColumnError(format!("{json} is no value of type {ty}")))
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| digit.to_digit(16).map(|value| value as u8))
        .collect();
    let digits = digits?;
    digits.len().is_multiple_of(2).then(|| {
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    })
}
