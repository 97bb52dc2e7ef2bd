//! Reads over one snapshot of the store, answered as the API does.
//!
//! The command line makes the same answers from here where no daemon runs. A page is consistent in
//! itself; the page that follows is read from a later snapshot, and begins behind the last row.

use std::collections::HashMap;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use rulemill_wire::{Timestamp, key::prefix_end};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    answers::{
        BadInputInfo, BadInputs, DeadLetterInfo, DeadLetters, Provenance, Rows, StatusAnswer,
        TailLine,
    },
    problem::{Kind, Problem},
};
use crate::{
    catalog::{Catalog, Table},
    change::Change,
    engine::{self, ControlError, PluginStatus, RuleStatusLine, Status},
    limits::Limits,
    render,
    store::{
        self, DeadLetter, LetterState, PluginVersion, Reader, RuleStatus, Store, StoredRow, Subject,
    },
};

/// Which rows of a table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowsQuery {
    /// The table; over HTTP it is in the path.
    #[serde(skip)]
    pub table: String,
    /// Only the row with this key; of a composite key, the rows whose keys begin with these values.
    pub key: Option<String>,
    /// From this key on.
    pub from: Option<String>,
    /// Up to this key, itself excluded.
    pub to: Option<String>,
    /// Rows at the most.
    pub limit: Option<u64>,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// Whether to say what wrote each row.
    #[serde(default)]
    pub provenance: bool,
}

/// Which dead letters.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LettersQuery {
    /// Only those of this rule, as `plugin.rule`, or `rule` alone.
    pub rule: Option<String>,
    /// Only this one.
    pub id: Option<u64>,
    /// Those behind this number.
    pub after: Option<u64>,
    /// At the most.
    pub limit: Option<u64>,
}

/// Rows of a page where the request names no limit.
const DEFAULT_ROWS: u64 = 100;

/// The rows of a table that a query asks for.
///
/// # Errors
/// If there is no such table, a key can't be read, or the store fails.
pub fn rows(reader: &Reader, limits: &Limits, query: &RowsQuery) -> Result<Rows, Problem> {
    let catalog = reader.catalog().map_err(Problem::internal)?;
    let table = table(&catalog, &query.table)?;
    if !table.mirror && !table.is_derived() {
        return Err(Problem::new(
            Kind::Conflict,
            format!(
                "table {} keeps no rows: its [[table]] entry has mirror = false",
                table.name
            ),
        ));
    }
    let (mut from, to) = range(table, query)?;
    if let Some(cursor) = &query.cursor {
        from = read_cursor(table, cursor)?;
    }
    let limit = page_limit(query.limit, limits)?;
    let versions = match query.provenance {
        true => Some(reader.plugin_versions().map_err(Problem::internal)?),
        false => None,
    };
    let mut rows = Vec::new();
    let mut provenance = Vec::new();
    let (mut bytes, mut next) = (0, None);
    for found in reader
        .rows(table, &from, to.as_deref(), false)
        .map_err(Problem::internal)?
    {
        let (key, stored) = found.map_err(Problem::internal)?;
        if rows.len() >= limit || (bytes >= limits.response_bytes_max && !rows.is_empty()) {
            next = Some(write_cursor(table, &key));
            break;
        }
        let row = json_row(table, &stored.row)?;
        bytes += row.get().len();
        rows.push(row);
        if let Some(versions) = &versions {
            provenance.push(written_by(versions, &stored));
        }
    }
    Ok(Rows {
        table: table.name.clone(),
        seq: reader.last_seq().0,
        columns: table.columns.iter().map(|c| c.name.clone()).collect(),
        rows,
        provenance: versions.map(|_| provenance),
        next,
    })
}

fn written_by(versions: &[PluginVersion], row: &StoredRow) -> Provenance {
    // A row whose version there isn't is for `verify` to report; its number is shown all the same.
    let known = versions.iter().find(|version| version.id == row.version);
    Provenance {
        seq: row.seq.0,
        plugin: known.map(|version| version.plugin.clone()),
        version: (row.version != 0).then_some(row.version),
        hash: known.map(|version| hex::encode(version.hash)),
    }
}

