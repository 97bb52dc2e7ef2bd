//! Bytes of input to changes.
//!
//! Owns the forms that input can have (`rulemill` and Debezium JSON, CSV), the conversion of their values to
//! the columns' types, and the reasons it gives when it can't. It never opens a file, numbers a change
//! or looks at a row that is stored. One line that can't be taken is refused with a [`Reason`] and
//! leaves nothing behind; the next one can go on.
//!
//! Rows are written one behind the other into a buffer which the changes of a chunk share, so that a
//! change costs no allocation.

mod connect;
mod csv;
mod json;
mod value;

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use rulemill_wire::{ColumnType, ValueRef, key};

use crate::{
    catalog::{Catalog, SharedCatalog, Table, TableId},
    change::{RawChange, RawOp},
    config::Format,
    limits::Limits,
    row::{ColumnId, RowBuilder},
};

pub use csv::{Header, record_end};

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
    /// The catalog that `columns` are of.
    known: Arc<Catalog>,
    /// By table number: the columns in the order in which the last row had them.
    orders: Vec<Vec<KnownColumn>>,
    builder: RowBuilder,
    buffer: Vec<u8>,
    pending: Vec<Pending>,
    /// The Connect schema of the last line that had one, and what it says.
    connect: connect::Schemas,
}

#[derive(Debug, Clone, Copy)]
struct DecodeLimits {
    line_bytes_max: usize,
    key_bytes_max: usize,
    row_bytes_max: usize,
    table_columns_max: usize,
}

/// A column as a row's decoder knows it.
#[derive(Debug, Clone)]
struct KnownColumn {
    name: String,
    id: ColumnId,
    ty: Option<ColumnType>,
    nullable: bool,
}

/// A change whose rows are ranges of the buffer.
struct Pending {
    table: TableId,
    op: RawOp,
    key: Range<usize>,
    old_key: Option<Range<usize>>,
    before: Option<Range<usize>>,
    after: Option<Range<usize>>,
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
            known: catalog.load(),
            catalog,
            limits: DecodeLimits {
                line_bytes_max: limits.line_bytes_max,
                key_bytes_max: limits.key_bytes_max,
                row_bytes_max: limits.row_bytes_max,
                table_columns_max: limits.table_columns_max,
            },
            orders: Vec::new(),
            builder: RowBuilder::default(),
            buffer: Vec::new(),
            pending: Vec::new(),
            connect: connect::Schemas::default(),
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
        let start = self.buffer.len();
        let changes = self.pending.len();
        let result = self.json(text, format);
        if result.is_err() {
            self.buffer.truncate(start);
            self.pending.truncate(changes);
        }
        result
    }

    /// Decodes a CSV record into an upsert of `table`.
    ///
    /// # Errors
    /// Why the record can't be taken; then nothing of it is.
    pub fn csv_record(
        &mut self,
        table: &str,
        header: &Header,
        record: &[u8],
    ) -> Result<(), Reason> {
        let start = self.buffer.len();
        let changes = self.pending.len();
        let result = self.csv(table, header, record);
        if result.is_err() {
            self.buffer.truncate(start);
            self.pending.truncate(changes);
        }
        result
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
                time: pending.time,
            })
            .collect()
    }

    /// The table with this name. Columns that were learnt under an older catalog are forgotten.
    fn table(&mut self, name: &str) -> Result<Arc<Table>, Reason> {
        if self.catalog.version() != self.known.version {
            self.known = self.catalog.load();
            self.orders.clear();
        }
        match self.known.by_name(name) {
            Some(table) if table.is_derived() => Err(Reason::unfit(format!(
                "table {name} belongs to a plugin's rules: no source can write it"
            ))),
            Some(table) => Ok(table.clone()),
            None => Err(Reason::unfit(format!(
                "unknown table {name}: no plugin reads it and no [[table]] names it"
            ))),
        }
    }

    fn order(&mut self, table: &Table) -> &mut Vec<KnownColumn> {
        let place = table.id.0 as usize;
        if self.orders.len() <= place {
            self.orders.resize_with(place + 1, Vec::new);
        }
        &mut self.orders[place]
    }

    /// Puts the builder's row into the buffer.
    fn finish_row(&mut self, table: &Table) -> Result<Range<usize>, Reason> {
        let range = self.builder.finish(&mut self.buffer);
        if range.len() > self.limits.row_bytes_max {
            return Err(Reason::unfit(format!(
                "a row of table {} has {} bytes, more than limits.row_bytes_max = {}",
                table.name,
                range.len(),
                self.limits.row_bytes_max
            )));
        }
        Ok(range)
    }

    /// Puts the key of the builder's row into the buffer.
    fn finish_key(&mut self, table: &Table) -> Result<Range<usize>, Reason> {
        let start = self.buffer.len();
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
                        "table {}: the key column {} holds {value:?}, which can't be a key",
                        table.name, column.name
                    )));
                }
                Ok(value) => {
                    if column.ty.is_none()
                        && let Some(ty) = value.column_type()
                    {
                        self.catalog.set_type(table.id, id, ty);
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

    fn push(&mut self, pending: Pending) {
        self.pending.push(pending);
    }
}

/// Puts a value that is given as text into column 0 of a row; `None` if it is none of this type.
pub(crate) fn value_from_text(ty: ColumnType, text: &str, builder: &mut RowBuilder) -> Option<()> {
    value::from_text(ty, text, 0, builder)
}

/// A column that a row has, in the dictionary: found or added.
fn intern(
    catalog: &SharedCatalog,
    table: &Table,
    name: &str,
    columns_max: usize,
) -> Result<KnownColumn, Reason> {
    if let Some((id, column)) = table.column(name) {
        return Ok(KnownColumn {
            name: name.to_owned(),
            id,
            ty: column.ty,
            nullable: column.nullable,
        });
    }
    let ids = catalog
        .intern_columns(table.id, &[name], columns_max)
        .map_err(|error| Reason::unfit(error.to_string()))?;
    Ok(KnownColumn {
        name: name.to_owned(),
        id: ids[0],
        ty: None,
        nullable: true,
    })
}

#[cfg(test)]
mod tests;
