//! `rulemill.toml`: what the host is told.
//!
//! This module owns the file's form: reading it, refusing what makes no sense, and saying where and
//! why ([`Error`]). It never opens what the file names (data directory, sources, plugins): that is the
//! part of those who use them. Only whether `plugin_dir` is there can be asked of it. A configuration is whole or it isn't there; nothing is guessed.

mod check;
mod error;
mod load;
mod plugins;
mod raw;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::PathBuf,
};

use rulemill_wire::ColumnType;
use serde::{Deserialize, Serialize};

pub use self::error::Error;
use crate::{
    decode::Format,
    engine::{PluginOptions, TableOptions},
    limits::Limits,
};

pub use crate::engine::{Backfill, OnError};

/// A whole configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// Where the store lies.
    pub data_dir: PathBuf,
    /// Where plugins are looked for.
    pub plugin_dir: PathBuf,
    /// Whether the file names `plugin_dir`, which must then be there.
    pub plugin_dir_named: bool,
    /// The HTTP interface.
    pub http: Http,
    /// The sources, in the file's order.
    pub sources: Vec<Source>,
    /// What is said of tables, in the file's order.
    pub tables: Vec<Table>,
    /// Options of plugins, by name.
    pub plugins: BTreeMap<String, Plugin>,
    /// The limits.
    pub limits: Limits,
    /// Logging.
    pub log: Log,
}

/// The HTTP interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http {
    /// Whether it is served at all.
    pub enabled: bool,
    /// Where it listens: always a loopback address.
    pub listen: SocketAddr,
}

/// A source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name, unique.
    pub name: String,
    /// What it is.
    pub kind: SourceKind,
    /// What happens at input that can't be taken.
    pub on_bad_input: OnBadInput,
}

/// What a source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// The files of a directory, or one file.
    Files {
        /// The directory or the file.
        path: PathBuf,
        /// The form of the lines; none: told by content and file ending.
        format: Option<Format>,
    },
    /// Standard input.
    Stdin {
        /// The form of the lines; none: told by content.
        format: Option<Format>,
        /// The table, for CSV.
        table: Option<String>,
    },
}

impl SourceKind {
    /// The name used in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Files { .. } => "files",
            Self::Stdin { .. } => "stdin",
        }
    }
}

/// What happens at input that can't be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBadInput {
    /// It is kept in the source's dead letters and the rest goes on.
    #[default]
    Park,
    /// The source stops before it.
    Halt,
}

/// What is said of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name, unique.
    pub name: String,
    /// The key's columns; none where a plugin says them.
    pub key: Option<Vec<String>>,
    /// Whether its current rows are kept.
    pub mirror: bool,
    /// Columns with their types.
    pub columns: BTreeMap<String, ColumnSpec>,
}

/// A column's type as written: `"decimal"`, or `"decimal?"` where it may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnSpec {
    /// Its type.
    pub ty: ColumnType,
    /// Whether it may be null.
    pub nullable: bool,
}

/// Options of a plugin.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plugin {
    /// What happens when a rule fails at a change.
    pub on_error: OnError,
    /// What a rule that is new here sees of the past.
    pub backfill: Backfill,
    /// The plugin's own configuration.
    pub config: serde_json::Value,
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How lines are written.
    pub format: LogFormat,
    /// The least level written, or a filter as `tracing` has it (`info,rulemill::store=debug`).
    pub level: String,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// What the engine is told of tables.
    pub fn table_options(&self) -> Vec<TableOptions> {
        self.tables
            .iter()
            .map(|table| TableOptions {
                name: table.name.clone(),
                key: table.key.clone().unwrap_or_default(),
                mirror: table.mirror,
                columns: table
                    .columns
                    .iter()
                    .map(|(name, spec)| (name.clone(), spec.ty, spec.nullable))
                    .collect(),
            })
            .collect()
    }

    /// What the engine is told of plugins.
    pub fn plugin_options(&self) -> HashMap<String, PluginOptions> {
        self.plugins
            .iter()
            .map(|(name, plugin)| {
                let options = PluginOptions {
                    on_error: plugin.on_error,
                    backfill: plugin.backfill,
                };
                (name.clone(), options)
            })
            .collect()
    }

    /// The plugins' own configurations.
    pub fn plugin_configs(&self) -> HashMap<String, serde_json::Value> {
        self.plugins
            .iter()
            .map(|(name, plugin)| (name.clone(), plugin.config.clone()))
            .collect()
    }

    /// Where HTTP is served, if it is.
    pub fn http_listen(&self) -> Option<SocketAddr> {
        self.http.enabled.then_some(self.http.listen)
    }
}
