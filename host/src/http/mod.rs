//! The HTTP API: changes in, state and health out.
//!
//! Owns the routes, their limits and the form of every answer ([`answers`]; errors as RFC 9457
//! problem details). It never decides anything about tables or rules: writes and commands go to the
//! engine through its handle, reads go to a snapshot of the store. A request that fails changes
//! nothing, and a host that is stopping says so.
//!
//! There is no authentication yet, so it listens on the loopback interface only, and takes no
//! request that a web page of another site made a browser send.

pub mod answers;
mod changes;
mod commands;
mod guard;
mod health;
mod metrics;
mod problem;
pub mod read;
mod tables;
pub mod tail;

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use anyhow::{Context, ensure};
use axum::{
    Router, middleware,
    routing::{get, post},
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

use crate::{engine::Handle, limits::Limits, store};

pub use answers::Health;
pub use problem::{Kind, Problem, ProblemBody};
pub use read::RowsQuery;

/// How long requests under way may still take once the host has stopped.
const DRAIN: Duration = Duration::from_secs(5);

/// What every route needs.
#[derive(Clone)]
pub struct Api {
    handle: Handle,
    limits: Arc<Limits>,
    writers: Arc<Semaphore>,
    tails: Arc<Semaphore>,
    refused: Arc<AtomicU64>,
    /// Becomes true when the engine has ended, and with it whatever a client could wait for.
    closing: watch::Receiver<bool>,
}

impl Api {
    /// An API before an engine; `closing` becomes true once that has ended.
    pub fn new(handle: Handle, limits: Arc<Limits>, closing: watch::Receiver<bool>) -> Self {
        Self {
            writers: Arc::new(Semaphore::new(limits.requests_max)),
            tails: Arc::new(Semaphore::new(limits.requests_max)),
            refused: Arc::default(),
            handle,
            limits,
            closing,
        }
    }

    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/v1/changes", post(changes::post))
            .route("/v1/tables", get(tables::list))
            .route("/v1/tables/{table}/rows", get(tables::rows))
            .route("/v1/rules", get(commands::rules))
            .route("/v1/rules/{rule}/pause", post(commands::pause))
            .route("/v1/rules/{rule}/resume", post(commands::resume))
            .route("/v1/plugins/{plugin}/rebuild", post(commands::rebuild))
            .route(
                "/v1/plugins/{plugin}/rebuild/cancel",
                post(commands::cancel_rebuild),
            )
            .route("/v1/dead-letters", get(tables::dead_letters))
            .route("/v1/dead-letters/retry", post(commands::retry))
            .route("/v1/dead-letters/drop", post(commands::drop_letters))
            .route("/v1/sources/{source}/dead-letters", get(tables::bad_input))
            .route("/v1/status", get(health::status))
            .route("/v1/tail", get(tail::tail))
            .route("/healthz", get(health::healthz))
            .route("/readyz", get(health::readyz))
            .route("/metrics", get(metrics::metrics))
            .fallback(guard::no_such_path)
            .method_not_allowed_fallback(guard::no_such_method)
            .layer(middleware::from_fn(guard::same_machine))
            .with_state(self)
    }

    /// Runs a read on a thread that may block, over a snapshot of its own.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&store::Reader, &Limits) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let (store, limits) = (self.handle.store.clone(), self.limits.clone());
        blocking(move || read(&store.reader().map_err(Problem::internal)?, &limits)).await
    }
}

/// Runs what may block on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(|| store::despite_panics(work))
        .await
        .map_err(|error| Problem::internal(format!("a request's thread failed: {error}")))?
}

/// Begins to listen.
///
/// # Errors
/// If the address isn't a loopback one, or is taken.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    ensure!(
        address.ip().is_loopback(),
        "http.listen = \"{address}\": without TLS and tokens only a loopback address is allowed, like 127.0.0.1:7700"
    );
    TcpListener::bind(address)
        .await
        .with_context(|| format!("can't listen on http.listen = \"{address}\""))
}

/// Answers requests until `stop` resolves, then until those under way are answered.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let (stopped, mut is_stopped) = watch::channel(false);
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        stop.await;
        stopped.send_replace(true);
    });
    let overdue = async {
        // The sender lives as long as the server, so this waits for the stop.
        let _ = is_stopped.wait_for(|&stopped| stopped).await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        result = server => result.context("the HTTP listener failed"),
        () = overdue => {
            tracing::warn!("requests that were still under way {} s after the stop were cut off", DRAIN.as_secs());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
