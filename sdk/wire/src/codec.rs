//! The primitives of the postcard wire format, over plain byte slices.
//!
//! They are written out here, not called from the postcard crate, because the host steps over and
//! copies values without decoding them, which that crate has no call for. The tests compare both.
//! Format: <https://postcard.jamesmunns.com/wire-format>.

use std::fmt;

/// Why bytes could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end inside a value.
    UnexpectedEnd,
    /// A variable-length integer is longer than its type allows.
    IntegerTooLong,
    /// Text is not UTF-8.
    NotUtf8,
    /// A byte that tells which form follows has a value that no form has.
    BadTag(u8),
    /// A value lies outside what its type can hold (named).
    OutOfRange(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnexpectedEnd => f.write_str("the bytes end inside a value"),
            Self::IntegerTooLong => f.write_str("an integer is longer than its type allows"),
            Self::NotUtf8 => f.write_str("text is not UTF-8"),
            Self::BadTag(tag) => write!(f, "unknown tag {tag}"),
            Self::OutOfRange(what) => write!(f, "{what} is out of range"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Appends an unsigned integer: seven bits a byte, lowest first.
#[inline]
pub fn write_u64(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed integer, zigzag-coded so that small magnitudes stay short.
#[inline]
pub fn write_i64(value: i64, out: &mut Vec<u8>) {
    write_u64(((value << 1) ^ (value >> 63)) as u64, out);
}

/// Appends a signed 128-bit integer, zigzag-coded.
pub fn write_i128(value: i128, out: &mut Vec<u8>) {
    let mut value = ((value << 1) ^ (value >> 127)) as u128;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a byte string: its length, then its bytes.
#[inline]
pub fn write_bytes(value: &[u8], out: &mut Vec<u8>) {
    write_u64(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Reads values from the front of a byte slice.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader over `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.rest.split_first().ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(first)
    }

    /// The next `len` bytes.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        if len > self.rest.len() {
            return Err(DecodeError::UnexpectedEnd);
        }
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(taken)
    }

    /// An unsigned integer.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.u8()?;
            if shift == 63 && byte > 1 {
                return Err(DecodeError::IntegerTooLong);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    /// A signed integer.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        let raw = self.u64()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// A signed 128-bit integer.
    pub fn i128(&mut self) -> Result<i128, DecodeError> {
        let mut raw: u128 = 0;
        let mut shift = 0;
        loop {
            let byte = self.u8()?;
            if shift == 126 && byte > 3 {
                return Err(DecodeError::IntegerTooLong);
            }
            raw |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((raw >> 1) as i128 ^ -((raw & 1) as i128));
            }
            shift += 7;
        }
    }

    /// An unsigned integer that counts things held in memory.
    #[inline]
    pub fn len(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(self.u64()?).map_err(|_| DecodeError::OutOfRange("a length"))
    }

    /// A byte string.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.len()?;
        self.take(len)
    }

    /// Text.
    #[inline]
    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError::NotUtf8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn unsigned_integers_are_postcards(value: u64) {
            let mut ours = Vec::new();
            write_u64(value, &mut ours);
            prop_assert_eq!(&ours, &postcard::to_allocvec(&value).unwrap());
            prop_assert_eq!(Reader::new(&ours).u64(), Ok(value));
        }

        #[test]
        fn signed_integers_are_postcards(value: i64, wide: i128) {
            let mut ours = Vec::new();
            write_i64(value, &mut ours);
            write_i128(wide, &mut ours);
            prop_assert_eq!(&ours, &postcard::to_allocvec(&(value, wide)).unwrap());
            let mut reader = Reader::new(&ours);
            prop_assert_eq!(reader.i64(), Ok(value));
            prop_assert_eq!(reader.i128(), Ok(wide));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Reader::new(&bytes).u64();
            let _ = Reader::new(&bytes).i128();
            let _ = Reader::new(&bytes).text();
        }
    }

    #[test]
    fn an_overlong_integer_is_refused() {
        assert_eq!(
            Reader::new(&[0xff; 11]).u64(),
            Err(DecodeError::IntegerTooLong)
        );
        assert_eq!(
            Reader::new(&[0xff; 20]).i128(),
            Err(DecodeError::IntegerTooLong)
        );
    }
}
