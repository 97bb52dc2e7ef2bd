//! How a batch run went: what its log says at the end, and what fails it.
//!
//! Input that was put aside (bad lines, parked changes) is told and fails nothing, since the configuration asked for
//! that. A source or a rule that halted or a plugin that was refused leaves work undone: the run fails.

use std::fmt::Write;

use crate::engine::Status;

/// What a batch run leaves behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// One line for the log.
    pub(super) summary: String,
    /// Sources that stopped before input they could not take, with why.
    pub(super) halted_sources: Vec<String>,
    /// Rules that halted, with why.
    pub(super) halted_rules: Vec<String>,
    /// Plugins that were refused, with why.
    pub(super) refused_plugins: Vec<String>,
}

impl Outcome {
    /// Reads it off the status board.
    pub(super) fn of(status: &Status) -> Self {
        let mut halted_sources = Vec::new();
        let (mut bad, mut halted) = (Vec::new(), Vec::new());
        for (name, source) in &status.sources {
            if source.bad > 0 {
                bad.push(format!("{name} {}", source.bad));
            }
            if source.state.starts_with("halted") {
                halted.push(format!("source {name}"));
                halted_sources.push(match &source.last_error {
                    Some(error) => format!("{name} ({error})"),
                    None => name.clone(),
                });
            }
        }
        let mut halted_rules = Vec::new();
        let mut parked = Vec::new();
        for (name, rule) in &status.rules {
            if rule.parked > 0 {
                parked.push(format!("{name} {}", rule.parked));
            }
            // `paused` alone is what somebody asked for.
            let halted_by_host = rule.status.strip_prefix("halted");
            let reason = halted_by_host.or_else(|| rule.status.strip_prefix("paused: "));
            if let Some(reason) = reason {
                halted.push(format!("rule {name}"));
                halted_rules.push(format!("{name} ({})", reason.trim_start_matches(": ")));
            }
        }
        let mut refused = Vec::new();
        let mut refused_plugins = Vec::new();
        for (name, plugin) in &status.plugins {
            if let Some(reason) = &plugin.refused {
                refused.push(name.clone());
                let instead = match plugin.hash {
                    Some(_) => "its last good version ran",
                    None => "its rules did not run",
                };
                refused_plugins.push(format!("{name}, so that {instead} ({reason})"));
            }
        }
        let mut summary = format!(
            "changes taken: {}; lines that could not be taken: {}; changes parked: {}; halted: {}",
            status.changes,
            list(&bad),
            list(&parked),
            list(&halted)
        );
        if !refused.is_empty() {
            // Writing to a string can't fail.
            let _ = write!(summary, "; refused plugins: {}", list(&refused));
        }
        Self {
            summary,
            halted_sources,
            halted_rules,
            refused_plugins,
        }
    }

    /// Why the run failed, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        let mut reasons = Vec::new();
        if !self.halted_sources.is_empty() {
            let sources = self.halted_sources.join(", ");
            reasons.push(format!("halted on bad input: {sources}"));
        }
        if !self.halted_rules.is_empty() {
            reasons.push(format!("halted rule {}", self.halted_rules.join(", ")));
        }
        if !self.refused_plugins.is_empty() {
            let plugins = self.refused_plugins.join(", ");
            reasons.push(format!("refused plugin {plugins}"));
        }
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// Names as a list, or that there are none.
pub(super) fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{PluginStatus, RuleStatusLine, SourceStatus};

    fn status() -> Status {
        let mut status = Status {
            changes: 7,
            ..Status::default()
        };
        let source = SourceStatus {
            state: "ended".into(),
            bad: 2,
            ..SourceStatus::default()
        };
        status.sources.insert("inbox".into(), source);
        let rule = RuleStatusLine {
            status: "running".into(),
            parked: 3,
            ..RuleStatusLine::default()
        };
        status.rules.insert("fleet.trips".into(), rule);
        status
    }

    #[test]
    fn what_was_put_aside_is_told_and_fails_nothing() {
        let outcome = Outcome::of(&status());
        assert_eq!(
            outcome.summary,
            "changes taken: 7; lines that could not be taken: inbox 2; changes parked: fleet.trips 3; halted: none"
        );
        assert_eq!(outcome.failure(), None);
    }

    #[test]
    fn what_was_left_undone_fails_the_run() {
        let mut status = status();
        if let Some(source) = status.sources.get_mut("inbox") {
            source.state = "halted".into();
            source.last_error = Some("line 2: no".into());
        }
        let plugin = PluginStatus {
            refused: Some("no plugin at all".into()),
            ..PluginStatus::default()
        };
        status.plugins.insert("fleet".into(), plugin);
        let rule = RuleStatusLine {
            status: "halted: faulted on change 4: no".into(),
            ..RuleStatusLine::default()
        };
        status.rules.insert("fleet.rides".into(), rule);
        let outcome = Outcome::of(&status);
        assert!(
            outcome
                .summary
                .ends_with("halted: source inbox, rule fleet.rides; refused plugins: fleet"),
            "{}",
            outcome.summary
        );
        assert_eq!(
            outcome.failure().unwrap(),
            "halted on bad input: inbox (line 2: no); halted rule fleet.rides (faulted on change 4: no); refused plugin fleet, so that its rules did not run (no plugin at all)"
        );
        if let Some(plugin) = status.plugins.get_mut("fleet") {
            plugin.hash = Some("00".into());
        }
        let failure = Outcome::of(&status).failure().unwrap();
        assert!(
            failure.ends_with("fleet, so that its last good version ran (no plugin at all)"),
            "{failure}"
        );
    }
}
