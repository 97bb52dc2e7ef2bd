//! What a plugin may do wrong while it handles a batch, each with its fault.

use rulemill_wire::manifest::Access;

use crate::{Case, Copier, HOSTILE, copier};

const ENDLESS: &str = "(loop $l (br $l))";
const TOO_LONG: &str = "ran longer than limits.plugin_call_ms_max = 200";

#[test]
fn an_endless_loop() {
    Case::new("an endless loop", ENDLESS, TOO_LONG).check();
}

#[test]
fn recursion() {
    let mut case = Case::new(
        "recursion",
        "(drop (call $deep (i32.const 0)))",
        "trapped: the call stack is exhausted: recursion that goes too deep",
    );
    case.fields = "(func $deep (param i32) (result i32)
        (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (local.get 0)))";
    case.check();
}

#[test]
fn memory_that_grows() {
    Case::new(
        "memory that grows",
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)",
        "exceeded limits.plugin_memory_bytes_max = 16777216",
    )
    .check();
}

#[test]
fn huge_effects() {
    Case::new(
        "huge effects",
        "(drop (memory.grow (i32.const 64))) (global.set $out (i32.const 3000000))",
        "exceeded limits.effects_bytes_max = 1048576",
    )
    .check();
}

#[test]
fn traps_in_the_middle_of_a_batch() {
    let check = |name, hostile, fault| Case::new(name, hostile, fault).check();
    check(
        "a trap",
        "(unreachable)",
        "trapped: wasm `unreachable` instruction executed",
    );
    check(
        "a division by zero",
        "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
        "trapped: integer divide by zero",
    );
    check(
        "a read outside its memory",
        "(drop (i32.load (i32.const -8)))",
        "trapped: out of bounds memory access",
    );
}

#[test]
fn a_panic_with_a_message() {
    Case::new(
        "a panic",
        "(call $panicked (i32.const 1040) (i32.const 12)) (unreachable)",
        "trapped: no such kind",
    )
    .check();
}

/// What it says that it has done by then must be effects like any others, and memory of its own.
#[test]
fn a_panic_with_lies_about_where_it_was() {
    let check = |name, hostile, fault| Case::new(name, hostile, fault).check();
    check(
        "a panic after what is no effects",
        "(call $panicked-at (i32.wrap_i64 (local.get $item)) (i32.const 0) (i32.const 1040) (i32.const 12)
            (i32.const 1) (i32.const 1040) (i32.const 12)) (unreachable)",
        "trapped: no such kind",
    );
    check(
        "a panic at an item that isn't there",
        "(call $panicked-at (i32.const 99999) (i32.const 0) (i32.const 1040) (i32.const 12)
            (i32.const 1) (i32.const 1040) (i32.const 1)) (unreachable)",
        "trapped: no such kind",
    );
    check(
        "a panic of a rule that isn't there",
        "(call $panicked-at (i32.wrap_i64 (local.get $item)) (i32.const 70000) (i32.const 1040) (i32.const 12)
            (i32.const 0) (i32.const 0) (i32.const 0)) (unreachable)",
        "trapped: no such kind",
    );
    check(
        "what was done before a panic lies outside its memory",
        "(call $panicked-at (i32.wrap_i64 (local.get $item)) (i32.const 0) (i32.const 1040) (i32.const 12)
            (i32.const 1) (i32.const -64) (i32.const 128)) (unreachable)",
        "broke the plugin interface: ..",
    );
    check(
        "a panic that isn't one",
        "(call $panicked-at (i32.wrap_i64 (local.get $item)) (i32.const 0) (i32.const 1040) (i32.const 12)
            (i32.const 0) (i32.const 0) (i32.const 0)) (loop $l (br $l))",
        TOO_LONG,
    );
}

/// The beginning of a write.
const WRITE: &str = "(call $write-unsigned (i64.const {{table}}))
    (call $write-unsigned (local.get $item))
    (call $write-byte (i32.const 1))
    (call $write-signed (local.get $id))
    (call $write-signed (local.get $value))
    (return)";

fn write_to(table: u32) -> &'static str {
    WRITE.replace("{{table}}", &table.to_string()).leak()
}

#[test]
fn effects_for_anothers_table() {
    let check = |name, hostile, fault| Case::new(name, hostile, fault).check();
    check(
        "a write to a source's table",
        write_to(0),
        "broke the plugin interface: its effects write table numbers, which it doesn't own",
    );
    check(
        "a write to a table that isn't there",
        write_to(7),
        "broke the plugin interface: its effects write table number 7, which its manifest doesn't have",
    );
    // It may read its neighbour's table, and so has a number for it.
    let mut case = Case::new(
        "a write to a neighbour's table",
        write_to(2),
        "broke the plugin interface: its effects write table good_copy, which it doesn't own",
    );
    let neighbours = copier::table("good_copy", Access::Read, "value");
    case.manifest.tables.push(neighbours);
    case.manifest.rules[0].lookups.push(2);
    case.check();
}

#[test]
fn malformed_effects() {
    let check = |name, hostile, fault| Case::new(name, hostile, fault).check();
    check(
        "an effect of no kind",
        "(call $write-unsigned (i64.const 1))
         (call $write-unsigned (local.get $item))
         (call $write-byte (i32.const 7))",
        "broke the plugin interface: its effects: unknown tag 7",
    );
    check(
        "more effects than it counts",
        "(call $put (local.get $item) (local.get $id) (local.get $value))",
        "broke the plugin interface: ..",
    );
    check(
        "an effect of an item that isn't there",
        "(call $put (i64.const 99) (local.get $id) (local.get $value)) (return)",
        "broke the plugin interface: its effects name item 99 of a batch of 1",
    );
    check(
        "an integer without end",
        "(local.set $i (i32.const 11))
         (loop $l
           (call $write-byte (i32.const 255))
           (local.set $i (i32.sub (local.get $i) (i32.const 1)))
           (br_if $l (local.get $i)))",
        "broke the plugin interface: its effects: an integer is longer than its type allows",
    );
    check(
        "effects outside its memory",
        "(global.set $out (i32.const 0x7fffffff)) (return)",
        "trapped: out of bounds memory access",
    );
}

#[test]
fn state_reads() {
    let check = |name, hostile, fault| Case::new(name, hostile, fault).check();
    check(
        "a million reads",
        "(local.set $i (i32.const 1000000))
         (loop $l
           (drop (call $sum-by-get (local.get $id) (local.get $seq)))
           (local.set $i (i32.sub (local.get $i) (i32.const 1)))
           (br_if $l (local.get $i)))",
        "exceeded limits.state_reads_max = 1000",
    );
    check(
        "a read of a table that isn't there",
        "(call $get (i32.const 9) (i32.const 128) (i32.const 8) (local.get $seq) (i32.const 64))",
        "asked for state that it may not read: ..",
    );
    check(
        "a key outside its memory",
        "(call $get (i32.const 1) (i32.const -4) (i32.const 8) (local.get $seq) (i32.const 64))",
        "broke the plugin interface: ..",
    );
}

/// It says that a column is a number, and in poisoned rows it isn't.
#[test]
fn a_lie_about_a_column() {
    let mut case = Case::new(
        "a lie about a column",
        "",
        "column note holds a text: Text(\"no number\"), which is no i64",
    );
    let lie = Copier {
        column: "note",
        ..HOSTILE
    };
    case.manifest = lie.manifest();
    case.by_row = true;
    case.check();
}
