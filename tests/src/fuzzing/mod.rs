//! What every fuzzer tries: a function of any bytes that panics where something is wrong.
//!
//! Owns the checks, each against a reading of its own that shares no code with the product's. They are run by the
//! ordinary test `fuzz_corpus` (the committed corpus, and changed copies of it from a seed) and by the libFuzzer
//! targets in `tests/fuzz`, which find more, given time. A panic is a finding; its message says what was read and
//! what should have been.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a panic is how a fuzzer tells"
)]

mod bytes;
mod changes;
mod convert;
mod csv;
mod effects;
mod keys;
mod line;
mod log;
pub mod mutate;
mod reading;
mod rows;
mod tables;

/// A fuzzer.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: that of its corpus, and of its file in `tests/fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Panics where something is wrong. True if the input was taken, false if it was rightly refused.
    pub run: fn(&[u8]) -> bool,
    /// What its inputs are often made of.
    pub words: &'static [&'static [u8]],
}

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target {
        name: "json",
        run: changes::json,
        words: changes::WORDS,
    },
    Target {
        name: "debezium",
        run: changes::debezium,
        words: changes::WORDS,
    },
    Target {
        name: "csv",
        run: csv::csv,
        words: csv::WORDS,
    },
    Target {
        name: "convert",
        run: convert::convert,
        words: convert::WORDS,
    },
    Target {
        name: "effects",
        run: effects::effects,
        words: effects::WORDS,
    },
    Target {
        name: "keys",
        run: keys::keys,
        words: &[],
    },
    Target {
        name: "rows",
        run: rows::rows,
        words: &[],
    },
    Target {
        name: "log",
        run: log::log,
        words: &[],
    },
];

/// Runs the fuzzer with this name.
pub fn run(name: &str, input: &[u8]) {
    match TARGETS.iter().find(|target| target.name == name) {
        Some(target) => {
            (target.run)(input);
        }
        None => panic!("no fuzzer is named {name}"),
    }
}
