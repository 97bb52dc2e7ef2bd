//! Writing: a group of write sets in one durable transaction.

use std::sync::Arc;

use redb::{ReadableTable, WriteTransaction};
use rulemill_wire::{ValueRef, key};

use crate::{
    catalog::{Catalog, Table},
    change::Seq,
};

use super::{
    Error, Store, WriteSet, log, rows,
    tables::{self, meta},
};

/// What a commit wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommitStats {
    /// Rows written or removed, after merging.
    pub rows: u64,
    /// Bytes of log blocks.
    pub log_bytes: u64,
}

pub(super) type BytesTable<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;

impl Store {
    /// Makes a group of write sets durable, in order, in one transaction, and gives its
    /// notifications their numbers.
    ///
    /// # Errors
    /// If the database fails: then nothing of the group is in the store. After an error of the disk every later
    /// commit fails too, until the store has been opened again.
    pub fn commit(&self, group: &mut [WriteSet]) -> Result<CommitStats, Error> {
        let mut transaction = self.database.begin_write()?;
        // After a crash the next start must not read the whole file.
        transaction.set_quick_repair(true);
        let mut stats = CommitStats::default();
        let new_catalog = group.iter().rev().find_map(|set| set.catalog.clone());
        let catalog = match &new_catalog {
            Some(catalog) => catalog.clone(),
            None => self.catalog(),
        };
        {
            let mut meta_table = transaction.open_table(tables::META)?;
            if let Some(catalog) = &new_catalog {
                let stored: Vec<&Table> = catalog.tables().map(|table| &**table).collect();
                meta_table.insert(meta::CATALOG, &postcard::to_allocvec(&stored)?[..])?;
                put_number(&mut meta_table, meta::TABLES, stored.len() as u64)?;
            }
            stats.rows = rows::write_rows(&transaction, group, &catalog)?;
            stats.log_bytes = write_log(&transaction, group)?;
            if stats.log_bytes > 0 {
                let log_bytes = get_number(&meta_table, meta::LOG_BYTES)? + stats.log_bytes;
                put_number(&mut meta_table, meta::LOG_BYTES, log_bytes)?;
            }
            for set in group.iter_mut() {
                write_input(&transaction, set)?;
                write_rules(&transaction, set)?;
                write_outbox(&transaction, &mut meta_table, set)?;
                write_dead_letters(&transaction, &mut meta_table, set)?;
            }
            if let Some(last) = group.last() {
                put_number(&mut meta_table, meta::LAST_SEQ, last.last_seq.0)?;
                put_number(&mut meta_table, meta::WATERMARK, last.watermark as u64)?;
                let clock = last.watermark_clock as u64;
                put_number(&mut meta_table, meta::WATERMARK_CLOCK, clock)?;
            }
        }
        transaction.commit()?;
        if let Some(catalog) = new_catalog {
            self.set_catalog(catalog);
        }
        Ok(stats)
    }

    pub(super) fn catalog(&self) -> Arc<Catalog> {
        self.catalog
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    fn set_catalog(&self, catalog: Arc<Catalog>) {
        *self
            .catalog
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = catalog;
    }
}

pub(super) fn get_number(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<u64, Error> {
    match table.get(key)? {
        None => Ok(0),
        Some(value) => number(value.value()),
    }
}

pub(super) fn number(bytes: &[u8]) -> Result<u64, Error> {
    let bytes: [u8; 8] = bytes
        .try_into()
        .map_err(|_| Error::Damaged("a number is not 8 bytes long".into()))?;
    Ok(u64::from_be_bytes(bytes))
}

pub(super) fn put_number(table: &mut BytesTable<'_>, key: &[u8], value: u64) -> Result<(), Error> {
    table.insert(key, &value.to_be_bytes()[..])?;
    Ok(())
}

fn write_log(transaction: &WriteTransaction, group: &[WriteSet]) -> Result<u64, Error> {
    let mut table = transaction.open_table(tables::LOG)?;
    let mut scratch = Vec::new();
    let mut bytes = 0;
    for set in group {
        log::write_blocks(set.last_seq, &set.log, &mut scratch, |key, value| {
            bytes += value.len() as u64;
            table.insert(key, value)?;
            Ok(())
        })?;
    }
    Ok(bytes)
}

/// The key of a record that is named by several texts.
pub(super) fn text_key(parts: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        key::write(ValueRef::Text(part), &mut out);
    }
    out
}

/// How far sources have come, what they could not take, which requests are answered.
fn write_input(transaction: &WriteTransaction, set: &WriteSet) -> Result<(), Error> {
    if !set.positions.is_empty() {
        let mut positions = transaction.open_table(tables::POSITIONS)?;
        for (source, position) in &set.positions {
            let at = text_key(&[source, &position.part]);
            positions.insert(&at[..], &position.bytes[..])?;
        }
    }
    if !set.bad_input.is_empty() {
        let mut bad_input = transaction.open_table(tables::BAD_INPUT)?;
        for (source, bad) in &set.bad_input {
            let mut at = text_key(&[source]);
            let next = last_numbered(&bad_input, &at)? + 1;
            at.extend_from_slice(&next.to_be_bytes());
            bad_input.insert(&at[..], &postcard::to_allocvec(bad)?[..])?;
        }
    }
    if !set.idempotency.is_empty() {
        let mut requests = transaction.open_table(tables::IDEMPOTENCY)?;
        let mut by_age = transaction.open_table(tables::IDEMPOTENCY_BY_AGE)?;
        for record in &set.idempotency {
            let at = record.key.as_bytes();
            requests.insert(at, &postcard::to_allocvec(record)?[..])?;
            by_age.insert(&age_key(record.taken_at, at)[..], &[][..])?;
        }
    }
    Ok(())
}

/// The last number under a prefix; 0 if there is none.
pub(super) fn last_numbered(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    prefix: &[u8],
) -> Result<u64, Error> {
    let end = [prefix, &[0xff; 9]].concat();
    match table.range::<&[u8]>(prefix..&end[..])?.next_back() {
        None => Ok(0),
        Some(entry) => number(&entry?.0.value()[prefix.len()..]),
    }
}

/// The key that orders a request by when it was taken.
pub(super) fn age_key(taken_at: i64, request: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + request.len());
    key::write(ValueRef::I64(taken_at), &mut out);
    out.extend_from_slice(request);
    out
}

