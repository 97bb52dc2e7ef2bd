//! Forgetting what is old: the log, idempotency keys, bad input, sent notifications.
//!
//! Each call does a bounded amount of work in a transaction of its own, so it never holds up a commit for long.

use redb::{ReadableTable, ReadableTableMetadata};

use crate::{change::Seq, limits::Limits};

use super::{
    Error, IdempotencyRecord, Store,
    commit::{get_number, put_number},
    log,
    tables::{self, meta},
};

/// Entries looked at in one call, at the most, in each table.
const STEP: usize = 1_000;
const MICROS_PER_HOUR: i64 = 3_600_000_000;

impl Store {
    /// Removes some of what the limits no longer allow; `now` in microseconds. True if there may be
    /// more to remove.
    ///
    /// # Errors
    /// If the database fails; then nothing was removed.
    pub fn prune(&self, now: i64, limits: &Limits) -> Result<bool, Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(true);
        let mut more = false;
        {
            let mut meta_table = transaction.open_table(tables::META)?;
            let mut bytes = get_number(&meta_table, meta::LOG_BYTES)?;
            let oldest = now.saturating_sub(hours(limits.log_age_hours_max));
            let mut blocks = transaction.open_table(tables::LOG)?;
            let mut last_removed: Option<Seq> = None;
            for step in 0.. {
                let Some((key, value)) = blocks.first()? else {
                    break;
                };
                let set = log::block_last_seq(key.value())?;
                let len = value.value().len() as u64;
                // A write set goes whole, so that the log is complete from a seq on.
                let goes = last_removed == Some(set)
                    || bytes > limits.log_bytes_max
                    || log::block_newest(value.value())? < oldest;
                if !goes {
                    break;
                }
                if step >= STEP && last_removed != Some(set) {
                    more = true;
                    break;
                }
                drop((key, value));
                blocks.pop_first()?;
                bytes = bytes.saturating_sub(len);
                last_removed = Some(set);
            }
            if let Some(removed) = last_removed {
                put_number(&mut meta_table, meta::LOG_BYTES, bytes)?;
                put_number(&mut meta_table, meta::LOG_FROM, removed.next().0)?;
            }
            let oldest = now.saturating_sub(hours(limits.idempotency_age_hours_max));
            let mut requests = transaction.open_table(tables::IDEMPOTENCY)?;
            let before = requests.len()?;
            requests.retain(|_, record| {
                postcard::from_bytes::<IdempotencyRecord>(record)
                    .is_ok_and(|record| record.taken_at >= oldest)
            })?;
            more |= before > requests.len()? + STEP as u64;
            let mut outbox = transaction.open_table(tables::OUTBOX)?;
            let excess = outbox.len()?.saturating_sub(limits.outbox_max as u64);
            for _ in 0..excess.min(STEP as u64) {
                outbox.pop_first()?;
            }
            more |= excess > STEP as u64;
            more |= prune_bad_input(&transaction, limits.bad_input_kept_max)?;
        }
        transaction.commit()?;
        Ok(more)
    }
}

fn hours(hours: u64) -> i64 {
    i64::try_from(hours)
        .unwrap_or(i64::MAX)
        .saturating_mul(MICROS_PER_HOUR)
}

/// Keeps the newest of each source.
fn prune_bad_input(transaction: &redb::WriteTransaction, kept_max: usize) -> Result<bool, Error> {
    let mut table = transaction.open_table(tables::BAD_INPUT)?;
    if table.len()? <= kept_max as u64 {
        return Ok(false);
    }
    let mut by_source: std::collections::BTreeMap<Vec<u8>, Vec<Vec<u8>>> =
        std::collections::BTreeMap::new();
    for entry in table.iter()? {
        let key = entry?.0.value().to_vec();
        let source = key[..key.len().saturating_sub(8)].to_vec();
        by_source.entry(source).or_default().push(key);
    }
    let mut more = false;
    for keys in by_source.into_values() {
        let excess = keys.len().saturating_sub(kept_max);
        more |= excess > STEP;
        for key in keys.iter().take(excess.min(STEP)) {
            table.remove(&key[..])?;
        }
    }
    Ok(more)
}
