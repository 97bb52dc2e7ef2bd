//! Guests for tests: written as text, assembled here, and the state that they are given to read.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::sync::{Arc, Mutex};

use rulemill::{
    limits::Limits,
    rule::{Fault, Found, LoadError, Page, Plugin, Runtime, ScanRange, StateAccess},
};
use rulemill_wire::{
    ColumnType,
    manifest::{Access, Column, Input, Manifest, Rule, Table},
};

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
