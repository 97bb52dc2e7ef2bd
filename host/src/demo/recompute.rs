//! What the `shop` plugin's tables must hold, worked out from the raw lines by other means: maps over
//! parsed JSON, joined and summed once at the end.
//!
//! Shares no code with the SDK, the plugin, the decoder or the engine; only the types of values.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use anyhow::{Context, Result, anyhow, bail};
use rulemill_wire::{Decimal, Timestamp, Value};
use serde_json::{Map, Value as Json};

/// A row: its columns by name.
pub type Row = BTreeMap<String, Value>;

/// A table's rows, by their key, which in this shop is always one integer.
pub type Rows = BTreeMap<i64, Row>;

/// Every derived table by name.
pub type Tables = BTreeMap<String, Rows>;

type SourceRow = Map<String, Json>;

/// The shop's rows as they are after the changes so far, and what can't be seen from them any more.
#[derive(Debug, Default)]
pub struct Recomputation {
    users: HashMap<i64, SourceRow>,
    products: HashMap<i64, SourceRow>,
    orders: HashMap<i64, SourceRow>,
    /// Products that were ever ordered: they keep a row of zeros.
    ordered: HashSet<i64>,
    /// Products that are low, and since when.
    low_since: HashMap<i64, Timestamp>,
    /// Times that a product became low.
    pub warnings: u64,
}

/// A line's change, whatever its form.
struct Change {
    table: String,
    id: i64,
    after: Option<SourceRow>,
    time: Timestamp,
}

impl Recomputation {
    /// Takes the next line.
    ///
    /// # Errors
    /// If the line is no change of the shop.
    pub fn apply(&mut self, line: &str) -> Result<()> {
        let change = read(line).with_context(|| format!("recomputing: {line}"))?;
        let rows = match &*change.table {
            "users" => &mut self.users,
            "products" => &mut self.products,
            "orders" => &mut self.orders,
            other => bail!("recomputing: the shop has no table {other}"),
        };
        match &change.after {
            Some(row) => rows.insert(change.id, row.clone()),
            None => rows.remove(&change.id),
        };
        match (&*change.table, &change.after) {
            ("orders", Some(order)) => {
                self.ordered.insert(integer(order, "product_id")?);
            }
            ("products", product) => self.watch_stock(&change, product.as_ref())?,
            _ => {}
        }
        Ok(())
    }

    fn watch_stock(&mut self, change: &Change, product: Option<&SourceRow>) -> Result<()> {
        let low = match product {
            Some(product) => match product.get("reorder_below").and_then(Json::as_i64) {
                Some(threshold) => integer(product, "stock")? < threshold,
                None => false,
            },
            None => false,
        };
        if !low {
            self.low_since.remove(&change.id);
        } else if let std::collections::hash_map::Entry::Vacant(entry) =
            self.low_since.entry(change.id)
        {
            entry.insert(change.time);
            self.warnings += 1;
        }
        Ok(())
    }

    /// The derived tables as they must be now.
    ///
    /// # Errors
    /// If a row lacks a column.
    pub fn tables(&self) -> Result<Tables> {
        Ok(BTreeMap::from([
            ("order_details".to_owned(), self.order_details()?),
            ("product_totals".to_owned(), self.product_totals()?),
            ("user_totals".to_owned(), self.user_totals()?),
            ("low_stock".to_owned(), self.low_stock()?),
        ]))
    }

    fn order_details(&self) -> Result<Rows> {
        let details = self.orders.iter().map(|(&id, order)| {
            let (user_id, product_id) = (integer(order, "user_id")?, integer(order, "product_id")?);
            let user = self.users.get(&user_id);
            let product = self.products.get(&product_id);
            let text = |row: Option<&SourceRow>, column: &str| match row {
                Some(row) => Ok::<_, anyhow::Error>(Value::Text(text(row, column)?)),
                None => Ok(Value::Null),
            };
            let price = match product {
                Some(product) => Value::Decimal(decimal(product, "price")?),
                None => Value::Null,
            };
            let detail = row([
                ("order_id", Value::I64(id)),
                ("user_id", Value::I64(user_id)),
                ("user_name", text(user, "name")?),
                ("city", text(user, "city")?),
                ("product_id", Value::I64(product_id)),
                ("product_name", text(product, "name")?),
                ("price_today", price),
                ("quantity", Value::I64(integer(order, "quantity")?)),
                ("amount", Value::Decimal(decimal(order, "amount")?)),
                ("status", text(Some(order), "status")?),
            ]);
            Ok((id, detail))
        });
        details.collect()
    }

