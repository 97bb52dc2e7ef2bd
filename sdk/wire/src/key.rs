//! The key form of values: comparing the bytes compares the values.
//!
//! A composite key is its columns' bytes one after the other; no column's bytes are a prefix of
//! another value's of the same type, so the order of the whole is the order of the tuple, and the
//! bytes of some leading columns are a prefix that bounds a range.
//!
//! | type | bytes |
//! | --- | --- |
//! | bool | 0 or 1 |
//! | i64, date, timestamp | 8 bytes, big-endian, sign bit flipped |
//! | f64 (indexes only) | 8 bytes, big-endian; sign bit flipped if positive, all bits if negative |
//! | decimal | class (0 negative, 1 zero, 2 positive); for non-zero: exponent + 64, digits + 1 without zeros at either end, 0; for negative ones those inverted |
//! | text, bytes, json (indexes only) | the bytes, 0 written as 0 255, then 0 1 |
//! | uuid | 16 bytes |
//!
//! The forms are those that ordered key-value stores use; the escape for text is the one described
//! for [CockroachDB's ordered encoding][crdb].
//!
//! # Index entries
//!
//! An entry of a secondary index is the indexed columns one after the other, in the index's order, and then
//! the row's key. Each column stands there as
//!
//! | the column | bytes |
//! | --- | --- |
//! | can't be null | the value in key form, and nothing before it |
//! | may be null, and the value isn't | 1, then the value in key form |
//! | may be null, and the value is | 0 |
//!
//! so nulls come first. Whether a column may be null is what the table says of it (`nullable` in the
//! manifest), never what the value at hand happens to be. A scan's `from` and `to` are prefixes of such
//! entries, made by the plugin; the host makes the entries. Both go through [`write_index_column`]: were
//! they to differ by one byte, every scan of an index would find nothing.
//!
//! [crdb]: https://github.com/cockroachdb/cockroach/blob/master/docs/tech-notes/encoding.md

use crate::{
    codec::{DecodeError, Reader},
    value::{ColumnType, Date, Decimal, Json, Timestamp, Uuid, Value, ValueRef},
};

const SIGN: u64 = 1 << 63;

/// Appends `value` in key form. Null appends nothing: keys have no nulls, and an index writes its
/// own byte for them ([`write_index_column`]).
#[inline]
pub fn write(value: ValueRef<'_>, out: &mut Vec<u8>) {
    match value {
        ValueRef::Null => {}
        ValueRef::Bool(v) => out.push(u8::from(v)),
        ValueRef::I64(v) => write_i64(v, out),
        ValueRef::Date(v) => write_i64(i64::from(v.days()), out),
        ValueRef::Timestamp(v) => write_i64(v.micros(), out),
        ValueRef::F64(v) => {
            let bits = v.to_bits();
            let ordered = if bits & SIGN == 0 { bits | SIGN } else { !bits };
            out.extend_from_slice(&ordered.to_be_bytes());
        }
        ValueRef::Decimal(v) => write_decimal(v, out),
        ValueRef::Text(v) | ValueRef::Json(v) => write_escaped(v.as_bytes(), out),
        ValueRef::Bytes(v) => write_escaped(v, out),
        ValueRef::Uuid(v) => out.extend_from_slice(v.as_bytes()),
    }
}

/// Appends a column of an index that may be null.
#[inline]
pub fn write_nullable(value: ValueRef<'_>, out: &mut Vec<u8>) {
    out.push(u8::from(!matches!(value, ValueRef::Null)));
    write(value, out);
}

/// Appends one column of an index entry; `nullable` is whether the table lets the column be null. The one
/// place that decides what an entry looks like, for host and plugins alike.
///
/// ```
/// use rulemill_wire::{ValueRef, key::write_index_column};
///
/// let form = |value, nullable| {
///     let mut bytes = Vec::new();
///     write_index_column(value, nullable, &mut bytes);
///     bytes
/// };
/// assert_eq!(form(ValueRef::Bool(true), false), [1]);
/// assert_eq!(form(ValueRef::Bool(true), true), [1, 1]);
/// assert_eq!(form(ValueRef::Null, true), [0]);
/// ```
#[inline]
pub fn write_index_column(value: ValueRef<'_>, nullable: bool, out: &mut Vec<u8>) {
    if nullable {
        write_nullable(value, out);
    } else {
        write(value, out);
    }
}

