//! What a Kafka Connect schema, sent along with a Debezium change, says of its columns.
//!
//! Only the logical types are read whose values can't be told from the value alone. Names and meanings:
//! Debezium's [temporal and decimal types](https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-data-types).

use std::{collections::HashMap, sync::Arc};

use base64::Engine as _;
use rulemill_wire::{ColumnType, Date, Decimal, Timestamp, Value};
use serde::Deserialize;

use super::{
    Reason,
    scan::{self, Kind},
};

/// How a column's values are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logical {
    /// Base64 of a big-endian two's complement integer, with this scale.
    Decimal(u32),
    /// The same, with its own scale in each value.
    VariableScaleDecimal,
    /// Days.
    Date,
    /// A moment, in so many units a second.
    Timestamp(i64),
}

/// What a schema says of a table's columns.
#[derive(Debug, Default)]
pub(super) struct Schema {
    /// Those that need more than their value to be read.
    columns: HashMap<String, Logical>,
    /// The types by Connect's names.
    types: HashMap<String, String>,
}

impl Schema {
    pub(super) fn column(&self, name: &str) -> Option<Logical> {
        self.columns.get(name).copied()
    }

    /// Whether a column is said to be of a type whose values are none of `ty`: the source has changed it.
    pub(super) fn contradicts(&self, name: &str, ty: ColumnType) -> bool {
        let Some(said) = self.types.get(name) else {
            return false;
        };
        let is_whole = matches!(&**said, "int8" | "int16" | "int32" | "int64");
        let is_float = matches!(&**said, "float" | "double" | "float32" | "float64");
        let is_text = said == "string";
        !match ty {
            ColumnType::Bool => said == "boolean",
            ColumnType::I64 => is_whole,
            ColumnType::F64 => is_whole || is_float,
            // Connectors may be set to send decimals as floats, as text and as bytes.
            ColumnType::Decimal => {
                is_whole || is_float || is_text || said == "bytes" || said == "struct"
            }
            ColumnType::Date | ColumnType::Timestamp => is_whole || is_text,
            ColumnType::Text | ColumnType::Uuid => is_text,
            ColumnType::Bytes => said == "bytes" || is_text,
            ColumnType::Json => true,
        }
    }
}

/// Remembers the last schema: a file's changes mostly bear the same one line after line.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    text: String,
    schema: Option<Arc<Schema>>,
}

#[derive(Deserialize)]
struct Field {
    #[serde(default)]
    field: String,
    #[serde(default, rename = "type")]
    ty: serde_json::Value,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    parameters: HashMap<String, String>,
    #[serde(default)]
    fields: Vec<Field>,
}

impl Schemas {
    /// The last schema's text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What this schema says; `None` if nothing that matters.
    pub(super) fn of(&mut self, text: &str) -> Result<Option<Arc<Schema>>, Reason> {
        if text == self.text {
            return Ok(self.schema.clone());
        }
        let envelope: Option<Field> = serde_json::from_str(text)
            .map_err(|error| Reason::unfit(format!("the change's \"schema\": {error}")))?;
        let row = envelope.and_then(|envelope| {
            envelope
                .fields
                .into_iter()
                .find(|field| field.field == "after")
        });
        let mut schema = Schema::default();
        for column in row.map(|row| row.fields).unwrap_or_default() {
            if let Some(ty) = column.ty.as_str() {
                schema.types.insert(column.field.clone(), ty.to_owned());
            }
            let logical = match column.name.as_deref() {
                Some("org.apache.kafka.connect.data.Decimal") => {
                    let scale = column.parameters.get("scale").and_then(|s| s.parse().ok());
                    Logical::Decimal(scale.ok_or_else(|| {
                        Reason::unfit(format!(
                            "the change's \"schema\": decimal column {} has no scale",
                            column.field
                        ))
                    })?)
                }
                Some("io.debezium.data.VariableScaleDecimal") => Logical::VariableScaleDecimal,
                Some("io.debezium.time.Date" | "org.apache.kafka.connect.data.Date") => {
                    Logical::Date
                }
                Some("io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp") => {
                    Logical::Timestamp(1_000)
                }
                Some("io.debezium.time.MicroTimestamp") => Logical::Timestamp(1_000_000),
                Some("io.debezium.time.NanoTimestamp") => Logical::Timestamp(1_000_000_000),
                _ => continue,
            };
            schema.columns.insert(column.field, logical);
        }
        let says_nothing = schema.columns.is_empty() && schema.types.is_empty();
        self.schema = (!says_nothing).then(|| Arc::new(schema));
        self.text = text.to_owned();
        Ok(self.schema.clone())
    }
}

#[derive(Deserialize)]
struct Scaled {
    scale: u32,
    value: String,
}

/// What this JSON value stands for; `None` if it isn't in the logical type's form (a connector may be set to
/// send decimals and times as text).
///
/// # Errors
/// What was expected, if the value can't be held.
pub(super) fn value(
    logical: Logical,
    value: &scan::Value<'_>,
) -> Result<Option<Value>, &'static str> {
    match (logical, value.kind) {
        (Logical::Decimal(scale), Kind::Text { .. }) => {
            let text = value.quoted().and_then(|quoted| quoted.text());
            let text = text.ok_or("decimal in base64")?;
            unscaled(&text, scale).map(Some)
        }
        (Logical::VariableScaleDecimal, Kind::Object) => {
            let scaled: Scaled =
                serde_json::from_str(value.raw).map_err(|_| "decimal with its scale")?;
            unscaled(&scaled.value, scaled.scale).map(Some)
        }
        (Logical::Date, Kind::Number) => {
            let days: i32 = value.raw.parse().map_err(|_| "number of days")?;
            let date = Date::from_days(days).ok_or("date in range")?;
            Ok(Some(Value::Date(date)))
        }
        (Logical::Timestamp(per_second), Kind::Number) => {
            let units: i64 = value.raw.parse().map_err(|_| "number of time units")?;
            let micros = if per_second <= 1_000_000 {
                units.checked_mul(1_000_000 / per_second)
            } else {
                let units_per_micro = per_second / 1_000_000;
                if units % units_per_micro != 0 {
                    return Err("timestamp in whole microseconds");
                }
                Some(units / units_per_micro)
            };
            let at = micros
                .and_then(Timestamp::from_micros)
                .ok_or("timestamp in range")?;
            Ok(Some(Value::Timestamp(at)))
        }
        _ => Ok(None),
    }
}

fn unscaled(text: &str, scale: u32) -> Result<Value, &'static str> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|_| "decimal in base64")?;
    if bytes.len() > 16 {
        return Err("decimal of at most 28 digits");
    }
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    wide[16 - bytes.len()..].copy_from_slice(&bytes);
    Decimal::try_from_i128_with_scale(i128::from_be_bytes(wide), scale)
        .map(Value::Decimal)
        .map_err(|_| "decimal of at most 28 digits")
}
