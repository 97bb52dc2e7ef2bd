//! Bytes of input to changes.
//!
//! Owns the forms that input can have (`rulemill` and Debezium JSON, CSV), the conversion of their values to
//! the columns' types, and the reasons it gives when it can't. It never opens a file, numbers a change
//! or looks at a row that is stored. One line that can't be taken is refused with a [`Reason`] and
//! leaves nothing behind; the next one can go on. Columns that a table doesn't have yet are added to its dictionary
//! once the whole line is known to be good; then the line is read again.
//!
//! Rows are written one behind the other into a buffer which the changes of a chunk share, so that a
//! change costs no allocation.

mod connect;
mod csv;
mod json;
mod row;
mod scan;
mod text;
mod value;

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use memchr::memmem::Finder;
use rulemill_wire::{ColumnType, ValueRef, key};
use serde::{Deserialize, Serialize};

use crate::{
    catalog::{Catalog, SharedCatalog, TableId},
    change::{RawChange, RawOp},
    limits::Limits,
    row::{ColumnId, RowBuilder},
};

use row::{Held, Known};

pub use csv::{Header, Split, Splitter};

/// The form of a source's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `{"table":..,"op":..,"before":..,"after":..,"ts":..}`.
    Rulemill,
    /// Debezium's envelope, bare or under `payload`.
    Debezium,
    /// A header row, then a row a line.
    Csv,
}

/// Why input can't be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Whether it isn't even JSON or CSV (else it doesn't fit the tables).
    pub malformed: bool,
    /// What is wrong, and how to mend it.
    pub text: String,
}

impl Reason {
    fn malformed(text: impl Into<String>) -> Self {
        Self {
            malformed: true,
            text: text.into(),
        }
    }

    fn unfit(text: impl Into<String>) -> Self {
        Self {
            malformed: false,
            text: text.into(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What text in UTF-8 may begin with, and which is no part of it.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The first line of a body that can't be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Which, from 1.
    pub line: u64,
    /// The offset of its first byte.
    pub offset_bytes: u64,
    /// Why.
    pub reason: Reason,
}

/// Decodes a whole body of JSON lines, or none of it.
///
/// # Errors
/// The first line that can't be taken.
pub fn decode_ndjson(
    body: &[u8],
    catalog: &Arc<SharedCatalog>,
    limits: &Limits,
) -> Result<Vec<RawChange>, BadLine> {
    let mut decoder = Decoder::new(catalog.clone(), limits);
    let mut offset = 0;
    // Some editors and shells begin a file with this.
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    for (number, line) in body.split(|&byte| byte == b'\n').enumerate() {
        let taken = if decoder.len() >= limits.transaction_changes_max {
            Err(Reason::unfit(format!(
                "the request has more changes than limits.transaction_changes_max = {}: send it in several",
                limits.transaction_changes_max
            )))
        } else {
            decoder.json_line(line, None)
        };
        taken.map_err(|reason| BadLine {
            line: number as u64 + 1,
            offset_bytes: offset,
            reason,
        })?;
        offset += line.len() as u64 + 1;
    }
    Ok(decoder.take())
}

/// Turns lines into changes.
pub struct Decoder {
    catalog: Arc<SharedCatalog>,
    limits: DecodeLimits,
    /// The catalog that `tables` are of.
    catalog_now: Arc<Catalog>,
    /// The tables that input has named.
    tables: Vec<Known>,
    /// By table number: its place in `tables`.
    places: Vec<Option<usize>>,
    /// The place of the last line's table.
    last_table: usize,
    last_dialect: Dialect,
    builder: RowBuilder,
    buffer: Vec<u8>,
    pending: Vec<Pending>,
    /// Where the rows of the line at hand begin in `buffer`.
    line_start: usize,
    learnt: Learnt,
    /// The Connect schema of the last line that had one, and what it says.
    connect: connect::Schemas,
    find_table: Finder<'static>,
}

/// What the line at hand says of its table that the catalog doesn't.
#[derive(Debug, Default)]
struct Learnt {
    columns: Vec<String>,
    /// Types of key columns that had none.
    key_types: Vec<(ColumnId, ColumnType)>,
}

impl Learnt {
    fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.key_types.is_empty()
    }

    fn clear(&mut self) {
        self.columns.clear();
        self.key_types.clear();
    }
}

#[derive(Debug, Clone, Copy)]
struct DecodeLimits {
    line_bytes_max: usize,
    key_bytes_max: usize,
    row_bytes_max: usize,
    table_columns_max: usize,
}

/// A change whose rows are ranges of the buffer.
struct Pending {
    table: TableId,
    op: RawOp,
    key: Range<usize>,
    old_key: Option<Range<usize>>,
    before: Option<Range<usize>>,
    after: Option<Range<usize>>,
    lacks: bool,
    time: Option<i64>,
}

/// Which form's habits a value has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Rulemill,
    Debezium,
}

impl Decoder {
    /// A decoder for the tables of this catalog.
    pub fn new(catalog: Arc<SharedCatalog>, limits: &Limits) -> Self {
        Self {
            catalog_now: catalog.load(),
            catalog,
            limits: DecodeLimits {
                line_bytes_max: limits.line_bytes_max,
                key_bytes_max: limits.key_bytes_max,
                row_bytes_max: limits.row_bytes_max,
                table_columns_max: limits.table_columns_max,
            },
            tables: Vec::new(),
            places: Vec::new(),
            last_table: 0,
            last_dialect: Dialect::Debezium,
            builder: RowBuilder::default(),
            buffer: Vec::new(),
            pending: Vec::new(),
            line_start: 0,
            learnt: Learnt::default(),
            connect: connect::Schemas::default(),
            find_table: Finder::new(json::TABLE),
        }
    }

