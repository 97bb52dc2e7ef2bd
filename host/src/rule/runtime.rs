//! Loading: from a file's bytes to a plugin that is compiled, checked and described.
//!
//! Owns the engine and its settings, the cache of compiled code, and the order of the checks. A file
//! that fails one is refused with the reason; nothing of it stays.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use sha2::{Digest, Sha256};
use wasmtime::{Cache, CacheConfig, Config, Engine, OptLevel, component::Component};

use super::{
    guest::{Code, GuestPlugin},
    interface, manifest,
    plugin::{LoadError, Plugin, PluginHash},
    probe,
    ticker::Ticker,
};
use crate::limits::Limits;

/// Compiled code that is kept already is there sooner than this; compiling takes longer.
const COMPILING_AFTER: Duration = Duration::from_millis(300);

/// Compiles and checks plugins, and stops them in time. One for each host.
pub struct Runtime {
    engine: Engine,
    cache: Option<Cache>,
    ticker: Arc<Ticker>,
    limits: Arc<Limits>,
}

/// What the cache of compiled code has done since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheCounts {
    /// Plugins whose compiled code was there.
    pub hits: usize,
    /// Plugins that were compiled, and then kept.
    pub misses: usize,
}

impl Runtime {
    /// A runtime whose compiled code is kept in `cache_dir` (made if need be), if there is one.
    ///
    /// # Errors
    /// If the directory can't be used, or a thread can't be started.
    pub fn new(limits: &Limits, cache_dir: Option<&Path>) -> anyhow::Result<Self> {
        let cache = cache_dir.map(open_cache).transpose()?;
        let engine = Engine::new(&settings(cache.clone()))
            .map_err(anyhow_error)
            .context("can't set up WebAssembly")?;
        let ticker = Ticker::start(engine.clone())
            .context("can't start the thread that stops plugins in time")?;
        Ok(Self {
            engine,
            cache,
            ticker: Arc::new(ticker),
            limits: Arc::new(limits.clone()),
        })
    }

    /// What the cache has done; `None` without one.
    pub fn cache_counts(&self) -> Option<CacheCounts> {
        self.cache.as_ref().map(|cache| CacheCounts {
            hits: cache.cache_hits(),
            misses: cache.cache_misses(),
        })
    }

    /// Compiles a plugin's file, checks it and asks it to describe itself. `name` is the plugin's,
    /// for messages.
    ///
    /// # Errors
    /// Why the file is refused.
    pub fn load(
        &self,
        name: &str,
        code: Arc<[u8]>,
        config: &serde_json::Value,
    ) -> Result<Arc<dyn Plugin>, LoadError> {
        check_size(code.len() as u64, &self.limits)?;
        // Two compilers read bytes that anyone may have written: a panic in one of them is a fault of
        // the file, and no reason to stop.
        catch_unwind(AssertUnwindSafe(|| self.compile(name, code, config)))
            .unwrap_or_else(|_| Err(LoadError::Invalid("the compiler panicked over it".into())))
    }

    fn compile(
        &self,
        name: &str,
        code: Arc<[u8]>,
        config: &serde_json::Value,
    ) -> Result<Arc<dyn Plugin>, LoadError> {
        let probe = probe::probe(&code)?;
        let version = interface::version_of(&probe)?;
        probe.check_exports()?;
        let binary = probe.component(&code)?;
        let misses = |counts: CacheCounts| counts.misses;
        let (before, began) = (self.cache_counts().map(misses), Instant::now());
        let component = telling(name, || Component::from_binary(&self.engine, &binary))
            .map_err(|error| LoadError::Invalid(format!("{error:#}")))?;
        if self.cache_counts().map(misses) > before {
            let milliseconds = began.elapsed().as_millis();
            tracing::info!("compiled plugin {name} in {milliseconds} ms and kept the code");
        }
        let adapter = interface::link(&component, version).map_err(|error| {
            LoadError::NotAPlugin(format!(
                "it doesn't fit plugin interface {version}: {error:#}"
            ))
        })?;
        let guest_code = Code {
            name: name.into(),
            adapter,
            config: config.to_string(),
            engine: self.engine.clone(),
            ticker: Arc::clone(&self.ticker),
            limits: Arc::clone(&self.limits),
        };
        let manifest = guest_code.describe()?;
        manifest::check(&manifest, &self.limits).map_err(LoadError::Manifest)?;
        Ok(Arc::new(GuestPlugin {
            code: Arc::new(guest_code),
            manifest,
            hash: hash(&code),
            file: code,
        }))
    }
}

/// Runs a compilation, and says so in the log if it takes a while.
fn telling<T>(name: &str, compile: impl FnOnce() -> T) -> T {
    let (done, compiled) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let tell = move || {
            if compiled.recv_timeout(COMPILING_AFTER) == Err(RecvTimeoutError::Timeout) {
                tracing::info!("compiling plugin {name}");
            }
        };
        // Without the thread nothing is told, which is no reason to fail.
        let _ = thread::Builder::new()
            .name("compiling".into())
            .spawn_scoped(scope, tell);
        // Dropped when the work is done or panics, which ends the thread.
        let _done = done;
        compile()
    })
}

/// SHA-256 of a plugin file's bytes.
pub fn hash(code: &[u8]) -> PluginHash {
    PluginHash(Sha256::digest(code).into())
}

/// Refuses a file that is larger than its limit.
///
/// # Errors
/// Naming the limit.
pub fn check_size(bytes: u64, limits: &Limits) -> Result<(), LoadError> {
    if bytes > limits.plugin_bytes_max as u64 {
        return Err(LoadError::File(format!(
            "it has {bytes} bytes, and limits.plugin_bytes_max is {}",
            limits.plugin_bytes_max
        )));
    }
    Ok(())
}

fn open_cache(dir: &Path) -> anyhow::Result<Cache> {
    let context = || format!("can't keep compiled plugins in {}", dir.display());
    std::fs::create_dir_all(dir).with_context(context)?;
    let mut config = CacheConfig::new();
    config.with_directory(dir.canonicalize().with_context(context)?);
    Cache::new(config)
        .map_err(anyhow_error)
        .with_context(context)
}

fn settings(cache: Option<Cache>) -> Config {
    let mut config = Config::new();
    config
        .cache(cache)
        .cranelift_opt_level(OptLevel::Speed)
        .parallel_compilation(true)
        .epoch_interruption(true)
        // The same changes give the same bytes on every machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        // Guests call the host and return; nothing runs beside them.
        .concurrency_support(false)
        .wasm_memory64(false)
        // A trap is told by its kind and the guest's own panic message.
        .wasm_backtrace_max_frames(None);
    config
}

fn anyhow_error(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}
