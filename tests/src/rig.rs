//! An engine with plugins compiled natively and a store in memory: changes go in as plain values, tables come out as
//! lines of text.

mod commands;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use anyhow::{Context, anyhow};
use rulemill::{
    catalog::Table,
    change::{Idempotency, Key, RawChange, RawOp, Receipt, Refused, SourceBatch},
    engine::{
        self, Control, EngineThread, Handle, PluginEvent, PluginOptions, Setup, TableOptions,
    },
    limits::Limits,
    row::{self, RowBuilder},
    rule::Plugin,
    store::Store,
};
use rulemill_wire::{ValueRef, key};

use crate::native::{Make, NativePlugin};

pub use commands::order;

/// What an engine is started with.
#[derive(Clone, Default)]
pub struct Options {
    /// The limits.
    pub limits: Limits,
    /// `[[table]]` entries.
    pub tables: Vec<TableOptions>,
    /// `[plugin.NAME]` entries.
    pub plugins: HashMap<String, PluginOptions>,
    /// Whether time moves on by the clock.
    pub ticks: bool,
}

/// A running engine.
pub struct Rig {
    /// Its store, which outlives it.
    pub store: Arc<Store>,
    /// The way to it.
    pub handle: Handle,
    thread: EngineThread,
    /// The clock's time in microseconds.
    pub clock: Arc<AtomicI64>,
}

/// A change as a test writes it.
#[derive(Debug, Clone)]
pub struct TestChange<'a> {
    /// The table.
    pub table: &'a str,
    /// What happened.
    pub op: RawOp,
    /// The row after; for a delete its key columns will do.
    pub row: Vec<(&'a str, ValueRef<'a>)>,
    /// The commit time in microseconds.
    pub time: Option<i64>,
}

impl Rig {
    /// Starts an engine over `store`.
    ///
    /// # Errors
    /// What the engine says.
    pub fn start(
        store: Arc<Store>,
        options: &Options,
        plugins: &[(&str, Make, &str)],
    ) -> anyhow::Result<Self> {
        Self::start_at(store, options, plugins, 1_000_000)
    }

    /// The same, with the clock at this many microseconds.
    ///
    /// # Errors
    /// What the engine says.
    pub fn start_at(
        store: Arc<Store>,
        options: &Options,
        plugins: &[(&str, Make, &str)],
        micros: i64,
    ) -> anyhow::Result<Self> {
        let plugins_now = plugins
            .iter()
            .map(|(name, make, label)| loaded(name, *make, label))
            .collect::<Result<_, _>>()?;
        Self::start_with(store, options, plugins_now, micros)
    }

    fn start_with(
        store: Arc<Store>,
        options: &Options,
        plugins_now: Vec<PluginEvent>,
        micros: i64,
    ) -> anyhow::Result<Self> {
        let clock = Arc::new(AtomicI64::new(micros));
        let time = clock.clone();
        let (handle, thread) = engine::start(Setup {
            store: store.clone(),
            limits: Arc::new(options.limits.clone()),
            tables: options.tables.clone(),
            plugins: options.plugins.clone(),
            plugins_now,
            sources: Vec::new(),
            ticks: options.ticks,
            clock: Arc::new(move || time.load(Ordering::SeqCst)),
        })?;
        Ok(Self {
            store,
            handle,
            thread,
            clock,
        })
    }

    /// Starts an engine where `newest` is what lies in the plugin directory and `last_good` what ran before.
    ///
    /// # Errors
    /// What the engine says.
    pub fn start_over(
        store: Arc<Store>,
        options: &Options,
        newest: (&str, Make, &str),
        last_good: (&str, Make, &str),
        others: &[(&str, Make, &str)],
    ) -> anyhow::Result<Self> {
        let mut events = vec![loaded(newest.0, newest.1, newest.2)?];
        let PluginEvent::Loaded { plugin, .. } = loaded(last_good.0, last_good.1, last_good.2)?
        else {
            return Err(anyhow!("no plugin"));
        };
        if let PluginEvent::Loaded { last_good, .. } = &mut events[0] {
            *last_good = Some(plugin);
        }
        for (name, make, label) in others {
            events.push(loaded(name, *make, label)?);
        }
        Self::start_with(store, options, events, 1_000_000)
    }

