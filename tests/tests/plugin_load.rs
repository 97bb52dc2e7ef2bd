//! Loading: core modules are wrapped, compiled code is kept, and plugins share one runtime.

#[path = "../guests/mod.rs"]
mod guests;

use std::sync::Arc;

use guests::{Guest, State, assemble, load};
use rulemill::{
    limits::Limits,
    rule::{CacheCounts, Plugin, Runtime},
};
use serde_json::Value;
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A core module as `cargo build` leaves it: functions by their names in the interface, and a custom
/// section that says what the interface is.
fn core_module(version: &str) -> Vec<u8> {
    let manifest = guests::manifest().to_bytes();
    let data: String = manifest
        .iter()
        .map(|byte| format!("\\{byte:02x}"))
        .collect();
    let mut module = assemble(&format!(
        r#"(module
            (import "rulemill:plugin/diagnostics@{version}" "log" (func $log (param i32 i32 i32)))
            (memory (export "memory") 2)
            (data (i32.const 0) "\00\00\00\00\10\00\00\00\04\00\00\00")
            (data (i32.const 16) "\00\00\00\00")
            (data (i32.const 32) "\00\00\00\00\00\10\00\00\{len:02x}\00\00\00")
            (data (i32.const 1024) "handling")
            (data (i32.const 4096) "{data}")
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
            (func (export "describe") (param i32 i32) (result i32) i32.const 32)
            (func (export "apply") (param i32 i32) (result i32)
                (call $log (i32.const 1) (i32.const 1024) (i32.const 8))
                i32.const 0))"#,
        len = manifest.len()
    ));
    let wit = include_str!("../../sdk/wit/v1/plugin.wit");
    let wit = wit.replace(
        "rulemill:plugin@1.0.0",
        &format!("rulemill:plugin@{version}"),
    );
    let mut resolve = Resolve::default();
    let package = resolve.push_str("plugin.wit", &wit).unwrap();
    let world = resolve.select_world(&[package], Some("plugin")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    module
}

#[test]
fn a_core_module_with_metadata_is_wrapped() {
    let file = core_module("1.0.0");
    let plugin = load(&Limits::default(), file.clone()).unwrap();
    assert_eq!(plugin.manifest(), &guests::manifest());
    assert_eq!(*plugin.code(), *file, "the file's own bytes are kept");
    assert_eq!(plugin.hash(), rulemill::rule::hash(&file));
    let mut instance = plugin.instantiate().unwrap();
    assert_eq!(
        instance.apply(b"batch", Arc::new(State::default())),
        Ok(vec![0; 4])
    );
}

#[test]
fn a_core_module_for_another_major_is_refused() {
    let error = load(&Limits::default(), core_module("2.0.0"))
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "was built for plugin interface 2.0, and this host speaks 1.0: build it with the \
         rulemill-sdk that came with this host"
    );
}

#[test]
fn compiled_code_is_kept_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("data/compiled");
    let counts = |hits, misses| Some(CacheCounts { hits, misses });
    let runtime = || Runtime::new(&Limits::default(), Some(&cache)).unwrap();
    let code: Arc<[u8]> = core_module("1.0.0").into();

    let first = runtime();
    first.load("shop", Arc::clone(&code), &Value::Null).unwrap();
    assert_eq!(first.cache_counts(), counts(0, 1));
    drop(first);

    let second = runtime();
    let plugin = second.load("shop", code, &Value::Null).unwrap();
    assert_eq!(second.cache_counts(), counts(1, 0));
    let mut instance = plugin.instantiate().unwrap();
    assert_eq!(
        instance.apply(b"batch", Arc::new(State::default())),
        Ok(vec![0; 4])
    );
    let other = Guest::default().assemble().into();
    second.load("other", other, &Value::Null).unwrap();
    assert_eq!(second.cache_counts(), counts(1, 1));
}

#[test]
fn a_plugin_outlives_its_runtime() {
    let limits = Limits {
        plugin_call_ms_max: 100,
        ..Limits::default()
    };
    let runtime = Runtime::new(&limits, None).unwrap();
    let guest = Guest {
        apply: "(loop $l (br $l)) unreachable",
        ..Guest::default()
    };
    let plugin = runtime.load("loops", guest.assemble().into(), &Value::Null);
    let plugin: Arc<dyn Plugin> = plugin.unwrap();
    drop(runtime);
    let mut instance = plugin.instantiate().unwrap();
    drop(plugin);
    let fault = instance.apply(b"", Arc::new(State::default())).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "ran longer than limits.plugin_call_ms_max = 100"
    );
}