fn range(table: &Table, query: &RowsQuery) -> Result<(Vec<u8>, Option<Vec<u8>>), Problem> {
    let key = |name: &str, text: &str| {
        render::key_from_text(table, text).map_err(|error| {
            Problem::new(
                Kind::BadRequest,
                format!("{name} of table {}: {error}", table.name),
            )
        })
    };
    match (&query.key, &query.from, &query.to) {
        (Some(text), None, None) => {
            let from = key("key", text)?;
            let to = prefix_end(&from);
            Ok((from, to))
        }
        (Some(_), ..) => Err(Problem::new(
            Kind::BadRequest,
            "key stands alone: leave out from and to",
        )),
        (None, from, to) => {
            let from = from.as_deref().map(|text| key("from", text)).transpose()?;
            let to = to.as_deref().map(|text| key("to", text)).transpose()?;
            Ok((from.unwrap_or_default(), to))
        }
    }
}

fn page_limit(asked: Option<u64>, limits: &Limits) -> Result<usize, Problem> {
    match asked.unwrap_or(DEFAULT_ROWS) {
        0 => Err(Problem::new(Kind::BadRequest, "limit must be at least 1")),
        asked => Ok(usize::try_from(asked)
            .unwrap_or(usize::MAX)
            .min(limits.response_rows_max)),
    }
}

/// A cursor is the table's number and generation and the key that the next page begins with.
fn write_cursor(table: &Table, key: &[u8]) -> String {
    let mut bytes = table.id.0.to_be_bytes().to_vec();
    bytes.extend_from_slice(&table.generation.to_be_bytes());
    bytes.extend_from_slice(key);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn read_cursor(table: &Table, cursor: &str) -> Result<Vec<u8>, Problem> {
    let wrong = || {
        Problem::new(
            Kind::BadRequest,
            format!(
                "cursor is none of table {}: pass the `next` of the page before, unchanged",
                table.name
            ),
        )
    };
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| wrong())?;
    let (id, rest) = bytes.split_at_checked(4).ok_or_else(wrong)?;
    let (generation, key) = rest.split_at_checked(4).ok_or_else(wrong)?;
    if id != table.id.0.to_be_bytes() || generation != table.generation.to_be_bytes() {
        return Err(wrong());
    }
    Ok(key.to_vec())
}

/// The changes and timers that are parked for rules.
///
/// # Errors
/// If the query names a letter or a rule that isn't there, or the store fails.
pub fn dead_letters(
    reader: &Reader,
    limits: &Limits,
    query: &LettersQuery,
) -> Result<DeadLetters, Problem> {
    let catalog = reader.catalog().map_err(Problem::internal)?;
    let limit = page_limit(query.limit, limits)?;
    let versions = reader.plugin_versions().map_err(Problem::internal)?;
    let hashes = versions.iter().map(|version| (version.id, version.hash));
    let hashes = hashes.collect();
    let is_named = |name: &str, plugin: &str, rule: &str| {
        let is_short = name == rule && !engine::is_shadow(plugin);
        is_short || name.split_once('.') == Some((plugin, rule))
    };
    let mut found = Vec::new();
    for letter in reader.dead_letters().map_err(Problem::internal)? {
        let letter = letter.map_err(Problem::internal)?;
        let full_name = format!("{}.{}", letter.plugin, letter.rule);
        let rule = query.rule.as_deref();
        let asked_for = rule.is_none_or(|name| is_named(name, &letter.plugin, &letter.rule))
            && query.id.is_none_or(|id| id == letter.id)
            && query.after.is_none_or(|after| letter.id > after);
        if !asked_for {
            continue;
        }
        if found.len() == limit {
            let next = found.last().map(|last: &DeadLetterInfo| last.id);
            return Ok(DeadLetters {
                dead_letters: found,
                next,
            });
        }
        found.push(dead_letter(&catalog, &hashes, full_name, &letter)?);
    }
    if let Some(name) = query.rule.as_deref().filter(|_| found.is_empty()) {
        let rules = reader.rules().map_err(Problem::internal)?;
        if !rules.iter().any(|of| is_named(name, &of.plugin, &of.rule)) {
            let error = ControlError::NoSuchRule(name.to_owned());
            return Err(Problem::new(Kind::NotFound, error.to_string()));
        }
    }
    if let (Some(id), true) = (query.id, found.is_empty()) {
        return Err(Problem::new(
            Kind::NotFound,
            format!("there is no dead letter {id}"),
        ));
    }
    Ok(DeadLetters {
        dead_letters: found,
        next: None,
    })
}

