//! What a line of JSON says, as `serde_json` reads it: against this a change that was taken is held.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use rulemill::{
    catalog::{Catalog, Column, Table},
    change::{RawChange, RawOp},
    decode::Format,
    row,
};
use rulemill_wire::{Reader, ValueRef, key};
use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    reading::{Meant, json_says, micros},
    tables,
};

/// A JSON object's names and values in order, as they stand there. A name may be no text.
struct Pairs<'t>(Vec<(Vec<u8>, &'t str)>);

/// A name; an escape in it may stand for no character.
struct Name(Vec<u8>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Name, E> {
                Ok(Name(bytes.to_vec()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Name, E> {
                Ok(Name(text.as_bytes().to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Pairs<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, value)) = map.next_entry::<Name, &RawValue>()? {
                    pairs.push((name.0, value.get()));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<'t> Pairs<'t> {
    fn of(raw: &'t str) -> Self {
        serde_json::from_str(raw).unwrap_or_else(|error| panic!("taken, but {error}: {raw}"))
    }

    /// The value with this name, unless it is null.
    fn get(&self, name: &str) -> Option<&'t str> {
        let mut found = self.0.iter().filter(|(have, _)| have == name.as_bytes());
        let value = found.next()?.1;
        assert!(found.next().is_none(), "taken with {name} twice");
        (value != "null").then_some(value)
    }

    fn text(&self, name: &str) -> String {
        let raw = self
            .get(name)
            .unwrap_or_else(|| panic!("taken without {name}"));
        serde_json::from_str(raw).unwrap_or_else(|error| panic!("taken, but {name}: {error}"))
    }
}

/// What a line says.
pub(super) struct Line<'t> {
    table: String,
    op: RawOp,
    before: Option<&'t str>,
    after: Option<&'t str>,
    time: Option<i64>,
    schema: Schema,
    debezium: bool,
}

impl<'t> Line<'t> {
    pub(super) fn of(line: &'t str, format: Format) -> Self {
        let top = Pairs::of(line);
        match format {
            Format::Debezium => Self::debezium(top),
            _ => Self::rulemill(&top),
        }
    }

    fn rulemill(line: &Pairs<'t>) -> Self {
        for (name, _) in &line.0 {
            let known = [&b"table"[..], b"op", b"before", b"after", b"ts"];
            assert!(known.contains(&&name[..]), "taken with an unknown key");
        }
        Self {
            table: line.text("table"),
            op: match &*line.text("op") {
                "insert" => RawOp::Insert,
                "update" => RawOp::Update,
                "upsert" => RawOp::Upsert,
                "delete" => RawOp::Delete,
                "truncate" => RawOp::Truncate,
                op => panic!("taken with op {op}"),
            },
            before: line.get("before"),
            after: line.get("after"),
            time: line.get("ts").map(|_| {
                let micros = micros(&line.text("ts"), true).expect("taken with ts");
                i64::try_from(micros).unwrap()
            }),
            schema: Schema::default(),
            debezium: false,
        }
    }

    fn debezium(top: Pairs<'t>) -> Self {
        let schema = top.0.iter().rev().find(|(name, _)| name == b"schema");
        let mut schema = schema.map(|(_, raw)| *raw);
        let line = match top.get("op") {
            Some(_) => top,
            None => Pairs::of(top.get("payload").expect("taken without op")),
        };
        if schema == Some("null") {
            schema = None;
        }
        let source = Pairs::of(line.get("source").expect("taken without source"));
        let millis = source.get("ts_ms").or(line.get("ts_ms"));
        Self {
            table: source.text("table"),
            op: match &*line.text("op") {
                "c" => RawOp::Insert,
                "u" => RawOp::Update,
                "d" => RawOp::Delete,
                "r" => RawOp::Read,
                "t" => RawOp::Truncate,
                op => panic!("taken with op {op}"),
            },
            before: line.get("before"),
            after: line.get("after"),
            time: millis.map(|millis| millis.parse::<i64>().expect("taken with ts_ms") * 1_000),
            schema: schema.map(Schema::of).unwrap_or_default(),
            debezium: true,
        }
    }

    /// Checks that a change is what the line says.
    pub(super) fn check(&self, catalog: &Catalog, change: &RawChange) {
        let table = catalog.table(change.table);
        assert_eq!(table.name, self.table);
        assert!(!table.is_derived());
        assert_eq!(change.op, self.op);
        assert_eq!(change.time, self.time);
        if self.op == RawOp::Truncate {
            assert!(change.key.is_empty() && change.before.is_none() && change.after.is_none());
            return;
        }
        let before = match self.op {
            RawOp::Insert | RawOp::Read => None,
            // Rulemill's own form may name the row that goes in either.
            RawOp::Delete => self.before.or(self.after),
            _ => self.before,
        };
        let gone = self.op == RawOp::Delete;
        match (&change.after, self.after) {
            (None, _) => assert!(gone, "a row is lost"),
            (Some(row), Some(raw)) => {
                assert!(!gone);
                self.row(table, raw, row);
                self.key(table, raw, &change.key);
            }
            (Some(_), None) => panic!("a row out of nothing"),
        }
        if gone {
            self.key(table, before.expect("deleted nothing"), &change.key);
        }
        if let Some(row) = &change.before {
            self.row(table, before.expect("a row before out of nothing"), row);
        }
        match (&change.old_key, before) {
            (Some(old), Some(raw)) => {
                assert_ne!(*old, change.key);
                self.key(table, raw, old);
            }
            (Some(_), None) => panic!("an old key out of nothing"),
            (None, Some(raw)) => self.key(table, raw, &change.key),
            (None, None) => {}
        }
    }

    fn row(&self, table: &Table, raw: &str, row: &[u8]) {
        let pairs = Pairs::of(raw);
        let mut values = row::values(row);
        for column in &table.columns {
            let value = values.next().transpose().unwrap().unwrap_or(ValueRef::Null);
            let raw = pairs.get(&column.name).unwrap_or("null");
            self.says(raw, column, value);
            if let (Some(ty), Some(found)) = (column.ty, value.column_type()) {
                assert_eq!(ty, found, "column {}", column.name);
            }
            assert!(
                value != ValueRef::Null || column.nullable,
                "{}",
                column.name
            );
        }
        assert!(values.next().is_none());
        let names: HashSet<&[u8]> = table.columns.iter().map(|c| c.name.as_bytes()).collect();
        for (name, _) in &pairs.0 {
            assert!(names.contains(&name[..]), "a column is lost: {raw}");
        }
    }

    fn key(&self, table: &Table, raw: &str, bytes: &[u8]) {
        let pairs = Pairs::of(raw);
        let mut reader = Reader::new(bytes);
        for (_, column) in table.key_columns() {
            let value = key::read(column.ty.expect("a key of no type"), &mut reader).unwrap();
            let raw = pairs.get(&column.name).expect("a key out of nothing");
            self.says(raw, column, value.as_ref());
        }
        assert!(reader.is_empty());
        assert!(bytes.len() <= tables::limits().key_bytes_max);
    }

    fn says(&self, raw: &str, column: &Column, value: ValueRef<'_>) {
        let plain = if self.debezium {
            Meant::Debezium
        } else {
            Meant::Plain
        };
        let name = &column.name;
        let meant = self.schema.0.iter().rev().find(|(of, _)| of == name);
        let meant = meant.map_or(plain, |(_, meant)| *meant);
        let own = meant.own_type(raw);
        // A value whose meaning the schema tells may then be converted, which another fuzzer looks at.
        let converted = own.is_some() && column.ty.is_some_and(|ty| own != Some(ty));
        assert!(
            converted || json_says(raw, value, meant),
            "column {name}: {raw} is taken for {value:?}"
        );
        assert!(
            own.is_none() || column.ty.is_some() || value.column_type() == own,
            "column {name}: {raw} is taken for {value:?}, and its schema says otherwise"
        );
        let unavailable = raw == "\"__debezium_unavailable_value\"";
        assert!(
            !self.debezium || !unavailable,
            "taken without column {name}"
        );
    }
}

/// What a schema says of columns.
#[derive(Default)]
struct Schema(Vec<(String, Meant)>);

/// What of a schema counts.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Field {
    field: String,
    name: Option<String>,
    parameters: HashMap<String, String>,
    fields: Vec<Field>,
}

impl Schema {
    fn of(raw: &str) -> Self {
        let envelope: Field = serde_json::from_str(raw).expect("taken with a schema");
        let after = envelope.fields.iter().find(|field| field.field == "after");
        let meant = |column: &Field| {
            let meant = match column.name.as_deref()? {
                "org.apache.kafka.connect.data.Decimal" => {
                    let scale = column.parameters["scale"]
                        .parse()
                        .expect("taken with a scale");
                    Meant::Decimal(Some(scale))
                }
                "io.debezium.data.VariableScaleDecimal" => Meant::Decimal(None),
                "io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp" => {
                    Meant::Moment(1_000)
                }
                "io.debezium.time.MicroTimestamp" => Meant::Moment(1_000_000),
                "io.debezium.time.NanoTimestamp" => Meant::Moment(1_000_000_000),
                "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date" => Meant::Days,
                _ => return None,
            };
            Some((column.field.clone(), meant))
        };
        let columns = after.into_iter().flat_map(|after| &after.fields);
        Self(columns.filter_map(meant).collect())
    }
}
