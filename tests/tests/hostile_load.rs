//! Files that are no plugins and guests that misbehave: each is refused, or its call ended, with the
//! reason that belongs to it, and the host goes on.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

#[path = "../guests/mod.rs"]
mod guests;

use std::{fmt::Display, sync::Arc, time::Duration};

use guests::{Guest, Read, State, assemble, load, manifest};
use rulemill::{
    limits::Limits,
    rule::{Runtime, StateAccess},
};
use rulemill_wire::manifest::Manifest;

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

/// Checks that a guest loads, that its call ends with this fault, that it lets go of the state, and
/// that the plugin's next instance works where its fault isn't always there.
fn check_apply(case: &str, guest: &Guest, expected: &str) {
    let plugin = load(&limits(), guest.assemble()).unwrap_or_else(|e| panic!("{case}: {e}"));
    for _ in 0..2 {
        let state = Arc::new(State::default());
        let mut instance = plugin.instantiate().unwrap();
        match instance.apply(b"batch", Arc::clone(&state) as Arc<dyn StateAccess>) {
            Ok(effects) => panic!("{case}: {} bytes of effects", effects.len()),
            Err(fault) => check_text(case, expected, &fault),
        }
        assert_eq!(Arc::strong_count(&state), 1, "{case}: keeps the state");
    }
}

fn described(describe: &'static str) -> Vec<u8> {
    Guest {
        describe,
        ..Guest::default()
    }
    .assemble()
}

fn applied(apply: &'static str) -> Guest {
    Guest {
        apply,
        ..Guest::default()
    }
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
        "is no plugin: it doesn't fit plugin interface 1.0: its export describe is of another type",
    );
}

#[test]
fn imports_that_no_rule_may_have() {
    let check = |case, text: &str, expected: &str| check_load(case, assemble(text), expected);
    let only = "but a rule can only compute: it has no files, network, clock or randomness";
    let component = |import: &str| format!("(component (import \"{import}\" (instance)))");
    check(
        "WASI clock",
        &component("wasi:clocks/wall-clock@0.2.0"),
        &format!(
            "imports wasi:clocks/wall-clock@0.2.0 (from std::time or a crate that reads the clock: \
             take `Now` in the rule instead), {only}"
        ),
    );
    check(
        "WASI files",
        &component("wasi:filesystem/types@0.2.0"),
        &format!("imports wasi:filesystem/types@0.2.0 (from std::fs), {only}"),
    );
    check(
        "WASI randomness",
        &component("wasi:random/random@0.2.0"),
        "imports wasi:random/random@0.2.0 (from rand, ..",
    );
    check(
        "WASI preview 1",
        "(module (import \"wasi_snapshot_preview1\" \"path_open\" (func)))",
        &format!("imports wasi_snapshot_preview1#path_open (from std::fs), {only}"),
    );
    check(
        "an extern function",
        "(module (import \"env\" \"launch\" (func)))",
        &format!("imports env#launch (from an extern function that nothing defines), {only}"),
    );
    check(
        "JavaScript",
        "(module (import \"__wbindgen_placeholder__\" \"now\" (func)))",
        "imports __wbindgen_placeholder__#now (from a crate that expects JavaScript: ..",
    );
    check(
        "something unknown",
        &component("acme:rockets/launch@1.0.0"),
        &format!("imports acme:rockets/launch@1.0.0, {only}"),
    );
    check(
        "an unknown part of the interface",
        &component("rulemill:plugin/files@1.0.0"),
        &format!("imports rulemill:plugin/files@1.0.0, {only}"),
    );
    check(
        "an unknown function",
        "(component (import \"launch\" (func)))",
        &format!("imports launch, {only}"),
    );
}

