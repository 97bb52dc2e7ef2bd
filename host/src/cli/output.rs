//! Results on standard output: JSON for programs, tables for people.

use std::io::{self, BufWriter, StdoutLock, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// Standard output, buffered; flush it at the end, or what is left is lost quietly.
pub(super) fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

/// Prints a value as indented JSON.
pub(super) fn json(value: &impl Serialize) -> io::Result<()> {
    let mut out = stdout();
    serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Prints a table without frames; nothing but `none` where there are no rows.
pub(super) fn table(headers: &[&str], rows: Vec<Vec<String>>, none: &str) -> io::Result<()> {
    let mut out = stdout();
    if rows.is_empty() {
        writeln!(out, "{none}")?;
    } else {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(headers.to_vec());
        for row in rows {
            table.add_row(row);
        }
        for line in table.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    out.flush()
}

/// What a column shows where there is nothing.
pub(super) fn or_dash(value: Option<&str>) -> String {
    value.unwrap_or("-").to_owned()
}

/// The first line of a text, cut to `chars_max`, for a column of a table.
pub(super) fn short(text: &str, chars_max: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(chars_max) {
        None => line.to_owned(),
        Some((end, _)) => format!("{}...", &line[..end]),
    }
}

/// As much of a hash as tells one version of a plugin from another.
pub(super) fn hash(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// Prints one line.
pub(super) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
