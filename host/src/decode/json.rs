//! The two JSON forms.
//!
//! `rulemill`: `{"table":..,"op":"insert|update|upsert|delete|truncate","before":{..},"after":{..},"ts":..}`.
//! `debezium`: [the envelope](https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-change-events-value),
//! bare or under `payload`; its table is `source.table`, its time `source.ts_ms`, else `ts_ms`.

use std::borrow::Cow;

use rulemill_wire::{Timestamp, ValueRef};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer as _, Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    catalog::{SharedCatalog, Table},
    change::RawOp,
    config::Format,
    row::RowBuilder,
};

use super::{
    Decoder, Dialect, KnownColumn, Pending, Reason, connect, intern,
    value::{ColumnSeed, Target},
};

/// The keys of both forms; what else stands there is passed over.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default)]
    schema: Option<&'a RawValue>,
    #[serde(borrow, default)]
    table: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    op: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    before: Option<&'a RawValue>,
    #[serde(borrow, default)]
    after: Option<&'a RawValue>,
    #[serde(borrow, default)]
    source: Option<Source<'a>>,
    #[serde(borrow, default)]
    ts: Option<Cow<'a, str>>,
    #[serde(default)]
    ts_ms: Option<i64>,
}

#[derive(Deserialize)]
struct Source<'a> {
    #[serde(borrow, default)]
    table: Option<Cow<'a, str>>,
    #[serde(default)]
    ts_ms: Option<i64>,
}

fn parse_error(error: &serde_json::Error) -> Reason {
    let text = format!("not a change: {error}");
    if error.is_data() {
        Reason::unfit(text)
    } else {
        Reason::malformed(format!("malformed JSON: {error}"))
    }
}

impl Decoder {
    pub(super) fn json(&mut self, text: &str, format: Option<Format>) -> Result<(), Reason> {
        if text == "null" {
            return Ok(());
        }
        if !text.starts_with('{') {
            return Err(Reason::malformed(
                "a change is a JSON object on a line of its own",
            ));
        }
        let mut line: Line<'_> = serde_json::from_str(text).map_err(|error| parse_error(&error))?;
        let mut enveloped = false;
        if let Some(payload) = line.payload.filter(|_| line.op.is_none()) {
            if payload.get() == "null" {
                return Ok(());
            }
            let schema = line.schema;
            line = serde_json::from_str(payload.get()).map_err(|error| parse_error(&error))?;
            line.schema = schema;
            enveloped = true;
        }
        let debezium = match format {
            Some(Format::Debezium) => true,
            Some(Format::Rulemill) => false,
            Some(Format::Csv) => {
                return Err(Reason::malformed("a JSON line where CSV was expected"));
            }
            None => enveloped || (line.table.is_none() && line.source.is_some()),
        };
        if debezium {
            self.debezium(&line)
        } else {
            self.rulemill(&line)
        }
    }

    fn rulemill(&mut self, line: &Line<'_>) -> Result<(), Reason> {
        let table = line.table.as_deref().ok_or_else(|| {
            Reason::unfit("the change has no \"table\" (nor, as Debezium's would, a \"source\")")
        })?;
        let op = match line.op.as_deref() {
            Some("insert") => RawOp::Insert,
            Some("update") => RawOp::Update,
            Some("upsert") => RawOp::Upsert,
            Some("delete") => RawOp::Delete,
            Some("truncate") => RawOp::Truncate,
            Some(other) => {
                return Err(Reason::unfit(format!(
                    "table {table}: unknown op {other:?}: insert, update, upsert, delete or truncate"
                )));
            }
            None => {
                return Err(Reason::unfit(format!(
                    "table {table}: the change has no \"op\""
                )));
            }
        };
        let time = line
            .ts
            .as_deref()
            .map(|ts| {
                ts.parse::<Timestamp>()
                    .map(Timestamp::micros)
                    .map_err(|error| {
                        Reason::unfit(format!("table {table}: \"ts\" is {ts:?}: {error}"))
                    })
            })
            .transpose()?;
        let table = self.table(table)?;
        self.change(&table, op, line, Dialect::Rulemill, time, None)
    }

