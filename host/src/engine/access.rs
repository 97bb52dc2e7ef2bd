//! What a plugin can read during one call.

use std::sync::Arc;

use crate::{
    catalog::{Catalog, Table},
    change::{Key, Seq},
    render,
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
                RowError::Decode(error) => store_fault(store::Error::Damaged(format!(
                    "table {}: a row can't be read: {error}",
                    table.name
                ))),
                error => Fault::UnfitRow(format!(
                    "table {}, key {}: {error}",
                    table.plain_name(),
                    render::key_of_row(table, row)
                )),
            })
    }
}

impl CallState {
    fn past(&self, number: u32, at: u64) -> Option<&HistoryReader> {
        let own = self.own.iter().any(|own| u32::from(*own) == number);
        self.view.past(Seq(at)).filter(|_| !own)
    }

    /// What leads back to `at`, if that is the past for this table, and as of what it is then asked.
    fn past_of(&self, number: u32, table: &Table, at: u64) -> (Option<&HistoryReader>, Seq) {
        match self.past(number, at) {
            // What served before it left no past of its own.
            Some(past) => (Some(past), Seq(at.max(table.since()))),
            None => (None, Seq(at)),
        }
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
        let (from, to, down) = (&range.from, range.to.as_deref(), range.descending);
        let (past, at) = self.past_of(number, table, at);
        let Some(past) = past else {
            return self
                .view
                .scan(table, from, to, down, at, |key, row| take(key, row));
        };
        let mut then = Ahead::new(past.rows(table, from, to, down, at)?, down)?;
        let now = Seq(u64::MAX);
        self.view.scan(table, from, to, down, now, |key, row| {
            // A row that has changed stands in `then`, under the same key.
            then.pass(key, row, || Ok(false), &mut take)
        })?;
        then.rest(take)
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
        let (from, to, down) = (&range.from, range.to.as_deref(), range.descending);
        let (past, at) = self.past_of(number, table, at);
        let Some(past) = past else {
            let take = |entry: &[u8], _: &[u8], row: &Row| take(entry, row);
            return self.view.scan_index(table, index, from, to, down, take);
        };
        let entries = past.index_rows(table, index, from, to, down, at)?;
        let entries = entries.map(|entry| entry.map(|(entry, _, row)| (entry.into(), Some(row))));
        let mut then = Ahead::new(entries, down)?;
        self.view
            .scan_index(table, index, from, to, down, |entry, key, row| {
                // What a row that has changed was then has an entry of its own.
                let has_changed = || Ok(past.row(table, key, at)?.is_some());
                then.pass(entry, row, has_changed, &mut take)
            })?;
        then.rest(take)
    }
}

/// What has changed since, in order, ahead of what is there now.
struct Ahead<I: Iterator<Item = Result<(Key, Option<Row>), store::Error>>> {
    rows: I,
    next: Option<(Key, Option<Row>)>,
    down: bool,
    /// Whether the taker wants more.
    goes_on: bool,
    failed: Option<store::Error>,
}

impl<I: Iterator<Item = Result<(Key, Option<Row>), store::Error>>> Ahead<I> {
    fn new(mut rows: I, down: bool) -> Result<Self, store::Error> {
        let next = rows.next().transpose()?;
        Ok(Self {
            rows,
            next,
            down,
            goes_on: true,
            failed: None,
        })
    }

    /// Takes what comes before a place, then what stood at it; if nothing did, the row that is there now, unless that has
    /// changed. False if there is no more to take.
    fn pass(
        &mut self,
        place: &[u8],
        now: &Row,
        has_changed: impl FnOnce() -> Result<bool, store::Error>,
        take: &mut impl FnMut(&[u8], &Row) -> bool,
    ) -> bool {
        let passed = self.take_up_to(place, take).and_then(|replaced| {
            if self.goes_on && !replaced && !has_changed()? {
                self.goes_on = take(place, now);
            }
            Ok(())
        });
        self.failed = passed.err();
        self.goes_on && self.failed.is_none()
    }

    /// Takes what comes before a place, and what stood at it; true if something did.
    fn take_up_to(
        &mut self,
        place: &[u8],
        take: &mut impl FnMut(&[u8], &Row) -> bool,
    ) -> Result<bool, store::Error> {
        while self.goes_on
            && let Some((key, row)) = &self.next
        {
            let order = key[..].cmp(place);
            let order = if self.down { order.reverse() } else { order };
            if order.is_gt() {
                break;
            }
            self.goes_on = row.as_ref().is_none_or(|row| take(key, row));
            self.next = self.rows.next().transpose()?;
            if order.is_eq() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes what comes behind all that is there now.
    fn rest(mut self, mut take: impl FnMut(&[u8], &Row) -> bool) -> Result<(), store::Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        while self.goes_on
            && let Some((key, row)) = self.next.take()
        {
            self.goes_on = row.is_none_or(|row| take(&key, &row));
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
        let past = match self.past_of(number, table, at) {
            (Some(past), at) => past.row(table, key, at).map_err(store_fault)?,
            (None, _) => None,
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
