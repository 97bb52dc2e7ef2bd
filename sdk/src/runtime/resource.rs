//! What a plugin holds in memory for its rules, seen alike by the batch loop.

use std::{any::Any, sync::Arc};

use rulemill_wire::effects::EffectsWriter;

use crate::{
    config::Config,
    error::RuleError,
    lookup::Lookup,
    notify::Notify,
    row::{DerivedRow, SourceRow},
    runtime::Call,
    state::StateReader,
    table::Table,
    timers::Timers,
};

/// Where the timers stand among a plugin's resources.
pub(crate) const TIMERS: usize = 0;
/// Where the notifications stand.
pub(crate) const NOTIFY: usize = 1;
/// Where `Now` stands.
pub(crate) const NOW: usize = 2;

/// Something that rules take as an argument.
#[doc(hidden)]
pub trait Resource: Any + Send {
    fn start_batch(&mut self, _state: &Arc<dyn StateReader>) {}

    /// Begins a call, for rules that find their resources at run time; the others do it as they take
    /// them.
    fn begin(&mut self, _call: &Call) {}

    /// Whether the call that ended left things in order.
    fn check(&self) -> Result<(), RuleError> {
        Ok(())
    }

    /// Takes back what the call that ended did.
    fn undo(&mut self) {}

    /// Writes what the call that ended did, to be had even if a later one panics. `flush` comes all the same.
    fn save(&mut self, _effects: &mut EffectsWriter) {}

    fn flush(&mut self, _effects: &mut EffectsWriter) {}

    fn cache_bytes(&self) -> usize {
        0
    }

    fn drop_cache(&mut self) {}
}

/// The resource as what it is; the plan made it so.
#[inline]
pub(crate) fn of<T: Resource>(resource: &mut dyn Resource) -> &mut T {
    let resource: &mut dyn Any = resource;
    match resource.downcast_mut() {
        Some(resource) => resource,
        None => unreachable!("a rule was bound to a resource of another type"),
    }
}

impl<T: DerivedRow> Resource for Table<T> {
    fn start_batch(&mut self, state: &Arc<dyn StateReader>) {
        self.store.state = Some(state.clone());
    }

    fn check(&self) -> Result<(), RuleError> {
        self.store.check()
    }

    fn undo(&mut self) {
        self.store.undo();
    }

    fn save(&mut self, effects: &mut EffectsWriter) {
        self.store.save(effects);
    }

    fn flush(&mut self, effects: &mut EffectsWriter) {
        self.store.flush(effects);
    }

    fn cache_bytes(&self) -> usize {
        self.store.cache_bytes()
    }

    fn drop_cache(&mut self) {
        self.store.drop_cache();
    }
}

impl<T: SourceRow> Resource for Lookup<T> {
    fn start_batch(&mut self, state: &Arc<dyn StateReader>) {
        self.core.start_batch(Some(state));
    }

    fn flush(&mut self, _effects: &mut EffectsWriter) {
        self.core.start_batch(None);
    }
}

impl Resource for Timers {
    fn begin(&mut self, call: &Call) {
        Timers::begin(self, call);
    }

    fn undo(&mut self) {
        Timers::undo(self);
    }

    fn save(&mut self, effects: &mut EffectsWriter) {
        Timers::save(self, effects);
    }

    fn flush(&mut self, effects: &mut EffectsWriter) {
        Timers::flush(self, effects);
    }
}

impl Resource for Notify {
    fn begin(&mut self, call: &Call) {
        Notify::begin(self, call);
    }

    fn undo(&mut self) {
        Notify::undo(self);
    }

    fn save(&mut self, effects: &mut EffectsWriter) {
        Notify::save(self, effects);
    }

    fn flush(&mut self, effects: &mut EffectsWriter) {
        Notify::flush(self, effects);
    }
}

impl<T: Send + 'static> Resource for Config<T> {}

/// Stands where rules find `Now`, which is made anew for each call.
pub(crate) struct Clock;

impl Resource for Clock {}
