//! The same through the real daemon: every file that must be refused lies in its plugin directory, and it takes
//! changes, runs the one good plugin over them, and says of each other what is wrong with it.

use std::{fs, path::Path};

use rulemill_tests::{daemon::Daemon, site::Site};
use serde_json::Value;

use crate::{
    described,
    guests::{self, Guest, assemble, core_module, manifest},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_rulemill-under-test");

const CONFIGURATION: &str = r#"
[http]
listen = "127.0.0.1:0"

[[table]]
name = "users"
key = ["id"]
columns = { id = "i64" }

[limits]
plugin_describe_ms_max = 150
plugin_memory_bytes_max = 16777216
plugin_bytes_max = 1000000
plugin_debounce_ms = 20
"#;

/// A guest whose tables have these names.
fn with_tables(reads: &str, owns: &str) -> Vec<u8> {
    let mut manifest = manifest();
    manifest.tables[0].name = reads.into();
    manifest.tables[1].name = owns.into();
    Guest {
        manifest: manifest.to_bytes(),
        ..Guest::default()
    }
    .assemble()
}

/// A plugin's name, its file, and words of the reason for which it is refused.
fn hostile() -> Vec<(&'static str, Vec<u8>, &'static [&'static str])> {
    let whole = assemble(guests::V1);
    let component =
        |import: &str| assemble(&format!("(component (import \"{import}\" (instance)))"));
    let exports =
        "(component (instance $rules) (export \"rulemill:plugin/rules@3.1.0\" (instance $rules)))";
    let endless = "(loop $l (br $l)) unreachable";
    let eats =
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable";
    vec![
        ("empty", Vec::new(), &["no valid WebAssembly", "empty"]),
        ("no_wasm", b"#!/bin/sh".to_vec(), &["no valid WebAssembly"]),
        (
            "truncated",
            whole[..whole.len() / 2].to_vec(),
            &["no valid WebAssembly"],
        ),
        (
            "too_large",
            vec![0; 1_000_001],
            &["limits.plugin_bytes_max"],
        ),
        (
            "wasi",
            component("wasi:filesystem/types@0.2.0"),
            &["wasi:filesystem", "std::fs"],
        ),
        (
            "wasi_p1",
            assemble("(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func)))"),
            &["wasi_snapshot_preview1#fd_write"],
        ),
        (
            "unknown_import",
            component("acme:rockets/launch@1.0.0"),
            &["acme:rockets/launch@1.0.0", "only compute"],
        ),
        (
            "no_plugin",
            assemble("(component)"),
            &["doesn't export describe and apply"],
        ),
        (
            "exports_other_major",
            assemble(exports),
            &["interface 3.1", "speaks 1.1"],
        ),
        (
            "imports_other_major",
            core_module("2.0.0"),
            &["interface 2.0", "speaks 1.1"],
        ),
        (
            "loops",
            described(endless),
            &["describing itself", "limits.plugin_describe_ms_max"],
        ),
        (
            "eats_memory",
            described(eats),
            &["describing itself", "limits.plugin_memory_bytes_max"],
        ),
        (
            "traps",
            described("unreachable"),
            &["describing itself", "trapped"],
        ),
        (
            "thief",
            with_tables("orders", "sums"),
            &["claims table sums", "plugin good"],
        ),
        (
            "claims_a_source",
            with_tables("orders", "users"),
            &["claims table users", "source"],
        ),
        (
            "cycle",
            with_tables("sums_of_sums", "sums_of_sums"),
            &["sums_of_sums"],
        ),
    ]
}

fn number(id: i64, op: &str) -> String {
    format!("{{\"table\":\"numbers\",\"op\":\"{op}\",\"after\":{{\"id\":{id},\"value\":5}}}}\n")
}

/// All are refused with their reasons, and the good one runs.
fn check(site: &Site, daemon: &mut Daemon, id: i64) {
    let hostile = hostile();
    daemon.until("every file to be looked at", |daemon| {
        let rules = daemon.get("/v1/rules").ok()?;
        let is_refused = |name: &str| rules["plugins"][name]["refused"].is_string();
        let all = hostile.iter().all(|(name, ..)| is_refused(name));
        (all && rules["plugins"]["good"]["hash"].is_string()).then_some(())
    });
    let rules = site.json(&["rules", "--json"]).unwrap();
    for (name, _, words) in &hostile {
        let plugin = &rules["plugins"][name];
        let reason = plugin["refused"].as_str().unwrap();
        for word in *words {
            assert!(reason.contains(word), "{name}: no {word:?} in: {reason}");
        }
        assert_eq!(plugin["hash"], Value::Null, "{name} runs");
    }
    let names: Vec<&Value> = rules["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| &rule["name"])
        .collect();
    assert_eq!(names, ["good.sums"]);
    let (status, answer) = daemon.post(None, number(id, "insert")).unwrap();
    assert_eq!(status, 200, "{answer}");
    let sums = site.rows("sums").unwrap();
    assert!(sums.contains(&format!("{id},5")), "{sums:?}");
}

fn put(dir: &Path, name: &str, code: &[u8]) {
    let partial = dir.join(".partial");
    fs::write(&partial, code).unwrap();
    fs::rename(partial, dir.join(format!("{name}.wasm"))).unwrap();
}

#[test]
fn all_are_refused_and_the_host_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(PROGRAM, dir.path(), CONFIGURATION).unwrap();
    let plugins = site.path("plugins");
    put(&plugins, "good", &assemble(guests::V1));
    let mut daemon = site.daemon().unwrap();
    for (name, code, _) in hostile() {
        put(&plugins, name, &code);
    }
    check(&site, &mut daemon, 1);
    // A file that goes takes its refusal with it.
    fs::remove_file(plugins.join("thief.wasm")).unwrap();
    daemon.until("the refusal to go", |daemon| {
        let rules = daemon.get("/v1/rules").ok()?;
        rules["plugins"].get("thief").is_none().then_some(())
    });
    put(&plugins, "thief", &with_tables("orders", "sums"));
    daemon.stop().unwrap();
    // The same at the start.
    let mut daemon = site.daemon().unwrap();
    check(&site, &mut daemon, 2);
    let checked = site.run(&["check"]).unwrap();
    assert_eq!(checked.code(), 1);
    for (name, ..) in hostile() {
        assert!(
            checked.stderr().contains(name) || checked.stdout().contains(name),
            "{name}"
        );
    }
    daemon.stop().unwrap();
}

/// The contract has a row written once a batch. A plugin that writes it twice gets what it wrote last.
#[test]
fn a_row_that_is_written_twice_in_a_batch_is_as_it_was_written_last() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(PROGRAM, dir.path(), CONFIGURATION).unwrap();
    put(&site.path("plugins"), "good", &assemble(guests::V1));
    let daemon = site.daemon().unwrap();
    let batch = number(1, "insert") + &number(2, "insert") + &number(1, "delete");
    assert_eq!(daemon.post(None, batch).unwrap().0, 200);
    assert_eq!(site.rows("sums").unwrap(), ["2,5"]);
    let batch = number(1, "insert") + &number(2, "delete") + &number(2, "insert");
    assert_eq!(daemon.post(None, batch).unwrap().0, 200);
    let sums = site.rows("sums").unwrap();
    // The guest adds to what the table held before the batch.
    assert_eq!(sums, ["1,5", "2,10"]);
    daemon.stop().unwrap();
}
