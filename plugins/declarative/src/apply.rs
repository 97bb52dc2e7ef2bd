//! What an action does to a table.
//!
//! | action | there is a row | there is none |
//! | --- | --- | --- |
//! | `insert` | error | makes it |
//! | `update` | sets the columns that the event has a value for | error |
//! | `upsert` | as `update` | as `insert` |
//! | `delete` | removes it | nothing |
//!
//! A column without a value is null in a row that is made, which is an error if it can't be. An error
//! parks the event for this rule.

use rulemill_sdk::{
    dynamic::{ColumnType, Context, Record, TableHandle, Value, from_json},
    prelude::*,
};
use serde::Deserialize;

use crate::template::{Event, Template};

/// What is done to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Makes a row.
    Insert,
    /// Changes a row.
    Update,
    /// Makes or changes a row.
    Upsert,
    /// Removes a row.
    Delete,
}

impl Action {
    /// The action of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name))
            .ok()
    }
}

/// A column that a rule has a value for.
#[derive(Debug)]
pub struct Target {
    /// The column.
    pub column: String,
    /// Its type.
    pub ty: ColumnType,
    /// Its value.
    pub template: Template,
}

/// A rule of the configuration, checked.
#[derive(Debug)]
pub struct EventRule {
    /// The event's name.
    pub event: String,
    /// What to do; where it is left out, what the event says.
    pub action: Option<Action>,
    /// The table to do it to.
    pub into: TableHandle,
    /// The key's columns, in key order.
    pub key: Vec<Target>,
    /// The other columns.
    pub others: Vec<Target>,
}

impl EventRule {
    /// Does what the rule says with an event of its name.
    ///
    /// # Errors
    /// If the event lacks what the rule needs, or doesn't fit the table.
    pub fn apply(&self, event: &Event, context: &mut Context<'_>) -> Outcome {
        let Some(action) = self.action.or_else(|| Action::named(&event.action)) else {
            reject!(
                "event {} has action {:?}: there are insert, update, upsert and delete",
                event.name,
                event.action
            );
        };
        let mut key = Vec::new();
        for target in &self.key {
            match self.value(target, event)? {
                Some(value) if value != Value::Null => key.push(value),
                _ => reject!(
                    "event {} has no value for key column {}",
                    event.name,
                    target.column
                ),
            }
        }
        if action == Action::Delete {
            context.remove(&self.into, &key)?;
            return Ok(());
        }
        let mut row = match (context.get(&self.into, &key)?, action) {
            (Some(_), Action::Insert) => {
                reject!(
                    "table {} has a row with key {key:?} already",
                    self.into.name()
                )
            }
            (None, Action::Update) => {
                reject!(
                    "table {} has no row with key {key:?} to update",
                    self.into.name()
                )
            }
            (Some(row), _) => row,
            (None, _) => self.new_row(&key, event)?,
        };
        for target in &self.others {
            if let Some(value) = self.value(target, event)? {
                row.set(&target.column, value)?;
            }
        }
        context.insert(&self.into, row)
    }

    /// A row with its key and nothing else; columns that the event has no value for must be able to be
    /// null.
    fn new_row(&self, key: &[Value], event: &Event) -> Result<Record, RuleError> {
        let mut row = self.into.record();
        for (target, value) in self.key.iter().zip(key) {
            row.set(&target.column, value.clone())?;
        }
        for target in &self.others {
            if target.template.fill(event).is_none() {
                row.set(&target.column, Value::Null)?;
            }
        }
        Ok(row)
    }

    fn value(&self, target: &Target, event: &Event) -> Result<Option<Value>, RuleError> {
        let Some(json) = target.template.fill(event) else {
            return Ok(None);
        };
        from_json(target.ty, &json).map(Some).map_err(|error| {
            format!(
                "column {} of table {}: {error}",
                target.column,
                self.into.name()
            )
            .into()
        })
    }
}