    fn product_totals(&self) -> Result<Rows> {
        let mut totals: BTreeMap<i64, (i64, i64, Decimal)> = self
            .ordered
            .iter()
            .map(|&id| (id, Default::default()))
            .collect();
        for order in self.orders.values() {
            let total = totals.entry(integer(order, "product_id")?).or_default();
            total.0 += 1;
            total.1 += integer(order, "quantity")?;
            total.2 += decimal(order, "amount")?;
        }
        let rows = totals.into_iter().map(|(id, (orders, units, revenue))| {
            let total = row([
                ("product_id", Value::I64(id)),
                ("orders", Value::I64(orders)),
                ("units", Value::I64(units)),
                ("revenue", Value::Decimal(revenue)),
            ]);
            (id, total)
        });
        Ok(rows.collect())
    }

    fn user_totals(&self) -> Result<Rows> {
        let mut totals: BTreeMap<i64, (i64, Decimal)> = BTreeMap::new();
        for order in self.orders.values() {
            let total = totals.entry(integer(order, "user_id")?).or_default();
            total.0 += 1;
            total.1 += decimal(order, "amount")?;
        }
        let rows = totals.into_iter().map(|(id, (orders, spent))| {
            let total = row([
                ("user_id", Value::I64(id)),
                ("orders", Value::I64(orders)),
                ("spent", Value::Decimal(spent)),
            ]);
            (id, total)
        });
        Ok(rows.collect())
    }

    fn low_stock(&self) -> Result<Rows> {
        let rows = self.low_since.iter().map(|(&id, &since)| {
            let product = self
                .products
                .get(&id)
                .ok_or_else(|| anyhow!("product {id} is gone"))?;
            let low = row([
                ("product_id", Value::I64(id)),
                ("name", Value::Text(text(product, "name")?)),
                ("stock", Value::I64(integer(product, "stock")?)),
                ("since", Value::Timestamp(since)),
            ]);
            Ok((id, low))
        });
        rows.collect()
    }
}

fn row<const N: usize>(columns: [(&str, Value); N]) -> Row {
    columns.map(|(name, value)| (name.to_owned(), value)).into()
}

fn read(line: &str) -> Result<Change> {
    let json: Json = serde_json::from_str(line)?;
    let envelope = json.get("payload").unwrap_or(&json);
    let side = |name: &str| envelope.get(name).and_then(Json::as_object);
    let row = side("after")
        .or(side("before"))
        .context("neither before nor after")?;
    let table = match envelope.get("table") {
        Some(table) => table,
        None => &envelope["source"]["table"],
    };
    let time = match (envelope.get("ts"), envelope.get("ts_ms")) {
        (Some(Json::String(ts)), _) => ts.parse()?,
        (_, Some(millis)) => millis
            .as_i64()
            .and_then(|millis| Timestamp::from_micros(millis * 1_000))
            .context("ts_ms is no time")?,
        _ => bail!("no time"),
    };
    Ok(Change {
        table: table.as_str().context("no table")?.to_owned(),
        id: integer(row, "id")?,
        after: side("after").cloned(),
        time,
    })
}

fn integer(row: &SourceRow, column: &str) -> Result<i64> {
    row.get(column)
        .and_then(Json::as_i64)
        .with_context(|| format!("column {column} holds no integer"))
}

fn text(row: &SourceRow, column: &str) -> Result<String> {
    row.get(column)
        .and_then(Json::as_str)
        .map(str::to_owned)
        .with_context(|| format!("column {column} holds no text"))
}

/// An amount, given as a number or as text. Cents survive the way through a float.
fn decimal(row: &SourceRow, column: &str) -> Result<Decimal> {
    let text = match row.get(column) {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Number(number)) => number.to_string(),
        _ => bail!("column {column} holds no amount"),
    };
    Ok(text.parse()?)
}

/// A row that is not as it must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The table.
    pub table: String,
    /// The row's key.
    pub key: i64,
    /// What must be there; `None` for no row.
    pub expected: Option<Row>,
    /// What is there.
    pub found: Option<Row>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {}, key {}: ", self.table, self.key)?;
        match (&self.expected, &self.found) {
            (Some(expected), Some(found)) => {
                let columns = expected
                    .keys()
                    .chain(found.keys().filter(|name| !expected.contains_key(*name)));
                let mut separator = "";
                for name in columns {
                    let (expected, found) = (expected.get(name), found.get(name));
                    if expected != found {
                        let show = |value: Option<&Value>| value.map_or("no column".into(), show);
                        write!(
                            f,
                            "{separator}{name}: expected {}, found {}",
                            show(expected),
                            show(found)
                        )?;
                        separator = "; ";
                    }
                }
                Ok(())
            }
            (Some(_), None) => write!(f, "expected a row, found none"),
            (None, _) => write!(f, "expected no row, found one"),
        }
    }
}

/// A value for people.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(v) => v.to_string(),
        Value::I64(v) => v.to_string(),
        Value::F64(v) => v.to_string(),
        Value::Decimal(v) => format!("{v:.2}"),
        Value::Text(v) => v.clone(),
        Value::Bytes(v) => hex::encode(v),
        Value::Date(v) => v.to_string(),
        Value::Timestamp(v) => v.to_string(),
        Value::Uuid(v) => v.to_string(),
        Value::Json(v) => v.as_str().to_owned(),
    }
}

