//! Between the host's rows and the wire form that a plugin declared.
//!
//! Outwards a row is cut to the columns that the plugin names; a value whose stored type is another
//! (a source column that had no type when it was stored) is converted where that loses nothing.
//! Inwards every byte is checked: a guest's effects are not trusted.

use rulemill_wire::{
    ColumnType, DecodeError, Reader, ValueRef, key,
    manifest::{self, WHOLE_ROW},
};

use crate::{
    catalog::Table,
    convert::convert,
    render,
    row::{ColumnId, RowBuilder, RowError},
};

/// How one manifest table's rows are taken from, and put into, a table of the host.
#[derive(Debug, Clone)]
pub(super) struct Projection {
    columns: Vec<Column>,
    /// The columns stand in dictionary order, so a row can be walked once.
    ascending: bool,
}

#[derive(Debug, Clone)]
struct Column {
    /// `None` stands for the whole row.
    id: Option<ColumnId>,
    ty: ColumnType,
    nullable: bool,
}

impl Projection {
    /// The projection for `declared`, whose columns are all in the table's dictionary.
    ///
    /// # Errors
    /// With the first column that isn't.
    pub(super) fn new(declared: &manifest::Table, table: &Table) -> Result<Self, String> {
        let mut columns = Vec::with_capacity(declared.columns.len());
        for column in &declared.columns {
            let id = if column.name == WHOLE_ROW {
                None
            } else {
                let (id, _) = table
                    .column(&column.name)
                    .ok_or_else(|| column.name.clone())?;
                Some(id)
            };
            columns.push(Column {
                id,
                ty: column.ty,
                nullable: column.nullable,
            });
        }
        let ascending = columns.iter().all(|column| column.id.is_some())
            && columns.is_sorted_by(|a, b| a.id < b.id);
        Ok(Self { columns, ascending })
    }

    /// Appends the row's declared columns in wire form.
    ///
    /// # Errors
    /// If a value is null or of a type that the plugin didn't allow for; `out` then holds part of
    /// the row.
    pub(super) fn to_wire(
        &self,
        table: &Table,
        row: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        if self.ascending {
            let mut reader = Reader::new(row);
            let mut at: ColumnId = 0;
            for column in &self.columns {
                let id = column.id.unwrap_or_default();
                while at < id && !reader.is_empty() {
                    skip_tagged(&mut reader)?;
                    at += 1;
                }
                column.write_next(&mut reader, table, id, out)?;
                at += 1;
            }
            return Ok(());
        }
        for column in &self.columns {
            match column.id {
                Some(id) => {
                    let mut reader = Reader::new(row);
                    let mut at = 0;
                    while at < id && !reader.is_empty() {
                        skip_tagged(&mut reader)?;
                        at += 1;
                    }
                    column.write_next(&mut reader, table, id, out)?;
                }
                None => {
                    let text = render::row_to_json_text(table, row)?;
                    if column.nullable {
                        out.push(1);
                    }
                    ValueRef::Json(&text).write_payload(out);
                }
            }
        }
        Ok(())
    }

    /// Reads a row that a guest wrote and puts it into `builder`, checking every value.
    ///
    /// # Errors
    /// If the bytes are no row of the declared columns.
    pub(super) fn read_wire(
        &self,
        reader: &mut Reader<'_>,
        builder: &mut RowBuilder,
    ) -> Result<(), DecodeError> {
        builder.clear();
        for column in &self.columns {
            let value = column.read(reader)?;
            builder.set(column.id.unwrap_or_default(), value);
        }
        Ok(())
    }

    /// Reads the key columns of a row that a guest removes, and appends them in key form.
    ///
    /// # Errors
    /// If the bytes are no key.
    pub(super) fn read_wire_key(
        &self,
        key_places: &[u16],
        reader: &mut Reader<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        for &place in key_places {
            key::write(self.columns[usize::from(place)].read(reader)?, out);
        }
        Ok(())
    }
}

impl Column {
    fn read<'a>(&self, reader: &mut Reader<'a>) -> Result<ValueRef<'a>, DecodeError> {
        if self.nullable {
            match reader.u8()? {
                0 => return Ok(ValueRef::Null),
                1 => {}
                tag => return Err(DecodeError::BadTag(tag)),
            }
        }
        let value = ValueRef::read_payload(self.ty, reader)?;
        if let ValueRef::Json(text) = value
            && serde_json::from_str::<serde::de::IgnoredAny>(text).is_err()
        {
            return Err(DecodeError::OutOfRange("a JSON column's text"));
        }
        Ok(value)
    }

    /// Writes the value that `reader` stands at (none left: null).
    #[inline]
    fn write_next(
        &self,
        reader: &mut Reader<'_>,
        table: &Table,
        id: ColumnId,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        let tag = if reader.is_empty() { 0 } else { reader.u8()? };
        if tag == 0 {
            if !self.nullable {
                return Err(RowError::Null {
                    column: column_name(table, id),
                });
            }
            out.push(0);
            return Ok(());
        }
        if self.nullable {
            out.push(1);
        }
        let stored = ColumnType::from_u8(tag).ok_or(DecodeError::BadTag(tag))?;
        if stored == self.ty {
            out.extend_from_slice(ValueRef::skip_payload(stored, reader)?);
            return Ok(());
        }
        let value = ValueRef::read_payload(stored, reader)?;
        let converted = convert(value, self.ty).ok_or_else(|| RowError::Type {
            column: column_name(table, id),
            found: format!("a {stored}: {value:?}"),
            expected: self.ty,
        })?;
        converted.as_ref().write_payload(out);
        Ok(())
    }
}

fn column_name(table: &Table, id: ColumnId) -> String {
    table
        .columns
        .get(usize::from(id))
        .map_or_else(|| format!("#{id}"), |column| column.name.clone())
}

#[inline]
fn skip_tagged(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    let tag = reader.u8()?;
    if tag != 0 {
        let ty = ColumnType::from_u8(tag).ok_or(DecodeError::BadTag(tag))?;
        ValueRef::skip_payload(ty, reader)?;
    }
    Ok(())
}

/// Appends the key of the row in `builder`, in key form.
///
/// # Errors
/// If a key column is null, by its name.
pub(super) fn write_key(
    table: &Table,
    builder: &RowBuilder,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    for (id, column) in table.key_columns() {
        match builder.get(id) {
            Ok(ValueRef::Null) | Err(_) => {
                return Err(format!("key column {} is null", column.name));
            }
            Ok(value) => key::write(value, out),
        }
    }
    Ok(())
}
