//! A lifelike shop that never was: an endless stream of its row changes, as JSON lines.
//!
//! The same seed and size give the same lines on every machine and in every release: all chance comes
//! from one ChaCha generator through integer arithmetic of our own. Memory is bounded by the rows that
//! are live. A few products and users are popular and most are not; time moves on through days and nights;
//! stock runs low and is filled up again.
//!
//! It knows nothing of rules or of what is derived from its rows.

mod rows;
mod words;

use std::collections::VecDeque;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

use rows::{Form, Order, Product, Row, User, line};
use words::{CITIES, FIRST_NAMES, GOODS, KINDS, LAST_NAMES};

/// 2026-01-02T08:00:00Z, a Friday.
const OPENING_MILLIS: i64 = 1_767_340_800_000;
const HOUR_MILLIS: i64 = 3_600_000;
/// Rows of which a shop keeps at least so many.
const ROWS_MIN: usize = 5;

/// An endless iterator over the shop's changes, one line each, without line ends.
#[derive(Debug)]
pub struct Shop {
    rng: ChaCha8Rng,
    millis: i64,
    users: Vec<User>,
    products: Vec<Product>,
    orders: Vec<Order>,
    last_user: i64,
    last_product: i64,
    last_order: i64,
    /// Rows that the shop opens with and that are still to come: products, users.
    opening: (u64, u64),
    /// What one event changed, to be handed out one by one.
    pending: VecDeque<String>,
}

