//! `rulemill check` says of a plugin what the daemon would say, with the store that is there, and leaves that alone.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../guests/mod.rs"]
mod guests;

use guests::{Guest, manifest};
use rulemill_tests::site::Site;
use rulemill_wire::ColumnType;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rulemill-under-test");

const CONFIGURATION: &str = r#"
[http]
listen = "127.0.0.1:0"

[[source]]
name = "inbox"
kind = "files"
path = "inbox"
"#;

/// A plugin whose table `totals` has an id of this type.
fn plugin(id: ColumnType) -> Vec<u8> {
    let mut manifest = manifest();
    manifest.tables[1].columns[0].ty = id;
    Guest {
        manifest: manifest.to_bytes(),
        ..Guest::default()
    }
    .assemble()
}

fn reason(site: &Site) -> Option<String> {
    let report = site.run(&["check", "--json"]).unwrap().stdout();
    let report: Value = serde_json::from_str(&report).unwrap();
    let refused = report["plugins"]["orders"]["refused"].as_str();
    refused.map(str::to_owned)
}

#[test]
fn a_plugin_that_clashes_with_the_store_is_found_before_the_daemon_refuses_it() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(PROGRAM, dir.path(), CONFIGURATION).unwrap();
    site.write("plugins/orders.wasm", plugin(ColumnType::I64))
        .unwrap();
    let order = r#"{"table":"orders","op":"insert","after":{"id":1}}"#;
    site.write("inbox/a.jsonl", format!("{order}\n")).unwrap();
    let says = site.ok(&["check"]).unwrap();
    assert!(
        says.contains("not compared with the store: there is none"),
        "{says}"
    );
    assert!(!site.path("data").exists(), "check changes nothing");
    site.ok(&["run", "--once"]).unwrap();
    let says = site.ok(&["check"]).unwrap();
    assert!(
        says.contains("plugins: compared with the store in data"),
        "{says}"
    );
    assert!(says.contains("rule orders.totals"), "{says}");

    site.write("plugins/orders.wasm", plugin(ColumnType::Text))
        .unwrap();
    let stored = std::fs::read(site.path("data/store.redb")).unwrap();
    let reason = reason(&site).unwrap();
    let unchanged = std::fs::read(site.path("data/store.redb")).unwrap() == stored;
    assert!(unchanged, "check changes nothing");
    let ran = site.run(&["run", "--once"]).unwrap();
    assert_eq!(ran.code(), 1, "{}", ran.stderr());
    assert!(ran.stderr().contains(&reason), "{reason}: {}", ran.stderr());
}

#[test]
fn a_store_that_a_daemon_has_is_not_compared_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(PROGRAM, dir.path(), CONFIGURATION).unwrap();
    let daemon = site.daemon().unwrap();
    let says = site.ok(&["check"]).unwrap();
    let expected = "not compared with the store: another rulemill has data";
    assert!(says.contains(expected), "{says}");
    // One that was killed left the store as it was at that moment.
    daemon.end("KILL").unwrap();
    let says = site.ok(&["check"]).unwrap();
    assert!(
        says.contains("plugins: compared with the store in data"),
        "{says}"
    );
}
