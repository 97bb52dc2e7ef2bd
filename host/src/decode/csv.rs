//! CSV as [RFC 4180](https://www.rfc-editor.org/rfc/rfc4180) has it: a header, then an upsert a record.
//!
//! An empty field is null, but in a text column that can't be null it is the empty text.

use rulemill_wire::{ColumnType, ValueRef};

use crate::change::RawOp;

use super::{
    Decoder, Dialect, KnownColumn, Pending, Reason, intern,
    value::{Target, from_text},
};

/// A file's column names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    names: Vec<String>,
}

impl Header {
    /// Reads a header record.
    ///
    /// # Errors
    /// If it is no CSV, a name is empty or stands twice.
    pub fn parse(record: &[u8]) -> Result<Self, Reason> {
        let record = record.strip_prefix(b"\xef\xbb\xbf").unwrap_or(record);
        let mut fields = Fields::default();
        fields.split(record)?;
        let mut names: Vec<String> = Vec::new();
        for name in fields.iter() {
            let name = name?.trim().to_owned();
            if name.is_empty() {
                return Err(Reason::malformed("the header has a column without a name"));
            }
            if names.contains(&name) {
                return Err(Reason::malformed(format!(
                    "the header has column {name} twice"
                )));
            }
            names.push(name);
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

/// Where the first record ends (behind its line's end), if it ends in these bytes. A line's end in quotes is
/// part of the field.
pub fn record_end(bytes: &[u8]) -> Option<usize> {
    let mut quoted = false;
    for place in memchr::memchr2_iter(b'"', b'\n', bytes) {
        if bytes[place] == b'"' {
            quoted = !quoted;
        } else if !quoted {
            return Some(place + 1);
        }
    }
    None
}

/// A record's fields, unquoted, one behind the other.
#[derive(Default)]
struct Fields {
    text: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
}

impl Fields {
    fn split(&mut self, record: &[u8]) -> Result<(), Reason> {
        self.text.resize(record.len() + 1, 0);
        self.ends.resize(record.len() + 2, 0);
        let mut reader = csv_core::Reader::new();
        let (result, _, _, count) = reader.read_record(record, &mut self.text, &mut self.ends);
        let mut count = count;
        if result == csv_core::ReadRecordResult::InputEmpty {
            // The end of input ends the record.
            let (_, _, _, more) =
                reader.read_record(&[], &mut self.text[record.len()..], &mut self.ends[count..]);
            count += more;
        }
        if count == 0 {
            return Err(Reason::malformed("the record can't be read as CSV"));
        }
        self.count = count;
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = Result<&str, Reason>> {
        let mut start = 0;
        self.ends[..self.count].iter().map(move |&end| {
            let field = &self.text[start..end];
            start = end;
            std::str::from_utf8(field).map_err(|error| {
                Reason::malformed(format!(
                    "not UTF-8 at byte {} of a field",
                    error.valid_up_to()
                ))
            })
        })
    }
}

impl Decoder {
    pub(super) fn csv(
        &mut self,
        table: &str,
        header: &Header,
        record: &[u8],
    ) -> Result<(), Reason> {
        let record = record.strip_suffix(b"\n").unwrap_or(record);
        let record = record.strip_suffix(b"\r").unwrap_or(record);
        if record.is_empty() {
            return Ok(());
        }
        if record.len() > self.limits.line_bytes_max {
            return Err(Reason::unfit(format!(
                "the record has {} bytes, more than limits.line_bytes_max = {}",
                record.len(),
                self.limits.line_bytes_max
            )));
        }
        let table = self.table(table)?;
        let mut fields = Fields::default();
        fields.split(record)?;
        if fields.count != header.names.len() {
            return Err(Reason::malformed(format!(
                "table {}: the record has {} fields, the header {}",
                table.name,
                fields.count,
                header.names.len()
            )));
        }
        self.builder.clear();
        for (name, field) in header.names.iter().zip(fields.iter()) {
            let field = field?;
            let column = match self.order(&table).iter().find(|known| known.name == *name) {
                Some(known) => known.clone(),
                None => {
                    let known = intern(&self.catalog, &table, name, self.limits.table_columns_max)?;
                    self.order(&table).push(known.clone());
                    known
                }
            };
            self.csv_field(&table.name, &column, field)?;
        }
        let key = self.finish_key(&table)?;
        let after = self.finish_row(&table)?;
        self.push(Pending {
            table: table.id,
            op: RawOp::Upsert,
            key,
            old_key: None,
            before: None,
            after: Some(after),
            time: None,
        });
        Ok(())
    }

    fn csv_field(&mut self, table: &str, column: &KnownColumn, field: &str) -> Result<(), Reason> {
        let ty = column.ty.unwrap_or(ColumnType::Text);
        if field.is_empty() {
            if column.nullable {
                self.builder.set(column.id, ValueRef::Null);
                return Ok(());
            }
            if ty != ColumnType::Text {
                return Err(Reason::unfit(format!(
                    "table {table}: column {} is empty, and can't be null",
                    column.name
                )));
            }
        }
        let text = if ty == ColumnType::Text {
            field
        } else {
            field.trim()
        };
        from_text(ty, text, column.id, &mut self.builder).ok_or_else(|| {
            Target {
                table,
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