    fn debezium(&mut self, line: &Line<'_>) -> Result<(), Reason> {
        let source = line.source.as_ref();
        let table = source
            .and_then(|source| source.table.as_deref())
            .ok_or_else(|| {
                Reason::unfit("the Debezium change has no \"source\" with a \"table\"")
            })?;
        let op = match line.op.as_deref() {
            Some("c") => RawOp::Insert,
            Some("u") => RawOp::Update,
            Some("d") => RawOp::Delete,
            Some("r") => RawOp::Read,
            Some("t") => RawOp::Truncate,
            // A message that the source's application put into its log is no row.
            Some("m") => return Ok(()),
            Some(other) => {
                return Err(Reason::unfit(format!(
                    "table {table}: unknown Debezium op {other:?}: c, u, d, r or t"
                )));
            }
            None => {
                return Err(Reason::unfit(format!(
                    "table {table}: the change has no \"op\""
                )));
            }
        };
        let millis = source.and_then(|source| source.ts_ms).or(line.ts_ms);
        let time = millis
            .map(|millis| {
                millis
                    .checked_mul(1_000)
                    .filter(|&micros| Timestamp::from_micros(micros).is_some())
                    .ok_or_else(|| {
                        Reason::unfit(format!("table {table}: \"ts_ms\" {millis} is out of range"))
                    })
            })
            .transpose()?;
        let table = self.table(table)?;
        let schema = match line.schema {
            Some(schema) => self.connect.of(schema.get())?,
            None => None,
        };
        self.change(&table, op, line, Dialect::Debezium, time, schema.as_deref())
    }

    fn change(
        &mut self,
        table: &Table,
        op: RawOp,
        line: &Line<'_>,
        dialect: Dialect,
        time: Option<i64>,
        schema: Option<&connect::Schema>,
    ) -> Result<(), Reason> {
        if op == RawOp::Truncate {
            let end = self.buffer.len();
            self.push(Pending {
                table: table.id,
                op,
                key: end..end,
                old_key: None,
                before: None,
                after: None,
                time,
            });
            return Ok(());
        }
        let missing = |what: &str| {
            Reason::unfit(format!(
                "table {}: the change has no \"{what}\"",
                table.name
            ))
        };
        let mut before_key = None;
        let mut before = None;
        let old = match op {
            // What a delete of our own form brings in `after` will do to name the row.
            RawOp::Delete => Some(
                line.before
                    .or(line.after)
                    .ok_or_else(|| missing("before"))?,
            ),
            RawOp::Insert | RawOp::Read => None,
            _ => line.before,
        };
        if let Some(old) = old {
            let columns = self.row(table, old.get(), dialect, schema)?;
            before_key = Some(self.finish_key(table)?);
            // Under replica identity DEFAULT only the key comes: the mirror knows the rest.
            if columns > table.key.len() {
                before = Some(self.finish_row(table)?);
            }
        }
        let mut after = None;
        let mut after_key = None;
        if op != RawOp::Delete {
            let new = line.after.ok_or_else(|| missing("after"))?;
            self.row(table, new.get(), dialect, schema)?;
            after_key = Some(self.finish_key(table)?);
            after = Some(self.finish_row(table)?);
        }
        let moved = match (&before_key, &after_key) {
            (Some(old), Some(new)) => self.buffer[old.clone()] != self.buffer[new.clone()],
            _ => false,
        };
        if !table.mirror && before.is_none() && matches!(op, RawOp::Update | RawOp::Delete) {
            return Err(Reason::unfit(format!(
                "table {}: the change has no whole \"before\", and the table keeps no rows to take it from (mirror = false)",
                table.name
            )));
        }
        let (key, old_key) = match (after_key, before_key) {
            (Some(new), old) => (new, old.filter(|_| moved)),
            (None, Some(old)) => (old, None),
            (None, None) => return Err(missing("after")),
        };
        self.push(Pending {
            table: table.id,
            op,
            key,
            old_key,
            before,
            after,
            time,
        });
        Ok(())
    }

