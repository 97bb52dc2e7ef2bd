//! What a rule that is a closure works on: the tables it declared, and its effects.

use std::sync::Arc;

use rulemill_wire::{Timestamp, Value, effects::EffectsWriter, key::prefix_end};
use serde::Serialize;

use super::{
    record::Record,
    table::{Runtime, TableHandle},
};
use crate::{
    error::RuleError,
    lookup::LookupCore,
    notify::Notify,
    runtime::{Call, NOTIFY, Resource, TIMERS, resource_of},
    scan::{Ends, Merge, Source},
    state::StateReader,
    store::Store,
    timers::Timers,
};

/// An owned table's rows among the plugin's resources.
pub(super) struct Tables(pub(super) Store<Runtime>);

/// A looked up table among the plugin's resources.
pub(super) struct Lookups(pub(super) LookupCore<Runtime>);

impl Resource for Tables {
    fn start_batch(&mut self, state: &Arc<dyn StateReader>) {
        self.0.state = Some(state.clone());
    }

    fn begin(&mut self, call: &Call) {
        self.0.begin(call);
    }

    fn check(&self) -> Result<(), RuleError> {
        self.0.check()
    }

    fn undo(&mut self) {
        self.0.undo();
    }

    fn save(&mut self, effects: &mut EffectsWriter) {
        self.0.save(effects);
    }

    fn flush(&mut self, effects: &mut EffectsWriter) {
        self.0.flush(effects);
    }

    fn cache_bytes(&self) -> usize {
        self.0.cache_bytes()
    }

    fn drop_cache(&mut self) {
        self.0.drop_cache();
    }
}

impl Resource for Lookups {
    fn start_batch(&mut self, state: &Arc<dyn StateReader>) {
        self.0.start_batch(Some(state));
    }

    fn begin(&mut self, call: &Call) {
        self.0.begin(call);
    }

    fn flush(&mut self, _effects: &mut EffectsWriter) {
        self.0.start_batch(None);
    }
}

/// The rows that [`Context::scan`] returns: all of a table's, or those between two keys or index
/// entries, of which the first columns are enough.
///
/// ```
/// use rulemill_sdk::dynamic::{Range, Value};
///
/// let best_ten = Range::all().index(0).descending().limit(10);
/// let of_user = Range::prefix([Value::I64(7)]);
/// let from_3_to_before_5 = Range::between([Value::I64(3)], [Value::I64(5)]);
/// # let _ = (best_ten, of_user, from_3_to_before_5);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Range {
    index: Option<u32>,
    from: Vec<Value>,
    to: Option<Vec<Value>>,
    descending: bool,
    limit: usize,
}

/// See [`Range`] for an example of each.
impl Range {
    /// Every row.
    pub fn all() -> Self {
        Self::prefix([])
    }

    /// The rows that begin with these values.
    pub fn prefix(values: impl Into<Vec<Value>>) -> Self {
        Self {
            index: None,
            from: values.into(),
            to: None,
            descending: false,
            limit: usize::MAX,
        }
    }

    /// The rows from one place, inclusive, to another, exclusive.
    pub fn between(from: impl Into<Vec<Value>>, to: impl Into<Vec<Value>>) -> Self {
        Self {
            to: Some(to.into()),
            ..Self::prefix(from)
        }
    }

    /// Goes by the table's index of this number, not by the key.
    pub fn index(mut self, number: u32) -> Self {
        self.index = Some(number);
        self
    }

    /// Goes from the last row to the first.
    pub fn descending(mut self) -> Self {
        self.descending = true;
        self
    }

    /// Ends after so many rows.
    pub fn limit(mut self, rows: usize) -> Self {
        self.limit = rows;
        self
    }
}

/// What a rule works on: see [`dynamic`](super) for an example.
///
/// Only the tables that the rule declared can be used, and it notifies and sets timers only if it
/// said so; anything else is an error.
///
/// ```
/// use rulemill_sdk::{dynamic::{Change, Context, TableHandle, Value}, prelude::*};
///
/// fn copy(change: &Change, context: &mut Context<'_>, to: &TableHandle) -> Outcome {
///     match &change.after {
///         Some(row) => {
///             let mut copy = to.record();
///             copy.set("id", row.value("id")?.clone())?;
///             context.insert(to, copy)?;
///         }
///         None => {
///             context.remove(to, &change.row().key())?;
///         }
///     }
///     Ok(())
/// }
/// # let _ = copy;
/// ```
pub struct Context<'a> {
    rule: &'a str,
    call: &'a Call,
    tables: &'a [(u16, usize)],
    places: &'a [usize],
    resources: &'a mut [Box<dyn Resource>],
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context of rule {}", self.rule)
    }
}

