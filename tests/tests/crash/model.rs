//! What the store must hold in the end, recomputed with maps, one change after the other.

use std::collections::{BTreeMap, BTreeSet};

use rulemill::change::RawOp;

use crate::{
    plugins::{FIRST_FAILS, REMIND_MINUTES, SECOND_FAILS},
    workload::{MINUTE, Made, Step, What},
};

#[derive(Debug, Default)]
pub(crate) struct Model {
    orders: BTreeMap<i64, (i64, i64)>,
    customers: BTreeMap<i64, String>,
    named: BTreeMap<i64, String>,
    /// Customers that ever had an order.
    known: BTreeSet<i64>,
    due: BTreeMap<i64, i64>,
    reminders: BTreeMap<i64, i64>,
    /// Changes handled, and the last amount.
    audit: BTreeMap<i64, (i64, i64)>,
    /// By order the amounts of what is parked; none for a delete.
    parked: BTreeMap<i64, Vec<Option<i64>>>,
    notifications: Vec<String>,
    mended: bool,
    has_count: bool,
    /// The minute of the last change.
    minute: i64,
    /// The log has forgotten what a rule has yet to handle.
    has_forgotten: bool,
}

impl Model {
    /// After all these steps.
    pub(crate) fn after(steps: &[Step]) -> Self {
        let mut model = Self::default();
        for step in steps {
            match step {
                Step::Source(made) | Step::Request(made) => {
                    made.iter().for_each(|made| model.take(made));
                }
                Step::Mend => model.mended = true,
                Step::Late => model.has_count = true,
                Step::Retry => model.retry(),
                // Whether a rule waited for a while shows nowhere in the end,
                Step::Pause => {}
                // unless it waited too long.
                Step::Prune => model.has_forgotten = true,
                Step::Resume if model.has_forgotten => model.rebuild(),
                Step::Resume => {}
                Step::Rebuild => model.rebuild(),
            }
        }
        model
    }

    fn take(&mut self, made: &Made) {
        if let What::Order { op, id, .. } = &made.what
            && *op == RawOp::Delete
            && !self.orders.contains_key(id)
        {
            return;
        }
        self.remind(made.minute);
        self.minute = made.minute;
        match &made.what {
            What::Customer { id, name } => drop(self.customers.insert(*id, name.clone())),
            What::Order { op, id, .. } if *op == RawOp::Delete => {
                self.orders.remove(id);
                self.named.remove(id);
                self.due.remove(id);
                self.audit(*id, None);
            }
            What::Order {
                id,
                customer,
                amount,
                ..
            } => {
                self.orders.insert(*id, (*customer, *amount));
                self.known.insert(*customer);
                let name = self.customers.get(customer);
                let name = name.map_or("nobody", |name| name);
                self.named.insert(*id, name.to_owned());
                if *amount > 70 {
                    self.notifications.push(format!("large [{id},{amount}]"));
                }
                self.due.insert(*id, made.minute + REMIND_MINUTES);
                self.audit(*id, Some(*amount));
            }
        }
    }

    fn remind(&mut self, minute: i64) {
        let due: Vec<i64> = self
            .due
            .iter()
            .filter(|(_, due)| **due <= minute)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.due.remove(&id);
            *self.reminders.entry(id).or_default() += 1;
            self.notifications.push(format!("reminder {id}"));
        }
    }

    fn fails(&self, amount: Option<i64>) -> bool {
        let fails = if self.mended {
            SECOND_FAILS
        } else {
            FIRST_FAILS
        };
        amount.is_some_and(|amount| amount % fails == 0)
    }

    fn audit(&mut self, id: i64, amount: Option<i64>) {
        if self.fails(amount) || self.parked.contains_key(&id) {
            self.parked.entry(id).or_default().push(amount);
        } else {
            self.handle(id, amount);
        }
    }

    fn handle(&mut self, id: i64, amount: Option<i64>) {
        let row = self.audit.entry(id).or_default();
        row.0 += 1;
        row.1 = amount.unwrap_or(row.1);
    }

    fn retry(&mut self) {
        for (id, amounts) in std::mem::take(&mut self.parked) {
            let went = amounts.iter().take_while(|amount| !self.fails(**amount));
            let went = went.count();
            for amount in &amounts[..went] {
                self.handle(id, *amount);
            }
            if went < amounts.len() {
                self.parked.insert(id, amounts[went..].to_vec());
            }
        }
    }

    /// Everything is made from the orders that are there, as if they had all come just now; nobody is told anything.
    fn rebuild(&mut self) {
        self.known = self
            .orders
            .values()
            .map(|(customer, _)| *customer)
            .collect();
        self.named.clear();
        self.due.clear();
        self.reminders.clear();
        self.audit.clear();
        self.parked.clear();
        for (id, (customer, amount)) in self.orders.clone() {
            let name = self.customers.get(&customer);
            let name = name.map_or("nobody", |name| name);
            self.named.insert(id, name.to_owned());
            self.due.insert(id, self.minute + REMIND_MINUTES);
            self.audit(id, Some(amount));
        }
    }

    /// What each table holds.
    pub(crate) fn tables(&self) -> Vec<(&'static str, Vec<String>)> {
        let orders = self.orders.iter();
        let orders = orders
            .map(|(id, (customer, amount))| format!("id={id} customer={customer} amount={amount}"));
        let customers = self.customers.iter();
        let customers = customers.map(|(id, name)| format!("id={id} name={name}"));
        let totals = self.known.iter().map(|customer| {
            let of = self.orders.values().filter(|(of, _)| of == customer);
            let (count, amount) = of.fold((0, 0), |(n, sum), (_, amount)| (n + 1, sum + amount));
            format!("customer={customer} orders={count} amount={amount}")
        });
        let sum: i64 = self.orders.values().map(|(_, amount)| amount).sum();
        let named = self.named.iter();
        let reminders = self.reminders.iter();
        let audit = self.audit.iter();
        let mut tables = vec![
            ("orders", orders.collect()),
            ("customers", customers.collect()),
            ("totals", totals.collect()),
            (
                "grand_total",
                vec![format!("id=0 customers={} amount={sum}", self.known.len())],
            ),
            (
                "named_orders",
                named
                    .map(|(id, name)| format!("id={id} name={name}"))
                    .collect(),
            ),
            (
                "reminders",
                reminders
                    .map(|(id, times)| format!("id={id} times={times}"))
                    .collect(),
            ),
            (
                "audit",
                audit
                    .map(|(id, (changes, amount))| {
                        format!("id={id} changes={changes} amount={amount}")
                    })
                    .collect(),
            ),
        ];
        if self.has_count {
            let count = self.orders.len();
            tables.push((
                "order_count",
                vec![format!("id=0 orders={count} amount={sum}")],
            ));
            let customers = self.known.len();
            tables.push((
                "customer_count",
                vec![format!("id=0 customers={customers} orders={count}")],
            ));
        }
        tables
    }

    /// Timers that are set: order and time.
    pub(crate) fn timers(&self) -> Vec<(String, i64)> {
        let mut timers: Vec<_> = self
            .due
            .iter()
            .map(|(id, minute)| (id.to_string(), minute * MINUTE))
            .collect();
        timers.sort();
        timers
    }

    /// Notifications, sorted.
    pub(crate) fn notifications(&self) -> Vec<String> {
        let mut sorted = self.notifications.clone();
        sorted.sort();
        sorted
    }

    /// How many changes are parked.
    pub(crate) fn parked(&self) -> usize {
        self.parked.values().map(Vec::len).sum()
    }
}
