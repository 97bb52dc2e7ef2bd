//! `rulemill demo`: a whole shop through a real host, and every derived table checked.
//!
//! ```text
//! shop ──> inbox/shop.jsonl ──> a host with the shop plugin ──> tables ──┐
//!                  └──> recomputation in plain Rust ──> tables ──────────┴──> compared, shown
//! ```
//!
//! Owns the demo's directory and what it prints; the host runs as for `rulemill run` ([`host`]). It never
//! touches a directory that holds something already. Where a table differs from the recomputation the
//! first differences are printed and the command fails.

mod directory;
mod host;
mod recompute;
mod report;
mod shop;

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use directory::Directory;
pub use recompute::{Difference, Recomputation, Row, Rows, Tables, differences};
pub use shop::Shop;

/// Differences printed at the most.
const DIFFERENCES_SHOWN: usize = 10;

/// What `rulemill demo` takes.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  \
    rulemill demo\n  \
    rulemill demo --changes 1000000 --seed 7\n  \
    rulemill demo --dir shop --serve     and then, elsewhere: rulemill query product_totals -c shop/rulemill.toml")]
pub struct Args {
    /// Changes to run through the host
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub changes: u64,
    /// Which shop: the same seed and number of changes give the same changes everywhere
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Where to put everything: a new or empty directory [default: a new one for temporary files]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Keep serving the tables over HTTP when done, until Ctrl-C
    #[arg(long)]
    pub serve: bool,
}

/// Runs the demo.
///
/// # Errors
/// If the plugin can't be built, the directory can't be used, the host fails, or a table is not what the
/// recomputation says.
pub fn run(args: Args) -> Result<()> {
    let directory = Directory::new(args.dir.as_deref(), args.serve)?;
    eprintln!("building the shop plugin ...");
    directory.build_plugins()?;
    write_changes(&args, &directory)?;

    let bar = progress("running  ", args.changes);
    let ran = host::run_once(&directory.config(), &|durable| bar.set_position(durable))?;
    bar.finish_and_clear();

    let expected = recompute(&args, &directory)?;
    let found = ran.tables;
    print!("\n{}", report::tables(&found));
    println!(
        "\n{} changes in {:.1} s: {} a second, from file to disk",
        report::thousands(args.changes),
        ran.elapsed.as_secs_f64(),
        report::thousands(per_second(args.changes, ran.elapsed)),
    );
    verify(&expected, &found)?;
    println!("data:     {}", directory.path().display());
    if args.serve {
        return host::serve(&directory.config());
    }
    println!(
        "try:      rulemill query user_totals --limit 5 -c {}",
        directory.config().display()
    );
    Ok(())
}

/// Writes the shop's changes into the inbox, where the host's source reads them.
fn write_changes(args: &Args, directory: &Directory) -> Result<()> {
    let bar = progress("writing  ", args.changes);
    let mut file = directory.create_input()?;
    let changes = usize::try_from(args.changes)?;
    for line in Shop::new(args.seed, args.changes).take(changes) {
        writeln!(file, "{line}").context("writing the shop's changes")?;
        bar.inc(1);
    }
    file.flush().context("writing the shop's changes")?;
    bar.finish_and_clear();
    Ok(())
}

/// What the tables must hold, from the lines as they lie in the inbox.
fn recompute(args: &Args, directory: &Directory) -> Result<Tables> {
    let bar = progress("checking ", args.changes);
    let mut recomputation = Recomputation::default();
    for line in BufReader::new(directory.open_input()?).lines() {
        recomputation.apply(&line?)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    recomputation.tables()
}

/// Compares table by table and says how it went.
fn verify(expected: &Tables, found: &Tables) -> Result<()> {
    let mut wrong = Vec::new();
    for (table, rows) in expected {
        let none = Rows::new();
        wrong.extend(differences(table, rows, found.get(table).unwrap_or(&none)));
    }
    let rows: usize = expected.values().map(Rows::len).sum();
    if wrong.is_empty() {
        println!(
            "verified: {} tables, {rows} rows equal to a recomputation",
            expected.len()
        );
        return Ok(());
    }
    for difference in wrong.iter().take(DIFFERENCES_SHOWN) {
        eprintln!("{difference}");
    }
    bail!("{} of {rows} rows differ from a recomputation", wrong.len());
}

fn per_second(changes: u64, elapsed: Duration) -> u64 {
    (changes as f64 / elapsed.as_secs_f64().max(1e-6)) as u64
}

/// A bar on standard error; nothing where that is no terminal.
fn progress(what: &'static str, changes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix}[{bar:40}] {human_pos} of {human_len} changes, {per_sec}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
    .progress_chars("=> ");
    ProgressBar::new(changes)
        .with_style(style)
        .with_prefix(what)
}

#[cfg(test)]
mod tests;
