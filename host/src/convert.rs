//! A value as a value of another type.

use rulemill_wire::{ColumnType, Json, Timestamp, Value, ValueRef};

use crate::render;

/// The value as another type, where nothing is lost or guessed.
pub fn convert(value: ValueRef<'_>, ty: ColumnType) -> Option<Value> {
    use rust_decimal::prelude::ToPrimitive;
    Some(match (value, ty) {
        (ValueRef::I64(v), ColumnType::Decimal) => Value::Decimal(v.into()),
        (ValueRef::I64(v), ColumnType::F64) if v.unsigned_abs() <= 1 << 53 => Value::F64(v as f64),
        (ValueRef::Decimal(v), ColumnType::I64) if v.fract().is_zero() => Value::I64(v.to_i64()?),
        // By their text: the nearest float, and the decimal that says what the float says.
        (ValueRef::Decimal(v), ColumnType::F64) => render::value_from_text(ty, &v.to_string())?,
        (ValueRef::F64(v), ColumnType::Decimal) => render::value_from_text(ty, &v.to_string())?,
        // As CSV is read, spaces around it left out.
        (ValueRef::Text(v), ty) if !matches!(ty, ColumnType::Text | ColumnType::Json) => {
            render::value_from_text(ty, v.trim_ascii())?
        }
        (ValueRef::Json(v), ColumnType::Text) => Value::Text(v.into()),
        (ValueRef::Date(v), ColumnType::Text) => Value::Text(v.to_string()),
        (ValueRef::Timestamp(v), ColumnType::Text) => Value::Text(v.to_string()),
        (ValueRef::Date(v), ColumnType::Timestamp) => Value::Timestamp(Timestamp::from_micros(
            i64::from(v.days()) * 86_400_000_000,
        )?),
        (value, ColumnType::Text) if value.column_type().is_some() => {
            Value::Text(match render::value_to_json(value) {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            })
        }
        (value, ColumnType::Json) if value.column_type().is_some() => {
            Value::Json(Json::from_text(render::value_to_json(value).to_string()))
        }
        _ => return None,
    })
}
