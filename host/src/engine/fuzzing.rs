//! The engine's readers of bytes that it doesn't trust, for the fuzzers in `tests/src/fuzzing`, which hold them against
//! readings of their own. No part of the library's interface.
//!
//! Owns nothing but the way in: what is called is what the engine calls.

use rulemill_wire::{DecodeError, Reader, manifest};

use crate::{
    catalog::{Catalog, Table},
    change::Seq,
    limits::Limits,
    row::{RowBuilder, RowError},
    rule::Fault,
};

use super::{
    effects::Checker,
    link::{self, LinkedTable},
    projection::Projection,
};

/// A plugin whose effects are checked.
pub struct EffectsCheck {
    catalog: Catalog,
    tables: Vec<LinkedTable>,
    rules: usize,
    limits: Limits,
}

/// An effect that was let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckedEffect {
    /// A row to write, or to remove.
    Write {
        /// The manifest's table.
        table: u16,
        /// The item's place in the batch.
        item: u32,
        /// The row's key, in key form.
        key: Vec<u8>,
        /// The row in the host's form; none to remove it.
        row: Option<Vec<u8>>,
    },
    /// A timer set, or cleared.
    Timer {
        /// The rule.
        rule: u16,
        /// The timer's key.
        key: String,
        /// When it is due; none to clear it.
        due: Option<i64>,
    },
    /// A notification.
    Notification {
        /// The rule.
        rule: u16,
        /// The item's place in the batch.
        item: u32,
        /// The topic.
        topic: String,
        /// A JSON document.
        body: String,
    },
    /// A rule's error.
    Fault {
        /// The rule.
        rule: u16,
        /// The item's place in the batch.
        item: u32,
        /// What the rule said.
        message: String,
    },
}

impl EffectsCheck {
    /// A plugin with this manifest, fitted to an empty catalog.
    ///
    /// # Errors
    /// If it doesn't fit.
    pub fn new(manifest: &manifest::Manifest, limits: Limits) -> Result<Self, String> {
        let mut catalog = Catalog::default();
        let is_empty = |_: &Table| Ok(true);
        let tables = link::link_tables(
            "fuzzed",
            manifest,
            &mut catalog,
            &[],
            &|_| false,
            &is_empty,
            Seq(0),
        )?;
        Ok(Self {
            catalog,
            tables,
            rules: manifest.rules.len(),
            limits,
        })
    }

    /// The effects in these bytes, returned for a batch of `items`: writes, timers, notifications, faults.
    ///
    /// # Errors
    /// Why they are refused.
    pub fn check(&self, items: usize, bytes: &[u8]) -> Result<Vec<CheckedEffect>, Fault> {
        let checker = Checker {
            tables: &self.tables,
            catalog: &self.catalog,
            limits: &self.limits,
            items,
            rules: self.rules,
        };
        let effects = checker.check(bytes).map_err(|(fault, _)| fault)?;
        let writes = effects
            .writes
            .into_iter()
            .map(|write| CheckedEffect::Write {
                table: write.table,
                item: write.item,
                key: write.key.to_vec(),
                row: write.row.map(|row| row.to_vec()),
            });
        let timers = effects
            .timers
            .into_iter()
            .map(|timer| CheckedEffect::Timer {
                rule: timer.rule,
                key: timer.key,
                due: timer.due,
            });
        let notifications =
            effects
                .notifications
                .into_iter()
                .map(|notification| CheckedEffect::Notification {
                    rule: notification.rule,
                    item: notification.item,
                    topic: notification.topic,
                    body: notification.body,
                });
        let faults = effects
            .faults
            .into_iter()
            .map(|fault| CheckedEffect::Fault {
                rule: fault.rule,
                item: fault.item,
                message: fault.message,
            });
        Ok(writes
            .chain(timers)
            .chain(notifications)
            .chain(faults)
            .collect())
    }
}

/// How a plugin's row type is taken from, and put into, a table's rows.
pub struct RowCut {
    table: Table,
    projection: Projection,
}

impl RowCut {
    /// What `declared` names of a table.
    ///
    /// # Errors
    /// With the first column that the table doesn't have.
    pub fn new(declared: &manifest::Table, table: Table) -> Result<Self, String> {
        let projection = Projection::new(declared, &table)?;
        Ok(Self { table, projection })
    }

    /// A stored row's declared columns in wire form.
    ///
    /// # Errors
    /// If the row is damaged or doesn't fit.
    pub fn to_wire(&self, row: &[u8]) -> Result<Vec<u8>, RowError> {
        let mut out = Vec::new();
        self.projection.to_wire(&self.table, row, &mut out)?;
        Ok(out)
    }

    /// The row that a guest wrote, and how many of the bytes it is.
    ///
    /// # Errors
    /// If the bytes are none.
    pub fn read_wire(&self, bytes: &[u8]) -> Result<(Vec<u8>, usize), DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut builder = RowBuilder::default();
        self.projection.read_wire(&mut reader, &mut builder)?;
        let mut row = Vec::new();
        builder.finish(&mut row);
        Ok((row, bytes.len() - reader.rest().len()))
    }
}
