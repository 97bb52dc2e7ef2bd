//! A plugin's effects, checked byte by byte before anything is done with them.

use bytes::Bytes;
use rulemill_wire::effects::{Effect, EffectsReader};

use crate::{
    catalog::{Catalog, Table},
    change::Key,
    limits::Limits,
    row::{Row, RowBuilder},
    rule::{Fault, cut},
};

use super::{
    link::LinkedTable,
    projection::{self},
};

/// Checked effects.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) writes: Vec<Write>,
    pub(super) timers: Vec<TimerEffect>,
    pub(super) notifications: Vec<NotificationEffect>,
    pub(super) faults: Vec<FaultEffect>,
}

impl Effects {
    /// Where the faults are among the call's items, and whose. `places` are those of the batch's items.
    pub(super) fn faults_at(&self, places: &[u32]) -> impl Iterator<Item = (usize, u16)> {
        let faults = self.faults.iter();
        faults.map(|fault| (places[fault.item as usize] as usize, fault.rule))
    }
}

/// A row to write, or to remove.
#[derive(Debug)]
pub(super) struct Write {
    /// The manifest's table.
    pub(super) table: u16,
    /// The item's place in the batch.
    pub(super) item: u32,
    pub(super) key: Key,
    pub(super) row: Option<Row>,
}

/// A timer set or cleared.
#[derive(Debug)]
pub(super) struct TimerEffect {
    pub(super) rule: u16,
    pub(super) key: String,
    pub(super) due: Option<i64>,
}

/// A notification.
#[derive(Debug)]
pub(super) struct NotificationEffect {
    pub(super) rule: u16,
    pub(super) item: u32,
    pub(super) topic: String,
    pub(super) body: String,
}

/// A rule's error.
#[derive(Debug)]
pub(super) struct FaultEffect {
    pub(super) rule: u16,
    pub(super) item: u32,
    pub(super) message: String,
}

/// A write's number of table, item, kind and at least a column.
const WRITE_BYTES_MIN: usize = 4;

/// Reads effects, trusting nothing in them.
pub(super) struct Checker<'a> {
    pub(super) tables: &'a [LinkedTable],
    pub(super) catalog: &'a Catalog,
    pub(super) limits: &'a Limits,
    /// Items that the batch had.
    pub(super) items: usize,
    /// Rules that the plugin has.
    pub(super) rules: usize,
}

impl Checker<'_> {
    /// Checks `bytes` and takes them apart.
    ///
    /// # Errors
    /// [`Fault::Protocol`] or [`Fault::LimitExceeded`] for the first effect that can't be, and the item that had it.
    pub(super) fn check(&self, bytes: &[u8]) -> Result<Effects, (Fault, Option<u32>)> {
        let mut at = None;
        self.read(bytes, &mut at).map_err(|fault| (fault, at))
    }

    fn read(&self, bytes: &[u8], at: &mut Option<u32>) -> Result<Effects, Fault> {
        let broken = |what: String| Fault::Protocol(format!("its effects: {what}"));
        let decode = |error: rulemill_wire::DecodeError| broken(error.to_string());
        let mut reader = EffectsReader::new(bytes).map_err(decode)?;
        let mut effects = Effects::default();
        // Most write about a row an item.
        let writes = self.items.min(bytes.len() / WRITE_BYTES_MIN);
        effects.writes.reserve(writes);
        let mut buffer = Vec::with_capacity(bytes.len() + bytes.len() / 2);
        // (place in writes, key's range, row's range): slices of the buffer once it is complete.
        let mut ranges = Vec::with_capacity(writes);
        let mut builder = RowBuilder::default();
        loop {
            *at = None;
            let Some(effect) = reader.next_effect().map_err(decode)? else {
                break;
            };
            let item = effect.item();
            self.item(item)?;
            *at = Some(item);
            match effect {
                Effect::Put { table, item } | Effect::Delete { table, item } => {
                    let (linked, to) = self.owned(table)?;
                    let body = reader.body();
                    let start = buffer.len();
                    let row = if matches!(effect, Effect::Put { .. }) {
                        linked
                            .projection
                            .read_wire(body, &mut builder)
                            .map_err(|error| broken(format!("table {}: {error}", to.name)))?;
                        projection::write_key(to, &builder, &mut buffer)
                            .map_err(|error| broken(format!("table {}: {error}", to.name)))?;
                        let key_end = buffer.len();
                        let row = builder.finish(&mut buffer);
                        self.size(row.len(), "row_bytes_max", self.limits.row_bytes_max)?;
                        ranges.push((start..key_end, Some(row)));
                        key_end - start
                    } else {
                        linked
                            .projection
                            .read_wire_key(&linked.key_places, body, &mut buffer)
                            .map_err(|error| broken(format!("table {}: {error}", to.name)))?;
                        ranges.push((start..buffer.len(), None));
                        buffer.len() - start
                    };
                    self.size(row, "key_bytes_max", self.limits.key_bytes_max)?;
                    effects.writes.push(Write {
                        table,
                        item,
                        key: Key::new(),
                        row: None,
                    });
                }
                Effect::Timer { rule, key, due, .. } => {
                    self.rule(rule)?;
                    self.size(key.len(), "key_bytes_max", self.limits.key_bytes_max)?;
                    effects.timers.push(TimerEffect {
                        rule,
                        key: key.to_owned(),
                        due,
                    });
                }
                Effect::Notification {
                    rule,
                    item,
                    topic,
                    body,
                } => {
                    self.rule(rule)?;
                    if serde_json::from_str::<serde::de::IgnoredAny>(body).is_err() {
                        return Err(broken(format!(
                            "a notification on {topic:?} whose body is no JSON"
                        )));
                    }
                    effects.notifications.push(NotificationEffect {
                        rule,
                        item,
                        topic: topic.to_owned(),
                        body: body.to_owned(),
                    });
                }
                Effect::Fault {
                    rule,
                    item,
                    message,
                } => {
                    self.rule(rule)?;
                    effects.faults.push(FaultEffect {
                        rule,
                        item,
                        message: cut(message).to_owned(),
                    });
                }
            }
        }
        let buffer = Bytes::from(buffer);
        for (write, (key, row)) in effects.writes.iter_mut().zip(ranges) {
            write.key = buffer.slice(key);
            write.row = row.map(|row| buffer.slice(row));
        }
        Ok(effects)
    }

    fn owned(&self, table: u16) -> Result<(&LinkedTable, &Table), Fault> {
        let linked = self.tables.get(usize::from(table)).ok_or_else(|| {
            Fault::Protocol(format!(
                "its effects write table number {table}, which its manifest doesn't have"
            ))
        })?;
        let table = self.catalog.table(linked.id);
        if !linked.owned {
            return Err(Fault::Protocol(format!(
                "its effects write table {}, which it doesn't own",
                table.name
            )));
        }
        Ok((linked, table))
    }

    fn item(&self, item: u32) -> Result<(), Fault> {
        if (item as usize) < self.items {
            return Ok(());
        }
        Err(Fault::Protocol(format!(
            "its effects name item {item} of a batch of {}",
            self.items
        )))
    }

    fn rule(&self, rule: u16) -> Result<(), Fault> {
        if usize::from(rule) < self.rules {
            return Ok(());
        }
        Err(Fault::Protocol(format!(
            "its effects name rule number {rule} of {}",
            self.rules
        )))
    }

    fn size(&self, len: usize, limit: &'static str, max: usize) -> Result<(), Fault> {
        if len <= max {
            return Ok(());
        }
        Err(Fault::LimitExceeded {
            limit,
            value: max as u64,
        })
    }
}
