//! CSV: records out of bytes, and records into the chunk.
//!
//! Quoting is that of RFC 4180; quoted fields may hold line ends. An empty field is null, a quoted
//! empty one is empty text: only `csv-core`'s field-by-field reading shows the difference.

use csv_core::ReadFieldResult;
use rulemill_wire::{ColumnType, ValueRef};

use super::{Decoder, Reason, invalid, not_utf8, too_long, value};
use crate::{catalog::TableId, change::RawOp, row::ColumnId};

/// Takes records from the front of bytes; kept and used again.
pub struct Record {
    reader: csv_core::Reader,
    text: Vec<u8>,
    /// End of each field in `text`, and whether it was quoted.
    fields: Vec<(usize, bool)>,
    line_ends: u64,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            reader: csv_core::Reader::new(),
            text: Vec::new(),
            fields: Vec::new(),
            line_ends: 0,
        }
    }
}

impl Record {
    /// Reads the first record of `input`, which begins at a record's begin, and gives the bytes it takes
    /// with its line end. `None` if the record doesn't end in `input`, unless that is `whole`: then the
    /// end of the input ends it. Gives 0 if there is nothing but line ends.
    pub fn read(&mut self, input: &[u8], whole: bool) -> Option<usize> {
        let mut at = input
            .iter()
            .take_while(|&&byte| matches!(byte, b'\r' | b'\n'))
            .count();
        self.text.clear();
        self.fields.clear();
        self.line_ends = 0;
        if at == input.len() {
            return whole.then_some(0);
        }
        self.reader.reset();
        let (mut len, mut quoted) = (0, input[at] == b'"');
        loop {
            if self.text.len() < len + 64 {
                self.text.resize((len + 64) * 2, 0);
            }
            let (result, read, written) =
                self.reader.read_field(&input[at..], &mut self.text[len..]);
            at += read;
            len += written;
            match result {
                // An empty input tells the reader that there is no more.
                ReadFieldResult::InputEmpty if whole => {}
                ReadFieldResult::InputEmpty => return None,
                ReadFieldResult::OutputFull => {
                    let room = self.text.len() * 2;
                    self.text.resize(room, 0);
                }
                ReadFieldResult::Field { record_end } => {
                    self.fields.push((len, quoted));
                    quoted = input.get(at) == Some(&b'"');
                    if record_end {
                        break;
                    }
                }
                ReadFieldResult::End => break,
            }
        }
        self.text.truncate(len);
        if input[..at].ends_with(b"\r") {
            match input.get(at) {
                Some(b'\n') => at += 1,
                Some(_) => {}
                None if whole => {}
                None => return None,
            }
        }
        self.line_ends = memchr::memchr_iter(b'\n', &input[..at]).count() as u64;
        Some(at)
    }

    /// Line ends in the record that was read last, with those before it.
    pub fn line_ends(&self) -> u64 {
        self.line_ends
    }

    /// The fields, each with whether it was quoted.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let mut start = 0;
        self.fields.iter().map(move |&(end, quoted)| {
            let field = &self.text[start..end];
            start = end;
            (field, quoted)
        })
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// The table of CSV input, with the columns that its header names.
#[derive(Debug, Clone)]
pub struct CsvTable {
    table: TableId,
    columns: Vec<ColumnId>,
}

impl Decoder {
    /// Holds a header against a table.
    ///
    /// # Errors
    /// If the table isn't known, or the header can't be one of it.
    pub fn csv_header(&mut self, table: &str, header: &Record) -> Result<CsvTable, Reason> {
        self.refresh();
        let id = self.source_table(table)?;
        let mut names: Vec<&str> = Vec::with_capacity(header.len());
        for (field, _) in header.fields() {
            let name = std::str::from_utf8(field)
                .map_err(|error| not_utf8(&error))?
                .trim();
            if name.is_empty() {
                return invalid(format!(
                    "column {} of the header of table {table} has no name",
                    names.len() + 1
                ));
            }
            if names.contains(&name) {
                return invalid(format!(
                    "the header of table {table} has column {name} twice"
                ));
            }
            names.push(name);
        }
        let key: Vec<String> = self
            .current
            .table(id)
            .key_columns()
            .map(|(_, column)| column.name.clone())
            .collect();
        if let Some(missing) = key.iter().find(|name| !names.contains(&name.as_str())) {
            return invalid(format!(
                "the header lacks {missing}, which is in the key of table {table}: it has {}",
                value::shown(&names.join(", "))
            ));
        }
        let known = self.current.table(id).clone();
        let new: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| known.column(name).is_none())
            .collect();
        self.intern(id, &new)?;
        if known.key_columns().any(|(_, column)| column.ty.is_none()) {
            self.settle_key_types(id, |_| Some(ColumnType::Text))?;
        }
        let known = self.current.table(id);
        let columns = names
            .iter()
            .filter_map(|name| known.column(name).map(|(id, _)| id))
            .collect();
        Ok(CsvTable { table: id, columns })
    }

    /// Decodes a record under its header into the chunk, as an upsert.
    ///
    /// # Errors
    /// Why the record can't be taken; the chunk is then as it was.
    pub fn csv_record(&mut self, table: &CsvTable, record: &Record) -> Result<(), Reason> {
        if record.is_empty() {
            return Ok(());
        }
        if record.text.len() > self.max.line_bytes {
            return Err(too_long(record.text.len() as u64, self.max.line_bytes));
        }
        if self.chunk.changes.is_empty() {
            self.refresh();
        }
        if record.len() != table.columns.len() {
            return invalid(format!(
                "table {}: the line has {} fields, and the header has {}",
                self.current.table(table.table).name,
                record.len(),
                table.columns.len()
            ));
        }
        self.open(table.table);
        let Some(decoder) = &mut self.tables[table.table.0 as usize] else {
            return invalid("the table's decoder is gone");
        };
        self.after.clear();
        decoder.begin();
        let mut filled = 0;
        for (&id, (field, quoted)) in table.columns.iter().zip(record.fields()) {
            let field = std::str::from_utf8(field).map_err(|error| {
                Reason::Malformed(decoder.wrong(
                    id,
                    format_args!("invalid UTF-8 at byte {} of the field", error.valid_up_to()),
                ))
            })?;
            let column = &decoder.columns[usize::from(id)];
            let value = value::csv(field, quoted, column.ty, &mut self.scratch)
                .map_err(|what| Reason::Invalid(decoder.wrong(id, what)))?;
            let has_value = !matches!(value, ValueRef::Null);
            filled += usize::from(has_value);
            self.after.set(id, value);
            decoder.meet(id, has_value);
        }
        let facts = decoder.end(filled);
        self.push(table.table, RawOp::Upsert, None, Some(facts), None)
    }
}
