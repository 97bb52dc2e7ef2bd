//! Which tables there are, with their columns, keys and indexes.
//!
//! Every table has a *dictionary*: its columns' names in the order in which they were first seen. It
//! only grows, so a stored row can always be read. A source's column gets a type when a rule or a
//! `[[table]]` entry names it; until then its values keep the type their input had.
//!
//! The catalog is shared, read without locks and replaced whole: [`SharedCatalog`]. Decoders add
//! columns they meet; the engine alone changes tables. It is stored with the next commit.

use std::{collections::HashMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use rulemill_wire::ColumnType;
use serde::{Deserialize, Serialize};

use crate::row::ColumnId;

/// A table's number in the store; never used again for another table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TableId(pub u32);

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A column of a table's dictionary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type; `None` where nothing has named it yet, so that values keep their input's type.
    pub ty: Option<ColumnType>,
    /// Whether it may be null.
    pub nullable: bool,
}

/// Where a table's rows come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// From sources.
    Source,
    /// From the rules of this plugin alone.
    Derived {
        /// The plugin's name (its file's name without the ending).
        plugin: String,
    },
}

/// A secondary index of a derived table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// The indexed columns.
    pub columns: Vec<ColumnId>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its number.
    pub id: TableId,
    /// Its name, unique in the store.
    pub name: String,
    /// Which of its rebuilds is the one that readers see.
    pub generation: u32,
    /// Where its rows come from.
    pub origin: Origin,
    /// The dictionary.
    pub columns: Vec<Column>,
    /// The key's columns, in key order; never empty.
    pub key: Vec<ColumnId>,
    /// Secondary indexes.
    pub indexes: Vec<Index>,
    /// Whether its current rows are kept (always, for a derived table).
    pub mirror: bool,
    /// Whether it is the one that readers see.
    pub stage: Stage,
}

/// Whether a table is the one that readers see under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It is; in place of another one since this seq (0: since it was made).
    Serving {
        /// The seq of the switch.
        since: u64,
    },
    /// It is being made from a snapshot of its inputs, to take the place of the one that serves.
    Rebuilding,
    /// It was, or should have been: its rows go.
    Dropped,
    /// It was, and its rows stay as they were until every rule that is called for its changes has been told how `by` differs.
    Replaced {
        /// The table that serves in its place.
        by: TableId,
    },
}

impl Default for Stage {
    fn default() -> Self {
        Self::Serving { since: 0 }
    }
}

impl Table {
    /// The column with this name.
    pub fn column(&self, name: &str) -> Option<(ColumnId, &Column)> {
        let place = self.columns.iter().position(|column| column.name == name)?;
        Some((place as ColumnId, &self.columns[place]))
    }

    /// The key's columns, in key order.
    pub fn key_columns(&self) -> impl Iterator<Item = (ColumnId, &Column)> {
        self.key
            .iter()
            .map(|&id| (id, &self.columns[usize::from(id)]))
    }

    /// The name that it has, had or will have for readers: one that doesn't serve has `:rebuild` or its number behind it, or both.
    pub fn plain_name(&self) -> &str {
        let mut name = &*self.name;
        if matches!(self.stage, Stage::Serving { .. }) {
            return name;
        }
        while let Some((plain, mark)) = name.rsplit_once(':')
            && (mark == "rebuild" || mark.bytes().all(|byte| byte.is_ascii_digit()))
        {
            name = plain;
        }
        name
    }

    /// The seq since which it serves: before it there was another one.
    pub fn since(&self) -> u64 {
        match self.stage {
            Stage::Serving { since } => since,
            Stage::Rebuilding | Stage::Dropped | Stage::Replaced { .. } => 0,
        }
    }

    /// Whether readers see it.
    pub fn is_serving(&self) -> bool {
        matches!(self.stage, Stage::Serving { .. })
    }

    /// Whether it can be found by its name.
    fn has_name(&self) -> bool {
        !matches!(self.stage, Stage::Dropped | Stage::Replaced { .. })
    }

    /// Whether rules of this plugin write it.
    pub fn is_of(&self, plugin: &str) -> bool {
        matches!(&self.origin, Origin::Derived { plugin: owner } if owner == plugin)
    }

    /// Whether rules of a plugin write it.
    pub fn is_derived(&self) -> bool {
        matches!(self.origin, Origin::Derived { .. })
    }
}

/// All tables, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Counts the catalog's changes, so that the engine knows when to store it.
    pub version: u64,
    tables: Vec<Arc<Table>>,
    by_name: HashMap<String, TableId>,
}

impl Catalog {
    /// A catalog of these tables, whose ids are their places.
    pub fn from_tables(tables: Vec<Table>) -> Self {
        let there = tables.iter().filter(|table| table.has_name());
        let by_name = there.map(|t| (t.name.clone(), t.id)).collect();
        Self {
            version: 0,
            tables: tables.into_iter().map(Arc::new).collect(),
            by_name,
        }
    }

