//! A plugin in WebAssembly: its one instance, and the host's imports as plain Rust.
//!
//! Owns no logic: the exports go to the [`PluginRuntime`], the runtime's reads to the imports.

use std::{cell::RefCell, sync::Arc};

use crate::{
    bindings::rulemill::plugin::{diagnostics, state},
    diagnostics::Level,
    runtime::{self, Panicked, PluginRuntime},
    state::{Found, Page, Range, StateReader},
};

/// The tables behind the imported interface `state`.
struct HostState;

impl From<state::Found> for Found {
    fn from(found: state::Found) -> Self {
        Self {
            row: found.row,
            until: found.until,
        }
    }
}

impl StateReader for HostState {
    fn get(&self, table: u32, key: &[u8], at: u64) -> Found {
        state::get(table, key, at).into()
    }

    fn get_many(&self, table: u32, keys: &[Vec<u8>], at: u64) -> Vec<Found> {
        state::get_many(table, keys, at)
            .into_iter()
            .map(Found::from)
            .collect()
    }

    fn scan(&self, table: u32, range: &Range, at: u64) -> Page {
        let page = state::scan(
            table,
            &state::Range {
                index: range.index,
                from: range.from.clone(),
                to: range.to.clone(),
                descending: range.descending,
                limit: range.limit,
            },
            at,
        );
        Page {
            count: page.count,
            rows: page.rows,
            next: page.next,
        }
    }

    fn saves(&self) -> bool {
        diagnostics::saves()
    }
}

struct Instance {
    plugin: PluginRuntime,
    state: Arc<dyn StateReader>,
}

thread_local! {
    static INSTANCE: RefCell<Option<Instance>> = const { RefCell::new(None) };
}

/// Makes the instance and describes it.
pub fn describe(plugin: fn() -> PluginRuntime, config: &str) -> Result<Vec<u8>, String> {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.to_string();
        match runtime::panicked_call() {
            Some(Panicked { item, rule, done }) => {
                diagnostics::panicked_at(item, rule, &message, done.as_deref());
            }
            None => diagnostics::panicked(&message),
        }
    }));
    let mut plugin = plugin();
    let manifest = plugin.describe(config)?;
    INSTANCE.with_borrow_mut(|instance| {
        *instance = Some(Instance {
            plugin,
            state: Arc::new(HostState),
        });
    });
    Ok(manifest)
}

/// Handles a batch.
pub fn apply(batch: &[u8]) -> Result<Vec<u8>, String> {
    INSTANCE.with_borrow_mut(|instance| match instance {
        Some(instance) => instance.plugin.apply(batch, &instance.state),
        None => Err("apply was called before describe".to_owned()),
    })
}

/// Writes a line to the host's log.
pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Debug => diagnostics::Level::Debug,
        Level::Info => diagnostics::Level::Info,
        Level::Warn => diagnostics::Level::Warn,
        Level::Error => diagnostics::Level::Error,
    };
    diagnostics::log(level, message);
}
