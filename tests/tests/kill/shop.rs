//! Changes of a small shop, and what its tables hold after them: recomputed from maps, with money in cents.

use std::collections::{BTreeMap, BTreeSet};

use rulemill_tests::random::Random;
use serde_json::{Value, json};

/// An order as it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    user: i64,
    product: i64,
    quantity: i64,
    cents: i64,
}

/// A change that is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    Put(i64, Order),
    Delete(i64),
    /// A user gets a new name, which is a number.
    Rename(i64, i64),
}

impl Change {
    /// Its line.
    pub(crate) fn line(&self) -> String {
        let change = match self {
            Self::Put(id, order) => json!({"table": "orders", "op": "upsert", "after": {
                "id": id,
                "user_id": order.user,
                "product_id": order.product,
                "quantity": order.quantity,
                "amount": money(order.cents),
                "status": "placed",
            }}),
            Self::Delete(id) => json!({"table": "orders", "op": "delete", "before": {"id": id}}),
            Self::Rename(id, name) => json!({"table": "users", "op": "upsert", "after": {
                "id": id, "name": name.to_string(), "city": null,
            }}),
        };
        format!("{change}\n")
    }
}

fn money(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// Cents of an amount, which may have lost zeros at its end.
fn cents(amount: &Value) -> i64 {
    let text = amount
        .as_str()
        .map_or_else(|| amount.to_string(), str::to_owned);
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let part = format!("{part:0<2}");
    whole.parse::<i64>().unwrap() * 100 + part.parse::<i64>().unwrap()
}

/// Makes changes for the orders and users of one writer: those whose number leaves this rest.
#[derive(Debug)]
pub(crate) struct Customers {
    random: Random,
    writers: i64,
    rest: i64,
    orders: BTreeSet<i64>,
}

impl Customers {
    pub(crate) fn new(seed: u64, writers: i64, rest: i64) -> Self {
        Self {
            random: Random::new(seed + rest.unsigned_abs()),
            writers,
            rest,
            orders: BTreeSet::new(),
        }
    }

    fn id(&mut self, most: i64) -> i64 {
        self.random.between(0, most) * self.writers + self.rest
    }

    fn order(&mut self) -> Order {
        Order {
            user: self.random.between(0, 9),
            product: self.random.between(0, 6),
            quantity: self.random.between(1, 5),
            cents: self.random.between(1, 99_999),
        }
    }

    /// Changes that are sent together. There are two for one row and the last differs from the first, so taken
    /// twice they show.
    pub(crate) fn changes(&mut self) -> Vec<Change> {
        let id = self.id(200);
        let (first, mut last) = (self.order(), self.order());
        last.quantity = first.quantity + 1;
        let mut changes = vec![Change::Put(id, first), Change::Put(id, last)];
        self.orders.insert(id);
        if self.random.one_in(3) {
            let from = self.id(200);
            let gone = self.orders.range(from..).next().copied();
            if let Some(gone) = gone.filter(|gone| *gone != id) {
                self.orders.remove(&gone);
                changes.push(Change::Delete(gone));
            }
        }
        if self.random.one_in(4) {
            let user = self.id(4);
            changes.push(Change::Rename(user, self.random.between(0, 1_000_000)));
        }
        changes
    }
}

/// The tables.
#[derive(Debug, Default)]
pub(crate) struct Shop {
    orders: BTreeMap<i64, Order>,
    users: BTreeMap<i64, i64>,
    /// Products that were ever ordered.
    ordered: BTreeSet<i64>,
    /// How often an order was changed, and what came last.
    audited: BTreeMap<i64, Vec<&'static str>>,
}

impl Shop {
    pub(crate) fn apply(&mut self, change: &Change) {
        match *change {
            Change::Put(id, order) => {
                let old = self.orders.insert(id, order);
                self.ordered.insert(order.product);
                if old != Some(order) {
                    let op = if old.is_some() { "update" } else { "insert" };
                    self.audited.entry(id).or_default().push(op);
                }
            }
            Change::Delete(id) => {
                assert!(self.orders.remove(&id).is_some());
                self.audited.entry(id).or_default().push("delete");
            }
            Change::Rename(id, name) => drop(self.users.insert(id, name)),
        }
    }

    /// What each table holds, by key, as [`row`] has it.
    pub(crate) fn tables(&self) -> Vec<(&'static str, BTreeMap<String, String>)> {
        let orders = self.orders.iter().map(|(id, o)| {
            let row = format!("{} {} {} {}", o.user, o.product, o.quantity, o.cents);
            (id.to_string(), row)
        });
        let details = self.orders.iter().map(|(id, o)| {
            let name = self.users.get(&o.user);
            let name = name.map_or("null".to_owned(), |name| format!("\"{name}\""));
            let row = format!("{} {name} {} {} {}", o.user, o.product, o.quantity, o.cents);
            (id.to_string(), row)
        });
        let users = self.users.iter();
        let users = users.map(|(id, name)| (id.to_string(), format!("\"{name}\"")));
        let audit = self.audited.iter().flat_map(|(id, ops)| {
            let versions = ops.iter().zip(1..);
            versions.map(move |(op, version)| (format!("{id} {version}"), format!("\"{op}\"")))
        });
        vec![
            ("orders", orders.collect()),
            ("users", users.collect()),
            ("order_details", details.collect()),
            ("product_totals", self.product_totals()),
            ("user_totals", self.user_totals()),
            ("audit_log", audit.collect()),
        ]
    }

    fn product_totals(&self) -> BTreeMap<String, String> {
        let total = |product: &i64| {
            let of = || {
                self.orders
                    .values()
                    .filter(|order| order.product == *product)
            };
            let units: i64 = of().map(|order| order.quantity).sum();
            let cents: i64 = of().map(|order| order.cents).sum();
            (
                product.to_string(),
                format!("{} {units} {cents}", of().count()),
            )
        };
        self.ordered.iter().map(total).collect()
    }

    fn user_totals(&self) -> BTreeMap<String, String> {
        let users: BTreeSet<i64> = self.orders.values().map(|order| order.user).collect();
        let total = |user: &i64| {
            let of = || self.orders.values().filter(|order| order.user == *user);
            let cents: i64 = of().map(|order| order.cents).sum();
            (user.to_string(), format!("{} {cents}", of().count()))
        };
        users.iter().map(total).collect()
    }
}

/// A table's row as the host prints it: its key, and the columns that are compared.
pub(crate) fn row(table: &str, row: &Value) -> (String, String) {
    let text = |column: &str| match &row[column] {
        Value::Null => "null".to_owned(),
        value => value.to_string(),
    };
    let cents = |column: &str| cents(&row[column]).to_string();
    let order = |key: &str, name: Vec<String>| {
        let mut cells = vec![text("user_id")];
        cells.extend(name);
        cells.extend([text("product_id"), text("quantity"), cents("amount")]);
        (text(key), cells.join(" "))
    };
    match table {
        "orders" => order("id", Vec::new()),
        "users" => (text("id"), text("name")),
        "order_details" => order("order_id", vec![text("user_name")]),
        "product_totals" => (
            text("product_id"),
            format!("{} {} {}", text("orders"), text("units"), cents("revenue")),
        ),
        "user_totals" => (
            text("user_id"),
            format!("{} {}", text("orders"), cents("spent")),
        ),
        "audit_log" => {
            // The key is text that holds the order's number.
            let order = row["key"].as_str().unwrap().to_owned();
            (format!("{order} {}", text("version")), text("op"))
        }
        table => panic!("no table {table}"),
    }
}
