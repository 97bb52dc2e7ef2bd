//! Timers: a rule asks to be called again at a time.
//!
//! Time is the commit time of the changes; while none come, the host lets it go on at the clock's pace. A timer that comes due inside the batch
//! that set it fires there, before the first change that is as late, just as it would if every
//! change were a batch; the host fires the others. See the batch loop in `runtime`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use rulemill_wire::{Timestamp, effects::EffectsWriter};

use crate::runtime::Call;

/// Sets and clears timers; a rule takes it as `&mut Timers`. A timer belongs to a rule of this
/// plugin whose first argument is [`Timer`](crate::Timer), and has a key, unique in that rule.
///
/// ```
/// use rulemill_sdk::prelude::*;
///
/// #[rule]
/// fn carts(change: Change<Cart>, timers: &mut Timers, now: Now) -> Outcome {
///     let key = change.key().to_string();
///     if change.after.is_some() {
///         timers.set("remind", key, now.plus_minutes(30)?)?; // again: it moves
///     } else {
///         timers.clear("remind", key)?;
///     }
///     Ok(())
/// }
/// # #[derive(Row)] #[table(source = "carts")] struct Cart { #[key] id: i64 }
///
/// let mut timers = Timers::default();
/// carts(Change::insert(Cart { id: 7 }), &mut timers, Now::at(Timestamp::default()))?;
/// assert_eq!(timers.pending()[0].key, "7");
/// carts(Change::delete(Cart { id: 7 }), &mut timers, Now::at(Timestamp::default()))?;
/// assert!(timers.pending().is_empty());
/// # Ok::<(), RuleError>(())
/// ```
#[derive(Debug, Default)]
pub struct Timers {
    /// The rules that timers can be set for, and their numbers; any name will do in a test.
    rules: Vec<(String, u16)>,
    states: BTreeMap<(u16, String), State>,
    /// What is set and not fired yet: due, rule, key.
    queue: BTreeSet<(i64, u16, String)>,
    /// Timers as they were before the current call touched them.
    journal: Vec<((u16, String), Option<State>)>,
    call: Call,
    /// Rules whose timers don't fire in this batch, as bits.
    held: u64,
    /// Those of them of which one has come due.
    held_due: u64,
}

/// What became of a timer in this batch.
#[derive(Debug, Clone, Copy)]
struct State {
    due: Option<i64>,
    item: u32,
    /// The host fired it and knows that it is gone.
    told: bool,
}

/// A timer that was set.
///
/// ```
/// # use rulemill_sdk::prelude::*;
/// let mut timers = Timers::default();
/// timers.set("remind", "cart 7", Timestamp::default())?;
/// let pending: Vec<PendingTimer> = timers.pending();
/// assert_eq!((&*pending[0].rule, &*pending[0].key), ("remind", "cart 7"));
/// # Ok::<(), RuleError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingTimer {
    /// The rule that is called.
    pub rule: String,
    /// The timer's key.
    pub key: String,
    /// When it is due.
    pub due: Timestamp,
}

/// The plugin has no rule of that name whose first argument is `Timer`.
///
/// ```
/// fn is_error<E: std::error::Error>() {}
/// is_error::<rulemill_sdk::UnknownTimerRule>(); // so `?` works on it in a rule
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownTimerRule {
    rule: String,
    known: Vec<String>,
}

impl fmt::Display for UnknownTimerRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no rule {} takes a `Timer` in this plugin", self.rule)?;
        match self.known.is_empty() {
            true => f.write_str("; write one and name it in `plugin!`"),
            false => write!(f, "; those that do: {}", self.known.join(", ")),
        }
    }
}

impl std::error::Error for UnknownTimerRule {}

impl Timers {
    pub(crate) fn new(rules: Vec<(String, u16)>) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// Has `rule` called with this key once time has reached `due`: before the first change whose commit
    /// time has, or, while no changes come, when as much time has passed on the clock since the last one. (`run --once` never
    /// lets the clock go on.) A timer of the rule that was set with the same key is replaced.
    ///
    /// # Errors
    /// If the plugin has no rule of that name whose first argument is `Timer`.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # let mut timers = Timers::default();
    /// timers.set("remind", "cart 7", Timestamp::default())?;
    /// timers.set("remind", "cart 7", "2026-01-31T12:00:00Z".parse()?)?;
    /// assert_eq!(timers.pending().len(), 1);
    /// # Ok::<(), RuleError>(())
    /// ```
    pub fn set(
        &mut self,
        rule: &str,
        key: impl Into<String>,
        due: Timestamp,
    ) -> Result<(), UnknownTimerRule> {
        let rule = self.rule(rule)?;
        self.put((rule, key.into()), Some(due.micros()));
        Ok(())
    }

    /// Forgets the timer of `rule` with this key, if one is set.
    ///
    /// # Errors
    /// If the plugin has no rule of that name whose first argument is `Timer`.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # let mut timers = Timers::default();
    /// timers.set("remind", "cart 7", Timestamp::default())?;
    /// timers.clear("remind", "cart 7")?;
    /// assert!(timers.pending().is_empty());
    /// # Ok::<(), RuleError>(())
    /// ```
    pub fn clear(&mut self, rule: &str, key: impl Into<String>) -> Result<(), UnknownTimerRule> {
        let rule = self.rule(rule)?;
        self.put((rule, key.into()), None);
        Ok(())
    }