impl Shop {
    /// A shop of a size that suits this many changes.
    pub fn new(seed: u64, changes: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            millis: OPENING_MILLIS,
            users: Vec::new(),
            products: Vec::new(),
            orders: Vec::new(),
            last_user: 0,
            last_product: 0,
            last_order: 0,
            opening: (
                (changes / 500).clamp(8, 400),
                (changes / 200).clamp(8, 1_000),
            ),
            pending: VecDeque::new(),
        }
    }

    /// A number from 0 to before `end`.
    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.rng.next_u64()) * u128::from(end)) >> 64) as u64
    }

    fn between(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from + 1) as u64) as i64
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A place in a list of `len`, the first ones far more often than the last: the smallest of three
    /// throws.
    fn popular(&mut self, len: usize) -> usize {
        let throws = [(); 3].map(|()| self.below(len as u64));
        throws.into_iter().fold(u64::MAX, u64::min) as usize
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }

    fn push<T: Row>(&mut self, before: Option<&T>, after: Option<&T>) {
        let form = match self.below(20) {
            0..=10 => Form::Rulemill,
            11..=17 => Form::Debezium,
            _ => Form::DebeziumPayload,
        };
        let whole_before = self.chance(40);
        let line = line(before, after, form, whole_before, self.millis);
        self.pending.push_back(line);
    }

    /// Lets time pass: seconds by day, minutes by night.
    fn pass_time(&mut self) {
        let hour = self.millis / HOUR_MILLIS % 24;
        let pause_millis = if hour < 7 { 400_000 } else { 80_000 };
        self.millis += self.between(1, pause_millis);
    }

    fn event(&mut self) {
        self.pass_time();
        if self.opening.0 > 0 {
            self.opening.0 -= 1;
            return self.new_product();
        }
        if self.opening.1 > 0 {
            self.opening.1 -= 1;
            return self.new_user();
        }
        match self.below(1_000) {
            0..520 => self.place_order(),
            520..680 => self.advance_order(),
            680..740 => self.change_quantity(),
            740..780 => self.move_order(),
            780..840 => self.cancel_order(),
            840..910 => self.new_user(),
            910..918 => self.rename_user(),
            918..926 => self.user_moves(),
            926..929 => self.user_leaves(),
            929..933 => self.change_price(),
            933..934 => self.rename_product(),
            934..937 => self.new_product(),
            937..938 => self.withdraw_product(),
            _ => self.restock(),
        }
    }

    fn new_user(&mut self) {
        let (first, last) = (self.pick(&FIRST_NAMES), self.pick(&LAST_NAMES));
        self.last_user += 1;
        let id = self.last_user;
        let user = User {
            id,
            name: format!("{first} {last}"),
            email: format!("customer{id}@mail.example"),
            city: self.pick(&CITIES),
        };
        self.push(None, Some(&user));
        self.users.push(user);
    }

    fn new_product(&mut self) {
        self.last_product += 1;
        let (category, goods) = GOODS[self.below(GOODS.len() as u64) as usize];
        let product = Product {
            id: self.last_product,
            name: format!("{} {}", self.pick(&KINDS), self.pick(goods)),
            category,
            price_cents: self.between(3, 150) * 100 - self.between(0, 1) * 5,
            stock: self.between(6, 30),
            reorder_below: (!self.chance(5)).then_some(self.between(5, 20)),
        };
        self.push(None, Some(&product));
        self.products.push(product);
    }

    fn change_user(&mut self, place: usize, change: impl FnOnce(&mut Self, &mut User)) {
        let before = self.users[place].clone();
        let mut after = before.clone();
        change(self, &mut after);
        self.push(Some(&before), Some(&after));
        self.users[place] = after;
    }

    fn change_product(&mut self, place: usize, change: impl FnOnce(&mut Self, &mut Product)) {
        let before = self.products[place].clone();
        let mut after = before.clone();
        change(self, &mut after);
        self.push(Some(&before), Some(&after));
        self.products[place] = after;
    }

    fn change_order(&mut self, place: usize, change: impl FnOnce(&mut Self, &mut Order)) {
        let before = self.orders[place].clone();
        let mut after = before.clone();
        change(self, &mut after);
        self.push(Some(&before), Some(&after));
        self.orders[place] = after;
    }

    fn rename_user(&mut self) {
        let place = self.popular(self.users.len());
        self.change_user(place, |shop, user| {
            let first = user.name.split(' ').next().unwrap_or_default();
            user.name = format!("{first} {}", shop.pick(&LAST_NAMES));
        });
    }

    fn user_moves(&mut self) {
        let place = self.popular(self.users.len());
        self.change_user(place, |shop, user| user.city = shop.pick(&CITIES));
    }

    fn user_leaves(&mut self) {
        if self.users.len() > ROWS_MIN {
            let place = self.below(self.users.len() as u64) as usize;
            let user = self.users.swap_remove(place);
            self.push(Some(&user), None);
        }
    }

    fn change_price(&mut self) {
        let place = self.below(self.products.len() as u64) as usize;
        self.change_product(place, |shop, product| {
            let percent = shop.between(80, 120);
            product.price_cents = (product.price_cents * percent / 100).max(50);
        });
    }

    fn rename_product(&mut self) {
        let place = self.below(self.products.len() as u64) as usize;
        self.change_product(place, |_, product| product.name.push_str(" II"));
    }

    fn withdraw_product(&mut self) {
        if self.products.len() > ROWS_MIN {
            let place = self.below(self.products.len() as u64) as usize;
            let product = self.products.swap_remove(place);
            self.push(Some(&product), None);
        }
    }

    /// A delivery: of something that is low, if anything is.
    fn restock(&mut self) {
        let is_low =
            |product: &Product| product.reorder_below.is_some_and(|low| product.stock < low);
        let low: Vec<usize> = (0..self.products.len())
            .filter(|&place| is_low(&self.products[place]))
            .collect();
        let place = match low.len() {
            0 => self.below(self.products.len() as u64) as usize,
            len => low[self.below(len as u64) as usize],
        };
        self.deliver(place);
    }

    fn deliver(&mut self, place: usize) {
        self.change_product(place, |shop, product| product.stock += shop.between(4, 12));
    }

    fn place_order(&mut self) {
        let place = self.popular(self.products.len());
        let quantity = 1 + self.popular(5) as i64;
        if self.products[place].stock < quantity {
            return self.deliver(place);
        }
        let user = self.popular(self.users.len());
        let user_id = self.users[user].id;
        self.last_order += 1;
        let order = Order {
            id: self.last_order,
            user_id,
            product_id: self.products[place].id,
            quantity,
            amount_cents: self.products[place].price_cents * quantity,
            status: "placed",
            placed_millis: self.millis,
        };
        self.push(None, Some(&order));
        self.orders.push(order);
        self.change_product(place, |_, product| product.stock -= quantity);
    }

    /// The place of an order, rather a new one than an old one.
    fn recent_order(&mut self) -> Option<usize> {
        let len = self.orders.len();
        (len > 0).then(|| len - 1 - self.popular(len))
    }

    fn product_of(&self, order: usize) -> Option<usize> {
        let id = self.orders[order].product_id;
        self.products.iter().position(|product| product.id == id)
    }

    fn advance_order(&mut self) {
        if let Some(place) = self.recent_order() {
            self.change_order(place, |_, order| {
                order.status = match order.status {
                    "placed" => "paid",
                    "paid" => "shipped",
                    _ => "delivered",
                }
            });
        }
    }

    fn change_quantity(&mut self) {
        let Some(place) = self.recent_order() else {
            return;
        };
        self.change_order(place, |shop, order| {
            let each = order.amount_cents / order.quantity;
            order.quantity = shop.between(1, 6);
            order.amount_cents = each * order.quantity;
        });
    }

    /// An order that moves to another product: the goods go back, others are taken.
    fn move_order(&mut self) {
        let Some(place) = self.recent_order() else {
            return;
        };
        let to = self.popular(self.products.len());
        let quantity = self.orders[place].quantity;
        if self.products[to].stock < quantity {
            return self.deliver(to);
        }
        if let Some(from) = self.product_of(place) {
            self.change_product(from, |_, product| product.stock += quantity);
        }
        let (product_id, price_cents) = (self.products[to].id, self.products[to].price_cents);
        self.change_order(place, |_, order| {
            order.product_id = product_id;
            order.amount_cents = price_cents * quantity;
        });
        self.change_product(to, |_, product| product.stock -= quantity);
    }

    fn cancel_order(&mut self) {
        let Some(place) = self.recent_order() else {
            return;
        };
        if let Some(product) = self.product_of(place) {
            let quantity = self.orders[place].quantity;
            self.change_product(product, |_, product| product.stock += quantity);
        }
        let order = self.orders.swap_remove(place);
        self.push(Some(&order), None);
    }
}

