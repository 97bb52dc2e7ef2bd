//! What a plugin can read during one call.

use std::sync::Arc;

use crate::{
    catalog::{Catalog, Table},
    change::{Key, Seq},
    row::{Row, RowError},
    rule::{Fault, Found, Page, ScanRange, StateAccess},
    store::{self, HistoryReader},
};

use super::{link::LinkedTable, view::View};

/// One plugin's sight of the state during one call.
pub(super) struct CallState {
    pub(super) view: Arc<View>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) tables: Arc<Vec<LinkedTable>>,
    pub(super) page_rows_max: u32,
    pub(super) page_bytes_max: usize,
    /// The tables that the called rules write: they see them as they are now, whenever their changes were made.
    pub(super) own: Vec<u16>,
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

impl CallState {
    fn past(&self, number: u32, at: u64) -> Option<&HistoryReader> {
        let own = self.own.iter().any(|own| u32::from(*own) == number);
        self.view.past(Seq(at)).filter(|_| !own)
    }

    /// The rows of a range as of `at`: those that have changed since as they were then, the others as they are.
    fn scan_rows(
        &self,
        number: u32,
        table: &Table,
        range: &ScanRange,
        at: u64,
        mut take: impl FnMut(&[u8], &Row) -> bool,
    ) -> Result<(), store::Error> {
        let (from, to) = (&range.from, range.to.as_deref());
        let past = self.past(number, at);
        // What served before it left no past of its own.
        let at = match past {
            Some(_) => Seq(at.max(table.since())),
            None => Seq(at),
        };
        let down = range.descending;
        let Some(past) = past else {
            return self
                .view
                .scan(table, from, to, down, at, |key, row| take(key, row));
        };
        let mut then = Ahead::new(past.rows(table, from, to, down, at)?, down)?;
        let mut goes_on = true;
        let mut failed = None;
        self.view
            .scan(table, from, to, down, Seq(u64::MAX), |key, row| {
                let step = then.before(key, |key, row| row.is_none_or(|row| take(key, &row)));
                goes_on = match step {
                    Err(error) => {
                        failed = Some(error);
                        false
                    }
                    Ok(Passed::Stopped) => false,
                    Ok(Passed::Replaced) => true,
                    Ok(Passed::Other) => take(key, row),
                };
                goes_on
            })?;
        match failed {
            Some(error) => Err(error),
            None if goes_on => then.rest(|key, row| row.is_none_or(|row| take(key, &row))),
            None => Ok(()),
        }
    }

    /// The same for a range of an index.
    fn scan_entries(
        &self,
        number: u32,
        table: &Table,
        index: usize,
        range: &ScanRange,
        at: u64,
        mut take: impl FnMut(&[u8], &Row) -> bool,
    ) -> Result<(), store::Error> {
        let (from, to) = (&range.from, range.to.as_deref());
        let past = self.past(number, at);
        // What served before it left no past of its own.
        let at = match past {
            Some(_) => Seq(at.max(table.since())),
            None => Seq(at),
        };
        let down = range.descending;
        let Some(past) = past else {
            let take = |entry: &[u8], _: &[u8], row: &Row| take(entry, row);
            return self.view.scan_index(table, index, from, to, down, take);
        };
        let entries = past.index_rows(table, index, from, to, down, at)?;
        let entries = entries.map(|entry| entry.map(|(entry, _, row)| (entry.into(), Some(row))));
        let mut then = Ahead::new(entries, down)?;
        let mut goes_on = true;
        let mut failed = None;
        self.view
            .scan_index(table, index, from, to, down, |entry, key, row| {
                let step = then.before(entry, |entry, row| row.is_none_or(|row| take(entry, &row)));
                let step = step.and_then(|step| Ok((step, past.row(table, key, at)?.is_some())));
                goes_on = match step {
                    Err(error) => {
                        failed = Some(error);
                        false
                    }
                    Ok((Passed::Stopped, _)) => false,
                    // What its row was then has an entry of its own.
                    Ok((Passed::Replaced, _) | (Passed::Other, true)) => true,
                    Ok((Passed::Other, false)) => take(entry, row),
                };
                goes_on
            })?;
        match failed {
            Some(error) => Err(error),
            None if goes_on => then.rest(|entry, row| row.is_none_or(|row| take(entry, &row))),
            None => Ok(()),
        }
    }
}

/// What has changed since, in order, ahead of what is there now.
struct Ahead<I: Iterator<Item = Result<(Key, Option<Row>), store::Error>>> {
    rows: I,
    next: Option<(Key, Option<Row>)>,
    down: bool,
}

/// What came of passing a place.
enum Passed {
    /// The taker wants no more.
    Stopped,
    /// What was there then has been taken in its place.
    Replaced,
    /// Nothing has changed there.
    Other,
}

impl<I: Iterator<Item = Result<(Key, Option<Row>), store::Error>>> Ahead<I> {
    fn new(mut rows: I, down: bool) -> Result<Self, store::Error> {
        let next = rows.next().transpose()?;
        Ok(Self { rows, next, down })
    }

    /// Takes what comes before a place, and what stands at it.
    fn before(
        &mut self,
        place: &[u8],
        mut take: impl FnMut(&[u8], Option<Row>) -> bool,
    ) -> Result<Passed, store::Error> {
        while let Some((key, row)) = &mut self.next {
            let order = key[..].cmp(place);
            let order = if self.down { order.reverse() } else { order };
            if order.is_gt() {
                break;
            }
            let goes_on = take(key, row.take());
            self.next = self.rows.next().transpose()?;
            match (goes_on, order.is_eq()) {
                (false, _) => return Ok(Passed::Stopped),
                (true, true) => return Ok(Passed::Replaced),
                (true, false) => {}
            }
        }
        Ok(Passed::Other)
    }

    fn rest(
        mut self,
        mut take: impl FnMut(&[u8], Option<Row>) -> bool,
    ) -> Result<(), store::Error> {
        while let Some((key, row)) = self.next.take() {
            if !take(&key, row) {
                break;
            }
            self.next = self.rows.next().transpose()?;
        }
        Ok(())
    }
}

fn store_fault(error: store::Error) -> Fault {
    Fault::Store(error.to_string())
}

impl StateAccess for CallState {
    fn get(&self, number: u32, key: &[u8], at: u64) -> Result<Found, Fault> {
        let (linked, table) = self.table(number)?;
        let past = match self.past(number, at) {
            Some(past) => past
                .row(table, key, Seq(at.max(table.since())))
                .map_err(store_fault)?,
            None => None,
        };
        let (row, until) = if let Some(past) = past {
            (past.row, past.until.0)
        } else if table.is_derived() {
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
        let scanned = match range.index {
            None => self.scan_rows(number, table, range, at, |key, row| take(key, row)),
            Some(index) => {
                let index = *linked.indexes.get(index as usize).ok_or_else(|| {
                    Fault::BadStateRead(format!("table {} has no index {index}", table.name))
                })?;
                self.scan_entries(number, table, index, range, at, |entry, row| {
                    take(entry, row)
                })
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
