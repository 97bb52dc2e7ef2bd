//! What the API answers, as types: the server writes them, the command line reads them back, and
//! makes the same ones itself where no daemon runs.
//!
//! Rows and keys stay JSON text ([`RawValue`]), so numbers keep their digits and columns their order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    catalog::{Catalog, Origin, Table},
    change::Op,
    engine::{PluginStatus, RuleStatusLine, Status},
    store::LetterState,
};

/// `POST /v1/changes`: the changes are on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The last seq that the store holds with them.
    pub seq: u64,
    /// How many there were.
    pub changes: u64,
    /// Whether an earlier request with this idempotency key had brought them already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
}

/// `GET /v1/tables`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tables {
    /// The tables, by name.
    pub tables: Vec<TableInfo>,
}

/// A table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TableInfo {
    /// Its name.
    pub name: String,
    /// `source` or `derived`.
    pub kind: String,
    /// The plugin that writes it, if it is derived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The key's columns, in key order.
    pub key: Vec<String>,
    /// Its columns.
    pub columns: Vec<ColumnInfo>,
    /// The columns of its secondary indexes.
    pub indexes: Vec<Vec<String>>,
    /// Whether its current rows are kept.
    pub mirror: bool,
}

/// A column.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// Its type; none while nothing has named it, so that values keep their input's type.
    #[serde(rename = "type")]
    pub ty: Option<String>,
    /// Whether it may be null.
    pub nullable: bool,
}

/// `GET /v1/tables/{table}/rows`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rows {
    /// The table.
    pub table: String,
    /// The seq of the snapshot that the page was read from.
    pub seq: u64,
    /// The columns' names, in the table's order.
    pub columns: Vec<String>,
    /// The rows as JSON objects, in key order.
    pub rows: Vec<Box<RawValue>>,
    /// What wrote each row, in the rows' order; only if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Vec<Provenance>>,
    /// What to pass as `cursor` for the page that follows; none on the last.
    pub next: Option<String>,
}

/// What wrote a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The source change behind it.
    pub seq: u64,
    /// The plugin; none for a row that came from a source, and so for the two below.
    pub plugin: Option<String>,
    /// The store's number for the plugin's version.
    pub version: Option<u32>,
    /// SHA-256 of the file that ran.
    pub hash: Option<String>,
}

/// `GET /v1/rules`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Rules {
    /// The rules, by full name.
    pub rules: Vec<RuleInfo>,
    /// The plugins, by name.
    pub plugins: BTreeMap<String, PluginStatus>,
}

/// A rule.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RuleInfo {
    /// Its full name, `plugin.rule`.
    pub name: String,
    /// Its plugin.
    pub plugin: String,
    /// How it does.
    #[serde(flatten)]
    pub line: RuleStatusLine,
}

/// The body of `POST /v1/rules/{rule}/resume`; it may be left out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resumption {
    /// Go on from where the log begins, if the rule stands before it.
    #[serde(default)]
    pub skip_gap: bool,
}

/// `POST /v1/plugins/{plugin}/rebuild` and `/rebuild/cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginNamed {
    /// The plugin's name.
    pub plugin: String,
}

/// `GET /v1/dead-letters`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadLetters {
    /// The parked changes, oldest first.
    pub dead_letters: Vec<DeadLetterInfo>,
    /// What to pass as `after` for the page that follows; none on the last.
    pub next: Option<u64>,
}

/// A change or a timer parked for one rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadLetterInfo {
    /// Its number.
    pub id: u64,
    /// The rule's full name.
    pub rule: String,
    /// Why it is here: `faulted`, `waiting` behind one of its key that did, or `skipped`, which only keeps it to be read.
    pub state: LetterState,
    /// The fault, or what it waits for.
    pub error: String,
    /// The change's seq; a timer's is that of what it came due before.
    pub seq: u64,
    /// The change's table; none if it is a timer.
    pub table: Option<String>,
    /// What happened; none if it is a timer.
    pub op: Option<Op>,
    /// The row's key: its value, or the array of a composite key's values. A timer's is its text.
    pub key: Box<RawValue>,
    /// The row before.
    pub before: Option<Box<RawValue>>,
    /// The row after.
    pub after: Option<Box<RawValue>>,
    /// When the timer was due; none if it is a change.
    #[serde(default)]
    pub due: Option<String>,
    /// The change's commit time, or that of what the timer came due before.
    pub ts: Option<String>,
    /// The plugin version that faulted, by the store's number.
    pub version: u32,
    /// SHA-256 of that version's file, in hex.
    pub hash: Option<String>,
    /// When it was parked.
    pub parked_at: Option<String>,
}

