//! Forgetting what is old: the log, idempotency keys, bad input, sent notifications, tables that were rebuilt.
//!
//! Each call does a bounded amount of work in a transaction of its own, so it never holds up a commit
//! for long; where nothing is too old it writes nothing.

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableHandle, WriteTransaction};
use rulemill_wire::{ColumnType, Value, key};

use crate::{catalog::Stage, change::Seq, limits::Limits};

use super::{
    Error, IdempotencyRecord, Store,
    commit::{age_key, get_number, last_numbered, log_from, number, put_number},
    log,
    tables::{self, meta},
};

/// Entries removed in one call, at the most, from each table.
const STEP: u64 = 1_000;
/// Rows, or entries of an index, of a dropped table that are removed in one call, at the most.
const ROWS_STEP: u64 = 10_000;
/// Sources whose bad input is looked at in one call, at the most.
const SOURCES_MAX: usize = 1_000;
const MICROS_PER_HOUR: i64 = 3_600_000_000;

impl Store {
    /// Removes some of what the limits no longer allow; `now` in microseconds. True if there may be
    /// more to remove.
    ///
    /// # Errors
    /// If the database fails; then nothing was removed.
    pub fn prune(&self, now: i64, limits: &Limits) -> Result<bool, Error> {
        if !self.has_excess(now, limits)? {
            return Ok(false);
        }
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(true);
        let mut more = prune_log(&transaction, now, limits)?;
        more |= prune_requests(&transaction, now, limits)?;
        more |= prune_outbox(&transaction, limits)?;
        more |= prune_bad_input(&transaction, limits)?;
        let dropped = self.dropped()?;
        if let Some(name) = dropped.first() {
            more |= remove_rows(&transaction, name)? || dropped.len() > 1;
        }
        transaction.commit()?;
        Ok(more)
    }

    /// The database's tables of tables that have been dropped.
    fn dropped(&self) -> Result<Vec<String>, Error> {
        let catalog = self.catalog();
        let gone = catalog
            .tables()
            .filter(|table| table.stage == Stage::Dropped);
        let mut names = Vec::new();
        for table in gone {
            names.push(tables::rows_name(table.id, table.generation));
            let indexes = 0..table.indexes.len();
            names
                .extend(indexes.map(|index| tables::index_name(table.id, table.generation, index)));
        }
        if names.is_empty() {
            return Ok(names);
        }
        let transaction = self.database.begin_read()?;
        let there: Vec<String> = transaction
            .list_tables()?
            .map(|table| table.name().to_owned())
            .collect();
        names.retain(|name| there.contains(name));
        Ok(names)
    }

    fn has_excess(&self, now: i64, limits: &Limits) -> Result<bool, Error> {
        if !self.dropped()?.is_empty() {
            return Ok(true);
        }
        let transaction = self.database.begin_read()?;
        let open = |table| transaction.open_table(table);
        let log_bytes = get_number(&open(tables::META)?, meta::LOG_BYTES)?;
        if oldest_goes(&open(tables::LOG)?, log_bytes, now, limits)?
            || oldest_request(&open(tables::IDEMPOTENCY_BY_AGE)?, now, limits)?.is_some()
            || open(tables::OUTBOX)?.len()? > limits.outbox_max as u64
        {
            return Ok(true);
        }
        let bad_input = open(tables::BAD_INPUT)?;
        let kept_max = limits.bad_input_kept_max as u64;
        Ok(bad_input.len()? > kept_max
            && sources(&bad_input)?
                .into_iter()
                .any(|source| source.excess(kept_max) > 0))
    }
}

/// Removes some of a table of the database, and in the end the table itself; true if there is more of it. All at once would
/// read every page of it while commits wait.
fn remove_rows(transaction: &WriteTransaction, name: &str) -> Result<bool, Error> {
    let mut rows = transaction.open_table(tables::Bytes::new(name))?;
    for _ in 0..ROWS_STEP {
        if rows.pop_first()?.is_none() {
            break;
        }
    }
    let more = !rows.is_empty()?;
    drop(rows);
    if !more {
        transaction.delete_table(tables::Bytes::new(name))?;
    }
    Ok(more)
}

fn hours(hours: u64) -> i64 {
    i64::try_from(hours)
        .unwrap_or(i64::MAX)
        .saturating_mul(MICROS_PER_HOUR)
}

/// Whether the log's oldest block is too old, or the log of this size too large.
fn oldest_goes(
    blocks: &impl ReadableTable<&'static [u8], &'static [u8]>,
    log_bytes: u64,
    now: i64,
    limits: &Limits,
) -> Result<bool, Error> {
    let oldest = now.saturating_sub(hours(limits.log_age_hours_max));
    Ok(match blocks.first()? {
        None => false,
        Some((_, value)) => {
            log_bytes > limits.log_bytes_max || log::block_newest(value.value())? < oldest
        }
    })
}

