//! Files that are no plugins and guests that misbehave: each is refused, or its call ended, with the
//! reason that belongs to it, and the host goes on.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod applying;
mod describing;
mod files;
#[path = "../../guests/mod.rs"]
mod guests;
mod interface;
mod running_host;

use std::{fmt::Display, sync::Arc};

use guests::{Guest, State, load, manifest};
use rulemill::limits::Limits;

fn limits() -> Limits {
    Limits {
        plugin_bytes_max: 1 << 20,
        plugin_memory_bytes_max: 64 << 20,
        plugin_call_ms_max: 150,
        plugin_describe_ms_max: 150,
        effects_bytes_max: 1 << 20,
        state_reads_max: 1_000,
        plugin_log_lines_max: 3,
        plugin_tables_max: 4,
        ..Limits::default()
    }
}

/// Checks an error's text: all of it, or, if `expected` ends in `..`, its beginning.
fn check_text(case: &str, expected: &str, error: &dyn Display) {
    let text = error.to_string();
    let same = match expected.strip_suffix("..") {
        Some(beginning) => text.starts_with(beginning),
        None => text == expected,
    };
    assert!(same, "{case}:\nexpected: {expected}\nfound:    {text}");
}

/// Checks that a file is refused, and why.
fn check_load(case: &str, code: Vec<u8>, expected: &str) {
    match load(&limits(), code) {
        Ok(_) => panic!("{case}: loaded"),
        Err(error) => check_text(case, expected, &error),
    }
}

fn described(describe: &'static str) -> Vec<u8> {
    Guest {
        describe,
        ..Guest::default()
    }
    .assemble()
}

#[test]
fn a_harmless_guest_works() {
    let plugin = load(&limits(), Guest::default().assemble()).unwrap();
    assert_eq!(plugin.manifest(), &manifest());
    let mut instance = plugin.instantiate().unwrap();
    for _ in 0..3 {
        let effects = instance.apply(&[1; 1_000], Arc::new(State::default()));
        assert_eq!(effects, Ok(vec![0; 4]));
    }
}
