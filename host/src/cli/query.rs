//! `rulemill query`: rows of a table.

use std::io::Write;

use clap::ValueEnum;
use serde_json::value::RawValue;

use super::{ConfigArg, Failure, access::Access, output};
use crate::http::{
    RowsQuery,
    answers::{Provenance, Rows},
};

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns for people
    Table,
    /// One JSON object a line
    Json,
    /// Comma-separated values with a header
    Csv,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    rulemill query orders --key 17\n  \
    rulemill query order_lines --key 17,3              a composite key\n  \
    rulemill query order_lines --key 17                all rows whose composite key begins with 17\n  \
    rulemill query stock --key '\"Oslo, Norway\",17'     a composite key with a comma in a value\n  \
    rulemill query daily --from 2026-01-01 --to 2026-02-01\n  \
    rulemill query product_totals --key 7 --provenance  which change and which code wrote it\n  \
    rulemill query product_totals --limit 1000000 --format csv > totals.csv")]
pub(super) struct Args {
    /// The table
    table: String,
    /// Only the row with this key: for a key of one column the text as it is; a composite key as one CSV record,
    /// of which the first columns will do
    #[arg(long, value_name = "K", conflicts_with_all = ["from", "to"])]
    key: Option<String>,
    /// From this key on, itself included; written like --key
    #[arg(long, value_name = "A")]
    from: Option<String>,
    /// Up to this key, itself excluded; written like --key
    #[arg(long, value_name = "B")]
    to: Option<String>,
    /// Rows at the most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Also what wrote each row: the number of the source change behind it, the plugin and its file's SHA-256
    #[arg(long)]
    provenance: bool,
    /// How to print them
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    #[command(flatten)]
    config: ConfigArg,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let access = Access::open(&args.config)?;
    let format = if args.json { Format::Json } else { args.format };
    let mut printer = Printer::new(format);
    let mut cursor = None;
    let mut left = args.limit;
    loop {
        // Pages bound the memory of both sides; the table format needs all rows for its widths.
        let limit = left.min(access.page_rows_max());
        let page = access.rows(&RowsQuery {
            table: args.table.clone(),
            key: args.key.clone(),
            from: args.from.clone(),
            to: args.to.clone(),
            limit: Some(limit),
            cursor,
            provenance: args.provenance,
        })?;
        left = left.saturating_sub(page.rows.len() as u64);
        printer.page(&page)?;
        match page.next {
            Some(next) if left > 0 => cursor = Some(next),
            next => {
                printer.end()?;
                if next.is_some() && format == Format::Table {
                    eprintln!("more rows follow: --limit takes more than {}", args.limit);
                }
                return Ok(());
            }
        }
    }
}

/// Prints pages as they come.
struct Printer {
    format: Format,
    out: std::io::BufWriter<std::io::StdoutLock<'static>>,
    columns: Vec<String>,
    /// Of what stands behind the columns.
    headers: Vec<&'static str>,
    table_rows: Vec<Vec<String>>,
    started: bool,
}

impl Printer {
    fn new(format: Format) -> Self {
        Self {
            format,
            out: output::stdout(),
            columns: Vec::new(),
            headers: Vec::new(),
            table_rows: Vec::new(),
            started: false,
        }
    }

    fn page(&mut self, page: &Rows) -> Result<(), Failure> {
        // A column that comes while pages are read would shift what is printed already.
        if !self.started {
            self.columns.clone_from(&page.columns);
            self.started = true;
            if self.format == Format::Csv {
                let mut headers = self.columns.clone();
                headers.extend(headers_of(page).map(str::to_owned));
                writeln!(self.out, "{}", csv_line(&headers))?;
            }
            self.headers = headers_of(page).collect();
        }
        for (place, row) in page.rows.iter().enumerate() {
            let written = page.provenance.as_ref().and_then(|list| list.get(place));
            let line = |null: &str| -> Result<Vec<String>, Failure> {
                let mut line = cells(row, &self.columns, null)?;
                line.extend(written.into_iter().flat_map(|by| written_cells(by, null)));
                Ok(line)
            };
            match self.format {
                Format::Json => match written {
                    None => writeln!(self.out, "{}", row.get())?,
                    Some(by) => {
                        let line = WrittenRow { row, by };
                        serde_json::to_writer(&mut self.out, &line).map_err(anyhow::Error::new)?;
                        writeln!(self.out)?;
                    }
                },
                Format::Csv => writeln!(self.out, "{}", csv_line(&line("")?))?,
                Format::Table => self.table_rows.push(line("null")?),
            }
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), Failure> {
        self.out.flush()?;
        if self.format == Format::Table {
            drop(self.out);
            let mut headers: Vec<_> = self.columns.iter().map(String::as_str).collect();
            headers.extend(self.headers);
            output::table(&headers, self.table_rows, "no rows")?;
        }
        Ok(())
    }
}

/// A row with what wrote it, as a line of JSON.
#[derive(serde::Serialize)]
struct WrittenRow<'a> {
    row: &'a RawValue,
    #[serde(flatten)]
    by: &'a Provenance,
}

/// What stands behind a page's columns: names that no column of a rule can have.
fn headers_of(page: &Rows) -> impl Iterator<Item = &'static str> + use<> {
    let headers = page
        .provenance
        .as_ref()
        .map(|_| [":seq", ":plugin", ":hash"]);
    headers.into_iter().flatten()
}

fn written_cells(by: &Provenance, null: &str) -> [String; 3] {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| null.to_owned());
    [by.seq.to_string(), text(&by.plugin), text(&by.hash)]
}

/// A CSV line as RFC 4180 has it, without its end.
fn csv_line(fields: &[String]) -> String {
    let quoted: Vec<_> = fields
        .iter()
        .map(|field| {
            if field.contains([',', '"', '\n', '\r']) {
                format!("\"{}\"", field.replace('"', "\"\""))
            } else {
                field.clone()
            }
        })
        .collect();
    quoted.join(",")
}

/// A row's values as text, in the columns' order.
fn cells(row: &RawValue, columns: &[String], null: &str) -> Result<Vec<String>, Failure> {
    let values: std::collections::HashMap<String, &RawValue> = serde_json::from_str(row.get())
        .map_err(|error| Failure::Failed(anyhow::Error::new(error).context("can't read a row")))?;
    Ok(columns
        .iter()
        .map(|column| match values.get(column).map(|value| value.get()) {
            None | Some("null") => null.to_owned(),
            Some(text) => serde_json::from_str::<String>(text).unwrap_or_else(|_| text.to_owned()),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_follow_the_columns_and_keep_digits() {
        let row = RawValue::from_string(r#"{"b":"x, \"y\"","a":1.10,"d":null}"#.into()).unwrap();
        let columns = ["a", "b", "c", "d"].map(str::to_owned);
        let cells = cells(&row, &columns, "").unwrap();
        assert_eq!(cells, ["1.10", "x, \"y\"", "", ""]);
        assert_eq!(csv_line(&cells), "1.10,\"x, \"\"y\"\"\",,");
    }
}
