//! Plugin interface v1 (`sdk/wit/v1/plugin.wit`): its imports, its exports, and their types.
//!
//! Converts between the host's own types and those of the interface, and nothing else. A later major
//! gets a file like this one; this one then stays as it is, converting batches, effects and manifests
//! where the host's have moved on.

use rulemill_wire::manifest::Manifest;
use wasmtime::{
    AsContextMut, Result, Store, StoreContextMut,
    component::{
        Component, ComponentType, Func, Instance, InstancePre, Lift, Linker, Lower, Type, WasmList,
        WasmStr, types::ComponentItem,
    },
};

use super::{
    interface::{Adapter, Described, Guest, Version},
    plugin::{self, Culprit, Fault, ScanRange},
    sandbox::{self, Sandbox},
};

/// The newest minor version that this adapter knows.
pub(super) const VERSION: Version = Version { major: 1, minor: 1 };

const STATE: &str = "rulemill:plugin/state@1.1.0";
const DIAGNOSTICS: &str = "rulemill:plugin/diagnostics@1.1.0";

type Bytes = WasmList<u8>;

#[derive(ComponentType, Lower)]
#[component(record)]
struct Found {
    row: Option<Vec<u8>>,
    until: u64,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct Range {
    index: Option<u32>,
    from: Vec<u8>,
    to: Option<Vec<u8>>,
    descending: bool,
    limit: u32,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct Page {
    count: u32,
    rows: Vec<u8>,
    next: Option<Vec<u8>>,
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "wasmtime makes them from their numbers")]
enum Level {
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

impl From<plugin::Found> for Found {
    fn from(found: plugin::Found) -> Self {
        Self {
            row: found.row,
            until: found.until,
        }
    }
}

impl From<plugin::Page> for Page {
    fn from(page: plugin::Page) -> Self {
        Self {
            count: page.count,
            rows: page.rows,
            next: page.next,
        }
    }
}

impl From<Range> for ScanRange {
    fn from(range: Range) -> Self {
        Self {
            index: range.index,
            from: range.from,
            to: range.to,
            descending: range.descending,
            limit: range.limit,
        }
    }
}

impl From<Level> for sandbox::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
}

/// A fault on its way through wasmtime; [`Sandbox::fault`] takes it out again.
fn trap(fault: Fault) -> wasmtime::Error {
    wasmtime::Error::new(fault)
}

fn link(linker: &mut Linker<Sandbox>) -> Result<()> {
    let mut state = linker.instance(STATE)?;
    state.func_wrap("get", get)?;
    state.func_wrap("get-many", get_many)?;
    state.func_wrap("scan", scan)?;
    let mut diagnostics = linker.instance(DIAGNOSTICS)?;
    diagnostics.func_wrap("log", log)?;
    diagnostics.func_wrap("panicked", panicked)?;
    diagnostics.func_wrap("saves", saves)?;
    diagnostics.func_wrap("panicked-at", panicked_at)
}

fn get(
    mut store: StoreContextMut<'_, Sandbox>,
    (table, key, at): (u32, Bytes, u64),
) -> Result<(Found,)> {
    let state = store.data_mut().reads(1).map_err(trap)?;
    let found = state
        .get(table, key.as_le_slice(&store), at)
        .map_err(trap)?;
    Ok((found.into(),))
}

fn get_many(
    mut store: StoreContextMut<'_, Sandbox>,
    (table, keys, at): (u32, WasmList<Bytes>, u64),
) -> Result<(Vec<Found>,)> {
    let state = store.data_mut().reads(keys.len() as u64).map_err(trap)?;
    let mut answers = Vec::new();
    let mut answer_bytes = 0;
    for place in 0..keys.len() {
        let Some(key) = keys.get(store.as_context_mut(), place) else {
            break;
        };
        let found = state
            .get(table, key?.as_le_slice(&store), at)
            .map_err(trap)?;
        store
            .data()
            .collect(found, &mut answers, &mut answer_bytes)
            .map_err(trap)?;
    }
    Ok((answers.into_iter().map(Found::from).collect(),))
}

fn scan(
    mut store: StoreContextMut<'_, Sandbox>,
    (table, range, at): (u32, Range, u64),
) -> Result<(Page,)> {
    let page = store
        .data_mut()
        .scan(table, range.into(), at)
        .map_err(trap)?;
    Ok((page.into(),))
}

fn log(mut store: StoreContextMut<'_, Sandbox>, (level, message): (Level, WasmStr)) -> Result<()> {
    let message = message.to_str(&store)?.into_owned();
    store.data_mut().log(level.into(), &message);
    Ok(())
}

fn panicked(mut store: StoreContextMut<'_, Sandbox>, (message,): (WasmStr,)) -> Result<()> {
    let message = message.to_str(&store)?.into_owned();
    store.data_mut().panicked(&message, None);
    Ok(())
}

fn saves(store: StoreContextMut<'_, Sandbox>, (): ()) -> Result<(bool,)> {
    Ok((store.data().saves(),))
}

fn panicked_at(
    mut store: StoreContextMut<'_, Sandbox>,
    (item, rule, message, done): (u32, u32, WasmStr, Option<Bytes>),
) -> Result<()> {
    let message = message.to_str(&store)?.into_owned();
    let done = done.map(|done| done.as_le_slice(&store));
    let done = done.filter(|done| store.data().check_effects(done).is_ok());
    let done = done.map(<[u8]>::to_vec);
    let culprit = Culprit { item, rule, done };
    store.data_mut().panicked(&message, Some(culprit));
    Ok(())
}

type DescribeParams<'a> = (&'a str,);
type ApplyParams<'a> = (&'a [u8],);
type Outcome = (Result<Vec<u8>, String>,);