    /// Reads a row object into the builder and gives how many columns it has.
    fn row(
        &mut self,
        table: &Table,
        text: &str,
        dialect: Dialect,
        schema: Option<&connect::Schema>,
    ) -> Result<usize, Reason> {
        self.builder.clear();
        let mut order = std::mem::take(self.order(table));
        let mut reason = None;
        let visitor = RowVisitor {
            table,
            catalog: &self.catalog,
            columns_max: self.limits.table_columns_max,
            builder: &mut self.builder,
            order: &mut order,
            dialect,
            schema,
            reason: &mut reason,
        };
        let mut json = serde_json::Deserializer::from_str(text);
        let result = json.deserialize_map(visitor);
        *self.order(table) = order;
        result.map_err(|error| {
            reason.unwrap_or_else(|| Reason::unfit(format!("table {}: {error}", table.name)))
        })
    }
}

struct RowVisitor<'r> {
    table: &'r Table,
    catalog: &'r SharedCatalog,
    columns_max: usize,
    builder: &'r mut RowBuilder,
    order: &'r mut Vec<KnownColumn>,
    dialect: Dialect,
    schema: Option<&'r connect::Schema>,
    reason: &'r mut Option<Reason>,
}

impl RowVisitor<'_> {
    /// The place in `order` of the column that comes now, which mostly is where it was in the row before.
    fn place(&mut self, name: &str, seen: usize) -> Result<usize, Reason> {
        if let Some(known) = self.order.get(seen)
            && known.name == name
        {
            return Ok(seen);
        }
        if let Some(place) = self.order.iter().position(|known| known.name == name) {
            if place < seen {
                // Told apart from a duplicate by the caller, who knows what has been set.
                return Ok(place);
            }
            self.order.swap(seen, place);
            return Ok(seen);
        }
        let known = intern(self.catalog, self.table, name, self.columns_max)?;
        let place = seen.min(self.order.len());
        self.order.insert(place, known);
        Ok(place)
    }
}

impl<'de> Visitor<'de> for RowVisitor<'_> {
    /// How many columns there were.
    type Value = usize;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a row as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<usize, A::Error> {
        let mut seen = 0;
        while let Some(name) = map.next_key_seed(NameSeed)? {
            let place = match self.place(&name, seen) {
                Ok(place) => place,
                Err(reason) => {
                    *self.reason = Some(reason);
                    return Err(A::Error::custom("a column"));
                }
            };
            if place < seen {
                *self.reason = Some(Reason::unfit(format!(
                    "table {}: column {name} stands twice in one row",
                    self.table.name
                )));
                return Err(A::Error::custom("a column twice"));
            }
            seen += 1;
            let column = &self.order[place];
            let logical = self.schema.and_then(|schema| schema.column(&column.name));
            let target = Target {
                table: &self.table.name,
                column: &column.name,
                id: column.id,
                ty: column.ty,
                dialect: self.dialect,
                logical,
            };
            map.next_value_seed(ColumnSeed {
                target,
                builder: self.builder,
                reason: self.reason,
            })?;
            if !column.nullable
                && column.ty.is_some()
                && matches!(self.builder.get(column.id), Ok(ValueRef::Null))
            {
                *self.reason = Some(Reason::unfit(format!(
                    "table {}: column {} can't be null",
                    self.table.name, column.name
                )));
                return Err(A::Error::custom("null"));
            }
        }
        Ok(seen)
    }
}

/// Reads a key without copying it where it has no escapes.
struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a column's name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(name))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(name.to_owned()))
            }
        }
        json.deserialize_str(NameVisitor)
    }
}
