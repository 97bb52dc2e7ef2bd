//! A running host: its parts in the order in which they start and end.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, anyhow};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

use super::{
    announce::{Announced, Announcement},
    last_good,
    outcome::{Outcome, list},
};
use crate::{
    change::{Refused, SourceBatch},
    config::{Config, SourceKind},
    engine::{self, Control, EngineThread, Handle, PluginEvent, PluginStatus, RuleStatusLine},
    http::{self, Api},
    limits::Limits,
    plugin_dir::{PluginDir, Watching},
    rule::Runtime,
    source::{self, Sources},
    store::{self, Store},
};

/// How long a start waits for whoever has the store.
const STORE_WAIT: Duration = Duration::from_secs(1);
/// How long a host that ends waits for room on a full disk.
const ROOM_WAIT: Duration = Duration::from_secs(2);

/// How a host runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Only what the sources hold now: no HTTP, no watch, no clock.
    pub once: bool,
}

/// Why a host ends.
#[derive(Debug)]
pub enum End {
    /// It was asked to, or has done what it was asked to do: how the log says it.
    Asked(String),
    /// A part failed.
    Failed(anyhow::Error),
}

/// A running host. Dropped without [`stop`](Self::stop), it ends as after a crash, which loses
/// nothing that was acknowledged.
pub struct Host {
    /// The way to its engine and its status.
    pub handle: Handle,
    address: Option<SocketAddr>,
    sources: Option<Sources>,
    watching: Option<Watching>,
    /// Gets how the engine ended; none once that has been taken.
    engine: Option<oneshot::Receiver<anyhow::Result<()>>>,
    closing: watch::Sender<bool>,
    server: Option<JoinHandle<anyhow::Result<()>>>,
    // Last, so that it goes when nothing answers any more.
    announced: Announced,
}

impl Host {
    /// Starts a host. Blocks; call it on a thread of a tokio runtime that may.
    ///
    /// # Errors
    /// If the data directory is in use or damaged, or a part can't start.
    pub fn start(config: Config, options: Options) -> anyhow::Result<Self> {
        store::despite_panics(|| Self::start_parts(config, options))
    }

    fn start_parts(config: Config, options: Options) -> anyhow::Result<Self> {
        let limits = Arc::new(config.limits.clone());
        let data_dir = config.data_dir.clone();
        std::fs::create_dir_all(&data_dir)
            .with_context(|| format!("can't make data_dir {}", data_dir.display()))?;
        let store = open_store(&data_dir, &limits)
            .with_context(|| format!("can't open the store in data_dir {}", data_dir.display()))?;
        let (plugins, mut plugins_now) = load_plugins(&config, &limits)?;
        last_good::recall(&mut plugins_now, &plugins, &store)?;
        let (handle, engine) = engine::start(engine::Setup {
            store: Arc::new(store),
            limits: limits.clone(),
            tables: config.table_options(),
            plugins: config.plugin_options(),
            plugins_now,
            sources: config
                .sources
                .iter()
                .filter(|source| matches!(source.kind, SourceKind::Files { .. }))
                .map(|source| source.name.clone())
                .collect(),
            ticks: !options.once,
            clock: Arc::new(now_micros),
        })?;
        let engine = watch_end(engine)?;
        let (closing, is_closing) = watch::channel(false);
        let mut server = None;
        let mut address = None;
        if config.http.enabled && !options.once {
            let api = Api::new(handle.clone(), limits.clone(), is_closing.clone());
            let runtime = tokio::runtime::Handle::current();
            let listener = runtime.block_on(http::listen(config.http.listen))?;
            address = Some(listener.local_addr()?);
            server = Some(runtime.spawn(http::serve(listener, api.router(), closed(is_closing))));
        }
        let announced = Announcement {
            pid: std::process::id(),
            http: address.map(|address| address.to_string()),
        }
        .publish(&data_dir)?;
        let sources = source::start(&config, &handle, &limits, options.once)?;
        let watching = if options.once {
            None
        } else {
            let handle = handle.clone();
            Some(plugins.watch(move |event| {
                // An engine that has ended needs no plugins.
                let _ = handle.control(Control::Plugin(event));
            })?)
        };
        let host = Self {
            handle,
            address,
            sources: Some(sources),
            watching,
            engine: Some(engine),
            closing,
            server,
            announced,
        };
        host.handle.board.update(|status| status.ready = true);
        host.tell_what_runs(&config);
        Ok(host)
    }

