//! Numbers, days and moments from text: exact, in their range, or refused.

use rulemill_wire::{ColumnType, Date, Decimal, Timestamp};

use super::value::{no, shown};

/// An integer. A number like 12.0 is one, 12.5 is not.
#[inline]
pub(super) fn i64(text: &str) -> Result<i64, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let out_of_range = || {
        format!(
            "{} is out of range: an integer lies between {} and {}",
            shown(text),
            i64::MIN,
            i64::MAX
        )
    };
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(out_of_range());
    }
    let number = decimal(text).map_err(|_| no(text, ColumnType::I64))?;
    if !number.is_integer() {
        return Err(no(text, ColumnType::I64));
    }
    i64::try_from(number.trunc()).map_err(|_| out_of_range())
}

/// A finite float.
#[inline]
pub(super) fn f64(text: &str) -> Result<f64, String> {
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E'))
    {
        return Err(no(text, ColumnType::F64));
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        Ok(_) => Err(format!("{} is out of range for an f64", shown(text))),
        Err(_) => Err(no(text, ColumnType::F64)),
    }
}

/// A decimal number, digit for digit.
#[inline]
pub(super) fn decimal(text: &str) -> Result<Decimal, String> {
    if let Some(number) = short_decimal(text.as_bytes()) {
        return Ok(number);
    }
    long_decimal(text)
}

/// Up to 18 digits with or without a point, which is nearly every decimal there is.
#[inline]
fn short_decimal(text: &[u8]) -> Option<Decimal> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let (mut mantissa, mut scale, mut point) = (0i64, 0, false);
    for &byte in digits {
        match byte {
            b'0'..=b'9' => {
                mantissa = mantissa * 10 + i64::from(byte - b'0');
                scale += u32::from(point);
            }
            b'.' if !point => point = true,
            _ => return None,
        }
    }
    // A point needs digits on both sides.
    if point && (scale == 0 || scale as usize + 1 == digits.len()) {
        return None;
    }
    Some(Decimal::new(
        if negative { -mantissa } else { mantissa },
        scale,
    ))
}

fn long_decimal(text: &str) -> Result<Decimal, String> {
    let wrong = || no(text, ColumnType::Decimal);
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (number, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], unsigned[at + 1..].parse::<i32>()),
        None => (unsigned, Ok(0)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty()
        || !all_digits(whole)
        || !all_digits(fraction)
        || (number.contains('.') && fraction.is_empty())
    {
        return Err(wrong());
    }
    let out_of_range = || {
        format!(
            "{} is out of range: a decimal holds 28 digits, 28 of them behind the point at the most",
            shown(text)
        )
    };
    let exponent = match exponent {
        Ok(exponent) => exponent,
        // Digits too many for an i32: zero stays zero, anything else is out of range.
        Err(error) => match error.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                return Err(out_of_range());
            }
            _ => return Err(wrong()),
        },
    };
    // Zeros at the end of a fraction are kept while there is room for them.
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let mut scale = i64::try_from(fraction.len()).unwrap_or(i64::MAX) - i64::from(exponent);
    let leading = digits.iter().take_while(|&&digit| digit == b'0').count();
    digits.drain(..leading);
    if digits.is_empty() {
        let scale = scale.clamp(0, 28) as u32;
        return Ok(Decimal::new(0, scale));
    }
    while (scale > 28 || digits.len() > 28) && digits.last() == Some(&b'0') && scale > 0 {
        digits.pop();
        scale -= 1;
    }
    if scale > 28 || digits.len() > 29 || scale < -28 {
        return Err(out_of_range());
    }
    let mut mantissa = 0i128;
    for digit in digits {
        mantissa = mantissa * 10 + i128::from(digit - b'0');
    }
    while scale < 0 {
        mantissa = mantissa.checked_mul(10).ok_or_else(out_of_range)?;
        scale += 1;
    }
    if negative {
        mantissa = -mantissa;
    }
    Decimal::try_from_i128_with_scale(mantissa, scale as u32).map_err(|_| out_of_range())
}

fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0, |number, &byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + u32::from(byte - b'0'))
    })
}

/// A day as `YYYY-MM-DD`.
pub(super) fn date(text: &str) -> Option<Date> {
    let bytes = text.as_bytes();
    if let [_, _, _, _, b'-', _, _, b'-', _, _] = bytes {
        let year = digits(&bytes[..4])?.cast_signed();
        return Date::from_ymd(year, digits(&bytes[5..7])?, digits(&bytes[8..])?);
    }
    // Years beyond four digits are rare enough for the general way.
    text.parse().ok()
}

/// A moment; the usual form in UTC is read here, all others by the wire types.
pub(super) fn timestamp(text: &str) -> Option<Timestamp> {
    usual_timestamp(text.as_bytes()).or_else(|| text.parse().ok())
}

/// `YYYY-MM-DDTHH:MM:SS[.ffffff]Z`.
fn usual_timestamp(bytes: &[u8]) -> Option<Timestamp> {
    let (bytes, b'Z') = bytes
        .split_at_checked(bytes.len().checked_sub(1)?)
        .map(|(a, b)| (a, b[0]))?
    else {
        return None;
    };
    let [
        _,
        _,
        _,
        _,
        b'-',
        _,
        _,
        b'-',
        _,
        _,
        b'T',
        _,
        _,
        b':',
        _,
        _,
        b':',
        _,
        _,
        fraction @ ..,
    ] = bytes
    else {
        return None;
    };
    let micros = match fraction {
        [] => 0,
        [b'.', places @ ..] if (1..=6).contains(&places.len()) => {
            digits(places)? * 10u32.pow(6 - places.len() as u32)
        }
        _ => return None,
    };
    let date = Date::from_ymd(
        digits(&bytes[..4])?.cast_signed(),
        digits(&bytes[5..7])?,
        digits(&bytes[8..10])?,
    )?;
    let (hour, minute, second) = (
        digits(&bytes[11..13])?,
        digits(&bytes[14..16])?,
        digits(&bytes[17..19])?,
    );
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = i64::from(date.days()) * 86_400 + i64::from(hour * 3_600 + minute * 60 + second);
    Timestamp::from_micros(seconds * 1_000_000 + i64::from(micros))
}
