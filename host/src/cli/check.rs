//! `rulemill check`: whether configuration, plugins and table graph fit together, changing nothing.
//!
//! The plugins are linked by a real engine over a copy of the store whose changes stay in memory, so what is said
//! here is what the daemon would say of them. Where there is no store yet it is an empty one; where a daemon has
//! it, too, and the report says so.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::anyhow;
use serde::Serialize;

use super::{
    ConfigArg, Failure, JsonArg, access, output,
    store_copy::{self, StoreCopy},
};
use crate::{
    config::Config,
    engine::{self, Control, Status},
    http::answers::{TableInfo, Tables},
    plugin_dir::PluginDir,
    rule::Runtime,
    store::Store,
};

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Check configuration, plugins and table graph as a start of the daemon would, changing nothing. Plugins \
                  are also held against what the store has, unless a daemon that runs has it; the report says which.",
    after_help = "Example:\n  \
    rulemill check -c shop.toml && systemctl restart shop"
)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    json: JsonArg,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether nothing was refused.
    ok: bool,
    /// What looks like a slip and stops nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    /// What the plugins were held against.
    store: String,
    plugins: BTreeMap<String, PluginReport>,
    rules: Vec<String>,
    tables: Vec<TableInfo>,
}

#[derive(Debug, Serialize)]
struct PluginReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let config = access::load_with_plugins(&args.config)?;
    let report = check(&config)?;
    if args.json.json {
        output::json(&report)?;
    } else {
        for line in lines(&report) {
            output::line(&line)?;
        }
    }
    let refused: Vec<_> = report
        .plugins
        .iter()
        .filter(|(_, plugin)| plugin.refused.is_some())
        .map(|(name, _)| name.as_str())
        .collect();
    if report.ok {
        Ok(())
    } else {
        Err(Failure::Failed(anyhow!(
            "{} would be refused",
            refused.join(", ")
        )))
    }
}

fn check(config: &Config) -> anyhow::Result<Report> {
    let limits = Arc::new(config.limits.clone());
    // Without a cache of compiled code: that would be a change.
    let runtime = Arc::new(Runtime::new(&limits, None)?);
    let mut plugins = PluginDir::new(
        config.plugin_dir.clone(),
        runtime,
        &limits,
        config.plugin_configs(),
    );
    let plugins_now = plugins.scan()?;
    let data_dir = config.data_dir.display();
    let (store, compared) = match store_copy::of(&config.data_dir, &limits)? {
        StoreCopy::Of(store) => (*store, format!("compared with the store in {data_dir}")),
        StoreCopy::Nothing => (
            Store::in_memory()?,
            format!("not compared with the store: there is none in {data_dir} yet"),
        ),
        StoreCopy::InUse => (
            Store::in_memory()?,
            format!(
                "not compared with the store: another rulemill has {data_dir}; `rulemill rules` says what that one \
                 refuses"
            ),
        ),
    };
    let (handle, engine) = engine::start(engine::Setup {
        store: Arc::new(store),
        limits,
        tables: config.table_options(),
        plugins: config.plugin_options(),
        plugins_now,
        sources: Vec::new(),
        ticks: false,
        clock: Arc::new(|| 0),
    })?;
    // As it began: what rules do from here on is not asked.
    let status = handle.board.load();
    let tables = Tables::of(&handle.catalog.load()).tables;
    handle.control(Control::Shutdown)?;
    engine.join()?;
    Ok(report(config, compared, &status, tables))
}

fn report(config: &Config, store: String, status: &Status, tables: Vec<TableInfo>) -> Report {
    Report {
        ok: status
            .plugins
            .values()
            .all(|plugin| plugin.refused.is_none()),
        warnings: config.plugins_not_found(status.plugins.keys().map(String::as_str)),
        plugins: status
            .plugins
            .iter()
            .map(|(name, plugin)| {
                let report = PluginReport {
                    hash: plugin.hash.clone(),
                    refused: plugin.refused.clone(),
                };
                (name.clone(), report)
            })
            .collect(),
        store,
        rules: status
            .rules
            .iter()
            .filter(|(_, rule)| rule.status != "unloaded")
            .map(|(name, _)| name.clone())
            .collect(),
        tables,
    }
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines = vec!["configuration: ok".to_owned()];
    for warning in &report.warnings {
        lines.push(format!("warning: {warning}"));
    }
    lines.push(format!("plugins: {}", report.store));
    for (name, plugin) in &report.plugins {
        lines.push(match &plugin.refused {
            Some(reason) => format!("plugin {name}: refused: {reason}"),
            None => format!("plugin {name}: ok"),
        });
    }
    if report.plugins.is_empty() {
        lines.push("no plugins in the plugin directory".to_owned());
    }
    for rule in &report.rules {
        lines.push(format!("rule {rule}"));
    }
    for table in &report.tables {
        let kind = match &table.plugin {
            Some(plugin) => format!("derived by {plugin}"),
            None => table.kind.clone(),
        };
        lines.push(format!(
            "table {} ({kind}), key {}",
            table.name,
            table.key.join(", ")
        ));
    }
    lines
}
