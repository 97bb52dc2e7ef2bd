//! The outer object of a JSON change, in either form.

use std::{borrow::Cow, fmt};

use rulemill_wire::Timestamp;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    Text,
    table::{RowFacts, RowSeed, TableDecoder},
    value::{self, Scratch},
};
use crate::{change::RawOp, row::RowBuilder};

/// What a line says, apart from its rows' values.
#[derive(Default)]
pub(super) struct Envelope<'a> {
    seen: u16,
    op: Option<Text<'a>>,
    table: Option<Text<'a>>,
    ts: Option<&'a RawValue>,
    ts_ms: Option<&'a RawValue>,
    ts_us: Option<&'a RawValue>,
    source: Option<Source<'a>>,
    payload_is_null: bool,
    whole_is_null: bool,
    pub(super) schema: Option<&'a RawValue>,
    pub(super) before: Part<'a>,
    pub(super) after: Part<'a>,
    /// A key that neither form has.
    pub(super) unknown: Option<String>,
}

/// A row of the change.
#[derive(Default)]
pub(super) enum Part<'a> {
    /// Not given, or null.
    #[default]
    None,
    /// Not read yet.
    Raw(&'a RawValue),
    /// Read into its builder.
    Read(RowFacts),
}

impl Part<'_> {
    /// What was read, if nothing is left to read.
    pub(super) fn facts(self) -> Option<Option<RowFacts>> {
        match self {
            Self::None => Some(None),
            Self::Raw(_) => None,
            Self::Read(facts) => Some(Some(facts)),
        }
    }
}

/// Debezium's `source` block.
#[derive(Default)]
struct Source<'a> {
    table: Option<Text<'a>>,
    ts_ms: Option<&'a RawValue>,
    ts_us: Option<&'a RawValue>,
}

impl Envelope<'_> {
    /// Whether only Debezium writes such an envelope.
    pub(super) fn is_debezium(&self) -> bool {
        const ONLY: u16 = Field::Source.bit()
            | Field::Payload.bit()
            | Field::Schema.bit()
            | Field::TsMs.bit()
            | Field::TsUs.bit();
        self.seen & ONLY != 0
    }

    pub(super) fn is_tombstone(&self) -> bool {
        self.whole_is_null || self.payload_is_null
    }

    pub(super) fn has_schema(&self) -> bool {
        self.schema.is_some()
    }

    pub(super) fn op(&self, debezium: bool) -> Option<RawOp> {
        Some(match (self.op.as_deref()?, debezium) {
            ("c", true) | ("insert", false) => RawOp::Insert,
            ("u", true) | ("update", false) => RawOp::Update,
            ("d", true) | ("delete", false) => RawOp::Delete,
            ("r", true) => RawOp::Read,
            ("t", true) | ("truncate", false) => RawOp::Truncate,
            ("upsert", false) => RawOp::Upsert,
            _ => return None,
        })
    }

    pub(super) fn wrong_op(&self, debezium: bool) -> String {
        let known = if debezium {
            "c, u, d, r or t"
        } else {
            "insert, update, upsert, delete or truncate"
        };
        match &self.op {
            Some(op) => format!("unknown op {}: expected {known}", value::shown(op)),
            None => format!("the change has no `op`: expected {known}"),
        }
    }

    pub(super) fn table(&self, debezium: bool) -> Option<&str> {
        if debezium {
            self.source.as_ref()?.table.as_deref()
        } else {
            self.table.as_deref()
        }
    }

    /// The commit time in microseconds: for Debezium the source's own before the connector's.
    pub(super) fn time(&self, debezium: bool) -> Result<Option<i64>, String> {
        if !debezium {
            let Some(ts) = self.ts.filter(|ts| ts.get() != "null") else {
                return Ok(None);
            };
            let text: Text<'_> = serde_json::from_str::<String>(ts.get())
                .map(Cow::Owned)
                .map_err(|_| wrong_time("ts", ts.get()))?;
            return value::timestamp(&text)
                .map(|at| Some(at.micros()))
                .ok_or_else(|| wrong_time("ts", ts.get()));
        }
        let source = self.source.as_ref();
        let times = [
            ("source.ts_us", source.and_then(|s| s.ts_us), 1),
            ("source.ts_ms", source.and_then(|s| s.ts_ms), 1_000),
            ("ts_us", self.ts_us, 1),
            ("ts_ms", self.ts_ms, 1_000),
        ];
        for (name, raw, unit) in times {
            // Some connectors write 0 where the database gave no time.
            let Some(raw) = raw
                .map(RawValue::get)
                .filter(|raw| !matches!(*raw, "null" | "0"))
            else {
                continue;
            };
            return raw
                .parse::<i64>()
                .ok()
                .and_then(|number| number.checked_mul(unit))
                .and_then(Timestamp::from_micros)
                .map(|at| Some(at.micros()))
                .ok_or_else(|| wrong_time(name, raw));
        }
        Ok(None)
    }
}

fn wrong_time(name: &str, raw: &str) -> String {
    let expected = if name == "ts" {
        "a timestamp as text, like \"2026-01-31T12:00:00Z\""
    } else {
        "a number of milli- or microseconds since 1970"
    };
    format!("{name} is {}: expected {expected}", value::shown(raw))
}

