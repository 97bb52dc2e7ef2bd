//! From a source's bytes to changes.
//!
//! ```text
//! line ---------> Decoder::line ------\
//! CSV record ---> Decoder::csv_record --> chunk: one buffer of rows --> Decoder::take_chunk
//! ```
//!
//! A [`Decoder`] holds each line against the catalog: it knows the table, parses every value straight
//! to its column's type, writes rows in the store's form into one buffer, and hands them out as slices
//! of it. It never opens anything, never numbers a change and never looks at stored rows. Input that
//! can't be taken is a [`Reason`]; the chunk then stays as it was before that input.
//!
//! Lines are read twice over at the most. The fast way guesses the table (from the first `"table"` in
//! the line) and reads the line in one pass; if the guess was wrong or anything is amiss, the line is
//! read again the slow way, which is the only one that decides and explains.

mod csv;
mod envelope;
mod ndjson;
mod number;
mod schema;
mod table;
mod value;

use std::{borrow::Cow, fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use memchr::memmem;
use serde::de::DeserializeSeed;

pub use self::{
    csv::{CsvTable, Record},
    ndjson::{BadLine, decode_ndjson},
};
use self::{
    envelope::{Envelope, EnvelopeSeed, Part, RowReader},
    schema::{Row as RowSchema, Schemas},
    table::{RowFacts, TableDecoder},
    value::Scratch,
};
use crate::{
    catalog::{Catalog, Origin, SharedCatalog, TableId},
    change::{RawChange, RawOp},
    config::Format,
    limits::Limits,
    row::RowBuilder,
};

/// Why input could not be taken: what is wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The bytes are not in the form: no JSON, no UTF-8, too long.
    Malformed(String),
    /// The form is right, what it says is not.
    Invalid(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(text) | Self::Invalid(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Reason {}

fn invalid<T>(message: impl Into<String>) -> Result<T, Reason> {
    Err(Reason::Invalid(message.into()))
}

/// Decodes lines and CSV records into a chunk of changes.
pub struct Decoder {
    catalog: Arc<SharedCatalog>,
    current: Arc<Catalog>,
    format: Option<Format>,
    max: Max,
    tables: Vec<Option<TableDecoder>>,
    last: Option<TableId>,
    last_was_debezium: bool,
    schemas: Schemas,
    before: RowBuilder,
    after: RowBuilder,
    scratch: Scratch,
    finder: memmem::Finder<'static>,
    chunk: Chunk,
}

#[derive(Clone, Copy)]
struct Max {
    line_bytes: usize,
    key_bytes: usize,
    row_bytes: usize,
    columns: usize,
}

#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    changes: Vec<Pending>,
}

struct Pending {
    table: TableId,
    op: RawOp,
    key: Range<usize>,
    old_key: Option<Range<usize>>,
    before: Option<Range<usize>>,
    after: Option<Range<usize>>,
    time: Option<i64>,
}

impl Decoder {
    /// A decoder for lines in `format`; without one, each line's form is told by its content. CSV comes
    /// through [`csv_record`](Self::csv_record), whatever the format.
    pub fn new(catalog: Arc<SharedCatalog>, limits: &Limits, format: Option<Format>) -> Self {
        Self {
            current: catalog.load(),
            catalog,
            format,
            max: Max {
                line_bytes: limits.line_bytes_max,
                key_bytes: limits.key_bytes_max,
                row_bytes: limits.row_bytes_max,
                columns: limits.table_columns_max,
            },
            tables: Vec::new(),
            last: None,
            last_was_debezium: false,
            schemas: Schemas::default(),
            before: RowBuilder::default(),
            after: RowBuilder::default(),
            scratch: Scratch::default(),
            finder: memmem::Finder::new("\"table\""),
            chunk: Chunk::default(),
        }
    }

    /// Changes in the chunk.
    pub fn chunk_changes(&self) -> usize {
        self.chunk.changes.len()
    }

    /// Bytes of keys and rows in the chunk.
    pub fn chunk_bytes(&self) -> usize {
        self.chunk.bytes.len()
    }

    /// Hands the chunk out and begins a new one.
    pub fn take_chunk(&mut self) -> Vec<RawChange> {
        let next = Vec::with_capacity(self.chunk.bytes.len());
        let bytes = Bytes::from(std::mem::replace(&mut self.chunk.bytes, next));
        let changes = self.chunk.changes.drain(..);
        changes
            .map(|change| RawChange {
                table: change.table,
                op: change.op,
                key: bytes.slice(change.key),
                old_key: change.old_key.map(|range| bytes.slice(range)),
                before: change.before.map(|range| bytes.slice(range)),
                after: change.after.map(|range| bytes.slice(range)),
                time: change.time,
            })
            .collect()
    }

    /// Decodes one JSON line, with or without its line end, into the chunk. A line of white space and a
    /// Debezium tombstone add nothing.
    ///
    /// # Errors
    /// Why the line can't be taken; the chunk is then as it was.
    pub fn line(&mut self, line: &[u8]) -> Result<(), Reason> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(());
        }
        if line.len() > self.max.line_bytes {
            return Err(too_long(line.len() as u64, self.max.line_bytes));
        }
        let text = std::str::from_utf8(line).map_err(|error| not_utf8(&error))?;
        if self.chunk.changes.is_empty() {
            self.refresh();
        }
        if self.fast(text).is_some() {
            return Ok(());
        }
        self.slow(text)
    }

    /// Takes the catalog as it is now.
    fn refresh(&mut self) {
        let now = self.catalog.load();
        if !Arc::ptr_eq(&now, &self.current) {
            self.current = now;
            self.tables.clear();
        }
    }

    /// The decoder of a table, made anew after the catalog has changed.
    fn open(&mut self, id: TableId) {
        let place = id.0 as usize;
        if self.tables.len() <= place {
            self.tables.resize_with(place + 1, || None);
        }
        if self.tables[place].is_none() {
            self.tables[place] = Some(TableDecoder::new(self.current.table(id)));
        }
        self.last = Some(id);
    }

    /// One pass with a guessed table; `None` if the slow way has to look at the line.
    fn fast(&mut self, text: &str) -> Option<()> {
        let hint = hinted_table(&self.finder, text);
        let id = match (self.last, hint) {
            (Some(last), None) => last,
            (Some(last), Some(hint)) if self.current.table(last).name == hint => last,
            (_, Some(hint)) => self.current.by_name(hint)?.id,
            (None, None) => return None,
        };
        self.open(id);
        let table = self.tables[id.0 as usize].as_mut()?;
        if !table.is_ready() {
            return None;
        }
        let debezium = match self.format {
            Some(format) => format == Format::Debezium,
            None => self.last_was_debezium,
        };
        let mut envelope = Envelope::default();
        let mut wrong = None;
        let rows = RowReader {
            table,
            before: &mut self.before,
            after: &mut self.after,
            scratch: &mut self.scratch,
            wrong: &mut wrong,
            debezium,
        };
        let mut json = serde_json::Deserializer::from_str(text);
        EnvelopeSeed {
            envelope: &mut envelope,
            rows: Some(rows),
            depth: 0,
        }
        .deserialize(&mut json)
        .ok()?;
        json.end().ok()?;
        let (op, name) = (envelope.op(debezium)?, envelope.table(debezium)?);
        if envelope.is_debezium() != debezium
            || envelope.has_schema()
            || (!debezium && envelope.unknown.is_some())
            || name != self.current.table(id).name
        {
            return None;
        }
        let time = envelope.time(debezium).ok()?;
        let (before, after) = (envelope.before.facts()?, envelope.after.facts()?);
        self.push(id, op, before, after, time).ok()
    }

    /// The way that decides: the envelope first, then the rows of the table it names.
    fn slow(&mut self, text: &str) -> Result<(), Reason> {
        self.refresh();
        let mut envelope = Envelope::default();
        let mut json = serde_json::Deserializer::from_str(text);
        let seed = EnvelopeSeed {
            envelope: &mut envelope,
            rows: None,
            depth: 0,
        };
        seed.deserialize(&mut json)
            .and_then(|()| json.end())
            .map_err(|error| not_json(&error))?;
        let debezium = match self.format {
            Some(format) => format == Format::Debezium,
            None => envelope.is_debezium(),
        };
        self.last_was_debezium = debezium;
        if envelope.is_tombstone() {
            return if debezium || self.format.is_none() {
                Ok(())
            } else {
                invalid("null is no change")
            };
        }
        if let (false, Some(unknown)) = (debezium, &envelope.unknown) {
            return invalid(format!(
                "there is no key {unknown:?} in a change: expected table, op, before, after and ts"
            ));
        }
        let Some(op) = envelope.op(debezium) else {
            return invalid(envelope.wrong_op(debezium));
        };
        let Some(name) = envelope.table(debezium).map(str::to_owned) else {
            return invalid(if debezium {
                "the change names no table: `source.table` is missing"
            } else {
                "the change names no table: `table` is missing"
            });
        };
        let id = self.source_table(&name)?;
        let time = envelope.time(debezium).map_err(Reason::Invalid)?;
        let schema = match envelope.schema {
            Some(schema) => Some(self.schemas.read(schema.get()).map_err(Reason::Invalid)?),
            None => None,
        };
        for part in [&envelope.before, &envelope.after] {
            if let Part::Raw(row) = part {
                self.know_columns(id, row.get())?;
            }
        }
        let schema = schema.as_deref();
        let before = self.read_row(
            id,
            &envelope.before,
            debezium,
            schema.map(|s| &s.before),
            true,
        )?;
        let after = self.read_row(
            id,
            &envelope.after,
            debezium,
            schema.map(|s| &s.after),
            false,
        )?;
        self.push(id, op, before, after, time)
    }

    fn read_row(
        &mut self,
        id: TableId,
        part: &Part<'_>,
        debezium: bool,
        schema: Option<&RowSchema>,
        is_before: bool,
    ) -> Result<Option<RowFacts>, Reason> {
        let Part::Raw(raw) = part else {
            return Ok(None);
        };
        self.open(id);
        let Some(table) = &mut self.tables[id.0 as usize] else {
            return Ok(None);
        };
        let mut wrong = None;
        let seed = table::RowSeed {
            table,
            row: if is_before {
                &mut self.before
            } else {
                &mut self.after
            },
            scratch: &mut self.scratch,
            wrong: &mut wrong,
            debezium,
            schema,
        };
        let mut json = serde_json::Deserializer::from_str(raw.get());
        let read = seed.deserialize(&mut json);
        match (read, wrong) {
            (Ok(facts), _) => Ok(facts),
            (Err(_), Some(wrong)) => invalid(wrong),
            (Err(error), None) => invalid(format!(
                "{} of table {}: {}",
                if is_before { "before" } else { "after" },
                self.current.table(id).name,
                bare_message(&error)
            )),
        }
    }

    /// The table with this name, if sources may write it.
    fn source_table(&self, name: &str) -> Result<TableId, Reason> {
        let Some(table) = self.current.by_name(name) else {
            return invalid(format!(
                "unknown table {}: no plugin reads it and no [[table]] in the configuration names it",
                value::shown(name)
            ));
        };
        match &table.origin {
            Origin::Derived { plugin } => invalid(format!(
                "table {name} is derived by plugin {plugin}: sources can't write it"
            )),
            Origin::Source => Ok(table.id),
        }
    }

    /// Puts the columns of a row that the table's dictionary doesn't have yet into it, and settles the
    /// types of key columns that have none.
    fn know_columns(&mut self, id: TableId, row: &str) -> Result<(), Reason> {
        let ready = |table: &crate::catalog::Table| {
            table.key_columns().all(|(_, column)| column.ty.is_some())
        };
        let table = self.current.table(id).clone();
        let names = table::names(row)
            .map_err(|error| Reason::Invalid(format!("a row of table {}: {error}", table.name)))?;
        let new: Vec<&str> = names
            .iter()
            .map(|(name, _)| name.as_ref())
            .filter(|name| table.column(name).is_none())
            .collect();
        self.intern(id, &new)?;
        if !ready(&table) {
            self.settle_key_types(id, |name| {
                let (_, raw) = names.iter().find(|(other, _)| other == name)?;
                value::json_type(raw)
            })?;
        }
        Ok(())
    }

    fn intern(&mut self, id: TableId, names: &[&str]) -> Result<(), Reason> {
        if let Some(name) = names
            .iter()
            .find(|name| name.is_empty() || name.len() > 1_000)
        {
            return invalid(format!(
                "table {}: {} is no column's name",
                self.current.table(id).name,
                value::shown(name)
            ));
        }
        if !names.is_empty() {
            self.catalog
                .intern_columns(id, names, self.max.columns)
                .map_err(|error| Reason::Invalid(error.to_string()))?;
            self.refresh();
        }
        Ok(())
    }

    /// Key bytes carry no type, so a key column that nothing has given one takes that of the first
    /// value it meets and keeps it.
    fn settle_key_types(
        &mut self,
        id: TableId,
        found: impl Fn(&str) -> Option<rulemill_wire::ColumnType>,
    ) -> Result<(), Reason> {
        self.catalog.update(|catalog| {
            let mut table = crate::catalog::Table::clone(catalog.table(id));
            let mut changed = false;
            for place in table.key.clone() {
                let column = &mut table.columns[usize::from(place)];
                if column.ty.is_none()
                    && let Some(ty) = found(&column.name)
                {
                    if !ty.can_be_key() {
                        return invalid(format!(
                            "column {} of table {} holds {ty}, which no key can be",
                            column.name, table.name
                        ));
                    }
                    (column.ty, column.nullable, changed) = (Some(ty), false, true);
                }
            }
            if changed {
                catalog.put(table);
            }
            Ok(())
        })?;
        self.refresh();
        Ok(())
    }

    /// Adds the change whose rows stand in the builders.
    fn push(
        &mut self,
        id: TableId,
        op: RawOp,
        before: Option<RowFacts>,
        after: Option<RowFacts>,
        time: Option<i64>,
    ) -> Result<(), Reason> {
        let start = self.chunk.bytes.len();
        self.open(id);
        let done = self.push_parts(id, op, before, after, time);
        if done.is_err() {
            self.chunk.bytes.truncate(start);
        }
        done
    }

    fn push_parts(
        &mut self,
        id: TableId,
        op: RawOp,
        before: Option<RowFacts>,
        after: Option<RowFacts>,
        time: Option<i64>,
    ) -> Result<(), Reason> {
        let Some(table) = &self.tables[id.0 as usize] else {
            return invalid("the table's decoder is gone");
        };
        let out = &mut self.chunk.bytes;
        let mut change = Pending {
            table: id,
            op,
            key: 0..0,
            old_key: None,
            before: None,
            after: None,
            time,
        };
        let name = &table.name;
        match (op, &before, &after) {
            (RawOp::Truncate, None, None) => {
                self.chunk.changes.push(change);
                return Ok(());
            }
            (RawOp::Truncate, ..) => {
                return invalid(format!("a truncate of table {name} has no rows"));
            }
            (RawOp::Delete, None, None) => {
                return invalid(format!(
                    "a delete in table {name} needs the row's key in `before`"
                ));
            }
            (RawOp::Insert, Some(_), _) => {
                return invalid(format!(
                    "an insert into table {name} has no `before`: call it an update or leave it out"
                ));
            }
            (RawOp::Insert | RawOp::Update | RawOp::Upsert | RawOp::Read, _, None) => {
                return invalid(format!("{} table {name} needs `after`", article(op)));
            }
            _ => {}
        }
        let max = self.max;
        if let Some(facts) = &before {
            change.key = table.key(&self.before, facts, "before", max.key_bytes, out)?;
            // A replica identity of the key alone gives no row, only its key: the mirror has the rest.
            if facts.has_values {
                table.complete(facts)?;
                change.before = Some(table.row(&self.before, max.row_bytes, out)?);
            }
        }
        if let Some(facts) = &after {
            let key = table.key(&self.after, facts, "after", max.key_bytes, out)?;
            if before.is_none() {
                change.key = key;
            } else if out[change.key.clone()] == out[key.clone()] {
                out.truncate(key.start);
            } else if op == RawOp::Delete {
                return invalid(format!(
                    "a delete in table {name} has one key in `before` and another in `after`"
                ));
            } else {
                change.old_key = Some(std::mem::replace(&mut change.key, key));
            }
            if op != RawOp::Delete {
                table.complete(facts)?;
                change.after = Some(table.row(&self.after, max.row_bytes, out)?);
            }
        }
        self.chunk.changes.push(change);
        Ok(())
    }
}

