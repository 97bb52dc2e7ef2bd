use proptest::prelude::*;
use rulemill_wire::ColumnType;

use super::*;
use crate::{
    catalog::{Column, Table},
    render,
};

fn columns(spec: &str) -> Vec<Column> {
    spec.split(' ')
        .map(|column| {
            let (name, ty) = column.split_once(':').unwrap();
            let (ty, nullable) = ty.strip_suffix('?').map_or((ty, false), |ty| (ty, true));
            Column {
                name: name.into(),
                ty: ColumnType::ALL.into_iter().find(|t| t.name() == ty),
                nullable,
            }
        })
        .collect()
}

fn table(id: u32, name: &str, spec: &str, key: &[u16]) -> Table {
    Table {
        id: TableId(id),
        name: name.into(),
        generation: 0,
        origin: Origin::Source,
        columns: columns(spec),
        key: key.to_vec(),
        indexes: Vec::new(),
        mirror: true,
    }
}

fn catalog() -> Arc<SharedCatalog> {
    let mut derived = table(3, "totals", "id:i64", &[0]);
    derived.origin = Origin::Derived {
        plugin: "shop".into(),
    };
    Arc::new(SharedCatalog::new(Catalog::from_tables(vec![
        table(0, "orders", "id:i64 amount:decimal note:text?", &[0]),
        table(
            1,
            "all",
            "k:text b:bool? f:f64? y:bytes? d:date? t:timestamp? u:uuid? j:json? n:i64? m:decimal?",
            &[0],
        ),
        table(2, "loose", "id:any?", &[0]),
        derived,
        table(4, "pairs", "a:text b:i64", &[0, 1]),
    ])))
}

fn limits() -> Limits {
    Limits {
        line_bytes_max: 4_000,
        row_bytes_max: 300,
        key_bytes_max: 50,
        table_columns_max: 12,
        ..Limits::default()
    }
}

fn show(catalog: &SharedCatalog, change: &RawChange) -> String {
    let catalog = catalog.load();
    let table = catalog.table(change.table);
    let row = |row: &Bytes| render::json(table, row).unwrap();
    let mut shown = format!("{:?} {}", change.op, table.name);
    if !change.key.is_empty() {
        shown += &format!(" {}", render::key_text(table, &change.key).unwrap());
    }
    if let Some(key) = &change.old_key {
        shown += &format!(" was {}", render::key_text(table, key).unwrap());
    }
    if let Some(before) = &change.before {
        shown += &format!(" - {}", row(before));
    }
    if let Some(after) = &change.after {
        shown += &format!(" + {}", row(after));
    }
    if let Some(time) = change.time {
        shown += &format!(" @ {time}");
    }
    shown
}

