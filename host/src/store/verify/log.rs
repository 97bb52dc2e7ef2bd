//! The log: whole, in order, and leading to the rows that are there.
//!
//! A change's `before` is the `after` of the one before it of its key, and the `after` of a key's last is the row. That is
//! followed from the newest change backwards, so that a key's row is looked up where its last change is met, with two hashes a
//! key in memory; and for a part of the keys at a time, so that there are never more than [`KEYS_MAX`] of them.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use crate::{
    catalog::{Stage, Table, TableId},
    change::{Change, Op, Seq},
};

use super::{
    Check, Error, blocks,
    reader::{StoredRow, stored_row},
    rows::whole,
    shown, tables,
};

/// Keys followed at a time, at the most, as long as they are spread evenly.
const KEYS_MAX: u64 = 1 << 20;

/// Where a chain has been followed back to.
#[derive(Clone, Copy)]
struct Link {
    /// The row before the change that was met last, hashed; `None` if there was none.
    before: Option<u64>,
    seq: Seq,
}

/// Which keys are followed.
struct Part<'a> {
    hasher: &'a RandomState,
    number: u64,
    of: u64,
}

impl Part<'_> {
    fn key(&self, table: TableId, key: &[u8]) -> Option<u64> {
        let hash = self.hasher.hash_one((table, key));
        (hash % self.of == self.number).then_some(hash)
    }

    fn row(&self, row: &[u8]) -> u64 {
        self.hasher.hash_one(row)
    }
}

