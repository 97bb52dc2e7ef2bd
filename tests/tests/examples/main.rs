//! Runs every example in a copy of its directory and compares its tables with the expected ones.
//!
//! An example is a directory with a `rulemill.toml` and a `steps.txt`: what a user would do, one step a
//! line ([`steps`]). The real binary does it; plugins are built as `rulemill build` builds them.
//! `RULEMILL_BLESS=1` writes what came out as what is expected.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod run;
mod steps;

use std::path::{Path, PathBuf};

/// The checkout's root.
fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap().to_owned()
}

macro_rules! examples {
    ($($test:ident: $directory:literal,)*) => {
        const EXAMPLES: &[&str] = &[$($directory),*];

        $(#[test]
        fn $test() {
            run::example($directory);
        })*
    };
}

examples! {
    audit: "audit",
    batch_and_live: "batch-and-live",
    declarative: "declarative",
    hot_reload: "hot-reload",
    pipeline: "pipeline",
    shop: "shop",
}

#[test]
fn no_example_is_left_out() {
    let entries = std::fs::read_dir(root().join("examples")).unwrap();
    let mut found: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(
        found, EXAMPLES,
        "each directory of examples/ is named above"
    );
}