#[test]
fn other_versions_of_the_interface() {
    let newer = |version: &str| {
        let text = guests::V1.replace("state@1.0.0", &format!("state@{version}"));
        assemble(&text)
    };
    let speaks = "and this host speaks 1.0";
    let rebuild = "build it with the rulemill-sdk that came with this host";
    check_load(
        "imports another major",
        newer("2.0.0"),
        &format!("was built for plugin interface 2.0, {speaks}: {rebuild}"),
    );
    check_load(
        "imports an old major",
        newer("0.3.0"),
        &format!("was built for plugin interface 0.3, {speaks}: {rebuild}"),
    );
    check_load(
        "imports a later minor",
        newer("1.4.0"),
        &format!("was built for plugin interface 1.4, {speaks}: update the host"),
    );
    check_load(
        "exports another major",
        assemble(
            "(component (instance $rules) (export \"rulemill:plugin/rules@3.1.0\" (instance $rules)))",
        ),
        &format!("was built for plugin interface 3.1, {speaks}: {rebuild}"),
    );
    load(&limits(), newer("1.0.7")).unwrap_or_else(|e| panic!("a later patch version: {e}"));
}

#[test]
fn describe_misbehaves() {
    let check = |case, describe, expected: &str| {
        let expected = format!("faulted while describing itself: {expected}");
        check_load(case, described(describe), &expected);
    };
    check(
        "endless loop",
        "(loop $l (br $l)) unreachable",
        "ran longer than limits.plugin_describe_ms_max = 150",
    );
    check(
        "eats memory",
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable",
        "exceeded limits.plugin_memory_bytes_max = 67108864",
    );
    check(
        "traps",
        "unreachable",
        "trapped: wasm `unreachable` instruction executed",
    );
    check(
        "panics",
        "(call $panicked (i32.const 1024) (i32.const 23)) unreachable",
        "trapped: there is no seventh day",
    );
    check(
        "returns what isn't there",
        "(call $ok (i32.const 4096) (i32.const 0x7fffffff))",
        "broke the plugin interface: ..",
    );
    check(
        "returns neither ok nor error",
        "(call $return (i32.const 9) (i32.const 4096) (i32.const 8))",
        "broke the plugin interface: ..",
    );
    check(
        "returns an error that is no text",
        "(i32.store8 (i32.const 5000) (i32.const 255))
         (call $return (i32.const 1) (i32.const 5000) (i32.const 1))",
        "broke the plugin interface: ..",
    );
    check(
        "reads state",
        "(call $get (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 64)) (call $manifest)",
        "asked for state that it may not read: state can be read only while a batch is handled",
    );
    check_load(
        "refuses its configuration",
        described("(call $error)"),
        "refused its configuration: there is no seventh day",
    );
}

#[test]
fn instantiating_misbehaves() {
    let fields = |fields| Guest {
        fields,
        ..Guest::default()
    };
    check_load(
        "the start function loops for ever",
        fields("(func $start (loop $l (br $l))) (start $start)").assemble(),
        "faulted while describing itself: ran longer than limits.plugin_describe_ms_max = 150",
    );
    check_load(
        "a large table",
        fields("(table 10000000 funcref)").assemble(),
        "faulted while describing itself: exceeded limits.plugin_memory_bytes_max = 67108864",
    );
    check_load(
        "a second memory",
        fields("(memory 2000)").assemble(),
        "faulted while describing itself: exceeded limits.plugin_memory_bytes_max = 67108864",
    );
    let many = Guest {
        component_fields: format!(
            "(core module $many) {}",
            "(core instance (instantiate $many))".repeat(100)
        ),
        ..Guest::default()
    };
    check_load(
        "a hundred instances",
        many.assemble(),
        "faulted while describing itself: broke the plugin interface: ..",
    );
}

