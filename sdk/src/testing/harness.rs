//! Runs a whole plugin over changes as the host does: batches, several rules, tables derived from its
//! own tables, lookups as of a change, timers. In memory, in the test's own process.

use std::{collections::BTreeMap, sync::Arc};

use rulemill_wire::{
    Reader, Timestamp, Value, ValueRef,
    batch::{BatchWriter, ItemHeader, Kind},
    codec,
    effects::{Effect, EffectsReader},
    key,
    manifest::{Access, Column, Input, Manifest, Table},
};
use serde::Serialize;

use super::memory::{MemoryState, values};
use crate::{
    change::{Change, ChangeKind},
    notify::Notification,
    row::Row,
    runtime::PluginRuntime,
    state::StateReader,
    timers::PendingTimer,
};

/// Runs a whole plugin over changes, as the host would.
///
/// Mistakes in a test's own use (a row type that the plugin has no table for) panic.
///
/// ```
/// use rulemill_sdk::{prelude::*, testing::Harness};
///
/// #[derive(Row)]
/// #[table(source = "orders")]
/// struct Order { #[key] id: i64, product_id: i64 }
///
/// #[derive(Row, Default, Debug, PartialEq)]
/// #[table(derived = "counts")]
/// struct Count { #[key] product_id: i64, orders: i64 }
///
/// #[rule]
/// fn count(change: Change<Order>, counts: &mut Table<Count>) -> Outcome {
///     for Delta { row, sign } in change.deltas() {
///         if row.product_id == 0 {
///             reject!("order {} has no product", row.id);
///         }
///         counts.entry(row.product_id)?.orders += sign;
///     }
///     Ok(())
/// }
///
/// rulemill_sdk::plugin!(count);
///
/// # fn main() -> Result<(), String> {
/// let mut harness = Harness::new(plugin())?;
/// harness.push(Change::insert(Order { id: 1, product_id: 7 }));
/// harness.push(Change::insert(Order { id: 2, product_id: 0 }));
/// harness.push(Change::insert(Order { id: 3, product_id: 7 }));
/// harness.run();
/// assert_eq!(harness.rows::<Count>(), [Count { product_id: 7, orders: 2 }]);
/// assert_eq!(harness.faults()[0].message, "order 2 has no product");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Harness {
    plugin: PluginRuntime,
    manifest: Manifest,
    state: MemoryState,
    batch_items_max: usize,
    time: i64,
    watermark: i64,
    seq: u64,
    queue: Vec<Event>,
    /// Due, rule, key.
    timers: BTreeMap<(u16, String), i64>,
    notifications: Vec<Notification>,
    faults: Vec<Fault>,
}

/// A rule's error for a change.
///
/// ```
/// use rulemill_sdk::testing::Fault;
///
/// let fault = Fault { rule: "count".into(), seq: 3, message: "no product".into() };
/// assert_eq!(fault.rule, "count");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The rule.
    pub rule: String,
    /// The number of the change: 1 for the first that was pushed.
    pub seq: u64,
    /// What the rule said.
    pub message: String,
}

/// Something that happened, before it is known which rules get it.
#[derive(Debug, Clone)]
struct Event {
    seq: u64,
    time: i64,
    change: Option<(u16, RowChange)>,
    /// The same change for other sets of columns of the table.
    others: Vec<(u16, RowChange)>,
}

/// Rows in wire form.
#[derive(Debug, Clone)]
struct RowChange {
    kind: Kind,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
}

/// A batch's item.
struct Item {
    header: ItemHeader,
    body: Vec<u8>,
}

