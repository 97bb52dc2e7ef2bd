//! Writing: a group of write sets in one durable transaction.

use std::collections::BTreeMap;

use redb::{ReadableTable, WriteTransaction};
use rulemill_wire::{ValueRef, codec, key};

use crate::{
    catalog::{Table, TableId},
    change::Seq,
    row,
};

use super::{
    Error, RowWrite, Store, WriteSet, log,
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

type BytesTable<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;

impl Store {
    /// Makes a group of write sets durable, in order, in one transaction.
    ///
    /// # Errors
    /// If the database fails: then nothing of the group is in the store.
    pub fn commit(&self, group: &mut [WriteSet]) -> Result<CommitStats, Error> {
        let mut transaction = self.database.begin_write()?;
        // After a crash the next start must not read the whole file.
        transaction.set_quick_repair(true);
        let mut stats = CommitStats::default();
        {
            let mut meta_table = transaction.open_table(tables::META)?;
            if let Some(catalog) = group.iter().rev().find_map(|set| set.catalog.as_ref()) {
                let stored: Vec<&Table> = catalog.tables().map(|table| &**table).collect();
                meta_table.insert(meta::CATALOG, &postcard::to_allocvec(&stored)?[..])?;
                put_number(&mut meta_table, meta::TABLES, stored.len() as u64)?;
            }
            let catalog = super::reader::read_catalog(&meta_table)?;
            stats.rows = write_rows(&transaction, group, |id| catalog.table(id))?;
            stats.log_bytes = write_log(&transaction, group)?;
            let log_bytes = get_number(&meta_table, meta::LOG_BYTES)? + stats.log_bytes;
            put_number(&mut meta_table, meta::LOG_BYTES, log_bytes)?;
            write_records(&transaction, &mut meta_table, group)?;
            if let Some(last) = group.last() {
                put_number(&mut meta_table, meta::LAST_SEQ, last.last_seq.0)?;
                put_number(&mut meta_table, meta::WATERMARK, last.watermark as u64)?;
            }
        }
        transaction.commit()?;
        Ok(stats)
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

/// A row write's place in the group, with its key's first bytes to sort by.
struct Place<'a> {
    prefix: u64,
    write: &'a RowWrite,
}

fn prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = key.len().min(8);
    bytes[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(bytes)
}

fn write_rows<'c>(
    transaction: &WriteTransaction,
    group: &[WriteSet],
    table_of: impl Fn(TableId) -> &'c std::sync::Arc<Table>,
) -> Result<u64, Error> {
    let mut by_table: BTreeMap<(TableId, u32), Vec<Place<'_>>> = BTreeMap::new();
    for writes in group.iter().flat_map(|set| &set.tables) {
        by_table
            .entry((writes.table, writes.generation))
            .or_default()
            .extend(writes.rows.iter().map(|write| Place {
                prefix: prefix(&write.key),
                write,
            }));
    }
    let mut rows = 0;
    let mut value = Vec::new();
    for ((id, generation), mut places) in by_table {
        let table = table_of(id);
        // Stable, so the writes of one key stay in order.
        places.sort_by(|a, b| {
            a.prefix
                .cmp(&b.prefix)
                .then_with(|| a.write.key.cmp(&b.write.key))
        });
        let name = tables::rows_name(id, generation);
        let mut to = transaction.open_table(tables::Bytes::new(&name))?;
        let mut index_changes: Vec<Vec<(Vec<u8>, Option<&[u8]>)>> =
            vec![Vec::new(); table.indexes.len()];
        for same_key in places.chunk_by(|a, b| a.prefix == b.prefix && a.write.key == b.write.key) {
            let (first, last) = (same_key[0].write, same_key[same_key.len() - 1].write);
            rows += 1;
            match &last.after {
                Some(row) => {
                    value.clear();
                    codec::write_u64(last.seq.0, &mut value);
                    codec::write_u64(last.version.into(), &mut value);
                    value.extend_from_slice(row);
                    to.insert(&last.key[..], &value[..])?;
                }
                None => {
                    to.remove(&last.key[..])?;
                }
            }
            for (index, changes) in index_changes.iter_mut().enumerate() {
                let old = first
                    .before
                    .as_ref()
                    .map(|row| entry(table, index, row, &last.key));
                let new = last
                    .after
                    .as_ref()
                    .map(|row| entry(table, index, row, &last.key));
                let (old, new) = (old.transpose()?, new.transpose()?);
                if old == new {
                    continue;
                }
                changes.extend(old.map(|entry| (entry, None)));
                changes.extend(new.map(|entry| (entry, Some(&last.key[..]))));
            }
        }
        for (index, mut changes) in index_changes.into_iter().enumerate() {
            if changes.is_empty() {
                continue;
            }
            changes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            let name = tables::index_name(id, generation, index);
            let mut to = transaction.open_table(tables::Bytes::new(&name))?;
            for (entry, row_key) in changes {
                match row_key {
                    Some(row_key) => {
                        to.insert(&entry[..], row_key)?;
                    }
                    None => {
                        to.remove(&entry[..])?;
                    }
                }
            }
        }
    }
    Ok(rows)
}

/// A row's entry in an index: the indexed columns, then the row's key.
fn entry(table: &Table, index: usize, row: &[u8], row_key: &[u8]) -> Result<Vec<u8>, Error> {
    let mut entry = Vec::with_capacity(32);
    for &column in &table.indexes[index].columns {
        let value: ValueRef<'_> = row::value(row, column)?;
        key::write_nullable(value, &mut entry);
    }
    entry.extend_from_slice(row_key);
    Ok(entry)
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

fn write_records(
    transaction: &WriteTransaction,
    meta_table: &mut BytesTable<'_>,
    group: &mut [WriteSet],
) -> Result<(), Error> {
    let mut positions = transaction.open_table(tables::POSITIONS)?;
    let mut bad_input = transaction.open_table(tables::BAD_INPUT)?;
    let mut rules = transaction.open_table(tables::RULES)?;
    let mut versions = transaction.open_table(tables::PLUGIN_VERSIONS)?;
    let mut code = transaction.open_table(tables::PLUGIN_CODE)?;
    let mut timers = transaction.open_table(tables::TIMERS)?;
    let mut outbox = transaction.open_table(tables::OUTBOX)?;
    let mut dead_letters = transaction.open_table(tables::DEAD_LETTERS)?;
    let mut idempotency = transaction.open_table(tables::IDEMPOTENCY)?;
    let mut last_bad_input = get_number(meta_table, meta::LAST_BAD_INPUT)?;
    let mut last_notification = get_number(meta_table, meta::LAST_NOTIFICATION)?;
    let mut last_dead_letter = get_number(meta_table, meta::LAST_DEAD_LETTER)?;
    for set in group {
        for (source, position) in &set.positions {
            positions.insert(
                &text_key(&[source, &position.part])[..],
                &position.bytes[..],
            )?;
        }
        for (source, bad) in &set.bad_input {
            last_bad_input += 1;
            let mut at = text_key(&[source]);
            at.extend_from_slice(&last_bad_input.to_be_bytes());
            bad_input.insert(&at[..], &postcard::to_allocvec(bad)?[..])?;
        }
        for record in &set.rules {
            rules.insert(
                &text_key(&[&record.plugin, &record.rule])[..],
                &postcard::to_allocvec(record)?[..],
            )?;
        }
        for version in &set.plugin_versions {
            versions.insert(
                &version.id.to_be_bytes()[..],
                &postcard::to_allocvec(version)?[..],
            )?;
            if !version.code.is_empty() {
                code.insert(&version.hash[..], &version.code[..])?;
            }
        }
        for timer in &set.timers {
            let at = text_key(&[&timer.plugin, &timer.rule, &timer.key]);
            match timer.due {
                Some(_) => timers.insert(&at[..], &postcard::to_allocvec(timer)?[..])?,
                None => timers.remove(&at[..])?,
            };
        }
        for notification in &mut set.notifications {
            last_notification += 1;
            notification.id = last_notification;
            outbox.insert(
                &notification.id.to_be_bytes()[..],
                &postcard::to_allocvec(notification)?[..],
            )?;
        }
        for letter in &set.dead_letters {
            last_dead_letter = last_dead_letter.max(letter.id);
            dead_letters.insert(
                &letter.id.to_be_bytes()[..],
                &postcard::to_allocvec(letter)?[..],
            )?;
        }
        for id in &set.settled_dead_letters {
            dead_letters.remove(&id.to_be_bytes()[..])?;
        }
        for record in &set.idempotency {
            idempotency.insert(record.key.as_bytes(), &postcard::to_allocvec(record)?[..])?;
        }
    }
    put_number(meta_table, meta::LAST_BAD_INPUT, last_bad_input)?;
    put_number(meta_table, meta::LAST_NOTIFICATION, last_notification)?;
    put_number(meta_table, meta::LAST_DEAD_LETTER, last_dead_letter)
}

/// The seq before which nothing is in the log any more.
pub(super) fn log_from(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<Seq, Error> {
    Ok(Seq(get_number(table, meta::LOG_FROM)?.max(1)))
}
