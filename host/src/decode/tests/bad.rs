//! Input that can't be taken, and the words that say why.

use super::{super::*, catalog, check, decode, limits};

fn orders(after: &str) -> String {
    format!(r#"{{"table":"orders","op":"insert","after":{after}}}"#)
}

#[test]
fn lines_that_are_no_json() {
    check(
        "x",
        "refused: a change is a JSON object on a line of its own",
    );
    check("[1]", "refused: a change is a JSON object");
    check("{", "refused: malformed JSON: EOF while parsing");
    check(
        r#"{"table":"orders",}"#,
        "refused: malformed JSON: key must be a string",
    );
    check(
        r#"{"table":"orders"} x"#,
        "refused: malformed JSON: trailing characters",
    );
    check(
        orders(r#"{"id":1,"amount":01}"#),
        "refused: malformed JSON: invalid number",
    );
    check(
        orders(r#"{"id":1 "amount":1}"#),
        "refused: malformed JSON: expected `,` or `}`",
    );
    check(
        orders("{\"id\":1,\"note\":\"a\tb\"}"),
        "refused: malformed JSON: control character",
    );
    check(
        orders("{\"id\":1,\"note\":\"a\0b\"}"),
        "refused: malformed JSON: control character",
    );
    check("{\"table\":\0}", "refused: malformed JSON");
    check(
        orders(r#"{"id":1,"amount":1,"note":"\x"}"#),
        "refused: malformed JSON: invalid escape",
    );
    check(
        orders(r#"{"id":1,"amount":1,"note":"\ud800"}"#),
        "refused: stands for no character",
    );
    check(
        b"{\"table\":\"orders\xff\"}",
        "refused: not UTF-8 at byte 16 of the line",
    );
    check(
        b"{\"table\":\"orders\",\"op\":\"insert\",\"after\":{\"id\":1,\"amount\":1,\"note\":\"\xc3\"}}",
        "refused: not UTF-8 at byte",
    );
    // Several problems in one line: that it is no JSON comes first.
    check(
        r#"{"table":"no","op":"no","after":{"id":"x"},"zzz":1"#,
        "refused: malformed JSON: EOF",
    );
}

#[test]
fn deep_brackets_are_refused_and_exhaust_no_stack() {
    for depth in [130, 500] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        check(
            orders(&format!(r#"{{"id":1,"amount":1,"doc":{deep}}}"#)),
            "refused: more than 120 deep",
        );
        check(
            format!(r#"{{"op":"c","after":{{"x":{deep}}},"source":{{}}}}"#),
            "refused: 120 deep",
        );
        check(format!(r#"{{"payload":{deep}}}"#), "refused: 120 deep");
        check(
            format!(r#"{{"zzz":{}"#, "{\"a\":".repeat(depth)),
            "refused: 120 deep",
        );
    }
    let limits = Limits {
        line_bytes_max: 8 << 20,
        ..super::limits()
    };
    let mut decoder = Decoder::new(super::catalog(), &limits);
    let deep = format!("{{\"a\":{}", "[".repeat(4 << 20));
    assert!(decoder.json_line(deep.as_bytes(), None).is_err());
}

#[test]
fn envelopes_that_make_no_sense() {
    check(
        "{}",
        "refused: the change has no \"table\" (nor, as Debezium's would, a \"source\")",
    );
    check(
        r#"{"tabel":"orders"}"#,
        "refused: unknown key \"tabel\": the keys are table, op, before, after, ts",
    );
    check(
        r#"{"table":"orders","op":"delete","before":{"id":1},"when":1}"#,
        "refused: unknown key \"when\": the keys are table, op, before, after, ts",
    );
    check(
        r#"{"table":"orders","op":"truncate","source":{"table":"x"}}"#,
        "refused: unknown key \"source\"",
    );
    check(
        r#"{"op":"c","after":{"id":1}}"#,
        "refused: the change has no \"table\"",
    );
    check(
        r#"{"op":"c","source":{},"after":{"id":1}}"#,
        "refused: no \"source\" with a \"table\"",
    );
    check(
        r#"{"op":"c","source":5,"after":{"id":1}}"#,
        "refused: no \"source\" with a \"table\"",
    );
    check(
        r#"{"table":"orders"}"#,
        "refused: table orders: the change has no \"op\"",
    );
    check(
        r#"{"table":5,"op":"delete"}"#,
        "refused: \"table\" is 5, which is no text",
    );
    check(
        r#"{"table":"orders","op":"c"}"#,
        "refused: unknown op \"c\": insert, update, upsert, delete or truncate",
    );
    check(
        r#"{"source":{"table":"orders"},"op":"x"}"#,
        "refused: unknown Debezium op \"x\": c, u, d, r or t",
    );
    check(
        r#"{"table":"nope","op":"delete","before":{"id":1}}"#,
        "refused: unknown table nope: no plugin reads it and no [[table]] names it",
    );
    check(
        r#"{"table":"totals","op":"delete","before":{"id":1}}"#,
        "refused: table totals belongs to a plugin's rules",
    );
    check(
        r#"{"table":"orders","op":"insert"}"#,
        "refused: table orders: the change has no \"after\"",
    );
    check(
        r#"{"table":"keyless","op":"insert","after":{"id":1}}"#,
        "refused: table keyless has no key yet",
    );
    check(
        r#"{"table":"events","op":"truncate"}"#,
        "refused: table events: a truncate can't be taken: the table keeps no rows",
    );
    check(
        r#"{"table":"orders","op":"delete"}"#,
        "refused: table orders: the change has no \"before\"",
    );
    check(
        r#"{"table":"orders","op":"delete","op":"insert","before":{"id":1}}"#,
        "refused: the change has \"op\" twice",
    );
    check(
        r#"{"payload":{"op":"d","before":{"id":1},"before":{"id":2},"source":{"table":"orders"}}}"#,
        "refused: the change has \"before\" twice",
    );
    check(
        r#"{"op":"d","before":{"id":1},"source":{"table":"orders","table":"events"}}"#,
        "refused: twice",
    );
    check(
        orders("5"),
        "refused: table orders: \"after\" is 5, which is no row as a JSON object",
    );
    check(
        orders(r#""{}""#),
        "refused: which is no row as a JSON object",
    );
    check(
        r#"{"table":"orders","op":"truncate","ts":"yesterday"}"#,
        "refused: \"ts\" is \"yesterday\": expected a timestamp",
    );
    check(
        r#"{"table":"orders","op":"truncate","ts":12}"#,
        "refused: \"ts\" is 12, which is no text",
    );
    check(
        r#"{"op":"t","source":{"table":"orders","ts_ms":9223372036854775807}}"#,
        "refused: \"ts_ms\" is 9223372036854775807",
    );
    let mut decoder = Decoder::new(super::catalog(), &super::limits());
    let refused = decoder.json_line(b"{}", Some(Format::Csv)).unwrap_err();
    assert_eq!(refused.text, "a JSON line where CSV was expected");
}

#[test]
fn rows_that_do_not_fit() {
    check(
        orders(r#"{"amount":1}"#),
        "refused: table orders: the key column id is missing or null",
    );
    check(
        orders(r#"{"id":null,"amount":1}"#),
        "refused: the key column id is missing or null",
    );
    check(
        orders(r#"{"id":1}"#),
        "refused: table orders: column amount is missing and can't be null",
    );
    check(
        orders(r#"{"id":1,"amount":null}"#),
        "refused: table orders: column amount can't be null",
    );
    check(
        r#"{"table":"orders","op":"update","after":{"id":1,"note":"x"}}"#,
        "refused: table orders: column amount is missing and can't be null: a change holds the whole row",
    );
    check(
        orders(r#"{"id":1,"amount":1,"note":"a","note":"b"}"#),
        "refused: table orders: column note stands twice in one row",
    );
    check(
        orders(r#"{"id":1,"amount":1,"new":"a","new":"b"}"#),
        "refused: table orders: column new stands twice in one row",
    );
    check(
        orders(r#"{"id":1,"amount":1,"a":1,"b":1,"c":1}"#),
        "refused: limits.table_columns_max is 12",
    );
    check(
        orders(r#"{"id":1,"amount":1,"new":1e999}"#),
        "refused: column new is 1e999, which is no number in range",
    );
    check(
        r#"{"table":"plain","op":"insert","after":{"id":1.5e300}}"#,
        "refused: table plain: the key column id holds F64(",
    );
    check(
        r#"{"table":"plain","op":"update","before":{"id":"a"},"after":{"id":1}}"#,
        "refused: table plain: the key column id is text before and i64 after",
    );
    check(
        format!(
            r#"{{"table":"plain","op":"insert","after":{{"id":"{}"}}}}"#,
            "k".repeat(80)
        ),
        "refused: a key of table plain has 82 bytes, more than limits.key_bytes_max = 64",
    );
    check(
        orders(&format!(
            r#"{{"id":1,"amount":1,"note":"{}"}}"#,
            "x".repeat(3_000)
        )),
        "refused: more than limits.row_bytes_max = 2048",
    );
    check(
        orders(&format!(r#"{{"id":1,"note":"{}"}}"#, "x".repeat(5_000))),
        "refused: more than limits.line_bytes_max = 4096",
    );
}

#[test]
fn values_of_the_wrong_type_or_out_of_range() {
    let bad = |column: &str, value: &str, why: &str| {
        let first = if column == "amount" {
            ""
        } else {
            r#""amount":1,"#
        };
        let id = if column == "id" { "" } else { r#""id":1,"# };
        check(
            orders(&format!(r#"{{{first}{id}"{column}":{value}}}"#)),
            &format!("refused: table orders: column {column} is {value}{why}"),
        );
    };
    bad("id", r#""1""#, ", which is no i64");
    bad("id", "1.0", ", which is no i64");
    bad("id", "1e3", ", which is no i64");
    bad("id", "true", ", which is no i64");
    bad("id", "[1]", ", which is no i64");
    bad(
        "id",
        "9223372036854775808",
        ", out of range, which is no i64",
    );
    for value in [
        "1_000", " 1", "1 ", "", "-", ".", "1e", "e5", "1.2.3", "0x10", "12abc", "١", "NaN", "+-1",
    ] {
        bad(
            "amount",
            &format!("{value:?}"),
            ", which is no decimal of at most 28 digits",
        );
    }
    for value in [
        "99999999999999999999999999999",
        "1e29",
        "1e-29",
        "1.23456789012345678901234567891",
        "12345678901234567890123456789e-5",
        "79228162514264337593543950336",
        "1e999999999999",
    ] {
        let whole = value == "12345678901234567890123456789e-5";
        if !whole {
            bad(
                "amount",
                value,
                ", which is no decimal of at most 28 digits",
            );
        }
    }
    bad("note", "5", ", which is no text");
    bad("note", "{}", ", which is no text");
    bad("paid", "1", ", which is no bool");
    bad("paid", r#""true""#, ", which is no bool");
    bad("weight", "1e999", ", which is no f64");
    for value in ["inf", "1_0", " 1", "0x1p3"] {
        bad("weight", &format!("{value:?}"), ", which is no f64");
    }
    for value in [
        "2026-1-05",
        " 2026-01-05",
        "2026-01-05 ",
        "2026-02-30",
        "20260105",
        "2026-01-05T00:00:00Z",
        "12026-01-01",
    ] {
        bad("day", &format!("{value:?}"), ", which is no date");
    }
    for value in [
        "2026-01-05",
        "2026-01-05T1:00:00Z",
        "2026-01-05T24:00:00Z",
        "2026-01-05T00:00:60Z",
        "2026-01-05T00:00Z",
        "2026-01-05T00:00:00.Z",
        "2026-01-05T00:00:00.1234567Z",
        "2026-01-05T00:00:00 Z",
        "2026-01-05T00:00:00+1",
        "2026-01-05T00:00:00Zx",
        "now",
    ] {
        bad(
            "at",
            &format!("{value:?}"),
            ", which is no timestamp in whole microseconds",
        );
    }
    bad("at", "5", ", which is no timestamp");
    bad("token", r#""67e55044""#, ", which is no uuid");
    bad("blob", r#""AP8""#, ", which is no bytes");
}

/// Debezium's word for a large value that didn't change is not that value.
#[test]
fn a_value_that_was_not_sent_is_refused() {
    for (column, value) in [
        ("note", r#""__debezium_unavailable_value""#),
        ("doc", r#""__debezium_unavailable_value""#),
        ("blob", r#""X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==""#),
        ("other", r#"["__debezium_unavailable_value"]"#),
    ] {
        check(
            format!(
                r#"{{"before":null,"after":{{"id":1,"amount":1,"{column}":{value}}},"source":{{"table":"orders"}},"op":"u"}}"#
            ),
            &format!("refused: table orders: column {column} was not sent"),
        );
    }
    check(
        orders(r#"{"id":1,"amount":1,"note":"__debezium_unavailable_value"}"#),
        r#"insert orders 1 after {"amount":"1","id":1,"note":"__debezium_unavailable_value"}"#,
    );
}

#[test]
fn a_body_names_its_first_bad_line() {
    let decode = |body: &str| decode_ndjson(body.as_bytes(), &super::catalog(), &super::limits());
    let bad = decode("{\"table\":\"orders\",\"op\":\"truncate\"}\n\nx\ny").unwrap_err();
    assert_eq!((bad.line, bad.offset_bytes), (3, 36));
    assert_eq!(
        decode("\u{feff}{\"table\":\"orders\",\"op\":\"truncate\"}\r\n")
            .unwrap()
            .len(),
        1
    );
}

/// How long a row is shows only with the values of its new columns.
#[test]
fn a_row_too_long_by_a_new_column_adds_none() {
    let long = "x".repeat(2_048);
    for line in [
        format!(r#"{{"table":"plain","op":"upsert","after":{{"id":1,"new":"{long}"}}}}"#),
        format!(
            r#"{{"table":"events","op":"update","before":{{"id":1,"kind":"a","new":1}},"after":{{"id":1,"kind":"a","other":1,"new":"{long}"}}}}"#
        ),
        format!("csv id,amount,new\n1,2,{long}\n"),
    ] {
        let catalog = catalog();
        let mut decoder = Decoder::new(catalog.clone(), &limits());
        let version = catalog.version();
        let reason = decode(&mut decoder, line.as_bytes()).unwrap_err();
        assert!(reason.text.contains("limits.row_bytes_max"), "{reason}");
        assert_eq!(catalog.version(), version, "{reason}");
    }
}
