//! What a value's text means, read without the decoder's code: the test of whether a decoder guessed.

use std::num::IntErrorKind;

use base64::Engine as _;
use rulemill_wire::{ColumnType, Date, Decimal, Timestamp, ValueRef};

/// A number, exactly: its sign, its digits without zeros at either end, and the power of ten behind the last.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Number {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Number {
    /// The number that this text is, if it is one.
    pub(super) fn of(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let exponent: i128 = match exponent.parse() {
            Ok(exponent) => exponent,
            // Larger than any that counts.
            Err(error) if *error.kind() == IntErrorKind::PosOverflow => i128::MAX >> 1,
            Err(error) if *error.kind() == IntErrorKind::NegOverflow => i128::MIN >> 1,
            Err(_) => return None,
        };
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{part}");
        if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let without_end = all.trim_end_matches('0');
        let digits = without_end.trim_start_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self {
                negative: false,
                digits,
                exponent: 0,
            });
        }
        let shift = (all.len() - without_end.len()) as i128 - part.len() as i128;
        Some(Self {
            negative,
            digits,
            exponent: i64::try_from(exponent + shift).ok()?,
        })
    }

    /// A whole number with so many of its digits behind the point.
    pub(super) fn scaled(mantissa: i128, scale: u32) -> Option<Self> {
        Self::of(&format!("{mantissa}e-{scale}"))
    }

    fn is(&self, decimal: Decimal) -> bool {
        Self::of(&decimal.to_string()).as_ref() == Some(self)
    }
}

/// The day that a date's text is, from 1970-01-01.
fn days(text: &str) -> Option<i64> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let mut parts = rest.split('-');
    let mut part = |digits: std::ops::RangeInclusive<usize>| {
        let part = parts.next()?;
        let fits = digits.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| part.parse::<i64>().ok()).flatten()
    };
    let (year, month, day) = (sign * part(4..=6)?, part(2..=2)?, part(2..=2)?);
    let leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    let lengths = [
        31,
        28 + i64::from(leap),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let month = usize::try_from(month).ok()?.checked_sub(1)?;
    if parts.next().is_some() || !(1..=*lengths.get(month)?).contains(&day) {
        return None;
    }
    // Whole years since year 0, whose days are counted with their leap days; 719,528 of them lie before 1970.
    let before = year - 1;
    let leaps = before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) + 1;
    Some(year * 365 + leaps + lengths[..month].iter().sum::<i64>() + day - 1 - 719_528)
}

/// The moment that a text is, in microseconds; digits behind them must be zeros, or are left out if `cut`.
pub(super) fn micros(text: &str, cut: bool) -> Option<i128> {
    let at = text.find(['T', 't', ' '])?;
    let (date, time) = (days(&text[..at])?, &text[at + 1..]);
    let zone = time.find(['Z', 'z', '+', '-']).unwrap_or(time.len());
    let (time, zone) = time.split_at(zone);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let number = |text: &str, max: i128| {
        let fits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| text.parse::<i128>().ok())
            .flatten()
            .filter(|&n| n <= max)
    };
    let mut parts = clock.split(':');
    let mut seconds = number(parts.next()?, 23)? * 3_600;
    seconds += number(parts.next()?, 59)? * 60 + number(parts.next()?, 59)?;
    if parts.next().is_some()
        || fraction.is_empty()
        || !fraction.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let (kept, rest) = fraction.split_at(fraction.len().min(6));
    if !cut && rest.bytes().any(|byte| byte != b'0') {
        return None;
    }
    let offset = match zone.as_bytes() {
        [] | b"Z" | b"z" => 0,
        [sign, ..] => {
            let (hours, minutes) = zone[1..].split_once(':').unwrap_or((&zone[1..], "00"));
            let offset: i128 = number(hours, 23)? * 60 + number(minutes, 59)?;
            if *sign == b'-' { -offset } else { offset }
        }
    };
    let fraction: i128 = format!("{kept:0<6}").parse().ok()?;
    Some((i128::from(date) * 86_400 + seconds - offset * 60) * 1_000_000 + fraction)
}