fn dead_letter(
    catalog: &Catalog,
    hashes: &HashMap<u32, [u8; 32]>,
    rule: String,
    letter: &DeadLetter,
) -> Result<DeadLetterInfo, Problem> {
    let row = |table: &Table, row: &Option<Vec<u8>>| {
        let row = row.as_deref();
        row.map(|row| json_row(table, row)).transpose()
    };
    let (table, op, key, before, after, due) = match &letter.subject {
        Subject::Change(change) => {
            let table = catalog.table(change.table);
            let (before, after) = (row(table, &change.before)?, row(table, &change.after)?);
            let key = json_key(table, &change.key)?;
            let name = Some(table.name.clone());
            (name, Some(change.op), key, before, after, None)
        }
        Subject::Timer(timer) => {
            let key = serde_json::value::to_raw_value(&timer.key).map_err(Problem::internal)?;
            (None, None, key, None, None, timestamp(timer.due))
        }
    };
    Ok(DeadLetterInfo {
        id: letter.id,
        rule,
        state: letter.state,
        error: letter.error.clone(),
        seq: letter.seq.0,
        table,
        op,
        key,
        before,
        after,
        due,
        ts: timestamp(letter.time),
        version: letter.version,
        hash: hashes.get(&letter.version).map(hex::encode),
        parked_at: timestamp(letter.parked_at),
    })
}

/// The input of a source that could not be taken. A source that is no longer configured may have left some.
///
/// # Errors
/// If the store fails, or nobody knows the source and there is none.
pub fn bad_input(
    reader: &Reader,
    limits: &Limits,
    source: &str,
    is_known: bool,
    query: &LettersQuery,
) -> Result<BadInputs, Problem> {
    let limit = page_limit(query.limit, limits)?;
    let mut found: Vec<BadInputInfo> = Vec::new();
    let mut next = None;
    for entry in reader.bad_input(source).map_err(Problem::internal)? {
        let (id, input) = entry.map_err(Problem::internal)?;
        if query.after.is_some_and(|after| id <= after) || query.id.is_some_and(|asked| asked != id)
        {
            continue;
        }
        if found.len() == limit {
            next = found.last().map(|last| last.id);
            break;
        }
        found.push(BadInputInfo { id, input });
    }
    if !is_known && found.is_empty() {
        let message = format!("there is no source {source}");
        return Err(Problem::new(Kind::NotFound, message));
    }
    Ok(BadInputs {
        source: source.to_owned(),
        dead_letters: found,
        next,
    })
}

/// A committed change as `tail` prints it.
///
/// # Errors
/// If a stored row is damaged.
pub fn tail_line(catalog: &Catalog, change: &Change) -> Result<TailLine, Problem> {
    let table = catalog.table(change.table);
    let row =
        |row: &Option<crate::row::Row>| row.as_deref().map(|row| json_row(table, row)).transpose();
    Ok(TailLine {
        seq: change.seq.0,
        table: table.plain_name().to_owned(),
        op: change.op.into(),
        key: Some(json_key(table, &change.key)?),
        before: row(&change.before)?,
        after: row(&change.after)?,
        ts: timestamp(change.time),
    })
}

