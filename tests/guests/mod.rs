//! Guests for tests: written as text, assembled here, and the state that they are given to read.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use std::sync::{Arc, Mutex};

use rulemill::{
    limits::Limits,
    rule::{Fault, Found, LoadError, Page, Plugin, Runtime, ScanRange, StateAccess},
};
use rulemill_wire::{
    ColumnType,
    manifest::{Access, Column, Input, Manifest, Rule, Table},
};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The frozen guest of interface v1.
pub(crate) const V1: &str = include_str!("v1.wat");

/// A guest of interface v1 whose functions a test fills in.
const TEMPLATE: &str = include_str!("template.wat");

/// What a test fills into the template.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    /// The bytes that `$manifest` returns.
    pub(crate) manifest: Vec<u8>,
    /// `describe`'s body; its parameters are `$config` and `$len`.
    pub(crate) describe: &'static str,
    /// `apply`'s body; its parameters are `$batch` and `$len`.
    pub(crate) apply: &'static str,
    /// Further fields of the module, such as its start function.
    pub(crate) fields: &'static str,
    /// Further fields of the component.
    pub component_fields: String,
}

impl Default for Guest {
    /// A guest that does nothing wrong.
    fn default() -> Self {
        Self {
            manifest: manifest().to_bytes(),
            describe: "(call $manifest)",
            apply: "(call $effects)",
            fields: "",
            component_fields: String::new(),
        }
    }
}

impl Guest {
    /// The guest's component.
    pub(crate) fn assemble(&self) -> Vec<u8> {
        let manifest: String = self
            .manifest
            .iter()
            .map(|byte| format!("\\{byte:02x}"))
            .collect();
        let text = TEMPLATE
            .replace("{{manifest}}", &manifest)
            .replace("{{manifest-len}}", &self.manifest.len().to_string())
            .replace("{{describe}}", self.describe)
            .replace("{{apply}}", self.apply)
            .replace("{{fields}}", self.fields)
            .replace("{{component-fields}}", &self.component_fields);
        assemble(&text)
    }
}

/// A guest from its text.
pub(crate) fn assemble(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// A manifest with nothing wrong in it: one rule over `orders`, which owns `totals`.
pub(crate) fn manifest() -> Manifest {
    let table = |name: &str, access| Table {
        name: name.into(),
        access,
        columns: vec![Column {
            name: "id".into(),
            ty: ColumnType::I64,
            nullable: false,
        }],
        key: vec![0],
        indexes: Vec::new(),
    };
    Manifest {
        name: "hostile".into(),
        version: "1.0.0".into(),
        tables: vec![table("orders", Access::Read), table("totals", Access::Own)],
        rules: vec![Rule {
            name: "totals".into(),
            input: Input::Changes(0),
            lookups: Vec::new(),
            writes: vec![1],
            notifies: false,
            sets_timers: false,
        }],
    }
}

/// A core module as `cargo build` leaves it: functions by their names in the interface, and a custom
/// section that says what the interface is.
pub(crate) fn core_module(version: &str) -> Vec<u8> {
    let manifest = manifest().to_bytes();
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

/// Loads a guest with no configuration.
pub(crate) fn load(limits: &Limits, code: Vec<u8>) -> Result<Arc<dyn Plugin>, LoadError> {
    let runtime = Runtime::new(limits, None).unwrap();
    runtime.load("guest", code.into(), &serde_json::Value::Null)
}

/// What a guest asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    /// A row.
    Get(u32, Vec<u8>, u64),
    /// A range.
    Scan(u32, ScanRange, u64),
}

/// State that notes what is asked: `get` in table 0 or 1 finds `row`, a scan finds `page`; the store
/// fails for table 7, and other tables are none of the guest's.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The row that is found.
    pub(crate) row: Option<Vec<u8>>,
    /// The page that is found.
    pub(crate) page: Page,
    /// What was asked.
    pub(crate) reads: Mutex<Vec<Read>>,
}

impl State {
    fn note(&self, table: u32, read: Read) -> Result<(), Fault> {
        self.reads.lock().unwrap().push(read);
        match table {
            0 | 1 => Ok(()),
            7 => Err(Fault::Store("the disk is on fire".into())),
            _ => Err(Fault::BadStateRead(format!("there is no table {table}"))),
        }
    }
}

impl StateAccess for State {
    fn get(&self, table: u32, key: &[u8], at: u64) -> Result<Found, Fault> {
        self.note(table, Read::Get(table, key.to_vec(), at))?;
        Ok(Found {
            row: self.row.clone(),
            until: u64::MAX,
        })
    }

    fn scan(&self, table: u32, range: &ScanRange, at: u64) -> Result<Page, Fault> {
        self.note(table, Read::Scan(table, range.clone(), at))?;
        Ok(self.page.clone())
    }
}
