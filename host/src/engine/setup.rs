//! What the engine is started with.

use std::{collections::HashMap, sync::Arc};

use rulemill_wire::ColumnType;
use serde::{Deserialize, Serialize};

use crate::{catalog::SharedCatalog, limits::Limits, store::Store};

use super::PluginEvent;

/// What the engine is started with.
pub struct Setup {
    /// The open store.
    pub store: Arc<Store>,
    /// The limits.
    pub limits: Arc<Limits>,
    /// The configuration's `[[table]]` entries.
    pub tables: Vec<TableOptions>,
    /// The configuration's `[plugin.NAME]` entries.
    pub plugins: HashMap<String, PluginOptions>,
    /// What the plugin directory holds now.
    pub plugins_now: Vec<PluginEvent>,
    /// Sources that are about to be started and have a present end: until they have come to it, time moves on only
    /// with changes.
    pub sources: Vec<String>,
    /// Whether time also moves on by the clock while nothing comes in, so that timers fire (a daemon),
    /// or only with changes (a batch run).
    pub ticks: bool,
    /// The clock: microseconds since 1970. Read only for changes that bring no time of their own, and
    /// for records that people read.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
}

/// What the configuration says of a source table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableOptions {
    /// Its name.
    pub name: String,
    /// Its key columns; empty to leave that to the plugins' row types.
    pub key: Vec<String>,
    /// Whether its current rows are kept.
    pub mirror: bool,
    /// Types of columns: name, type, whether it may be null.
    pub columns: Vec<(String, ColumnType, bool)>,
}

/// What the configuration says of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PluginOptions {
    /// What a fault does.
    pub on_error: OnError,
    /// What a rule that is new to the store sees of the past.
    pub backfill: Backfill,
}

/// What a rule's fault does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The change, and those behind it with the same key, are set aside for this rule.
    #[default]
    Park,
    /// The change is counted and passed over.
    Skip,
    /// The rule stops before the change.
    Halt,
}

/// What a rule that is new to the store sees of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backfill {
    /// The rows that are there, each once, as `read` changes.
    #[default]
    Snapshot,
    /// The changes that the log still holds.
    Log,
    /// Nothing.
    None,
}

/// The catalog that a store begins with: its own, or that of the configuration.
///
/// # Errors
/// If a `[[table]]` entry contradicts what the store holds.
pub(super) fn shared_catalog(
    stored: crate::catalog::Catalog,
    tables: &[TableOptions],
) -> anyhow::Result<Arc<SharedCatalog>> {
    use crate::catalog::{Column, Origin, Table};
    let shared = SharedCatalog::new(stored);
    for options in tables {
        shared.update(|catalog| {
            let mut table = match catalog.by_name(&options.name) {
                Some(table) if table.is_derived() => {
                    anyhow::bail!(
                        "[[table]] {}: a plugin's rules write this table, so its rows define it",
                        options.name
                    );
                }
                Some(table) => Table::clone(table),
                // Without a key it takes no rows until a plugin's row type says one.
                None => Table {
                    id: catalog.next_id(),
                    name: options.name.clone(),
                    generation: 0,
                    origin: Origin::Source,
                    columns: Vec::new(),
                    key: Vec::new(),
                    indexes: Vec::new(),
                    mirror: options.mirror,
                    stage: crate::catalog::Stage::default(),
                },
            };
            if options.mirror && !table.mirror {
                // The rows of before were not kept up: they are no mirror.
                table.generation += 1;
            }
            table.mirror = options.mirror;
            for (name, ty, nullable) in &options.columns {
                match table.columns.iter_mut().find(|column| column.name == *name) {
                    Some(column) => column.ty = Some(*ty),
                    None => table.columns.push(Column {
                        name: name.clone(),
                        ty: Some(*ty),
                        nullable: *nullable,
                    }),
                }
            }
            let mut key = Vec::new();
            for name in &options.key {
                let id = match table.column(name) {
                    Some((id, _)) => id,
                    None => {
                        table.columns.push(Column {
                            name: name.clone(),
                            ty: None,
                            nullable: false,
                        });
                        (table.columns.len() - 1) as u16
                    }
                };
                table.columns[usize::from(id)].nullable = false;
                key.push(id);
            }
            if !key.is_empty() {
                if !table.key.is_empty() && table.key != key {
                    anyhow::bail!(
                        "[[table]] {}: the store holds this table with another key ({}); a key can't change",
                        options.name,
                        table
                            .key_columns()
                            .map(|(_, column)| column.name.as_str())
                            .collect::<Vec<_>>()
                            .join(", ")
                    );
                }
                table.key = key;
            }
            if catalog.by_name(&table.name).map(|old| &**old) != Some(&table) {
                catalog.put(table);
            }
            Ok(())
        })?;
    }
    Ok(Arc::new(shared))
}
