//! What a plugin returns, held against a reader written from `sdk/wire/src/effects.rs`: the host takes exactly what the
//! format allows and the limits leave room for, and takes it for what it says.

use std::sync::OnceLock;

use rulemill::{
    engine::fuzzing::{CheckedEffect, EffectsCheck},
    limits::Limits,
    row,
};
use rulemill_wire::{
    ColumnType, Date, Decimal, Timestamp, Uuid, ValueRef, key,
    manifest::{Access, Column, Index, Input, Manifest, Rule, Table},
};

use super::reading::is_json;

pub(super) const WORDS: &[&[u8]] = &[
    &[0, 0, 0, 0],
    &[1, 1, 0, 1],
    &[1, 2, 0, 0],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
    b"\x02{}",
    b"\x04null",
    b"\x06\"\\ud8\"",
];

const ROW_BYTES_MAX: usize = 96;
const KEY_BYTES_MAX: usize = 40;

/// A plugin that reads `orders` and owns two tables, which together have every type.
pub(super) fn manifest() -> Manifest {
    use ColumnType::*;
    let column = |name: &str, ty, nullable| Column {
        name: name.into(),
        ty,
        nullable,
    };
    let table = |name: &str, access, columns, key, indexes| Table {
        name: name.into(),
        access,
        columns,
        key,
        indexes,
    };
    let rule = |name: &str, writes| Rule {
        name: name.into(),
        input: Input::Changes(0),
        lookups: Vec::new(),
        writes,
        notifies: true,
        sets_timers: true,
    };
    let totals = vec![
        column("name", Text, false),
        column("amount", Decimal, false),
        column("doc", Json, true),
        column("id", I64, false),
        column("weight", F64, true),
    ];
    let marks = vec![
        column("day", Date, false),
        column("token", Uuid, false),
        column("paid", Bool, true),
        column("at", Timestamp, true),
        column("blob", Bytes, false),
    ];
    let index = Index {
        columns: vec![2, 1],
    };
    Manifest {
        name: "fuzzed".into(),
        version: "1".into(),
        tables: vec![
            table(
                "orders",
                Access::Read,
                vec![column("id", I64, false)],
                vec![0],
                vec![],
            ),
            table("totals", Access::Own, totals, vec![3, 0], vec![]),
            table("marks", Access::Own, marks, vec![0, 1, 4], vec![index]),
        ],
        rules: vec![rule("one", vec![1, 2]), rule("two", vec![2])],
    }
}

/// The first byte says how many items the batch had.
pub(super) fn effects(input: &[u8]) -> bool {
    static CHECK: OnceLock<EffectsCheck> = OnceLock::new();
    let check = CHECK.get_or_init(|| {
        let limits = Limits {
            row_bytes_max: ROW_BYTES_MAX,
            key_bytes_max: KEY_BYTES_MAX,
            ..Limits::default()
        };
        EffectsCheck::new(&manifest(), limits).unwrap()
    });
    let Some((&items, bytes)) = input.split_first() else {
        return false;
    };
    let items = usize::from(items) % 5;
    let manifest = manifest();
    let mut format = Format {
        rest: bytes,
        items: items as u64,
        manifest: &manifest,
    };
    let expected = format.effects();
    let found = check.check(items, bytes);
    match (&found, &expected) {
        (Ok(found), Some(expected)) => assert_eq!(found, expected),
        (Ok(found), None) => panic!("taken against the format: {found:?}"),
        (Err(fault), Some(expected)) => panic!("refused: {fault}; but it says {expected:?}"),
        (Err(fault), None) => assert!(!fault.to_string().is_empty()),
    }
    found.is_ok()
}

/// The documented format; each part is none where the bytes break it.
struct Format<'a> {
    rest: &'a [u8],
    items: u64,
    manifest: &'a Manifest,
}

impl<'a> Format<'a> {
    fn effects(&mut self) -> Option<Vec<CheckedEffect>> {
        let mut effects = Vec::new();
        for section in [Self::write, Self::timer, Self::notification, Self::fault] {
            for _ in 0..self.unsigned()? {
                effects.push(section(self)?);
            }
        }
        self.rest.is_empty().then_some(effects)
    }

