//! The plugin files of the simulated world, and what the engine is told of them.

use std::{collections::HashMap, sync::Arc};

use rulemill::engine::{Backfill, OnError, PluginEvent, PluginOptions};
use rulemill_tests::native::{Make, NativePlugin};

use crate::rules;

/// Plugins that are there from the start; the others come later.
pub(crate) const FROM_START: [&str; 8] = [
    "shop", "enrich", "stock", "ledger", "carts", "lenient", "reader", "follow",
];
pub(crate) const ALL: [&str; 10] = [
    "shop", "enrich", "stock", "ledger", "carts", "lenient", "reader", "follow", "late", "tardy",
];

/// The mended version of every plugin.
pub(crate) const MENDED: u32 = 2;

/// The versions that a plugin comes in.
pub(crate) fn versions(name: &str) -> u32 {
    if name == "shop" { 3 } else { 2 }
}

/// A plugin's file, compiled.
pub(crate) fn compiled(name: &str, version: u32) -> Arc<NativePlugin> {
    let make: Make = match (name, version) {
        ("shop", 1) => rules::shop::shop_1::plugin,
        ("shop", 2) => rules::shop::shop_2::plugin,
        ("shop", _) => rules::shop::shop_3::plugin,
        ("enrich", 1) => rules::enrich::enrich_1::plugin,
        ("enrich", _) => rules::enrich::enrich_2::plugin,
        ("stock", 1) => rules::stock::stock_1::plugin,
        ("stock", _) => rules::stock::stock_2::plugin,
        ("ledger", 1) => rules::sums::ledger_1::plugin,
        ("ledger", _) => rules::sums::ledger_2::plugin,
        ("lenient", 1) => rules::sums::lenient_1::plugin,
        ("lenient", _) => rules::sums::lenient_2::plugin,
        ("reader", _) => rules::followers::reader::plugin,
        ("carts", _) => rules::carts::plugin,
        ("follow", _) => rules::followers::follow::plugin,
        ("late", _) => rules::sums::late::plugin,
        ("tardy", _) => rules::sums::tardy::plugin,
        _ => rules::followers::thief::plugin,
    };
    let label = format!("{name} {version}");
    NativePlugin::load(make, &serde_json::Value::Null, &label).expect("it takes any configuration")
}

/// The event of a file that came.
pub(crate) fn loaded(name: &str, version: u32) -> PluginEvent {
    PluginEvent::Loaded {
        name: name.to_owned(),
        plugin: compiled(name, version),
        last_good: None,
        reply: None,
    }
}

/// What the configuration says.
pub(crate) fn options() -> HashMap<String, PluginOptions> {
    let with = |on_error, backfill| PluginOptions { on_error, backfill };
    HashMap::from([
        ("ledger".into(), with(OnError::Halt, Backfill::Snapshot)),
        ("lenient".into(), with(OnError::Skip, Backfill::Snapshot)),
        ("late".into(), with(OnError::Park, Backfill::Snapshot)),
        ("tardy".into(), with(OnError::Park, Backfill::Log)),
    ])
}