    /// The address that it listens on, as bound.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    fn tell_what_runs(&self, config: &Config) {
        let status = self.handle.board.load();
        let names = |names: Vec<&String>| {
            let names: Vec<String> = names.into_iter().cloned().collect();
            list(&names)
        };
        let runs = |plugin: &PluginStatus| plugin.hash.is_some();
        let running = status.plugins.iter().filter(|(_, plugin)| runs(plugin));
        tracing::info!(
            "ready: http {}, sources {}, plugins {}, rules {}, data in {} at seq {}",
            self.address
                .map_or_else(|| "off".to_owned(), |address| format!("http://{address}")),
            names(status.sources.keys().collect()),
            names(running.map(|(name, _)| name).collect()),
            names(status.rules.keys().collect()),
            config.data_dir.display(),
            status.durable_seq,
        );
        for (name, plugin) in &status.plugins {
            if let Some(reason) = &plugin.refused {
                tracing::warn!("plugin {name} is refused: {reason}");
            }
        }
        for (name, rule) in &status.rules {
            if !rule.runs() {
                tracing::warn!("rule {name} is {}", rule.status);
            }
        }
    }

    /// Waits until the host has reason to end: it failed, or, with `once`, all is done.
    pub async fn ended(&mut self, once: bool) -> End {
        let handle = self.handle.clone();
        let sources = if once { self.sources.take() } else { None };
        let drained = async {
            if once {
                drained(&handle, sources).await
            } else {
                std::future::pending().await
            }
        };
        tokio::select! {
            biased;
            ended = engine_end(&mut self.engine) => End::Failed(match ended {
                Ok(()) => anyhow!("the engine has ended"),
                Err(error) => error,
            }),
            result = drained => match result {
                Ok(()) => End::Asked(self.read_how_far()),
                Err(error) => End::Failed(self.cause(error).await),
            },
        }
    }

    /// Why the sources could not be read to their end. Where that is because the engine took no more, it has ended or is about to, and
    /// says why.
    async fn cause(&mut self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast_ref() {
            Some(Refused::Stopped(_)) => engine_end(&mut self.engine).await.err().unwrap_or(error),
            _ => error,
        }
    }

    /// How a batch run went so far.
    pub(super) fn outcome(&self) -> Outcome {
        Outcome::of(&self.handle.board.load())
    }

    fn read_how_far(&self) -> String {
        let halted = self.outcome().halted_sources;
        if halted.is_empty() {
            "the sources have been read".to_owned()
        } else {
            format!("not all has been read: halted {}", halted.join(", "))
        }
    }

    /// Ends the host: what was handed in is committed, who waits is answered.
    ///
    /// # Errors
    /// If the last commits fail.
    pub async fn stop(mut self, reason: &str) -> anyhow::Result<()> {
        // From here on new requests are refused.
        self.handle
            .board
            .update(|status| status.stopping = Some(reason.to_owned()));
        // Sources may wait for the engine, and that for a commit.
        self.handle.store.room().wait_at_most(ROOM_WAIT);
        let input_ended = self.end_input().await;
        // An engine that has ended already says why below.
        let _ = self.handle.control(Control::Shutdown);
        let ended = match self.engine {
            Some(_) => engine_end(&mut self.engine).await,
            // Its end was the reason, which is told already.
            None => Ok(()),
        };
        let seq = self.handle.board.load().durable_seq;
        self.close().await;
        ended?;
        input_ended?;
        tracing::info!("ended: {reason}; the store is at seq {seq}");
        Ok(())
    }

    async fn end_input(&mut self) -> anyhow::Result<()> {
        let (sources, watching) = (self.sources.take(), self.watching.take());
        tokio::task::spawn_blocking(move || {
            drop(watching);
            sources.map_or(Ok(()), Sources::stop)
        })
        .await?
    }

    /// Closes streams and the listener, and takes the announcement back.
    async fn close(self) {
        self.closing.send_replace(true);
        if let Some(server) = self.server {
            match server.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("{error:#}"),
                Err(error) => tracing::warn!("the HTTP server failed: {error}"),
            }
        }
        drop(self.announced);
    }
}

