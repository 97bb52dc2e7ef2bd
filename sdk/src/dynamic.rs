//! Plugins whose tables and rules come from their configuration.
//!
//! A function takes the configuration and builds a [`Plugin`]: it declares tables, whose rows are
//! [`Record`]s of [`Value`]s, and rules, which are closures. Everything else is as for plugins whose
//! rows are structs, on the same table core.
//!
//! ```
//! use rulemill_sdk::{dynamic::{ColumnType, Plugin, Table, Value}, prelude::*};
//!
//! #[derive(serde::Deserialize)]
//! struct Settings { from: String, to: String }
//!
//! /// Counts the rows of a table that the configuration names.
//! fn build(settings: Settings) -> Result<Plugin, String> {
//!     let mut plugin = Plugin::new();
//!     let from = plugin.table(Table::source(&settings.from).column("id", ColumnType::I64).key(["id"]))?;
//!     let to = plugin.table(
//!         Table::derived(&settings.to)
//!             .column("table", ColumnType::Text)
//!             .column("rows", ColumnType::I64)
//!             .key(["table"]),
//!     )?;
//!     let key = [Value::Text(settings.from)];
//!     plugin.rule("count").on(&from).writes(&to).runs(move |change, context| {
//!         let mut rows = context.entry(&to, &key)?.i64("rows")?;
//!         for Delta { sign, .. } in change.deltas() {
//!             rows += sign;
//!         }
//!         context.entry(&to, &key)?.set("rows", Value::I64(rows))?;
//!         Ok(())
//!     })?;
//!     Ok(plugin)
//! }
//!
//! rulemill_sdk::dynamic_plugin!(build);
//!
//! # use rulemill_sdk::testing::Harness;
//! # #[derive(Row)] #[table(source = "users")] struct User { #[key] id: i64 }
//! # fn main() -> Result<(), String> {
//! let mut harness = Harness::with_config(plugin(), &json!({ "from": "users", "to": "counts" }))?;
//! harness.push(Change::insert(User { id: 1 })).push(Change::insert(User { id: 2 })).run();
//! assert_eq!(harness.values("counts"), [[Value::Text("users".into()), Value::I64(2)]]);
//! # Ok(())
//! # }
//! ```

mod context;
mod record;
mod table;

use std::{fmt, sync::Arc};

use rulemill_wire::{
    DecodeError,
    batch::Kind,
    manifest::{Access, Input},
};
use serde::de::DeserializeOwned;

pub use context::{Context, Range};
pub use record::{ColumnError, Record, from_json, to_json};
pub use rulemill_wire::{ColumnType, Value};
pub use table::{Table, TableHandle};

use self::{
    context::{Lookups, Tables},
    table::Runtime,
};
use crate::{
    change::{self, Timer},
    error::Outcome,
    lookup::LookupCore,
    runtime::{Call, Item, NOTIFY, Plan, PluginRuntime, Resource, RuleCall, TIMERS, WRONG_KIND},
    schema::Schema,
    store::Store,
};

/// A change of a row whose columns are known at run time.
///
/// ```
/// use rulemill_sdk::dynamic::{Change, Value};
///
/// fn name(change: &Change) -> Option<&Value> {
///     change.row().get("name")
/// }
/// # let _ = name;
/// ```
pub type Change = change::Change<Record>;

/// A plugin while it is being built from its configuration; see the [module](self).
///
/// ```
/// use rulemill_sdk::dynamic::{ColumnType, Plugin, Table};
///
/// let mut plugin = Plugin::new();
/// let users = plugin.table(Table::source("users").column("id", ColumnType::I64).key(["id"]))?;
/// plugin.rule("look").on(&users).runs(|_change, _context| Ok(()))?;
/// # Ok::<(), String>(())
/// ```
pub struct Plugin {
    plan: Plan,
    /// Where each table's rows are among the resources, by the table's number.
    places: Vec<usize>,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plugin with {} tables", self.places.len())
    }
}

impl Default for Plugin {
    fn default() -> Self {
        Self::new()
    }
}

impl Plugin {
    /// A plugin without tables and rules.
    ///
    /// ```
    /// let plugin = rulemill_sdk::dynamic::Plugin::new();
    /// # let _ = plugin;
    /// ```
    pub fn new() -> Self {
        Self {
            plan: Plan::new("", "", ""),
            places: Vec::new(),
        }
    }

    /// Adds a table. One that was added before, in the same words, is the same table.
    ///
    /// # Errors
    /// With what is wrong about it: no key, a column named twice, a key column that is null or of a
    /// type that can't be a key, an index over a column that is not there.
    ///
    /// ```
    /// use rulemill_sdk::dynamic::{ColumnType, Plugin, Table};
    ///
    /// let mut plugin = Plugin::new();
    /// let error = plugin.table(Table::source("users").column("id", ColumnType::I64)).unwrap_err();
    /// assert_eq!(error, "table users has no key; name its key columns");
    /// ```
    pub fn table(&mut self, table: Table) -> Result<TableHandle, String> {
        let description = table.into_manifest()?;
        let access = description.access;
        let number = self.plan.table(description.clone())?;
        let schema = Runtime::new(description);
        if usize::from(number) == self.places.len() {
            let resource: Box<dyn Resource> = match access {
                Access::Own => Box::new(Tables(Store::new(schema.clone(), number.into()))),
                Access::Read => Box::new(Lookups(LookupCore::new(schema.clone(), number))),
            };
            self.places.push(self.plan.add_resource(resource));
        }
        Ok(TableHandle { number, schema })
    }

