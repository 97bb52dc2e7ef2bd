//! What the engine posts on the status board.

use rulemill_wire::Timestamp;

use crate::store::{RuleRecord, RuleStatus};

use super::{Engine, PluginStatus, RuleStatusLine, rebuild};

impl Engine {
    /// Posts where everything stands.
    pub(super) fn post_status(&self) {
        let durable = self.view.snapshot().last_seq();
        let rules: Vec<(String, RuleStatusLine)> = self
            .states
            .iter()
            .map(|state| {
                let record = &state.record;
                let cursor = if record.at_head {
                    self.last_seq
                } else {
                    record.cursor
                };
                (
                    format!("{}.{}", record.plugin, record.rule),
                    RuleStatusLine {
                        status: status_of(record),
                        cursor: cursor.0,
                        lag_changes: self.last_seq.0 - cursor.0.min(self.last_seq.0),
                        changes: record.changes,
                        faults: record.faults,
                        parked: state.parked_count,
                        skipped: state.skipped.len() as u64,
                        skipped_since: state.skipped.front().and_then(|first| shown(first.at)),
                        last_error: record.last_error.clone(),
                    },
                )
            })
            .collect();
        self.board.update(|status| {
            status.last_seq = self.last_seq.0;
            status.durable_seq = durable.0;
            status.changes = self.changes;
            status.commits = self.commits;
            status.watermark = (self.watermark > 0)
                .then(|| shown(self.watermark))
                .flatten();
            status.rules = rules.into_iter().collect();
            for plugin in self
                .plugins
                .iter()
                .filter(|plugin| !rebuild::is_shadow(&plugin.name))
            {
                let entry = status.plugins.entry(plugin.name.to_string()).or_default();
                entry.hash = Some(plugin.plugin.hash().to_string());
                entry.version.clone_from(&plugin.plugin.manifest().version);
            }
        });
    }

    /// Posts how far rebuilds have come.
    pub(super) fn post_rebuilds(&self) {
        let rebuilds: Vec<(String, Option<String>)> = self
            .plugins
            .iter()
            .map(|plugin| plugin.name.to_string())
            .filter(|name| !rebuild::is_shadow(name))
            .chain(self.candidates.keys().cloned())
            .map(|name| {
                let is_on = self.is_rebuilding(&name);
                let waits = self.in_the_way(&name);
                (
                    name,
                    is_on.then(|| waits.unwrap_or_else(|| "is complete".into())),
                )
            })
            .collect();
        self.board.update(|status| {
            for (name, rebuild) in rebuilds {
                status.plugins.entry(name).or_default().rebuild = rebuild;
            }
        });
    }

    /// Posts that a plugin's newest file was refused, or (without a reason) that it runs.
    pub(super) fn post_plugin(&self, name: &str, refused: Option<String>) {
        self.board.update(|status| {
            let entry = status.plugins.entry(name.to_owned()).or_default();
            entry.refused = refused;
        });
    }

    /// Posts that a plugin's file is gone. One that never ran here leaves nothing to show.
    pub(super) fn post_removed(&self, name: &str) {
        let ran = self.states.iter().any(|state| state.record.plugin == name);
        self.board.update(|status| {
            if ran {
                let entry = PluginStatus::default();
                status.plugins.insert(name.to_owned(), entry);
            } else {
                status.plugins.remove(name);
            }
        });
    }
}

fn shown(micros: i64) -> Option<String> {
    Timestamp::from_micros(micros).map(|at| at.to_string())
}

/// What a rule does, as `rules` shows it.
pub(super) fn status_of(record: &RuleRecord) -> String {
    match &record.status {
        RuleStatus::Running if record.backfill.is_some() || !record.at_head => {
            "catching up".to_owned()
        }
        RuleStatus::Running => "running".to_owned(),
        RuleStatus::Paused => "paused".to_owned(),
        RuleStatus::Halted(reason) => format!("halted: {reason}"),
        RuleStatus::Tripped(reason) => format!("paused: {reason}"),
        RuleStatus::Unloaded => "unloaded".to_owned(),
    }
}
