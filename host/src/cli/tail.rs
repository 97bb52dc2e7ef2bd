//! `rulemill tail`: committed changes as they happen.

use std::io::{BufRead, BufReader, Write};

use anyhow::Context;

use super::{ConfigArg, Failure, access::Access, output};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    rulemill tail                            every table\n  \
    rulemill tail product_totals             one table\n  \
    rulemill tail --since 0                  from the oldest change that the log keeps\n  \
    rulemill tail orders | jq .after")]
pub(super) struct Args {
    /// Only changes of this table
    table: Option<String>,
    /// Begin behind this seq instead of with what comes next
    #[arg(long, value_name = "SEQ")]
    since: Option<u64>,
    #[command(flatten)]
    config: ConfigArg,
    /// Lines are JSON with or without this
    #[arg(long, hide = true)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let client = Access::open_daemon(&args.config, "to follow its changes")?;
    let mut query = Vec::new();
    if let Some(table) = &args.table {
        query.push(("table", table.clone()));
    }
    if let Some(since) = args.since {
        query.push(("since", since.to_string()));
    }
    let mut lines = BufReader::new(client.stream("/v1/tail", &query)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = lines
            .read_until(b'\n', &mut line)
            .context("the daemon's stream broke off")?;
        if read == 0 {
            eprintln!("the daemon has stopped");
            return Ok(());
        }
        let mut out = output::stdout();
        out.write_all(&line)?;
        out.flush()?;
    }
}
