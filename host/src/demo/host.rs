//! The demo's host: the parts that `rulemill run` runs, started and ended in the same way.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rulemill_wire::Value;

use super::recompute::{Row, Rows, Tables};
use crate::{
    catalog::Table,
    config::Config,
    daemon::{self, End, Host, Options},
    engine::Handle,
    row,
    store::Reader,
};

/// What came of a run.
pub(super) struct Ran {
    /// The derived tables at its end.
    pub(super) tables: Tables,
    /// From the sources' start to the last change being durable.
    pub(super) elapsed: Duration,
}

/// Runs a host over what its sources hold. `progress` hears how many changes are durable.
pub(super) fn run_once(config: &Path, progress: &dyn Fn(u64)) -> Result<Ran> {
    let config = Config::load(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let options = Options { once: true };
        let mut host = tokio::task::spawn_blocking(move || Host::start(config, options)).await??;
        let began = Instant::now();
        let handle = host.handle.clone();
        tokio::select! {
            end = host.ended(true) => match end {
                End::Asked(_) => {}
                End::Failed(error) => return Err(error),
            },
            () = follow(&handle, progress) => {}
        }
        let elapsed = began.elapsed();
        complain(&handle)?;
        let tables = derived_tables(&handle.store.reader()?)?;
        drop(handle);
        host.stop("the demo is done").await?;
        Ok(Ran { tables, elapsed })
    })
}

/// Serves the directory's tables until Ctrl-C.
pub(super) fn serve(config: &Path) -> Result<()> {
    let loaded = Config::load(config)?;
    let file = config.display();
    if let Some(address) = loaded.http_listen() {
        println!("serving:  http://{address}/v1/tables, until Ctrl-C");
        println!("try:      curl 'http://{address}/v1/tables/product_totals/rows?limit=3'");
    }
    println!("          rulemill query user_totals --limit 5 -c {file}");
    println!("          rulemill tail -c {file}");
    daemon::run(loaded, false)
}

/// Tells the progress for as long as it is polled.
async fn follow(handle: &Handle, progress: &dyn Fn(u64)) {
    loop {
        let changed = handle.board.changed();
        progress(handle.board.load().durable_seq);
        changed.await;
    }
}

/// Whatever would make the comparison pointless.
fn complain(handle: &Handle) -> Result<()> {
    let status = handle.board.load();
    for (name, plugin) in &status.plugins {
        if let Some(reason) = &plugin.refused {
            bail!("plugin {name} was refused: {reason}");
        }
    }
    if status.plugins.is_empty() {
        bail!("the host found no plugin");
    }
    for (name, source) in &status.sources {
        if source.bad > 0 {
            let error = source
                .last_error
                .as_deref()
                .unwrap_or("no reason was given");
            bail!(
                "source {name} could not take {} lines; the last: {error}",
                source.bad
            );
        }
    }
    for (name, rule) in &status.rules {
        if let Some(error) = &rule.last_error {
            bail!(
                "rule {name} failed {} times; the last: {error}",
                rule.faults
            );
        }
    }
    Ok(())
}

/// The rows of every derived table.
fn derived_tables(reader: &Reader) -> Result<Tables> {
    let catalog = reader.catalog()?;
    let mut tables = BTreeMap::new();
    for table in catalog
        .tables()
        .filter(|table| table.is_derived() && table.is_serving())
    {
        let rows = reader.rows(table, &[], None, false)?;
        let rows = rows
            .map(|entry| keyed_row(table, &entry?.1.row))
            .collect::<Result<Rows>>();
        let rows = rows.with_context(|| format!("reading table {}", table.name))?;
        tables.insert(table.name.clone(), rows);
    }
    Ok(tables)
}

fn keyed_row(table: &Table, bytes: &[u8]) -> Result<(i64, Row)> {
    let mut columns = Row::new();
    for (id, column) in (0..).zip(&table.columns) {
        columns.insert(column.name.clone(), row::value(bytes, id)?.to_owned());
    }
    match row::value(bytes, table.key[0])?.to_owned() {
        Value::I64(key) => Ok((key, columns)),
        other => bail!("the key {other:?} is no integer"),
    }
}