/// Whether text is one JSON value.
pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// Whether a plain text, as CSV and JSON's strings have it, says this value.
pub(super) fn text_says(text: &str, value: ValueRef<'_>) -> bool {
    match value {
        ValueRef::Null => false,
        ValueRef::Bool(true) => ["true", "True", "TRUE", "t", "1"].contains(&text),
        ValueRef::Bool(false) => ["false", "False", "FALSE", "f", "0"].contains(&text),
        ValueRef::I64(value) => text.parse::<i128>() == Ok(value.into()),
        ValueRef::F64(value) if value.is_finite() => {
            text.parse::<f64>().map(f64::to_bits) == Ok(value.to_bits())
        }
        ValueRef::F64(value) => match text {
            "NaN" => value.is_nan(),
            "Infinity" => value == f64::INFINITY,
            "-Infinity" => value == f64::NEG_INFINITY,
            _ => false,
        },
        ValueRef::Decimal(value) => Number::of(text).is_some_and(|number| number.is(value)),
        ValueRef::Text(value) => text == value,
        ValueRef::Bytes(value) => base64::engine::general_purpose::STANDARD.encode(value) == text,
        ValueRef::Date(value) => days(text) == Some(value.days().into()),
        ValueRef::Timestamp(value) => micros(text, false) == Some(value.micros().into()),
        ValueRef::Uuid(value) => {
            let hex = text.strip_prefix("urn:uuid:").unwrap_or(text);
            let hex = hex
                .strip_prefix('{')
                .and_then(|hex| hex.strip_suffix('}'))
                .unwrap_or(hex);
            hex.replace('-', "").to_ascii_lowercase() == value.simple().to_string()
        }
        ValueRef::Json(value) => text == value && is_json(value),
    }
}

/// How a source's JSON is meant where that can't be told from the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meant {
    /// As it stands there.
    Plain,
    /// As Debezium writes it: days and microseconds as numbers, documents as text.
    Debezium,
    /// As Debezium's schema says: an unscaled decimal in base64.
    Decimal(Option<u32>),
    /// As its schema says: a moment in so many units a second.
    Moment(i128),
    /// As its schema says: days.
    Days,
}

impl Meant {
    /// The type that this stands for in a column that has none, if it is in the schema's form.
    pub(super) fn own_type(self, raw: &str) -> Option<ColumnType> {
        match self {
            Self::Plain | Self::Debezium => None,
            Self::Decimal(scale) => {
                let (mantissa, scale) = unscaled(raw, scale)?;
                Decimal::try_from_i128_with_scale(mantissa, scale).ok()?;
                Some(ColumnType::Decimal)
            }
            Self::Moment(a_second) => {
                let micros = i128::from(raw.parse::<i64>().ok()?) * 1_000_000;
                let whole = micros % a_second == 0;
                Timestamp::from_micros((micros / a_second).try_into().ok()?).filter(|_| whole)?;
                Some(ColumnType::Timestamp)
            }
            Self::Days => {
                Date::from_days(raw.parse().ok()?)?;
                Some(ColumnType::Date)
            }
        }
    }
}