    /// Begins a rule of this name. It is added by [`runs`](RuleBuilder::runs) or
    /// [`runs_timers`](RuleBuilder::runs_timers).
    ///
    /// ```
    /// # use rulemill_sdk::dynamic::{ColumnType, Plugin, Table};
    /// # let mut plugin = Plugin::new();
    /// # let users = plugin.table(Table::source("users").column("id", ColumnType::I64).key(["id"]))?;
    /// plugin.rule("look").on(&users).runs(|_change, _context| Ok(()))?;
    /// # Ok::<(), String>(())
    /// ```
    pub fn rule(&mut self, name: impl Into<String>) -> RuleBuilder<'_> {
        RuleBuilder {
            plugin: self,
            name: name.into(),
            input: None,
            lookups: Vec::new(),
            writes: Vec::new(),
            notifies: false,
            sets_timers: false,
        }
    }
}

/// A rule while it is being declared.
///
/// ```
/// use rulemill_sdk::dynamic::{ColumnType, Plugin, Table, Value};
///
/// let mut plugin = Plugin::new();
/// let id = |table: Table| table.column("id", ColumnType::I64).key(["id"]);
/// let orders = plugin.table(id(Table::source("orders")))?;
/// let users = plugin.table(id(Table::source("users")))?;
/// let seen = plugin.table(id(Table::derived("seen")))?;
/// plugin
///     .rule("seen")
///     .on(&orders)
///     .looks_up(&users)
///     .writes(&seen)
///     .notifies()
///     .runs(move |change, context| {
///         let id = [change.row().value("id")?.clone()];
///         if context.get(&users, &id)?.is_none() {
///             context.notify("no-user", &change.row())?;
///         }
///         context.entry(&seen, &id)?;
///         Ok(())
///     })?;
/// # Ok::<(), String>(())
/// ```
#[must_use = "the rule is added by `runs` or `runs_timers`"]
pub struct RuleBuilder<'a> {
    plugin: &'a mut Plugin,
    name: String,
    input: Option<TableHandle>,
    lookups: Vec<u16>,
    writes: Vec<u16>,
    notifies: bool,
    sets_timers: bool,
}

impl fmt::Debug for RuleBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RuleBuilder of {}", self.name)
    }
}

