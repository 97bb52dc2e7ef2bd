//! A row as a JSON object into a row's values.

use std::sync::Arc;

use rulemill_wire::ColumnType;

use crate::{
    catalog::Table,
    row::{ColumnId, RowBuilder},
};

use super::{
    Dialect, Reason,
    connect::Schema,
    scan::{self, Malformed, Scanner},
    value::{self, Target},
};

/// A table as the decoder knows it, with its columns in the order in which the last row had them.
pub(super) struct Known {
    pub(super) table: Arc<Table>,
    pub(super) order: Vec<KnownColumn>,
    /// Columns outside the key without which a row is not whole.
    pub(super) required: Vec<ColumnId>,
    /// Columns outside the key that may be null, but that somebody has named.
    declared: Vec<ColumnId>,
}

/// A column of it.
#[derive(Debug)]
pub(super) struct KnownColumn {
    pub(super) name: Box<str>,
    pub(super) id: ColumnId,
    pub(super) ty: Option<ColumnType>,
    pub(super) nullable: bool,
    pub(super) in_key: bool,
}

/// Why a row can't be read.
#[derive(Debug)]
pub(super) enum Fault {
    Malformed(Malformed),
    Unfit(Reason),
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Known {
    pub(super) fn new(table: Arc<Table>) -> Self {
        let named = |nullable: bool| {
            let columns = (0..).zip(&table.columns);
            let named = columns.filter(|(id, column)| {
                column.ty.is_some() && column.nullable == nullable && !table.key.contains(id)
            });
            named.map(|(id, _)| id).collect()
        };
        let (required, declared) = (named(false), named(true));
        Self {
            table,
            order: Vec::new(),
            required,
            declared,
        }
    }

    /// Whether it has no column outside its key.
    pub(super) fn is_all_key(&self) -> bool {
        self.table.columns.len() == self.table.key.len()
    }

    /// The place in `order` of the column that comes now, behind `seen` others of its row, which mostly is where
    /// it was in the row before. `None` if the table has no such column.
    ///
    /// # Errors
    /// If the row has had it already.
    #[inline]
    pub(super) fn place(&mut self, name: &str, seen: usize) -> Result<Option<usize>, Reason> {
        if let Some(known) = self.order.get(seen)
            && *known.name == *name
        {
            return Ok(Some(seen));
        }
        self.other_place(name, seen)
    }

    fn other_place(&mut self, name: &str, seen: usize) -> Result<Option<usize>, Reason> {
        if let Some(place) = self.order.iter().position(|known| *known.name == *name) {
            if place < seen {
                return Err(self.twice(name));
            }
            self.order.swap(seen, place);
            return Ok(Some(seen));
        }
        let Some((id, column)) = self.table.column(name) else {
            return Ok(None);
        };
        let known = KnownColumn {
            name: name.into(),
            id,
            ty: column.ty,
            nullable: column.nullable,
            in_key: self.table.key.contains(&id),
        };
        self.order.insert(seen, known);
        Ok(Some(seen))
    }

    #[cold]
    pub(super) fn twice(&self, name: &str) -> Reason {
        Reason::unfit(format!(
            "table {}: column {name} stands twice in one row",
            self.table.name
        ))
    }

    /// Whether a column that somebody has named isn't among the `seen` columns of the row, not even as null.
    #[inline]
    pub(super) fn lacks_declared(&self, builder: &RowBuilder, seen: usize) -> bool {
        let is_there = |id| self.order[..seen].iter().any(|known| known.id == id);
        let mut nulls = self.declared.iter().filter(|&&id| builder.is_null(id));
        nulls.any(|&id| !is_there(id))
    }

    /// Why a row is not whole, if it isn't: a column that must have a value has none.
    #[inline]
    pub(super) fn lack(&self, builder: &RowBuilder) -> Option<ColumnId> {
        self.required
            .iter()
            .copied()
            .find(|&id| builder.is_null(id))
    }

    /// What to say of it; `seen` columns were in the row.
    #[cold]
    pub(super) fn lacks(&self, id: ColumnId, seen: usize) -> Reason {
        let present = self.order[..seen].iter().any(|known| known.id == id);
        let (table, column) = (&self.table.name, &self.table.columns[usize::from(id)].name);
        Reason::unfit(if present {
            format!("table {table}: column {column} can't be null")
        } else {
            format!(
                "table {table}: column {column} is missing and can't be null: a change holds the whole row"
            )
        })
    }
}

/// How a row is read.
pub(super) struct RowReader<'r> {
    pub(super) known: &'r mut Known,
    /// Gets the values.
    pub(super) builder: &'r mut RowBuilder,
    pub(super) dialect: Dialect,
    pub(super) schema: Option<&'r Schema>,
    /// Whether the key's columns are all that is wanted.
    pub(super) key_only: bool,
    /// Gets the names of columns that the table doesn't have yet.
    pub(super) new_columns: &'r mut Vec<String>,
}