#[test]
fn describe_lies() {
    let check = |case, expected: &str, change: fn(&mut Manifest)| {
        let mut lie = manifest();
        change(&mut lie);
        let guest = Guest {
            manifest: lie.to_bytes(),
            ..Guest::default()
        };
        check_load(
            case,
            guest.assemble(),
            &format!("describes itself wrongly: {expected}"),
        );
    };
    check("no rules", "it has no rules", |m| m.rules.clear());
    check(
        "writes what it reads",
        "rule totals writes table orders, which the plugin only reads",
        |m| m.rules[0].writes = vec![0],
    );
    check(
        "too many tables",
        "it has 5 tables, and limits.plugin_tables_max is 4",
        |m| {
            let table = m.tables[0].clone();
            m.tables.extend([table.clone(), table.clone(), table]);
        },
    );
    check(
        "a key that isn't there",
        "the key of table totals names column number 4, and there are 1",
        |m| {
            m.tables[1].key = vec![4];
        },
    );
    let garbage = Guest {
        manifest: vec![0xff; 64],
        ..Guest::default()
    };
    check_load(
        "garbage",
        garbage.assemble(),
        "describes itself wrongly: not a manifest: ..",
    );
    let mut long = Guest::default();
    long.manifest.push(0);
    check_load(
        "bytes after the manifest",
        long.assemble(),
        "describes itself wrongly: 1 bytes follow the manifest",
    );
}

#[test]
fn apply_misbehaves() {
    let check = |case, apply, expected| check_apply(case, &applied(apply), expected);
    check(
        "traps",
        "unreachable",
        "trapped: wasm `unreachable` instruction executed",
    );
    check(
        "divides by zero",
        "(i32.div_u (i32.const 1) (i32.const 0))",
        "trapped: integer divide by zero",
    );
    check(
        "reads outside its memory",
        "(i32.load (i32.const -8))",
        "trapped: out of bounds memory access",
    );
    check(
        "panics",
        "(call $panicked (i32.const 1024) (i32.const 23)) unreachable",
        "trapped: there is no seventh day",
    );
    check(
        "endless loop",
        "(loop $l (br $l)) unreachable",
        "ran longer than limits.plugin_call_ms_max = 150",
    );
    check(
        "endless loop of log lines",
        "(loop $l (call $log (i32.const 3) (i32.const 1024) (i32.const 23)) (br $l)) unreachable",
        "ran longer than limits.plugin_call_ms_max = 150",
    );
    check(
        "eats memory",
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable",
        "exceeded limits.plugin_memory_bytes_max = 67108864",
    );
    check(
        "large effects",
        "(drop (memory.grow (i32.const 64))) (call $ok (i32.const 0) (i32.const 1048577))",
        "exceeded limits.effects_bytes_max = 1048576",
    );
    check(
        "effects larger than what is copied at all",
        "(drop (memory.grow (i32.const 512))) (call $ok (i32.const 0) (i32.const 0x1400000))",
        "exceeded limits.effects_bytes_max = 1048576",
    );
    check(
        "effects outside its memory",
        "(call $ok (i32.const 0) (i32.const 0x7fffffff))",
        "broke the plugin interface: ..",
    );
    check(
        "returns an error",
        "(call $error)",
        "broke the plugin interface: there is no seventh day",
    );
    check(
        "logs with a level that is none",
        "(call $log (i32.const 9) (i32.const 1024) (i32.const 1)) (call $effects)",
        "broke the plugin interface: ..",
    );
    check(
        "logs what is no text",
        "(i32.store8 (i32.const 5000) (i32.const 255))
         (call $log (i32.const 0) (i32.const 5000) (i32.const 1)) (call $effects)",
        "broke the plugin interface: ..",
    );
    let small_memory = Guest {
        fields: "(memory $small 1 2)",
        apply: "(local $i i32)
            (loop $l
              (drop (memory.grow $small (i32.const 1000)))
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br_if $l (i32.lt_u (local.get $i) (i32.const 1000))))
            unreachable",
        ..Guest::default()
    };
    check_apply(
        "what a memory's own maximum refuses isn't counted",
        &small_memory,
        "trapped: wasm `unreachable` instruction executed",
    );
    let recursion = Guest {
        fields: "(func $deep (param i32) (result i32)
            (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (local.get 0)))",
        apply: "(call $deep (i32.const 0))",
        ..Guest::default()
    };
    check_apply(
        "recursion",
        &recursion,
        "trapped: the call stack is exhausted: recursion that goes too deep",
    );
}