impl Check<'_> {
    pub(super) fn log(&mut self) -> Result<(), Error> {
        self.log_blocks()?;
        let hasher = RandomState::new();
        let of = self.counts.log_changes / KEYS_MAX + 1;
        for number in 0..of {
            let part = Part {
                hasher: &hasher,
                number,
                of,
            };
            self.chains(&part)?;
        }
        Ok(())
    }

    /// Each block by itself, and their order.
    fn log_blocks(&mut self) -> Result<(), Error> {
        let mut bytes = 0;
        // The block before: its write set's last seq, and its place in that.
        let mut last: Option<(Seq, u32)> = None;
        // The change of a source before.
        let mut source = Seq(0);
        self.walk("log", "log", false, |check, key, value| {
            bytes += value.len() as u64;
            let Ok(at) = <[u8; 12]>::try_from(key) else {
                check.report("log", Some(super::hex(key)), "its key is no seq and place");
                return Ok(());
            };
            let [s0, s1, s2, s3, s4, s5, s6, s7, p0, p1, p2, p3] = at;
            let set = Seq(u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]));
            let place = u32::from_be_bytes([p0, p1, p2, p3]);
            let name = || Some(format!("{set} {place}"));
            let expected = match last {
                Some((before, place)) if before == set => place + 1,
                _ => 0,
            };
            last = Some((set, place));
            if place != expected {
                let problem = format!("block {expected} of its write set is missing");
                check.report("log", name(), problem);
            }
            if set > check.head.last_seq {
                let problem = format!("the last change is {}", check.head.last_seq);
                check.report("log", name(), problem);
            }
            if set < check.head.log_from {
                let problem = format!("the log begins with change {}", check.head.log_from);
                check.report("log", name(), problem);
            }
            match blocks::read_block(value) {
                Ok(changes) => {
                    let newest = blocks::block_newest(value)?;
                    check.block(set, &changes, newest, &mut source, &name);
                }
                Err(error) => check.report("log", name(), error.finding()),
            }
            Ok(())
        })?;
        let said = self.head.log_bytes;
        if said != bytes {
            let problem = format!("says that the log has {said} bytes, and it has {bytes}");
            self.report("meta", Some("log_bytes".into()), problem);
        }
        Ok(())
    }

    fn block(
        &mut self,
        set: Seq,
        changes: &[Change],
        newest: i64,
        source: &mut Seq,
        name: &dyn Fn() -> Option<String>,
    ) {
        self.counts.log_changes += changes.len() as u64;
        let latest = changes.iter().map(|change| change.time).max();
        if latest != Some(newest) {
            self.report(
                "log",
                name(),
                "its newest change has another time than it says",
            );
        }
        for change in changes {
            let problem = match self.table(change.table) {
                None => Some(format!("there is no table {}", change.table)),
                Some(table) => {
                    let mut rows = change.before.iter().chain(&change.after);
                    let problem = if change.seq > set {
                        Some(format!("it is in the write set that ends with {set}"))
                    } else if change.after.is_some() == (change.op == Op::Delete) {
                        Some(format!("its {:?} doesn't fit the row after it", change.op))
                    } else if !table.is_derived() && change.seq <= *source {
                        Some(format!("change {source} comes before it"))
                    } else {
                        rows.find_map(|row| whole(&table, row))
                    };
                    if !table.is_derived() {
                        *source = change.seq.max(*source);
                    }
                    problem.map(|problem| {
                        let key = shown(&table, &change.key).unwrap_or_default();
                        format!("table {}, key {key}: {problem}", table.name)
                    })
                }
            };
            if let Some(problem) = problem {
                self.report("log", Some(format!("change {}", change.seq)), problem);
            }
        }
    }

    fn chains(&mut self, part: &Part<'_>) -> Result<(), Error> {
        let mut links: HashMap<u64, Link> = HashMap::new();
        self.walk("log", "log", true, |check, _, value| {
            // That a block can't be read has been said.
            let changes = blocks::read_block(value).unwrap_or_default();
            for change in changes.iter().rev() {
                let Some(hash) = part.key(change.table, &change.key) else {
                    continue;
                };
                let counts = |table: &Arc<Table>| table.mirror && table.stage != Stage::Dropped;
                if let Some(table) = check.table(change.table).filter(counts) {
                    check.link(&table, change, hash, part, &mut links)?;
                }
            }
            Ok(())
        })?;
        self.rows_in_log(part, &links)
    }

    /// One change back along its key's chain.
    fn link(
        &mut self,
        table: &Table,
        change: &Change,
        hash: u64,
        part: &Part<'_>,
        links: &mut HashMap<u64, Link>,
    ) -> Result<(), Error> {
        let link = Link {
            before: change.before.as_ref().map(|row| part.row(row)),
            seq: change.seq,
        };
        // Rows of before it was mirrored are in the log, and not in the mirror.
        let always_mirrored = table.is_derived() || table.generation == 0;
        let problem = match links.insert(hash, link) {
            Some(later) if always_mirrored => {
                let after = change.after.as_ref().map(|row| part.row(row));
                (after != later.before).then(|| {
                    format!(
                        "change {} leaves another row than the next one, {}, found",
                        change.seq, later.seq
                    )
                })
            }
            Some(_) => None,
            None => {
                let stored = match self.stored(table, &change.key) {
                    Ok(stored) => stored.transpose(),
                    Err(error) => return self.unreadable(&table.name, error),
                };
                // That it can't be read has been said.
                let Ok(stored) = stored else { return Ok(()) };
                if stored
                    .as_ref()
                    .is_some_and(|stored| whole(table, &stored.row).is_some())
                {
                    return Ok(());
                }
                match stored {
                    None if !always_mirrored => None,
                    Some(stored) if Some(&stored.row) != change.after.as_ref() => Some(format!(
                        "its row isn't what its last change in the log, {}, left",
                        change.seq
                    )),
                    Some(stored) if !table.is_derived() && stored.seq != change.seq => {
                        Some(format!(
                            "change {} wrote its row, and its last change in the log is {}",
                            stored.seq, change.seq
                        ))
                    }
                    None if change.after.is_some() => Some(format!(
                        "it isn't there, and its last change in the log, {}, left a row",
                        change.seq
                    )),
                    _ => None,
                }
            }
        };
        if let Some(problem) = problem {
            self.report(&table.name, shown(table, &change.key), problem);
        }
        Ok(())
    }

    /// A row, if there is one, and if it can be read.
    fn stored(&self, table: &Table, key: &[u8]) -> Result<Option<Result<StoredRow, Error>>, Error> {
        let name = tables::rows_name(table.id, table.generation);
        let Some(rows) = self.open(&name)? else {
            return Ok(None);
        };
        let found = rows.get(key)?;
        Ok(found.map(|found| stored_row(found.value())))
    }

    /// Whether every row of a source that was written since the log begins is in it.
    fn rows_in_log(&mut self, part: &Part<'_>, links: &HashMap<u64, Link>) -> Result<(), Error> {
        let catalog = self.head.catalog.clone();
        for table in catalog.tables().filter(|table| !table.is_derived()) {
            let name = tables::rows_name(table.id, table.generation);
            self.walk(&name, &table.name, false, |check, key, value| {
                let Some(hash) = part.key(table.id, key) else {
                    return Ok(());
                };
                if let Ok(stored) = stored_row(value)
                    && stored.seq >= check.head.log_from
                    && !links.contains_key(&hash)
                {
                    let problem = format!(
                        "change {} wrote it, and the log, which begins with {}, doesn't have that",
                        stored.seq, check.head.log_from
                    );
                    check.report(&table.name, shown(table, key), problem);
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
