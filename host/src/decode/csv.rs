//! CSV as [RFC 4180](https://www.rfc-editor.org/rfc/rfc4180) has it: a header, then an upsert a record.
//!
//! A quote opens a field only at the field's start; elsewhere it is a character like others. Where a record ends and
//! where its fields do is found in one pass, so the two can't disagree. What goes wrong with quotes ends the record at
//! the end of its first line: the lines behind it are read for themselves.
//!
//! An empty field is null, but in a text column that can't be null it is the empty text.

use std::{borrow::Cow, ops::Range};

use rulemill_wire::{ColumnType, ValueRef};

use crate::{change::RawOp, row::ColumnId};

use super::{
    Decoder, Dialect, Pending, Reason,
    row::Held,
    value::{Target, from_text},
};

/// A file's column names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    names: Vec<String>,
}

impl Header {
    /// Reads a header record, which `splitter` has split.
    ///
    /// # Errors
    /// If it is no text, a name is empty or stands twice.
    pub fn parse(record: &[u8], splitter: &Splitter) -> Result<Self, Reason> {
        let record = utf8(record)?;
        let mut names: Vec<String> = Vec::new();
        for field in &splitter.fields {
            let name = field.text(record);
            let name = name.trim();
            if name.is_empty() {
                return Err(Reason::malformed(format!(
                    "the header has no name for column {}",
                    names.len() + 1
                )));
            }
            if names.iter().any(|other| other == name) {
                return Err(Reason::malformed(format!(
                    "the header has column {name} twice"
                )));
            }
            names.push(name.to_owned());
        }
        Ok(Self { names })
    }

    /// The names in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// A header of these names.
    pub fn from_names(names: Vec<String>) -> Self {
        Self { names }
    }
}

/// What stands at the front of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Split {
    /// A record.
    Record {
        /// Its bytes, with its line's end.
        len: usize,
        /// The line ends among them.
        lines: u64,
    },
    /// The beginning of a record.
    Incomplete,
    /// A line with quotes that can't be told apart.
    Bad {
        /// What is wrong.
        reason: Reason,
        /// The line's bytes, with its end if that is there.
        len: usize,
    },
}

/// Finds records and their fields. Kept and used again, it allocates nothing.
#[derive(Debug, Default)]
pub struct Splitter {
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    /// Its place in the record, without its quotes.
    place: Range<usize>,
    /// Whether quotes in it are doubled.
    doubled: bool,
}

impl Field {
    fn text<'r>(&self, record: &'r str) -> Cow<'r, str> {
        let text = &record[self.place.clone()];
        if self.doubled {
            text.replace("\"\"", "\"").into()
        } else {
            text.into()
        }
    }
}

impl Splitter {
    /// Splits the record at the front of the bytes; `last`: their end ends it.
    pub fn split(&mut self, bytes: &[u8], last: bool) -> Split {
        self.fields.clear();
        let mut lines = 1;
        let mut at = 0;
        loop {
            if bytes.get(at) == Some(&b'"') {
                let Some((doubled, end)) = quoted_end(&bytes[at + 1..]) else {
                    if !last {
                        return Split::Incomplete;
                    }
                    return bad(
                        bytes,
                        self.fields.len() + 1,
                        "opens a quote that nothing closes",
                    );
                };
                let place = at + 1..at + 1 + end;
                at = place.end + 1;
                lines += memchr::memchr_iter(b'\n', &bytes[place.clone()]).count() as u64;
                self.fields.push(Field { place, doubled });
                match &bytes[at..] {
                    [b',', ..] => at += 1,
                    [b'\n', ..] => return Split::Record { len: at + 1, lines },
                    [b'\r', b'\n', ..] => return Split::Record { len: at + 2, lines },
                    [] | [b'\r'] if last => {
                        return Split::Record {
                            len: bytes.len(),
                            lines: lines - 1,
                        };
                    }
                    [] | [b'\r'] => return Split::Incomplete,
                    _ => {
                        let field = self.fields.len();
                        return bad(bytes, field, "has text behind its closing quote");
                    }
                }
            } else {
                let len = memchr::memchr2(b',', b'\n', &bytes[at..]);
                let end = match len {
                    Some(len) => at + len,
                    None if last => bytes.len(),
                    None => return Split::Incomplete,
                };
                let comma = bytes.get(end) == Some(&b',');
                // The carriage return belongs to the line's end.
                let cut = !comma && end > at && bytes[end - 1] == b'\r';
                self.fields.push(Field {
                    place: at..end - usize::from(cut),
                    doubled: false,
                });
                if !comma {
                    let ended = end < bytes.len();
                    return Split::Record {
                        len: end + usize::from(ended),
                        lines: lines - u64::from(!ended),
                    };
                }
                at = end + 1;
            }
        }
    }

    /// The first line of a record that goes on for more bytes than any may have.
    pub fn unclosed(&self, bytes: &[u8], bytes_max: usize) -> Split {
        let what = format!(
            "opens a quote that nothing closes in limits.line_bytes_max = {bytes_max} bytes"
        );
        let line = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
        let before = self
            .fields
            .iter()
            .take_while(|field| field.place.end <= line);
        bad(bytes, before.count() + 1, &what)
    }

    /// The fields of the record that was split last.
    #[cfg(test)]
    pub(super) fn texts(&self, record: &[u8]) -> Vec<String> {
        let record = std::str::from_utf8(record).unwrap();
        self.fields
            .iter()
            .map(|field| field.text(record).into_owned())
            .collect()
    }

