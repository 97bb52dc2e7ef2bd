//! The configuration, and the plugin that is built from it. Whatever is wrong is refused here, with the
//! rule's place and name, before the first event.

use rulemill_sdk::{
    dynamic::{Change, ColumnType, Plugin, Record, Table, TableHandle, Value, from_json},
    prelude::*,
};
use serde::Deserialize;
use serde_json::{Map, Value as JsonValue};

use crate::{
    apply::{Action, EventRule, Target},
    template::{Event, Template},
};

/// The plugin's configuration; the crate's documentation has an example.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    #[serde(default = "default_source")]
    source: String,
    table: Vec<TableSettings>,
    rule: Vec<RuleSettings>,
}

fn default_source() -> String {
    "events".into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableSettings {
    name: String,
    columns: Vec<ColumnSettings>,
    key: Vec<String>,
    #[serde(default)]
    index: Vec<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnSettings {
    name: String,
    #[serde(rename = "type")]
    ty: ColumnType,
    #[serde(default)]
    null: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleSettings {
    event: String,
    action: Option<Action>,
    into: String,
    value: Map<String, JsonValue>,
}

/// Makes the tables and one rule for each of the configuration.
///
/// # Errors
/// With what is wrong in the configuration, and where.
pub fn build(settings: Settings) -> Result<Plugin, String> {
    let mut plugin = Plugin::new();
    let events = plugin.table(
        Table::source(&settings.source)
            .column("id", ColumnType::I64)
            .column("event", ColumnType::Text)
            .nullable("action", ColumnType::Text)
            .nullable("value", ColumnType::Json)
            .key(["id"]),
    )?;
    let mut tables = Vec::new();
    for table in settings.table {
        if tables
            .iter()
            .any(|(other, _): &(TableSettings, _)| other.name == table.name)
        {
            return Err(format!("table {} is described twice", table.name));
        }
        let handle = plugin.table(table.description())?;
        tables.push((table, handle));
    }
    let mut names: Vec<String> = Vec::new();
    for (place, settings) in settings.rule.into_iter().enumerate() {
        let at = format!("rule {} ({})", place + 1, settings.event);
        let rule = check(&tables, &settings).map_err(|error| format!("{at}: {error}"))?;
        let name = format!("{}_into_{}", settings.event, settings.into);
        if names.contains(&name) {
            return Err(format!(
                "{at}: another rule has the same event and table; make one of them"
            ));
        }
        plugin
            .rule(&name)
            .on(&events)
            .writes(&rule.into.clone())
            .runs(move |change, context| {
                let Some(row) = happened(change)? else {
                    return Ok(());
                };
                if text(row, "event")? != rule.event {
                    return Ok(());
                }
                rule.apply(&event(row, context.now())?, context)
            })?;
        names.push(name);
    }
    Ok(plugin)
}

impl TableSettings {
    fn description(&self) -> Table {
        let mut table = Table::derived(&self.name);
        for column in &self.columns {
            table = match column.null {
                true => table.nullable(&column.name, column.ty),
                false => table.column(&column.name, column.ty),
            };
        }
        for index in &self.index {
            table = table.index(index.iter().map(String::as_str));
        }
        table.key(self.key.iter().map(String::as_str))
    }
}

fn check(
    tables: &[(TableSettings, TableHandle)],
    rule: &RuleSettings,
) -> Result<EventRule, String> {
    let Some((table, handle)) = tables.iter().find(|(table, _)| table.name == rule.into) else {
        let known: Vec<&str> = tables.iter().map(|(table, _)| &*table.name).collect();
        return Err(format!(
            "there is no table {}; there are: {}",
            rule.into,
            known.join(", ")
        ));
    };
    let mut others = Vec::new();
    for (name, json) in &rule.value {
        let Some(column) = table.columns.iter().find(|column| column.name == *name) else {
            let known: Vec<&str> = table.columns.iter().map(|column| &*column.name).collect();
            return Err(format!(
                "table {} has no column {name}; it has: {}",
                table.name,
                known.join(", ")
            ));
        };
        let template = Template::read(json).map_err(|error| format!("column {name}: {error}"))?;
        if let Template::Constant(value) = &template {
            from_json(column.ty, value).map_err(|error| format!("column {name}: {error}"))?;
        }
        others.push(Target {
            column: name.clone(),
            ty: column.ty,
            template,
        });
    }
    let mut key = Vec::new();
    for name in &table.key {
        let Some(place) = others.iter().position(|target| target.column == *name) else {
            return Err(format!(
                "value has nothing for {name}, a key column of table {}",
                table.name
            ));
        };
        key.push(others.swap_remove(place));
    }
    Ok(EventRule {
        event: rule.event.clone(),
        action: rule.action,
        into: handle.clone(),
        key,
        others,
    })
}

/// The event, if one happened. The same one once more, or one that is cleared away, is none.
fn happened(change: &Change) -> Result<Option<&Record>, RuleError> {
    match (&change.before, &change.after) {
        (Some(before), Some(after)) if before != after => {
            reject!(
                "event {:?} was changed: an event is a fact; send another",
                change.row().key()
            )
        }
        (Some(_), _) => Ok(None),
        (None, after) => Ok(after.as_ref()),
    }
}

fn event(row: &Record, time: Timestamp) -> Result<Event, RuleError> {
    let value = match row.value("value")? {
        Value::Json(value) => serde_json::from_str(value.as_str())?,
        _ => JsonValue::Null,
    };
    Ok(Event {
        name: text(row, "event")?.to_owned(),
        action: text(row, "action")?.to_owned(),
        value,
        time,
    })
}

/// The text in a column; empty where it is null.
fn text<'a>(row: &'a Record, column: &str) -> Result<&'a str, RuleError> {
    match row.value(column)? {
        Value::Text(text) => Ok(text),
        _ => Ok(""),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
