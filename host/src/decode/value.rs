//! One value of JSON or CSV to a column's type: exactly, or not at all.

use base64::Engine as _;
use rulemill_wire::{ColumnType, Date, Timestamp, Uuid, ValueRef};

use crate::row::{ColumnId, RowBuilder};

use super::{
    Dialect, Reason,
    connect::{self, Logical},
    scan::{Kind, Scanner, Value},
    text::{self, Finer},
};

/// What Debezium puts where the source's log doesn't hold a large value, since it didn't change; as text, in base64
/// and as a list.
const UNAVAILABLE: &str = "__debezium_unavailable_value";
const UNAVAILABLE_FORMS: [&str; 3] = [
    "\"__debezium_unavailable_value\"",
    "\"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==\"",
    "[\"__debezium_unavailable_value\"]",
];

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
    #[cold]
    pub(super) fn wrong(&self, found: &str, expected: &str) -> Reason {
        Reason::unfit(format!(
            "table {}: column {} is {}, which is no {expected}",
            self.table,
            self.column,
            shown(found)
        ))
    }

    #[cold]
    fn no_value(&self, value: &Value<'_>) -> Reason {
        let ty = self.ty.map_or("value", ColumnType::name);
        match (value.kind, self.ty) {
            (Kind::Number, Some(ColumnType::I64)) if value.raw.parse::<i64>().is_err() => {
                let whole = !value.raw.contains(['.', 'e', 'E']);
                let range = if whole { ", out of range" } else { "" };
                self.wrong(&format!("{}{range}", shown(value.raw)), ty)
            }
            (Kind::Number | Kind::Text { .. }, Some(ColumnType::Decimal)) => {
                self.wrong(value.raw, "decimal of at most 28 digits")
            }
            (Kind::Text { .. }, Some(ColumnType::Timestamp)) => {
                self.wrong(value.raw, "timestamp in whole microseconds")
            }
            _ => self.wrong(value.raw, ty),
        }
    }
}

/// As much of a value as a message shows.
pub(super) fn shown(found: &str) -> String {
    let mut shown: String = found.chars().take(60).collect();
    if shown.len() < found.len() {
        shown.push('…');
    }
    shown
}

/// Puts a JSON value into a row.
#[inline]
pub(super) fn set(
    target: &Target<'_>,
    value: &Value<'_>,
    builder: &mut RowBuilder,
) -> Result<(), Reason> {
    // The common cases first: a whole number, and text without escapes.
    match (target.ty, value.kind) {
        (Some(ColumnType::I64), Kind::Number) if target.logical.is_none() => {
            let number = value.raw.parse().map_err(|_| target.no_value(value))?;
            builder.set(target.id, ValueRef::I64(number));
            Ok(())
        }
        (Some(ColumnType::Text), Kind::Text { escaped: false })
            if target.logical.is_none() && value.raw.len() != UNAVAILABLE_FORMS[0].len() =>
        {
            let text = &value.raw[1..value.raw.len() - 1];
            builder.set(target.id, ValueRef::Text(text));
            Ok(())
        }
        (_, Kind::Null) => Ok(()),
        _ => set_any(target, value, builder),
    }
}

