//! Runs a plugin's rules over batches: the same code in WebAssembly and natively.
//!
//! A [`PluginRuntime`] owns the plugin's tables, lookups, timers and notifications, decodes each item
//! of a batch for the rules that get it, calls them in the order of the manifest, and writes the
//! effects. A rule's error undoes that rule's work on that item and becomes a fault among the
//! effects. It knows nothing of WebAssembly; the host's tables come through
//! [`StateReader`].

mod bind;
mod plan;
mod resource;

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use rulemill_wire::{
    DecodeError, Reader, Timestamp,
    batch::{BatchReader, ItemHeader, Kind},
    effects::EffectsWriter,
    manifest::Manifest,
};

use crate::{change::Timer, error, state::StateReader, timers::Timers};

pub(crate) use self::bind::WRONG_KIND;
pub(crate) use self::resource::{NOTIFY, TIMERS, of as resource_of};
#[doc(hidden)]
pub use self::{
    bind::{Argument, Bound, Input, Item, Rule, RuleCall},
    plan::{BindRule, Plan},
    resource::Resource,
};

/// Rows that an instance keeps between batches, in bytes, at the most; above it the plugin's tables
/// are read from the host again.
pub const CACHE_BYTES_MAX: usize = 32 << 20;

/// The call of a rule that is going on: what effects and reads are marked with.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Counts the calls of a batch from 1.
    pub(crate) number: u32,
    pub(crate) item: u32,
    pub(crate) seq: u64,
    pub(crate) time: i64,
    pub(crate) rule: u16,
}

impl Default for Call {
    /// Outside any batch: a test.
    fn default() -> Self {
        Self {
            number: u32::MAX,
            item: 0,
            seq: 0,
            time: 0,
            rule: 0,
        }
    }
}

impl Call {
    pub(crate) fn is_standalone(&self) -> bool {
        self.number == u32::MAX
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        Timestamp::from_micros(self.time).unwrap_or_default()
    }
}

thread_local! {
    static CURRENT: Cell<Option<(u32, u32)>> = const { Cell::new(None) };
    /// The effects of the calls of this batch, while they are kept one by one.
    static DONE: RefCell<Option<EffectsWriter>> = const { RefCell::new(None) };
}

/// Stands for the rule of a timer that came due inside a batch.
const INNER_TIMER: u32 = u32::MAX;

/// The call of a rule that panicked.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panicked {
    /// The item's place in the batch.
    pub item: u32,
    /// The rule's number; `u32::MAX` for a timer that came due inside the batch.
    pub rule: u32,
    /// The effects of the calls before it, if they were kept.
    pub done: Option<Vec<u8>>,
}

/// The call at which this thread's last batch panicked or is panicking. Asking takes it away.
#[doc(hidden)]
pub fn panicked_call() -> Option<Panicked> {
    let (item, rule) = CURRENT.take()?;
    // A hook must not panic itself.
    let done = DONE.with(|done| done.try_borrow_mut().ok()?.take());
    Some(Panicked {
        item,
        rule,
        done: done.map(EffectsWriter::finish),
    })
}

/// A plugin, with all its rules and what they have in memory. `plugin!` makes the function that
/// returns it.
///
/// ```
/// use std::sync::Arc;
/// use rulemill_sdk::{prelude::*, testing::MemoryState};
///
/// #[derive(Row)]
/// #[table(source = "orders")]
/// struct Order { #[key] id: i64 }
///
/// #[derive(Row, Default)]
/// #[table(derived = "counts")]
/// struct Count { #[key] id: i64, orders: i64 }
///
/// #[rule]
/// fn count(change: Change<Order>, counts: &mut Table<Count>) -> Outcome {
///     for Delta { sign, .. } in change.deltas() {
///         counts.entry(0)?.orders += sign;
///     }
///     Ok(())
/// }
///
/// rulemill_sdk::plugin!(count);
///
/// # fn main() -> Result<(), String> {
/// let mut plugin = plugin();
/// let manifest = plugin.describe("null")?;
/// # assert!(!manifest.is_empty());
/// # Ok(())
/// # }
/// ```
pub struct PluginRuntime {
    build: Build,
    built: Option<Built>,
}

type Build = Box<dyn Fn(&str) -> Result<Plan, String> + Send>;

struct Built {
    manifest: Manifest,
    calls: Vec<Box<dyn RuleCall>>,
    resources: Vec<Box<dyn Resource>>,
    /// Calls of rules in this batch so far.
    number: u32,
}

impl std::fmt::Debug for PluginRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let manifest = self.built.as_ref().map(|built| &built.manifest);
        f.debug_struct("PluginRuntime")
            .field("manifest", &manifest)
            .finish()
    }
}

impl PluginRuntime {
    /// A plugin of these rules; `plugin!` calls it.
    #[doc(hidden)]
    pub fn of_rules(name: &'static str, version: &'static str, rules: &'static [BindRule]) -> Self {
        Self::new(move |config| Plan::of_rules(name, version, config, rules))
    }

    pub(crate) fn new(build: impl Fn(&str) -> Result<Plan, String> + Send + 'static) -> Self {
        Self {
            build: Box::new(build),
            built: None,
        }
    }