/// See [`RuleBuilder`] for an example of each.
impl RuleBuilder<'_> {
    /// The table whose changes it is called for.
    pub fn on(mut self, table: &TableHandle) -> Self {
        self.input = Some(table.clone());
        self
    }

    /// A table that it looks up.
    pub fn looks_up(mut self, table: &TableHandle) -> Self {
        self.lookups.push(table.number);
        self
    }

    /// A table of the plugin's own that it writes and reads.
    pub fn writes(mut self, table: &TableHandle) -> Self {
        self.writes.push(table.number);
        self
    }

    /// It sends notifications.
    pub fn notifies(mut self) -> Self {
        self.notifies = true;
        self
    }

    /// It sets or clears timers.
    pub fn sets_timers(mut self) -> Self {
        self.sets_timers = true;
        self
    }

    /// Adds the rule: `function` is called for each change of its table.
    ///
    /// # Errors
    /// If no table was named with [`on`](Self::on), or a table is used in a way that it can't be.
    pub fn runs(
        self,
        mut function: impl FnMut(&Change, &mut Context<'_>) -> Outcome + Send + 'static,
    ) -> Result<(), String> {
        let Some(table) = self.input.clone() else {
            return Err(format!(
                "rule {} listens to nothing: name its table with `on`",
                self.name
            ));
        };
        let schema = table.schema;
        let input = Input::Changes(table.number);
        self.add(input, move |item, context| {
            let Item::Change(kind, reader) = item else {
                return Err(WRONG_KIND);
            };
            let change = match kind {
                Kind::Insert => Change::insert(schema.read(reader)?),
                Kind::Update => {
                    let before = schema.read(reader)?;
                    Change::update(before, schema.read(reader)?)
                }
                Kind::Delete => Change::delete(schema.read(reader)?),
                Kind::Read => Change::read(schema.read(reader)?),
                Kind::Timer | Kind::Tick => return Err(WRONG_KIND),
            };
            Ok(function(&change, context))
        })
    }

    /// Adds the rule: `function` is called for each timer that was set for it.
    ///
    /// # Errors
    /// If a table was named with [`on`](Self::on), or a table is used in a way that it can't be.
    ///
    /// ```
    /// use rulemill_sdk::dynamic::Plugin;
    ///
    /// let mut plugin = Plugin::new();
    /// plugin.rule("remind").notifies().runs_timers(|timer, context| {
    ///     Ok(context.notify("remind", &timer.key)?)
    /// })?;
    /// # Ok::<(), String>(())
    /// ```
    pub fn runs_timers(
        self,
        mut function: impl FnMut(&Timer, &mut Context<'_>) -> Outcome + Send + 'static,
    ) -> Result<(), String> {
        if self.input.is_some() {
            return Err(format!(
                "rule {} is called either for changes or for timers: make two rules of it",
                self.name
            ));
        }
        self.add(Input::Timers, move |item, context| match item {
            Item::Timer(timer) => Ok(function(&timer, context)),
            Item::Change(..) => Err(WRONG_KIND),
        })
    }

    fn add(
        self,
        input: Input,
        function: impl FnMut(Item<'_, '_>, &mut Context<'_>) -> Result<Outcome, DecodeError>
        + Send
        + 'static,
    ) -> Result<(), String> {
        let Self {
            plugin,
            name,
            lookups,
            writes,
            notifies,
            sets_timers,
            ..
        } = self;
        let table_name = |table: u16| plugin.plan.manifest_table(table).name.clone();
        let owned = |table: u16| plugin.plan.manifest_table(table).access == Access::Own;
        if let Some(table) = lookups.iter().find(|table| owned(**table)) {
            return Err(format!(
                "rule {name} looks up table {}, which the plugin owns: use `writes`",
                table_name(*table)
            ));
        }
        if let Some(table) = writes.iter().find(|table| !owned(**table)) {
            return Err(format!(
                "rule {name} writes table {}, which the plugin only reads: make it with `Table::derived`",
                table_name(*table)
            ));
        }
        let tables: Vec<(u16, usize)> = lookups
            .iter()
            .chain(&writes)
            .map(|table| (*table, plugin.places[usize::from(*table)]))
            .collect();
        let mut places: Vec<usize> = tables.iter().map(|(_, place)| *place).collect();
        if notifies {
            places.push(NOTIFY);
        }
        if sets_timers {
            places.push(TIMERS);
        }
        plugin.plan.begin_rule(&name, input);
        let rule = plugin.plan.rule();
        rule.lookups = lookups;
        rule.writes = writes;
        rule.notifies = notifies;
        rule.sets_timers = sets_timers;
        plugin.plan.push_call(Box::new(DynamicRule {
            name: Arc::from(name),
            tables,
            places,
            function,
        }));
        Ok(())
    }
}

struct DynamicRule<F> {
    name: Arc<str>,
    tables: Vec<(u16, usize)>,
    places: Vec<usize>,
    function: F,
}

impl<F> RuleCall for DynamicRule<F>
where
    F: FnMut(Item<'_, '_>, &mut Context<'_>) -> Result<Outcome, DecodeError> + Send,
{
    fn call(
        &mut self,
        call: &Call,
        item: Item<'_, '_>,
        resources: &mut [Box<dyn Resource>],
    ) -> Result<Outcome, DecodeError> {
        let mut context = Context::begin(&self.name, call, &self.tables, &self.places, resources);
        (self.function)(item, &mut context)
    }

    fn places(&self) -> &[usize] {
        &self.places
    }
}

/// A plugin that `build` makes from its configuration; `dynamic_plugin!` calls it.
#[doc(hidden)]
pub fn runtime<C: DeserializeOwned + 'static, E: fmt::Display + 'static>(
    name: &'static str,
    version: &'static str,
    build: fn(C) -> Result<Plugin, E>,
) -> PluginRuntime {
    PluginRuntime::new(move |config| {
        let config = crate::Config::<C>::from_json(config)?.into_inner();
        let mut plugin = build(config).map_err(|error| error.to_string())?;
        plugin.plan.set_name(name, version);
        Ok(plugin.plan)
    })
}

/// Exports a plugin that a function builds from its configuration: `fn(C) -> Result<Plugin, E>`, where
/// `C` derives serde's `Deserialize` and `E` can be displayed. It also makes `pub fn plugin()`, which
/// returns the plugin to be run natively. See [`dynamic`](crate::dynamic).
///
/// ```
/// use rulemill_sdk::dynamic::{ColumnType, Plugin, Table};
///
/// fn build(table: String) -> Result<Plugin, String> {
///     let mut plugin = Plugin::new();
///     let table = plugin.table(Table::source(&table).column("id", ColumnType::I64).key(["id"]))?;
///     plugin.rule("look").on(&table).runs(|_change, _context| Ok(()))?;
///     Ok(plugin)
/// }
///
/// rulemill_sdk::dynamic_plugin!(build);
///
/// # fn main() {
/// assert!(plugin().describe("\"users\"").is_ok());
/// # }
/// ```
#[macro_export]
macro_rules! dynamic_plugin {
    ($build:path) => {
        /// The plugin, to be run natively.
        pub fn plugin() -> $crate::runtime::PluginRuntime {
            $crate::dynamic::runtime(
                ::core::env!("CARGO_PKG_NAME"),
                ::core::env!("CARGO_PKG_VERSION"),
                $build,
            )
        }

        $crate::__export!(plugin);
    };
}
