//! The plugins of the workload: everything that a commit can hold comes from one of their rules.

pub(crate) mod shop {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "orders")]
    pub struct Order {
        #[key]
        pub id: i64,
        pub customer: i64,
        pub amount: i64,
    }

    #[derive(Row)]
    #[table(source = "customers")]
    pub struct Customer {
        #[key]
        id: i64,
        name: String,
    }

    #[derive(Row, Default)]
    #[table(derived = "totals")]
    pub struct Total {
        #[key]
        customer: i64,
        orders: i64,
        #[index]
        amount: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "grand_total")]
    pub struct GrandTotal {
        #[key]
        id: i64,
        customers: i64,
        amount: i64,
    }

    #[derive(Row)]
    #[table(derived = "named_orders")]
    pub struct NamedOrder {
        #[key]
        id: i64,
        #[index]
        name: String,
    }

    #[derive(Row, Default)]
    #[table(derived = "reminders")]
    pub struct Reminder {
        #[key]
        id: i64,
        times: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "audit")]
    pub struct Audit {
        #[key]
        pub id: i64,
        pub changes: i64,
        pub amount: i64,
    }

    #[rule]
    pub fn totals(change: Change<Order>, totals: &mut Table<Total>) -> Outcome {
        for Delta { row, sign } in change.deltas() {
            let total = totals.entry(row.customer)?;
            total.orders += sign;
            total.amount += row.amount * sign;
        }
        Ok(())
    }

    /// Downstream: it sees what `totals` derives.
    #[rule]
    pub fn grand_total(change: Change<Total>, grand: &mut Table<GrandTotal>) -> Outcome {
        for Delta { row, sign } in change.deltas() {
            let total = grand.entry(0)?;
            total.customers += sign;
            total.amount += row.amount * sign;
        }
        Ok(())
    }

    #[rule]
    pub fn named_orders(
        change: Change<Order>,
        customers: &Lookup<Customer>,
        named: &mut Table<NamedOrder>,
        notify: &mut Notify,
    ) -> Outcome {
        if let Some(order) = &change.before {
            named.remove(order.id)?;
        }
        if let Some(order) = &change.after {
            let name = customers.get(order.customer)?.map(|c| c.name.clone());
            named.insert(NamedOrder {
                id: order.id,
                name: name.unwrap_or_else(|| "nobody".into()),
            });
            if order.amount > 70 {
                notify.send("large", &(order.id, order.amount))?;
            }
        }
        Ok(())
    }

    #[rule]
    pub fn watch(change: Change<Order>, timers: &mut Timers, now: Now) -> Outcome {
        let id = change.key().to_string();
        match change.after {
            Some(_) => timers.set("remind", id, now.plus_minutes(super::REMIND_MINUTES)?)?,
            None => timers.clear("remind", id)?,
        }
        Ok(())
    }

    #[rule]
    pub fn remind(timer: Timer, reminders: &mut Table<Reminder>, notify: &mut Notify) -> Outcome {
        let id: i64 = timer.key.parse()?;
        reminders.entry(id)?.times += 1;
        notify.send("reminder", &id)?;
        Ok(())
    }

    /// Can't take every amount.
    #[rule]
    pub fn audit(change: Change<Order>, audit: &mut Table<Audit>) -> Outcome {
        take(change, audit, super::FIRST_FAILS)
    }

    pub(crate) fn take(change: Change<Order>, audit: &mut Table<Audit>, fails: i64) -> Outcome {
        let row = audit.entry(change.key())?;
        row.changes += 1;
        if let Some(order) = &change.after {
            if order.amount % fails == 0 {
                return Err(format!("an amount that {fails} divides").into());
            }
            row.amount = order.amount;
        }
        Ok(())
    }

    rulemill_sdk::plugin!(totals, grand_total, named_orders, watch, remind, audit);
}

/// The next version of the shop: it can take more amounts, though still not all.
pub(crate) mod mended {
    use rulemill_sdk::prelude::*;

    use super::shop::{self, Audit, Order};

    #[rule]
    pub fn audit(change: Change<Order>, audit: &mut Table<Audit>) -> Outcome {
        shop::take(change, audit, super::SECOND_FAILS)
    }

    rulemill_sdk::plugin!(
        shop::totals,
        shop::grand_total,
        shop::named_orders,
        shop::watch,
        shop::remind,
        audit
    );
}

/// A plugin that comes when there are rows: its rules take them over.
pub(crate) mod late {
    use rulemill_sdk::prelude::*;

    use super::shop::Order;

    #[derive(Row)]
    #[table(source = "totals")]
    pub struct Total {
        #[key]
        customer: i64,
        orders: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "customer_count")]
    pub struct Customers {
        #[key]
        id: i64,
        customers: i64,
        orders: i64,
    }

    /// Is told what differs when the shop's tables have been rebuilt.
    #[rule]
    pub fn customer_count(change: Change<Total>, counts: &mut Table<Customers>) -> Outcome {
        for Delta { row, sign } in change.deltas() {
            let count = counts.entry(0)?;
            count.customers += sign;
            count.orders += row.orders * sign;
        }
        Ok(())
    }

    #[derive(Row, Default)]
    #[table(derived = "order_count")]
    pub struct Count {
        #[key]
        id: i64,
        orders: i64,
        amount: i64,
    }

    #[rule]
    pub fn order_count(change: Change<Order>, counts: &mut Table<Count>) -> Outcome {
        for Delta { row, sign } in change.deltas() {
            let count = counts.entry(0)?;
            count.orders += sign;
            count.amount += row.amount * sign;
        }
        Ok(())
    }

    rulemill_sdk::plugin!(order_count, customer_count);
}

/// How long after an order's last change its reminder is due.
pub(crate) const REMIND_MINUTES: i64 = 7;
/// The first version faults on amounts that this divides,
pub(crate) const FIRST_FAILS: i64 = 4;
/// the second on those that this does.
pub(crate) const SECOND_FAILS: i64 = 12;