impl Harness {
    /// A plugin without a configuration, over empty tables.
    ///
    /// # Errors
    /// What `describe` says, if the plugin needs a configuration or contradicts itself.
    ///
    /// ```
    /// # use rulemill_sdk::{prelude::*, testing::Harness};
    /// # #[derive(Row)] #[table(source = "orders")] struct Order { #[key] id: i64 }
    /// # #[rule] fn look(change: Change<Order>) -> Outcome { Ok(()) }
    /// # rulemill_sdk::plugin!(look);
    /// # fn main() -> Result<(), String> {
    /// let harness = Harness::new(plugin())?;
    /// # assert!(harness.faults().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(plugin: PluginRuntime) -> Result<Self, String> {
        Self::with_config(plugin, &())
    }

    /// A plugin with this configuration, over empty tables.
    ///
    /// # Errors
    /// What `describe` says, if the configuration is wrong or the plugin contradicts itself.
    ///
    /// ```
    /// # use rulemill_sdk::{prelude::*, testing::Harness};
    /// # #[derive(Row)] #[table(source = "orders")] struct Order { #[key] id: i64 }
    /// # #[rule] fn look(change: Change<Order>, step: &Config<i64>) -> Outcome { Ok(()) }
    /// # rulemill_sdk::plugin!(look);
    /// # fn main() -> Result<(), String> {
    /// assert!(Harness::with_config(plugin(), &5).is_ok());
    /// assert!(Harness::with_config(plugin(), "five").is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_config(
        mut plugin: PluginRuntime,
        config: &(impl Serialize + ?Sized),
    ) -> Result<Self, String> {
        let config = serde_json::to_string(config).map_err(|error| error.to_string())?;
        let manifest = Manifest::from_bytes(&plugin.describe(&config)?)?;
        Ok(Self {
            plugin,
            state: MemoryState::new(manifest.tables.clone()),
            manifest,
            batch_items_max: usize::MAX,
            time: 0,
            watermark: 0,
            seq: 0,
            queue: Vec::new(),
            timers: BTreeMap::new(),
            notifications: Vec::new(),
            faults: Vec::new(),
        })
    }

    /// Cuts what was pushed into batches of so many changes. The tables must not depend on it.
    ///
    /// ```
    /// # use rulemill_sdk::{prelude::*, testing::Harness};
    /// # #[derive(Row)] #[table(source = "orders")] struct Order { #[key] id: i64 }
    /// # #[rule] fn look(change: Change<Order>) -> Outcome { Ok(()) }
    /// # rulemill_sdk::plugin!(look);
    /// # fn main() -> Result<(), String> {
    /// let mut harness = Harness::new(plugin())?.batches_of(1);
    /// # harness.run();
    /// # Ok(())
    /// # }
    /// ```
    pub fn batches_of(mut self, changes: usize) -> Self {
        self.batch_items_max = changes.max(1);
        self
    }

    /// Sets the commit time of the changes pushed from here on.
    ///
    /// ```
    /// # use rulemill_sdk::{prelude::*, testing::Harness};
    /// # #[derive(Row)] #[table(source = "orders")] struct Order { #[key] id: i64 }
    /// # #[rule] fn look(change: Change<Order>) -> Outcome { Ok(()) }
    /// # rulemill_sdk::plugin!(look);
    /// # fn main() -> Result<(), RuleError> {
    /// # let mut harness = Harness::new(plugin())?;
    /// harness.at("2026-01-31T12:00:00Z".parse()?);
    /// harness.push(Change::insert(Order { id: 1 })).run();
    /// # Ok(())
    /// # }
    /// ```
    pub fn at(&mut self, time: Timestamp) -> &mut Self {
        self.time = time.micros();
        self
    }

    /// Queues a change. The row type may have more columns than the plugin reads.
    ///
    /// ```
    /// # use rulemill_sdk::{prelude::*, testing::Harness};
    /// # #[derive(Row)] #[table(source = "orders")] struct Order { #[key] id: i64 }
    /// # #[rule] fn look(change: Change<Order>) -> Outcome { Ok(()) }
    /// # rulemill_sdk::plugin!(look);
    /// # fn main() -> Result<(), String> {
    /// # let mut harness = Harness::new(plugin())?;
    /// harness.push(Change::insert(Order { id: 1 })).push(Change::delete(Order { id: 1 }));
    /// # harness.run();
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn push<T: Row>(&mut self, change: Change<T>) -> &mut Self {
        let wire = |row: &T| {
            let mut bytes = Vec::new();
            row.write_row(&mut bytes);
            bytes
        };
        let change = RowChange {
            kind: match change.kind {
                ChangeKind::Insert => Kind::Insert,
                ChangeKind::Update => Kind::Update,
                ChangeKind::Delete => Kind::Delete,
                ChangeKind::Read => Kind::Read,
            },
            before: change.before.as_ref().map(wire),
            after: change.after.as_ref().map(wire),
        };
        let given = T::SPEC.to_manifest();
        let mut projected: Vec<(u16, RowChange)> = Vec::new();
        for (number, table) in (0u16..).zip(&self.manifest.tables) {
            if table.name == given.name && table.access == Access::Read {
                let row = |row: &Vec<u8>| project(row, &given.columns, &table.columns, &given.name);
                projected.push((
                    number,
                    RowChange {
                        kind: change.kind,
                        before: change.before.as_ref().map(row),
                        after: change.after.as_ref().map(row),
                    },
                ));
            }
        }
        assert!(
            !projected.is_empty(),
            "the plugin reads no table {}",
            given.name
        );
        self.seq += 1;
        let mut projected = projected.into_iter();
        self.queue.push(Event {
            seq: self.seq,
            time: self.time,
            change: projected.next(),
            others: projected.collect(),
        });
        self
    }

    /// Lets time pass up to `time` with no change, and runs: timers that are due fire.
    ///
    /// ```
    /// # use rulemill_sdk::{prelude::*, testing::Harness};
    /// # #[derive(Row)] #[table(source = "carts")] struct Cart { #[key] id: i64 }
    /// #[rule]
    /// fn cart(change: Change<Cart>, timers: &mut Timers, now: Now) -> Outcome {
    ///     Ok(timers.set("remind", change.key().to_string(), now.plus_minutes(30)?)?)
    /// }
    ///
    /// #[rule]
    /// fn remind(timer: Timer, notify: &mut Notify) -> Outcome {
    ///     Ok(notify.send("remind", &timer.key)?)
    /// }
    /// rulemill_sdk::plugin!(cart, remind);
    ///
    /// # fn main() -> Result<(), RuleError> {
    /// let mut harness = Harness::new(plugin())?;
    /// harness.at("2026-01-31T12:00:00Z".parse()?);
    /// harness.push(Change::insert(Cart { id: 7 })).run();
    /// assert_eq!(harness.timers().len(), 1);
    /// harness.advance("2026-01-31T12:30:00Z".parse()?);
    /// assert_eq!(harness.notifications()[0].body, "\"7\"");
    /// # Ok(())
    /// # }
    /// ```
    pub fn advance(&mut self, time: Timestamp) -> &mut Self {
        self.time = time.micros();
        self.seq += 1;
        self.queue.push(Event {
            seq: self.seq,
            time: self.time,
            change: None,
            others: Vec::new(),
        });
        self.run()
    }

    /// Handles everything that was pushed, in batches.
    ///
    /// ```
    /// # use rulemill_sdk::{prelude::*, testing::Harness};
    /// # #[derive(Row)] #[table(source = "orders")] struct Order { #[key] id: i64 }
    /// # #[rule] fn look(change: Change<Order>) -> Outcome { Ok(()) }
    /// # rulemill_sdk::plugin!(look);
    /// # fn main() -> Result<(), String> {
    /// # let mut harness = Harness::new(plugin())?;
    /// harness.push(Change::insert(Order { id: 1 })).run();
    /// # Ok(())
    /// # }
    /// ```
    pub fn run(&mut self) -> &mut Self {
        let queue = std::mem::take(&mut self.queue);
        for events in queue.chunks(self.batch_items_max.min(queue.len().max(1))) {
            for event in events {
                for (table, change) in event.change.iter().chain(&event.others) {
                    self.mirror(*table, change, event.seq);
                }
            }
            let items = self.items(events);
            self.handle(items);
            // What the last change set and is already due, the host fires in batches of its own.
            loop {
                let mut items = Vec::new();
                self.due_items(self.watermark, self.seq, &mut items);
                if items.is_empty() {
                    break;
                }
                self.handle(items);
            }
        }
        self
    }

    /// A table's rows, in the order of their keys.
    ///
    /// ```
    /// # use rulemill_sdk::{prelude::*, testing::Harness};
    /// # #[derive(Row)] #[table(source = "orders")] struct Order { #[key] id: i64 }
    /// # #[rule] fn look(change: Change<Order>) -> Outcome { Ok(()) }
    /// # rulemill_sdk::plugin!(look);
    /// # fn main() -> Result<(), String> {
    /// # let mut harness = Harness::new(plugin())?;
    /// harness.push(Change::insert(Order { id: 1 })).run();
    /// assert_eq!(harness.rows::<Order>().len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn rows<T: Row>(&self) -> Vec<T> {
        let spec = T::SPEC.to_manifest();
        let same = |table: &Table| table.name == spec.name && table.columns == spec.columns;
        let Some(number) = self.manifest.tables.iter().position(same) else {
            panic!("the plugin has no table {} with these columns", spec.name);
        };
        let read = |row| match T::read_row(&mut Reader::new(row)) {
            Ok(row) => row,
            Err(error) => panic!("a row of table {} is none: {error}", spec.name),
        };
        self.state.rows(number as u16).map(read).collect()
    }

    /// A table's rows by name, as values in the order of its columns: for plugins whose tables come
    /// from their configuration.
    ///
    /// ```
    /// # use rulemill_sdk::{prelude::*, testing::Harness, wire::Value};
    /// # #[derive(Row)] #[table(source = "orders")] struct Order { #[key] id: i64 }
    /// # #[rule] fn look(change: Change<Order>) -> Outcome { Ok(()) }
    /// # rulemill_sdk::plugin!(look);
    /// # fn main() -> Result<(), String> {
    /// # let mut harness = Harness::new(plugin())?;
    /// harness.push(Change::insert(Order { id: 1 })).run();
    /// assert_eq!(harness.values("orders"), [[Value::I64(1)]]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn values(&self, table: &str) -> Vec<Vec<Value>> {
        let tables = &self.manifest.tables;
        let Some(number) = tables.iter().position(|known| known.name == table) else {
            panic!("the plugin has no table {table}");
        };
        self.state
            .rows(number as u16)
            .map(|row| values(&tables[number].columns, row))
            .collect()
    }

    /// The notifications sent so far.
    ///
    /// ```
    /// # use rulemill_sdk::{prelude::*, testing::Harness};
    /// # #[derive(Row)] #[table(source = "orders")] struct Order { #[key] id: i64 }
    /// # #[rule] fn look(change: Change<Order>, notify: &mut Notify) -> Outcome { Ok(notify.send("new", &change.key())?) }
    /// # rulemill_sdk::plugin!(look);
    /// # fn main() -> Result<(), String> {
    /// # let mut harness = Harness::new(plugin())?;
    /// harness.push(Change::insert(Order { id: 1 })).run();
    /// assert_eq!(harness.notifications()[0].body, "1");
    /// # Ok(())
    /// # }
    /// ```
    pub fn notifications(&self) -> &[Notification] {
        &self.notifications
    }

    /// The timers that are set, by rule and key.
    ///
    /// ```
    /// # use rulemill_sdk::{prelude::*, testing::Harness};
    /// # #[derive(Row)] #[table(source = "orders")] struct Order { #[key] id: i64 }
    /// # #[rule] fn look(change: Change<Order>) -> Outcome { Ok(()) }
    /// # rulemill_sdk::plugin!(look);
    /// assert!(Harness::new(plugin())?.timers().is_empty());
    /// # Ok::<(), String>(())
    /// ```
    pub fn timers(&self) -> Vec<PendingTimer> {
        self.timers
            .iter()
            .map(|((rule, key), due)| PendingTimer {
                rule: self.rule_name(*rule),
                key: key.clone(),
                due: Timestamp::from_micros(*due).unwrap_or_default(),
            })
            .collect()
    }

    /// The errors that rules returned so far.
    ///
    /// ```
    /// # use rulemill_sdk::{prelude::*, testing::Harness};
    /// # #[derive(Row)] #[table(source = "orders")] struct Order { #[key] id: i64 }
    /// # #[rule] fn look(change: Change<Order>) -> Outcome { reject!("never") }
    /// # rulemill_sdk::plugin!(look);
    /// # fn main() -> Result<(), String> {
    /// # let mut harness = Harness::new(plugin())?;
    /// harness.push(Change::insert(Order { id: 1 })).run();
    /// assert_eq!((harness.faults()[0].seq, &*harness.faults()[0].message), (1, "never"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    fn rule_name(&self, rule: u16) -> String {
        self.manifest.rules[usize::from(rule)].name.clone()
    }

    /// The rules that get a change of this table, as a mask.
    fn mask(&self, table: u16) -> u64 {
        let gets = |(_, rule): &(usize, &rulemill_wire::manifest::Rule)| {
            rule.input == Input::Changes(table)
        };
        let rules = self.manifest.rules.iter().enumerate().filter(gets);
        rules.fold(0, |mask, (number, _)| mask | 1 << number)
    }

    fn mirror(&mut self, table: u16, change: &RowChange, seq: u64) {
        let description = &self.manifest.tables[usize::from(table)];
        let key = |row: &Vec<u8>| key_of_row(description, row);
        let before = change.before.as_ref().map(key);
        let after = change.after.as_ref().map(key);
        if let Some(before) = before
            && after.as_ref() != Some(&before)
        {
            self.state.put(table, before, None, seq);
        }
        if let (Some(key), Some(row)) = (after, &change.after) {
            self.state.put(table, key, Some(row.clone()), seq);
        }
    }

    /// The items for these events, with the timers that come due before each.
    fn items(&mut self, events: &[Event]) -> Vec<Item> {
        let mut items = Vec::new();
        let wants_ticks = self.manifest.rules.iter().any(|rule| rule.sets_timers);
        for event in events {
            let mut watermark = self.watermark;
            for item in &items {
                let Item { header, .. } = item;
                watermark = watermark.max(header.time);
            }
            self.due_items(watermark.max(event.time), event.seq, &mut items);
            let before = items.len();
            for (table, change) in event.change.iter().chain(&event.others) {
                let rules = self.mask(*table);
                if rules != 0 {
                    items.push(change_item(event.seq, event.time, rules, change));
                }
            }
            if items.len() == before && wants_ticks {
                items.push(Item {
                    header: ItemHeader {
                        seq: event.seq,
                        time: event.time,
                        rules: 0,
                        kind: Kind::Tick,
                    },
                    body: Vec::new(),
                });
            }
        }
        items
    }

    /// Takes the timers that are due; they come in the order of due, rule, key.
    fn due_items(&mut self, watermark: i64, seq: u64, items: &mut Vec<Item>) {
        let mut due: Vec<(i64, u16, String)> = self
            .timers
            .iter()
            .filter(|(_, due)| **due <= watermark)
            .map(|((rule, key), due)| (*due, *rule, key.clone()))
            .collect();
        due.sort();
        for (due, rule, key) in due {
            self.timers.remove(&(rule, key.clone()));
            let mut body = Vec::new();
            codec::write_bytes(key.as_bytes(), &mut body);
            codec::write_i64(due, &mut body);
            items.push(Item {
                header: ItemHeader {
                    seq,
                    time: due,
                    rules: 1 << rule,
                    kind: Kind::Timer,
                },
                body,
            });
        }
    }

    /// Applies items, then what they changed in the plugin's own tables, and so on.
    fn handle(&mut self, mut items: Vec<Item>) {
        while !items.is_empty() {
            let base = items[0].header.seq;
            let mut batch = BatchWriter::new(base, self.watermark, 0);
            for item in &items {
                batch.item(item.header).extend_from_slice(&item.body);
            }
            let state: Arc<dyn StateReader> = Arc::new(self.state.clone());
            let effects = match self.plugin.apply(&batch.finish(), &state) {
                Ok(effects) => effects,
                Err(error) => panic!("the plugin refuses a batch of the harness: {error}"),
            };
            for item in &items {
                self.watermark = self.watermark.max(item.header.time);
            }
            items = match self.take(&effects, &items) {
                Ok(items) => items,
                Err(error) => panic!("the plugin's effects can't be read: {error}"),
            };
        }
    }

    /// Takes effects in and gives the items that they make for rules over the plugin's own tables.
    fn take(
        &mut self,
        effects: &[u8],
        items: &[Item],
    ) -> Result<Vec<Item>, rulemill_wire::DecodeError> {
        let mut derived = Vec::new();
        let mut reader = EffectsReader::new(effects)?;
        while let Some(effect) = reader.next_effect()? {
            match effect {
                Effect::Put { table, item } | Effect::Delete { table, item } => {
                    let header = items[item as usize].header;
                    let description = &self.manifest.tables[usize::from(table)];
                    let (key, after) = if matches!(effect, Effect::Put { .. }) {
                        let row = row(description, reader.body())?;
                        (key_of_row(description, &row), Some(row))
                    } else {
                        (key_of_delete(description, reader.body())?, None)
                    };
                    let before = self.state.get(table.into(), &key, u64::MAX).row;
                    let kind = match (&before, &after) {
                        (None, Some(_)) => Kind::Insert,
                        (Some(_), Some(_)) => Kind::Update,
                        (Some(_), None) => Kind::Delete,
                        // Inserted unseen and removed again in one batch.
                        (None, None) => continue,
                    };
                    self.state.put(table, key, after.clone(), header.seq);
                    let rules = self.mask(table);
                    if rules != 0 && before != after {
                        let change = RowChange {
                            kind,
                            before,
                            after,
                        };
                        derived.push(change_item(header.seq, header.time, rules, &change));
                    }
                }
                Effect::Timer { rule, key, due, .. } => {
                    let timer = (rule, key.to_owned());
                    match due {
                        Some(due) => self.timers.insert(timer, due),
                        None => self.timers.remove(&timer),
                    };
                }
                Effect::Notification { topic, body, .. } => {
                    self.notifications.push(Notification {
                        topic: topic.to_owned(),
                        body: body.to_owned(),
                    });
                }
                // A timer that came due within the batch: it stays set, and is sent.
                Effect::Fault { rule, item, .. }
                    if items[item as usize].header.rules & 1 << rule == 0 => {}
                Effect::Fault {
                    rule,
                    item,
                    message,
                } => self.faults.push(Fault {
                    rule: self.rule_name(rule),
                    seq: items[item as usize].header.seq,
                    message: message.to_owned(),
                }),
            }
        }
        derived.sort_by_key(|item: &Item| item.header.seq);
        Ok(derived)
    }
}

