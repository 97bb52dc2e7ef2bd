//! What is taken from input, and what is refused with which words.

mod bad;
mod properties;

use std::sync::Arc;

use super::*;
use crate::{
    catalog::{Column, Origin, Table},
    render,
};

/// `orders`, mirrored and with every type; `plain`, mirrored, of which only the key is known; `events`, for which
/// no rows are kept; `totals`, which belongs to a plugin; `keyless`, of which nothing is known.
pub(super) fn catalog() -> Arc<SharedCatalog> {
    use ColumnType::*;
    let column = |name: &str, ty, nullable| Column {
        name: name.into(),
        ty: Some(ty),
        nullable,
    };
    let table = |id, name: &str, columns, origin, mirror| Table {
        id: TableId(id),
        name: name.into(),
        generation: 0,
        origin,
        columns,
        key: vec![0],
        indexes: Vec::new(),
        mirror,
        stage: crate::catalog::Stage::default(),
    };
    let orders = vec![
        column("id", I64, false),
        column("amount", Decimal, false),
        column("note", Text, true),
        column("paid", Bool, true),
        column("weight", F64, true),
        column("day", Date, true),
        column("at", Timestamp, true),
        column("token", Uuid, true),
        column("blob", Bytes, true),
        column("doc", Json, true),
    ];
    let events = vec![
        column("id", I64, false),
        column("kind", Text, false),
        column("size", I64, true),
    ];
    let mut plain = vec![column("id", I64, false)];
    plain[0].ty = None;
    let mut keyless = table(4, "keyless", Vec::new(), Origin::Source, true);
    keyless.key.clear();
    Arc::new(SharedCatalog::new(Catalog::from_tables(vec![
        table(0, "orders", orders, Origin::Source, true),
        table(1, "plain", plain, Origin::Source, true),
        table(2, "events", events, Origin::Source, false),
        table(
            3,
            "totals",
            vec![column("id", I64, false)],
            Origin::Derived {
                plugin: "shop".into(),
            },
            true,
        ),
        keyless,
    ])))
}

pub(super) fn limits() -> Limits {
    Limits {
        line_bytes_max: 4_096,
        row_bytes_max: 2_048,
        key_bytes_max: 64,
        table_columns_max: 12,
        ..Limits::default()
    }
}

/// A change in short: `insert orders after {..}`, columns that are null left out.
pub(super) fn shown(catalog: &SharedCatalog, change: &RawChange) -> String {
    let catalog = catalog.load();
    let table = catalog.table(change.table);
    let row = |row: &Bytes| {
        let mut json = render::row_to_json(table, row).unwrap();
        let columns = json.as_object_mut().unwrap();
        columns.retain(|_, value| !value.is_null());
        // The order of input, not of the alphabet, doesn't matter here.
        serde_json::to_string(&json).unwrap()
    };
    let mut text = format!("{:?} {}", change.op, table.name).to_lowercase();
    if change.op != RawOp::Truncate {
        text += &format!(" {}", render::key_to_json(table, &change.key).unwrap());
    }
    if let Some(key) = &change.old_key {
        text += &format!(" was {}", render::key_to_json(table, key).unwrap());
    }
    if let Some(before) = &change.before {
        text += &format!(" before {}", row(before));
    }
    if let Some(after) = &change.after {
        text += &format!(" after {}", row(after));
    }
    if let Some(time) = change.time {
        text += &format!(
            " at {}",
            rulemill_wire::Timestamp::from_micros(time).unwrap()
        );
    }
    text
}

/// Decodes a line, or, where it begins with `csv`, a header and a record of `orders`.
pub(super) fn decode(decoder: &mut Decoder, input: &[u8]) -> Result<(), Reason> {
    let Some(csv) = input.strip_prefix(b"csv ") else {
        return decoder.json_line(input, None);
    };
    let mut splitter = Splitter::default();
    let Split::Record { len, .. } = splitter.split(csv, false) else {
        panic!("the header ends");
    };
    let header = Header::parse(&csv[..len], &splitter)?;
    decoder.csv_fits("orders", &header)?;
    // `plain` says of its key only the name.
    let untyped = decoder.csv_fits("plain", &header).unwrap_err();
    assert!(
        untyped.text.contains("key column id has no type"),
        "{untyped}"
    );
    match splitter.split(&csv[len..], true) {
        Split::Record { len: record, .. } => {
            assert_eq!(len + record, csv.len(), "one record");
            decoder.csv_record("orders", &header, &csv[len..], &splitter)
        }
        Split::Bad { reason, .. } => Err(reason),
        Split::Incomplete => panic!("the end of input ends the record"),
    }
}

