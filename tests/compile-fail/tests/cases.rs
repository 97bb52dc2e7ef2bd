//! Each mistake in the use of the macros is answered with what to write instead.
//!
//! After a wanted change of a message: `TRYBUILD=overwrite cargo test -p compile-fail`, and read the
//! difference.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

/// The compiler whose own words `tests/compiler` holds.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn mistakes_are_answered_with_what_to_write() {
    let cases = trybuild::TestCases::new();
    // The macros' own messages: the same with every compiler.
    cases.compile_fail("tests/cases/*.rs");
    // Traits' messages, between the compiler's own sentences, which differ from version to version.
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .unwrap()
        .stdout;
    if String::from_utf8(version).unwrap().starts_with(COMPILER) {
        cases.compile_fail("tests/compiler/*.rs");
    }
}
