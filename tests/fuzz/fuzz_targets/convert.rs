#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| rulemill_tests::fuzzing::run("convert", input));