/// Reads one key column of type `ty`.
///
/// # Errors
/// If the bytes are no key of that type.
pub fn read(ty: ColumnType, reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
    Ok(match ty {
        ColumnType::Bool => match reader.u8()? {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            tag => return Err(DecodeError::BadTag(tag)),
        },
        ColumnType::I64 => Value::I64(read_i64(reader)?),
        ColumnType::Date => Value::Date(
            i32::try_from(read_i64(reader)?)
                .ok()
                .and_then(Date::from_days)
                .ok_or(DecodeError::OutOfRange("a date"))?,
        ),
        ColumnType::Timestamp => Value::Timestamp(
            Timestamp::from_micros(read_i64(reader)?)
                .ok_or(DecodeError::OutOfRange("a timestamp"))?,
        ),
        ColumnType::F64 => {
            let ordered = read_be(reader)?;
            let bits = if ordered & SIGN == 0 {
                !ordered
            } else {
                ordered & !SIGN
            };
            Value::F64(f64::from_bits(bits))
        }
        ColumnType::Decimal => Value::Decimal(read_decimal(reader)?),
        ColumnType::Text => Value::Text(read_text(reader)?),
        ColumnType::Json => Value::Json(Json::from_text(read_text(reader)?)),
        ColumnType::Bytes => Value::Bytes(read_escaped(reader)?),
        ColumnType::Uuid => {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(reader.take(16)?);
            Value::Uuid(Uuid::from_bytes(bytes))
        }
    })
}

/// The least byte string that is greater than every one that starts with `prefix`; `None` if there
/// is none (a prefix of 255s). It ends a half-open range over a prefix.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[inline]
fn write_i64(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&(value as u64 ^ SIGN).to_be_bytes());
}

fn read_be(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(reader.take(8)?);
    Ok(u64::from_be_bytes(bytes))
}

fn read_i64(reader: &mut Reader<'_>) -> Result<i64, DecodeError> {
    Ok((read_be(reader)? ^ SIGN) as i64)
}

fn write_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 1]);
}

fn read_escaped(reader: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = Vec::new();
    loop {
        match reader.u8()? {
            0 => match reader.u8()? {
                1 => return Ok(bytes),
                0xff => bytes.push(0),
                tag => return Err(DecodeError::BadTag(tag)),
            },
            byte => bytes.push(byte),
        }
    }
}

fn read_text(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    String::from_utf8(read_escaped(reader)?).map_err(|_| DecodeError::NotUtf8)
}

/// The decimal point stands before the first digit: value = 0.d1d2d3… × 10^exponent, and the
/// exponent lies between -27 (1e-28) and 29 (the largest mantissa), so one byte holds it.
const EXPONENT_BIAS: i32 = 64;

fn write_decimal(value: Decimal, out: &mut Vec<u8>) {
    let value = value.normalize();
    if value.is_zero() {
        out.push(1);
        return;
    }
    let mut digits = [0u8; 40];
    let mut start = digits.len();
    let mut mantissa = value.mantissa().unsigned_abs();
    while mantissa != 0 {
        start -= 1;
        digits[start] = (mantissa % 10) as u8;
        mantissa /= 10;
    }
    let digits = &digits[start..];
    let exponent = digits.len() as i32 - value.scale() as i32;
    let significant = digits.len() - digits.iter().rev().take_while(|&&digit| digit == 0).count();
    let invert = if value.is_sign_negative() { 0xff } else { 0 };
    out.push(if invert == 0 { 2 } else { 0 });
    out.push((exponent + EXPONENT_BIAS) as u8 ^ invert);
    out.extend(
        digits[..significant]
            .iter()
            .map(|digit| (digit + 1) ^ invert),
    );
    out.push(invert);
}

