//! One value, from its text in the input to its column's type, exactly or not at all.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rulemill_wire::{ColumnType, Date, Decimal, Timestamp, Uuid, ValueRef};

use super::number;

/// How deep arrays and objects of a JSON column may lie in one another: readers of JSON recurse.
const JSON_DEPTH_MAX: usize = 100;

/// What Debezium writes for a large value that the database didn't send.
const DEBEZIUM_UNAVAILABLE: &str = "__debezium_unavailable_value";

/// Room for values that aren't in the input as they are.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) text: String,
    pub(super) bytes: Vec<u8>,
}

/// Reads a JSON value. Debezium writes dates as days and timestamps as microseconds.
#[inline]
pub(super) fn json<'a>(
    raw: &'a str,
    ty: Option<ColumnType>,
    debezium: bool,
    scratch: &'a mut Scratch,
) -> Result<ValueRef<'a>, String> {
    let first = raw.as_bytes().first().copied().unwrap_or(b'n');
    if first == b'n' {
        return Ok(ValueRef::Null);
    }
    let is_text = first == b'"';
    let is_number = first == b'-' || first.is_ascii_digit();
    match ty {
        Some(ColumnType::I64) if is_number => number::i64(raw).map(ValueRef::I64),
        Some(ColumnType::F64) if is_number => number::f64(raw).map(ValueRef::F64),
        Some(ColumnType::Decimal) if is_number => number::decimal(raw).map(ValueRef::Decimal),
        Some(ColumnType::Bool) if raw == "true" => Ok(ValueRef::Bool(true)),
        Some(ColumnType::Bool) if raw == "false" => Ok(ValueRef::Bool(false)),
        Some(ColumnType::Json) if is_text && debezium => {
            // Debezium hands a document over as text that holds it.
            let inner = text(raw, debezium, scratch)?;
            check_json(inner)?;
            Ok(ValueRef::Json(inner))
        }
        Some(ColumnType::Json) => {
            check_depth(raw)?;
            Ok(ValueRef::Json(raw))
        }
        Some(ColumnType::Date) if is_number && debezium => raw
            .parse()
            .ok()
            .and_then(Date::from_days)
            .map(ValueRef::Date)
            .ok_or_else(|| no(raw, ColumnType::Date)),
        Some(ColumnType::Timestamp) if is_number && debezium => raw
            .parse()
            .ok()
            .and_then(Timestamp::from_micros)
            .map(ValueRef::Timestamp)
            .ok_or_else(|| no(raw, ColumnType::Timestamp)),
        Some(
            ty @ (ColumnType::Text
            | ColumnType::Bytes
            | ColumnType::Decimal
            | ColumnType::Date
            | ColumnType::Timestamp
            | ColumnType::Uuid),
        ) if is_text => {
            let found = unescape(raw, debezium, &mut scratch.text)?;
            if ty == ColumnType::Text {
                return Ok(ValueRef::Text(found));
            }
            if ty == ColumnType::Decimal && debezium {
                return number::decimal(found).map(ValueRef::Decimal).map_err(|what| {
                    format!(
                        "{what} (if the connector writes decimals as bytes, set its decimal.handling.mode \
                         to string, or have it write the schema)"
                    )
                });
            }
            typed_text(found, ty, &mut scratch.bytes)
        }
        Some(ty) => Err(no(raw, ty)),
        None => match first {
            b't' => Ok(ValueRef::Bool(true)),
            b'f' => Ok(ValueRef::Bool(false)),
            b'"' => text(raw, debezium, scratch).map(ValueRef::Text),
            b'{' | b'[' => {
                check_depth(raw)?;
                Ok(ValueRef::Json(raw))
            }
            _ => untyped_number(raw),
        },
    }
}

/// Reads a CSV field.
pub(super) fn csv<'a>(
    field: &'a str,
    quoted: bool,
    ty: Option<ColumnType>,
    scratch: &'a mut Scratch,
) -> Result<ValueRef<'a>, String> {
    if field.is_empty() && !quoted {
        return Ok(ValueRef::Null);
    }
    match ty {
        None | Some(ColumnType::Text) => Ok(ValueRef::Text(field)),
        Some(ColumnType::Bool) => match field {
            "true" | "t" | "1" => Ok(ValueRef::Bool(true)),
            "false" | "f" | "0" => Ok(ValueRef::Bool(false)),
            _ => Err(no(field, ColumnType::Bool)),
        },
        Some(ColumnType::I64) => number::i64(field).map(ValueRef::I64),
        Some(ColumnType::F64) => number::f64(field).map(ValueRef::F64),
        Some(ColumnType::Json) => {
            check_json(field)?;
            Ok(ValueRef::Json(field))
        }
        Some(ty) => typed_text(field, ty, &mut scratch.bytes),
    }
}