/// A compiled plugin that was built for this major.
pub(super) struct V1 {
    pre: InstancePre<Sandbox>,
}

impl V1 {
    /// Links a compiled plugin.
    pub(super) fn link(component: &Component) -> Result<Self> {
        check_export(component, "describe", |ty| *ty == Type::String)?;
        check_export(component, "apply", is_bytes)?;
        let mut linker = Linker::new(component.engine());
        link(&mut linker)?;
        Ok(Self {
            pre: linker.instantiate_pre(component)?,
        })
    }
}

fn is_bytes(ty: &Type) -> bool {
    matches!(ty, Type::List(list) if list.ty() == Type::U8)
}

/// Checks that an export takes one such value and returns bytes or an error's text.
fn check_export(component: &Component, name: &str, takes: fn(&Type) -> bool) -> Result<()> {
    let ty = component.component_type();
    let is_right = match ty
        .get_export(component.engine(), name)
        .map(|export| export.ty)
    {
        Some(ComponentItem::ComponentFunc(func)) => {
            let (mut params, mut results) = (func.params(), func.results());
            params.len() == 1
                && results.len() == 1
                && params.all(|(_, param)| takes(&param))
                && results.all(|result| {
                    matches!(result, Type::Result(result)
                        if result.ok().is_some_and(|ok| is_bytes(&ok))
                            && result.err() == Some(Type::String))
                })
        }
        _ => false,
    };
    wasmtime::ensure!(is_right, "its export {name} is of another type");
    Ok(())
}

impl Adapter for V1 {
    fn instantiate(&self, store: &mut Store<Sandbox>) -> Result<Box<dyn Guest>> {
        let instance = self.pre.instantiate(&mut *store)?;
        Ok(Box::new(V1Guest {
            describe: export(&instance, store, "describe")?,
            apply: export(&instance, store, "apply")?,
        }))
    }
}

fn export(instance: &Instance, store: &mut Store<Sandbox>, name: &str) -> Result<Func> {
    instance
        .get_func(&mut *store, name)
        .ok_or_else(|| wasmtime::Error::msg(format!("there is no function {name}")))
}

struct V1Guest {
    describe: Func,
    apply: Func,
}

impl Guest for V1Guest {
    fn describe(&self, store: &mut Store<Sandbox>, config: &str) -> Result<Described> {
        let describe = self
            .describe
            .typed::<DescribeParams<'_>, Outcome>(&*store)?;
        Ok(match describe.call(store, (config,))?.0 {
            Ok(bytes) => match Manifest::from_bytes(&bytes) {
                Ok(manifest) => Described::Manifest(manifest),
                Err(reason) => Described::Unreadable(reason),
            },
            Err(reason) => Described::Refused(reason),
        })
    }

    fn apply(&self, store: &mut Store<Sandbox>, batch: &[u8]) -> Result<Result<Vec<u8>, String>> {
        // Found by type for each call, since the type names the batch's lifetime: a comparison of
        // two short type lists.
        let apply = self.apply.typed::<ApplyParams<'_>, Outcome>(&*store)?;
        Ok(apply.call(store, (batch,))?.0)
    }
}
