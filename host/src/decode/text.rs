//! Decimals, days and moments as text: exactly, or not at all.
//!
//! The libraries' own readers round what has too many digits and pass over spaces and underscores; what
//! comes from a source must be what was meant.

use rulemill_wire::{Date, Decimal, Timestamp};

/// The most digits behind a decimal's point, and the power of ten that any mantissa stays below.
const SCALE_MAX: i64 = Decimal::MAX_SCALE as i64;
const MANTISSA_MAX: u128 = (1 << 96) - 1;

/// The decimal that this text is: a sign, digits with a point among them, and an exponent if need be.
/// `None` if it is none, or has more digits than a decimal holds.
pub(super) fn decimal(text: &str) -> Option<Decimal> {
    let bytes = text.as_bytes();
    let (negative, digits) = match bytes.first()? {
        b'-' => (true, &bytes[1..]),
        b'+' => (false, &bytes[1..]),
        _ => (false, bytes),
    };
    let mut mantissa = 0u64;
    let mut point = None;
    // Eighteen digits and a point can't overflow.
    if digits.len() <= 19 {
        for (place, &byte) in digits.iter().enumerate() {
            match byte {
                b'0'..=b'9' => mantissa = mantissa * 10 + u64::from(byte - b'0'),
                b'.' if point.is_none() => point = Some(place),
                _ => return any_decimal(negative, digits),
            }
        }
        let count = digits.len() - usize::from(point.is_some());
        if count == 0 || count > 18 {
            return any_decimal(negative, digits);
        }
        let scale = point.map_or(0, |place| digits.len() - 1 - place);
        return Some(from_parts(negative, mantissa.into(), scale as u32));
    }
    any_decimal(negative, digits)
}

fn from_parts(negative: bool, mantissa: u128, scale: u32) -> Decimal {
    Decimal::from_parts(
        mantissa as u32,
        (mantissa >> 32) as u32,
        (mantissa >> 64) as u32,
        negative,
        scale,
    )
}

/// The same for any number of digits and with an exponent.
fn any_decimal(negative: bool, bytes: &[u8]) -> Option<Decimal> {
    let mut mantissa = 0u128;
    // Zeros behind the last other digit: they count only if there is room for them.
    let mut zeros = 0i64;
    let (mut digits, mut scale, mut behind_point) = (0usize, 0i64, false);
    let mut exponent = 0i64;
    for (place, &byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                digits += 1;
                scale += i64::from(behind_point);
                if byte == b'0' {
                    zeros += i64::from(mantissa > 0);
                } else {
                    mantissa = raised(mantissa, zeros + 1)? + u128::from(byte - b'0');
                    zeros = 0;
                    if mantissa > MANTISSA_MAX {
                        return None;
                    }
                }
            }
            b'.' if !behind_point => behind_point = true,
            b'e' | b'E' => {
                exponent = self::exponent(&bytes[place + 1..])?;
                break;
            }
            _ => return None,
        }
    }
    if digits == 0 {
        return None;
    }
    let scale = scale.saturating_sub(exponent);
    if mantissa == 0 {
        return Some(from_parts(false, 0, scale.clamp(0, SCALE_MAX) as u32));
    }
    // As written, if that can be held; else without the zeros at the end, which say nothing.
    if (0..=SCALE_MAX).contains(&scale)
        && let Some(mantissa) = raised(mantissa, zeros)
    {
        return Some(from_parts(negative, mantissa, scale as u32));
    }
    let power = zeros.saturating_sub(scale);
    if power >= 0 {
        return Some(from_parts(negative, raised(mantissa, power)?, 0));
    }
    let scale = power.checked_neg().filter(|&scale| scale <= SCALE_MAX)?;
    Some(from_parts(negative, mantissa, scale as u32))
}

