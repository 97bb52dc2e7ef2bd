//! Every type as JSON and CSV, and keys as people write them. That rows come back through the decoder is tested there.

use rulemill_wire::{Date, Decimal, Json, Timestamp, Uuid};

use super::*;
use crate::{
    catalog::{Origin, TableId},
    row::ColumnId,
};

fn table(columns: &[(&str, ColumnType)], key: Vec<ColumnId>) -> Table {
    Table {
        id: TableId(0),
        name: "t".into(),
        generation: 0,
        origin: Origin::Source,
        columns: columns
            .iter()
            .map(|&(name, ty)| Column {
                name: name.into(),
                ty: Some(ty),
                nullable: true,
            })
            .collect(),
        key,
        indexes: Vec::new(),
        mirror: true,
        stage: crate::catalog::Stage::default(),
    }
}

/// A value in a row of one column, as JSON text and as a CSV field.
#[track_caller]
fn check(value: Value, json: &str, field: &str) {
    let ty = value.as_ref().column_type().unwrap_or(ColumnType::Text);
    let table = table(&[("a", ty)], vec![0]);
    let mut builder = RowBuilder::default();
    builder.set(0, value.as_ref());
    let mut row = Vec::new();
    builder.finish(&mut row);
    let object = row_to_json(&table, &row).unwrap();
    assert_eq!(object.to_string(), format!("{{\"a\":{json}}}"), "{value:?}");
    let text = row_to_json_text(&table, &row).unwrap();
    assert_eq!(text, object.to_string(), "{value:?}");
    assert_eq!(row_to_fields(&table, &row).unwrap(), [field], "{value:?}");
}

#[test]
fn values_of_every_type() {
    check(Value::Null, "null", "");
    check(Value::Bool(true), "true", "true");
    check(
        Value::I64(i64::MIN),
        "-9223372036854775808",
        "-9223372036854775808",
    );
    check(Value::F64(-1.5), "-1.5", "-1.5");
    check(Value::F64(f64::NAN), "\"NaN\"", "NaN");
    check(Value::F64(f64::INFINITY), "\"Infinity\"", "Infinity");
    check(Value::F64(f64::NEG_INFINITY), "\"-Infinity\"", "-Infinity");
    // No digit and no zero is lost.
    check(
        Value::Decimal(Decimal::new(-1_230, 2)),
        "\"-12.30\"",
        "-12.30",
    );
    let most = "\"79228162514264337593543950335\"";
    check(Value::Decimal(Decimal::MAX), most, most.trim_matches('"'));
    check(
        Value::Text("a \"b\"\n".into()),
        r#""a \"b\"\n""#,
        "a \"b\"\n",
    );
    check(Value::Bytes(vec![0, 255]), "\"AP8=\"", "AP8=");
    let day = Date::from_ymd(2024, 2, 29).unwrap();
    check(Value::Date(day), "\"2024-02-29\"", "2024-02-29");
    let at = Timestamp::from_micros(-1).unwrap();
    let text = "1969-12-31T23:59:59.999999Z";
    check(Value::Timestamp(at), &format!("\"{text}\""), text);
    let text = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let uuid: Uuid = text.parse().unwrap();
    check(Value::Uuid(uuid), &format!("\"{text}\""), text);
    check(
        Value::Json(Json::from_text("{\"a\": [1]}")),
        "{\"a\":[1]}",
        "{\"a\": [1]}",
    );
    // In CSV too a text is told from a number, and null from no document.
    for document in ["\"text\"", "\"1\"", "1", "\"\""] {
        check(Value::Json(Json::from_text(document)), document, document);
    }
    // What isn't JSON after all is shown as it is.
    check(Value::Json(Json::from_text("{")), "\"{\"", "{");
}

#[test]
fn a_row_older_than_a_column_has_null_there() {
    let table = table(&[("a", ColumnType::I64), ("b", ColumnType::Text)], vec![0]);
    let mut builder = RowBuilder::default();
    builder.set(0, ValueRef::I64(1));
    let mut row = Vec::new();
    builder.finish(&mut row);
    assert_eq!(
        row_to_json(&table, &row).unwrap().to_string(),
        r#"{"a":1,"b":null}"#
    );
    assert_eq!(row_to_fields(&table, &row).unwrap(), ["1", ""]);
    assert!(
        row_to_json(&table, &[99]).is_err(),
        "damaged bytes are told"
    );
}