    /// The table with this name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Table>> {
        self.by_name.get(name).map(|&id| self.table(id))
    }

    /// The table with this number, which a catalog never loses.
    ///
    /// # Panics
    /// If no table has this number: an id comes from a catalog, so that is a programmer's error.
    pub fn table(&self, id: TableId) -> &Arc<Table> {
        &self.tables[id.0 as usize]
    }

    /// Every table, by number.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.iter()
    }

    /// The number for the next new table.
    pub fn next_id(&self) -> TableId {
        TableId(self.tables.len() as u32)
    }

    /// Adds a table under [`next_id`](Self::next_id), or replaces the one with the same number.
    pub fn put(&mut self, table: Table) {
        let place = table.id.0 as usize;
        assert!(place <= self.tables.len(), "table ids are given in order");
        if let Some(old) = self.tables.get(place)
            && self.by_name.get(&old.name) == Some(&table.id)
        {
            self.by_name.remove(&old.name);
        }
        if table.has_name() {
            self.by_name.insert(table.name.clone(), table.id);
        }
        let table = Arc::new(table);
        if place == self.tables.len() {
            self.tables.push(table);
        } else {
            self.tables[place] = table;
        }
        self.version += 1;
    }
}

/// The catalog that the host's threads share.
#[derive(Debug, Default)]
pub struct SharedCatalog {
    current: ArcSwap<Catalog>,
    writing: std::sync::Mutex<()>,
}

impl SharedCatalog {
    /// Shares a catalog.
    pub fn new(catalog: Catalog) -> Self {
        Self {
            current: ArcSwap::from_pointee(catalog),
            writing: std::sync::Mutex::default(),
        }
    }

    /// The catalog as it is now.
    pub fn load(&self) -> Arc<Catalog> {
        self.current.load_full()
    }

    /// The version of the catalog as it is now.
    pub fn version(&self) -> u64 {
        self.current.load().version
    }

    /// Changes the catalog: `change` gets a copy, which replaces the shared one if it returns `Ok`.
    ///
    /// # Errors
    /// What `change` returns; the catalog then stays as it is.
    pub fn update<T, E>(&self, change: impl FnOnce(&mut Catalog) -> Result<T, E>) -> Result<T, E> {
        // A poisoned lock guards no data: the catalog is swapped whole or not at all.
        let _writing = self
            .writing
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut copy = Catalog::clone(&self.current.load());
        let result = change(&mut copy)?;
        self.current.store(Arc::new(copy));
        Ok(result)
    }

    /// Gives a column a type, if it has none: a key column takes that of its first value, since keys of
    /// several types have no common order.
    pub fn set_type(&self, table: TableId, column: ColumnId, ty: ColumnType) {
        let result: Result<(), std::convert::Infallible> = self.update(|catalog| {
            let mut changed = Table::clone(catalog.table(table));
            let slot = &mut changed.columns[usize::from(column)].ty;
            if slot.is_none() {
                *slot = Some(ty);
                catalog.put(changed);
            }
            Ok(())
        });
        let Ok(()) = result;
    }

    /// The numbers of these columns of a source table, added to its dictionary where they are new.
    ///
    /// # Errors
    /// If the table would get more than `columns_max` columns.
    pub fn intern_columns(
        &self,
        table: TableId,
        names: &[&str],
        columns_max: usize,
    ) -> Result<Vec<ColumnId>, TooManyColumns> {
        self.update(|catalog| {
            let mut changed = Table::clone(catalog.table(table));
            let before = changed.columns.len();
            let mut ids = Vec::with_capacity(names.len());
            for name in names {
                let id = match changed.column(name) {
                    Some((id, _)) => id,
                    None => {
                        if changed.columns.len() >= columns_max {
                            return Err(TooManyColumns {
                                table: changed.name.clone(),
                                column: (*name).to_owned(),
                                columns_max,
                            });
                        }
                        changed.columns.push(Column {
                            name: (*name).to_owned(),
                            ty: None,
                            nullable: true,
                        });
                        (changed.columns.len() - 1) as ColumnId
                    }
                };
                ids.push(id);
            }
            if changed.columns.len() > before {
                catalog.put(changed);
            }
            Ok(ids)
        })
    }
}

/// A table has as many columns as the limits allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "column {column} would be number {} of table {table}, and limits.table_columns_max is {columns_max}",
    columns_max + 1
)]
pub struct TooManyColumns {
    /// The table.
    pub table: String,
    /// The column that is one too many.
    pub column: String,
    /// The limit.
    pub columns_max: usize,
}
