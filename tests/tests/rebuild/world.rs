//! An engine that is stepped, over a store that outlives it, with a plugin that is rebuilt and two that are called for what it makes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use rulemill::{
    change::{Key, RawChange, RawOp, SourceBatch},
    engine::{Behind, Control, PluginEvent, Setup, Stepped},
    limits::Limits,
    row::RowBuilder,
    rule::{Fault, Instance, Plugin, PluginHash, StateAccess},
    store::Store,
};
use rulemill_tests::{
    native::{Make, NativePlugin},
    rig::rows,
};
use rulemill_wire::{Reader, ValueRef, key, manifest::Manifest};

/// Totals by user. The versions differ in a column that is gone (it was not optional, so that the table can't be taken over), in
/// which users they count, under which key, and how.
macro_rules! weighed {
    ($name:ident, $($amount:ident)?, $place:expr) => {
        mod $name {
            use rulemill_sdk::prelude::*;

            #[derive(Row)]
            #[table(source = "orders")]
            pub struct Order {
                #[key]
                id: i64,
                user_id: i64,
            }

            #[derive(Row, Default)]
            #[table(derived = "totals")]
            pub struct Total {
                #[key]
                user_id: i64,
                $($amount: i64,)?
                orders: i64,
            }

            #[rule]
            pub fn totals(change: Change<Order>, totals: &mut Table<Total>) -> Outcome {
                for Delta { row, sign } in change.deltas() {
                    let place: fn(i64) -> Option<(i64, i64)> = $place;
                    let Some((key, weight)) = place(row.user_id) else {
                        continue;
                    };
                    let total = totals.entry(key)?;
                    total.orders += sign * weight;
                    if total.orders == 0 {
                        totals.remove(key)?;
                    }
                }
                Ok(())
            }

            rulemill_sdk::plugin!(totals);
        }
    };
}

pub(crate) fn old_place(user: i64) -> Option<(i64, i64)> {
    (user % 7 != 3).then_some((user, 1))
}

/// Some rows go, some come, some are others, and some are the same.
pub(crate) fn new_place(user: i64) -> Option<(i64, i64)> {
    let key = if user % 11 == 1 { user + 10_000 } else { user };
    (user % 5 != 0).then_some((key, 1 + user % 2))
}

weighed!(first, amount, crate::world::old_place);
weighed!(second, , crate::world::new_place);

/// Another plugin, which keeps a copy of each total and won't take a change of one that it knows otherwise.
pub(crate) mod copies {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "totals")]
    pub struct Total {
        #[key]
        user_id: i64,
        orders: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "copies")]
    pub struct Copy {
        #[key]
        user_id: i64,
        orders: i64,
    }

    #[rule]
    pub fn copies(change: Change<Total>, copies: &mut Table<Copy>) -> Outcome {
        for Delta { row, sign } in change.deltas() {
            let known = copies.get(row.user_id)?.map(|copy| copy.orders);
            if sign < 0 && known != Some(row.orders) {
                return Err(format!("{} was {known:?}, not {}", row.user_id, row.orders).into());
            }
            if sign < 0 {
                copies.remove(row.user_id)?;
            } else {
                copies.insert(Copy {
                    user_id: row.user_id,
                    orders: row.orders,
                });
            }
        }
        Ok(())
    }

    rulemill_sdk::plugin!(copies);
}

/// The same one level on: called for what that derives.
mod sum {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "copies")]
    pub struct Copy {
        #[key]
        user_id: i64,
        orders: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "sum")]
    pub struct Sum {
        #[key]
        id: i64,
        users: i64,
        orders: i64,
    }

    #[rule]
    pub fn sum(change: Change<Copy>, sum: &mut Table<Sum>) -> Outcome {
        for Delta { row, sign } in change.deltas() {
            let sum = sum.entry(0)?;
            sum.users += sign;
            sum.orders += sign * row.orders;
        }
        Ok(())
    }

    rulemill_sdk::plugin!(sum);
}

/// A plugin whose items are counted.
struct Counted {
    plugin: Arc<NativePlugin>,
    handed: Arc<Mutex<u64>>,
}

struct CountedInstance(Box<dyn Instance>, Arc<Mutex<u64>>);

impl Plugin for Counted {
    fn manifest(&self) -> &Manifest {
        self.plugin.manifest()
    }

    fn hash(&self) -> PluginHash {
        self.plugin.hash()
    }

