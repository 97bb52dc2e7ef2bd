//! Values that were kept before anything named their column's type, and are then wanted as one.
//!
//! What a conversion makes of them is what would have been read, had the type been known from the start; if it would
//! have been refused then, so it is now.

use rulemill::{
    catalog::{Catalog, Table},
    convert::convert as converted,
    decode::{Decoder, Format, Header, Splitter},
    limits::Limits,
    row,
};
use rulemill_wire::{ColumnType, Value, ValueRef};

use super::{reading, tables};

pub(super) const WORDS: &[&[u8]] = &[
    b"1_000",
    b" 12 ",
    b"1e400",
    b"1e-40",
    b"0.1",
    b"-0.0",
    b"79228162514264337593543950335",
    b"2026-01-31T12:00:00.1234567Z",
    b"2026-1-1",
    b"23:59:60",
    b"infinity",
    b"true",
    b"{6ba7b810-9dad-11d1-80b4-00c04fd430c8}",
];

/// The first byte says which type is wanted; the rest is a number as JSON has it, or a text.
pub(super) fn convert(input: &[u8]) -> bool {
    let Some((&which, text)) = input.split_first() else {
        return false;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    let ty = ColumnType::ALL[usize::from(which) % ColumnType::ALL.len()];
    let is_blank = text.trim_ascii().is_empty();
    if is_blank || matches!(ty, ColumnType::Text | ColumnType::Json) {
        return false;
    }
    let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let mut any = false;
    if is_number && reading::is_json(text) && text.trim() == text {
        any |= check(ty, read_json(None, text), read_json(Some(ty), text), text);
    }
    // Spaces around a value in CSV count in a text only.
    let kept = Some(Value::Text(text.to_owned()));
    check(ty, kept, read_csv(ty, text), text) || any
}

fn check(ty: ColumnType, kept: Option<Value>, meant: Option<Value>, text: &str) -> bool {
    let Some(kept) = kept else {
        return false;
    };
    if kept.as_ref().column_type() == Some(ty) {
        return false;
    }
    let found = converted(kept.as_ref(), ty);
    if let Some(found) = &found {
        assert_eq!(found.as_ref().column_type(), Some(ty));
        let same = match (&kept, found) {
            // A number of more digits than any decimal has was kept as a float, and is as exact as that.
            (Value::F64(kept), found) => reads_as_f64(found) == Some(*kept),
            // 12.0 is no whole number where one is expected, and yet it is one.
            (Value::Decimal(_), Value::I64(found)) => {
                reading::Number::of(text) == reading::Number::of(&found.to_string())
            }
            (_, found) => meant.as_ref().map(same_form) == Some(same_form(found)),
        };
        assert!(
            same,
            "{text:?}, kept as {kept:?}, wanted as {ty}: {found:?}, not {meant:?}"
        );
    }
    found.is_some()
}

fn reads_as_f64(value: &Value) -> Option<f64> {
    match value {
        Value::Decimal(value) => value.to_string().parse().ok(),
        _ => None,
    }
}

/// What tells values apart: not the zeros at a decimal's end, nor a zero's sign, which a decimal doesn't have.
fn same_form(value: &Value) -> String {
    match value {
        Value::Decimal(value) => format!("{}", value.normalize()),
        Value::F64(value) => format!("{}", value + 0.0),
        value => format!("{value:?}"),
    }
}

/// A table of one key and a column of this type.
fn table(ty: Option<ColumnType>) -> Table {
    let mut value = tables::column("value", ColumnType::Text, true);
    value.ty = ty;
    let id = tables::column("id", ColumnType::I64, false);
    tables::table(0, "kept", vec![id, value], 1)
}

fn decoder(ty: Option<ColumnType>) -> Decoder {
    let catalog = Catalog::from_tables(vec![table(ty)]);
    // No limit but those of the types: what is kept is kept whatever a row may have now.
    Decoder::new(tables::shared(&catalog), &Limits::default())
}

fn value_of(mut decoder: Decoder) -> Option<Value> {
    let row = decoder.take().pop()?.after?;
    let value = row::value(&row, 1).unwrap();
    (value != ValueRef::Null).then(|| value.to_owned())
}

fn read_json(ty: Option<ColumnType>, number: &str) -> Option<Value> {
    let line = format!(r#"{{"table":"kept","op":"upsert","after":{{"id":1,"value":{number}}}}}"#);
    let mut decoder = decoder(ty);
    decoder
        .json_line(line.as_bytes(), Some(Format::Rulemill))
        .ok()?;
    value_of(decoder)
}

fn read_csv(ty: ColumnType, text: &str) -> Option<Value> {
    let mut decoder = decoder(Some(ty));
    let mut splitter = Splitter::default();
    let line = format!("1,\"{}\"\n", text.replace('"', "\"\""));
    splitter.split(line.as_bytes(), true);
    let header = Header::from_names(vec!["id".into(), "value".into()]);
    decoder
        .csv_record("kept", &header, line.as_bytes(), &splitter)
        .ok()?;
    value_of(decoder)
}