fn prune_log(transaction: &WriteTransaction, now: i64, limits: &Limits) -> Result<bool, Error> {
    let mut meta_table = transaction.open_table(tables::META)?;
    let mut blocks = transaction.open_table(tables::LOG)?;
    let mut bytes = get_number(&meta_table, meta::LOG_BYTES)?;
    let before = log_from(&meta_table)?;
    let mut from = before;
    let mut removed = 0;
    // A write set goes whole, so that the log is complete from a seq on; that alone may exceed the step.
    while removed < STEP && oldest_goes(&blocks, bytes, now, limits)? {
        let Some(set) = first_set(&blocks)? else {
            break;
        };
        while first_set(&blocks)? == Some(set) {
            if let Some((_, value)) = blocks.pop_first()? {
                bytes = bytes.saturating_sub(value.value().len() as u64);
                removed += 1;
            }
        }
        from = set.next();
    }
    if from != before {
        put_number(&mut meta_table, meta::LOG_BYTES, bytes)?;
        put_number(&mut meta_table, meta::LOG_FROM, from.0)?;
    }
    oldest_goes(&blocks, bytes, now, limits)
}

/// The last seq of the write set that the log begins with.
fn first_set(
    blocks: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<Option<Seq>, Error> {
    let first = blocks.first()?;
    first
        .map(|(key, _)| log::block_last_seq(key.value()))
        .transpose()
}

/// The entry of the oldest request, if that is too old.
fn oldest_request(
    by_age: &impl ReadableTable<&'static [u8], &'static [u8]>,
    now: i64,
    limits: &Limits,
) -> Result<Option<Vec<u8>>, Error> {
    let end = age_key(
        now.saturating_sub(hours(limits.idempotency_age_hours_max)),
        &[],
    );
    let first = by_age.first()?.map(|(key, _)| key.value().to_vec());
    Ok(first.filter(|first| *first < end))
}

fn prune_requests(
    transaction: &WriteTransaction,
    now: i64,
    limits: &Limits,
) -> Result<bool, Error> {
    let mut requests = transaction.open_table(tables::IDEMPOTENCY)?;
    let mut by_age = transaction.open_table(tables::IDEMPOTENCY_BY_AGE)?;
    for _ in 0..STEP {
        let Some(entry) = oldest_request(&by_age, now, limits)? else {
            return Ok(false);
        };
        let mut reader = rulemill_wire::Reader::new(&entry);
        let taken_at = key::read(ColumnType::I64, &mut reader)?;
        let request = reader.rest();
        let record: Option<IdempotencyRecord> = match requests.get(request)? {
            None => None,
            Some(record) => Some(postcard::from_bytes(record.value())?),
        };
        // The key may have been taken again since.
        if record.is_some_and(|record| Value::I64(record.taken_at) == taken_at) {
            requests.remove(request)?;
        }
        by_age.remove(&entry[..])?;
    }
    Ok(true)
}

fn prune_outbox(transaction: &WriteTransaction, limits: &Limits) -> Result<bool, Error> {
    let mut outbox = transaction.open_table(tables::OUTBOX)?;
    let excess = outbox.len()?.saturating_sub(limits.outbox_max as u64);
    for _ in 0..excess.min(STEP) {
        outbox.pop_first()?;
    }
    Ok(excess > STEP)
}

/// The bad input of one source, whose numbers have no gaps.
struct Source {
    prefix: Vec<u8>,
    first: u64,
    last: u64,
}

impl Source {
    fn excess(&self, kept_max: u64) -> u64 {
        (self.last + 1)
            .saturating_sub(self.first)
            .saturating_sub(kept_max)
    }
}

fn sources(
    bad_input: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<Vec<Source>, Error> {
    let mut sources: Vec<Source> = Vec::new();
    let mut from = Vec::new();
    while sources.len() < SOURCES_MAX {
        let Some(entry) = bad_input.range::<&[u8]>(&from[..]..)?.next() else {
            break;
        };
        let at = entry?.0.value().to_vec();
        let (prefix, first) = at.split_at(at.len().saturating_sub(8));
        sources.push(Source {
            first: number(first)?,
            last: last_numbered(bad_input, prefix)?,
            prefix: prefix.to_vec(),
        });
        match key::prefix_end(prefix) {
            Some(end) => from = end,
            None => break,
        }
    }
    Ok(sources)
}

/// Keeps the newest of each source.
fn prune_bad_input(transaction: &WriteTransaction, limits: &Limits) -> Result<bool, Error> {
    let mut bad_input = transaction.open_table(tables::BAD_INPUT)?;
    let kept_max = limits.bad_input_kept_max as u64;
    if bad_input.len()? <= kept_max {
        return Ok(false);
    }
    let mut left = STEP;
    for source in sources(&bad_input)? {
        let excess = source.excess(kept_max);
        for number in source.first..source.first + excess.min(left) {
            bad_input.remove(&[&source.prefix[..], &number.to_be_bytes()].concat()[..])?;
        }
        if excess > left {
            return Ok(true);
        }
        left -= excess;
    }
    Ok(false)
}