fn article(op: RawOp) -> &'static str {
    match op {
        RawOp::Insert => "an insert into",
        RawOp::Update => "an update of",
        RawOp::Upsert => "an upsert into",
        RawOp::Read => "a snapshot row of",
        RawOp::Delete => "a delete in",
        RawOp::Truncate => "a truncate of",
    }
}

/// What is said of a line that is longer than the limit.
pub(crate) fn too_long(bytes: u64, max: usize) -> Reason {
    Reason::Malformed(format!(
        "the line has {bytes} bytes, and limits.line_bytes_max is {max}"
    ))
}

fn not_utf8(error: &std::str::Utf8Error) -> Reason {
    Reason::Malformed(format!(
        "invalid UTF-8 at byte {} of the line",
        error.valid_up_to()
    ))
}

fn not_json(error: &serde_json::Error) -> Reason {
    use serde_json::error::Category;
    let message = bare_message(error);
    match error.classify() {
        Category::Data => {
            Reason::Invalid(format!("byte {} of the line: {message}", error.column()))
        }
        Category::Io | Category::Syntax | Category::Eof => Reason::Malformed(format!(
            "malformed JSON at byte {} of the line: {message}",
            error.column()
        )),
    }
}

/// The message without the place that `serde_json` appends, since its line is always 1.
fn bare_message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// The value after the first `"table":`, if it is plain text. Only a guess: the key could be a column's.
fn hinted_table<'a>(finder: &memmem::Finder<'_>, text: &'a str) -> Option<&'a str> {
    let at = finder.find(text.as_bytes())?;
    let rest = text[at + 7..].trim_ascii_start();
    let rest = rest
        .strip_prefix(':')?
        .trim_ascii_start()
        .strip_prefix('"')?;
    let end = memchr::memchr2(b'"', b'\\', rest.as_bytes())?;
    Some(&rest[..end])
}

/// Reads a value that a person wrote, in the form that CSV has.
///
/// # Errors
/// Why the text is no value of that type.
pub(crate) fn value_from_text(
    text: &str,
    ty: Option<rulemill_wire::ColumnType>,
) -> Result<rulemill_wire::Value, String> {
    value::csv(text, true, ty, &mut Scratch::default()).map(rulemill_wire::ValueRef::to_owned)
}

/// Text that was borrowed from the line where it has no escapes.
type Text<'a> = Cow<'a, str>;

#[cfg(test)]
mod tests;
