//! What the tables hold, a line a row.

use std::collections::BTreeMap;

use crate::feed::{Row, Source};

use super::{
    Model,
    deployment::Sums,
    loading::{BUCKETS, FOLLOW},
};

impl Model {
    /// Orders and amount by `slot` of a row.
    fn sums(&self, rule: &str, slot: impl Fn(i64) -> i64) -> Sums {
        self.sums_of(self.seen(rule).map(|(_, row)| row), slot)
    }

    fn sums_of<'a>(&self, rows: impl Iterator<Item = &'a Row>, slot: impl Fn(i64) -> i64) -> Sums {
        let mut sums = Sums::new();
        for row in rows {
            let sum = sums.entry(slot(row[0].unwrap_or_default())).or_default();
            *sum = (sum.0 + 1, sum.1 + row[1].unwrap_or_default());
        }
        sums
    }

    /// `totals`, as a rule of this deployment sees it: one of the same plugin sees its own.
    pub(super) fn totals(&self, place: usize) -> Sums {
        let deployment = &self.deployments[place];
        let mut own = deployment.rules.iter();
        match own.find(|rule| rule.name == "shop.totals") {
            Some(rule) => self.sums_of(rule.seen.values(), |user| user),
            None => self.sums("shop.totals", |user| user),
        }
    }

    fn followed(&self, name: &str) -> Sums {
        match self.follower(name) {
            Some((place, follower)) => {
                let frozen = &self.deployments[place].followers[follower].frozen;
                frozen.clone().unwrap_or_else(|| self.totals(place))
            }
            None => Sums::new(),
        }
    }

    fn made(&self, rule: &str) -> (BTreeMap<i64, String>, Sums) {
        let rule = self.rule(rule);
        let state = rule.map(|(place, rule)| &self.deployments[place].rules[rule]);
        state.map_or_else(Default::default, |state| {
            (state.texts.clone(), state.sums.clone())
        })
    }

    /// A table's rows, a line each, in key order.
    pub(crate) fn rows(&self, table: &str) -> Vec<String> {
        let lines = |sums: Sums, names: [&str; 3]| {
            let line = |(slot, (orders, amount))| {
                let [first, second, third] = names;
                format!("{first}={slot} {second}={orders} {third}={amount}")
            };
            sums.into_iter().map(line).collect()
        };
        let texts = |texts: BTreeMap<i64, String>| {
            let line = |(id, text)| format!("id={id}{text}");
            texts.into_iter().map(line).collect()
        };
        let by_slot = ["slot", "orders", "amount"];
        match table {
            "totals" => lines(
                self.sums("shop.totals", |user| user),
                ["user", "orders", "amount"],
            ),
            "buckets" => {
                let mut buckets = Sums::new();
                for (_, amount) in self.followed(BUCKETS).into_values() {
                    let bucket = buckets.entry(amount.div_euclid(64)).or_default();
                    *bucket = (bucket.0 + 1, bucket.1 + amount);
                }
                lines(buckets, ["bucket", "users", "amount"])
            }
            "users_total" => {
                let mut all = Sums::new();
                for (orders, amount) in self.followed(FOLLOW).into_values() {
                    let sum = all.entry(orders.rem_euclid(2)).or_default();
                    *sum = (sum.0 + 1, sum.1 + amount);
                }
                lines(all, ["odd", "users", "amount"])
            }
            "flags" => self
                .seen("shop.flags")
                .map(|(id, row)| {
                    let number = |column: usize| row[column].unwrap_or_default();
                    format!("id={id} text={}/{}", number(0), number(1))
                })
                .collect(),
            "refused" => Vec::new(),
            "shaky" => self
                .seen("enrich.shaky")
                .map(|(id, row)| format!("id={id} user={}", row[0].unwrap_or_default()))
                .collect(),
            "names" => texts(self.made("enrich.names").0),
            "standings" => texts(self.made("reader.standings").0),
            "lenient_sums" => lines(
                self.sums("lenient.sums", |user| user.rem_euclid(3)),
                by_slot,
            ),
            "late_sums" => lines(self.made("late.sums").1, by_slot),
            "tardy_sums" => lines(self.made("tardy.sums").1, by_slot),
            "counts" => lines(self.made("ledger.counts").1, ["slot", "handled", "amount"]),
            "entries" => self
                .seen("stock.entries")
                .map(|(id, row)| format!("id={id} level={}", row[0].unwrap_or_default()))
                .collect(),
            "levels" => {
                let mut levels: BTreeMap<i64, Vec<String>> = BTreeMap::new();
                for (id, row) in self.seen("stock.entries") {
                    let level = levels.entry(row[0].unwrap_or_default()).or_default();
                    level.push(id.to_string());
                }
                let line = |(level, ids): (i64, Vec<String>)| {
                    format!("level={level} ids={}", ids.join(","))
                };
                levels.into_iter().map(line).collect()
            }
            "reminded" => {
                let carts = self.find("carts", false);
                let carts = carts.and_then(|place| self.deployments[place].carts.as_ref());
                carts
                    .into_iter()
                    .flat_map(|carts| &carts.reminded)
                    .map(|(id, (times, last))| format!("id={id} times={times} last={last}"))
                    .collect()
            }
            source => {
                let mut sources = Source::ALL.into_iter();
                let source = sources.find(|known| known.name() == source);
                let source = source.expect("a table of this world");
                let rows = self.sources.get(&source).into_iter().flatten();
                rows.map(|(key, row)| line(source, *key, row)).collect()
            }
        }
    }
}

/// A source table's row as a line.
pub(super) fn line(source: Source, key: i64, row: &Row) -> String {
    let mut cells = vec![format!("id={key}")];
    for (column, value) in source.columns()[1..].iter().zip(row) {
        if let Some(value) = value {
            cells.push(format!("{column}={value}"));
        }
    }
    cells.join(" ")
}
