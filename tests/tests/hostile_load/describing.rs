//! Plugins that misbehave before they are asked to do anything: while they start and describe themselves, or in what
//! they say of themselves.

use rulemill_wire::manifest::Manifest;

use crate::{
    check_load, described,
    guests::{Guest, manifest},
};

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