/// Holds an input against the change or the refusal it must give; of a refusal a part will do.
#[track_caller]
pub(super) fn check(input: impl AsRef<[u8]>, expected: &str) {
    let input = input.as_ref();
    let what = String::from_utf8_lossy(&input[..input.len().min(300)]).into_owned();
    let catalog = catalog();
    let mut decoder = Decoder::new(catalog.clone(), &limits());
    // Whatever the line before was, and whether the decoder has seen the table, makes no difference.
    for before in [
        "",
        r#"{"table":"events","op":"insert","after":{"id":1,"kind":"a"}}"#,
        r#"{"before":null,"after":{"amount":1,"id":1},"source":{"table":"orders"},"op":"c"}"#,
    ] {
        decoder.json_line(before.as_bytes(), None).unwrap();
        decoder.take();
        let version = catalog.version();
        let result = decode(&mut decoder, input);
        let changes = decoder.take();
        let found = match result {
            Ok(()) => changes
                .iter()
                .map(|change| shown(&catalog, change))
                .collect::<Vec<_>>()
                .join("; "),
            Err(reason) => {
                assert!(changes.is_empty(), "{what}: a refused line left a change");
                assert_eq!(version, catalog.version(), "{what}: it left columns");
                assert!(
                    expected.starts_with("refused: "),
                    "{what}\n  found refused: {reason}\n  not   {expected}"
                );
                format!("refused: {reason}")
            }
        };
        let fits = match expected.strip_prefix("refused: ") {
            Some(part) => found.starts_with("refused: ") && found.contains(part),
            None => found == expected,
        };
        assert!(fits, "{what}\n  found {found}\n  not   {expected}");
    }
}

