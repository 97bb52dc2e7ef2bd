//! Rows and keys as people and scripts read and write them: JSON, CSV, text.
//!
//! | type | JSON |
//! | --- | --- |
//! | bool, i64, f64 | as JSON has them; an f64 that is no number as text |
//! | decimal | text, so that no digit is lost |
//! | text, uuid, date, timestamp (RFC 3339) | text |
//! | bytes | base64 |
//! | json | itself |

use std::collections::BTreeMap;

use base64::Engine as _;
use rulemill_wire::{ColumnType, Reader, Value, ValueRef, key};

use crate::{
    catalog::{Column, Table},
    convert::convert,
    row::{self, RowBuilder, RowError},
};

/// A value as JSON.
pub fn value_to_json(value: ValueRef<'_>) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        ValueRef::Null => Json::Null,
        ValueRef::Bool(v) => Json::Bool(v),
        ValueRef::I64(v) => v.into(),
        ValueRef::F64(v) => serde_json::Number::from_f64(v)
            .map_or_else(|| Json::String(float_name(v).to_owned()), Json::Number),
        ValueRef::Decimal(v) => Json::String(v.to_string()),
        ValueRef::Text(v) => Json::String(v.to_owned()),
        ValueRef::Bytes(v) => Json::String(base64::engine::general_purpose::STANDARD.encode(v)),
        ValueRef::Date(v) => Json::String(v.to_string()),
        ValueRef::Timestamp(v) => Json::String(v.to_string()),
        ValueRef::Uuid(v) => Json::String(v.to_string()),
        // What was stored was JSON; were it not, its text is the best there is to show.
        ValueRef::Json(v) => serde_json::from_str(v).unwrap_or_else(|_| Json::String(v.to_owned())),
    }
}

