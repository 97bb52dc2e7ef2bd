//! `GET /metrics`: the status board in Prometheus' text format (version 0.0.4).

use std::{fmt::Write, sync::atomic::Ordering};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::{Api, problem::Problem, read};
use crate::engine::Status;

pub(super) async fn metrics(State(api): State<Api>) -> Result<Response, Problem> {
    let (store, board) = (api.handle.store.clone(), api.handle.board.clone());
    let answer = super::blocking(move || {
        let status = Status::clone(&board.load());
        read::status(&store, status, true)
    })
    .await?;
    let text = render(
        &answer.status,
        answer.store_bytes,
        api.refused.load(Ordering::Relaxed),
    );
    Ok((
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
        .into_response())
}

fn render(status: &Status, store_bytes: u64, refused: u64) -> String {
    let mut page = Page::default();
    page.family(
        "changes_total",
        "counter",
        "Source changes handled since the start",
    );
    page.value("changes_total", &[], status.changes);
    page.family("commits_total", "counter", "Commits since the start");
    page.value("commits_total", &[], status.commits);
    page.family("seq", "gauge", "The last seq handed out");
    page.value("seq", &[], status.last_seq);
    page.family("durable_seq", "gauge", "The last seq on disk");
    page.value("durable_seq", &[], status.durable_seq);
    page.family(
        "ready",
        "gauge",
        "Whether sources and plugins have been started",
    );
    page.value("ready", &[], u64::from(status.ready));
    page.family("waiting", "gauge", "Whether the disk is full");
    page.value("waiting", &[], u64::from(status.waiting.is_some()));
    page.family("store_bytes", "gauge", "Bytes of the store's file");
    page.value("store_bytes", &[], store_bytes);
    page.family(
        "http_refused_total",
        "counter",
        "Posted requests that were refused since the start",
    );
    page.value("http_refused_total", &[], refused);

    page.family(
        "source_changes_total",
        "counter",
        "Changes that a source handed over since the start",
    );
    for (name, source) in &status.sources {
        page.value("source_changes_total", &[("source", name)], source.changes);
    }
    page.family(
        "source_bad_total",
        "counter",
        "Inputs of a source that could not be taken, since the start",
    );
    for (name, source) in &status.sources {
        page.value("source_bad_total", &[("source", name)], source.bad);
    }

    type Column = fn(&crate::engine::RuleStatusLine) -> u64;
    let columns: [(&str, &str, &str, Column); 6] = [
        (
            "rule_cursor",
            "gauge",
            "The seq up to which a rule has processed its input",
            |r| r.cursor,
        ),
        (
            "rule_lag_changes",
            "gauge",
            "Changes between a rule's cursor and the last seq",
            |r| r.lag_changes,
        ),
        (
            "rule_changes_total",
            "counter",
            "Changes that a rule has handled, ever",
            |r| r.changes,
        ),
        (
            "rule_faults_total",
            "counter",
            "Faults of a rule, ever",
            |r| r.faults,
        ),
        (
            "rule_parked",
            "gauge",
            "Changes parked for a rule now",
            |r| r.parked,
        ),
        (
            "rule_skipped",
            "gauge",
            "Skipped changes of a rule that are kept",
            |r| r.skipped,
        ),
    ];
    for (name, kind, help, column) in columns {
        page.family(name, kind, help);
        for (rule, line) in &status.rules {
            page.value(name, &[("rule", rule)], column(line));
        }
    }
    page.family("rule_running", "gauge", "Whether a rule runs or catches up");
    for (rule, line) in &status.rules {
        page.value("rule_running", &[("rule", rule)], u64::from(line.runs()));
    }
    page.family(
        "plugin_refused",
        "gauge",
        "Whether a plugin's newest file was refused",
    );
    for (plugin, state) in &status.plugins {
        page.value(
            "plugin_refused",
            &[("plugin", plugin)],
            u64::from(state.refused.is_some()),
        );
    }
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    // Writing to a String can't fail.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP rulemill_{name} {help}.");
        let _ = writeln!(self.text, "# TYPE rulemill_{name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &String)], value: u64) {
        let _ = write!(self.text, "rulemill_{name}");
        for (label, text) in labels {
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.text, "{{{label}=\"{text}\"}}");
        }
        let _ = writeln!(self.text, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_prometheus_text() {
        let mut status = Status {
            last_seq: 7,
            ..Status::default()
        };
        status.rules.insert(
            "a.\"b\"".into(),
            crate::engine::RuleStatusLine {
                status: "running".into(),
                lag_changes: 3,
                ..Default::default()
            },
        );
        let text = render(&status, 4096, 1);
        for line in [
            "# TYPE rulemill_seq gauge",
            "rulemill_seq 7",
            "rulemill_waiting 0",
            "rulemill_store_bytes 4096",
            "rulemill_http_refused_total 1",
            r#"rulemill_rule_lag_changes{rule="a.\"b\""} 3"#,
            r#"rulemill_rule_running{rule="a.\"b\""} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