#[derive(Clone, Copy)]
enum Field {
    Op,
    Table,
    Before,
    After,
    Ts,
    TsMs,
    TsUs,
    Source,
    Payload,
    Schema,
    /// Known, and of no use here.
    Passed,
    Unknown,
}

impl Field {
    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

struct FieldSeed<'s> {
    unknown: &'s mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = Field;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldSeed<'_> {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    #[inline]
    fn visit_str<E: de::Error>(self, name: &str) -> Result<Field, E> {
        Ok(match name {
            "before" => Field::Before,
            "after" => Field::After,
            "op" => Field::Op,
            "table" => Field::Table,
            "source" => Field::Source,
            "ts" => Field::Ts,
            "ts_ms" => Field::TsMs,
            "ts_us" => Field::TsUs,
            "payload" => Field::Payload,
            "schema" => Field::Schema,
            "ts_ns" | "transaction" => Field::Passed,
            other => {
                if self.unknown.is_none() {
                    *self.unknown = Some(other.to_owned());
                }
                Field::Unknown
            }
        })
    }
}

/// What the fast way reads rows with.
pub(super) struct RowReader<'s> {
    pub(super) table: &'s mut TableDecoder,
    pub(super) before: &'s mut RowBuilder,
    pub(super) after: &'s mut RowBuilder,
    pub(super) scratch: &'s mut Scratch,
    pub(super) wrong: &'s mut Option<String>,
    pub(super) debezium: bool,
}

/// Reads an envelope; its rows too if `rows` is given.
pub(super) struct EnvelopeSeed<'s, 'a> {
    pub(super) envelope: &'s mut Envelope<'a>,
    pub(super) rows: Option<RowReader<'s>>,
    /// 1 inside `payload`.
    pub(super) depth: u8,
}

impl<'de> DeserializeSeed<'de> for EnvelopeSeed<'_, 'de> {
    type Value = ();

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for EnvelopeSeed<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a change as a JSON object")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        if self.depth == 0 {
            self.envelope.whole_is_null = true;
        } else {
            self.envelope.payload_is_null = true;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let envelope = self.envelope;
        while let Some(field) = map.next_key_seed(FieldSeed {
            unknown: &mut envelope.unknown,
        })? {
            let bit = field.bit();
            if self.depth > 0 && matches!(field, Field::Payload) {
                return Err(de::Error::custom("a payload inside a payload"));
            }
            if envelope.seen & bit != 0 && !matches!(field, Field::Unknown | Field::Passed) {
                return Err(de::Error::custom("a key of the change stands there twice"));
            }
            envelope.seen |= bit;
            match field {
                Field::Op => envelope.op = map.next_value_seed(TextSeed)?,
                Field::Table => envelope.table = map.next_value_seed(TextSeed)?,
                Field::Ts => envelope.ts = Some(map.next_value()?),
                Field::TsMs => envelope.ts_ms = Some(map.next_value()?),
                Field::TsUs => envelope.ts_us = Some(map.next_value()?),
                Field::Schema => {
                    let raw: &RawValue = map.next_value()?;
                    envelope.schema = Some(raw).filter(|raw| raw.get() != "null");
                }
                Field::Source => envelope.source = map.next_value_seed(SourceSeed)?,
                Field::Payload => {
                    map.next_value_seed(EnvelopeSeed {
                        envelope,
                        rows: self.rows.take(),
                        depth: 1,
                    })?;
                }
                Field::Before => envelope.before = part(&mut map, self.rows.as_mut(), true)?,
                Field::After => envelope.after = part(&mut map, self.rows.as_mut(), false)?,
                Field::Passed | Field::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[inline]
fn part<'de, A: MapAccess<'de>>(
    map: &mut A,
    rows: Option<&mut RowReader<'_>>,
    is_before: bool,
) -> Result<Part<'de>, A::Error> {
    let Some(rows) = rows else {
        let raw: &RawValue = map.next_value()?;
        return Ok(match raw.get() {
            "null" => Part::None,
            _ => Part::Raw(raw),
        });
    };
    let seed = RowSeed {
        table: rows.table,
        row: if is_before { rows.before } else { rows.after },
        scratch: rows.scratch,
        wrong: rows.wrong,
        debezium: rows.debezium,
        schema: None,
    };
    Ok(match map.next_value_seed(seed)? {
        Some(facts) => Part::Read(facts),
        None => Part::None,
    })
}

/// Text, or null.
struct TextSeed;

impl<'de> DeserializeSeed<'de> for TextSeed {
    type Value = Option<Text<'de>>;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TextSeed {
    type Value = Option<Text<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    #[inline]
    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

struct SourceSeed;

impl<'de> DeserializeSeed<'de> for SourceSeed {
    type Value = Option<Source<'de>>;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for SourceSeed {
    type Value = Option<Source<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the source block as an object")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut source = Source::default();
        let mut unknown = Some(String::new());
        while let Some(field) = map.next_key_seed(FieldSeed {
            unknown: &mut unknown,
        })? {
            match field {
                Field::Table => source.table = map.next_value_seed(TextSeed)?,
                Field::TsMs => source.ts_ms = Some(map.next_value()?),
                Field::TsUs => source.ts_us = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Some(source))
    }
}