    fn code(&self) -> Arc<[u8]> {
        self.plugin.code()
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, Fault> {
        let instance = self.plugin.instantiate()?;
        Ok(Box::new(CountedInstance(instance, self.handed.clone())))
    }
}

impl Instance for CountedInstance {
    fn apply(&mut self, batch: &[u8], state: Arc<dyn StateAccess>) -> Result<Vec<u8>, Fault> {
        // A batch begins with a seq, the time and how many items it has.
        let mut reader = Reader::new(batch);
        reader.u64().unwrap();
        reader.i64().unwrap();
        *self.1.lock().unwrap() += reader.u64().unwrap();
        self.0.apply(batch, state)
    }
}

pub(crate) const STEP_MAX: usize = 16;
pub(crate) const USERS: i64 = 300;

pub(crate) fn options() -> Limits {
    Limits {
        batch_changes_max: STEP_MAX,
        ..Limits::default()
    }
}

/// An engine that is stepped, over a store that outlives it.
pub(crate) struct World {
    pub(crate) store: Arc<Store>,
    pub(crate) limits: Limits,
    engine: Option<Stepped>,
    /// Items that the plugin of the copies was handed.
    pub(crate) handed: Arc<Mutex<u64>>,
    /// Which code of the totals lies in the plugin directory, and what ran before.
    code: (Make, &'static str),
    last_good: Option<Make>,
    /// Which code of the copies does.
    pub(crate) copies: (Make, &'static str),
}

impl World {
    pub(crate) fn new(limits: Limits) -> Self {
        let mut world = Self {
            store: Arc::new(Store::in_memory().unwrap()),
            limits,
            engine: None,
            handed: Arc::default(),
            code: (first::plugin, "1"),
            last_good: None,
            copies: (copies::plugin, "1"),
        };
        world.start();
        world
    }

    /// What isn't committed is gone.
    pub(crate) fn start(&mut self) {
        self.engine = None;
        let native =
            |make, label| NativePlugin::load(make, &serde_json::Value::Null, label).unwrap();
        let loaded = |name: &str, plugin: Arc<dyn Plugin>, last_good| PluginEvent::Loaded {
            name: name.into(),
            plugin,
            last_good,
            reply: None,
        };
        let last_good = self
            .last_good
            .map(|make| native(make, "1") as Arc<dyn Plugin>);
        let plugins_now = vec![
            loaded("shop", native(self.code.0, self.code.1), last_good),
            self.copies(),
            loaded("sum", native(sum::plugin, "1"), None),
        ];
        self.engine = Some(
            Stepped::start(Setup {
                store: self.store.clone(),
                limits: Arc::new(self.limits.clone()),
                tables: Vec::new(),
                plugins: std::collections::HashMap::new(),
                plugins_now,
                sources: Vec::new(),
                ticks: false,
                clock: Arc::new(|| 1_000_000),
            })
            .unwrap(),
        );
    }

    pub(crate) fn copies(&self) -> PluginEvent {
        let (make, label) = self.copies;
        let plugin = NativePlugin::load(make, &serde_json::Value::Null, label).unwrap();
        PluginEvent::Loaded {
            name: "copies".into(),
            plugin: Arc::new(Counted {
                plugin,
                handed: self.handed.clone(),
            }),
            last_good: None,
            reply: None,
        }
    }

    pub(crate) fn engine(&mut self) -> &mut Stepped {
        self.engine.as_mut().unwrap()
    }

    /// One batch of orders: their numbers, with the user, or deleted.
    pub(crate) fn apply(&mut self, orders: &[(i64, Option<i64>)]) {
        let catalog = self.engine().catalog().load();
        let table = catalog.by_name("orders").unwrap();
        let changes = orders.iter().map(|&(id, user)| {
            let mut builder = RowBuilder::default();
            builder.set(table.column("id").unwrap().0, ValueRef::I64(id));
            if let Some(user) = user {
                builder.set(table.column("user_id").unwrap().0, ValueRef::I64(user));
            }
            let (mut key, mut row) = (Vec::new(), Vec::new());
            key::write(ValueRef::I64(id), &mut key);
            builder.finish(&mut row);
            RawChange {
                table: table.id,
                op: if user.is_some() {
                    RawOp::Upsert
                } else {
                    RawOp::Delete
                },
                key: Key::from(key),
                old_key: None,
                before: None,
                after: user.map(|_| row.into()),
                lacks: false,
                time: None,
            }
        });
        let batch = SourceBatch {
            source: "test".into(),
            changes: changes.collect(),
            bad: Vec::new(),
            positions: Vec::new(),
            input_bytes: 0,
            idempotency: None,
            done: None,
        };
        self.engine().process(vec![batch]).unwrap();
    }

    pub(crate) fn commit(&mut self) {
        let engine = self.engine();
        engine.hand_over().unwrap();
        engine.commit();
        engine.settle().unwrap();
    }

    pub(crate) fn settle(&mut self) {
        while self.engine().is_unsettled() {
            self.commit();
        }
    }

    pub(crate) fn command<T>(
        &mut self,
        make: impl FnOnce(
            crossbeam_channel::Sender<Result<T, rulemill::engine::ControlError>>,
        ) -> Control,
    ) -> Result<T, rulemill::engine::ControlError> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        self.engine().command(make(reply)).unwrap();
        self.settle();
        answer.try_recv().unwrap()
    }

    /// The new code of the totals comes, and with it the rebuild.
    pub(crate) fn begin_rebuild(&mut self) {
        self.code = (second::plugin, "2");
        self.last_good = Some(first::plugin);
        let plugin = NativePlugin::load(second::plugin, &serde_json::Value::Null, "2").unwrap();
        let event = PluginEvent::Loaded {
            name: "shop".into(),
            plugin,
            last_good: None,
            reply: None,
        };
        self.engine().command(Control::Plugin(event)).unwrap();
        self.command(|reply| Control::Rebuild {
            plugin: "shop".into(),
            cancel: false,
            reply,
        })
        .unwrap();
    }

    pub(crate) fn is_rebuilding(&mut self) -> bool {
        self.engine().status().plugins["shop"].rebuild.is_some()
    }

    /// A step of what is behind; gives how many items it handed to the copies. False if nothing is behind.
    pub(crate) fn step(&mut self) -> (bool, u64) {
        let before = *self.handed.lock().unwrap();
        let step = self.engine().step_behind().unwrap();
        if step == Behind::NeedsCommit {
            self.settle();
        }
        (step != Behind::Idle, *self.handed.lock().unwrap() - before)
    }

    pub(crate) fn status_of(&mut self, rule: &str) -> String {
        self.settle();
        self.engine().status().rules[rule].status.clone()
    }

    pub(crate) fn finish(&mut self) {
        let mut steps = 0;
        while self.step().0 {
            steps += 1;
            assert!(
                steps < 10_000,
                "it never ends: {:#?}",
                self.engine().status()
            );
        }
        self.settle();
    }

    /// Holds everything against a count of the orders that are there.
    pub(crate) fn check(&mut self, place: fn(i64) -> Option<(i64, i64)>, told: &str) {
        self.settle();
        let mut expected: BTreeMap<i64, i64> = BTreeMap::new();
        for order in rows(&self.store, "orders").unwrap() {
            let user = order.split("user_id=").nth(1).unwrap().parse().unwrap();
            if let Some((key, weight)) = place(user) {
                *expected.entry(key).or_default() += weight;
            }
        }
        let copies: Vec<String> = expected
            .iter()
            .map(|(user, orders)| format!("user_id={user} orders={orders}"))
            .collect();
        assert_eq!(rows(&self.store, "totals").unwrap(), copies, "{told}");
        let status = self.engine().status();
        let faults = |rule: &str| status.rules[rule].last_error.clone();
        assert_eq!(faults("copies.copies"), None, "{told}");
        assert_eq!(rows(&self.store, "copies").unwrap(), copies, "{told}");
        let sum = format!(
            "id=0 users={} orders={}",
            expected.len(),
            expected.values().sum::<i64>()
        );
        assert_eq!(rows(&self.store, "sum").unwrap(), [sum], "{told}");
        // What served before is on no disk any more.
        while self.store.prune(1_000_000, &self.limits).unwrap() {}
        self.engine = None;
        let mut findings = Vec::new();
        let report = Arc::get_mut(&mut self.store)
            .unwrap()
            .verify(&mut |finding| findings.push(finding))
            .unwrap();
        assert!(findings.is_empty(), "{told}: {findings:#?}");
        let catalog = self.store.reader().unwrap().catalog().unwrap();
        let serving = catalog.tables().filter(|table| table.is_serving()).count();
        assert_eq!(report.tables, serving as u64, "{told}");
        self.start();
    }
}

/// Orders of every user.
pub(crate) fn full(limits: Limits) -> World {
    let mut world = World::new(limits);
    for user in 0..USERS {
        world.apply(&[(user, Some(user)), (user + 1_000, Some(user))]);
    }
    world.settle();
    world
}