#[test]
fn a_value_older_than_its_columns_type_is_shown_as_that_type() {
    let table = table(
        &[
            ("id", ColumnType::I64),
            ("driver", ColumnType::I64),
            ("fare", ColumnType::Decimal),
            ("note", ColumnType::Text),
            ("day", ColumnType::Date),
        ],
        vec![0],
    );
    let mut builder = RowBuilder::default();
    builder.set(0, ValueRef::I64(1));
    builder.set(1, ValueRef::Text("279"));
    builder.set(2, ValueRef::I64(7));
    builder.set(3, ValueRef::I64(5));
    builder.set(4, ValueRef::Text("some day"));
    let mut row = Vec::new();
    builder.finish(&mut row);
    assert_eq!(
        row_to_typed_json(&table, &row).unwrap(),
        serde_json::json!({"id": 1, "driver": 279, "fare": "7", "note": "5", "day": "some day"})
    );
    assert_eq!(
        row_to_typed_json_text(&table, &row).unwrap(),
        r#"{"day":"some day","driver":279,"fare":"7","id":1,"note":"5"}"#
    );
    // What rules are given doesn't depend on when a type was named.
    assert_eq!(
        row_to_json(&table, &row).unwrap(),
        serde_json::json!({"id": 1, "driver": "279", "fare": 7, "note": 5, "day": "some day"})
    );
}

#[test]
fn keys_come_back_as_they_were_written() {
    let one = table(&[("id", ColumnType::I64)], vec![0]);
    let name = table(&[("name", ColumnType::Text)], vec![0]);
    let two = table(
        &[("day", ColumnType::Date), ("name", ColumnType::Text)],
        vec![1, 0],
    );
    for (table, text, json) in [
        (&one, "-5", "-5"),
        (&two, "ann,2026-01-31", r#"["ann","2026-01-31"]"#),
        (&two, r#"["a,b","2026-01-31"]"#, r#"["a,b","2026-01-31"]"#),
        (&two, r#""a,b",2026-01-31"#, r#"["a,b","2026-01-31"]"#),
        (
            &two,
            r#""a ""b""",2026-01-31"#,
            r#"["a \"b\"","2026-01-31"]"#,
        ),
        (
            &two,
            r#"5" pipe,2026-01-31"#,
            r#"["5\" pipe","2026-01-31"]"#,
        ),
        (&name, "Oslo, \"Norway\"", r#""Oslo, \"Norway\"""#),
        (&name, r#"["a"]"#, r#""[\"a\"]""#),
        (&name, "", r#""""#),
    ] {
        let key = key_from_text(table, text).unwrap();
        assert_eq!(key_to_json(table, &key).unwrap().to_string(), json);
    }
    let whole = key_from_text(&two, "ann,2026-01-31").unwrap();
    assert!(whole.starts_with(&key_from_text(&two, r#"["ann"]"#).unwrap()));
    for (table, text, why) in [
        (&one, "x", "the key column id is \"x\", which is no i64"),
        (&one, "[1", "the key column id is \"[1\", which is no i64"),
        (&two, "[1", "the key [1 is no JSON array"),
        (
            &two,
            r#""a,2026-01-31"#,
            "the key \"a,2026-01-31 is no CSV record",
        ),
        (
            &two,
            r#""a"b,2026-01-31"#,
            "the key \"a\"b,2026-01-31 is no CSV record",
        ),
        (
            &two,
            "a,b,c",
            "the key a,b,c has 3 values, but the key of table t is (name, day)",
        ),
    ] {
        let error = key_from_text(table, text).unwrap_err();
        assert!(error.starts_with(why), "{error}");
    }
}

/// A plugin that takes the whole row is shown it in this form, so what is lost here is lost for good.
#[test]
fn a_document_loses_no_digit() {
    for (document, shown) in [
        ("[12345678901234567890123]", "[12345678901234567890123]"),
        ("[0.30000000000000004441]", "[0.30000000000000004441]"),
        ("[1.10, -0e0]", "[1.10,-0e0]"),
        // No common reader takes these, so they are a text, whole.
        ("[1e400]", r#""[1e400]""#),
        ("[1", r#""[1""#),
        // Keys as they stand; only white space between the parts goes, so that a row is one line.
        ("\n{ \"b\" :\t1,\r\n\"a\": [ ] }\n", r#"{"b":1,"a":[]}"#),
        (
            r#"{"a \" b\\" : " c \\\" d " , "e" : " "}"#,
            r#"{"a \" b\\":" c \\\" d ","e":" "}"#,
        ),
        (r#"" a text ""#, r#"" a text ""#),
        ("null", "null"),
    ] {
        let table = table(&[("d", ColumnType::Json), ("a", ColumnType::I64)], vec![1]);
        let mut builder = RowBuilder::default();
        builder.set(0, ValueRef::Json(document));
        builder.set(1, ValueRef::I64(7));
        let mut row = Vec::new();
        builder.finish(&mut row);
        let expected = format!("{{\"a\":7,\"d\":{shown}}}");
        assert_eq!(row_to_json_text(&table, &row).unwrap(), expected);
        assert_eq!(row_to_typed_json_text(&table, &row).unwrap(), expected);
    }
}
