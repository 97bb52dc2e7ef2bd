//! Tables in memory that answer as the host does: rows with the seq from which each version stands.

use std::collections::BTreeMap;

use rulemill_wire::{
    Reader, Value, ValueRef, key,
    manifest::{Column, Table},
};

use crate::{
    row::{Row, RowKey},
    state::{Found, Page, Range, StateReader},
};

/// Tables in memory. Each version of a row has the seq of the change that made it, so that reads as
/// of a change can be answered.
///
/// ```
/// use rulemill_sdk::{prelude::*, state::StateReader, testing::MemoryState};
///
/// #[derive(Row)]
/// #[table(source = "users")]
/// struct User { #[key] id: i64, name: String }
///
/// let state = MemoryState::of_rows([User { id: 1, name: "Ada".into() }]);
/// let mut key = Vec::new();
/// rulemill_sdk::wire::KeyValue::write_key(&1i64, &mut key);
/// assert!(state.get(0, &key, 0).row.is_some());
/// ```
#[derive(Debug, Default, Clone)]
pub struct MemoryState {
    tables: Vec<MemoryTable>,
}

/// From which seq on a row (in wire form) stands.
type Version = (u64, Option<Vec<u8>>);

#[derive(Debug, Clone)]
struct MemoryTable {
    table: Table,
    /// Key form to versions, oldest first; `None` where the row went.
    rows: BTreeMap<Vec<u8>, Vec<Version>>,
}

impl MemoryState {
    /// Empty tables as a manifest has them.
    ///
    /// ```
    /// # use rulemill_sdk::{state::*, testing::MemoryState};
    /// let state = MemoryState::new(vec![]);
    /// # let _ = state;
    /// ```
    pub fn new(tables: Vec<Table>) -> Self {
        let tables = tables
            .into_iter()
            .map(|table| MemoryTable {
                table,
                rows: BTreeMap::new(),
            })
            .collect();
        Self { tables }
    }

    /// One table, number 0, with these rows.
    ///
    /// ```
    /// # use rulemill_sdk::{prelude::*, testing::MemoryState};
    /// # #[derive(Row)] #[table(source = "users")] struct User { #[key] id: i64 }
    /// let state = MemoryState::of_rows([User { id: 1 }, User { id: 2 }]);
    /// assert_eq!(state.rows(0).count(), 2);
    /// ```
    pub fn of_rows<T: Row>(rows: impl IntoIterator<Item = T>) -> Self {
        let mut state = Self::new(vec![T::SPEC.to_manifest()]);
        for row in rows {
            let (mut key, mut bytes) = (Vec::new(), Vec::new());
            row.key().write_form(&mut key);
            row.write_row(&mut bytes);
            state.put(0, key, Some(bytes), 0);
        }
        state
    }

    /// Makes a row (in wire form) stand from `seq` on, or go with it.
    ///
    /// ```
    /// # use rulemill_sdk::{prelude::*, testing::MemoryState};
    /// # #[derive(Row)] #[table(source = "users")] struct User { #[key] id: i64 }
    /// let mut state = MemoryState::of_rows([User { id: 1 }]);
    /// let mut key = Vec::new();
    /// rulemill_sdk::wire::KeyValue::write_key(&1i64, &mut key);
    /// state.put(0, key, None, 5);
    /// assert_eq!(state.rows(0).count(), 0);
    /// ```
    pub fn put(&mut self, table: u16, key: Vec<u8>, row: Option<Vec<u8>>, seq: u64) {
        let versions = self.tables[usize::from(table)].rows.entry(key).or_default();
        versions.retain(|(at, _)| *at != seq);
        versions.push((seq, row));
    }

    /// The table's rows as they are now, in wire form, in the order of their keys.
    ///
    /// ```
    /// # use rulemill_sdk::{prelude::*, testing::MemoryState};
    /// # #[derive(Row)] #[table(source = "users")] struct User { #[key] id: i64 }
    /// let state = MemoryState::of_rows([User { id: 1 }]);
    /// assert_eq!(state.rows(0).next(), Some(&[2][..])); // zigzag 1
    /// ```
    pub fn rows(&self, table: u16) -> impl Iterator<Item = &[u8]> {
        self.tables[usize::from(table)]
            .at(u64::MAX)
            .map(|(_, row)| row)
    }
}

/// The values of a row in wire form.
pub(crate) fn values(columns: &[Column], row: &[u8]) -> Vec<Value> {
    let mut reader = Reader::new(row);
    let read = |column: &Column| {
        if column.nullable && reader.u8()? == 0 {
            return Ok(Value::Null);
        }
        ValueRef::read_payload(column.ty, &mut reader).map(ValueRef::to_owned)
    };
    match columns
        .iter()
        .map(read)
        .collect::<Result<_, rulemill_wire::DecodeError>>()
    {
        Ok(values) => values,
        Err(error) => panic!("a row in a test's table is none: {error}"),
    }
}

impl MemoryTable {
    /// The rows as they stood at `seq`.
    fn at(&self, seq: u64) -> impl Iterator<Item = (&Vec<u8>, &[u8])> {
        self.rows.iter().filter_map(move |(key, versions)| {
            let last = versions.iter().rev().find(|(from, _)| *from <= seq)?;
            Some((key, last.1.as_deref()?))
        })
    }

    fn index_entry(&self, index: u32, key: &[u8], row: &[u8]) -> Vec<u8> {
        let values = values(&self.table.columns, row);
        let mut entry = Vec::new();
        for &place in &self.table.indexes[index as usize].columns {
            let place = usize::from(place);
            let nullable = self.table.columns[place].nullable;
            key::write_index_column(values[place].as_ref(), nullable, &mut entry);
        }
        entry.extend_from_slice(key);
        entry
    }
}

impl StateReader for MemoryState {
    fn get(&self, table: u32, key: &[u8], at: u64) -> Found {
        let versions = self
            .tables
            .get(table as usize)
            .and_then(|table| table.rows.get(key));
        let versions = versions.map_or(&[][..], Vec::as_slice);
        Found {
            row: versions
                .iter()
                .rev()
                .find(|(from, _)| *from <= at)
                .and_then(|(_, row)| row.clone()),
            until: versions
                .iter()
                .map(|(from, _)| *from)
                .find(|from| *from > at)
                .unwrap_or(u64::MAX),
        }
    }

    fn scan(&self, table: u32, range: &Range, at: u64) -> Page {
        let empty = Page {
            count: 0,
            rows: Vec::new(),
            next: None,
        };
        let Some(table) = self.tables.get(table as usize) else {
            return empty;
        };
        let mut entries: Vec<(Vec<u8>, &[u8])> = table
            .at(at)
            .map(|(key, row)| match range.index {
                Some(index) => (table.index_entry(index, key, row), row),
                None => (key.clone(), row),
            })
            .filter(|(entry, _)| {
                *entry >= range.from && range.to.as_ref().is_none_or(|to| entry < to)
            })
            .collect();
        entries.sort();
        if range.descending {
            entries.reverse();
        }
        let mut page = empty;
        let limit = range.limit as usize;
        for (_, row) in entries.iter().take(limit) {
            page.count += 1;
            page.rows.extend_from_slice(row);
        }
        if entries.len() > limit {
            let place = if range.descending { limit - 1 } else { limit };
            page.next = Some(entries[place].0.clone());
        }
        page
    }
}
