//! Configurations over the harness: what they make of events, and which are refused.

use super::*;
use rulemill_sdk::testing::Harness;

#[derive(Row, Clone)]
#[table(source = "events")]
struct EventRow {
    #[key]
    id: i64,
    event: String,
    action: Option<String>,
    value: Option<Json>,
}

fn event_row(id: i64, event: &str, action: &str, value: JsonValue) -> EventRow {
    EventRow {
        id,
        event: event.into(),
        action: Some(action.into()),
        value: Some(Json::from_text(value.to_string())),
    }
}

fn config() -> JsonValue {
    json!({
        "table": [{
            "name": "user_cards",
            "columns": [
                { "name": "id", "type": "i64" },
                { "name": "name", "type": "text" },
                { "name": "city", "type": "text", "null": true },
                { "name": "origin", "type": "text" },
            ],
            "key": ["id"],
        }],
        "rule": [
            {
                "event": "user_info_updated",
                "into": "user_cards",
                "value": { "id": "$.id", "name": "$.name", "city": "$.address.city", "origin": "web" },
            },
            {
                "event": "user_left",
                "action": "delete",
                "into": "user_cards",
                "value": { "id": "$.id" },
            },
        ],
    })
}

fn run(events: &[EventRow]) -> (Vec<String>, Vec<String>) {
    let mut harness = Harness::with_config(crate::plugin(), &config()).unwrap();
    for event in events {
        harness.push(rulemill_sdk::Change::insert(event.clone()));
    }
    harness.run();
    let rows = harness.values("user_cards");
    let rows = rows
        .iter()
        .map(|row| {
            let values: Vec<String> = row
                .iter()
                .map(|v| rulemill_sdk::dynamic::to_json(v).to_string())
                .collect();
            values.join(" ")
        })
        .collect();
    let faults = harness.faults().iter().map(|fault| fault.message.clone());
    (rows, faults.collect())
}

#[test]
fn events_make_change_and_remove_rows() {
    let updated = "user_info_updated";
    let (rows, faults) = run(&[
        event_row(1, updated, "insert", json!({ "id": 7, "name": "Ada" })),
        event_row(
            2,
            updated,
            "update",
            json!({ "id": 7, "address": { "city": "Bergen" } }),
        ),
        event_row(3, updated, "upsert", json!({ "id": 8, "name": "Grace" })),
        event_row(4, "something_else", "update", json!({})),
        event_row(5, updated, "update", json!({ "id": 7, "name": "Ada King" })),
        event_row(6, "user_left", "whatever", json!({ "id": 8 })),
    ]);
    assert_eq!(faults, [] as [&str; 0]);
    assert_eq!(rows, [r#"7 "Ada King" "Bergen" "web""#]);
}

#[test]
fn an_event_that_does_not_fit_is_answered() {
    let updated = "user_info_updated";
    let (rows, faults) = run(&[
        event_row(1, updated, "update", json!({ "id": 7, "name": "Ada" })),
        event_row(2, updated, "rename", json!({ "id": 7 })),
        event_row(3, updated, "insert", json!({ "name": "Ada" })),
        event_row(
            4,
            updated,
            "insert",
            json!({ "id": "seven", "name": "Ada" }),
        ),
        event_row(5, updated, "insert", json!({ "id": 7 })),
        event_row(6, updated, "insert", json!({ "id": 7, "name": "Ada" })),
        event_row(7, updated, "insert", json!({ "id": 7, "name": "Ada" })),
    ]);
    assert_eq!(rows.len(), 1);
    assert_eq!(
        faults,
        [
            "table user_cards has no row with key [I64(7)] to update",
            "event user_info_updated has action \"rename\": there are insert, update, upsert and delete",
            "event user_info_updated has no value for key column id",
            "column id of table user_cards: \"seven\" is no value of type i64",
            "column name of table user_cards is text, not null",
            "table user_cards has a row with key [I64(7)] already",
        ]
    );
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() {
    let refused = |pointer: &str, value: JsonValue| {
        let mut config = config();
        *config.pointer_mut(pointer).unwrap() = value;
        Harness::with_config(crate::plugin(), &config).unwrap_err()
    };
    for (pointer, value, expected) in [
        (
            "/rule/0/into",
            json!("user_card"),
            "rule 1 (user_info_updated): there is no table user_card; there are: user_cards",
        ),
        (
            "/rule/0/value",
            json!({ "id": "$.id", "citty": "$.city" }),
            "rule 1 (user_info_updated): table user_cards has no column citty; it has: id, name, city, origin",
        ),
        (
            "/rule/1/value",
            json!({ "name": "x" }),
            "rule 2 (user_left): value has nothing for id, a key column of table user_cards",
        ),
        (
            "/rule/0/value/origin",
            json!(5),
            "rule 1 (user_info_updated): column origin: 5 is no value of type text",
        ),
        (
            "/rule/0/value/name",
            json!("$name"),
            "rule 1 (user_info_updated): column name: \"$name\" is no path: write \"$.field\", \"$.field.field\" or \"$\"",
        ),
        (
            "/rule/1/action",
            json!("remove"),
            "unknown variant `remove`",
        ),
        (
            "/table/0/columns/0/type",
            json!("int"),
            "unknown variant `int`",
        ),
        ("/table/0/key", json!([]), "table user_cards has no key"),
    ] {
        let error = refused(pointer, value);
        assert!(error.contains(expected), "{pointer}: {error}");
    }
}
