//! What a plugin can read during one call.

use std::sync::Arc;

use crate::{
    catalog::{Catalog, Table},
    change::Seq,
    row::{Row, RowError},
    rule::{Fault, Found, Page, ScanRange, StateAccess},
    store,
};

use super::{link::LinkedTable, view::View};

/// One plugin's sight of the state during one call.
pub(super) struct CallState {
    pub(super) view: Arc<View>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) tables: Arc<Vec<LinkedTable>>,
    pub(super) page_rows_max: u32,
    pub(super) page_bytes_max: usize,
}

impl CallState {
    fn table(&self, number: u32) -> Result<(&LinkedTable, &Table), Fault> {
        let linked = self.tables.get(number as usize).ok_or_else(|| {
            Fault::BadStateRead(format!("its manifest has no table number {number}"))
        })?;
        Ok((linked, self.catalog.table(linked.id)))
    }

    fn wire(
        &self,
        linked: &LinkedTable,
        table: &Table,
        row: &Row,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        linked
            .projection
            .to_wire(table, row, out)
            .map_err(|error| match error {
                RowError::Decode(error) => Fault::Store(format!("table {}: {error}", table.name)),
                error => Fault::BadStateRead(format!("table {}: {error}", table.name)),
            })
    }
}

fn store_fault(error: store::Error) -> Fault {
    Fault::Store(error.to_string())
}

impl StateAccess for CallState {
    fn get(&self, number: u32, key: &[u8], at: u64) -> Result<Found, Fault> {
        let (linked, table) = self.table(number)?;
        let (row, until) = if table.is_derived() {
            (self.view.row(table, key).map_err(store_fault)?, u64::MAX)
        } else {
            self.view
                .row_as_of(table, key, Seq(at))
                .map_err(store_fault)?
        };
        let row = row
            .map(|row| {
                let mut out = Vec::with_capacity(row.len());
                self.wire(linked, table, &row, &mut out).map(|()| out)
            })
            .transpose()?;
        Ok(Found { row, until })
    }

    fn scan(&self, number: u32, range: &ScanRange, at: u64) -> Result<Page, Fault> {
        let (linked, table) = self.table(number)?;
        let limit = range.limit.min(self.page_rows_max).max(1);
        let mut page = Page::default();
        let mut last: Option<Vec<u8>> = None;
        let mut full = false;
        let mut failed = None;
        let mut take = |position: &[u8], row: &Row| {
            if page.count >= limit || page.rows.len() >= self.page_bytes_max {
                full = true;
                return false;
            }
            if let Err(fault) = self.wire(linked, table, row, &mut page.rows) {
                failed = Some(fault);
                return false;
            }
            page.count += 1;
            last = Some(position.to_vec());
            true
        };
        let to = range.to.as_deref();
        let scanned = match range.index {
            None => self.view.scan(
                table,
                &range.from,
                to,
                range.descending,
                Seq(at),
                |key, row| take(key, row),
            ),
            Some(index) => {
                let index = *linked.indexes.get(index as usize).ok_or_else(|| {
                    Fault::BadStateRead(format!("table {} has no index {index}", table.name))
                })?;
                self.view
                    .scan_index(table, index, &range.from, to, range.descending, take)
            }
        };
        scanned.map_err(store_fault)?;
        if let Some(fault) = failed {
            return Err(fault);
        }
        if full {
            page.next = last.map(|mut position| {
                if !range.descending {
                    // The least key behind the last one returned.
                    position.push(0);
                }
                position
            });
        }
        Ok(page)
    }
}