/// A mantissa times a power of ten, if a decimal holds it.
fn raised(mantissa: u128, power: i64) -> Option<u128> {
    if mantissa == 0 {
        return Some(0);
    }
    let power = 10u128.checked_pow(u32::try_from(power).ok()?)?;
    mantissa
        .checked_mul(power)
        .filter(|&mantissa| mantissa <= MANTISSA_MAX)
}

/// An exponent; one that is too large for anything counts as very large.
fn exponent(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes.first()? {
        b'-' => (true, &bytes[1..]),
        b'+' => (false, &bytes[1..]),
        _ => (false, bytes),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0i64;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = (value * 10 + i64::from(byte - b'0')).min(1 << 40);
    }
    Some(if negative { -value } else { value })
}

/// The day that this text is: `YYYY-MM-DD`; years beyond four digits bear a sign.
pub(super) fn date(text: &str) -> Option<Date> {
    let (date, rest) = date_before(text.as_bytes())?;
    rest.is_empty().then_some(date)
}

/// What happens to digits behind the microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finer {
    /// They must be zeros.
    Refused,
    /// They are left out.
    Cut,
}

/// The moment that this text is: a day, `T` or a space, `HH:MM:SS`, a fraction of the second if need be, and
/// `Z` or an offset (`+01:00`, `+01`); without it the time is UTC.
pub(super) fn timestamp(text: &str, finer: Finer) -> Option<Timestamp> {
    let (date, rest) = date_before(text.as_bytes())?;
    let (time, mut rest) = rest.split_first_chunk::<9>()?;
    let &[b'T' | b't' | b' ', h1, h2, b':', m1, m2, b':', s1, s2] = time else {
        return None;
    };
    let seconds = two(h1, h2, 23)? * 3_600 + two(m1, m2, 59)? * 60 + two(s1, s2, 59)?;
    let mut micros = seconds * 1_000_000;
    if let Some((b'.', fraction)) = rest.split_first() {
        let len = fraction
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if len == 0 {
            return None;
        }
        let mut unit = 100_000;
        for digit in &fraction[..len] {
            if unit == 0 && *digit != b'0' && finer == Finer::Refused {
                return None;
            }
            micros += i64::from(digit - b'0') * unit;
            unit /= 10;
        }
        rest = &fraction[len..];
    }
    let offset = match rest {
        [] | b"Z" | b"z" => 0,
        &[sign @ (b'+' | b'-'), h1, h2, ref minutes @ ..] => {
            let minutes = match minutes {
                [] => 0,
                &[b':', m1, m2] => two(m1, m2, 59)?,
                _ => return None,
            };
            let offset = two(h1, h2, 23)? * 60 + minutes;
            if sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    let micros = i64::from(date.days())
        .checked_mul(86_400_000_000)?
        .checked_add(micros - offset * 60_000_000)?;
    Timestamp::from_micros(micros)
}

/// The day at the front of these bytes, and what is behind it.
fn date_before(bytes: &[u8]) -> Option<(Date, &[u8])> {
    let (sign, digits) = match bytes.first()? {
        b'-' => (Some(-1), &bytes[1..]),
        b'+' => (Some(1), &bytes[1..]),
        _ => (None, bytes),
    };
    let len = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if !(len == 4 || (sign.is_some() && (5..=6).contains(&len))) {
        return None;
    }
    let year = digits[..len]
        .iter()
        .fold(0, |year, byte| year * 10 + i32::from(byte - b'0'));
    let (rest, behind) = digits[len..].split_first_chunk::<6>()?;
    let &[b'-', m1, m2, b'-', d1, d2] = rest else {
        return None;
    };
    let date = Date::from_ymd(
        sign.unwrap_or(1) * year,
        two(m1, m2, 12)? as u32,
        two(d1, d2, 31)? as u32,
    )?;
    Some((date, behind))
}

/// A number of two digits.
fn two(tens: u8, ones: u8, max: i64) -> Option<i64> {
    if !tens.is_ascii_digit() || !ones.is_ascii_digit() {
        return None;
    }
    let value = i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
    (value <= max).then_some(value)
}