impl Iterator for Shop {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        // Some events find nothing to happen to.
        while self.pending.is_empty() {
            self.event();
        }
        self.pending.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn a_seed_gives_the_same_lines_everywhere() {
        let mut hash = Sha256::new();
        for line in Shop::new(1, 5_000).take(5_000) {
            hash.update(line);
            hash.update("\n");
        }
        // Recorded once. If it differs, demos with a given seed are not what they were.
        assert_eq!(
            hex::encode(hash.finalize()),
            "76f9cbd4692d06a559229b6ba7677397cef042bb812d299ce6cedef6b1a35f44"
        );
        let other: Vec<String> = Shop::new(2, 5_000).take(50).collect();
        assert_ne!(other, Shop::new(1, 5_000).take(50).collect::<Vec<_>>());
    }

    #[test]
    fn everything_that_a_shop_sees_happens() {
        let mut seen = std::collections::BTreeMap::new();
        let mut last = 0;
        for line in Shop::new(7, 20_000).take(20_000) {
            let json: serde_json::Value = serde_json::from_str(&line).unwrap();
            let (form, json) = match (json.get("payload"), json.get("table")) {
                (Some(payload), _) => ("payload", payload.clone()),
                (None, Some(_)) => ("rulemill", json),
                (None, None) => ("debezium", json),
            };
            *seen.entry(form.to_owned()).or_insert(0) += 1;
            let table = json.get("table").unwrap_or(&json["source"]["table"]);
            let kind = format!(
                "{} {}",
                table.as_str().unwrap(),
                json["op"].as_str().unwrap()
            );
            *seen.entry(kind).or_insert(0) += 1;
            let millis = json["ts_ms"].as_i64().unwrap_or_else(|| {
                json["ts"]
                    .as_str()
                    .unwrap()
                    .parse::<rulemill_wire::Timestamp>()
                    .unwrap()
                    .micros()
                    / 1_000
            });
            assert!(millis >= last, "time goes back");
            last = millis;
        }
        assert!(
            last - OPENING_MILLIS > 5 * 24 * HOUR_MILLIS,
            "only {} ms",
            last - OPENING_MILLIS
        );
        for table in ["users", "products", "orders"] {
            for op in ["insert", "update", "delete", "c", "u", "d"] {
                assert!(
                    seen.contains_key(&format!("{table} {op}")),
                    "no {op} in {table}: {seen:?}"
                );
            }
        }
        assert!(seen["rulemill"] > 5_000 && seen["debezium"] > 3_000 && seen["payload"] > 1_000);
    }
}
