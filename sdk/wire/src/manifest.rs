//! What a plugin says of itself: its `describe` answer, in postcard.
//!
//! The structures are frozen with the WIT major that carries them (v1): postcard has no field
//! names, so a field added here would be a new major.

use serde::{Deserialize, Serialize};

use crate::value::ColumnType;

/// A plugin's own description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The plugin's name, for messages; the host knows the plugin by its file's name.
    pub name: String,
    /// The plugin's version, for people.
    pub version: String,
    /// Every table that a rule reads or owns. A place in this list is the table's number in batches,
    /// effects and state reads. A source table may stand here twice with other columns.
    pub tables: Vec<Table>,
    /// The rules; a place in this list is the rule's number, and its bit in a batch item's mask.
    pub rules: Vec<Rule>,
}

/// A table as one plugin sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The table's name.
    pub name: String,
    /// Whether the plugin owns the table (writes it) or only reads it.
    pub access: Access,
    /// The columns the plugin names, in the order in which rows carry them.
    pub columns: Vec<Column>,
    /// The key's columns, as places in `columns`, in key order.
    pub key: Vec<u16>,
    /// Secondary indexes: made for an owned table; for one that is only read, those that must be
    /// there.
    pub indexes: Vec<Index>,
}

/// How a plugin uses a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// The plugin only reads it.
    Read,
    /// The plugin owns it and is the only one to write it.
    Own,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The column's name. The name [`WHOLE_ROW`] with type JSON stands for the row with all its
    /// columns, named by the plugin or not, as one JSON object (only in a table that is read).
    pub name: String,
    /// Its type.
    pub ty: ColumnType,
    /// Whether it may be null.
    pub nullable: bool,
}

/// The column name that stands for the whole row as a JSON object.
pub const WHOLE_ROW: &str = "*";

/// A secondary index. Several rows may have the same indexed values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// The indexed columns, as places in the table's `columns`.
    pub columns: Vec<u16>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The rule's name, unique in its plugin.
    pub name: String,
    /// What the rule is called for.
    pub input: Input,
    /// The tables that it looks up as of the change being handled (numbers).
    pub lookups: Vec<u16>,
    /// The tables that it writes (numbers), all owned.
    pub writes: Vec<u16>,
    /// Whether it sends notifications.
    pub notifies: bool,
    /// Whether it sets or clears timers.
    pub sets_timers: bool,
}

/// What a rule is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// Each change of this table (a number; read or owned by the plugin's own earlier rules).
    Changes(u16),
    /// Each timer that was set for the rule.
    Timers,
}

/// Rules in one plugin at the most: each has a bit in a batch item's mask.
pub const RULES_MAX: usize = 64;

impl Manifest {
    /// The manifest in postcard.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Plain structures in memory: postcard has nothing to refuse.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// With a sentence on what is wrong, if the bytes are no manifest.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        match postcard::take_from_bytes(bytes) {
            Ok((manifest, [])) => Ok(manifest),
            Ok((_, rest)) => Err(format!("{} bytes follow the manifest", rest.len())),
            Err(error) => Err(format!("not a manifest: {error}")),
        }
    }
}

impl Table {
    /// The key's columns, in key order.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key
            .iter()
            .map(|&place| &self.columns[usize::from(place)])
    }
}