fn write_rules(transaction: &WriteTransaction, set: &WriteSet) -> Result<(), Error> {
    if !set.rules.is_empty() || !set.removed_rules.is_empty() {
        let mut rules = transaction.open_table(tables::RULES)?;
        for (plugin, rule) in &set.removed_rules {
            rules.remove(&text_key(&[plugin, rule])[..])?;
        }
        for record in &set.rules {
            let at = text_key(&[&record.plugin, &record.rule]);
            rules.insert(&at[..], &postcard::to_allocvec(record)?[..])?;
        }
    }
    if !set.plugin_versions.is_empty() {
        let mut versions = transaction.open_table(tables::PLUGIN_VERSIONS)?;
        let mut code = transaction.open_table(tables::PLUGIN_CODE)?;
        for version in &set.plugin_versions {
            let at = version.id.to_be_bytes();
            versions.insert(&at[..], &postcard::to_allocvec(version)?[..])?;
            if !version.code.is_empty() {
                code.insert(&version.hash[..], &version.code[..])?;
            }
        }
    }
    if !set.timers.is_empty() {
        let mut timers = transaction.open_table(tables::TIMERS)?;
        for timer in &set.timers {
            let at = text_key(&[&timer.plugin, &timer.rule, &timer.key]);
            match timer.due {
                Some(_) => timers.insert(&at[..], &postcard::to_allocvec(timer)?[..])?,
                None => timers.remove(&at[..])?,
            };
        }
    }
    Ok(())
}

fn write_outbox(
    transaction: &WriteTransaction,
    meta_table: &mut BytesTable<'_>,
    set: &mut WriteSet,
) -> Result<(), Error> {
    if set.notifications.is_empty() {
        return Ok(());
    }
    let mut outbox = transaction.open_table(tables::OUTBOX)?;
    let mut last = get_number(meta_table, meta::LAST_NOTIFICATION)?;
    for notification in &mut set.notifications {
        last += 1;
        notification.id = last;
        outbox.insert(
            &last.to_be_bytes()[..],
            &postcard::to_allocvec(notification)?[..],
        )?;
    }
    put_number(meta_table, meta::LAST_NOTIFICATION, last)
}

fn write_dead_letters(
    transaction: &WriteTransaction,
    meta_table: &mut BytesTable<'_>,
    set: &WriteSet,
) -> Result<(), Error> {
    if !set.gaps.is_empty() {
        let mut gaps = transaction.open_table(tables::GAPS)?;
        for gap in &set.gaps {
            let mut at = text_key(&[&gap.plugin, &gap.rule]);
            at.extend_from_slice(&gap.key);
            match &gap.seen {
                Some(_) => gaps.insert(&at[..], &postcard::to_allocvec(gap)?[..])?,
                None => gaps.remove(&at[..])?,
            };
        }
    }
    if set.dead_letters.is_empty() && set.settled_dead_letters.is_empty() {
        return Ok(());
    }
    let mut dead_letters = transaction.open_table(tables::DEAD_LETTERS)?;
    let mut last = get_number(meta_table, meta::LAST_DEAD_LETTER)?;
    for letter in &set.dead_letters {
        last = last.max(letter.id);
        let at = letter.id.to_be_bytes();
        dead_letters.insert(&at[..], &postcard::to_allocvec(letter)?[..])?;
    }
    for id in &set.settled_dead_letters {
        dead_letters.remove(&id.to_be_bytes()[..])?;
    }
    put_number(meta_table, meta::LAST_DEAD_LETTER, last)
}

/// The seq before which nothing is in the log any more.
pub(super) fn log_from(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<Seq, Error> {
    Ok(Seq(get_number(table, meta::LOG_FROM)?.max(1)))
}