fn change_item(seq: u64, time: i64, rules: u64, change: &RowChange) -> Item {
    let rows = change.before.iter().chain(&change.after);
    Item {
        header: ItemHeader {
            seq,
            time,
            rules,
            kind: change.kind,
        },
        body: rows.flatten().copied().collect(),
    }
}

fn write_column(column: &Column, value: ValueRef<'_>, out: &mut Vec<u8>) {
    if column.nullable {
        out.push(u8::from(!matches!(value, ValueRef::Null)));
    }
    value.write_payload(out);
}

/// A row with the columns of one description, as a row with those of another.
fn project(row: &[u8], from: &[Column], to: &[Column], table: &str) -> Vec<u8> {
    let values = values(from, row);
    let mut out = Vec::new();
    for column in to {
        let place = from
            .iter()
            .position(|known| known.name == column.name && known.ty == column.ty);
        let Some(place) = place else {
            panic!(
                "the plugin reads column {} ({}) of table {table}, which the pushed row type lacks",
                column.name, column.ty
            );
        };
        write_column(column, values[place].as_ref(), &mut out);
    }
    out
}

/// The bytes of the next row.
fn row(table: &Table, reader: &mut Reader<'_>) -> Result<Vec<u8>, rulemill_wire::DecodeError> {
    let start = reader.rest();
    for column in &table.columns {
        if !column.nullable || reader.u8()? != 0 {
            ValueRef::skip_payload(column.ty, reader)?;
        }
    }
    Ok(start[..start.len() - reader.rest().len()].to_vec())
}

fn key_of_row(table: &Table, row: &[u8]) -> Vec<u8> {
    let values = values(&table.columns, row);
    let mut form = Vec::new();
    for &place in &table.key {
        key::write(values[usize::from(place)].as_ref(), &mut form);
    }
    form
}

fn key_of_delete(
    table: &Table,
    reader: &mut Reader<'_>,
) -> Result<Vec<u8>, rulemill_wire::DecodeError> {
    let mut form = Vec::new();
    for column in table.key_columns() {
        key::write(ValueRef::read_payload(column.ty, reader)?, &mut form);
    }
    Ok(form)
}
