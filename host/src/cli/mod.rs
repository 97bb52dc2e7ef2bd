//! The command line.
//!
//! One file a command. Results go to standard output, progress and logs to standard error, and the
//! exit code says how it went: 0 done, 1 failed, 2 wrong use or wrong configuration. A reader that
//! goes away early (`| head`) is no failure.
//!
//! Commands that read state ask the running daemon, and read the data directory themselves where
//! none runs ([`access`]). They never write the store.

mod access;
mod build;
mod check;
mod client;
mod dead_letters;
mod demo;
mod failure;
mod new;
mod output;
mod query;
mod rebuild;
mod rules;
mod run;
mod status;
mod store_copy;
mod tables;
mod tail;
mod verify;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

pub use failure::Failure;

use crate::store;

/// The arguments of `rulemill`.
#[derive(Debug, Parser)]
#[command(
    name = "rulemill",
    version,
    about = "Keeps derived tables right: row changes in, sandboxed WebAssembly rules, one transaction out.",
    long_about = "Keeps derived tables right: row changes come in from files, standard input and HTTP; rules \
                  written in Rust and compiled to WebAssembly handle each of them in a sandbox; and what they \
                  write lands with the changes in one transaction.",
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong use or wrong configuration.\n\n\
                  Examples:\n  \
                  rulemill demo                        see a whole shop kept right\n  \
                  rulemill new my-rules                a plugin crate to start from\n  \
                  rulemill build my-rules --out plugins\n  \
                  rulemill run                         the daemon, with ./rulemill.toml\n  \
                  rulemill query product_totals --limit 10\n  \
                  rulemill tail product_totals         its changes as they happen",
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the shipped plugins, run a whole shop through a host, and check every table
    Demo(demo::Args),
    /// Run the daemon until SIGTERM or SIGINT; with --once read what the sources hold and end
    Run(run::Args),
    /// Make a new plugin crate: a rule, a test and a README
    New(new::Args),
    /// Compile plugin crates to WebAssembly
    Build(build::Args),
    /// Check configuration, plugins and table graph, changing nothing
    Check(check::Args),
    /// List the tables
    Tables(tables::Args),
    /// Read rows of a table
    Query(query::Args),
    /// List the rules with their state, or pause or resume one
    Rules(rules::Args),
    /// Make a plugin's tables again from a snapshot of what they come from
    Rebuild(rebuild::Args),
    /// List, show, retry or drop changes that a rule could not handle
    DeadLetters(dead_letters::Args),
    /// Show the host's health at a glance
    Status(status::Args),
    /// Print committed changes as they happen, as JSON lines
    Tail(tail::Args),
    /// Walk everything in the data directory and say what is wrong in it
    Verify(verify::Args),
}

/// Which configuration a command goes by.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigArg {
    /// The configuration
    #[arg(
        short = 'c',
        long = "config",
        value_name = "FILE",
        default_value = "rulemill.toml"
    )]
    path: PathBuf,
}

/// Whether a program reads the answer.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct JsonArg {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    // Wrong use ends here with the usage on standard error and exit code 2; --help with 0.
    let cli = Cli::parse();
    // Over damaged pages the database may panic in any command that reads them.
    match store::despite_panics(|| run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Run(args) => run::run(&args),
        Command::New(args) => new::run(&args),
        Command::Build(args) => build::run(args),
        Command::Check(args) => check::run(&args),
        Command::Tables(args) => tables::run(&args),
        Command::Query(args) => query::run(&args),
        Command::Rules(args) => rules::run(&args),
        Command::Rebuild(args) => rebuild::run(&args),
        Command::DeadLetters(args) => dead_letters::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Tail(args) => tail::run(&args),
        Command::Verify(args) => verify::run(&args),
    }
}

#[cfg(test)]
mod tests;