/// The body of `POST /v1/dead-letters/retry` and `/drop`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Only those of this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Only this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// All of them, where neither of the others is given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// `POST /v1/dead-letters/retry`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// How many went through.
    pub settled: u64,
    /// How many of those tried stay parked.
    pub parked: u64,
}

/// `POST /v1/dead-letters/drop`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// How many went.
    pub dropped: u64,
}

/// `GET /v1/sources/{source}/dead-letters`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BadInputs {
    /// The source.
    pub source: String,
    /// Its input that could not be taken, oldest first.
    pub dead_letters: Vec<BadInputInfo>,
    /// What to pass as `after` for the page that follows; none on the last.
    pub next: Option<u64>,
}

/// Input that could not be taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BadInputInfo {
    /// Its number.
    pub id: u64,
    /// The input.
    #[serde(flatten)]
    pub input: crate::change::BadInput,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// The host's version.
    pub version: String,
    /// Whether a daemon runs on the data directory.
    pub running: bool,
    /// Bytes of the store's file.
    pub store_bytes: u64,
    /// The rest.
    #[serde(flatten)]
    pub status: Status,
}

/// What a line of `GET /v1/tail` is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TailOp {
    /// A row came to be.
    Insert,
    /// A row changed.
    Update,
    /// A row went.
    Delete,
    /// The table was made again: any of its rows may be another now, without a line of its own.
    Rebuilt,
}

impl From<Op> for TailOp {
    fn from(op: Op) -> Self {
        match op {
            Op::Insert => Self::Insert,
            Op::Update => Self::Update,
            Op::Delete => Self::Delete,
        }
    }
}

/// A line of `GET /v1/tail`: a committed change, or the switch to a rebuilt table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TailLine {
    /// The change's seq.
    pub seq: u64,
    /// Its table.
    pub table: String,
    /// What happened.
    pub op: TailOp,
    /// The row's key: its value, or the array of a composite key's values.
    pub key: Option<Box<RawValue>>,
    /// The row before.
    pub before: Option<Box<RawValue>>,
    /// The row after.
    pub after: Option<Box<RawValue>>,
    /// The commit time.
    pub ts: Option<String>,
}

impl Tables {
    /// The tables of a catalog.
    pub fn of(catalog: &Catalog) -> Self {
        let mut tables: Vec<_> = catalog
            .tables()
            .filter(|table| table.is_serving())
            .map(|table| TableInfo::of(table))
            .collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        Self { tables }
    }
}

impl TableInfo {
    fn of(table: &Table) -> Self {
        let name = |&id: &u16| table.columns[usize::from(id)].name.clone();
        Self {
            name: table.name.clone(),
            kind: if table.is_derived() {
                "derived"
            } else {
                "source"
            }
            .to_owned(),
            plugin: match &table.origin {
                Origin::Source => None,
                Origin::Derived { plugin } => Some(plugin.clone()),
            },
            key: table.key.iter().map(name).collect(),
            columns: table
                .columns
                .iter()
                .map(|column| ColumnInfo {
                    name: column.name.clone(),
                    ty: column.ty.map(|ty| ty.name().to_owned()),
                    nullable: column.nullable,
                })
                .collect(),
            indexes: table
                .indexes
                .iter()
                .map(|index| index.columns.iter().map(name).collect())
                .collect(),
            mirror: table.mirror,
        }
    }
}

impl Rules {
    /// The rules as a status shows them.
    pub fn of(status: &Status) -> Self {
        let rules = status
            .rules
            .iter()
            .map(|(name, line)| RuleInfo {
                name: name.clone(),
                plugin: name
                    .split_once('.')
                    .map_or_else(String::new, |(plugin, _)| plugin.to_owned()),
                line: line.clone(),
            })
            .collect();
        Self {
            rules,
            plugins: status.plugins.clone(),
        }
    }
}

/// `GET /healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// The daemon's process id.
    pub pid: u32,
}
