//! `rulemill status`: health at a glance.

use super::{ConfigArg, Failure, JsonArg, access::Access, output, rules};
use crate::{
    engine::{PluginStatus, Status},
    http::answers::{Rules, StatusAnswer},
};

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
        (None, true, _) if status.waiting.is_some() => status.waiting.clone().unwrap_or_default(),
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
    lines.extend(attention(status).map(|what| format!("needs attention: {what}")));
    for (name, source) in &status.sources {
        let mut line = format!("source {name} ({}): {}, ", source.kind, source.state);
        if answer.running {
            line.push_str(&format!("{} changes, {} bad", source.changes, source.bad));
        } else {
            line.push_str(&format!("{} bad kept", source.bad));
        }
        if let Some(error) = &source.last_error {
            line.push_str(": ");
            line.push_str(&output::short(error, 120));
        }
        lines.push(line);
    }
    let plugins = status.plugins.iter();
    lines.extend(plugins.map(|(name, plugin)| plugin_line(name, plugin, answer.running)));
    lines
}

fn plugin_line(name: &str, plugin: &PluginStatus, host_runs: bool) -> String {
    let mut line = format!("plugin {name}");
    if let Some(hash) = &plugin.hash {
        line.push_str(&format!(" {} ({})", plugin.version, output::hash(hash)));
    }
    line.push_str(match &plugin.hash {
        None => ": nothing of it runs",
        Some(_) if host_runs => ": running",
        Some(_) => ": not running",
    });
    if plugin.refused.is_some() {
        line.push_str(", its newest file is refused");
    }
    if let Some(how_far) = &plugin.rebuild {
        line.push_str(&format!(", being rebuilt: {how_far}"));
    }
    line
}

/// What somebody should look at, in one line; none where all is well.
fn attention(status: &Status) -> Option<String> {
    let mut found = Vec::new();
    found.extend(status.waiting.clone());
    found.extend(status.call.as_ref().map(|call| {
        format!(
            "plugin {} has been called with {} changes since {} ({:.1} s) and everything waits for it",
            call.plugin,
            call.items,
            call.since.as_deref().unwrap_or("-"),
            call.taken_ms as f64 / 1_000.0
        )
    }));
    let refused = status.plugins.iter().filter(|(_, p)| p.refused.is_some());
    found.extend(refused.map(|(name, _)| format!("plugin {name} refused")));
    for (name, rule) in &status.rules {
        let state = ["halted", "paused", "unloaded"];
        if let Some(state) = state.iter().find(|s| rule.status.starts_with(**s)) {
            found.push(format!("rule {name} {state}"));
        }
    }
    let parked = status.rules.iter().filter(|(_, rule)| rule.parked > 0);
    found.extend(parked.map(|(name, rule)| format!("changes parked for {name}: {}", rule.parked)));
    for (name, rule) in &status.rules {
        if rule.skipped > 0 {
            let since = rule.skipped_since.as_deref().unwrap_or("-");
            found.push(format!(
                "changes skipped for {name}: {} since {since}",
                rule.skipped
            ));
        }
    }
    for (name, source) in &status.sources {
        if source.state.starts_with("halted") {
            found.push(format!("source {name} halted"));
        }
        if source.bad > 0 {
            found.push(format!("bad lines from {name}: {}", source.bad));
        }
    }
    (!found.is_empty()).then(|| found.join("; "))
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{LongCall, RuleStatusLine, SourceStatus};

    #[test]
    fn plugins_are_listed() {
        let mut plugin = PluginStatus::default();
        assert_eq!(
            plugin_line("shop", &plugin, true),
            "plugin shop: nothing of it runs"
        );
        plugin.refused = Some("no".into());
        plugin.hash = Some("0123456789abcdef".into());
        plugin.version = "1.2.0".into();
        plugin.rebuild = Some("half of orders".into());
        assert_eq!(
            plugin_line("shop", &plugin, true),
            "plugin shop 1.2.0 (0123456789ab): running, its newest file is refused, being rebuilt: half of orders"
        );
        assert!(plugin_line("shop", &plugin, false).contains("): not running, "));
    }

    #[test]
    fn what_needs_attention_is_one_line() {
        let mut status = Status::default();
        let rule = |state: &str, parked| RuleStatusLine {
            status: state.into(),
            parked,
            ..RuleStatusLine::default()
        };
        status.rules.insert("a.fine".into(), rule("running", 0));
        status.plugins.insert("a".into(), PluginStatus::default());
        assert_eq!(attention(&status), None);
        status.rules.insert("a.one".into(), rule("halted: no", 2));
        status.rules.insert("a.two".into(), rule("paused", 0));
        let skips = RuleStatusLine {
            skipped: 4,
            skipped_since: Some("2026-01-30T08:00:00Z".into()),
            ..rule("running", 0)
        };
        status.rules.insert("a.skips".into(), skips);
        let refused = PluginStatus {
            refused: Some("no".into()),
            ..PluginStatus::default()
        };
        status.plugins.insert("b".into(), refused);
        let source = SourceStatus {
            state: "halted".into(),
            bad: 3,
            ..SourceStatus::default()
        };
        status.sources.insert("inbox".into(), source);
        status.call = Some(LongCall {
            plugin: "a".into(),
            items: 3,
            since: Some("2026-01-31T12:00:00Z".into()),
            taken_ms: 4_250,
        });
        assert_eq!(
            attention(&status).unwrap(),
            "plugin a has been called with 3 changes since 2026-01-31T12:00:00Z (4.2 s) and everything waits for it; plugin b refused; rule a.one halted; rule a.two paused; changes parked for a.one: 2; changes skipped for a.skips: 4 since 2026-01-30T08:00:00Z; source inbox halted; bad lines from inbox: 3"
        );
    }
}
