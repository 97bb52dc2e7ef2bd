//! What must hold for any input.

use proptest::{collection::vec, option, prelude::*};
use rulemill_wire::{Date, Decimal, Json, Timestamp, Uuid, Value};

use super::{super::scan::Scanner, super::*, catalog, decode, limits, shown};
use crate::render;

/// Text that is often nearly JSON.
fn nearly_json() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "null",
        "true",
        "false",
        "0",
        "-1",
        "1.5e3",
        "e",
        ".",
        " ",
        "\n",
        "\"a\"",
        "\"id\":",
        "\\u00e4",
        "\\u",
        "ä",
        "{\"a\":1}",
        "[]",
        "{}",
        "\"abcdefgh\"",
        "\t",
        "01",
        "-",
    ]);
    vec(words, 0..14).prop_map(|words| words.concat())
}

/// Lines that are often nearly changes.
fn nearly_change() -> impl Strategy<Value = Vec<u8>> {
    let good = prop::sample::select(vec![
        r#"{"before":null,"after":{"id":1,"amount":"12.34","note":"n"},"source":{"table":"orders"},"op":"c","ts_ms":1}"#,
        r#"{"table":"orders","op":"update","before":{"id":1},"after":{"id":2,"amount":5,"new":[1,2]},"ts":"2026-01-01T00:00:00Z"}"#,
        r#"{"payload":{"before":{"id":1,"kind":"a"},"after":null,"source":{"table":"events"},"op":"d"}}"#,
        "csv id,amount,note\n1,2.5,\"a \"\"b\"\"\"\n",
    ]);
    (good, vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)).prop_map(|(line, changes)| {
        let mut line = line.as_bytes().to_vec();
        for (place, byte) in changes {
            let place = place.index(line.len());
            // The header of CSV stays: what `decode` makes of two inputs is not in question here.
            if !line.starts_with(b"csv") || (place > 20 && byte != b'\n') {
                line[place] = byte;
            }
        }
        line
    })
}

/// A value of each column of `orders`; the amount is there.
fn values() -> impl Strategy<Value = Vec<Value>> {
    let decimal = (any::<i64>(), any::<u32>(), 0..=28u32).prop_map(|(high, low, scale)| {
        let mantissa = i128::from(high) << 32 | i128::from(low);
        Value::Decimal(Decimal::from_i128_with_scale(mantissa, scale))
    });
    let days = -90_000_000..90_000_000i32;
    let micros = -8_000_000_000_000_000_000..8_000_000_000_000_000_000i64;
    let float = prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::INFINITE;
    let optional = (
        option::of(".{1,20}".prop_map(Value::Text)),
        option::of(any::<bool>().prop_map(Value::Bool)),
        option::of(float.prop_map(Value::F64)),
        option::of(days.prop_map(|days| Date::from_days(days).map_or(Value::Null, Value::Date))),
        option::of(
            micros.prop_map(|at| Timestamp::from_micros(at).map_or(Value::Null, Value::Timestamp)),
        ),
        option::of(any::<u128>().prop_map(|id| Value::Uuid(Uuid::from_u128(id)))),
        option::of(vec(any::<u8>(), 1..40).prop_map(Value::Bytes)),
        option::of(
            any::<i32>().prop_map(|n| Value::Json(Json::from_text(format!("{{\"a\":[{n}]}}")))),
        ),
    );
    (any::<i64>(), decimal, optional).prop_map(|(id, amount, (a, b, c, d, e, f, g, h))| {
        let mut values = vec![Value::I64(id), amount];
        values.extend([a, b, c, d, e, f, g, h].map(Option::unwrap_or_default));
        values
    })
}

fn row_of(values: &[Value]) -> Vec<u8> {
    let mut builder = RowBuilder::default();
    for (id, value) in (0..).zip(values) {
        builder.set(id, value.as_ref());
    }
    let mut row = Vec::new();
    builder.finish(&mut row);
    row
}

proptest! {
    #[test]
    fn the_scanner_takes_what_serde_json_takes(text in nearly_json()) {
        let mut scan = Scanner::new(&text);
        let taken = scan.value().is_ok() && scan.is_at_end();
        let expected = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert_eq!(taken, expected, "{:?}", text);
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let mut decoder = Decoder::new(catalog(), &limits());
        let _ = decoder.json_line(&bytes, None);
        let mut splitter = Splitter::default();
        for last in [false, true] {
            if let Split::Record { len, .. } | Split::Bad { len, .. } = splitter.split(&bytes, last) {
                prop_assert!(len <= bytes.len());
                prop_assert!(len > 0 || bytes.is_empty());
            }
        }
    }

    /// Lines after a refused one give what they give without it.
    #[test]
    fn a_refused_line_leaves_nothing_behind(lines in vec(nearly_change(), 1..6)) {
        let (with, without) = (catalog(), catalog());
        let mut all = Decoder::new(with.clone(), &limits());
        let mut good = Decoder::new(without.clone(), &limits());
        for line in &lines {
            if decode(&mut all, line).is_ok() {
                prop_assert!(decode(&mut good, line).is_ok());
            }
        }
        let all: Vec<String> = all.take().iter().map(|change| shown(&with, change)).collect();
        let good: Vec<String> = good.take().iter().map(|change| shown(&without, change)).collect();
        prop_assert_eq!(all, good);
        prop_assert_eq!(with.version(), without.version());
    }

    #[test]
    fn rows_come_back_from_json_and_csv(values in values()) {
        let catalog = catalog();
        let known = catalog.load();
        let table = known.by_name("orders").unwrap();
        let row = row_of(&values);
        let mut decoder = Decoder::new(catalog.clone(), &limits());
        let json = render::row_to_json(table, &row).unwrap();
        let line = serde_json::json!({"table": "orders", "op": "insert", "after": json}).to_string();
        decoder.json_line(line.as_bytes(), None).unwrap();
        let fields = render::row_to_fields(table, &row).unwrap();
        let mut csv = ::csv::Writer::from_writer(Vec::new());
        csv.write_record(table.columns.iter().map(|column| &column.name)).unwrap();
        csv.write_record(&fields).unwrap();
        let mut text = b"csv ".to_vec();
        text.extend(csv.into_inner().unwrap());
        decode(&mut decoder, &text).unwrap();
        for change in decoder.take() {
            prop_assert_eq!(change.after.as_deref(), Some(&row[..]), "{:?}", change);
        }
    }

    /// Records that a CSV library wrote are found again, whole, and with the same fields.
    #[test]
    fn records_are_split_as_they_were_written(records in vec(vec("[a,\"\r\n ]{0,6}", 2), 1..5)) {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        for record in &records {
            writer.write_record(record).unwrap();
        }
        let text = writer.into_inner().unwrap();
        let mut rest = &text[..];
        let mut splitter = Splitter::default();
        for record in &records {
            let Split::Record { len, .. } = splitter.split(rest, false) else {
                panic!("{text:?}");
            };
            prop_assert_eq!(&splitter.texts(&rest[..len]), record);
            rest = &rest[len..];
        }
        prop_assert!(rest.is_empty());
    }
}
