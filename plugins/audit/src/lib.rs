//! Who changed what, with old and new values.
//!
//! The configuration names the tables to watch:
//!
//! ```toml
//! [plugin.audit]
//! backfill = "log"                                # what happened can't be told from the rows that are there
//!
//! [plugin.audit.config]
//! table = "audit_log"                            # where to; this is the default
//!
//! [[plugin.audit.config.watch]]
//! table = "products"
//! key = [{ name = "id", type = "i64" }]
//! who = "updated_by"                             # the column that says who; may be left out
//! ignore = ["updated_at"]                        # columns that are no change by themselves
//! ```
//!
//! Every change becomes one row, with a JSON object of the columns that differ:
//! `{"price": {"old": "9.90", "new": "8.50"}}`. The rows of one watched row are numbered from 1, so its
//! history is one range of keys. `who` is what the row says after the change; of a delete nobody
//! tells, so it is null.

use rulemill_sdk::{
    dynamic::{
        self, ColumnType, Context, Plugin, Range, Record, Table, TableHandle, Value, to_json,
    },
    prelude::*,
};
use serde::Deserialize;
use serde_json::{Map, Value as JsonValue};

/// The plugin's configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    #[serde(default = "default_table")]
    table: String,
    watch: Vec<Watch>,
}

fn default_table() -> String {
    "audit_log".into()
}

/// A table that is watched.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Watch {
    table: String,
    key: Vec<KeyColumn>,
    who: Option<String>,
    #[serde(default)]
    ignore: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyColumn {
    name: String,
    #[serde(rename = "type")]
    ty: ColumnType,
}

/// Makes a rule for each watched table.
///
/// # Errors
/// With what is wrong in the configuration.
pub fn build(settings: Settings) -> Result<Plugin, String> {
    if settings.watch.is_empty() {
        return Err("watch names no table: nothing would be audited".into());
    }
    let mut plugin = Plugin::new();
    let log = plugin.table(
        Table::derived(&settings.table)
            .column("table", ColumnType::Text)
            .column("key", ColumnType::Text)
            .column("version", ColumnType::I64)
            .column("op", ColumnType::Text)
            .column("at", ColumnType::Timestamp)
            .nullable("who", ColumnType::Text)
            .column("changed", ColumnType::Json)
            .key(["table", "key", "version"])
            .index(["who", "at"])
            .index(["at"]),
    )?;
    for watch in settings.watch {
        let mut table = Table::source(&watch.table).whole_row();
        for column in &watch.key {
            table = table.column(&column.name, column.ty);
        }
        let names: Vec<&str> = watch.key.iter().map(|column| &*column.name).collect();
        let table = plugin.table(table.key(names))?;
        let log = log.clone();
        let rule = format!("audit_{}", watch.table);
        plugin
            .rule(rule)
            .on(&table)
            .writes(&log)
            .runs(move |change, context| audit(&watch, &log, change, context))?;
    }
    Ok(plugin)
}

rulemill_sdk::dynamic_plugin!(build);

fn audit(
    watch: &Watch,
    log: &TableHandle,
    change: &dynamic::Change,
    context: &mut Context<'_>,
) -> Outcome {
    let old = change.before.as_ref().map(columns).transpose()?;
    let new = change.after.as_ref().map(columns).transpose()?;
    let changed = differences(old.as_ref(), new.as_ref(), &watch.ignore);
    if changed.is_empty() {
        return Ok(());
    }
    let who = watch
        .who
        .as_ref()
        .and_then(|column| match new.as_ref()?.get(column)? {
            JsonValue::Null => None,
            JsonValue::String(name) => Some(name.clone()),
            other => Some(other.to_string()),
        });
    let table = Value::Text(watch.table.clone());
    let key = Value::Text(key_text(change.row()));
    let history = Range::prefix([table.clone(), key.clone()])
        .descending()
        .limit(1);
    let last = match context.scan(log, &history)?.first() {
        Some(row) => row.i64("version")?,
        None => 0,
    };
    let mut row = log.record();
    row.set("table", table)?;
    row.set("key", key)?;
    row.set("version", Value::I64(last + 1))?;
    row.set("op", Value::Text(operation(change.kind).into()))?;
    row.set("at", Value::Timestamp(context.now()))?;
    row.set("who", who.map_or(Value::Null, Value::Text))?;
    let changed = Json::from_text(JsonValue::Object(changed).to_string());
    row.set("changed", Value::Json(changed))?;
    context.insert(log, row)
}

