//! One run in a process of its own.

use std::{fmt, path::Path, sync::Arc, time::Instant};

use anyhow::{Context, Result, anyhow, bail};
use rulemill::{
    config::Config,
    engine::{self, Control, PluginEvent},
    guest_build::{self, BuildRequest},
    row,
    rule::{Plugin, Runtime},
    source,
    store::Store,
};
use rulemill_tests::native::NativePlugin;
use rulemill_wire::ValueRef;
use serde::{Deserialize, Serialize};

use crate::input::Totals;

const PLUGIN: &str = "totals";

/// How the rule is compiled.
#[derive(Clone, Copy)]
pub(crate) enum Code {
    Wasm,
    Native,
}

/// What is measured.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) code: Code,
    /// Whether the source's rows are kept, and their changes looked up in them.
    pub(crate) mirror: bool,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match (self.code, self.mirror) {
            (Code::Wasm, true) => "wasm+mirror",
            (Code::Native, true) => "native+mirror",
            (Code::Wasm, false) => "wasm",
            (Code::Native, false) => "native",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self> {
        crate::KINDS
            .into_iter()
            .find(|kind| kind.name() == name)
            .with_context(|| format!("no kind {name}"))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match (self.code, self.mirror) {
            (Code::Wasm, true) => "Wasm, mirror and log",
            (Code::Native, true) => "native, mirror and log",
            (Code::Wasm, false) => "Wasm, log only",
            (Code::Native, false) => "native, log only",
        })
    }
}

/// What a run came to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    /// Of all threads, user and system.
    pub(crate) cpu_seconds: f64,
    /// The most that was resident.
    pub(crate) memory_bytes: u64,
    pub(crate) totals: Totals,
}

/// Compiles the plugin into `dir/plugins`.
pub(crate) fn build_plugin(dir: &Path) -> Result<()> {
    guest_build::build(&BuildRequest {
        crates: vec![
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../plugins")
                .join(PLUGIN),
        ],
        out: dir.join("plugins"),
        quiet: true,
    })?;
    Ok(())
}

/// Takes the file from its start to its end.
pub(crate) fn run(dir: &Path, kind: Kind, limits: &str) -> Result<Measured> {
    let data_dir = tempfile::Builder::new().prefix("data-").tempdir_in(dir)?;
    let file = data_dir.path().join("rulemill.toml");
    std::fs::write(
        &file,
        format!(
            "data_dir = \"data\"\n[[source]]\nname = \"shop\"\nkind = \"files\"\npath = \"../inbox\"\nformat = \"debezium\"\n\
             [[table]]\nname = \"orders\"\nkey = [\"id\"]\nmirror = {}\n[limits]\n{limits}",
            kind.mirror
        ),
    )?;
    let config = Config::load(&file)?;
    let limits = Arc::new(config.limits.clone());
    let plugin: Arc<dyn Plugin> = match kind.code {
        Code::Wasm => {
            let code = std::fs::read(dir.join("plugins").join(PLUGIN).with_extension("wasm"))?;
            Runtime::new(&limits, None)?.load(PLUGIN, code.into(), &serde_json::Value::Null)?
        }
        Code::Native => NativePlugin::load(totals::plugin, &serde_json::Value::Null, PLUGIN)
            .map_err(|reason| anyhow!(reason))?,
    };
    let (handle, thread) = engine::start(engine::Setup {
        store: Arc::new(Store::open(&config.data_dir, &limits)?),
        limits: limits.clone(),
        tables: config.table_options(),
        plugins: config.plugin_options(),
        plugins_now: vec![PluginEvent::Loaded {
            name: PLUGIN.into(),
            plugin,
            last_good: None,
            reply: None,
        }],
        sources: Vec::new(),
        ticks: false,
        clock: Arc::new(|| 1_800_000_000_000_000),
    })?;
    let cpu = cpu_seconds()?;
    let began = Instant::now();
    source::start(&config, &handle, &limits, true)?.wait()?;
    let seconds = began.elapsed().as_secs_f64();
    let cpu_seconds = cpu_seconds()? - cpu;
    let memory_bytes = memory_bytes()?;
    for (name, source) in &handle.board.load().sources {
        if source.bad > 0 {
            bail!(
                "source {name} refused {} lines: {:?}",
                source.bad,
                source.last_error
            );
        }
    }
    handle.control(Control::Shutdown)?;
    thread.join()?;
    Ok(Measured {
        seconds,
        cpu_seconds,
        memory_bytes,
        totals: read_totals(&handle.store)?,
    })
}

fn read_totals(store: &Store) -> Result<Totals> {
    let reader = store.reader()?;
    let catalog = reader.catalog()?;
    let table = catalog.by_name("order_totals").context("no totals")?;
    let mut totals = Totals::new();
    for stored in reader.rows(table, &[], None, false)? {
        let (_, stored) = stored?;
        let mut cells = [None; 3];
        for (column, value) in table.columns.iter().zip(row::values(&stored.row)) {
            let at = ["product_id", "orders", "amount"]
                .iter()
                .position(|name| *name == column.name);
            cells[at.context("a column too many")?] = Some(match value? {
                ValueRef::I64(value) => value,
                ValueRef::Decimal(mut value) => {
                    value.rescale(2);
                    i64::try_from(value.mantissa())?
                }
                value => bail!("{value:?} in the totals"),
            });
        }
        if let [Some(product), Some(orders), Some(cents)] = cells {
            totals.insert(product, (orders, cents));
        }
    }
    Ok(totals)
}

/// Seconds in which this process's threads ran.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap_or_default())
        .sum();
    // USER_HZ, which Linux keeps at 100 for programs.
    Ok(ticks as f64 / 100.0)
}

/// The most memory that this process has had resident so far.
fn memory_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kilobytes.context("no VmHWM")?.trim().parse::<u64>()? * 1024)
}