/// Reads text as a value that JSON and CSV both write as text.
pub(super) fn typed_text<'a>(
    text: &str,
    ty: ColumnType,
    bytes: &'a mut Vec<u8>,
) -> Result<ValueRef<'a>, String> {
    let value = match ty {
        ColumnType::Decimal => Some(ValueRef::Decimal(number::decimal(text)?)),
        ColumnType::Date => number::date(text).map(ValueRef::Date),
        ColumnType::Timestamp => timestamp(text).map(ValueRef::Timestamp),
        ColumnType::Uuid => Uuid::try_parse(text).ok().map(ValueRef::Uuid),
        ColumnType::Bytes => {
            bytes.clear();
            let read = STANDARD.decode_vec(text, bytes);
            read.ok().map(|()| ValueRef::Bytes(bytes))
        }
        _ => None,
    };
    value.ok_or_else(|| no(text, ty))
}

/// Reads a timestamp as the wire types do, faster where it has the usual form.
pub(super) fn timestamp(text: &str) -> Option<Timestamp> {
    number::timestamp(text)
}

/// The text of a JSON string.
#[inline]
pub(super) fn text<'a>(
    raw: &'a str,
    debezium: bool,
    scratch: &'a mut Scratch,
) -> Result<&'a str, String> {
    unescape(raw, debezium, &mut scratch.text)
}

#[inline]
fn unescape<'a>(raw: &'a str, debezium: bool, out: &'a mut String) -> Result<&'a str, String> {
    let inner = raw
        .get(1..raw.len().saturating_sub(1))
        .ok_or_else(|| no(raw, ColumnType::Text))?;
    if debezium && inner == DEBEZIUM_UNAVAILABLE {
        return Err(
            "the database did not send this large value, as it had not changed: set the table's \
             REPLICA IDENTITY to FULL"
                .into(),
        );
    }
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Ok(inner);
    }
    *out = serde_json::from_str(raw)
        .map_err(|error: serde_json::Error| super::bare_message(&error))?;
    Ok(out)
}

/// An integer where it is one that fits, else a decimal where that is exact, else the nearest float.
fn untyped_number(raw: &str) -> Result<ValueRef<'static>, String> {
    if let Ok(number) = raw.parse() {
        return Ok(ValueRef::I64(number));
    }
    if let Ok(number) = number::decimal(raw) {
        return Ok(ValueRef::Decimal(number));
    }
    number::f64(raw).map(ValueRef::F64)
}

/// The type that a key column takes from the first value it meets.
pub(super) fn json_type(raw: &str) -> Option<ColumnType> {
    Some(match raw.as_bytes().first()? {
        b'n' => return None,
        b't' | b'f' => ColumnType::Bool,
        b'"' => ColumnType::Text,
        b'{' | b'[' => ColumnType::Json,
        _ if raw.parse::<i64>().is_ok() => ColumnType::I64,
        _ => ColumnType::Decimal,
    })
}

/// Refuses text that is no JSON document.
fn check_json(text: &str) -> Result<(), String> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|_| no(text, ColumnType::Json))?;
    check_depth(text)
}

/// Refuses a document whose arrays and objects lie too deep in one another.
fn check_depth(document: &str) -> Result<(), String> {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for byte in document.bytes() {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return Err(format!(
                        "arrays and objects nest deeper than {JSON_DEPTH_MAX} levels"
                    ));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Says that a value isn't of a type.
pub(super) fn no(found: &str, ty: ColumnType) -> String {
    let expected = match ty {
        ColumnType::Bool => "true or false",
        ColumnType::I64 => "an integer",
        ColumnType::F64 => "a number",
        ColumnType::Decimal => "a decimal number",
        ColumnType::Text => "text",
        ColumnType::Bytes => "bytes as base64 text",
        ColumnType::Date => "a date as \"YYYY-MM-DD\"",
        ColumnType::Timestamp => "a timestamp as \"YYYY-MM-DDTHH:MM:SSZ\"",
        ColumnType::Uuid => "a UUID",
        ColumnType::Json => "a JSON document",
    };
    format!("{} is of the wrong type: expected {expected}", shown(found))
}

/// Input as a message shows it: on one line and not too long.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(60).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    if shown.starts_with(['"', '{', '[']) && !shown.contains(char::is_control) {
        shown
    } else {
        format!("{shown:?}")
    }
}

/// The number of decimal places and digits of a value that came as two's complement bytes.
pub(super) fn decimal_from_bytes(bytes: &[u8], scale: u32) -> Option<Decimal> {
    let (&first, _) = bytes.split_first()?;
    if bytes.len() > 16 {
        return None;
    }
    let mut wide = [if first & 0x80 == 0 { 0 } else { 0xff }; 16];
    wide[16 - bytes.len()..].copy_from_slice(bytes);
    Decimal::try_from_i128_with_scale(i128::from_be_bytes(wide), scale).ok()
}
