//! Plugins that misbehave while they handle a batch: each call ends with its fault and lets go of what it held, and
//! the next instance works.

use std::{sync::Arc, time::Duration};

use rulemill::rule::{Runtime, StateAccess};

use crate::{
    check_text,
    guests::{Guest, Read, State, load},
    limits,
};

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

fn applied(apply: &'static str) -> Guest {
    Guest {
        apply,
        ..Guest::default()
    }
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
