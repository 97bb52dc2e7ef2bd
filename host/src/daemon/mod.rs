//! The daemon: puts store, plugins, engine, sources and HTTP together, and takes them apart again.
//!
//! Owns the order of starting and ending. What was acknowledged is on disk before the process ends; a part
//! that fails ends the whole host with its reason, and the store stays as the last commit left it.
//!
//! ```text
//! start: lock and open the store, load plugins, engine, HTTP, sources, plugin watch
//! end:   sources, plugin watch, engine (to its last commit), HTTP, announcement
//! ```

pub mod announce;
mod host;
mod last_good;
mod logging;
mod outcome;
mod signals;

pub use host::{End, Host, Options};
pub use logging::start as start_logging;

use anyhow::bail;

use crate::config::Config;
use signals::Signals;

/// Runs a host until a signal ends it, it fails, or, with `once`, its sources have been read.
///
/// # Errors
/// If the host can't start, or ends for another reason than a signal; with `once` also if a source or rule halted or a
/// plugin was refused.
pub fn run(config: Config, once: bool) -> anyhow::Result<()> {
    logging::start(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("http")
        .build()?;
    let result = runtime.block_on(async {
        // Before the start, which may take a while: a signal then waits for the first chance to end.
        let mut signal = Signals::install()?.watch();
        let options = Options { once };
        let mut host = tokio::task::spawn_blocking(move || Host::start(config, options)).await??;
        let end = tokio::select! {
            name = signal.first() => End::Asked(format!("received {name}")),
            end = host.ended(once) => end,
        };
        let reason = match end {
            End::Asked(reason) => reason,
            End::Failed(error) => {
                // The error above all: what else fails on the way out is a consequence.
                if let Err(also) = host.stop(&format!("{error:#}")).await {
                    tracing::error!("{also:#}");
                }
                return Err(error);
            }
        };
        let outcome = host.outcome();
        if once {
            tracing::info!("{}", outcome.summary);
        }
        host.stop(&reason).await?;
        match outcome.failure() {
            Some(failure) if once => bail!("{failure}"),
            _ => Ok(()),
        }
    });
    // Blocking threads of requests that were cut off are not waited for.
    runtime.shutdown_background();
    result
}