fn set_any(target: &Target<'_>, value: &Value<'_>, builder: &mut RowBuilder) -> Result<(), Reason> {
    let id = target.id;
    let raw = value.raw;
    if target.dialect == Dialect::Debezium
        && raw.len() >= UNAVAILABLE.len()
        && UNAVAILABLE_FORMS.contains(&raw)
    {
        return Err(Reason::unfit(format!(
            "table {}: column {} was not sent: Debezium has {UNAVAILABLE:?} for a large value that \
             didn't change; have the database send whole rows (ALTER TABLE .. REPLICA IDENTITY FULL)",
            target.table, target.column
        )));
    }
    if let Some(logical) = target.logical {
        let meant = match (connect::value(logical, value), target.ty) {
            (Ok(meant), _) => meant,
            (Err(expected), Some(_)) => return Err(target.wrong(raw, expected)),
            // A column that nobody reads is no reason to refuse the row: it is kept as it came.
            (Err(_), None) => None,
        };
        if let Some(meant) = meant {
            let meant = match target.ty {
                Some(ty) if meant.as_ref().column_type() != Some(ty) => {
                    crate::convert::convert(meant.as_ref(), ty)
                        .ok_or_else(|| target.wrong(raw, ty.name()))?
                }
                _ => meant,
            };
            builder.set(id, meant.as_ref());
            return Ok(());
        }
    }
    let string = match value.quoted() {
        Some(quoted) => Some(quoted.text().ok_or_else(|| {
            Reason::malformed(format!(
                "table {}: column {} has an escape that stands for no character",
                target.table, target.column
            ))
        })?),
        None => None,
    };
    let Some(ty) = target.ty else {
        return untyped(target, value, string.as_deref(), builder);
    };
    let taken = match (ty, &string, value.kind) {
        (ColumnType::Json, Some(text), _)
            // Connectors send JSON columns as text that holds the document.
            if target.dialect == Dialect::Debezium && is_json(text) =>
        {
            builder.set(id, ValueRef::Json(text));
            Some(())
        }
        (ColumnType::Json, _, _) => {
            builder.set(id, ValueRef::Json(raw));
            Some(())
        }
        (ColumnType::Bool, _, Kind::Bool(value)) => {
            builder.set(id, ValueRef::Bool(value));
            Some(())
        }
        // Text that looks like one is none.
        (ColumnType::Bool | ColumnType::I64, Some(_), _) => None,
        (_, Some(text), _) => from_text(ty, text, id, builder),
        (ColumnType::I64 | ColumnType::F64 | ColumnType::Decimal, None, Kind::Number) => {
            from_text(ty, raw, id, builder)
        }
        (ColumnType::Date | ColumnType::Timestamp, None, Kind::Number)
            if target.dialect == Dialect::Debezium =>
        {
            from_count(ty, raw, id, builder)
        }
        _ => None,
    };
    taken.ok_or_else(|| target.no_value(value))
}

/// Debezium's default for times without a schema: days, and microseconds.
fn from_count(ty: ColumnType, raw: &str, id: ColumnId, builder: &mut RowBuilder) -> Option<()> {
    let number: i64 = raw.parse().ok()?;
    let value = if ty == ColumnType::Date {
        ValueRef::Date(Date::from_days(i32::try_from(number).ok()?)?)
    } else {
        ValueRef::Timestamp(Timestamp::from_micros(number)?)
    };
    builder.set(id, value);
    Some(())
}

/// A value of a column that nothing has given a type keeps its own.
fn untyped(
    target: &Target<'_>,
    value: &Value<'_>,
    string: Option<&str>,
    builder: &mut RowBuilder,
) -> Result<(), Reason> {
    let raw = value.raw;
    let own = match (string, value.kind) {
        (Some(text), _) => ValueRef::Text(text),
        (None, Kind::Bool(value)) => ValueRef::Bool(value),
        (None, Kind::Number) => match raw.parse::<i64>() {
            Ok(number) => ValueRef::I64(number),
            Err(_) => match text::decimal(raw) {
                Some(number) => ValueRef::Decimal(number),
                None => {
                    ValueRef::F64(float(raw).ok_or_else(|| target.wrong(raw, "number in range"))?)
                }
            },
        },
        _ => ValueRef::Json(raw),
    };
    builder.set(target.id, own);
    Ok(())
}

/// A floating-point number in range.
fn float(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Whether text is one JSON value.
fn is_json(text: &str) -> bool {
    let mut scan = Scanner::new(text);
    scan.value().is_ok() && scan.is_at_end()
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
        ColumnType::Json => ValueRef::Json(is_json(text).then_some(text)?),
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
            text => float(text)?,
        }),
        ColumnType::Decimal => ValueRef::Decimal(text::decimal(text)?),
        ColumnType::Date => ValueRef::Date(text::date(text)?),
        ColumnType::Timestamp => ValueRef::Timestamp(text::timestamp(text, Finer::Refused)?),
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
