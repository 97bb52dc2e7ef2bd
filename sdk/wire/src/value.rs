//! Column types and their values.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

pub use rust_decimal::Decimal;
pub use uuid::Uuid;

use crate::codec::{self, DecodeError, Reader};

/// The type of a column. The numbers are part of the wire format and of the store's row format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum ColumnType {
    /// True or false.
    Bool = 1,
    /// A signed 64-bit integer.
    I64 = 2,
    /// A 64-bit floating-point number.
    F64 = 3,
    /// An exact decimal number of up to 28 digits.
    Decimal = 4,
    /// UTF-8 text.
    Text = 5,
    /// Bytes.
    Bytes = 6,
    /// A day of the calendar.
    Date = 7,
    /// A moment, in microseconds.
    Timestamp = 8,
    /// A UUID.
    Uuid = 9,
    /// A JSON document, as text.
    Json = 10,
}

impl ColumnType {
    /// Every type.
    pub const ALL: [Self; 10] = [
        Self::Bool,
        Self::I64,
        Self::F64,
        Self::Decimal,
        Self::Text,
        Self::Bytes,
        Self::Date,
        Self::Timestamp,
        Self::Uuid,
        Self::Json,
    ];

    /// The type with this number.
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// The name used in configuration, messages and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I64 => "i64",
            Self::F64 => "f64",
            Self::Decimal => "decimal",
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::Uuid => "uuid",
            Self::Json => "json",
        }
    }

    /// Whether a column of this type can be part of a key: its values must have one total order in
    /// which equal values are the same bytes, which rules out `f64` and `json`.
    pub fn can_be_key(self) -> bool {
        !matches!(self, Self::F64 | Self::Json)
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A day of the proleptic Gregorian calendar, held as days since 1970-01-01.
///
/// ```
/// use rulemill_wire::Date;
/// let date: Date = "2026-01-31".parse()?;
/// assert_eq!((date.year(), date.month(), date.day()), (2026, 1, 31));
/// assert_eq!(date.to_string(), "2026-01-31");
/// # Ok::<(), rulemill_wire::value::ParseError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    days: i32,
}

impl Date {
    /// The day that lies `days` after 1970-01-01; `None` outside chrono's calendar (about
    /// 262,000 years either side of year 0).
    pub fn from_days(days: i32) -> Option<Self> {
        NaiveDate::from_epoch_days(days).map(|_| Self { days })
    }

    /// The day with this year, month (1 to 12) and day of the month.
    pub fn from_ymd(year: i32, month: u32, day: u32) -> Option<Self> {
        NaiveDate::from_ymd_opt(year, month, day).map(|date| Self {
            days: date.to_epoch_days(),
        })
    }

    /// Days since 1970-01-01.
    pub fn days(self) -> i32 {
        self.days
    }

    fn naive(self) -> NaiveDate {
        NaiveDate::from_epoch_days(self.days).unwrap_or_default()
    }

    /// The year.
    pub fn year(self) -> i32 {
        self.naive().year()
    }

    /// The month, 1 to 12.
    pub fn month(self) -> u32 {
        self.naive().month()
    }

    /// The day of the month, from 1.
    pub fn day(self) -> u32 {
        self.naive().day()
    }

    /// The first day of this day's month.
    pub fn first_of_month(self) -> Self {
        Self {
            days: self.days - (self.day() as i32 - 1),
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.naive())
    }
}

impl FromStr for Date {
    type Err = ParseError;

    /// Reads `YYYY-MM-DD`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        NaiveDate::from_str(text)
            .map(|date| Self {
                days: date.to_epoch_days(),
            })
            .map_err(|_| ParseError("a date as YYYY-MM-DD"))
    }
}

/// A moment, held as microseconds since 1970-01-01T00:00:00Z.
///
/// ```
/// use rulemill_wire::Timestamp;
/// let at: Timestamp = "2026-01-31T13:00:00+01:00".parse()?;
/// assert_eq!(at.to_string(), "2026-01-31T12:00:00Z");
/// assert_eq!(at.date().to_string(), "2026-01-31");
/// # Ok::<(), rulemill_wire::value::ParseError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    micros: i64,
}

