//! The whole path, from a file of changes to durable totals, and what WebAssembly costs on it.
//!
//! `cargo bench -p rulemill-tests --bench pipeline [-- --changes N] [--products N] [--rounds N] [--panics N | --errors N] [--limit NAME=VALUE]..`
//!
//! N Debezium changes of orders (70 % inserted, 20 % updated, 10 % deleted, about 190 bytes each) lie in a
//! file; a host reads them, keeps the count and the sum of each product by the rule in `plugins/totals`, and ends
//! when all of it is on disk. Each run is a process of its own with an empty data directory, so that its memory can
//! be told; the clock runs from the sources' start to the last change being durable. The same rule compiled into the
//! host is the control: what separates the two is the boundary to WebAssembly. Kinds take turns, so a
//! machine's other work meets all of them alike. Every run's totals are held against a recomputation.
//! With `--panics N` the rule panics at one change of N, with `--errors N` it returns an error; they are parked.

#![allow(missing_docs)]

mod input;
mod run;

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

use input::Flaw;
use run::{Code, Kind, Measured};

const KINDS: [Kind; 4] = [
    Kind {
        code: Code::Wasm,
        mirror: true,
    },
    Kind {
        code: Code::Native,
        mirror: true,
    },
    Kind {
        code: Code::Wasm,
        mirror: false,
    },
    Kind {
        code: Code::Native,
        mirror: false,
    },
];

struct Wanted {
    changes: u64,
    products: u64,
    flawed: Option<(u64, Flaw)>,
    rounds: usize,
    /// Lines of `[limits]`.
    limits: String,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [child, dir, kind, limits] = &arguments[..]
        && child == "--child"
    {
        let measured = run::run(Path::new(dir), Kind::parse(kind)?, limits)?;
        println!("{}", serde_json::to_string(&measured)?);
        return Ok(());
    }
    let wanted = wanted(&arguments)?;
    let dir = tempfile::Builder::new()
        .prefix("rulemill-pipeline-")
        .tempdir()?;
    let input = input::write(dir.path(), wanted.changes, wanted.products, wanted.flawed)?;
    run::build_plugin(dir.path())?;
    println!(
        "{} changes of {} bytes, {} products, {} rounds, medians; store_cache_bytes = 256 MiB",
        wanted.changes,
        input.bytes / wanted.changes.max(1),
        wanted.products,
        wanted.rounds
    );
    let mut runs: [Vec<Measured>; 4] = Default::default();
    for _ in 0..wanted.rounds {
        for (kind, runs) in KINDS.iter().zip(&mut runs) {
            let measured = child(dir.path(), *kind, &wanted.limits)?;
            if measured.totals != input.totals {
                bail!("{kind}: the totals differ from a recomputation");
            }
            runs.push(measured);
        }
    }
    println!(
        "{:<28} {:>12} {:>10} {:>14} {:>14}",
        "", "changes/s", "us/change", "CPU us/change", "memory MB"
    );
    let mut rates = Vec::new();
    for (kind, runs) in KINDS.iter().zip(&runs) {
        let median = |of: fn(&Measured) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let seconds = median(|run| run.seconds);
        let each = 1e6 / wanted.changes as f64;
        println!(
            "{:<28} {:>12.0} {:>10.2} {:>14.2} {:>14.0}",
            kind.to_string(),
            wanted.changes as f64 / seconds,
            seconds * each,
            median(|run| run.cpu_seconds) * each,
            median(|run| run.memory_bytes as f64) / 1e6,
        );
        rates.push(wanted.changes as f64 / seconds);
    }
    println!(
        "WebAssembly's share of the native rate: {:.2} with mirror, {:.2} without",
        rates[0] / rates[1],
        rates[2] / rates[3]
    );
    Ok(())
}

fn wanted(arguments: &[String]) -> Result<Wanted> {
    let mut wanted = Wanted {
        changes: 1_000_000,
        products: 1_000,
        flawed: None,
        rounds: 5,
        limits: String::new(),
    };
    let mut arguments = arguments.iter().filter(|argument| *argument != "--bench");
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{name} needs a number"))?;
        if name == "--limit" {
            wanted.limits += &format!("{value}\n");
            continue;
        }
        let number: u64 = value
            .parse()
            .with_context(|| format!("{name} is {value:?}"))?;
        match name.as_str() {
            "--changes" => wanted.changes = number,
            "--products" => wanted.products = number,
            "--panics" => wanted.flawed = Some((number.max(1), Flaw::Panic)),
            "--errors" => wanted.flawed = Some((number.max(1), Flaw::Error)),
            "--rounds" => wanted.rounds = number as usize,
            _ => bail!("unknown argument {name}"),
        }
    }
    Ok(wanted)
}

fn child(dir: &Path, kind: Kind, limits: &str) -> Result<Measured> {
    let output = Command::new(std::env::current_exe()?)
        .arg("--child")
        .arg(dir)
        .arg(kind.name())
        .arg(limits)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("{kind}: the run failed");
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("{kind}: no measure"))
}
