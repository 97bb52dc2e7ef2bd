//! `rulemill run`: the daemon.

use super::{ConfigArg, Failure, access};
use crate::{config::LogFormat, daemon, store};

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Run the daemon: take changes from the configured sources and over HTTP, run the plugins in the \
                  plugin directory over them, and keep the derived tables right. SIGTERM and SIGINT end it after the batch at \
                  hand is committed; a second one ends it at once, which loses nothing that was acknowledged.",
    after_help = "With --once the exit code is 1 if a source or a rule halted or a plugin was refused; input that was parked is counted \
                  in the log's last lines and fails nothing.\n\nExamples:\n  \
    rulemill run -c shop.toml\n  \
    rulemill run -c shop.toml --once         batch mode: what the sources hold now, then end\n  \
    RULEMILL_LOG=debug rulemill run          more to read on standard error"
)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// Read what the sources hold now, commit it and end
    #[arg(long)]
    once: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let config = access::load_with_plugins(&args.config)?;
    let logs_json = config.log.format == LogFormat::Json;
    store::despite_panics(|| daemon::run(config, args.once)).map_err(|error| {
        if logs_json {
            // Whoever collects the log reads one JSON object a line, to the last.
            tracing::error!("{error:#}");
            Failure::Logged
        } else {
            error.into()
        }
    })
}