    /// Reads the configuration (a JSON document) and returns the manifest in wire form. Comes before
    /// the first batch.
    ///
    /// # Errors
    /// With a sentence for the operator, if the configuration is wrong or the plugin contradicts
    /// itself.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row)] #[table(source = "orders")] struct Order { #[key] id: i64 }
    /// # #[rule] fn look(change: Change<Order>) -> Outcome { Ok(()) }
    /// # rulemill_sdk::plugin!(look);
    /// # fn main() -> Result<(), String> {
    /// let bytes = plugin().describe("null")?;
    /// let manifest = rulemill_sdk::wire::manifest::Manifest::from_bytes(&bytes)?;
    /// assert_eq!(manifest.rules[0].name, "look");
    /// # Ok(())
    /// # }
    /// ```
    pub fn describe(&mut self, config: &str) -> Result<Vec<u8>, String> {
        let (manifest, calls, resources) = (self.build)(config)?.finish()?;
        let bytes = manifest.to_bytes();
        self.built = Some(Built {
            manifest,
            calls,
            resources,
            number: 0,
        });
        Ok(bytes)
    }

    /// The manifest that [`describe`](Self::describe) made.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # #[derive(Row)] #[table(source = "orders")] struct Order { #[key] id: i64 }
    /// # #[rule] fn look(change: Change<Order>) -> Outcome { Ok(()) }
    /// # rulemill_sdk::plugin!(look);
    /// # fn main() -> Result<(), String> {
    /// let mut plugin = plugin();
    /// assert!(plugin.manifest().is_none());
    /// plugin.describe("null")?;
    /// assert_eq!(plugin.manifest().map(|manifest| manifest.tables.len()), Some(1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn manifest(&self) -> Option<&Manifest> {
        self.built.as_ref().map(|built| &built.manifest)
    }

    /// Handles a batch and returns its effects, both in wire form. The caller promises to throw the
    /// plugin away if it doesn't take the effects.
    ///
    /// # Errors
    /// If the batch can't be read, or `describe` has not been called.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use rulemill_sdk::{prelude::*, state::StateReader, testing::MemoryState};
    /// use rulemill_sdk::wire::batch::BatchWriter;
    /// # #[derive(Row)] #[table(source = "orders")] struct Order { #[key] id: i64 }
    /// # #[rule] fn look(change: Change<Order>) -> Outcome { Ok(()) }
    /// # rulemill_sdk::plugin!(look);
    /// # fn main() -> Result<(), String> {
    /// let mut plugin = plugin();
    /// plugin.describe("null")?;
    /// let state: Arc<dyn StateReader> = Arc::new(MemoryState::default());
    /// let effects = plugin.apply(&BatchWriter::new(0, 0, 0).finish(), &state)?;
    /// assert_eq!(effects, [0, 0, 0, 0]); // no writes, timers, notifications, faults
    /// # Ok(())
    /// # }
    /// ```
    pub fn apply(&mut self, batch: &[u8], state: &Arc<dyn StateReader>) -> Result<Vec<u8>, String> {
        let built = self
            .built
            .as_mut()
            .ok_or("apply was called before describe")?;
        let result = built.apply(batch, state);
        if result.is_err() {
            // What the rules did so far has gone nowhere.
            self.built = None;
        }
        result.map_err(|error| format!("can't read the batch: {error}"))
    }
}

/// What a batch has come to so far.
struct Progress {
    effects: EffectsWriter,
    /// The effects are kept call by call in `DONE`.
    saves: bool,
    watermark: i64,
    item: u32,
}

impl Progress {
    /// Writes effects to where the batch's are.
    fn write(&mut self, write: impl FnOnce(&mut EffectsWriter)) {
        if self.saves {
            DONE.with_borrow_mut(|done| write(done.get_or_insert_default()));
        } else {
            write(&mut self.effects);
        }
    }
}

impl Built {
    fn apply(
        &mut self,
        batch: &[u8],
        state: &Arc<dyn StateReader>,
    ) -> Result<Vec<u8>, DecodeError> {
        for resource in &mut self.resources {
            resource.start_batch(state);
        }
        self.number = 0;
        let mut batch = BatchReader::new(batch)?;
        let saves = state.saves();
        DONE.set(saves.then(EffectsWriter::new));
        let mut progress = Progress {
            effects: EffectsWriter::new(),
            saves,
            watermark: batch.watermark(),
            item: 0,
        };
        while let Some(header) = batch.next_header()? {
            progress.watermark = progress.watermark.max(header.time);
            if header.kind == Kind::Timer {
                self.sent_timer(&header, batch.body(), &mut progress)?;
            } else {
                if !self.timers().is_idle() {
                    self.fire_due(&header, None, &mut progress)?;
                }
                if header.kind == Kind::Tick {
                    self.timers().hold(header.rules);
                } else {
                    self.change(&header, batch.body(), &mut progress)?;
                }
            }
            progress.item += 1;
        }
        // Where they were kept call by call this tells nothing new.
        for resource in &mut self.resources {
            resource.flush(&mut progress.effects);
        }
        let cached: usize = self.resources.iter().map(|r| r.cache_bytes()).sum();
        if cached > CACHE_BYTES_MAX {
            self.resources.iter_mut().for_each(|r| r.drop_cache());
        }
        let done = DONE.take();
        Ok(done.unwrap_or(progress.effects).finish())
    }

