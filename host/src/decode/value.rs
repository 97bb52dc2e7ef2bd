//! One value of JSON or CSV to a column's type: exactly, or not at all.

use base64::Engine as _;
use rulemill_wire::{ColumnType, Date, Decimal, Timestamp, Uuid, ValueRef};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, Visitor},
};
use serde_json::value::RawValue;

use crate::row::{ColumnId, RowBuilder};

use super::{
    Dialect, Reason,
    connect::{self, Logical},
};

/// Where a value goes.
pub(super) struct Target<'t> {
    pub(super) table: &'t str,
    pub(super) column: &'t str,
    pub(super) id: ColumnId,
    /// None: the value keeps its own type.
    pub(super) ty: Option<ColumnType>,
    pub(super) dialect: Dialect,
    pub(super) logical: Option<Logical>,
}

impl Target<'_> {
    pub(super) fn wrong(&self, found: &str, expected: &str) -> Reason {
        let mut shown: String = found.chars().take(60).collect();
        if shown.len() < found.len() {
            shown.push('…');
        }
        Reason::unfit(format!(
            "table {}: column {} is {shown}, which is no {expected}",
            self.table, self.column
        ))
    }
}

/// Reads a JSON value into a row.
pub(super) struct ColumnSeed<'a, 't> {
    pub(super) target: Target<'t>,
    pub(super) builder: &'a mut RowBuilder,
    pub(super) reason: &'a mut Option<Reason>,
}

impl<'de> DeserializeSeed<'de> for ColumnSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match (self.target.ty, self.target.logical) {
            // These are read from what the parser hands over, the others from the text itself: a decimal must
            // not pass through a float.
            (Some(ColumnType::I64 | ColumnType::Text | ColumnType::Bool), None) => {
                json.deserialize_any(self)
            }
            _ => {
                let raw = <&RawValue>::deserialize(json)?;
                let result = from_raw(&self.target, raw.get(), self.builder);
                result.map_err(|reason| {
                    *self.reason = Some(reason);
                    D::Error::custom("a value")
                })
            }
        }
    }
}

impl ColumnSeed<'_, '_> {
    fn refuse<E: Error>(self, found: &str) -> Result<(), E> {
        let expected = self.target.ty.map_or("value", ColumnType::name);
        *self.reason = Some(self.target.wrong(found, expected));
        Err(E::custom("a value"))
    }

    fn set(self, value: ValueRef<'_>) {
        self.builder.set(self.target.id, value);
    }
}

impl<'de> Visitor<'de> for ColumnSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a column's value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.set(ValueRef::Null);
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        if self.target.ty == Some(ColumnType::Bool) {
            self.set(ValueRef::Bool(value));
            return Ok(());
        }
        self.refuse(&value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        if self.target.ty == Some(ColumnType::I64) {
            self.set(ValueRef::I64(value));
            return Ok(());
        }
        self.refuse(&value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) if self.target.ty == Some(ColumnType::I64) => {
                self.refuse(&format!("{value}, out of range"))
            }
            Err(_) => self.refuse(&value.to_string()),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.refuse(&value.to_string())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        if self.target.ty == Some(ColumnType::Text) {
            self.set(ValueRef::Text(value));
            return Ok(());
        }
        self.refuse(&format!("{value:?}"))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, _map: A) -> Result<(), A::Error> {
        self.refuse("an object")
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, _seq: A) -> Result<(), A::Error> {
        self.refuse("an array")
    }
}