/// What a row held.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Held {
    /// Columns that the table has, which now stand first in its order.
    pub(super) columns: usize,
    /// Whether a column outside the key has a value.
    pub(super) more_than_key: bool,
    /// Whether a column has another type than whoever named it says.
    pub(super) retyped: bool,
}

impl RowReader<'_> {
    pub(super) fn read(mut self, scan: &mut Scanner<'_>) -> Result<Held, Fault> {
        self.builder.clear();
        let mut held = Held::default();
        let mut new_columns = 0;
        let mut first = true;
        scan.enter()?;
        while let Some(name) = scan.name(&mut first)? {
            let name = name.text().ok_or_else(|| Fault::Unfit(self.unnamed()))?;
            let Some(place) = self
                .known
                .place(&name, held.columns)
                .map_err(Fault::Unfit)?
            else {
                let value = scan.value()?;
                if !self.key_only {
                    let before = self.new_columns.len() - new_columns;
                    self.new_column(&name, &value, before)
                        .map_err(Fault::Unfit)?;
                    new_columns += 1;
                }
                continue;
            };
            let value = scan.value()?;
            held.columns += 1;
            let column = &self.known.order[place];
            if !column.in_key {
                if self.key_only {
                    continue;
                }
                held.more_than_key |= value.present().is_some();
            }
            let target = Target {
                table: &self.known.table.name,
                column: &column.name,
                id: column.id,
                ty: column.ty,
                dialect: self.dialect,
                logical: self.schema.and_then(|schema| schema.column(&column.name)),
            };
            if let Err(reason) = value::set(&target, &value, self.builder) {
                // What the source says of its own column counts, unless the configuration holds it to another type.
                let changed = self.schema.zip(column.ty).is_some_and(|(schema, ty)| {
                    column.nullable && !column.in_key && schema.contradicts(&column.name, ty)
                });
                if !changed {
                    return Err(Fault::Unfit(reason));
                }
                let own = Target { ty: None, ..target };
                value::set(&own, &value, self.builder).map_err(Fault::Unfit)?;
                held.retyped = true;
            }
        }
        Ok(held)
    }

    /// Notes a column that the table doesn't have, if its value can be kept; its row's others begin at `from`.
    fn new_column(
        &mut self,
        name: &str,
        value: &scan::Value<'_>,
        from: usize,
    ) -> Result<(), Reason> {
        let (others, own) = self.new_columns.split_at(from);
        if own.iter().any(|new| new == name) {
            return Err(self.known.twice(name));
        }
        // The number that it gets, so that the row is as long as it will be: one that is too long adds no column.
        let known = others.iter().position(|new| new == name);
        let place = known.unwrap_or_else(|| {
            let added = own.iter().filter(|new| !others.contains(new));
            others.len() + added.count()
        });
        let place = self.known.table.columns.len() + place;
        let target = Target {
            table: &self.known.table.name,
            column: name,
            id: ColumnId::try_from(place).unwrap_or(ColumnId::MAX),
            ty: None,
            dialect: self.dialect,
            logical: self.schema.and_then(|schema| schema.column(name)),
        };
        value::set(&target, value, self.builder)?;
        self.new_columns.push(name.to_owned());
        Ok(())
    }

    #[cold]
    fn unnamed(&self) -> Reason {
        Reason::malformed(format!(
            "table {}: a column's name has an escape that stands for no character",
            self.known.table.name
        ))
    }
}
