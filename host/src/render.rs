//! Stored rows and keys as people and programs read them: JSON and CSV out, keys in.
//!
//! This module owns how values look outside: decimals as JSON text (a JSON number would lose digits in
//! most readers), dates and moments as ISO 8601 and RFC 3339 text, bytes as base64, JSON columns as the
//! documents they are. It reads bytes of the store, so damage is an error, never a panic.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rulemill_wire::{Reader, Value, ValueRef, key};
use serde_json::value::RawValue;

use crate::{
    catalog::{Column, Table},
    decode,
    row::{self, RowError},
};

/// A row as a JSON object on one line, with every column of the table's dictionary in its order.
///
/// # Errors
/// If the row's bytes are damaged.
pub fn json(table: &Table, row: &[u8]) -> Result<String, RowError> {
    let mut out = String::with_capacity(row.len() * 2 + 32);
    write_json(table, row, &mut out)?;
    Ok(out)
}

/// Appends what [`json`] gives.
///
/// # Errors
/// If the row's bytes are damaged; `out` then holds a part of it.
pub fn write_json(table: &Table, row: &[u8], out: &mut String) -> Result<(), RowError> {
    let mut values = row::values(row);
    out.push('{');
    for (place, column) in table.columns.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        write_json_text(&column.name, out);
        out.push(':');
        write_json_value(values.next().unwrap_or(Ok(ValueRef::Null))?, out);
    }
    out.push('}');
    Ok(())
}

/// A row as JSON that serde writes as it is, for answers that hold rows among other things.
///
/// # Errors
/// If the row's bytes are damaged, or a JSON column holds what is no JSON.
pub fn raw_json(table: &Table, row: &[u8]) -> Result<Box<RawValue>, RowError> {
    RawValue::from_string(json(table, row)?).map_err(|_| RowError::Type {
        column: "of JSON".into(),
        found: "text that is no JSON".into(),
        expected: rulemill_wire::ColumnType::Json,
    })
}

/// Appends a value as JSON.
pub fn write_json_value(value: ValueRef<'_>, out: &mut String) {
    // Writing to a String can't fail.
    let _ = match value {
        ValueRef::Null => out.write_str("null"),
        ValueRef::Bool(value) => write!(out, "{value}"),
        ValueRef::I64(value) => write!(out, "{value}"),
        ValueRef::F64(value) => match serde_json::Number::from_f64(value) {
            Some(number) => write!(out, "{number}"),
            None => write!(out, "\"{value}\""),
        },
        ValueRef::Decimal(value) => write!(out, "\"{value}\""),
        ValueRef::Date(value) => write!(out, "\"{value}\""),
        ValueRef::Timestamp(value) => write!(out, "\"{value}\""),
        ValueRef::Uuid(value) => write!(out, "\"{value}\""),
        ValueRef::Bytes(value) => {
            out.push('"');
            STANDARD.encode_string(value, out);
            out.write_char('"')
        }
        ValueRef::Text(value) => {
            write_json_text(value, out);
            Ok(())
        }
        // Line ends in a document stand between its tokens; a row is one line.
        ValueRef::Json(value) => out.write_str(&value.replace(['\n', '\r'], " ")),
    };
}

fn write_json_text(text: &str, out: &mut String) {
    // Text always has a JSON form.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// A row as CSV fields, one for each column of the table's dictionary; null is `None`, which a CSV
/// writer leaves empty.
///
/// # Errors
/// If the row's bytes are damaged.
pub fn fields(table: &Table, row: &[u8]) -> Result<Vec<Option<String>>, RowError> {
    let mut values = row::values(row);
    table
        .columns
        .iter()
        .map(|_| Ok(field(values.next().unwrap_or(Ok(ValueRef::Null))?)))
        .collect()
}

/// A value as text without quotes: for CSV, tables and messages. `None` is null.
pub fn field(value: ValueRef<'_>) -> Option<String> {
    Some(match value {
        ValueRef::Null => return None,
        ValueRef::Text(text) | ValueRef::Json(text) => text.to_owned(),
        ValueRef::F64(number) => number.to_string(),
        ValueRef::Bytes(bytes) => STANDARD.encode(bytes),
        ValueRef::Bool(flag) => flag.to_string(),
        ValueRef::I64(number) => number.to_string(),
        ValueRef::Decimal(number) => number.to_string(),
        ValueRef::Date(date) => date.to_string(),
        ValueRef::Timestamp(at) => at.to_string(),
        ValueRef::Uuid(uuid) => uuid.to_string(),
    })
}

/// The values of a key in key form.
///
/// # Errors
/// If the bytes are no key of the table.
pub fn key_values(table: &Table, key: &[u8]) -> Result<Vec<Value>, RowError> {
    let mut reader = Reader::new(key);
    let mut values = Vec::with_capacity(table.key.len());
    for (_, column) in table.key_columns() {
        let ty = column.ty.unwrap_or(rulemill_wire::ColumnType::Text);
        values.push(key::read(ty, &mut reader)?);
    }
    Ok(values)
}

/// A key in key form as a person writes it: `17`, or a JSON array where the key has several columns.
///
/// # Errors
/// If the bytes are no key of the table.
pub fn key_text(table: &Table, key: &[u8]) -> Result<String, RowError> {
    let values = key_values(table, key)?;
    if let [value] = &values[..] {
        return Ok(field(value.as_ref()).unwrap_or_default());
    }
    let mut out = String::from("[");
    for (place, value) in values.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        write_json_value(value.as_ref(), &mut out);
    }
    out.push(']');
    Ok(out)
}

