//! Loading: core modules are wrapped, compiled code is kept, and plugins share one runtime.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

#[path = "../guests/mod.rs"]
mod guests;

use std::sync::Arc;

use guests::{Guest, State, core_module, load};
use rulemill::{
    limits::Limits,
    rule::{CacheCounts, Plugin, Runtime},
};
use serde_json::Value;

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
        "was built for plugin interface 2.0, and this host speaks 1.1: build it with the \
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
