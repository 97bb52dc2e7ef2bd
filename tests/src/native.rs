//! Plugins compiled into this process: the same rules through the same engine, without WebAssembly. Tests
//! use them to look at the engine alone, the benchmark as its control.

use std::sync::{Arc, Mutex};

use rulemill::rule::{
    self, Culprit, Fault, Found, Instance, Page, Plugin, PluginHash, ScanRange, StateAccess,
};
use rulemill_sdk::{
    runtime::{self, Panicked, PluginRuntime},
    state::{self, StateReader},
    wire::manifest::Manifest,
};

/// A panic with this message stands for a call that runs out of time.
pub const ENDLESS: &str = "runs for ever";

/// Makes a plugin's runtime.
pub type Make = fn() -> PluginRuntime;

/// A plugin that runs natively.
pub struct NativePlugin {
    make: Make,
    config: String,
    manifest: Manifest,
    code: Arc<[u8]>,
}

impl NativePlugin {
    /// The plugin that `make` makes, with this configuration. `label` stands for its code: plugins with
    /// different labels count as different code.
    ///
    /// # Errors
    /// If it refuses its configuration.
    pub fn load(make: Make, config: &serde_json::Value, label: &str) -> Result<Arc<Self>, String> {
        let config = config.to_string();
        let manifest = Manifest::from_bytes(&make().describe(&config)?)?;
        Ok(Arc::new(Self {
            make,
            config,
            manifest,
            code: label.as_bytes().into(),
        }))
    }
}

impl Plugin for NativePlugin {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn hash(&self) -> PluginHash {
        rule::hash(&self.code)
    }

    fn code(&self) -> Arc<[u8]> {
        self.code.clone()
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, Fault> {
        let mut runtime = (self.make)();
        runtime.describe(&self.config).map_err(Fault::Protocol)?;
        Ok(Box::new(NativeInstance {
            make: self.make,
            runtime,
            saves: false,
            culprit: None,
        }))
    }
}

struct NativeInstance {
    make: Make,
    runtime: PluginRuntime,
    saves: bool,
    culprit: Option<Culprit>,
}

impl Instance for NativeInstance {
    fn apply(&mut self, batch: &[u8], state: Arc<dyn StateAccess>) -> Result<Vec<u8>, Fault> {
        let bridge = Arc::new(Bridge {
            state,
            saves: self.saves,
            fault: Mutex::default(),
        });
        let reader: Arc<dyn StateReader> = bridge.clone();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.runtime.apply(batch, &reader)
        }));
        if result.is_err() {
            // It stopped in the middle, with the state in hand.
            self.runtime = (self.make)();
        }
        let fault = bridge
            .fault
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        self.culprit = runtime::panicked_call().map(|Panicked { item, rule, done }| Culprit {
            item,
            rule,
            done,
        });
        if let Some(fault) = fault {
            // As in WebAssembly, where the host ends the call and the guest says nothing more.
            self.culprit = None;
            return Err(fault);
        }
        match result {
            Ok(effects) => effects.map_err(Fault::Protocol),
            Err(panic) if panic.downcast_ref::<&str>() == Some(&ENDLESS) => {
                // As in WebAssembly, where a guest that is stopped has said nothing.
                self.culprit = None;
                Err(Fault::TimeOut {
                    limit: "plugin_call_ms_max",
                    value: 0,
                })
            }
            Err(panic) => Err(Fault::Trap(
                panic
                    .downcast_ref::<&str>()
                    .map(ToString::to_string)
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_default(),
            )),
        }
    }

    fn set_saving(&mut self, saves: bool) {
        self.saves = saves;
    }

    fn culprit(&mut self) -> Option<Culprit> {
        self.culprit.take()
    }
}

/// Gives the SDK's reads to the host's state; the first fault ends the call.
struct Bridge {
    state: Arc<dyn StateAccess>,
    saves: bool,
    fault: Mutex<Option<Fault>>,
}

impl Bridge {
    fn fail(&self, fault: Fault) -> ! {
        let text = fault.to_string();
        if let Ok(mut slot) = self.fault.lock() {
            slot.get_or_insert(fault);
        }
        // What the host does to a guest whose read it refuses.
        panic!("{text}");
    }
}

impl StateReader for Bridge {
    fn get(&self, table: u32, key: &[u8], at: u64) -> state::Found {
        match self.state.get(table, key, at) {
            Ok(Found { row, until }) => state::Found { row, until },
            Err(fault) => self.fail(fault),
        }
    }

    fn scan(&self, table: u32, range: &state::Range, at: u64) -> state::Page {
        let range = ScanRange {
            index: range.index,
            from: range.from.clone(),
            to: range.to.clone(),
            descending: range.descending,
            limit: range.limit,
        };
        match self.state.scan(table, &range, at) {
            Ok(Page { count, rows, next }) => state::Page { count, rows, next },
            Err(fault) => self.fail(fault),
        }
    }

    fn saves(&self) -> bool {
        self.saves
    }
}