/// Waits for the engine's end, and takes it.
async fn engine_end(
    engine: &mut Option<oneshot::Receiver<anyhow::Result<()>>>,
) -> anyhow::Result<()> {
    let Some(receiver) = engine.as_mut() else {
        return std::future::pending().await;
    };
    let ended = receiver.await;
    *engine = None;
    ended.unwrap_or_else(|_| Err(anyhow!("the engine's thread is gone")))
}

/// Waits until the sources of a batch run have been read, all of it is durable, and every rule that
/// was behind has caught up.
async fn drained(handle: &Handle, sources: Option<Sources>) -> anyhow::Result<()> {
    if let Some(sources) = sources {
        tokio::task::spawn_blocking(move || sources.wait()).await??;
    }
    // An empty batch behind all others: once it is durable, so are they.
    let (done, durable) = oneshot::channel();
    let barrier = SourceBatch {
        source: Arc::from("drain"),
        changes: Vec::new(),
        bad: Vec::new(),
        positions: Vec::new(),
        input_bytes: 0,
        idempotency: None,
        done: Some(Box::new(move |result| {
            let _ = done.send(result);
        })),
    };
    let submitter = handle.clone();
    tokio::task::spawn_blocking(move || submitter.submit(barrier)).await??;
    durable
        .await
        .unwrap_or_else(|_| Err(Refused::Stopped("the engine has ended".into())))?;
    loop {
        let changed = handle.board.changed();
        let status = handle.board.load();
        let behind = |rule: &RuleStatusLine| rule.status == "catching up";
        if !status.rules.values().any(behind) {
            return Ok(());
        }
        changed.await;
    }
}

/// Opens the store. A command that reads while no daemon runs has it for a moment, which is no reason to give up.
fn open_store(data_dir: &Path, limits: &Limits) -> Result<Store, store::Error> {
    let until = Instant::now() + STORE_WAIT;
    loop {
        match Store::open(data_dir, limits) {
            Err(store::Error::Locked(_)) if Instant::now() < until => {
                thread::sleep(Duration::from_millis(50));
            }
            result => return result,
        }
    }
}

fn load_plugins(config: &Config, limits: &Limits) -> anyhow::Result<(PluginDir, Vec<PluginEvent>)> {
    let runtime = Runtime::new(limits, Some(&config.data_dir.join("compiled")))?;
    let mut plugins = PluginDir::new(
        config.plugin_dir.clone(),
        Arc::new(runtime),
        limits,
        config.plugin_configs(),
    );
    let now = plugins.scan().unwrap_or_else(|error| {
        // It may come later; what its plugins wrote stays.
        tracing::warn!("{error:#}: no plugins until it is there");
        Vec::new()
    });
    for warning in config.plugins_not_found(now.iter().map(PluginEvent::name)) {
        tracing::warn!("{warning}");
    }
    Ok((plugins, now))
}

/// Waits for the engine's end on a thread of its own.
fn watch_end(engine: EngineThread) -> anyhow::Result<oneshot::Receiver<anyhow::Result<()>>> {
    let (ended, receiver) = oneshot::channel();
    thread::Builder::new()
        .name("engine-end".into())
        .spawn(move || {
            // A host that is gone needs no answer.
            let _ = ended.send(engine.join());
        })?;
    Ok(receiver)
}

async fn closed(mut closing: watch::Receiver<bool>) {
    // A sender that is gone is a host that is gone.
    let _ = closing.wait_for(|&closing| closing).await;
}

fn now_micros() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| {
            i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
        })
}