/// All columns of the watched row, those that nobody declared included.
fn columns(row: &Record) -> Result<Map<String, JsonValue>, RuleError> {
    match row.get("*") {
        Some(Value::Json(row)) => Ok(serde_json::from_str(row.as_str())?),
        _ => reject!("the host sent no whole row"),
    }
}

/// Each column that differs, with its old and its new value; null where there was or is none.
fn differences(
    old: Option<&Map<String, JsonValue>>,
    new: Option<&Map<String, JsonValue>>,
    ignore: &[String],
) -> Map<String, JsonValue> {
    let names = old.into_iter().chain(new).flat_map(Map::keys);
    let value = |row: Option<&Map<String, JsonValue>>, name: &str| {
        row.and_then(|row| row.get(name))
            .cloned()
            .unwrap_or_default()
    };
    names
        .filter(|name| !ignore.contains(name))
        .map(|name| (name, value(old, name), value(new, name)))
        .filter(|(_, old, new)| old != new)
        .map(|(name, old, new)| (name.clone(), json!({ "old": old, "new": new })))
        .collect()
}

/// A key of one column as its value, `7`; of several as a list, `[7,"blue"]`.
fn key_text(row: &Record) -> String {
    let values: Vec<JsonValue> = row.key().iter().map(to_json).collect();
    match &*values {
        [JsonValue::String(text)] => text.clone(),
        [value] => value.to_string(),
        _ => JsonValue::Array(values).to_string(),
    }
}

fn operation(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Insert => "insert",
        ChangeKind::Update => "update",
        ChangeKind::Delete => "delete",
        // It was there before the audit was.
        ChangeKind::Read => "read",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rulemill_sdk::testing::Harness;

    #[derive(Row)]
    #[table(source = "products")]
    struct Product {
        #[key]
        id: i64,
        #[whole_row]
        row: Json,
    }

    fn product(price: &str, by: JsonValue, seen: i64) -> Product {
        let row = json!({ "id": 7, "price": price, "updated_by": by, "seen": seen });
        Product {
            id: 7,
            row: Json::from_text(row.to_string()),
        }
    }

    fn harness() -> Harness {
        let key = json!([{ "name": "id", "type": "i64" }]);
        let watch = json!({ "table": "products", "key": key, "who": "updated_by", "ignore": ["seen", "updated_by"] });
        Harness::with_config(plugin(), &json!({ "watch": [watch] })).unwrap()
    }

    /// Version, op, who and what of each row of the log.
    fn log(harness: &Harness) -> Vec<String> {
        let rows = harness.values("audit_log");
        rows.iter()
            .map(|row| {
                [2, 3, 5, 6]
                    .map(|place| to_json(&row[place]).to_string())
                    .join(" ")
            })
            .collect()
    }

    #[test]
    fn each_change_is_one_row_with_old_and_new() {
        let mut harness = harness();
        harness.push(Change::insert(product("9.90", json!("ada"), 1)));
        harness.push(Change::update(
            product("9.90", json!("ada"), 1),
            product("8.50", json!("grace"), 2),
        ));
        harness.push(Change::update(
            product("8.50", json!("grace"), 2),
            product("8.50", json!("ada"), 3),
        ));
        harness.push(Change::delete(product("8.50", json!("grace"), 2)));
        harness.run();
        assert!(harness.faults().is_empty(), "{:?}", harness.faults());
        assert_eq!(
            log(&harness),
            [
                r#"1 "insert" "ada" {"id":{"new":7,"old":null},"price":{"new":"9.90","old":null}}"#,
                r#"2 "update" "grace" {"price":{"new":"8.50","old":"9.90"}}"#,
                r#"3 "delete" null {"id":{"new":null,"old":7},"price":{"new":null,"old":"8.50"}}"#,
            ]
        );
    }

    #[test]
    fn a_wrong_configuration_is_refused() {
        let refused = |config: JsonValue| Harness::with_config(plugin(), &config).unwrap_err();
        assert!(refused(json!({ "watch": [] })).contains("watch names no table"));
        let unknown = refused(json!({ "watch": [{ "table": "t", "keys": [] }] }));
        assert!(unknown.contains("unknown field `keys`"), "{unknown}");
        let keyless = refused(json!({ "watch": [{ "table": "t", "key": [] }] }));
        assert!(keyless.contains("table t has no key"), "{keyless}");
    }
}