    /// Whether the record is an empty line.
    fn is_blank(&self) -> bool {
        matches!(&self.fields[..], [only] if only.place.is_empty())
    }
}

/// A first line that can't be taken: it ends where the next begins.
#[cold]
fn bad(bytes: &[u8], field: usize, what: &str) -> Split {
    Split::Bad {
        reason: Reason::malformed(format!("field {field} {what}")),
        len: memchr::memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1),
    }
}

/// Where the quote is that closes a field, and whether there are doubled ones before it.
fn quoted_end(bytes: &[u8]) -> Option<(bool, usize)> {
    let mut doubled = false;
    let mut from = 0;
    loop {
        let quote = from + memchr::memchr(b'"', &bytes[from..])?;
        if bytes.get(quote + 1) != Some(&b'"') {
            return Some((doubled, quote));
        }
        doubled = true;
        from = quote + 2;
    }
}

fn utf8(record: &[u8]) -> Result<&str, Reason> {
    std::str::from_utf8(record).map_err(|error| {
        Reason::malformed(format!(
            "not UTF-8 at byte {} of the record",
            error.valid_up_to()
        ))
    })
}

impl Decoder {
    /// Whether a file with this header can be taken as rows of a table: the table is known, its key and the
    /// columns that can't be null are there, and the key's types are known.
    ///
    /// # Errors
    /// Why it can't.
    pub fn csv_fits(&mut self, table: &str, header: &Header) -> Result<(), Reason> {
        self.refresh();
        let place = self.table(table)?;
        let known = &self.tables[place];
        let key = known.table.key.iter();
        for &id in key.chain(&known.required) {
            let column = &known.table.columns[usize::from(id)];
            if !header.names.contains(&column.name) {
                let what = match known.table.key.contains(&id) {
                    true => "which is of the key",
                    false => "which can't be null",
                };
                return Err(Reason::unfit(format!(
                    "table {table}: the header has no column {}, {what}",
                    column.name
                )));
            }
            if column.ty.is_none() {
                // Text would fit everything, and then nothing but text would fit.
                return Err(Reason::unfit(format!(
                    "table {table}: the key column {name} has no type, and CSV can't tell one: load a plugin that reads it, or \
                     give [[table]] columns = {{ {name} = \"i64\" }}",
                    name = column.name
                )));
            }
        }
        Ok(())
    }

    pub(super) fn csv(
        &mut self,
        table: &str,
        header: &Header,
        record: &[u8],
        splitter: &Splitter,
    ) -> Result<(), Reason> {
        if splitter.is_blank() {
            return Ok(());
        }
        if record.len() > self.limits.line_bytes_max {
            return Err(Reason::unfit(format!(
                "the record has {} bytes, more than limits.line_bytes_max = {}",
                record.len(),
                self.limits.line_bytes_max
            )));
        }
        let record = utf8(record)?;
        let place = self.table(table)?;
        if splitter.fields.len() != header.names.len() {
            return Err(Reason::malformed(format!(
                "table {table}: the record has {} fields, the header {}",
                splitter.fields.len(),
                header.names.len()
            )));
        }
        self.builder.clear();
        let mut held = Held::default();
        for (name, field) in header.names.iter().zip(&splitter.fields) {
            let text = field.text(record);
            match self.tables[place].place(name, held.columns)? {
                Some(column) => {
                    held.columns += 1;
                    self.csv_field(place, column, &text)?;
                }
                None => {
                    // The number that it gets, so that the row is as long as it will be.
                    let number = self.tables[place].table.columns.len() + self.learnt.columns.len();
                    if !text.is_empty() {
                        let number = ColumnId::try_from(number).unwrap_or(ColumnId::MAX);
                        self.builder.set(number, ValueRef::Text(&text));
                    }
                    self.learnt.columns.push(name.clone());
                }
            }
        }
        let key = self.finish_key(place)?;
        let after = self.whole_row(place, held)?;
        let lacks = self.tables[place].lacks_declared(&self.builder, held.columns);
        self.pending.push(Pending {
            table: self.tables[place].table.id,
            op: RawOp::Upsert,
            key,
            old_key: None,
            before: None,
            after: Some(after),
            lacks,
            time: None,
        });
        Ok(())
    }

    fn csv_field(&mut self, table: usize, column: usize, field: &str) -> Result<(), Reason> {
        let known = &self.tables[table];
        let column = &known.order[column];
        let ty = column.ty.unwrap_or(ColumnType::Text);
        if field.is_empty() {
            if column.nullable {
                return Ok(());
            }
            if ty != ColumnType::Text {
                return Err(Reason::unfit(format!(
                    "table {}: column {} is empty, and can't be null",
                    known.table.name, column.name
                )));
            }
        }
        // Spreadsheets and fixed-width exports pad numbers.
        let text = match ty {
            ColumnType::Text => field,
            _ => field.trim_ascii(),
        };
        // Spaces alone are no value: null, or bytes of which there are none, would be a guess.
        let is_blank = text.is_empty() && !field.is_empty();
        let taken = (!is_blank)
            .then(|| from_text(ty, text, column.id, &mut self.builder))
            .flatten();
        taken.ok_or_else(|| {
            Target {
                table: &known.table.name,
                column: &column.name,
                id: column.id,
                ty: column.ty,
                dialect: Dialect::Rulemill,
                logical: None,
            }
            .wrong(&format!("{field:?}"), ty.name())
        })
    }
}