/// The line decodes to this, both with a fresh decoder and with one that has met the table, or is
/// refused with a reason that holds each of the parts between `|`.
#[track_caller]
fn check(format: Option<Format>, line: impl AsRef<[u8]>, expected: &str) {
    let catalog = catalog();
    let mut decoder = Decoder::new(catalog.clone(), &limits(), format);
    for _ in 0..2 {
        let result = decoder.line(line.as_ref());
        let chunk = decoder.take_chunk();
        match (expected.strip_prefix('!'), result) {
            (None, Ok(())) => {
                let shown: Vec<_> = chunk.iter().map(|change| show(&catalog, change)).collect();
                assert_eq!(shown.join("\n"), expected);
            }
            (None, Err(reason)) => panic!("refused: {reason}"),
            (Some(_), Ok(())) => panic!("taken: {:?}", show(&catalog, &chunk[0])),
            (Some(parts), Err(reason)) => {
                assert!(chunk.is_empty());
                let reason = format!("{reason:?}");
                for part in parts.split('|') {
                    assert!(reason.contains(part), "{part:?} is not in: {reason}");
                }
            }
        }
        // Lets the fast way guess the table and the form of the second round right.
        let _ = decoder.line(br#"{"table":"orders","op":"delete","before":{"id":1}}"#);
        let _ = decoder.line(br#"{"source":{"table":"orders"},"op":"d","before":{"id":1}}"#);
        drop(decoder.take_chunk());
    }
}

#[test]
fn rulemill_lines() {
    let check = |line: &str, expected: &str| check(None, line, expected);
    check(
        r#"{"table":"orders","op":"insert","after":{"id":1,"amount":12.50,"note":"x"},"ts":"1970-01-01T00:00:01Z"}"#,
        r#"Insert orders 1 + {"id":1,"amount":"12.50","note":"x"} @ 1000000"#,
    );
    check(
        " {\"op\":\"update\",\"table\":\"orders\",\"before\":{\"id\":1,\"amount\":\"0.1\"},\"after\":{\"amount\":1e2,\"id\":2,\"note\":\"\\u00e9\\n\"}}\r\n",
        r#"Update orders 2 was 1 - {"id":1,"amount":"0.1","note":null} + {"id":2,"amount":"100","note":"é\n"}"#,
    );
    check(
        r#"{"table":"orders","op":"upsert","before":{"id":1},"after":{"id":1,"amount":-7,"note":null}}"#,
        r#"Upsert orders 1 + {"id":1,"amount":"-7","note":null}"#,
    );
    check(
        r#"{"table":"orders","op":"delete","before":{"id":1}}"#,
        "Delete orders 1",
    );
    check(
        r#"{"table":"orders","op":"delete","after":{"id":1}}"#,
        "Delete orders 1",
    );
    check(
        r#"{"table":"orders","op":"delete","before":{"id":1,"amount":null,"note":null},"ts":null}"#,
        "Delete orders 1",
    );
    check(r#"{"table":"orders","op":"truncate"}"#, "Truncate orders");
    check(
        r#"{"table":"pairs","op":"upsert","after":{"a":"x","b":-1}}"#,
        r#"Upsert pairs ["x",-1] + {"a":"x","b":-1}"#,
    );
    check("  \r\n", "");
}

#[test]
fn values_of_every_type() {
    let row = |values: &str, expected: &str| {
        let line = format!(r#"{{"table":"all","op":"upsert","after":{{"k":"k",{values}}}}}"#);
        check(None, line, expected);
    };
    row(
        r#""b":false,"f":1e3,"y":"AP8=","d":"2024-02-29","t":"2026-01-31T13:00:00.25+01:00","u":"67e55044-10b1-426f-9247-bb680e5fe0c8","j":{"a":[1.10,"]"]},"n":9223372036854775807,"m":0.1000000000000000000000000001"#,
        r#"Upsert all k + {"k":"k","b":false,"f":1000.0,"y":"AP8=","d":"2024-02-29","t":"2026-01-31T12:00:00.250Z","u":"67e55044-10b1-426f-9247-bb680e5fe0c8","j":{"a":[1.10,"]"]},"n":9223372036854775807,"m":"0.1000000000000000000000000001"}"#,
    );
    row(
        r#""t":"2026-01-31T12:00:00.123456Z","n":12.0,"m":"+1.20E1","j":"x""#,
        r#"Upsert all k + {"k":"k","b":null,"f":null,"y":null,"d":null,"t":"2026-01-31T12:00:00.123456Z","u":null,"j":"x","n":12,"m":"12.0"}"#,
    );
    for (values, reason) in [
        (
            r#""n":9223372036854775808"#,
            "!column n of table all|out of range|Invalid",
        ),
        (r#""n":1.5"#, "!column n|expected an integer"),
        (r#""n":"1""#, "!column n|expected an integer"),
        (r#""m":1e40"#, "!column m|out of range"),
        (
            r#""m":0.10000000000000000000000000001"#,
            "!column m|out of range",
        ),
        (r#""m":"1_000""#, "!column m|decimal"),
        (r#""m":"lots""#, "!column m|decimal"),
        (
            r#""m":99999999999999999999999999999999"#,
            "!column m|out of range",
        ),
        (r#""f":1e999"#, "!column f|out of range"),
        (r#""b":"true""#, "!column b|true or false"),
        (r#""b":1"#, "!column b|true or false"),
        (r#""d":"2026-02-29""#, "!column d|YYYY-MM-DD"),
        (r#""d":20000"#, "!column d|YYYY-MM-DD"),
        (r#""t":"yesterday""#, "!column t|timestamp"),
        (r#""t":1"#, "!column t|timestamp"),
        (r#""u":"x""#, "!column u|UUID"),
        (r#""y":"*""#, "!column y|base64"),
        (r#""k":"again""#, "!column k|twice"),
        (r#""n":{}"#, "!column n|integer"),
        (r#""u":"\ud800""#, "!column u"),
    ] {
        row(values, reason);
    }
    let deep = format!(r#""j":{}1{}"#, "[".repeat(101), "]".repeat(101));
    row(&deep, "!column j|deeper than 100");
    row(
        &format!(r#""y":"{}""#, "A".repeat(600)),
        "!row of table all|limits.row_bytes_max is 300",
    );
}

#[test]
fn untyped_columns_keep_the_inputs_type() {
    let catalog = catalog();
    let mut decoder = Decoder::new(catalog.clone(), &limits(), None);
    let line = r#"{"table":"loose","op":"upsert","after":{"id":7,"a":1,"b":1.50,"c":1e300,"d":"x","e":[1, 2],"f":true,"g":null,"h":12345678901234567890}}"#;
    decoder.line(line.as_bytes()).unwrap();
    decoder.line(line.as_bytes()).unwrap();
    let chunk = decoder.take_chunk();
    let expected = r#"Upsert loose 7 + {"id":7,"a":1,"b":"1.50","c":1e+300,"d":"x","e":[1, 2],"f":true,"g":null,"h":"12345678901234567890"}"#;
    assert_eq!(show(&catalog, &chunk[0]), expected);
    assert_eq!(show(&catalog, &chunk[1]), expected);
    // The key's type is settled by the first value.
    assert_eq!(
        catalog.load().table(TableId(2)).columns[0].ty,
        Some(ColumnType::I64)
    );
    let text = br#"{"table":"loose","op":"upsert","after":{"id":"7"}}"#;
    assert!(
        decoder
            .line(text)
            .unwrap_err()
            .to_string()
            .contains("integer")
    );
    // The dictionary has an end.
    let wide = br#"{"table":"loose","op":"upsert","after":{"id":1,"c1":1,"c2":1,"c3":1,"c4":1}}"#;
    let reason = decoder.line(wide).unwrap_err().to_string();
    assert!(
        reason.contains("limits.table_columns_max is 12"),
        "{reason}"
    );
}

#[test]
fn lines_that_say_too_little_or_the_wrong_thing() {
    let check = |line: &str, expected: &str| check(None, line, expected);
    check(
        r#"{"table":"orders","op":"insert","#,
        "!Malformed|malformed JSON at byte",
    );
    check(r#"{"table":"orders"} x"#, "!Malformed|malformed JSON");
    check("[1]", "!Invalid|expected a change as a JSON object");
    check(
        r#"{"table":"nope","op":"delete","before":{"id":1}}"#,
        "!unknown table|nope|[[table]]",
    );
    check(
        r#"{"table":"totals","op":"delete","before":{"id":1}}"#,
        "!totals|derived by plugin shop",
    );
    check(r#"{"op":"delete","before":{"id":1}}"#, "!names no table");
    check(
        r#"{"table":5,"op":"delete","before":{"id":1}}"#,
        "!Invalid|text",
    );
    check(r#"{"table":"orders","before":{"id":1}}"#, "!no `op`");
    check(
        r#"{"table":"orders","op":"c","after":{"id":1,"amount":1}}"#,
        "!unknown op|insert",
    );
    check(
        r#"{"tabel":"orders","op":"delete","before":{"id":1}}"#,
        "!tabel|expected table",
    );
    check(
        r#"{"table":"orders","op":"delete","op":"delete"}"#,
        "!twice",
    );
    check(
        r#"{"table":"orders","op":"delete"}"#,
        "!orders|key in `before`",
    );
    check(
        r#"{"table":"orders","op":"update","before":{"id":1}}"#,
        "!orders|needs `after`",
    );
    check(
        r#"{"table":"orders","op":"truncate","after":{"id":1,"amount":1}}"#,
        "!truncate|no rows",
    );
    check(
        r#"{"table":"orders","op":"insert","before":{"id":1},"after":{"id":1,"amount":1}}"#,
        "!insert|no `before`",
    );
    check(
        r#"{"table":"orders","op":"delete","before":{"id":1},"after":{"id":2}}"#,
        "!another in `after`",
    );
    check(
        r#"{"table":"orders","op":"insert","after":{"amount":1}}"#,
        "!column id of table orders|key has no value",
    );
    check(
        r#"{"table":"orders","op":"insert","after":{"id":null,"amount":1}}"#,
        "!column id of table orders|key has no value",
    );
    check(
        r#"{"table":"orders","op":"insert","after":{"id":1}}"#,
        "!column amount of table orders|never null",
    );
    check(
        r#"{"table":"orders","op":"insert","after":{"id":1,"amount":null}}"#,
        "!column amount of table orders|never null",
    );
    check(
        r#"{"table":"orders","op":"insert","after":[1]}"#,
        "!row of table orders|object",
    );
    check(
        r#"{"table":"orders","op":"insert","after":"x"}"#,
        "!row of table orders|object",
    );
    check(
        r#"{"table":"orders","op":"delete","before":{"id":1},"ts":"now"}"#,
        "!ts is|2026-01-31T12:00:00Z",
    );
    check(
        r#"{"table":"orders","op":"delete","before":{"id":1},"ts":5}"#,
        "!ts is|2026-01-31T12:00:00Z",
    );
    let long = format!(
        r#"{{"table":"pairs","op":"upsert","after":{{"a":"{}","b":1}}}}"#,
        "x".repeat(60)
    );
    check(&long, "!key of table pairs|limits.key_bytes_max is 50");
    check(&" ".repeat(10), "");
    check(
        &format!("{{\"x\":\"{}\"}}", "y".repeat(5_000)),
        "!Malformed|limits.line_bytes_max is 4000",
    );
    check(&"[".repeat(3_000), "!expected a change");
    let nested = format!(
        r#"{{"table":"orders","op":"insert","after":{{"id":1,"amount":1,"note":{}1}}"#,
        "[".repeat(3_000)
    );
    check(&nested, "!Malformed");
}

#[test]
fn invalid_utf8_is_told_with_its_place() {
    check(
        None,
        b"{\"table\":\"\xff\"}",
        "!Malformed|invalid UTF-8 at byte 10",
    );
}

#[test]
fn debezium_lines() {
    let check = |line: &str, expected: &str| check(None, line, expected);
    check(
        r#"{"before":null,"after":{"id":1,"amount":"12.50","note":null},"source":{"version":"2","ts_ms":5,"db":"x","table":"orders"},"op":"c","ts_ms":9,"transaction":null}"#,
        r#"Insert orders 1 + {"id":1,"amount":"12.50","note":null} @ 5000"#,
    );
    check(
        r#"{"payload":{"before":{"id":1,"amount":1},"after":{"id":1,"amount":2},"source":{"table":"orders","ts_ms":0},"op":"u","ts_ms":9}}"#,
        r#"Update orders 1 - {"id":1,"amount":"1","note":null} + {"id":1,"amount":"2","note":null} @ 9000"#,
    );
    check(
        r#"{"before":{"id":1},"after":{"id":2,"amount":2},"source":{"table":"orders","ts_us":7,"ts_ms":5},"op":"u"}"#,
        r#"Update orders 2 was 1 + {"id":2,"amount":"2","note":null} @ 7"#,
    );
    check(
        r#"{"before":{"id":1,"amount":null},"after":null,"source":{"table":"orders"},"op":"d"}"#,
        "Delete orders 1",
    );
    check(
        r#"{"after":{"id":1,"amount":2},"source":{"table":"orders","snapshot":"true"},"op":"r"}"#,
        r#"Read orders 1 + {"id":1,"amount":"2","note":null}"#,
    );
    check(
        r#"{"source":{"table":"orders"},"op":"t"}"#,
        "Truncate orders",
    );
    check("null", "");
    check(r#"{"schema":null,"payload":null}"#, "");
    check(
        r#"{"after":{"k":"k","d":1,"t":1000001,"j":"{\"a\":1}"},"source":{"table":"all"},"op":"c"}"#,
        r#"Insert all k + {"k":"k","b":null,"f":null,"y":null,"d":"1970-01-02","t":"1970-01-01T00:00:01.000001Z","u":null,"j":{"a":1},"n":null,"m":null}"#,
    );
    check(
        r#"{"after":{"id":1,"amount":"AfQ="},"source":{"table":"orders"},"op":"c"}"#,
        "!column amount|decimal.handling.mode",
    );
    check(
        r#"{"after":{"id":1,"amount":1,"note":"__debezium_unavailable_value"},"source":{"table":"orders"},"op":"c"}"#,
        "!column note|REPLICA IDENTITY",
    );
    check(
        r#"{"source":{"table":"orders"},"op":"x"}"#,
        "!unknown op|c, u, d, r or t",
    );
    check(r#"{"source":{"db":"x"},"op":"t"}"#, "!source.table");
    check(
        r#"{"source":{"table":"orders","ts_ms":"x"},"op":"t"}"#,
        "!source.ts_ms",
    );
    check(r#"{"payload":{"payload":{}}}"#, "!payload inside");
}

#[test]
fn a_given_format_is_held_to() {
    let rulemill = r#"{"table":"orders","op":"truncate"}"#;
    check(Some(Format::Rulemill), rulemill, "Truncate orders");
    check(
        Some(Format::Rulemill),
        r#"{"source":{"table":"orders"},"op":"t"}"#,
        "!unknown op",
    );
    check(Some(Format::Rulemill), "null", "!null is no change");
    check(Some(Format::Debezium), rulemill, "!unknown op");
    check(
        Some(Format::Debezium),
        r#"{"op":"t","source":{"table":"orders"}}"#,
        "Truncate orders",
    );
}

#[test]
fn debeziums_schema_is_honoured() {
    let field = |name: &str, ty: &str, logical: &str| {
        format!(
            r#"{{"type":"{ty}","optional":true,"name":"{logical}","parameters":{{"scale":"2"}},"field":"{name}"}}"#
        )
    };
    let check = |fields: &[String], row: &str, expected: &str| {
        let line = format!(
            r#"{{"schema":{{"type":"struct","fields":[{{"type":"struct","fields":[{}],"field":"after"}},{{"type":"string","field":"op"}}]}},"payload":{{"op":"c","after":{row},"source":{{"table":"loose"}}}}}}"#,
            fields.join(",")
        );
        check(None, line, expected);
    };
    check(
        &[
            field("a", "bytes", "org.apache.kafka.connect.data.Decimal"),
            field("b", "int32", "io.debezium.time.Date"),
            field("c", "int64", "io.debezium.time.Timestamp"),
            field("d", "int64", "io.debezium.time.MicroTimestamp"),
            field("e", "int64", "io.debezium.time.NanoTimestamp"),
            field("f", "int64", "io.debezium.time.MicroTime"),
            field("g", "string", "io.debezium.time.ZonedTimestamp"),
            field("h", "struct", "io.debezium.data.VariableScaleDecimal"),
            field("i", "string", "io.debezium.data.Json"),
            field("j", "bytes", ""),
        ],
        r#"{"id":1,"a":"/gw=","b":1,"c":1500,"d":1,"e":1999,"f":3723000500,"g":"x","h":{"scale":1,"value":"DA=="},"i":"[1]","j":"AA=="}"#,
        r#"Insert loose 1 + {"id":1,"a":"-5.00","b":"1970-01-02","c":"1970-01-01T00:00:01.500Z","d":"1970-01-01T00:00:00.000001Z","e":"1970-01-01T00:00:00.000001Z","f":"01:02:03.0005","g":"x","h":"1.2","i":[1],"j":"AA=="}"#,
    );
    check(
        &[field("a", "bytes", "org.apache.kafka.connect.data.Decimal")],
        r#"{"id":1,"a":1.5}"#,
        "!column a of table loose",
    );
}

fn csv(text: &str) -> (Arc<SharedCatalog>, Vec<Result<String, String>>) {
    csv_of("all", text)
}

fn csv_of(table: &str, text: &str) -> (Arc<SharedCatalog>, Vec<Result<String, String>>) {
    let catalog = catalog();
    let mut decoder = Decoder::new(catalog.clone(), &limits(), None);
    let mut record = Record::default();
    let mut rest = text.as_bytes();
    let used = record.read(rest, true).unwrap();
    rest = &rest[used..];
    let header = match decoder.csv_header(table, &record) {
        Ok(header) => header,
        Err(reason) => return (catalog, vec![Err(reason.to_string())]),
    };
    let mut results = Vec::new();
    while !rest.is_empty() {
        let used = record.read(rest, true).unwrap();
        rest = &rest[used..];
        match decoder.csv_record(&header, &record) {
            Ok(()) => results.extend(decoder.take_chunk().iter().map(|c| Ok(show(&catalog, c)))),
            Err(reason) => results.push(Err(reason.to_string())),
        }
    }
    (catalog, results)
}

#[test]
fn csv_records() {
    let (_, rows) = csv(
        "k,n,b,m,extra\r\na,1,t,1.50,\r\n\"b,\n\"\"c\"\"\",,0,,\"\"\n\nc,x,,,\nd,1\ne,,maybe,,\nf,,,,last",
    );
    let row = |k: &str, b: &str, n: &str, m: &str, extra: &str| {
        Ok(format!(
            r#"Upsert all {} + {{"k":{k},"b":{b},"f":null,"y":null,"d":null,"t":null,"u":null,"j":null,"n":{n},"m":{m},"extra":{extra}}}"#,
            serde_json::from_str::<String>(k).unwrap()
        ))
    };
    assert_eq!(rows.len(), 6, "{rows:?}");
    assert_eq!(rows[0], row("\"a\"", "true", "1", "\"1.50\"", "null"));
    assert_eq!(
        rows[1],
        row(r#""b,\n\"c\"""#, "false", "null", "null", "\"\"")
    );
    assert!(
        rows[2]
            .as_ref()
            .unwrap_err()
            .contains("column n of table all")
    );
    assert!(
        rows[3]
            .as_ref()
            .unwrap_err()
            .contains("2 fields, and the header has 5")
    );
    assert!(
        rows[4]
            .as_ref()
            .unwrap_err()
            .contains("column b of table all")
    );
    assert_eq!(rows[5], row("\"f\"", "null", "null", "null", "\"last\""));
}

#[test]
fn csv_headers_that_are_refused() {
    for (table, text, part) in [
        ("all", "k,k\n", "column k twice"),
        ("all", "n\n", "lacks k"),
        ("all", "k,\n", "no name"),
        ("nope", "k\n", "unknown table"),
        ("totals", "id\n", "derived"),
    ] {
        let (_, rows) = csv_of(table, text);
        assert!(rows[0].as_ref().unwrap_err().contains(part), "{rows:?}");
    }
    let (catalog, rows) = csv_of("loose", "id,x\n007,1\n");
    assert_eq!(
        rows,
        [Ok(r#"Upsert loose 007 + {"id":"007","x":"1"}"#.into())]
    );
    assert_eq!(
        catalog.load().table(TableId(2)).columns[0].ty,
        Some(ColumnType::Text)
    );
}

#[test]
fn a_record_waits_for_its_end() {
    let mut record = Record::default();
    for half in ["a", "a,\"b", "a,\"b\n", "a,\"b\"", "a,b\r", "\n\n"] {
        assert_eq!(record.read(half.as_bytes(), false), None, "{half:?}");
    }
    assert_eq!(record.read(b"\r\na,\"b\nc\"\r\nd", false), Some(11));
    assert_eq!((record.len(), record.line_ends()), (2, 3));
    assert_eq!(record.read(b"a,", true), Some(2));
    assert_eq!(
        record.fields().collect::<Vec<_>>(),
        [(&b"a"[..], false), (b"", false)]
    );
    assert_eq!(record.read(b"\n", true), Some(0));
}

#[test]
fn a_body_is_taken_whole_or_not_at_all() {
    let mut decoder = Decoder::new(catalog(), &limits(), None);
    let good = "{\"table\":\"orders\",\"op\":\"truncate\"}\n";
    let body = good.repeat(3) + "\n" + good.trim_end();
    assert_eq!(
        decode_ndjson(&mut decoder, body.as_bytes(), 4)
            .unwrap()
            .len(),
        4
    );
    let error = decode_ndjson(&mut decoder, body.as_bytes(), 3).unwrap_err();
    assert_eq!((error.line, error.offset_bytes), (5, 106));
    let body = good.to_owned() + "{}\n" + good;
    let error = decode_ndjson(&mut decoder, body.as_bytes(), 9).unwrap_err();
    assert_eq!((error.line, error.offset_bytes), (2, 35));
    assert_eq!(decoder.chunk_changes(), 0);
}

#[test]
fn a_plugins_types_are_taken_up() {
    let catalog = catalog();
    let mut decoder = Decoder::new(catalog.clone(), &limits(), None);
    let line = br#"{"table":"orders","op":"upsert","after":{"id":1,"amount":1,"new":"2.5"}}"#;
    decoder.line(line).unwrap();
    assert!(show(&catalog, &decoder.take_chunk()[0]).ends_with(r#""new":"2.5"}"#));
    catalog
        .update(|all| {
            let mut table = Table::clone(all.table(TableId(0)));
            table.columns[3].ty = Some(ColumnType::Bool);
            all.put(table);
            Ok::<_, ()>(())
        })
        .unwrap();
    assert!(
        decoder
            .line(line)
            .unwrap_err()
            .to_string()
            .contains("column new")
    );
}

fn line() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>()
            .prop_filter("finite", |n| n.is_finite())
            .prop_map(|n| format!("{n:e}")),
        "[0-9]{1,30}\\.[0-9]{1,30}",
        any::<String>().prop_map(|s| serde_json::to_string(&s).unwrap()),
        Just("\"2026-01-31T00:00:00Z\"".to_owned()),
        Just("[{}]".to_owned()),
    ];
    let name = prop_oneof!["id|amount|note|k|b|f|y|d|t|u|j|n|m|a", ".{1,3}"];
    let row = proptest::collection::vec((name, value), 0..6).prop_map(|columns| {
        let columns: Vec<_> = columns
            .iter()
            .map(|(name, value)| format!("{}:{value}", serde_json::to_string(name).unwrap()))
            .collect();
        format!("{{{}}}", columns.join(","))
    });
    let rows = (proptest::option::of(row.clone()), proptest::option::of(row));
    let names = "orders|all|loose|totals|nope";
    (
        rows,
        names,
        "insert|update|upsert|delete|truncate|c|u|d|r|t",
        any::<bool>(),
    )
        .prop_map(|((before, after), table, op, debezium)| {
            let null = || "null".to_owned();
            let (before, after) = (before.unwrap_or_else(null), after.unwrap_or_else(null));
            let table = if debezium {
                format!(r#""source":{{"table":"{table}"}}"#)
            } else {
                format!(r#""table":"{table}""#)
            };
            format!(r#"{{"before":{before},"after":{after},{table},"op":"{op}"}}"#)
        })
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(bytes: Vec<u8>, whole: bool) {
        let mut decoder = Decoder::new(catalog(), &limits(), None);
        let _ = decoder.line(&bytes);
        let mut record = Record::default();
        let header = record.read(b"k,n\n", true).and_then(|_| decoder.csv_header("all", &record).ok()).unwrap();
        let mut rest = &bytes[..];
        while let Some(used) = record.read(rest, whole) {
            let _ = decoder.csv_record(&header, &record);
            if used == 0 {
                break;
            }
            rest = &rest[used..];
        }
    }

    /// The fast way gives what the slow way gives, or leaves the line to it.
    #[test]
    fn both_ways_agree(lines in proptest::collection::vec(line(), 1..8)) {
        let shared = catalog();
        let mut fast = Decoder::new(shared.clone(), &limits(), None);
        let mut slow = Decoder::new(shared.clone(), &limits(), None);
        for line in lines {
            let expected = slow.slow(&line).map(|()| slow.take_chunk().iter().map(|c| show(&shared, c)).collect::<Vec<_>>());
            let found = fast.line(line.as_bytes()).map(|()| fast.take_chunk().iter().map(|c| show(&shared, c)).collect::<Vec<_>>());
            prop_assert_eq!(expected, found, "{}", line);
        }
    }
}