/// Puts a value, given as its JSON text, into a row.
fn from_raw(target: &Target<'_>, raw: &str, builder: &mut RowBuilder) -> Result<(), Reason> {
    let id = target.id;
    if raw == "null" {
        builder.set(id, ValueRef::Null);
        return Ok(());
    }
    if let Some(logical) = target.logical
        && let Some(value) =
            connect::value(logical, raw).map_err(|expected| target.wrong(raw, expected))?
    {
        let value = match target.ty {
            Some(ty) if value.as_ref().column_type() != Some(ty) => {
                crate::convert::convert(value.as_ref(), ty)
                    .ok_or_else(|| target.wrong(raw, ty.name()))?
            }
            _ => value,
        };
        builder.set(id, value.as_ref());
        return Ok(());
    }
    let string = match raw.as_bytes().first() {
        Some(b'"') => Some(unquote(raw).ok_or_else(|| target.wrong(raw, "text"))?),
        _ => None,
    };
    let Some(ty) = target.ty else {
        return untyped(target, raw, string.as_deref(), builder);
    };
    let wrong = || target.wrong(raw, ty.name());
    match ty {
        ColumnType::Json => {
            // Connectors send JSON columns as text that holds the document.
            let document = match (&string, target.dialect) {
                (Some(text), Dialect::Debezium)
                    if serde_json::from_str::<IgnoredAny>(text).is_ok() =>
                {
                    text
                }
                _ => raw,
            };
            builder.set(id, ValueRef::Json(document));
        }
        ColumnType::Text | ColumnType::Bytes | ColumnType::Uuid => {
            from_text(ty, string.as_deref().ok_or_else(wrong)?, id, builder).ok_or_else(wrong)?;
        }
        ColumnType::Date | ColumnType::Timestamp => match (&string, target.dialect) {
            (Some(text), _) => from_text(ty, text, id, builder).ok_or_else(wrong)?,
            (None, Dialect::Debezium) => {
                // Its default for numbers: days, and microseconds.
                let number: i64 = raw.parse().map_err(|_| wrong())?;
                let value = if ty == ColumnType::Date {
                    i32::try_from(number)
                        .ok()
                        .and_then(Date::from_days)
                        .map(ValueRef::Date)
                } else {
                    Timestamp::from_micros(number).map(ValueRef::Timestamp)
                };
                builder.set(id, value.ok_or_else(wrong)?);
            }
            (None, Dialect::Rulemill) => return Err(wrong()),
        },
        ColumnType::Bool => match raw {
            "true" => builder.set(id, ValueRef::Bool(true)),
            "false" => builder.set(id, ValueRef::Bool(false)),
            _ => return Err(wrong()),
        },
        ColumnType::I64 => {
            if string.is_some() {
                return Err(wrong());
            }
            from_text(ty, raw, id, builder).ok_or_else(wrong)?;
        }
        ColumnType::F64 | ColumnType::Decimal => {
            from_text(ty, string.as_deref().unwrap_or(raw), id, builder).ok_or_else(wrong)?;
        }
    }
    Ok(())
}

/// A JSON string's text.
fn unquote(raw: &str) -> Option<std::borrow::Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(inner.into());
    }
    serde_json::from_str::<String>(raw).ok().map(Into::into)
}

/// A value of a column that nothing has given a type keeps its own.
fn untyped(
    target: &Target<'_>,
    raw: &str,
    string: Option<&str>,
    builder: &mut RowBuilder,
) -> Result<(), Reason> {
    let id = target.id;
    let value = match (string, raw) {
        (Some(text), _) => ValueRef::Text(text),
        (None, "true") => ValueRef::Bool(true),
        (None, "false") => ValueRef::Bool(false),
        (None, raw) if raw.starts_with(['{', '[']) => ValueRef::Json(raw),
        (None, raw) => match raw.parse::<i64>() {
            Ok(value) => ValueRef::I64(value),
            Err(_) => match decimal(raw) {
                Some(value) => ValueRef::Decimal(value),
                None => ValueRef::F64(raw.parse().map_err(|_| target.wrong(raw, "number"))?),
            },
        },
    };
    builder.set(id, value);
    Ok(())
}

/// A decimal, if the text is one of at most 28 digits.
pub(super) fn decimal(text: &str) -> Option<Decimal> {
    if text.contains(['e', 'E']) {
        return Decimal::from_scientific(text).ok();
    }
    Decimal::from_str_exact(text).ok()
}

/// Puts a value, given as plain text, into a row; `None` if it is none of that type.
pub(super) fn from_text(
    ty: ColumnType,
    text: &str,
    id: ColumnId,
    builder: &mut RowBuilder,
) -> Option<()> {
    let value = match ty {
        ColumnType::Text => ValueRef::Text(text),
        ColumnType::Json => {
            serde_json::from_str::<IgnoredAny>(text).ok()?;
            ValueRef::Json(text)
        }
        ColumnType::Bool => match text {
            "true" | "t" | "1" | "TRUE" | "True" => ValueRef::Bool(true),
            "false" | "f" | "0" | "FALSE" | "False" => ValueRef::Bool(false),
            _ => return None,
        },
        ColumnType::I64 => ValueRef::I64(text.parse().ok()?),
        ColumnType::F64 => ValueRef::F64(match text {
            "NaN" => f64::NAN,
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            text => text.parse().ok().filter(|value: &f64| value.is_finite())?,
        }),
        ColumnType::Decimal => ValueRef::Decimal(decimal(text)?),
        ColumnType::Date => ValueRef::Date(text.parse::<Date>().ok()?),
        ColumnType::Timestamp => ValueRef::Timestamp(text.parse::<Timestamp>().ok()?),
        ColumnType::Uuid => ValueRef::Uuid(text.parse::<Uuid>().ok()?),
        ColumnType::Bytes => {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(text)
                .ok()?;
            builder.set(id, ValueRef::Bytes(&bytes));
            return Some(());
        }
    };
    builder.set(id, value);
    Some(())
}