/// The key form of a whole key as a person writes it: `17`, `a,b` or `["a","b"]`.
///
/// # Errors
/// What is wrong with the text.
pub fn key(table: &Table, text: &str) -> Result<Vec<u8>, String> {
    let columns: Vec<&Column> = table.key_columns().map(|(_, column)| column).collect();
    let parts = parts(text, columns.len());
    if parts.len() != columns.len() {
        return Err(format!(
            "the key of table {} is {}, and {text:?} has {} of its {} values: write them with commas \
             between, or as a JSON array",
            table.name,
            key_names(table),
            parts.len(),
            columns.len()
        ));
    }
    write_key(table, &columns, &parts)
}

/// The key form of a key's leading columns, which bounds a range of keys.
///
/// # Errors
/// What is wrong with the text.
pub fn key_prefix(table: &Table, text: &str) -> Result<Vec<u8>, String> {
    let columns: Vec<&Column> = table.key_columns().map(|(_, column)| column).collect();
    let parts = parts(text, columns.len());
    if parts.len() > columns.len() {
        return Err(format!(
            "the key of table {} is {}, and {text:?} has {} values",
            table.name,
            key_names(table),
            parts.len()
        ));
    }
    write_key(table, &columns, &parts)
}

fn key_names(table: &Table) -> String {
    let names: Vec<&str> = table.key_columns().map(|(_, c)| c.name.as_str()).collect();
    names.join(", ")
}

fn write_key(table: &Table, columns: &[&Column], parts: &[String]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for (column, part) in columns.iter().zip(parts) {
        let value = decode::value_from_text(part, column.ty).map_err(|what| {
            format!("key column {} of table {}: {what}", column.name, table.name)
        })?;
        key::write(value.as_ref(), &mut out);
    }
    Ok(out)
}

/// A written key's values as text.
fn parts(text: &str, columns: usize) -> Vec<String> {
    if text.trim_start().starts_with('[')
        && let Ok(items) = serde_json::from_str::<Vec<serde_json::Value>>(text)
    {
        let plain = |item| match item {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        return items.into_iter().map(plain).collect();
    }
    if columns == 1 {
        return vec![text.to_owned()];
    }
    text.split(',').map(|part| part.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::{Origin, TableId},
        row::RowBuilder,
    };
    use rulemill_wire::{ColumnType, Timestamp, Uuid};

    fn table(columns: &[(&str, ColumnType)], key: usize) -> Table {
        Table {
            id: TableId(0),
            name: "t".into(),
            generation: 0,
            origin: Origin::Source,
            columns: columns
                .iter()
                .map(|(name, ty)| Column {
                    name: (*name).into(),
                    ty: Some(*ty),
                    nullable: true,
                })
                .collect(),
            key: (0..key as u16).collect(),
            indexes: Vec::new(),
            mirror: true,
        }
    }

    #[test]
    fn a_row_is_one_json_line_and_csv_fields() {
        let columns = ColumnType::ALL.map(|ty| (ty.name(), ty));
        let table = table(&columns, 1);
        let mut row = RowBuilder::default();
        let values = [
            ValueRef::Bool(true),
            ValueRef::I64(i64::MIN),
            ValueRef::F64(1.5),
            ValueRef::Decimal("12.50".parse().unwrap()),
            ValueRef::Text("a \"b\"\n"),
            ValueRef::Bytes(&[0, 255]),
            ValueRef::Date("2026-01-31".parse().unwrap()),
            ValueRef::Timestamp(Timestamp::from_micros(1_500_000).unwrap()),
            ValueRef::Uuid(Uuid::from_u128(1)),
            ValueRef::Json("{\n\"x\": [1]}"),
        ];
        for (place, value) in values.into_iter().enumerate() {
            row.set(place as u16, value);
        }
        let mut bytes = Vec::new();
        row.finish(&mut bytes);
        assert_eq!(
            json(&table, &bytes).unwrap(),
            r#"{"bool":true,"i64":-9223372036854775808,"f64":1.5,"decimal":"12.50","text":"a \"b\"\n","bytes":"AP8=","date":"2026-01-31","timestamp":"1970-01-01T00:00:01.500Z","uuid":"00000000-0000-0000-0000-000000000001","json":{ "x": [1]}}"#
        );
        assert_eq!(
            raw_json(&table, &bytes).unwrap().get(),
            json(&table, &bytes).unwrap()
        );
        let fields = fields(&table, &bytes[..1 + 1]).unwrap();
        assert_eq!((fields[0].as_deref(), &fields[1]), (Some("true"), &None));
        assert!(json(&table, &[99]).is_err());
    }

    #[test]
    fn keys_are_read_as_people_write_them() {
        let one = table(&[("id", ColumnType::I64)], 1);
        let two = table(&[("a", ColumnType::Text), ("b", ColumnType::Date)], 2);
        let word = table(&[("w", ColumnType::Text)], 1);
        for (table, written, text) in [
            (&one, "17", "17"),
            (&one, "[17]", "17"),
            (&two, "x,2026-01-31", r#"["x","2026-01-31"]"#),
            (&two, r#"["x,y","2026-01-31"]"#, r#"["x,y","2026-01-31"]"#),
            (&word, "a,b", "a,b"),
            (&word, "[a", "[a"),
        ] {
            let bytes = key(table, written).unwrap();
            assert_eq!(key_text(table, &bytes).unwrap(), text);
        }
        assert!(key(&one, "x").unwrap_err().contains("key column id"));
        assert!(key(&two, "x").unwrap_err().contains("1 of its 2"));
        assert!(key_prefix(&two, "a,2026-01-31,c").is_err());
        assert!(
            key(&two, "x,2026-01-31")
                .unwrap()
                .starts_with(&key_prefix(&two, "x").unwrap())
        );
    }
}
