//! Each mistake in the use of the macros is answered with what to write instead.
//!
//! After a wanted change of a message: `TRYBUILD=overwrite cargo test -p compile-fail`, and read the
//! difference.

#[test]
fn mistakes_are_answered_with_what_to_write() {
    trybuild::TestCases::new().compile_fail("tests/cases/*.rs");
}