#[test]
fn state_reads_misbehave() {
    let check = |case, apply, expected| check_apply(case, &applied(apply), expected);
    check(
        "another plugin's table",
        "(call $get (i32.const 3) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 64)) (call $effects)",
        "asked for state that it may not read: there is no table 3",
    );
    check(
        "the store fails",
        "(call $get (i32.const 7) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 64)) (call $effects)",
        "the store failed during a state read: the disk is on fire",
    );
    check(
        "a key outside its memory",
        "(call $get (i32.const 0) (i32.const -4) (i32.const 8) (i64.const 0) (i32.const 64)) (call $effects)",
        "broke the plugin interface: ..",
    );
    check(
        "a million reads",
        "(local $i i32)
         (loop $l
           (call $get (i32.const 0) (i32.const 0) (i32.const 8) (i64.const 0) (i32.const 64))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $l (i32.lt_u (local.get $i) (i32.const 1000000))))
         (call $effects)",
        "exceeded limits.state_reads_max = 1000",
    );
    check(
        "a thousand and one in one call",
        "(call $get-many (i32.const 0) (i32.const 8192) (i32.const 1001) (i64.const 0) (i32.const 64))
         (call $effects)",
        "exceeded limits.state_reads_max = 1000",
    );
}

#[test]
fn answers_that_no_guest_can_hold_are_not_collected() {
    let many = applied(
        "(call $get-many (i32.const 0) (i32.const 8192) (i32.const 1000) (i64.const 0) (i32.const 64))
         (call $effects)",
    );
    let plugin = load(&limits(), many.assemble()).unwrap();
    let state = Arc::new(State {
        row: Some(vec![0; 1 << 20]),
        ..State::default()
    });
    let fault = plugin
        .instantiate()
        .unwrap()
        .apply(b"", Arc::clone(&state) as Arc<dyn StateAccess>)
        .unwrap_err();
    check_text(
        "",
        "exceeded limits.plugin_memory_bytes_max = 67108864",
        &fault,
    );
    assert_eq!(state.reads.lock().unwrap().len(), 64);
}

#[test]
fn each_call_has_its_whole_allowance() {
    let reads = applied(
        "(call $get-many (i32.const 0) (i32.const 8192) (i32.const 1000) (i64.const 9) (i32.const 64))
         (call $effects)",
    );
    let plugin = load(&limits(), reads.assemble()).unwrap();
    let mut instance = plugin.instantiate().unwrap();
    for _ in 0..3 {
        let state = Arc::new(State::default());
        instance
            .apply(b"", Arc::clone(&state) as Arc<dyn StateAccess>)
            .unwrap();
        let reads = state.reads.lock().unwrap();
        assert_eq!(reads.len(), 1_000);
        assert_eq!(reads[999], Read::Get(0, Vec::new(), 9));
    }
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

/// A guest is stopped in time although the host was idle for so long that the ticker sleeps, and one
/// that is quick enough isn't stopped.
#[test]
fn time_is_kept_after_a_rest() {
    let runtime = Runtime::new(&limits(), None).unwrap();
    let config = serde_json::Value::Null;
    let loops = applied("(loop $l (br $l)) unreachable").assemble().into();
    let loops = runtime.load("loops", loops, &config).unwrap();
    let quick = Guest::default().assemble().into();
    let quick = runtime.load("quick", quick, &config).unwrap();
    let mut quick = quick.instantiate().unwrap();
    // Longer than the ticker stays awake; there is no event to wait for instead.
    std::thread::sleep(Duration::from_millis(1_500));
    let mut instance = loops.instantiate().unwrap();
    let fault = instance.apply(b"", Arc::new(State::default())).unwrap_err();
    check_text(
        "",
        "ran longer than limits.plugin_call_ms_max = 150",
        &fault,
    );
    for _ in 0..1_000 {
        quick.apply(b"", Arc::new(State::default())).unwrap();
    }
}
