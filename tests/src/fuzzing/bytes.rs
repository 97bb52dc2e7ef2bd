//! Values made of a fuzzer's bytes: any bytes make some, and a byte more or less makes others.

use rulemill_wire::{ColumnType, Date, Decimal, Json, Timestamp, Uuid, Value};

/// A fuzzer's bytes, one after the other; zeros behind their end.
pub(super) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    pub(super) fn below(&mut self, end: u8) -> u8 {
        self.byte() % end
    }

    pub(super) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(super) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A whole number; many are small, or at an end of what there is.
    pub(super) fn number(&mut self) -> i64 {
        let bytes = match self.below(4) {
            0 => 1,
            1 => 2,
            2 => 5,
            _ => 8,
        };
        let number = self
            .take(bytes)
            .iter()
            .fold(0, |n, &byte| n << 8 | u64::from(byte));
        match self.below(4) {
            0 => number as i64,
            1 => -(number as i128) as i64,
            2 => i64::MIN.wrapping_add(number as i64),
            _ => i64::MAX.wrapping_sub(number as i64),
        }
    }

    fn text(&mut self) -> String {
        let len = usize::from(self.below(12));
        String::from_utf8_lossy(self.take(len)).into_owned()
    }

    pub(super) fn ty(&mut self) -> ColumnType {
        ColumnType::ALL[usize::from(self.byte()) % ColumnType::ALL.len()]
    }

    /// A value of this type.
    pub(super) fn value(&mut self, ty: ColumnType) -> Value {
        match ty {
            ColumnType::Bool => Value::Bool(self.flag()),
            ColumnType::I64 => Value::I64(self.number()),
            ColumnType::F64 => Value::F64(match self.below(3) {
                0 => self.number() as f64,
                1 => self.number() as f64 / 1_000.0,
                _ => f64::from_bits(self.number() as u64),
            }),
            ColumnType::Decimal => {
                let scale = u32::from(self.below(29));
                let high = i128::from(self.number() >> 16) << 48;
                let mantissa = if self.flag() {
                    high
                } else {
                    i128::from(self.number())
                };
                Value::Decimal(Decimal::from_i128_with_scale(mantissa, scale))
            }
            ColumnType::Text => Value::Text(self.text()),
            ColumnType::Bytes => {
                let len = usize::from(self.below(12));
                Value::Bytes(self.take(len).to_vec())
            }
            ColumnType::Date => {
                let days = self.number() as i32 / 24;
                Date::from_days(days).map_or(Value::Date(Date::default()), Value::Date)
            }
            ColumnType::Timestamp => {
                let at = Timestamp::from_micros(self.number()).unwrap_or_default();
                Value::Timestamp(at)
            }
            ColumnType::Uuid => {
                let mut uuid = [0; 16];
                for (to, from) in uuid.iter_mut().zip(self.take(16)) {
                    *to = *from;
                }
                Value::Uuid(Uuid::from_bytes(uuid))
            }
            ColumnType::Json => Value::Json(Json::from_text(
                serde_json::json!([self.text()]).to_string(),
            )),
        }
    }
}