    /// Changes decoded since the last [`take`](Self::take).
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Bytes of their rows.
    pub fn len_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Decodes a JSON line of either form; `format` none: told by its content. An empty line and a
    /// tombstone (`null`) are no change.
    ///
    /// # Errors
    /// Why the line can't be taken; then nothing of it is.
    pub fn json_line(&mut self, line: &[u8], format: Option<Format>) -> Result<(), Reason> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(());
        }
        if line.len() > self.limits.line_bytes_max {
            return Err(Reason::unfit(format!(
                "the line has {} bytes, more than limits.line_bytes_max = {}",
                line.len(),
                self.limits.line_bytes_max
            )));
        }
        let text = std::str::from_utf8(line).map_err(|error| {
            Reason::malformed(format!(
                "not UTF-8 at byte {} of the line",
                error.valid_up_to()
            ))
        })?;
        self.attempt(|decoder| decoder.json(text, format))
    }

    /// Decodes a CSV record, which `splitter` has split, into an upsert of `table`.
    ///
    /// # Errors
    /// Why the record can't be taken; then nothing of it is.
    pub fn csv_record(
        &mut self,
        table: &str,
        header: &Header,
        record: &[u8],
        splitter: &Splitter,
    ) -> Result<(), Reason> {
        self.attempt(|decoder| decoder.csv(table, header, record, splitter))
    }

    /// Takes a line whole or not at all; again, if it has columns that its table gets now.
    #[inline]
    fn attempt(&mut self, read: impl Fn(&mut Self) -> Result<(), Reason>) -> Result<(), Reason> {
        let changes = self.pending.len();
        loop {
            self.refresh();
            self.line_start = self.buffer.len();
            self.learnt.clear();
            let result = read(self);
            if result.is_ok() && self.learnt.is_empty() {
                return result;
            }
            let table = self.pending.get(changes).map(|pending| pending.table);
            self.buffer.truncate(self.line_start);
            self.pending.truncate(changes);
            result?;
            // Each time round the table has columns or types that it hadn't, so this ends.
            if let Some(table) = table {
                self.learn(table)?;
            }
        }
    }

    /// Tells the catalog what the line says of its table.
    #[cold]
    fn learn(&mut self, table: TableId) -> Result<(), Reason> {
        if !self.learnt.columns.is_empty() {
            let names: Vec<&str> = self.learnt.columns.iter().map(String::as_str).collect();
            self.catalog
                .intern_columns(table, &names, self.limits.table_columns_max)
                .map_err(|error| Reason::unfit(error.to_string()))?;
        }
        for &(column, ty) in &self.learnt.key_types {
            self.catalog.set_type(table, column, ty);
        }
        Ok(())
    }

    /// Forgets the rows that the line at hand has left so far.
    fn forget_rows(&mut self) {
        self.buffer.truncate(self.line_start);
        self.learnt.clear();
    }

    /// The changes decoded since the last call, in order.
    pub fn take(&mut self) -> Vec<RawChange> {
        let capacity = self.buffer.len();
        let buffer = std::mem::replace(&mut self.buffer, Vec::with_capacity(capacity));
        let buffer = Bytes::from(buffer);
        let slice = |range: Range<usize>| buffer.slice(range);
        self.pending
            .drain(..)
            .map(|pending| RawChange {
                table: pending.table,
                op: pending.op,
                key: slice(pending.key),
                old_key: pending.old_key.map(slice),
                before: pending.before.map(slice),
                after: pending.after.map(slice),
                lacks: pending.lacks,
                time: pending.time,
            })
            .collect()
    }

    /// Forgets the tables if the catalog has changed.
    #[inline]
    fn refresh(&mut self) {
        if self.catalog.version() != self.catalog_now.version {
            self.catalog_now = self.catalog.load();
            self.tables.clear();
            self.places.clear();
        }
    }

    /// The place of the table with this name.
    #[inline]
    fn table(&mut self, name: &str) -> Result<usize, Reason> {
        match self.tables.get(self.last_table) {
            Some(known) if known.table.name == name => Ok(self.last_table),
            _ => self.other_table(name),
        }
    }

    fn other_table(&mut self, name: &str) -> Result<usize, Reason> {
        let Some(table) = self.catalog_now.by_name(name) else {
            return Err(Reason::unfit(format!(
                "unknown table {}: no plugin reads it and no [[table]] names it",
                value::shown(name)
            )));
        };
        if table.is_derived() {
            return Err(Reason::unfit(format!(
                "table {name} belongs to a plugin's rules: no source can write it"
            )));
        }
        if table.key.is_empty() {
            return Err(Reason::unfit(format!(
                "table {name} has no key yet: no plugin that reads it is loaded, and [[table]] names none (key = [..])"
            )));
        }
        let number = table.id.0 as usize;
        if self.places.len() <= number {
            self.places.resize(number + 1, None);
        }
        let place = *self.places[number].get_or_insert_with(|| {
            self.tables.push(Known::new(table.clone()));
            self.tables.len() - 1
        });
        self.last_table = place;
        Ok(place)
    }

    /// Puts the builder's row into the buffer if it is whole.
    #[inline]
    fn whole_row(&mut self, table: usize, held: Held) -> Result<Range<usize>, Reason> {
        let known = &self.tables[table];
        if let Some(column) = known.lack(&self.builder) {
            return Err(known.lacks(column, held.columns));
        }
        let range = self.builder.finish(&mut self.buffer);
        if range.len() > self.limits.row_bytes_max {
            return Err(Reason::unfit(format!(
                "a row of table {} has {} bytes, more than limits.row_bytes_max = {}",
                known.table.name,
                range.len(),
                self.limits.row_bytes_max
            )));
        }
        Ok(range)
    }

    /// Puts the key of the builder's row into the buffer.
    #[inline]
    fn finish_key(&mut self, table: usize) -> Result<Range<usize>, Reason> {
        let start = self.buffer.len();
        let table = &*self.tables[table].table;
        for (id, column) in table.key_columns() {
            match self.builder.get(id) {
                Ok(ValueRef::Null) | Err(_) => {
                    return Err(Reason::unfit(format!(
                        "table {}: the key column {} is missing or null",
                        table.name, column.name
                    )));
                }
                Ok(value @ (ValueRef::F64(_) | ValueRef::Json(_))) => {
                    return Err(Reason::unfit(format!(
                        "table {}: the key column {} holds {}, which can't be a key",
                        table.name,
                        column.name,
                        value::shown(&format!("{value:?}"))
                    )));
                }
                Ok(value) => {
                    if column.ty.is_none()
                        && let Some(ty) = value.column_type()
                    {
                        let learnt = &mut self.learnt.key_types;
                        match learnt.iter().find(|(known, _)| *known == id) {
                            None => learnt.push((id, ty)),
                            Some((_, first)) if *first == ty => {}
                            Some((_, first)) => {
                                return Err(Reason::unfit(format!(
                                    "table {}: the key column {} is {first} before and {ty} after",
                                    table.name, column.name
                                )));
                            }
                        }
                    }
                    key::write(value, &mut self.buffer);
                }
            }
        }
        let range = start..self.buffer.len();
        if range.len() > self.limits.key_bytes_max {
            return Err(Reason::unfit(format!(
                "a key of table {} has {} bytes, more than limits.key_bytes_max = {}",
                table.name,
                range.len(),
                self.limits.key_bytes_max
            )));
        }
        Ok(range)
    }
}

/// Puts a value that is given as text into column 0 of a row; `None` if it is none of this type.
pub(crate) fn value_from_text(ty: ColumnType, text: &str, builder: &mut RowBuilder) -> Option<()> {
    value::from_text(ty, text, 0, builder)
}

#[cfg(test)]
mod tests;