    /// One change, for every rule that gets it.
    fn change(
        &mut self,
        header: &ItemHeader,
        body: &mut Reader<'_>,
        progress: &mut Progress,
    ) -> Result<(), DecodeError> {
        let start = body.clone();
        let mut mask = header.rules;
        if mask == 0 {
            return Err(DecodeError::OutOfRange("an item's rules: it has none"));
        }
        while mask != 0 {
            let rule = mask.trailing_zeros() as u16;
            mask &= mask - 1;
            *body = start.clone();
            let item = Item::Change(header.kind, body);
            self.call(rule, header, header.time, item, progress)?;
        }
        Ok(())
    }

    /// A timer that the host fires, unless something in this batch has moved or cleared it.
    fn sent_timer(
        &mut self,
        header: &ItemHeader,
        body: &mut Reader<'_>,
        progress: &mut Progress,
    ) -> Result<(), DecodeError> {
        let key = body.text()?;
        let due = body.i64()?;
        let rule = header.rules.trailing_zeros() as u16;
        let this = (due, rule, key.to_owned());
        self.fire_due(header, Some(&this), progress)?;
        if self.timers().take_sent(rule, key, progress.item) {
            let timer = Timer {
                key: this.2,
                due: Timestamp::from_micros(due).ok_or(DecodeError::OutOfRange("a timer"))?,
            };
            self.call(rule, header, due, Item::Timer(timer), progress)?;
        }
        Ok(())
    }

    /// Fires the timers of this batch that the watermark has reached, and those that they set. What it can't fire it reports as a fault
    /// at the item at hand: the host ends the batch before that, and fires the timer itself.
    fn fire_due(
        &mut self,
        header: &ItemHeader,
        before: Option<&(i64, u16, String)>,
        progress: &mut Progress,
    ) -> Result<(), DecodeError> {
        while let Some(due) = self
            .timers()
            .take_due(progress.watermark, before, progress.item)
        {
            let timer = Timer {
                key: due.2.clone(),
                due: Timestamp::from_micros(due.0).ok_or(DecodeError::OutOfRange("a timer"))?,
            };
            let (rule, time) = (due.1, due.0);
            let at = (progress.item, INNER_TIMER);
            let outcome = self.attempt(rule, header, time, Item::Timer(timer), at, progress)?;
            let fired = progress.saves.then(|| (rule, due.2.clone()));
            if let Err(error) = outcome {
                let message = error::message(&error);
                progress.write(|effects| effects.fault(rule, at.0, &message));
                self.timers().put_back(due, progress.item);
            }
            if let Some(fired) = fired {
                progress.write(|done| self.timers().save_one(&fired, done));
            }
        }
        while let Some(rule) = self.timers().take_held(progress.watermark, before) {
            let message = "a timer of it is due, and the host holds it";
            let item = progress.item;
            progress.write(|effects| effects.fault(rule, item, message));
        }
        Ok(())
    }

    fn timers(&mut self) -> &mut Timers {
        resource::of(&mut *self.resources[TIMERS])
    }

    /// Calls a rule; its error becomes a fault.
    #[inline]
    fn call(
        &mut self,
        rule: u16,
        header: &ItemHeader,
        time: i64,
        item: Item<'_, '_>,
        progress: &mut Progress,
    ) -> Result<(), DecodeError> {
        let at = (progress.item, rule.into());
        if let Err(error) = self.attempt(rule, header, time, item, at, progress)? {
            let message = error::message(&error);
            progress.write(|effects| effects.fault(rule, at.0, &message));
        }
        Ok(())
    }

    /// Calls a rule; its error undoes what it did. `at` is told if it panics.
    #[inline]
    fn attempt(
        &mut self,
        rule: u16,
        header: &ItemHeader,
        time: i64,
        item: Item<'_, '_>,
        at: (u32, u32),
        progress: &mut Progress,
    ) -> Result<crate::Outcome, DecodeError> {
        let Some(call) = self.calls.get_mut(usize::from(rule)) else {
            return Err(DecodeError::OutOfRange("a rule's number"));
        };
        self.number += 1;
        let context = Call {
            number: self.number,
            item: at.0,
            seq: header.seq,
            time,
            rule,
        };
        CURRENT.set(Some(at));
        let outcome = call.call(&context, item, &mut self.resources);
        CURRENT.set(None);
        let mut outcome = outcome?;
        let places = call.places();
        if outcome.is_ok() {
            outcome = places
                .iter()
                .try_for_each(|&place| self.resources[place].check());
        }
        if outcome.is_err() {
            for &place in places {
                self.resources[place].undo();
            }
        } else if progress.saves {
            for &place in places {
                progress.write(|done| self.resources[place].save(done));
            }
        }
        Ok(outcome)
    }
}
