//! The configuration in the terms of the parts that it is for.

use std::collections::HashMap;

use crate::{
    config::{self, Config},
    engine::{Backfill, OnError, PluginOptions, TableOptions},
};

/// The `[[table]]` entries, for the engine.
pub fn table_options(config: &Config) -> Vec<TableOptions> {
    config
        .tables
        .iter()
        .map(|table| TableOptions {
            name: table.name.clone(),
            key: table.key.clone().unwrap_or_default(),
            mirror: table.mirror,
            columns: table
                .columns
                .iter()
                .map(|(name, column)| (name.clone(), column.ty, column.nullable))
                .collect(),
        })
        .collect()
}

/// The `[plugin.NAME]` entries, for the engine.
pub fn plugin_options(config: &Config) -> HashMap<String, PluginOptions> {
    config
        .plugins
        .iter()
        .map(|(name, plugin)| {
            let options = PluginOptions {
                on_error: match plugin.on_error {
                    config::OnError::Park => OnError::Park,
                    config::OnError::Skip => OnError::Skip,
                    config::OnError::Halt => OnError::Halt,
                },
                backfill: match plugin.backfill {
                    config::Backfill::Snapshot => Backfill::Snapshot,
                    config::Backfill::Log => Backfill::Log,
                    config::Backfill::None => Backfill::None,
                },
            };
            (name.clone(), options)
        })
        .collect()
}

/// What the plugins are told of their own configuration.
pub fn plugin_configs(config: &Config) -> HashMap<String, serde_json::Value> {
    config
        .plugins
        .iter()
        .map(|(name, plugin)| (name.clone(), plugin.config.clone()))
        .collect()
}
