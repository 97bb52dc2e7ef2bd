//! Rows and the entries of their indexes.

use std::sync::Arc;

use rulemill_wire::key;

use crate::{
    catalog::{Origin, Stage, Table},
    row::{self, ColumnId},
};

use super::{BytesTable, Check, Error, hex, reader::stored_row, shown, tables};

impl Check<'_> {
    /// Every table's rows, and its indexes both ways.
    pub(super) fn all_rows(&mut self) -> Result<(), Error> {
        let ids: Vec<_> = self.head.catalog.tables().map(|table| table.id).collect();
        for id in ids {
            let Some(table) = self.table(id).filter(|table| table.stage != Stage::Dropped) else {
                continue;
            };
            self.counts.tables += 1;
            let name = tables::rows_name(table.id, table.generation);
            let mut indexes = Vec::new();
            for index in 0..table.indexes.len() {
                let name = tables::index_name(table.id, table.generation, index);
                indexes.push(self.open(&name).unwrap_or_default());
            }
            self.walk(&name, &table.name.clone(), false, |check, key, value| {
                check.counts.rows += 1;
                check.row(&table, &indexes, key, value)
            })?;
            for index in 0..table.indexes.len() {
                self.index(&table, index)?;
            }
        }
        Ok(())
    }

    fn row(
        &mut self,
        table: &Table,
        indexes: &[Option<BytesTable>],
        key: &[u8],
        value: &[u8],
    ) -> Result<(), Error> {
        let at = |problem: String| (shown(table, key), problem);
        let mut problems = Vec::new();
        let stored = match stored_row(value) {
            Ok(stored) => stored,
            Err(error) => {
                let (key, problem) = at(format!("the row can't be read: {error}"));
                self.report(&table.name, key, problem);
                return Ok(());
            }
        };
        problems.extend(whole(table, &stored.row));
        if stored.seq > self.head.last_seq {
            let last = self.head.last_seq;
            problems.push(format!(
                "change {} wrote it, and the last is {last}",
                stored.seq
            ));
        }
        problems.extend(self.writer(table, stored.version));
        if problems.is_empty() {
            match columns_key(table, &table.key, false, &stored.row) {
                Ok(expected) if expected == key => {}
                Ok(expected) => problems.push(format!(
                    "its columns make another key: {}",
                    shown(table, &expected).unwrap_or_default()
                )),
                Err(error) => problems.push(format!("the row can't be read: {error}")),
            }
            for (number, index) in indexes.iter().enumerate() {
                let columns = &table.indexes[number].columns;
                let Ok(mut entry) = columns_key(table, columns, true, &stored.row) else {
                    continue;
                };
                entry.extend_from_slice(key);
                let found = match index {
                    None => None,
                    Some(index) => match index.get(&entry[..]) {
                        Ok(found) => found.map(|found| found.value().to_vec()),
                        Err(error) => return self.unreadable(&table.name, error.into()),
                    },
                };
                if found.is_none() {
                    problems.push(format!("index {number} has no entry for it"));
                }
            }
        }
        for problem in problems {
            let (key, problem) = at(problem);
            self.report(&table.name, key, problem);
        }
        Ok(())
    }

    /// What is wrong with the plugin version that a row names as its writer.
    fn writer(&self, table: &Table, version: u32) -> Option<String> {
        match (&table.origin, self.versions.get(&version)) {
            (Origin::Source, _) if version == 0 => None,
            (Origin::Source, _) => Some(format!(
                "plugin version {version} wrote it, and its table comes from a source"
            )),
            (Origin::Derived { .. }, None) => Some(format!(
                "plugin version {version} wrote it, and there is no such version"
            )),
            (Origin::Derived { plugin }, Some(version)) => (version.plugin != *plugin).then(|| {
                format!(
                    "plugin {} wrote it, and its table belongs to {plugin}",
                    version.plugin
                )
            }),
        }
    }

    fn index(&mut self, table: &Arc<Table>, number: usize) -> Result<(), Error> {
        let name = tables::index_name(table.id, table.generation, number);
        let rows = self.open(&tables::rows_name(table.id, table.generation));
        let rows = rows.unwrap_or_default();
        let columns = &table.indexes[number].columns;
        self.walk(&name, &table.name, false, |check, entry, key| {
            check.counts.index_entries += 1;
            let row = match &rows {
                None => None,
                Some(rows) => match rows.get(key) {
                    Ok(row) => row.map(|row| row.value().to_vec()),
                    Err(error) => return check.unreadable(&table.name, error.into()),
                },
            };
            let problem = match row.as_deref().map(stored_row) {
                None => "has no row",
                // That the row can't be read has been said.
                Some(Err(_)) => return Ok(()),
                Some(Ok(stored)) => match columns_key(table, columns, true, &stored.row) {
                    Ok(mut expected) => {
                        expected.extend_from_slice(key);
                        if expected == entry {
                            return Ok(());
                        }
                        "has a row with other values"
                    }
                    Err(_) => return Ok(()),
                },
            };
            let problem = format!("entry {} of index {number} {problem}", hex(entry));
            check.report(&table.name, shown(table, key), problem);
            Ok(())
        })
    }
}

/// What is wrong with a row's values.
pub(super) fn whole(table: &Table, row: &[u8]) -> Option<String> {
    let mut count = 0;
    for value in row::values(row) {
        if let Err(error) = value {
            return Some(format!("the row can't be read: {error}"));
        }
        count += 1;
    }
    let known = table.columns.len();
    (count > known).then(|| format!("it has {count} values, and its table {known} columns"))
}

/// Columns of a row in key form, as for its key or for an index.
fn columns_key(
    table: &Table,
    columns: &[ColumnId],
    index: bool,
    row: &[u8],
) -> Result<Vec<u8>, rulemill_wire::DecodeError> {
    let mut out = Vec::new();
    for &column in columns {
        let value = row::value(row, column)?;
        if index {
            let nullable = table.columns[usize::from(column)].nullable;
            key::write_index_column(value, nullable, &mut out);
        } else {
            key::write(value, &mut out);
        }
    }
    Ok(out)
}
