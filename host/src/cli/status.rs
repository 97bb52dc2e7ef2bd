//! `rulemill status`: health at a glance.

use super::{ConfigArg, Failure, JsonArg, access::Access, output, rules};
use crate::http::answers::{Rules, StatusAnswer};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let answer = Access::open(&args.config)?.status()?;
    if args.json.json {
        return Ok(output::json(&answer)?);
    }
    for line in summary(&answer) {
        output::line(&line)?;
    }
    rules::print(&Rules::of(&answer.status))
}

fn summary(answer: &StatusAnswer) -> Vec<String> {
    let status = &answer.status;
    let state = match (&status.stopping, answer.running, status.ready) {
        (Some(reason), ..) => format!("stopping: {reason}"),
        (None, false, _) => "no daemon runs on this data directory".to_owned(),
        (None, true, true) => "running".to_owned(),
        (None, true, false) => "starting".to_owned(),
    };
    let mut lines = vec![
        format!("rulemill {}: {state}", answer.version),
        format!(
            "seq {} ({} durable), {} in the store, latest commit time {}",
            status.last_seq,
            status.durable_seq,
            mebibytes(answer.store_bytes),
            status.watermark.as_deref().unwrap_or("-"),
        ),
    ];
    if answer.running {
        lines.push(format!(
            "{} changes in {} commits since the start",
            status.changes, status.commits
        ));
    }
    for (name, source) in &status.sources {
        let mut line = format!(
            "source {name} ({}): {}, {} changes, {} bad",
            source.kind, source.state, source.changes, source.bad
        );
        if let Some(error) = &source.last_error {
            line.push_str(": ");
            line.push_str(&output::short(error, 120));
        }
        lines.push(line);
    }
    lines
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
