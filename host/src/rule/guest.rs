//! Plugins and instances that run in WebAssembly.
//!
//! Owns each instance's store and what happens around a call: its allowances, its deadline, and the
//! fault that a failure stands for.

use std::sync::Arc;

use rulemill_wire::manifest::Manifest;
use wasmtime::{Engine, Store};

use super::{
    interface::{Adapter, Described, Guest},
    plugin::{Culprit, Fault, Instance, LoadError, Plugin, PluginHash, StateAccess},
    sandbox::{Limit, Sandbox},
    ticker::{self, Ticker},
};
use crate::limits::Limits;

/// A plugin's compiled code, and what an instance of it needs.
pub(super) struct Code {
    pub(super) name: Arc<str>,
    pub(super) adapter: Box<dyn Adapter>,
    pub(super) config: String,
    pub(super) engine: Engine,
    pub(super) ticker: Arc<Ticker>,
    pub(super) limits: Arc<Limits>,
}

impl Code {
    /// Makes an instance and asks what it is.
    pub(super) fn describe(self: &Code) -> Result<Manifest, LoadError> {
        match self.start().map_err(LoadError::Describe)?.1 {
            Described::Manifest(manifest) => Ok(manifest),
            Described::Refused(reason) => Err(LoadError::Config(reason)),
            Described::Unreadable(reason) => Err(LoadError::Manifest(reason)),
        }
    }

    fn start(&self) -> Result<(Running, Described), Fault> {
        let sandbox = Sandbox::new(Arc::clone(&self.name), Arc::clone(&self.limits));
        let mut store = Store::new(&self.engine, sandbox);
        store.limiter(|sandbox| sandbox);
        store.set_hostcall_fuel(Sandbox::transfer_bytes_max(&self.limits));
        let limit = ("plugin_describe_ms_max", self.limits.plugin_describe_ms_max);
        let (guest, described) = call(&mut store, &self.ticker, limit, limit.1, None, |store| {
            let guest = self.adapter.instantiate(store)?;
            let described = guest.describe(store, &self.config)?;
            Ok((guest, described))
        })?;
        Ok((Running { store, guest }, described))
    }
}

/// Runs something of a guest's within its allowances; `ms_max` is its share of the time that `limit` names.
fn call<T>(
    store: &mut Store<Sandbox>,
    ticker: &Ticker,
    limit: Limit,
    ms_max: u64,
    state: Option<Arc<dyn StateAccess>>,
    run: impl FnOnce(&mut Store<Sandbox>) -> wasmtime::Result<T>,
) -> Result<T, Fault> {
    let _running = ticker.run();
    store.set_epoch_deadline(ticker::ticks(ms_max));
    store.data_mut().begin(limit, state);
    let result = run(store);
    let sandbox = store.data_mut();
    sandbox.end();
    result.map_err(|error| sandbox.fault(&error))
}

/// A plugin in WebAssembly.
pub(super) struct GuestPlugin {
    pub(super) code: Arc<Code>,
    pub(super) manifest: Manifest,
    pub(super) hash: PluginHash,
    pub(super) file: Arc<[u8]>,
}

impl Plugin for GuestPlugin {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn hash(&self) -> PluginHash {
        self.hash
    }

    fn code(&self) -> Arc<[u8]> {
        Arc::clone(&self.file)
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, Fault> {
        let (running, described) = self.code.start()?;
        match described {
            Described::Manifest(manifest) if manifest == self.manifest => {
                Ok(Box::new(GuestInstance {
                    running,
                    ticker: Arc::clone(&self.code.ticker),
                    limit_ms: self.code.limits.plugin_call_ms_max,
                    ms_max: self.code.limits.plugin_call_ms_max,
                }))
            }
            Described::Manifest(_) => Err(Fault::Protocol(
                "a new instance describes itself otherwise than the one that was loaded".into(),
            )),
            Described::Refused(reason) => Err(Fault::Protocol(format!(
                "a new instance refuses the configuration that was accepted at load: {reason}"
            ))),
            Described::Unreadable(reason) => Err(Fault::Protocol(format!(
                "a new instance describes itself otherwise than the one that was loaded: {reason}"
            ))),
        }
    }
}

struct Running {
    store: Store<Sandbox>,
    guest: Box<dyn Guest>,
}

struct GuestInstance {
    running: Running,
    ticker: Arc<Ticker>,
    limit_ms: u64,
    ms_max: u64,
}

impl Instance for GuestInstance {
    fn apply(&mut self, batch: &[u8], state: Arc<dyn StateAccess>) -> Result<Vec<u8>, Fault> {
        let Running { store, guest } = &mut self.running;
        let limit = ("plugin_call_ms_max", self.limit_ms);
        let outcome = call(
            store,
            &self.ticker,
            limit,
            self.ms_max,
            Some(state),
            |store| guest.apply(store, batch),
        )?;
        let effects = outcome.map_err(Fault::Protocol)?;
        store.data().check_effects(&effects)?;
        Ok(effects)
    }

    fn set_time(&mut self, ms_max: u64) {
        self.ms_max = ms_max;
    }

    fn set_saving(&mut self, saves: bool) {
        self.running.store.data_mut().set_saving(saves);
    }

    fn culprit(&mut self) -> Option<Culprit> {
        self.running.store.data_mut().culprit()
    }
}