impl Timestamp {
    /// The moment `micros` microseconds after 1970-01-01T00:00:00Z; `None` outside chrono's
    /// calendar.
    pub fn from_micros(micros: i64) -> Option<Self> {
        DateTime::<Utc>::from_timestamp_micros(micros).map(|_| Self { micros })
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub fn micros(self) -> i64 {
        self.micros
    }

    fn utc(self) -> DateTime<Utc> {
        DateTime::<Utc>::from_timestamp_micros(self.micros).unwrap_or_default()
    }

    /// The day in UTC.
    pub fn date(self) -> Date {
        Date {
            days: self.utc().date_naive().to_epoch_days(),
        }
    }

    /// The moment `seconds` later (earlier where negative), `None` outside the calendar.
    pub fn plus_seconds(self, seconds: i64) -> Option<Self> {
        Self::from_micros(self.micros.checked_add(seconds.checked_mul(1_000_000)?)?)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self
            .utc()
            .to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
        f.write_str(&text)
    }
}

impl FromStr for Timestamp {
    type Err = ParseError;

    /// Reads RFC 3339; a missing offset means UTC, and a space may stand for the `T`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let utc = DateTime::parse_from_rfc3339(text)
            .map(|at| at.to_utc())
            .or_else(|_| {
                chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
                    .or_else(|_| {
                        chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
                    })
                    .map(|at| at.and_utc())
            })
            .map_err(|_| ParseError("a timestamp as YYYY-MM-DDTHH:MM:SSZ"))?;
        Ok(Self {
            micros: utc.timestamp_micros(),
        })
    }
}

/// A JSON document, kept as its text.
///
/// ```
/// use rulemill_wire::Json;
/// let document = Json::from_text(r#"{"colour":"red"}"#);
/// assert_eq!(document.as_str(), r#"{"colour":"red"}"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Json {
    text: String,
}

impl Json {
    /// Wraps text that is a JSON document; it is not checked here, the host refuses a row whose
    /// text is not JSON.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// The document's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Default for Json {
    fn default() -> Self {
        Self::from_text("null")
    }
}

/// What was expected of a text that could not be read as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseError(pub &'static str);

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.0)
    }
}

impl std::error::Error for ParseError {}

/// A column's value, borrowing its text or bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueRef<'a> {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer.
    I64(i64),
    /// A floating-point number.
    F64(f64),
    /// A decimal number.
    Decimal(Decimal),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A day.
    Date(Date),
    /// A moment.
    Timestamp(Timestamp),
    /// A UUID.
    Uuid(Uuid),
    /// A JSON document's text.
    Json(&'a str),
}

/// A column's value that owns its text or bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// An integer.
    I64(i64),
    /// A floating-point number.
    F64(f64),
    /// A decimal number.
    Decimal(Decimal),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A day.
    Date(Date),
    /// A moment.
    Timestamp(Timestamp),
    /// A UUID.
    Uuid(Uuid),
    /// A JSON document.
    Json(Json),
}

impl Value {
    /// The value, borrowed.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Bool(v) => ValueRef::Bool(*v),
            Self::I64(v) => ValueRef::I64(*v),
            Self::F64(v) => ValueRef::F64(*v),
            Self::Decimal(v) => ValueRef::Decimal(*v),
            Self::Text(v) => ValueRef::Text(v),
            Self::Bytes(v) => ValueRef::Bytes(v),
            Self::Date(v) => ValueRef::Date(*v),
            Self::Timestamp(v) => ValueRef::Timestamp(*v),
            Self::Uuid(v) => ValueRef::Uuid(*v),
            Self::Json(v) => ValueRef::Json(v.as_str()),
        }
    }
}

impl<'a> ValueRef<'a> {
    /// The value's type; `None` for null.
    pub fn column_type(&self) -> Option<ColumnType> {
        Some(match self {
            Self::Null => return None,
            Self::Bool(_) => ColumnType::Bool,
            Self::I64(_) => ColumnType::I64,
            Self::F64(_) => ColumnType::F64,
            Self::Decimal(_) => ColumnType::Decimal,
            Self::Text(_) => ColumnType::Text,
            Self::Bytes(_) => ColumnType::Bytes,
            Self::Date(_) => ColumnType::Date,
            Self::Timestamp(_) => ColumnType::Timestamp,
            Self::Uuid(_) => ColumnType::Uuid,
            Self::Json(_) => ColumnType::Json,
        })
    }