/// Every row of a table that is not as it must be, in the order of the keys.
pub fn differences(table: &str, expected: &Rows, found: &Rows) -> Vec<Difference> {
    let keys = expected
        .keys()
        .chain(found.keys().filter(|key| !expected.contains_key(*key)));
    let mut keys: Vec<i64> = keys.copied().collect();
    keys.sort_unstable();
    keys.into_iter()
        .filter(|key| expected.get(key) != found.get(key))
        .map(|key| Difference {
            table: table.to_owned(),
            key,
            expected: expected.get(&key).cloned(),
            found: found.get(&key).cloned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(lines: &[&str]) -> Tables {
        let mut recomputation = Recomputation::default();
        for line in lines {
            recomputation.apply(line).unwrap();
        }
        recomputation.tables().unwrap()
    }

    fn shown(rows: &Rows) -> Vec<String> {
        rows.values()
            .map(|row| {
                row.iter()
                    .map(|(name, value)| format!("{name}={}", show(value)))
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect()
    }

    const USER: &str = r#"{"table":"users","op":"insert","after":{"id":1,"name":"Ada","city":"Graz"},"ts":"2026-01-02T08:00:00Z"}"#;
    const LOW: &str = r#"{"payload":{"before":null,"after":{"id":7,"name":"Kettle","price":"9.50","stock":2,"reorder_below":3},"source":{"table":"products"},"op":"c","ts_ms":1767340800000}}"#;
    const ORDER: &str = r#"{"table":"orders","op":"insert","after":{"id":1,"user_id":1,"product_id":7,"quantity":2,"amount":19.00,"status":"paid"},"ts":"2026-01-02T08:00:01Z"}"#;
    const MOVED: &str = r#"{"before":null,"after":{"id":1,"user_id":1,"product_id":8,"quantity":1,"amount":"4.25","status":"paid"},"source":{"table":"orders"},"op":"u","ts_ms":1767340802000}"#;
    const GONE: &str =
        r#"{"table":"orders","op":"delete","before":{"id":1},"ts":"2026-01-02T08:00:03Z"}"#;

    #[test]
    fn tables_follow_the_lines() {
        let now = tables(&[USER, LOW, ORDER]);
        assert_eq!(
            shown(&now["order_details"]),
            [
                "amount=19.00 city=Graz order_id=1 price_today=9.50 product_id=7 product_name=Kettle quantity=2 \
              status=paid user_id=1 user_name=Ada"
            ]
        );
        assert_eq!(
            shown(&now["low_stock"]),
            ["name=Kettle product_id=7 since=2026-01-02T08:00:00Z stock=2"]
        );
        let now = tables(&[USER, LOW, ORDER, MOVED]);
        assert_eq!(
            shown(&now["product_totals"]),
            [
                "orders=0 product_id=7 revenue=0.00 units=0",
                "orders=1 product_id=8 revenue=4.25 units=1"
            ]
        );
        assert_eq!(
            shown(&now["user_totals"]),
            ["orders=1 spent=4.25 user_id=1"]
        );
        let now = tables(&[USER, LOW, ORDER, MOVED, GONE]);
        assert!(now["order_details"].is_empty() && now["user_totals"].is_empty());
    }

    #[test]
    fn stock_warns_once_until_it_was_filled_up() {
        let stock = |stock: i64, second: u32| {
            format!(
                r#"{{"table":"products","op":"upsert","after":{{"id":7,"name":"K","price":1,"stock":{stock},"reorder_below":3}},"ts":"2026-01-02T08:00:{second:02}Z"}}"#
            )
        };
        let mut recomputation = Recomputation::default();
        for (second, pieces) in [(1, 5), (2, 2), (3, 1), (4, 3), (5, 0)] {
            recomputation.apply(&stock(pieces, second)).unwrap();
        }
        assert_eq!(recomputation.warnings, 2);
        let since = &recomputation.tables().unwrap()["low_stock"][&7]["since"];
        assert_eq!(show(since), "2026-01-02T08:00:05Z");
    }

    #[test]
    fn differences_are_found_and_told() {
        let total = |orders| {
            row([
                ("orders", Value::I64(orders)),
                ("revenue", Value::Decimal(Decimal::new(100, 2))),
            ])
        };
        let expected = Rows::from([(1, total(1)), (2, total(2)), (3, total(3))]);
        let mut same = total(1);
        same.insert("revenue".into(), Value::Decimal(1.into()));
        let found = Rows::from([(1, same), (2, total(5)), (4, total(4))]);
        let told: Vec<String> = differences("totals", &expected, &found)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            told,
            [
                "table totals, key 2: orders: expected 2, found 5",
                "table totals, key 3: expected a row, found none",
                "table totals, key 4: expected no row, found one",
            ]
        );
    }
}
