//! The `schema` part that Kafka Connect's JSON converter writes beside a Debezium envelope: it says
//! how a column's value stands for a decimal, a date or a moment.

use std::{collections::HashMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rulemill_wire::{ColumnType, Date, Timestamp, ValueRef};
use serde::Deserialize;

use super::value::{self, Scratch, shown};

/// Schemas kept in their read form; a connector writes one for each table.
const KEPT_MAX: usize = 256;

/// Schemas read so far, by their text.
#[derive(Default)]
pub(super) struct Schemas {
    read: HashMap<Box<str>, Arc<Schema>>,
}

/// What a schema says of both rows.
#[derive(Default)]
pub(super) struct Schema {
    pub(super) before: Row,
    pub(super) after: Row,
}

/// What a schema says of a row's columns; only those that need it.
#[derive(Default)]
pub(super) struct Row {
    columns: HashMap<String, Logical>,
}

impl Row {
    pub(super) fn get(&self, column: &str) -> Option<Logical> {
        self.columns.get(column).copied()
    }
}

/// How a column's value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logical {
    /// Base64 of a big-endian integer, with so many decimal places.
    Decimal(u32),
    /// The same with its own number of places each time.
    VariableDecimal,
    /// Days since 1970.
    Days,
    /// A moment, in units of so many to the second.
    Moment(i64),
    /// A time of day, in units of so many to the second.
    TimeOfDay(i64),
    /// Base64.
    Bytes,
    /// A document as text.
    Json,
}

#[derive(Deserialize)]
struct Field {
    #[serde(rename = "type")]
    ty: serde_json::Value,
    name: Option<String>,
    field: Option<String>,
    #[serde(default)]
    fields: Vec<Field>,
    #[serde(default)]
    parameters: HashMap<String, serde_json::Value>,
}

impl Field {
    fn logical(&self) -> Result<Option<Logical>, String> {
        Ok(Some(match self.name.as_deref() {
            Some("org.apache.kafka.connect.data.Decimal") => {
                let scale = self
                    .parameters
                    .get("scale")
                    .and_then(|scale| match scale {
                        serde_json::Value::String(text) => text.parse().ok(),
                        other => other.as_u64().and_then(|n| u32::try_from(n).ok()),
                    })
                    .ok_or_else(|| {
                        format!(
                            "the schema of column {} is a Decimal without a scale of 0 or more",
                            self.field.as_deref().unwrap_or_default()
                        )
                    })?;
                Logical::Decimal(scale)
            }
            Some("io.debezium.data.VariableScaleDecimal") => Logical::VariableDecimal,
            Some("io.debezium.time.Date" | "org.apache.kafka.connect.data.Date") => Logical::Days,
            Some("io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp") => {
                Logical::Moment(1_000)
            }
            Some("io.debezium.time.MicroTimestamp") => Logical::Moment(1_000_000),
            Some("io.debezium.time.NanoTimestamp") => Logical::Moment(1_000_000_000),
            Some("io.debezium.time.Time" | "org.apache.kafka.connect.data.Time") => {
                Logical::TimeOfDay(1_000)
            }
            Some("io.debezium.time.MicroTime") => Logical::TimeOfDay(1_000_000),
            Some("io.debezium.time.NanoTime") => Logical::TimeOfDay(1_000_000_000),
            Some("io.debezium.data.Json") => Logical::Json,
            // Zoned timestamps and UUIDs are text that reads as it is.
            _ if self.ty == "bytes" => Logical::Bytes,
            _ => return Ok(None),
        }))
    }

    fn row(&self) -> Result<Row, String> {
        let mut row = Row::default();
        for column in &self.fields {
            if let (Some(name), Some(logical)) = (&column.field, column.logical()?) {
                row.columns.insert(name.clone(), logical);
            }
        }
        Ok(row)
    }
}

impl Schemas {
    pub(super) fn read(&mut self, text: &str) -> Result<Arc<Schema>, String> {
        if let Some(schema) = self.read.get(text) {
            return Ok(schema.clone());
        }
        let field: Field = serde_json::from_str(text).map_err(|error| {
            format!("the schema can't be read: {}", super::bare_message(&error))
        })?;
        let mut schema = Schema::default();
        for part in &field.fields {
            match part.field.as_deref() {
                Some("before") => schema.before = part.row()?,
                Some("after") => schema.after = part.row()?,
                _ => {}
            }
        }
        if self.read.len() >= KEPT_MAX {
            self.read.clear();
        }
        let schema = Arc::new(schema);
        self.read.insert(text.into(), schema.clone());
        Ok(schema)
    }
}