    /// The timers that are set, by time: for the assertions of a test.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// assert!(Timers::default().pending().is_empty());
    /// ```
    pub fn pending(&self) -> Vec<PendingTimer> {
        let name = |number: u16| {
            let known = self.rules.iter().find(|(_, rule)| *rule == number);
            known.map_or_else(String::new, |(name, _)| name.clone())
        };
        self.queue
            .iter()
            .map(|(due, rule, key)| PendingTimer {
                rule: name(*rule),
                key: key.clone(),
                due: Timestamp::from_micros(*due).unwrap_or_default(),
            })
            .collect()
    }

    fn rule(&mut self, name: &str) -> Result<u16, UnknownTimerRule> {
        if let Some((_, number)) = self.rules.iter().find(|(rule, _)| rule == name) {
            return Ok(*number);
        }
        if self.call.is_standalone() {
            let number = self.rules.len() as u16;
            self.rules.push((name.to_owned(), number));
            return Ok(number);
        }
        Err(UnknownTimerRule {
            rule: name.to_owned(),
            known: self.rules.iter().map(|(rule, _)| rule.clone()).collect(),
        })
    }

    fn put(&mut self, timer: (u16, String), due: Option<i64>) {
        let state = State {
            due,
            item: self.call.item,
            told: false,
        };
        let before = self.replace(&timer, Some(state));
        self.journal.push((timer, before));
    }

    /// Changes what is known of a timer, and the queue with it.
    fn replace(&mut self, timer: &(u16, String), state: Option<State>) -> Option<State> {
        let before = match state {
            Some(state) => self.states.insert(timer.clone(), state),
            None => self.states.remove(timer),
        };
        if let Some(due) = before.and_then(|state| state.due) {
            self.queue.remove(&(due, timer.0, timer.1.clone()));
        }
        if let Some(due) = state.and_then(|state| state.due) {
            self.queue.insert((due, timer.0, timer.1.clone()));
        }
        before
    }

    #[inline]
    pub(crate) fn begin(&mut self, call: &Call) {
        self.call = *call;
        self.journal.clear();
    }

    pub(crate) fn undo(&mut self) {
        while let Some((timer, before)) = self.journal.pop() {
            self.replace(&timer, before);
        }
    }

    /// Keeps the timers of these rules (bits) from firing to the batch's end.
    pub(crate) fn hold(&mut self, rules: u64) {
        self.held = rules;
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes the first timer that is due at `watermark` and, where `before` is given, comes before
    /// that one.
    pub(crate) fn take_due(
        &mut self,
        watermark: i64,
        before: Option<&(i64, u16, String)>,
        item: u32,
    ) -> Option<(i64, u16, String)> {
        let held = self.held;
        let mut due = self.queue.iter().take_while(|(due, ..)| *due <= watermark);
        let first = due.find(|(_, rule, _)| bit(*rule) & held == 0)?;
        if before.is_some_and(|before| first >= before) {
            return None;
        }
        let (due, rule, key) = first.clone();
        let gone = State {
            due: None,
            item,
            told: false,
        };
        self.replace(&(rule, key.clone()), Some(gone));
        Some((due, rule, key))
    }

    /// A rule of which a timer is due at `watermark` and, where `before` is given, comes before that one, but doesn't
    /// fire since the host holds it; each only once in a batch.
    pub(crate) fn take_held(
        &mut self,
        watermark: i64,
        before: Option<&(i64, u16, String)>,
    ) -> Option<u16> {
        let held = self.held & !self.held_due;
        if held == 0 {
            return None;
        }
        let due = self.queue.iter().take_while(|timer| {
            timer.0 <= watermark && before.is_none_or(|before| *timer < before)
        });
        let mut rules = due.map(|(_, rule, _)| *rule);
        let rule = rules.find(|rule| bit(*rule) & held != 0)?;
        self.held_due |= bit(rule);
        Some(rule)
    }

    /// Puts a timer back whose rule failed: the host will fire it, and set it aside if it fails again.
    /// It does not fire again in this batch.
    pub(crate) fn put_back(&mut self, (due, rule, key): (i64, u16, String), item: u32) {
        self.states.insert(
            (rule, key),
            State {
                due: Some(due),
                item,
                told: false,
            },
        );
    }

    /// Whether a timer that the host sends is still to fire: nothing in this batch moved or cleared
    /// it. From here on it is gone.
    pub(crate) fn take_sent(&mut self, rule: u16, key: &str, item: u32) -> bool {
        let timer = (rule, key.to_owned());
        if self.states.contains_key(&timer) {
            return false;
        }
        self.states.insert(
            timer,
            State {
                due: None,
                item,
                told: true,
            },
        );
        true
    }

    /// Appends what the call that ended did to timers.
    pub(crate) fn save(&mut self, effects: &mut EffectsWriter) {
        for (timer, _) in &self.journal {
            self.save_one(timer, effects);
        }
    }

    /// Appends how a timer stands now.
    pub(crate) fn save_one(&self, timer: &(u16, String), effects: &mut EffectsWriter) {
        if let Some(state) = self.states.get(timer).filter(|state| !state.told) {
            effects.timer(timer.0, state.item, &timer.1, state.due);
        }
    }

    pub(crate) fn flush(&mut self, effects: &mut EffectsWriter) {
        for ((rule, key), state) in std::mem::take(&mut self.states) {
            if !state.told {
                effects.timer(rule, state.item, &key, state.due);
            }
        }
        self.queue.clear();
        self.journal.clear();
        self.held = 0;
        self.held_due = 0;
    }
}

/// A rule in a mask; one that a mask can't have is none.
fn bit(rule: u16) -> u64 {
    1u64.checked_shl(rule.into()).unwrap_or(0)
}