enum Access<'a> {
    Own(&'a mut Store<Runtime>),
    Read(&'a LookupCore<Runtime>),
}

impl<'a> Context<'a> {
    pub(super) fn begin(
        rule: &'a str,
        call: &'a Call,
        tables: &'a [(u16, usize)],
        places: &'a [usize],
        resources: &'a mut [Box<dyn Resource>],
    ) -> Self {
        for &place in places {
            resources[place].begin(call);
        }
        Self {
            rule,
            call,
            tables,
            places,
            resources,
        }
    }

    fn access(&mut self, table: &TableHandle) -> Result<Access<'_>, RuleError> {
        let declared = self
            .tables
            .iter()
            .find(|(number, _)| *number == table.number);
        let Some((_, place)) = declared else {
            return Err(format!(
                "rule {} did not declare table {}: add `looks_up` or `writes`",
                self.rule,
                table.name()
            )
            .into());
        };
        let resource: &mut dyn std::any::Any = &mut *self.resources[*place];
        if resource.is::<Tables>() {
            if let Some(Tables(store)) = resource.downcast_mut() {
                return Ok(Access::Own(store));
            }
        } else if let Some(Lookups(lookup)) = resource.downcast_ref() {
            return Ok(Access::Read(lookup));
        }
        unreachable!("tables were bound when the plugin was built")
    }

    fn own(&mut self, table: &TableHandle) -> Result<&mut Store<Runtime>, RuleError> {
        let rule = self.rule;
        match self.access(table)? {
            Access::Own(store) => Ok(store),
            Access::Read(_) => Err(format!(
                "rule {rule} can't write table {}: the plugin only reads it",
                table.name()
            )
            .into()),
        }
    }

    /// The row with this key, if there is one: of a table of its own as it is now, of another table
    /// as it stood at the change.
    ///
    /// # Errors
    /// If the rule did not declare the table, the key is none of it, or the row can't be read.
    ///
    /// ```
    /// # use rulemill_sdk::{dynamic::*, prelude::RuleError};
    /// # fn example(context: &mut Context<'_>, users: &TableHandle) -> Result<(), RuleError> {
    /// let user: Option<Record> = context.get(users, &[Value::I64(7)])?;
    /// # let _ = user; Ok(()) }
    /// # let _ = example;
    /// ```
    pub fn get(&mut self, table: &TableHandle, key: &[Value]) -> Result<Option<Record>, RuleError> {
        let key = table.schema.key_form(key)?;
        match self.access(table)? {
            Access::Own(store) => Ok(store.get(key)?.cloned()),
            Access::Read(lookup) => Ok(lookup.get(key)?.map(|row| (*row).clone())),
        }
    }

    /// The row with this key, to be changed in place; made, with that key, where there is none.
    ///
    /// # Errors
    /// If the rule did not declare that it writes the table, the key is none of it, or the row can't
    /// be read.
    ///
    /// ```
    /// # use rulemill_sdk::{dynamic::*, prelude::RuleError};
    /// # fn example(context: &mut Context<'_>, totals: &TableHandle) -> Result<(), RuleError> {
    /// context.entry(totals, &[Value::I64(7)])?.set("orders", Value::I64(1))?;
    /// # Ok(()) }
    /// # let _ = example;
    /// ```
    pub fn entry(&mut self, table: &TableHandle, key: &[Value]) -> Result<&mut Record, RuleError> {
        let key = table.schema.key_form(key)?;
        let store = self.own(table)?;
        Ok(store.entry(key, |schema, key| schema.record_of_key(key))?)
    }

    /// Writes a row; one with the same key is replaced.
    ///
    /// # Errors
    /// If the rule did not declare that it writes the table, or the record is of another table.
    ///
    /// ```
    /// # use rulemill_sdk::{dynamic::*, prelude::RuleError};
    /// # fn example(context: &mut Context<'_>, totals: &TableHandle) -> Result<(), RuleError> {
    /// context.insert(totals, totals.record())?;
    /// # Ok(()) }
    /// # let _ = example;
    /// ```
    pub fn insert(&mut self, table: &TableHandle, row: Record) -> Result<(), RuleError> {
        if row.table.columns != table.schema.record().table.columns {
            return Err(format!(
                "a record of table {} was inserted into table {}: make one with `record()`",
                row.table.name,
                table.name()
            )
            .into());
        }
        self.own(table)?.insert(row);
        Ok(())
    }

    /// Removes the row with this key and gives it back, if there is one.
    ///
    /// # Errors
    /// If the rule did not declare that it writes the table, the key is none of it, or the row can't
    /// be read.
    ///
    /// ```
    /// # use rulemill_sdk::{dynamic::*, prelude::RuleError};
    /// # fn example(context: &mut Context<'_>, totals: &TableHandle) -> Result<(), RuleError> {
    /// context.remove(totals, &[Value::I64(7)])?;
    /// # Ok(()) }
    /// # let _ = example;
    /// ```
    pub fn remove(
        &mut self,
        table: &TableHandle,
        key: &[Value],
    ) -> Result<Option<Record>, RuleError> {
        let key = table.schema.key_form(key)?;
        Ok(self.own(table)?.remove(key)?)
    }

    /// The rows of a range, in order.
    ///
    /// # Errors
    /// If the rule did not declare the table, the range's values are none of its key or index, or a
    /// row can't be read.
    ///
    /// ```
    /// # use rulemill_sdk::{dynamic::*, prelude::RuleError};
    /// # fn example(context: &mut Context<'_>, totals: &TableHandle) -> Result<(), RuleError> {
    /// let last: Vec<Record> = context.scan(totals, &Range::all().descending().limit(1))?;
    /// # let _ = last; Ok(()) }
    /// # let _ = example;
    /// ```
    pub fn scan(&mut self, table: &TableHandle, range: &Range) -> Result<Vec<Record>, RuleError> {
        let schema = &table.schema;
        let from = schema.prefix_form(range.index, &range.from)?;
        let to = match &range.to {
            Some(to) => Some(schema.prefix_form(range.index, to)?),
            None => prefix_end(&from),
        };
        let ends = Ends {
            empty: to.as_ref().is_some_and(|to| *to <= from),
            from,
            to,
        };
        let mut source = match self.access(table)? {
            Access::Own(store) => Source::Merged(Merge::new(store, range.index, &ends)),
            Access::Read(lookup) => Source::Plain(lookup.pages(range.index, &ends), schema.clone()),
        };
        if range.descending {
            source.set_descending();
        }
        if range.limit != usize::MAX {
            source.set_limit(range.limit);
        }
        let mut rows = Vec::new();
        while rows.len() < range.limit
            && let Some(row) = source.next()?
        {
            rows.push(row);
        }
        Ok(rows)
    }

    /// Sends a notification once the change is committed. `body` becomes a JSON document.
    ///
    /// # Errors
    /// If the rule did not declare that it notifies, or the body can't be written as JSON.
    ///
    /// ```
    /// # use rulemill_sdk::{dynamic::*, prelude::*};
    /// # fn example(context: &mut Context<'_>) -> Outcome {
    /// context.notify("low-stock", &json!({ "product": 7 }))?;
    /// # Ok(()) }
    /// # let _ = example;
    /// ```
    pub fn notify(
        &mut self,
        topic: impl Into<String>,
        body: &(impl Serialize + ?Sized),
    ) -> Result<(), RuleError> {
        if !self.places.contains(&NOTIFY) {
            return Err(format!("rule {} did not declare `notifies`", self.rule).into());
        }
        let notify: &mut Notify = resource_of(&mut *self.resources[NOTIFY]);
        Ok(notify.send(topic, body)?)
    }

    fn timers(&mut self) -> Result<&mut Timers, RuleError> {
        if !self.places.contains(&TIMERS) {
            return Err(format!("rule {} did not declare `sets_timers`", self.rule).into());
        }
        Ok(resource_of(&mut *self.resources[TIMERS]))
    }

    /// Sets a timer of a rule; see [`Timers::set`].
    ///
    /// # Errors
    /// If the rule did not declare that it sets timers, or `rule` is none that takes them.
    ///
    /// ```
    /// # use rulemill_sdk::{dynamic::*, prelude::*};
    /// # fn example(context: &mut Context<'_>) -> Outcome {
    /// let due = context.now();
    /// context.set_timer("remind", "cart 7", due)?;
    /// # Ok(()) }
    /// # let _ = example;
    /// ```
    pub fn set_timer(
        &mut self,
        rule: &str,
        key: impl Into<String>,
        due: Timestamp,
    ) -> Result<(), RuleError> {
        Ok(self.timers()?.set(rule, key, due)?)
    }

    /// Clears a timer of a rule; see [`Timers::clear`].
    ///
    /// # Errors
    /// If the rule did not declare that it sets timers, or `rule` is none that takes them.
    ///
    /// ```
    /// # use rulemill_sdk::{dynamic::*, prelude::*};
    /// # fn example(context: &mut Context<'_>) -> Outcome {
    /// context.clear_timer("remind", "cart 7")?;
    /// # Ok(()) }
    /// # let _ = example;
    /// ```
    pub fn clear_timer(&mut self, rule: &str, key: impl Into<String>) -> Result<(), RuleError> {
        Ok(self.timers()?.clear(rule, key)?)
    }

    /// When the change being handled was committed; for a timer, when it was due.
    ///
    /// ```
    /// # use rulemill_sdk::{dynamic::*, prelude::Timestamp};
    /// # fn example(context: &mut Context<'_>) -> Timestamp {
    /// context.now()
    /// # }
    /// # let _ = example;
    /// ```
    pub fn now(&self) -> Timestamp {
        self.call.timestamp()
    }
}