/// Whether a JSON value says this value.
pub(super) fn json_says(raw: &str, value: ValueRef<'_>, meant: Meant) -> bool {
    if raw == "null" || value == ValueRef::Null {
        return raw == "null" && value == ValueRef::Null;
    }
    let debezium = meant != Meant::Plain;
    match (meant, value) {
        (Meant::Decimal(scale), ValueRef::Decimal(value)) if is_unscaled(raw, scale, value) => {
            return true;
        }
        (Meant::Moment(a_second), ValueRef::Timestamp(value)) => {
            if let Ok(units) = raw.parse::<i128>() {
                return units * 1_000_000 == i128::from(value.micros()) * a_second;
            }
        }
        (_, ValueRef::Json(value)) if raw == value => return true,
        _ => {}
    }
    if raw.starts_with('"') {
        let Ok(text) = serde_json::from_str::<String>(raw) else {
            return false;
        };
        // A document in a text is one in Debezium only; a text that looks like a number is a text.
        return match value {
            ValueRef::Json(_) => debezium && text_says(&text, value),
            ValueRef::Bool(_) | ValueRef::I64(_) => false,
            _ => text_says(&text, value),
        };
    }
    let is_number = raw.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    match value {
        ValueRef::Bool(value) => raw == value.to_string(),
        ValueRef::I64(_) | ValueRef::F64(_) | ValueRef::Decimal(_) => {
            is_number && text_says(raw, value)
        }
        ValueRef::Date(value) => debezium && raw.parse() == Ok(value.days()),
        ValueRef::Timestamp(value) => debezium && raw.parse() == Ok(value.micros()),
        _ => false,
    }
}

/// Whether this is a decimal as Kafka Connect writes it.
fn is_unscaled(raw: &str, scale: Option<u32>, value: Decimal) -> bool {
    let number = unscaled(raw, scale).and_then(|(mantissa, scale)| Number::scaled(mantissa, scale));
    number.is_some_and(|number| number.is(value))
}

fn unscaled(raw: &str, scale: Option<u32>) -> Option<(i128, u32)> {
    let (text, scale) = match scale {
        Some(scale) => (serde_json::from_str::<String>(raw).ok()?, scale),
        None => {
            #[derive(serde::Deserialize)]
            struct Scaled {
                scale: u32,
                value: String,
            }
            let scaled: Scaled = serde_json::from_str(raw).ok()?;
            (scaled.value, scaled.scale)
        }
    };
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .ok()?;
    let mut mantissa = 0i128;
    for (place, byte) in bytes.iter().enumerate() {
        let byte = if place == 0 {
            i128::from(*byte as i8)
        } else {
            i128::from(*byte)
        };
        mantissa = mantissa.checked_mul(256)? + byte;
    }
    (bytes.len() <= 16).then_some((mantissa, scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for days_then in (-3_000_000..3_000_000).step_by(997) {
            let date = Date::from_days(days_then).unwrap();
            assert_eq!(days(&date.to_string()), Some(days_then.into()), "{date}");
        }
        for no_day in [
            "2026-02-29",
            "1900-02-29",
            "2026-13-01",
            "2026-1-01",
            "2026-01-00",
        ] {
            assert_eq!(days(no_day), None, "{no_day}");
        }
    }

    #[test]
    fn moments_are_those_of_the_clock() {
        let at = Timestamp::from_micros(1_769_857_200_123_456).unwrap();
        for text in [
            "2026-01-31T11:00:00.123456Z",
            "2026-01-31 12:00:00.1234560+01:00",
        ] {
            assert_eq!(micros(text, false), Some(at.micros().into()), "{text}");
        }
        assert_eq!(micros("2026-01-31T11:00:00.1234567Z", false), None);
        assert_eq!(
            micros("2026-01-31T11:00:00.1234567Z", true),
            Some(at.micros().into())
        );
    }

    #[test]
    fn numbers_are_equal_however_they_are_written() {
        for (a, b) in [
            ("1.50", "15e-1"),
            ("-0.0", "0"),
            ("1200", "1.2E+3"),
            ("+7", "007"),
            ("0e-999999999999999999999999999999999999999999", "0"),
        ] {
            assert_eq!(Number::of(a), Number::of(b), "{a} {b}");
        }
        assert_ne!(Number::of("1.5"), Number::of("-1.5"));
        assert_eq!(Number::of("1_0"), None);
        assert_eq!(Number::scaled(-150, 2), Number::of("-1.5"));
    }
}