    /// A copy that owns its text or bytes.
    pub fn to_owned(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(v) => Value::Bool(v),
            Self::I64(v) => Value::I64(v),
            Self::F64(v) => Value::F64(v),
            Self::Decimal(v) => Value::Decimal(v),
            Self::Text(v) => Value::Text(v.into()),
            Self::Bytes(v) => Value::Bytes(v.into()),
            Self::Date(v) => Value::Date(v),
            Self::Timestamp(v) => Value::Timestamp(v),
            Self::Uuid(v) => Value::Uuid(v),
            Self::Json(v) => Value::Json(Json::from_text(v)),
        }
    }

    /// Appends the value without any tag, in its type's wire form; null appends nothing.
    ///
    /// | type | bytes |
    /// | --- | --- |
    /// | bool | one byte, 0 or 1 |
    /// | i64, date (days), timestamp (microseconds) | zigzag variable-length integer |
    /// | f64 | 8 bytes, little-endian |
    /// | decimal | mantissa as a zigzag variable-length integer, then the scale, one byte |
    /// | text, bytes, json | length, then the bytes |
    /// | uuid | 16 bytes |
    #[inline]
    pub fn write_payload(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => {}
            Self::Bool(v) => out.push(u8::from(*v)),
            Self::I64(v) => codec::write_i64(*v, out),
            Self::F64(v) => out.extend_from_slice(&v.to_le_bytes()),
            Self::Decimal(v) => {
                codec::write_i128(v.mantissa(), out);
                out.push(v.scale() as u8);
            }
            Self::Text(v) | Self::Json(v) => codec::write_bytes(v.as_bytes(), out),
            Self::Bytes(v) => codec::write_bytes(v, out),
            Self::Date(v) => codec::write_i64(i64::from(v.days()), out),
            Self::Timestamp(v) => codec::write_i64(v.micros(), out),
            Self::Uuid(v) => out.extend_from_slice(v.as_bytes()),
        }
    }

    /// Reads a value of type `ty` as [`write_payload`](Self::write_payload) wrote it.
    ///
    /// # Errors
    /// If the bytes are no value of that type.
    #[inline]
    pub fn read_payload(ty: ColumnType, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match ty {
            ColumnType::Bool => match reader.u8()? {
                0 => Self::Bool(false),
                1 => Self::Bool(true),
                tag => return Err(DecodeError::BadTag(tag)),
            },
            ColumnType::I64 => Self::I64(reader.i64()?),
            ColumnType::F64 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(reader.take(8)?);
                Self::F64(f64::from_le_bytes(bytes))
            }
            ColumnType::Decimal => {
                let mantissa = reader.i128()?;
                let scale = u32::from(reader.u8()?);
                Self::Decimal(
                    Decimal::try_from_i128_with_scale(mantissa, scale)
                        .map_err(|_| DecodeError::OutOfRange("a decimal"))?,
                )
            }
            ColumnType::Text => Self::Text(reader.text()?),
            ColumnType::Bytes => Self::Bytes(reader.bytes()?),
            ColumnType::Date => Self::Date(
                i32::try_from(reader.i64()?)
                    .ok()
                    .and_then(Date::from_days)
                    .ok_or(DecodeError::OutOfRange("a date"))?,
            ),
            ColumnType::Timestamp => Self::Timestamp(
                Timestamp::from_micros(reader.i64()?)
                    .ok_or(DecodeError::OutOfRange("a timestamp"))?,
            ),
            ColumnType::Uuid => {
                let mut bytes = [0; 16];
                bytes.copy_from_slice(reader.take(16)?);
                Self::Uuid(Uuid::from_bytes(bytes))
            }
            ColumnType::Json => Self::Json(reader.text()?),
        })
    }

    /// Steps over a value of type `ty` and gives its bytes, checking no more than where it ends.
    ///
    /// # Errors
    /// If the bytes end inside the value.
    #[inline]
    pub fn skip_payload(ty: ColumnType, reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
        let start = reader.rest();
        match ty {
            ColumnType::Bool => {
                reader.u8()?;
            }
            ColumnType::I64 | ColumnType::Date | ColumnType::Timestamp => {
                while reader.u8()? >= 0x80 {}
            }
            ColumnType::F64 => {
                reader.take(8)?;
            }
            ColumnType::Decimal => {
                while reader.u8()? >= 0x80 {}
                reader.u8()?;
            }
            ColumnType::Text | ColumnType::Bytes | ColumnType::Json => {
                reader.bytes()?;
            }
            ColumnType::Uuid => {
                reader.take(16)?;
            }
        }
        Ok(&start[..start.len() - reader.rest().len()])
    }
}