#[test]
fn the_rulemill_form() {
    check("", "");
    check("  \r", "");
    check("null", "");
    check(
        r#"{"table":"orders","op":"insert","after":{"id":1,"amount":"2.50"},"ts":"2026-01-31T12:00:00Z"}"#,
        r#"insert orders 1 after {"amount":"2.50","id":1} at 2026-01-31T12:00:00Z"#,
    );
    // Some JSON writers sort their keys.
    check(
        r#"{"after":{"amount":2,"id":1},"op":"upsert","table":"orders"}"#,
        r#"upsert orders 1 after {"amount":"2","id":1}"#,
    );
    check(
        r#"{"table":"orders","op":"update","before":{"id":1,"amount":1},"after":{"id":2,"amount":1}}"#,
        r#"update orders 2 was 1 after {"amount":"1","id":2}"#,
    );
    check(
        r#"{"table":"orders","op":"update","before":null,"after":{"id":2,"amount":1},"ts":null}"#,
        r#"update orders 2 after {"amount":"1","id":2}"#,
    );
    check(
        r#"{"table":"orders","op":"delete","before":{"id":3}}"#,
        "delete orders 3",
    );
    check(
        r#"{"table":"orders","op":"delete","after":{"id":3}}"#,
        "delete orders 3",
    );
    check(r#"{"table":"orders","op":"truncate"}"#, "truncate orders");
    check(
        "{\"\\u0074able\" : \"orders\" ,\t\"op\":\"delete\",\"before\":{ \"i\\u0064\" : 3 } }",
        "delete orders 3",
    );
}

#[test]
fn the_time_of_a_change() {
    let at = |ts: &str, time: &str| {
        check(
            format!(r#"{{"table":"orders","op":"truncate","ts":"{ts}"}}"#),
            &format!("truncate orders at {time}"),
        );
    };
    at("2026-01-31T12:00:00+01:00", "2026-01-31T11:00:00Z");
    at("2026-01-31 12:00:00+01", "2026-01-31T11:00:00Z");
    // Without an offset it is UTC; digits behind the microseconds are cut, as clocks give them.
    at("2026-01-31T12:00:00", "2026-01-31T12:00:00Z");
    at(
        "2026-01-31T12:00:00.123456789Z",
        "2026-01-31T12:00:00.123456Z",
    );
}

#[test]
fn the_debezium_form() {
    check(
        r#"{"before":null,"after":{"id":1,"amount":"2.50","note":"a\u00e4"},"source":{"version":"3","ts_ms":1767225600000,"schema":"public","table":"orders"},"op":"c","ts_ms":1767225600999,"transaction":null}"#,
        r#"insert orders 1 after {"amount":"2.50","id":1,"note":"aä"} at 2026-01-01T00:00:00Z"#,
    );
    check(
        r#"{"before":{"id":1,"amount":"2.50"},"after":null,"source":{"table":"orders"},"op":"d","ts_ms":1767225600999}"#,
        "delete orders 1 at 2026-01-01T00:00:00.999Z",
    );
    check(
        r#"{"payload":{"before":null,"after":{"id":1,"amount":1},"source":{"table":"orders"},"op":"r"}}"#,
        r#"read orders 1 after {"amount":"1","id":1}"#,
    );
    check(r#"{"schema":null,"payload":null}"#, "");
    check(
        r#"{"op":"m","source":{"table":"orders"},"message":{"a":1}}"#,
        "",
    );
    check(
        r#"{"op":"t","source":{"table":"orders"}}"#,
        "truncate orders",
    );
    // A column's name or value that looks like the table's name misleads nobody.
    check(
        r#"{"before":null,"after":{"id":1,"amount":1,"note":"\"table\":\"events\""},"source":{"table":"orders"},"op":"c"}"#,
        r#"insert orders 1 after {"amount":"1","id":1,"note":"\"table\":\"events\""}"#,
    );
    check(
        r#"{"before":null,"after":{"table":"events","id":1,"kind":"x"},"source":{"table":"plain"},"op":"c"}"#,
        r#"insert plain 1 after {"id":1,"kind":"x","table":"events"}"#,
    );
}

#[test]
fn a_schema_says_how_values_are_meant() {
    let line = |fields: &str, row: &str| {
        format!(
            r#"{{"schema":{{"type":"struct","fields":[{{"field":"before"}},{{"field":"after","fields":[{fields}]}}]}},"payload":{{"before":null,"after":{row},"source":{{"table":"orders"}},"op":"c"}}}}"#
        )
    };
    let decimal = r#"{"field":"amount","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2"}}"#;
    check(
        line(decimal, r#"{"id":1,"amount":"BNI="}"#),
        r#"insert orders 1 after {"amount":"12.34","id":1}"#,
    );
    check(
        line(decimal, r#"{"id":1,"amount":"\/\/8="}"#),
        r#"insert orders 1 after {"amount":"-0.01","id":1}"#,
    );
    let scaled = r#"{"field":"amount","name":"io.debezium.data.VariableScaleDecimal"}"#;
    check(
        line(scaled, r#"{"id":1,"amount":{"scale":1,"value":"BNI="}}"#),
        r#"insert orders 1 after {"amount":"123.4","id":1}"#,
    );
    for (name, value) in [
        ("io.debezium.time.Timestamp", "1767225600000"),
        ("io.debezium.time.MicroTimestamp", "1767225600000000"),
        ("io.debezium.time.NanoTimestamp", "1767225600000000000"),
    ] {
        check(
            line(
                &format!(r#"{{"field":"at","name":"{name}"}}"#),
                &format!(r#"{{"id":1,"amount":1,"at":{value}}}"#),
            ),
            r#"insert orders 1 after {"amount":"1","at":"2026-01-01T00:00:00Z","id":1}"#,
        );
    }
    check(
        line(
            r#"{"field":"at","name":"io.debezium.time.NanoTimestamp"}"#,
            r#"{"id":1,"amount":1,"at":1767225600000000001}"#,
        ),
        "refused: column at is 1767225600000000001, which is no timestamp in whole microseconds",
    );
    check(
        line(
            r#"{"field":"day","name":"io.debezium.time.Date"}"#,
            r#"{"id":1,"amount":1,"day":20454}"#,
        ),
        r#"insert orders 1 after {"amount":"1","day":"2026-01-01","id":1}"#,
    );
    // A column that nobody reads is kept as it came, even if its meaning can't be held.
    check(
        line(
            r#"{"field":"huge","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"0"}}"#,
            r#"{"id":1,"amount":1,"huge":"AQAAAAAAAAAAAAAAAAAAAAAAAA=="}"#,
        ),
        r#"insert orders 1 after {"amount":"1","huge":"AQAAAAAAAAAAAAAAAAAAAAAAAA==","id":1}"#,
    );
}

/// JSON's keys have no order: a schema counts wherever it stands, and one that is none of the change's doesn't.
#[test]
fn a_schema_may_stand_behind_the_rows() {
    let schema = r#"{"fields":[{"field":"after","fields":[{"field":"at","name":"io.debezium.time.Timestamp"}]}]}"#;
    let rows = r#""before":null,"after":{"id":1,"amount":1,"at":1767225600000},"source":{"table":"orders"},"op":"u""#;
    let millis = r#"update orders 1 after {"amount":"1","at":"2026-01-01T00:00:00Z","id":1}"#;
    check(
        format!(r#"{{"payload":{{{rows}}},"schema":{schema}}}"#),
        millis,
    );
    check(format!(r#"{{{rows},"schema":{schema}}}"#), millis);
    let before = rows.replace("null", r#"{"id":1,"at":1}"#);
    let between = before.replace(r#","after""#, &format!(r#","schema":{schema},"after""#));
    check(format!("{{{between}}}"), millis);
    let micros = r#"update orders 1 after {"amount":"1","at":"1970-01-21T10:53:45.600Z","id":1}"#;
    check(
        format!(r#"{{"payload":{{"schema":{schema},{rows}}}}}"#),
        micros,
    );
}

/// Under replica identity DEFAULT a database sends the key alone; connectors fill in nulls.
#[test]
fn a_before_with_only_its_key_is_no_row() {
    for before in [
        r#"{"id":1}"#,
        r#"{"id":1,"kind":null,"size":null}"#,
        r#"{"size":null,"id":1}"#,
    ] {
        for (op, after) in [("d", "null"), ("u", r#"{"id":1,"kind":"b"}"#)] {
            check(
                format!(
                    r#"{{"before":{before},"after":{after},"source":{{"table":"events"}},"op":"{op}"}}"#
                ),
                "refused: table events: the change has no whole \"before\"",
            );
        }
        check(
            format!(
                r#"{{"table":"orders","op":"delete","before":{}}}"#,
                before.replace("kind", "note")
            ),
            "delete orders 1",
        );
    }
    check(
        r#"{"before":{"id":1,"kind":"a","size":null},"after":null,"source":{"table":"events"},"op":"d"}"#,
        r#"delete events 1 before {"id":1,"kind":"a"}"#,
    );
    // Some of the row, but not all that must be there.
    check(
        r#"{"before":{"id":1,"size":4},"after":null,"source":{"table":"events"},"op":"d"}"#,
        "refused: table events: column kind is missing and can't be null",
    );
}

#[test]
fn values_of_every_type() {
    let long = "x".repeat(900);
    let good = |column: &str, json: &str, stored: &str| {
        let after = match stored {
            "" => String::new(),
            _ => format!(r#""{column}":{stored},"#),
        };
        let mut expected: serde_json::Value =
            serde_json::from_str(&format!(r#"{{{after}"id":1,"amount":"1"}}"#)).unwrap();
        if column == "amount" {
            expected["amount"] = serde_json::from_str(stored).unwrap();
        }
        let first = if column == "amount" {
            ""
        } else {
            r#""amount":1,"#
        };
        check(
            format!(
                r#"{{"table":"orders","op":"insert","after":{{{first}"id":1,"{column}":{json}}}}}"#
            ),
            &format!("insert orders 1 after {expected}"),
        );
    };
    good("amount", "12.340", r#""12.340""#);
    good("amount", r#""-0.5""#, r#""-0.5""#);
    good("amount", "1e3", r#""1000""#);
    good("amount", "15E-1", r#""1.5""#);
    good("amount", "0e99999999999", r#""0""#);
    good(
        "amount",
        r#""1.00000000000000000000000000000000000""#,
        r#""1""#,
    );
    good(
        "amount",
        r#""0.0000000000000000000000000001""#,
        r#""0.0000000000000000000000000001""#,
    );
    good(
        "amount",
        r#""9999999999999999999999999999""#,
        r#""9999999999999999999999999999""#,
    );
    good(
        "amount",
        r#""79228162514264337593543950335""#,
        r#""79228162514264337593543950335""#,
    );
    good("note", r#""""#, r#""""#);
    good(
        "note",
        r#""a\"\\\u0000\ud83d\ude00\/""#,
        r#""a\"\\\u0000😀/""#,
    );
    good("note", &format!("\"{long}\""), &format!("\"{long}\""));
    good("note", "null", "");
    good("paid", "true", "true");
    good("weight", "-1.5e-3", "-0.0015");
    good("weight", r#""NaN""#, r#""NaN""#);
    good("weight", r#""-Infinity""#, r#""-Infinity""#);
    good("day", r#""2024-02-29""#, r#""2024-02-29""#);
    good("day", r#""+12345-01-01""#, r#""+12345-01-01""#);
    good(
        "at",
        r#""2026-01-31t12:00:00.5z""#,
        r#""2026-01-31T12:00:00.500Z""#,
    );
    good(
        "at",
        r#""2026-01-31 12:00:00.123456000-05:30""#,
        r#""2026-01-31T17:30:00.123456Z""#,
    );
    good(
        "at",
        r#""1969-12-31T23:59:59.999999Z""#,
        r#""1969-12-31T23:59:59.999999Z""#,
    );
    good(
        "token",
        r#""67E55044-10b1-426f-9247-bb680e5fe0c8""#,
        r#""67e55044-10b1-426f-9247-bb680e5fe0c8""#,
    );
    good("blob", r#""AP8=""#, r#""AP8=""#);
    good("doc", r#"{"a":[1,{"b":null}]}"#, r#"{"a":[1,{"b":null}]}"#);
    good("doc", r#""text""#, r#""text""#);
    // Columns that nothing has named keep the type of their values.
    good("other", "9223372036854775807", "9223372036854775807");
    good("other", "9223372036854775808", r#""9223372036854775808""#);
    good("other", "0.1", r#""0.1""#);
    good("other", "1e300", "1e300");
    good("other", "[1]", "[1]");
    // Debezium's numbers for times, and its documents as text.
    check(
        r#"{"op":"c","after":{"id":1,"amount":1,"day":1,"at":1,"doc":"{\"a\":1}"},"source":{"table":"orders"}}"#,
        r#"insert orders 1 after {"amount":"1","at":"1970-01-01T00:00:00.000001Z","day":"1970-01-02","doc":{"a":1},"id":1}"#,
    );
}

#[test]
fn csv_records() {
    let good = |csv: &str, expected: &str| check(format!("csv {csv}"), expected);
    good(
        "id,amount\n1,2.50",
        r#"upsert orders 1 after {"amount":"2.50","id":1}"#,
    );
    good(
        "id,amount\r\n1, 2.50 \r\n",
        r#"upsert orders 1 after {"amount":"2.50","id":1}"#,
    );
    good(
        "amount,note,id\n1,,7\n",
        r#"upsert orders 7 after {"amount":"1","id":7}"#,
    );
    good(
        "id,amount,note\n1,1,\"a \"\"b\"\",\r\nc\"\n",
        r#"upsert orders 1 after {"amount":"1","id":1,"note":"a \"b\",\r\nc"}"#,
    );
    // A quote inside a field that doesn't begin with one is a character.
    good(
        "id,amount,note\n1,1,12\" pipe\n",
        r#"upsert orders 1 after {"amount":"1","id":1,"note":"12\" pipe"}"#,
    );
    good(
        "id,amount,paid,doc,colour\n1,1,t,\"{\"\"a\"\":1}\",red\n",
        r#"upsert orders 1 after {"amount":"1","colour":"red","doc":{"a":1},"id":1,"paid":true}"#,
    );
    good("id,amount\n\r\n", "");
    good(
        "id,amount\n1\n",
        "refused: table orders: the record has 1 fields, the header 2",
    );
    good(
        "id,amount\n,1\n",
        "refused: table orders: column id is empty, and can't be null",
    );
    good(
        "id,amount\n1,x\n",
        "refused: table orders: column amount is \"x\", which is no decimal",
    );
    good(
        "id,amount\n1,\"1\"2\n",
        "refused: field 2 has text behind its closing quote",
    );
    good(
        "id,amount\n1,\"1\n",
        "refused: field 2 opens a quote that nothing closes",
    );
    good("id,id\n1,1\n", "refused: the header has column id twice");
    good("id,\n1,1\n", "refused: the header has no name for column 2");
    good(
        "amount\n1\n",
        "refused: table orders: the header has no column id, which is of the key",
    );
    good(
        "id\n1\n",
        "refused: table orders: the header has no column amount, which can't be null",
    );
    check(
        b"csv id,amount,note\n1,1,\xff\n",
        "refused: not UTF-8 at byte 4 of the record",
    );
    check(
        format!("csv id,amount,note\n1,1,{}\n", "x".repeat(4_096)),
        "refused: more than limits.line_bytes_max = 4096",
    );
}