#[derive(Deserialize)]
struct Variable {
    scale: u32,
    value: String,
}

impl Logical {
    /// Reads a value that is written so, for a column of type `ty`.
    pub(super) fn read<'a>(
        self,
        raw: &'a str,
        ty: Option<ColumnType>,
        scratch: &'a mut Scratch,
    ) -> Result<ValueRef<'a>, String> {
        if raw == "null" {
            return Ok(ValueRef::Null);
        }
        // A rule that declares an integer wants the number as it stands, and so does one that
        // declares bytes for base64.
        let plain = ty == Some(ColumnType::I64)
            || self == Self::Bytes
            || (self == Self::Json && ty == Some(ColumnType::Text));
        if plain {
            let ty = ty.or(Some(ColumnType::Bytes));
            return value::json(raw, ty, true, scratch);
        }
        let wrong = || format!("{} doesn't fit the change's own schema", shown(raw));
        let number = || raw.parse::<i64>().map_err(|_| wrong());
        let value = match self {
            Self::Decimal(scale) => {
                let text = value::text(raw, true, scratch)?;
                let bytes = STANDARD.decode(text).map_err(|_| wrong())?;
                ValueRef::Decimal(value::decimal_from_bytes(&bytes, scale).ok_or_else(wrong)?)
            }
            Self::VariableDecimal => {
                let variable: Variable = serde_json::from_str(raw).map_err(|_| wrong())?;
                let bytes = STANDARD.decode(&variable.value).map_err(|_| wrong())?;
                ValueRef::Decimal(
                    value::decimal_from_bytes(&bytes, variable.scale).ok_or_else(wrong)?,
                )
            }
            Self::Days => {
                let days = i32::try_from(number()?).map_err(|_| wrong())?;
                ValueRef::Date(Date::from_days(days).ok_or_else(wrong)?)
            }
            Self::Moment(units) => {
                let micros = to_micros(number()?, units).ok_or_else(wrong)?;
                ValueRef::Timestamp(Timestamp::from_micros(micros).ok_or_else(wrong)?)
            }
            Self::TimeOfDay(units) => {
                let micros = to_micros(number()?, units).ok_or_else(wrong)?;
                scratch.text = time_of_day(micros).ok_or_else(wrong)?;
                ValueRef::Text(&scratch.text)
            }
            Self::Bytes | Self::Json => {
                return value::json(raw, ty.or(Some(ColumnType::Json)), true, scratch);
            }
        };
        match ty {
            Some(ty) if value.column_type() != Some(ty) => as_type(value, ty).ok_or_else(|| {
                let found = value.column_type().map_or("null", ColumnType::name);
                format!("the change's schema says {found}: expected {ty}")
            }),
            _ => Ok(value),
        }
    }
}

/// What fits a wider or other type without loss.
fn as_type(value: ValueRef<'_>, ty: ColumnType) -> Option<ValueRef<'static>> {
    match (value, ty) {
        (ValueRef::Timestamp(at), ColumnType::Date) if at.micros() % 86_400_000_000 == 0 => {
            Some(ValueRef::Date(at.date()))
        }
        (ValueRef::Date(date), ColumnType::Timestamp) => {
            Timestamp::from_micros(i64::from(date.days()) * 86_400_000_000).map(ValueRef::Timestamp)
        }
        _ => None,
    }
}

fn to_micros(number: i64, units: i64) -> Option<i64> {
    if units > 1_000_000 {
        return Some(number.div_euclid(units / 1_000_000));
    }
    number.checked_mul(1_000_000 / units)
}

fn time_of_day(micros: i64) -> Option<String> {
    // A day has its end too: PostgreSQL knows 24:00.
    if !(0..=86_400_000_000).contains(&micros) {
        return None;
    }
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let mut text = format!("{hour:02}:{minute:02}:{second:02}");
    if fraction != 0 {
        text += format!(".{fraction:06}").trim_end_matches('0');
    }
    Some(text)
}
