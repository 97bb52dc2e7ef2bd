//! Everything that a store holds, as lines of text.

use std::fmt::Write;

use rulemill::{change::Seq, store::Store};

/// The name of the source.
pub(crate) const SOURCE: &str = "inbox";

/// What one store held at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contents {
    text: String,
}

impl Contents {
    /// Reads all of it. `requests` are the idempotency keys that may be there.
    pub(crate) fn of(store: &Store, requests: &[String]) -> anyhow::Result<Self> {
        let reader = store.reader()?;
        let mut text = String::new();
        let mut line = |section: &str, what: &dyn std::fmt::Debug| {
            // Writing to a text can't fail.
            let _ = writeln!(text, "{section}: {what:?}");
        };
        let clocks = (reader.watermark(), reader.watermark_clock());
        line("last seq", &reader.last_seq());
        line("watermark and clock", &clocks);
        line("last dead letter", &reader.last_dead_letter()?);
        line("log from", &reader.log_first_seq()?);
        line("log bytes", &reader.log_bytes()?);
        let catalog = reader.catalog()?;
        for table in catalog.tables() {
            line("table", table);
            for entry in reader.rows(table, &[], None, false)? {
                line(&table.name, &entry?);
            }
            for index in 0..table.indexes.len() {
                for entry in reader.index_rows(table, index, &[], None, false)? {
                    let (entry, key, _) = entry?;
                    line(&format!("{} by index {index}", table.name), &(entry, key));
                }
            }
        }
        for change in reader.log(Seq(0))? {
            line("log", &change?);
        }
        line("positions", &reader.positions(SOURCE)?);
        for bad in reader.bad_input(SOURCE)? {
            line("bad input", &bad?);
        }
        for rule in reader.rules()? {
            line("rule", &rule);
        }
        for version in reader.plugin_versions()? {
            line("plugin version", &version);
            let code = reader.plugin_code(&version.hash)?;
            line("plugin code", &code.map(|code| rulemill::rule::hash(&code)));
        }
        for timer in reader.timers()? {
            line("timer", &timer?);
        }
        for notification in reader.notifications(0)? {
            line("notification", &notification?);
        }
        for letter in reader.dead_letters()? {
            line("dead letter", &letter?);
        }
        for request in requests {
            line("request", &reader.idempotency(request)?);
        }
        Ok(Self { text })
    }

    /// Whether a line begins so.
    pub(crate) fn has_line(&self, begins: &str) -> bool {
        self.count(begins) > 0
    }

    /// How many lines begin so.
    pub(crate) fn count(&self, begins: &str) -> usize {
        let lines = self.text.lines();
        lines.filter(|line| line.starts_with(begins)).count()
    }

    /// Lines that only this or only the other has.
    pub(crate) fn difference(&self, other: &Self) -> Vec<String> {
        let only = |a: &Self, b: &Self, sign: &str| -> Vec<String> {
            let there: std::collections::HashSet<&str> = b.text.lines().collect();
            a.text
                .lines()
                .filter(|line| !there.contains(line))
                .map(|line| format!("{sign} {line}"))
                .collect()
        };
        let mut lines = only(other, self, "-");
        lines.extend(only(self, other, "+"));
        lines
    }
}