    /// Loads or replaces a plugin and waits until its rules run.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn load(&self, name: &str, make: Make, label: &str) -> anyhow::Result<()> {
        let plugin = NativePlugin::load(make, &serde_json::Value::Null, label)
            .map_err(|reason| anyhow!(reason))?;
        self.take(name, plugin)
    }

    /// The same with a plugin of any kind.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn take(&self, name: &str, plugin: Arc<dyn Plugin>) -> anyhow::Result<()> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        let event = PluginEvent::Loaded {
            name: name.to_owned(),
            plugin,
            last_good: None,
            reply: Some(reply),
        };
        self.handle.control(Control::Plugin(event))?;
        answer.recv()?.map_err(|reason| anyhow!(reason))
    }

    /// Hands in one source transaction and waits until it is durable.
    ///
    /// # Errors
    /// If a change names no table that is there, or the engine refuses the batch.
    pub fn apply(&self, changes: &[TestChange<'_>]) -> anyhow::Result<Receipt> {
        self.apply_request(changes, None)?.map_err(Into::into)
    }

    /// The same, with an idempotency key.
    ///
    /// # Errors
    /// If a change names no table that is there.
    pub fn apply_request(
        &self,
        changes: &[TestChange<'_>],
        idempotency: Option<Idempotency>,
    ) -> anyhow::Result<Result<Receipt, Refused>> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let mut batch = self.batch(changes)?;
        batch.idempotency = idempotency;
        batch.done = Some(Box::new(move |result| {
            let _ = sender.send(result);
        }));
        self.handle.submit(batch)?;
        receiver.recv().context("the engine dropped the batch")
    }

    /// The batch of these changes.
    ///
    /// # Errors
    /// If a change names no table that is there.
    pub fn batch(&self, changes: &[TestChange<'_>]) -> anyhow::Result<SourceBatch> {
        let changes = changes
            .iter()
            .map(|change| self.raw(change))
            .collect::<anyhow::Result<_>>()?;
        Ok(SourceBatch {
            source: "test".into(),
            changes,
            bad: Vec::new(),
            positions: Vec::new(),
            input_bytes: 0,
            idempotency: None,
            done: None,
        })
    }

    fn raw(&self, change: &TestChange<'_>) -> anyhow::Result<RawChange> {
        let names: Vec<&str> = change.row.iter().map(|(name, _)| *name).collect();
        let id = self
            .handle
            .catalog
            .load()
            .by_name(change.table)
            .with_context(|| format!("no table {}", change.table))?
            .id;
        let columns = self.handle.catalog.intern_columns(id, &names, 100)?;
        let catalog = self.handle.catalog.load();
        let table = catalog.table(id);
        let mut builder = RowBuilder::default();
        for (column, (_, value)) in columns.iter().zip(&change.row) {
            builder.set(*column, *value);
        }
        let mut key = Vec::new();
        for (column, _) in table.key_columns() {
            key::write(builder.get(column)?, &mut key);
        }
        let mut row = Vec::new();
        builder.finish(&mut row);
        Ok(RawChange {
            table: id,
            op: change.op,
            key: Key::from(key),
            old_key: None,
            before: None,
            after: (!matches!(change.op, RawOp::Delete | RawOp::Truncate)).then(|| row.into()),
            lacks: false,
            time: change.time,
        })
    }

    /// A table's rows in key order, a line each: `column=value` for every column that isn't null.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn rows(&self, table: &str) -> anyhow::Result<Vec<String>> {
        rows(&self.store, table)
    }

    /// Waits until `holds` is true of the status.
    pub fn wait_for(&self, holds: impl Fn(&engine::Status) -> bool) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !holds(&self.handle.board.load()) {
            assert!(
                std::time::Instant::now() < deadline,
                "waited in vain: {:#?}",
                self.handle.board.load()
            );
            std::thread::yield_now();
        }
    }

    /// Lets the engine finish and gives its store.
    ///
    /// # Errors
    /// Why the engine failed.
    pub fn stop(self) -> anyhow::Result<Arc<Store>> {
        self.handle.control(Control::Shutdown)?;
        self.thread.join()?;
        Ok(self.store)
    }
}

/// A table's rows, as [`Rig::rows`] gives them.
///
/// # Errors
/// If the store can't be read.
pub fn rows(store: &Store, table: &str) -> anyhow::Result<Vec<String>> {
    let reader = store.reader()?;
    let catalog = reader.catalog()?;
    let table: &Table = catalog
        .by_name(table)
        .with_context(|| format!("no table {table}"))?;
    let mut lines = Vec::new();
    for stored in reader.rows(table, &[], None, false)? {
        let (_, stored) = stored?;
        let mut cells = Vec::new();
        for (column, value) in table.columns.iter().zip(row::values(&stored.row)) {
            match value? {
                ValueRef::Null => {}
                ValueRef::I64(v) => cells.push(format!("{}={v}", column.name)),
                ValueRef::Text(v) => cells.push(format!("{}={v}", column.name)),
                ValueRef::Decimal(v) => cells.push(format!("{}={v}", column.name)),
                value => cells.push(format!("{}={value:?}", column.name)),
            }
        }
        lines.push(cells.join(" "));
    }
    Ok(lines)
}

fn loaded(name: &str, make: Make, label: &str) -> anyhow::Result<PluginEvent> {
    let plugin = NativePlugin::load(make, &serde_json::Value::Null, label)
        .map_err(|reason| anyhow!(reason))?;
    Ok(PluginEvent::Loaded {
        name: name.to_owned(),
        plugin,
        last_good: None,
        reply: None,
    })
}