fn float_name(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

/// A row as a JSON object, its columns in the dictionary's order, its values as they are stored.
///
/// # Errors
/// If the row's bytes are damaged.
pub fn row_to_json(table: &Table, row: &[u8]) -> Result<serde_json::Value, RowError> {
    let mut object = serde_json::Map::new();
    let mut values = row::values(row);
    for column in &table.columns {
        let value = values.next().transpose()?.unwrap_or(ValueRef::Null);
        object.insert(column.name.clone(), value_to_json(value));
    }
    Ok(object.into())
}

/// The same with each value as the type that its column has by now, for people and clients: a value that was
/// stored before anything named the column's type may be of another. One that can't be converted stays as it is.
///
/// # Errors
/// If the row's bytes are damaged.
pub fn row_to_typed_json(table: &Table, row: &[u8]) -> Result<serde_json::Value, RowError> {
    let mut object = serde_json::Map::new();
    let mut values = row::values(row);
    for column in &table.columns {
        let value = values.next().transpose()?.unwrap_or(ValueRef::Null);
        let converted = typed(column, value);
        let value = converted.as_ref().map_or(value, Value::as_ref);
        object.insert(column.name.clone(), value_to_json(value));
    }
    Ok(object.into())
}

/// A value as the type that its column has by now, if it is of another and can be.
fn typed(column: &Column, value: ValueRef<'_>) -> Option<Value> {
    let ty = column.ty.filter(|&ty| value.column_type() != Some(ty))?;
    convert(value, ty)
}

/// The text of a row's JSON object, its columns in alphabetical order, its values as they are stored. A document in it is as it
/// was stored, to the last digit, but for white space between its parts.
///
/// # Errors
/// If the row's bytes are damaged.
pub fn row_to_json_text(table: &Table, row: &[u8]) -> Result<String, RowError> {
    json_text(table, row, |_, _| None)
}

/// The same with each value as the type that its column has by now, as in [`row_to_typed_json`].
///
/// # Errors
/// If the row's bytes are damaged.
pub fn row_to_typed_json_text(table: &Table, row: &[u8]) -> Result<String, RowError> {
    json_text(table, row, typed)
}

fn json_text(
    table: &Table,
    row: &[u8],
    converted: impl Fn(&Column, ValueRef<'_>) -> Option<Value>,
) -> Result<String, RowError> {
    let mut values = row::values(row);
    let mut members = BTreeMap::new();
    for column in &table.columns {
        let value = values.next().transpose()?.unwrap_or(ValueRef::Null);
        let other = converted(column, value);
        members.insert(
            &column.name,
            value_text(other.as_ref().map_or(value, Value::as_ref)),
        );
    }
    let mut text = String::with_capacity(row.len() * 2 + 2);
    for (name, value) in members {
        text.push(if text.is_empty() { '{' } else { ',' });
        text.push_str(&serde_json::Value::from(name.as_str()).to_string());
        text.push(':');
        text.push_str(&value);
    }
    if text.is_empty() {
        text.push('{');
    }
    text.push('}');
    Ok(text)
}

fn value_text(value: ValueRef<'_>) -> String {
    let shown = value_to_json(value);
    match value {
        // One that no common reader takes is shown as a text.
        ValueRef::Json(document) if !shown.is_string() => compact(document),
        _ => shown.to_string(),
    }
}

/// A JSON document without the white space between its parts.
fn compact(document: &str) -> String {
    let (mut in_text, mut escaped) = (false, false);
    let keep = |&c: &char| {
        let kept = in_text || !matches!(c, ' ' | '\t' | '\n' | '\r');
        if !escaped && c == '"' {
            in_text = !in_text;
        }
        escaped = in_text && !escaped && c == '\\';
        kept
    };
    document.chars().filter(keep).collect()
}

/// A row's columns as CSV fields, in the dictionary's order; null is the empty field.
///
/// # Errors
/// If the row's bytes are damaged.
pub fn row_to_fields(table: &Table, row: &[u8]) -> Result<Vec<String>, RowError> {
    let mut values = row::values(row);
    table
        .columns
        .iter()
        .map(|_| {
            let value = values.next().transpose()?.unwrap_or(ValueRef::Null);
            // A document stays one: it may be a text in quotes, or null.
            if let ValueRef::Json(text) = value {
                return Ok(text.to_owned());
            }
            Ok(match value_to_json(value) {
                serde_json::Value::Null => String::new(),
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            })
        })
        .collect()
}

/// A key, given in key form, as JSON: the value, or for a composite key the array of its values.
///
/// # Errors
/// If the bytes are no key of this table.
pub fn key_to_json(table: &Table, bytes: &[u8]) -> Result<serde_json::Value, RowError> {
    let mut reader = Reader::new(bytes);
    let mut values = Vec::with_capacity(table.key.len());
    for (_, column) in table.key_columns() {
        let value = key::read(column.ty.unwrap_or(ColumnType::Text), &mut reader)?;
        values.push(value_to_json(value.as_ref()));
    }
    Ok(match values.len() {
        1 => values.swap_remove(0),
        _ => values.into(),
    })
}

/// The key of a row, as JSON of the same form; what can't be read of it is null.
pub fn key_of_row(table: &Table, row: &[u8]) -> serde_json::Value {
    let mut values: Vec<_> = table
        .key
        .iter()
        .map(|&column| value_to_json(row::value(row, column).unwrap_or(ValueRef::Null)))
        .collect();
    match values.len() {
        1 => values.swap_remove(0),
        _ => values.into(),
    }
}

/// The key form of a key that a person wrote. A key of one column is the text as it is; a composite key is one
/// CSV record (`Oslo,17`, `"Oslo, Norway",17`) or a JSON array of its values. Of a composite key the first columns
/// will do: they stand for all keys that begin with them.
///
/// # Errors
/// With what was expected.
pub fn key_from_text(table: &Table, text: &str) -> Result<Vec<u8>, String> {
    let columns: Vec<&Column> = table.key_columns().map(|(_, column)| column).collect();
    let parts: Vec<String> = if columns.len() == 1 {
        vec![text.to_owned()]
    } else if text.starts_with('[') {
        serde_json::from_str::<Vec<serde_json::Value>>(text)
            .map_err(|error| format!("the key {text} is no JSON array: {error}"))?
            .into_iter()
            .map(|value| match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            })
            .collect()
    } else {
        csv_fields(text).ok_or_else(|| {
            format!(
                "the key {text} is no CSV record: a value in quotes ends with a quote before the next comma, and a \
                 quote in it is written twice"
            )
        })?
    };
    if parts.len() > columns.len() {
        return Err(format!(
            "the key {text} has {} values, but the key of table {} is ({})",
            parts.len(),
            table.name,
            columns
                .iter()
                .map(|column| column.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        ));
    }
    let mut out = Vec::new();
    for (part, column) in parts.iter().zip(columns) {
        let ty = column.ty.unwrap_or(ColumnType::Text);
        let value = value_from_text(ty, part).ok_or_else(|| {
            format!(
                "the key column {} is {part:?}, which is no {ty}",
                column.name
            )
        })?;
        key::write(value.as_ref(), &mut out);
    }
    Ok(out)
}

/// The fields of one CSV record; a quote that doesn't begin a field stands for itself. `None` if quotes don't close.
fn csv_fields(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let (part, behind) = quoted.split_once('"')?;
                field.push_str(part);
                match behind.strip_prefix('"') {
                    Some(behind) => {
                        field.push('"');
                        quoted = behind;
                    }
                    None => {
                        rest = behind;
                        break;
                    }
                }
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        fields.push(field);
        if rest.is_empty() {
            return Some(fields);
        }
        rest = rest.strip_prefix(',')?;
    }
}

/// A value that a person wrote; `None` if it is none of this type.
pub(crate) fn value_from_text(ty: ColumnType, text: &str) -> Option<Value> {
    let mut builder = RowBuilder::default();
    crate::decode::value_from_text(ty, text, &mut builder)?;
    builder.get(0).ok().map(ValueRef::to_owned)
}

#[cfg(test)]
mod tests;
