//! Logs on standard error: text for people or JSON for collectors.

use std::io;

use anyhow::Context;
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{Log, LogFormat};

/// Overrides the configured level; takes what `tracing`'s directives take, like `info,rulemill=debug`.
const VARIABLE: &str = "RULEMILL_LOG";

/// Starts logging. A process that logs already goes on as it does.
///
/// # Errors
/// If the level is none.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let filter = match std::env::var(VARIABLE) {
        Ok(directives) if !directives.is_empty() => EnvFilter::try_new(&directives)
            .with_context(|| format!("{VARIABLE}={directives} is no log level"))?,
        _ => EnvFilter::try_new(&log.level)
            .with_context(|| format!("log.level = \"{}\" is no log level", log.level))?,
    };
    let builder = fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match log.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            let ansi = io::IsTerminal::is_terminal(&io::stderr());
            builder.with_target(false).with_ansi(ansi).try_init()
        }
    };
    // The only error is that a subscriber is there already, as when the demo runs a host.
    if started.is_err() {
        tracing::debug!("logging goes on as it was");
    }
    Ok(())
}