fn read_decimal(reader: &mut Reader<'_>) -> Result<Decimal, DecodeError> {
    let invert = match reader.u8()? {
        0 => 0xff,
        1 => return Ok(Decimal::ZERO),
        2 => 0,
        tag => return Err(DecodeError::BadTag(tag)),
    };
    let out_of_range = DecodeError::OutOfRange("a decimal");
    let exponent = i32::from(reader.u8()? ^ invert) - EXPONENT_BIAS;
    let (mut mantissa, mut count, mut last) = (0i128, 0i32, 0);
    loop {
        let digit = match reader.u8()? ^ invert {
            // Zeros at either end aren't written: with them one value would have many keys.
            0 if last == 0 => return Err(out_of_range),
            1 if count == 0 => return Err(out_of_range),
            0 => break,
            digit @ 1..=10 => i128::from(digit - 1),
            tag => return Err(DecodeError::BadTag(tag)),
        };
        last = digit;
        mantissa = mantissa
            .checked_mul(10)
            .and_then(|shifted| shifted.checked_add(digit))
            .ok_or(out_of_range)?;
        count += 1;
    }
    let mut scale = count - exponent;
    while scale < 0 {
        mantissa = mantissa.checked_mul(10).ok_or(out_of_range)?;
        scale += 1;
    }
    if invert != 0 {
        mantissa = -mantissa;
    }
    Decimal::try_from_i128_with_scale(mantissa, scale as u32).map_err(|_| out_of_range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyValue;
    use proptest::prelude::*;

    fn check<T: KeyValue + std::fmt::Debug>(a: T, b: T) {
        let (mut key_a, mut key_b) = (Vec::new(), Vec::new());
        a.write_key(&mut key_a);
        b.write_key(&mut key_b);
        assert_eq!(
            key_a.cmp(&key_b),
            a.cmp(&b),
            "{a:?} {b:?}: {key_a:?} {key_b:?}"
        );
        let mut reader = Reader::new(&key_a);
        let back = read(T::TYPE, &mut reader).unwrap();
        assert!(reader.is_empty());
        assert_eq!(T::from_value(back.as_ref()), Some(a));
    }

    fn decimal() -> impl Strategy<Value = Decimal> {
        (-(1i128 << 96) + 1..1i128 << 96, 0..=28u32, 0..28u32).prop_map(
            |(mantissa, scale, shrink)| {
                Decimal::from_i128_with_scale(mantissa / 10i128.pow(shrink), scale)
            },
        )
    }

    proptest! {
        #[test]
        fn order_of_bytes_is_order_of_values(
            ints: (i64, i64), texts: (String, String), bytes: (Vec<u8>, Vec<u8>), bools: (bool, bool),
            uuids: ([u8; 16], [u8; 16]), decimals in (decimal(), decimal()), days in (-90_000_000..90_000_000i32, -90_000_000..90_000_000i32),
        ) {
            check(ints.0, ints.1);
            check(texts.0, texts.1);
            check(bytes.0, bytes.1);
            check(bools.0, bools.1);
            check(Uuid::from_bytes(uuids.0), Uuid::from_bytes(uuids.1));
            check(decimals.0, decimals.1);
            check(Date::from_days(days.0).unwrap(), Date::from_days(days.1).unwrap());
        }

        #[test]
        fn composite_keys_compare_as_tuples(a: (String, i64), b: (String, i64)) {
            let encode = |(text, int): &(String, i64)| {
                let mut out = Vec::new();
                text.write_key(&mut out);
                int.write_key(&mut out);
                out
            };
            prop_assert_eq!(encode(&a).cmp(&encode(&b)), a.cmp(&b));
        }

        #[test]
        fn floats_keep_their_order(a: f64, b: f64) {
            let encode = |v| { let mut out = Vec::new(); write(ValueRef::F64(v), &mut out); out };
            prop_assert_eq!(encode(a).cmp(&encode(b)), a.total_cmp(&b));
        }

        /// What is read has one form: were there two, a row could be there twice.
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            for ty in ColumnType::ALL {
                let mut reader = Reader::new(&bytes);
                if let Ok(value) = read(ty, &mut reader) {
                    let mut written = Vec::new();
                    write(value.as_ref(), &mut written);
                    prop_assert_eq!(&written, &bytes[..bytes.len() - reader.rest().len()]);
                }
            }
        }
    }

    #[test]
    fn equal_decimals_have_equal_keys() {
        for (a, b) in [
            ("1", "1.00"),
            ("0", "-0.0"),
            ("1200", "1.2e3"),
            ("-0.50", "-0.5"),
        ] {
            let parse = |text: &str| {
                Decimal::from_scientific(text)
                    .or_else(|_| text.parse())
                    .unwrap()
            };
            check(parse(a), parse(b));
        }
    }

    #[test]
    fn a_decimal_has_one_key() {
        for other in [
            &[2, 65, 2, 1, 0][..],
            &[2, 65, 1, 2, 0],
            &[2, 65, 0],
            &[0, 190, 255],
        ] {
            assert!(read(ColumnType::Decimal, &mut Reader::new(other)).is_err());
        }
        let one = read(ColumnType::Decimal, &mut Reader::new(&[2, 65, 2, 0]));
        assert_eq!(one, Ok(Value::Decimal(1.into())));
    }

    #[test]
    fn a_prefix_ends_before_the_next() {
        assert_eq!(prefix_end(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(prefix_end(&[1, 255]), Some(vec![2]));
        assert_eq!(prefix_end(&[255, 255]), None);
    }
}
