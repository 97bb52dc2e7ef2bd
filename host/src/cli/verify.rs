//! `rulemill verify`: whether what lies in the data directory is what it must be.
//!
//! Reads a copy of the store whose changes stay in memory, under the lock that a daemon would hold: the file stays as
//! it is. What is wrong goes to standard output; the exit code says whether anything is.

use anyhow::anyhow;
use serde::Serialize;

use super::{
    ConfigArg, Failure, JsonArg, access, output,
    store_copy::{self, StoreCopy},
};
use crate::store::{self, Finding, Store, Verified, despite_panics};

/// Findings that are listed; the others are counted.
const FINDINGS_MAX: usize = 1_000;

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Walk everything in the data directory and hold it against everything else: the database's pages, every \
                  row with its key, its indexes and who wrote it, the log with the rows that it leads to, rules, timers, \
                  dead letters, notifications, positions and idempotency keys. Changes nothing. The daemon must be \
                  stopped; to verify without stopping it for long, stop it, copy the data directory, start it, and \
                  verify the copy. Exit code 0 if all is well, 1 if not.",
    after_help = "Example:\n  \
    systemctl stop shop && rulemill verify -c shop.toml"
)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    json: JsonArg,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    ok: bool,
    tables: u64,
    rows: u64,
    index_entries: u64,
    log_changes: u64,
    records: u64,
    /// How many things are wrong.
    problems: u64,
    /// The first of them.
    findings: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    /// The table; none for the file.
    #[serde(skip_serializing_if = "String::is_empty")]
    table: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    problem: String,
}

impl Report {
    fn add(&mut self, finding: Finding) {
        self.problems += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Line {
                table: finding.table,
                key: finding.key,
                problem: finding.problem,
            });
        }
    }

    fn end(mut self, verified: Verified) -> Self {
        self.ok = self.problems == 0;
        self.tables = verified.tables;
        self.rows = verified.rows;
        self.index_entries = verified.index_entries;
        self.log_changes = verified.log_changes;
        self.records = verified.records;
        self
    }

    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .findings
            .iter()
            .map(|line| {
                let table = match line.table.as_str() {
                    "" => "the file",
                    table => table,
                };
                match &line.key {
                    Some(key) => format!("{table}, {key}: {}", line.problem),
                    None => format!("{table}: {}", line.problem),
                }
            })
            .collect();
        let more = self.problems - self.findings.len() as u64;
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        if self.problems > 0 && self.tables == 0 && self.records == 0 {
            lines.push("nothing else in it could be looked at".to_owned());
            return lines;
        }
        lines.push(format!(
            "{} tables, {} rows, {} index entries, {} changes in the log, {} records: {}",
            self.tables,
            self.rows,
            self.index_entries,
            self.log_changes,
            self.records,
            match self.problems {
                0 => "all is well".to_owned(),
                1 => "1 thing is wrong".to_owned(),
                n => format!("{n} things are wrong"),
            }
        ));
        lines
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let config = access::load(&args.config)?;
    let dir = config.data_dir.display();
    let store = match despite_panics(|| store_copy::of(&config.data_dir, &config.limits)) {
        Ok(StoreCopy::Of(store)) => Ok(store),
        Ok(StoreCopy::Nothing) => {
            return Err(Failure::Failed(anyhow!(
                "there is no store in {dir} yet: `rulemill run` makes it"
            )));
        }
        Ok(StoreCopy::InUse) => {
            return Err(Failure::Failed(anyhow!(
                "another rulemill has the data directory {dir}: stop it first, or verify a copy that was made while it \
                 was stopped"
            )));
        }
        Err(error) => Err(error),
    };
    let report = match store.and_then(|store| despite_panics(|| verify(*store))) {
        Ok(report) => report,
        Err(error) => match error.downcast_ref::<store::Error>() {
            // What can't even be opened.
            Some(
                error @ (store::Error::Damaged(_)
                | store::Error::Empty(_)
                | store::Error::NotAStore(_)),
            ) => {
                let mut report = Report::default();
                report.add(Finding {
                    table: String::new(),
                    key: None,
                    problem: error.finding(),
                });
                report
            }
            _ => return Err(error.into()),
        },
    };
    if args.json.json {
        output::json(&report)?;
    } else {
        for line in report.lines() {
            output::line(&line)?;
        }
    }
    if report.ok {
        Ok(())
    } else {
        Err(Failure::Failed(anyhow!(
            "the store in {dir} is damaged: keep a copy of it; docs/reference.md, \"A damaged store\", says what then"
        )))
    }
}

fn verify(mut store: Store) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let verified = store.verify(&mut |finding| report.add(finding))?;
    Ok(report.end(verified))
}