/// The status, with what the store says of itself: the board is a moment behind a commit, and whoever
/// was told of one must find it here.
///
/// # Errors
/// If the store fails.
pub fn status(store: &Store, mut status: Status, running: bool) -> Result<StatusAnswer, Problem> {
    let durable = store.reader().map_err(Problem::internal)?.last_seq().0;
    status.durable_seq = durable;
    status.last_seq = status.last_seq.max(durable);
    let full = store.room().full_since();
    status.waiting = full.map(|_| store::FULL.to_owned());
    Ok(StatusAnswer {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        running,
        store_bytes: store.file_bytes().map_err(Problem::internal)?,
        status,
    })
}

/// The status as the store alone knows it, where no daemon runs.
///
/// # Errors
/// If the store fails.
pub fn stored_status(reader: &Reader) -> Result<Status, Problem> {
    let last_seq = reader.last_seq();
    let mut status = Status {
        last_seq: last_seq.0,
        durable_seq: last_seq.0,
        watermark: (reader.watermark() > 0)
            .then(|| timestamp(reader.watermark()))
            .flatten(),
        ..Status::default()
    };
    // Versions come in the order in which they ran, so the last of a plugin stays.
    for version in reader.plugin_versions().map_err(Problem::internal)? {
        status.plugins.insert(
            version.plugin,
            PluginStatus {
                hash: Some(hex::encode(version.hash)),
                version: version.label,
                refused: None,
                rebuild: None,
            },
        );
    }
    for record in reader.rules().map_err(Problem::internal)? {
        let cursor = if record.at_head {
            last_seq
        } else {
            record.cursor
        };
        let line = RuleStatusLine {
            status: match record.status {
                RuleStatus::Running => "not running".to_owned(),
                RuleStatus::Paused => "paused".to_owned(),
                RuleStatus::Halted(reason) => format!("halted: {reason}"),
                RuleStatus::Tripped(reason) => format!("paused: {reason}"),
                RuleStatus::Unloaded => "unloaded".to_owned(),
            },
            cursor: cursor.0,
            lag_changes: last_seq.0.saturating_sub(cursor.0),
            changes: record.changes,
            faults: record.faults,
            parked: 0,
            skipped: 0,
            skipped_since: None,
            last_error: record.last_error,
        };
        status
            .rules
            .insert(format!("{}.{}", record.plugin, record.rule), line);
    }
    for letter in reader.dead_letters().map_err(Problem::internal)? {
        let letter = letter.map_err(Problem::internal)?;
        let name = format!("{}.{}", letter.plugin, letter.rule);
        let line = status.rules.entry(name).or_default();
        if letter.state != LetterState::Skipped {
            line.parked += 1;
            continue;
        }
        line.skipped += 1;
        // They come in the order in which they were made.
        if line.skipped_since.is_none() {
            line.skipped_since = timestamp(letter.parked_at);
        }
    }
    Ok(status)
}

/// The table with this name.
pub(super) fn table<'a>(catalog: &'a Catalog, name: &str) -> Result<&'a Table, Problem> {
    catalog.by_name(name).map(AsRef::as_ref).ok_or_else(|| {
        Problem::new(
            Kind::NotFound,
            format!("there is no table {name}: `rulemill tables` lists them"),
        )
    })
}

fn json_row(table: &Table, row: &[u8]) -> Result<Box<RawValue>, Problem> {
    let text = render::row_to_typed_json_text(table, row).map_err(|error| {
        Problem::internal(format!(
            "a row of table {} is damaged: {error}; `rulemill verify` says what else is",
            table.name
        ))
    })?;
    RawValue::from_string(text).map_err(Problem::internal)
}

fn json_key(table: &Table, key: &[u8]) -> Result<Box<RawValue>, Problem> {
    let value = render::key_to_json(table, key).map_err(|error| {
        Problem::internal(format!(
            "a key of table {} is damaged: {error}; `rulemill verify` says what else is",
            table.name
        ))
    })?;
    serde_json::value::to_raw_value(&value).map_err(Problem::internal)
}

fn timestamp(micros: i64) -> Option<String> {
    Timestamp::from_micros(micros).map(|at| at.to_string())
}
