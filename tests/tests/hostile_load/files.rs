//! Files that hold no plugin: no Wasm, half of it, Wasm of something else, or a plugin with damaged bytes.

use std::sync::Arc;

use rulemill::{limits::Limits, rule::Runtime};

use crate::{
    check_load,
    guests::{self, Guest, State, assemble},
    limits,
};

#[test]
fn files_that_are_no_wasm() {
    let whole = Guest::default().assemble();
    let check = |case, code: &[u8], expected| check_load(case, code.to_vec(), expected);
    check("empty", b"", "is no valid WebAssembly: the file is empty");
    check(
        "text",
        b"fn main() {}",
        "is no valid WebAssembly: it doesn't begin with the bytes `\\0asm`",
    );
    check("header", &whole[..6], "is no valid WebAssembly: ..");
    for part in [10, 50, 90, 99] {
        let truncated = &whole[..whole.len() * part / 100];
        check("truncated", truncated, "is no valid WebAssembly: ..");
    }
    let mut followed = whole.clone();
    followed.extend_from_slice(b"and more");
    check("followed by text", &followed, "is no valid WebAssembly: ..");
    check(
        "another version of Wasm",
        b"\0asm\x07\0\0\0",
        "is no valid WebAssembly: ..",
    );
    check(
        "too large",
        &vec![0; 1_048_577],
        "can't be read: it has 1048577 bytes, and limits.plugin_bytes_max is 1048576",
    );
}

#[test]
fn modules_that_are_no_plugins() {
    let check = |case, text: &str, expected: &str| check_load(case, assemble(text), expected);
    check(
        "a plain module",
        "(module (func (export \"describe\")))",
        "is no plugin: it is a plain module without component metadata: ..",
    );
    check(
        "an empty component",
        "(component)",
        "is no plugin: it doesn't export describe and apply: does it call `rulemill_sdk::plugin!`?",
    );
    let export = "(core module $m (func (export \"f\"))) (core instance $m (instantiate $m))
        (func (export \"describe\") (canon lift (core func $m \"f\")))";
    check(
        "no apply",
        &format!("(component {export})"),
        "is no plugin: it doesn't export apply: does it call `rulemill_sdk::plugin!`?",
    );
    let other = export.replace("\"describe\"", "\"apply\"");
    let other = other.replace("$m", "$n");
    check(
        "exports of other types",
        &format!("(component {export} {other})"),
        "is no plugin: it doesn't fit plugin interface 1.1: its export describe is of another type",
    );
}

/// Files with a few bytes changed: each loads or is refused, and whatever loads can be called.
#[test]
fn damaged_files_stop_nothing() {
    let limits = Limits {
        plugin_call_ms_max: 20,
        plugin_describe_ms_max: 20,
        ..limits()
    };
    let runtime = Runtime::new(&limits, None).unwrap();
    let files = [Guest::default().assemble(), guests::core_module("1.0.0")];
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let (mut loaded, mut refused) = (0, 0);
    for round in 0..400 {
        let mut damaged = files[round % 2].clone();
        for _ in 0..=next(3) {
            let place = next(damaged.len());
            damaged[place] = next(256) as u8;
        }
        match runtime.load("damaged", damaged.into(), &serde_json::Value::Null) {
            Ok(plugin) => {
                loaded += 1;
                if let Ok(mut instance) = plugin.instantiate() {
                    drop(instance.apply(b"batch", Arc::new(State::default())));
                }
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().contains("compiler panicked"), "{error}");
            }
        }
    }
    assert!(
        loaded > 0 && refused > 0,
        "{loaded} loaded, {refused} refused"
    );
}