    fn write(&mut self) -> Option<CheckedEffect> {
        let number = u16::try_from(self.unsigned()?).ok()?;
        let item = self.item()?;
        let manifest = self.manifest;
        let puts = self.byte()?;
        let table = manifest.tables.get(usize::from(number))?;
        let owned = table.access == Access::Own;
        let mut key_bytes = Vec::new();
        let row = match puts {
            1 => {
                let values: Vec<ValueRef<'_>> = table
                    .columns
                    .iter()
                    .map(|column| self.column(column))
                    .collect::<Option<_>>()?;
                for &place in &table.key {
                    key::write(values[usize::from(place)], &mut key_bytes);
                }
                let last = values.iter().rposition(|value| *value != ValueRef::Null);
                let mut row = Vec::new();
                for value in &values[..last.map_or(0, |last| last + 1)] {
                    row::write_tagged(*value, &mut row);
                }
                Some(row)
            }
            0 => {
                for column in table.key_columns() {
                    key::write(self.column(column)?, &mut key_bytes);
                }
                None
            }
            _ => return None,
        };
        let fits = row.as_ref().is_none_or(|row| row.len() <= ROW_BYTES_MAX);
        (owned && fits && key_bytes.len() <= KEY_BYTES_MAX).then_some(CheckedEffect::Write {
            table: number,
            item,
            key: key_bytes,
            row,
        })
    }

    fn timer(&mut self) -> Option<CheckedEffect> {
        let rule = self.rule()?;
        self.item()?;
        let key = self.text()?.to_owned();
        let due = match self.byte()? {
            0 => None,
            1 => Some(self.signed()?),
            _ => return None,
        };
        (key.len() <= KEY_BYTES_MAX).then_some(CheckedEffect::Timer { rule, key, due })
    }

    fn notification(&mut self) -> Option<CheckedEffect> {
        let (rule, item) = (self.rule()?, self.item()?);
        let (topic, body) = (self.text()?.to_owned(), self.text()?.to_owned());
        is_json(&body).then_some(CheckedEffect::Notification {
            rule,
            item,
            topic,
            body,
        })
    }

    fn fault(&mut self) -> Option<CheckedEffect> {
        let (rule, item) = (self.rule()?, self.item()?);
        let message = self.text()?.to_owned();
        Some(CheckedEffect::Fault {
            rule,
            item,
            message,
        })
    }

    fn rule(&mut self) -> Option<u16> {
        let rule = self.unsigned()?;
        let known = rule < self.manifest.rules.len() as u64;
        known.then_some(rule as u16)
    }

    fn item(&mut self) -> Option<u32> {
        let item = self.unsigned()?;
        (item < self.items).then_some(item as u32)
    }

    fn column(&mut self, column: &Column) -> Option<ValueRef<'a>> {
        if column.nullable {
            match self.byte()? {
                0 => return Some(ValueRef::Null),
                1 => {}
                _ => return None,
            }
        }
        Some(match column.ty {
            ColumnType::Bool => match self.byte()? {
                0 => ValueRef::Bool(false),
                1 => ValueRef::Bool(true),
                _ => return None,
            },
            ColumnType::I64 => ValueRef::I64(self.signed()?),
            ColumnType::F64 => ValueRef::F64(f64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            ColumnType::Decimal => {
                let raw = self.varint(19, u128::MAX)?;
                let half = (raw >> 1) as i128;
                let mantissa = if raw & 1 == 1 { -half - 1 } else { half };
                let scale = u32::from(self.byte()?);
                if mantissa.unsigned_abs() >= 1 << 96 || scale > 28 {
                    return None;
                }
                ValueRef::Decimal(Decimal::from_i128_with_scale(mantissa, scale))
            }
            ColumnType::Text => ValueRef::Text(self.text()?),
            ColumnType::Json => ValueRef::Json(self.text().filter(|text| is_json(text))?),
            ColumnType::Bytes => ValueRef::Bytes(self.bytes()?),
            ColumnType::Date => {
                let days = i32::try_from(self.signed()?).ok()?;
                ValueRef::Date(Date::from_days(days)?)
            }
            ColumnType::Timestamp => ValueRef::Timestamp(Timestamp::from_micros(self.signed()?)?),
            ColumnType::Uuid => ValueRef::Uuid(Uuid::from_slice(self.take(16)?).ok()?),
        })
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.unsigned()?).ok()?;
        self.take(len)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn unsigned(&mut self) -> Option<u64> {
        self.varint(10, u64::MAX.into()).map(|value| value as u64)
    }

    fn signed(&mut self) -> Option<i64> {
        let raw = self.unsigned()?;
        let half = (raw >> 1) as i64;
        Some(if raw & 1 == 1 { -half - 1 } else { half })
    }

    /// Seven bits a byte, lowest first, the high bit on all but the last.
    fn varint(&mut self, bytes_max: usize, max: u128) -> Option<u128> {
        let len = self.rest.iter().position(|byte| byte & 0x80 == 0)? + 1;
        let bytes = self.take(len)?;
        let mut value = 0u128;
        for &byte in bytes.iter().rev() {
            value = value.checked_mul(128)? + u128::from(byte & 0x7f);
        }
        (len <= bytes_max && value <= max).then_some(value)
    }
}
