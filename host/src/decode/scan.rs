//! JSON text, read in place.
//!
//! A scanner hands out slices of the text: a number keeps its digits, since a decimal must not pass through a
//! float, and a row's values are looked at once. It takes what `serde_json` takes (the tests hold one against the
//! other), except that brackets in brackets have a limit. It never allocates and never calls itself, so no input
//! can exhaust the stack.
//!
//! What is called for each name and value is inlined by force: handed over in memory instead of in registers the results cost more
//! than the work (measured: half of the time of a line).

use std::borrow::Cow;

/// Brackets in brackets in a column's value, at the most: fewer than those take who read it again.
pub(super) const DEPTH_MAX: u32 = 120;
/// The same around columns: a row in an envelope.
const ENVELOPE_DEPTH_MAX: u32 = DEPTH_MAX + 4;

/// Why text is no JSON; where and what, `serde_json` says better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    Syntax,
    TooDeep,
}

/// A place in JSON text.
#[derive(Debug, Clone)]
pub(super) struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

/// A string as it stands in the text, its quotes with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quoted<'t> {
    raw: &'t str,
    escaped: bool,
}

impl<'t> Quoted<'t> {
    /// The string's text; `None` if an escape in it stands for no character (half a surrogate pair).
    #[inline(always)]
    pub(super) fn text(&self) -> Option<Cow<'t, str>> {
        if self.escaped {
            return self.unescaped();
        }
        Some(Cow::Borrowed(&self.raw[1..self.raw.len() - 1]))
    }

    #[cold]
    fn unescaped(&self) -> Option<Cow<'t, str>> {
        serde_json::from_str(self.raw).ok().map(Cow::Owned)
    }
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Number,
    Text { escaped: bool },
    Object,
    Array,
}

/// A value and its text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'t> {
    pub(super) raw: &'t str,
    pub(super) kind: Kind,
}

impl<'t> Value<'t> {
    /// The value; `None` for null.
    #[inline(always)]
    pub(super) fn present(self) -> Option<Self> {
        (self.kind != Kind::Null).then_some(self)
    }

    /// The string, if it is one.
    #[inline(always)]
    pub(super) fn quoted(&self) -> Option<Quoted<'t>> {
        match self.kind {
            Kind::Text { escaped } => Some(Quoted {
                raw: self.raw,
                escaped,
            }),
            _ => None,
        }
    }
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// What has not been read yet.
    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// What was read from here to where another scanner of the text is now.
    pub(super) fn until(&self, later: &Self) -> &'t str {
        &self.text[self.at..later.at]
    }

    /// Steps over text that is known.
    pub(super) fn pass(&mut self, known: &str) -> bool {
        let passed = !known.is_empty() && self.rest().starts_with(known);
        if passed {
            self.at += known.len();
        }
        passed
    }

    /// The next byte that is no white space; stays before it.
    #[inline(always)]
    pub(super) fn next_byte(&mut self) -> Result<u8, Malformed> {
        loop {
            match self.text.as_bytes().get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(&byte) => return Ok(byte),
                None => return Err(Malformed::Syntax),
            }
        }
    }

    /// Whether nothing but white space is left.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.next_byte().is_err()
    }

    /// Steps into an object.
    #[inline(always)]
    pub(super) fn enter(&mut self) -> Result<(), Malformed> {
        self.expect(b'{')
    }

    /// The next name in an object, with its colon; none at the object's end. `first` is kept by the caller.
    #[inline(always)]
    pub(super) fn name(&mut self, first: &mut bool) -> Result<Option<Quoted<'t>>, Malformed> {
        match self.next_byte()? {
            b'}' => {
                self.at += 1;
                return Ok(None);
            }
            b',' if !*first => self.at += 1,
            _ if *first => {}
            _ => return Err(Malformed::Syntax),
        }
        *first = false;
        self.pair().map(Some)
    }

    /// A name and the colon behind it.
    #[inline(always)]
    fn pair(&mut self) -> Result<Quoted<'t>, Malformed> {
        if self.next_byte()? != b'"' {
            return Err(Malformed::Syntax);
        }
        let name = self.string()?;
        self.expect(b':')?;
        Ok(name)
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.next_byte()? != byte {
            return Err(Malformed::Syntax);
        }
        self.at += 1;
        Ok(())
    }

    /// The next value, a column's.
    #[inline(always)]
    pub(super) fn value(&mut self) -> Result<Value<'t>, Malformed> {
        self.value_within(DEPTH_MAX)
    }

    /// The next value, which may hold rows, into its place; null leaves none.
    #[inline(never)]
    pub(super) fn envelope(&mut self, place: &mut Option<Value<'t>>) -> Result<(), Malformed> {
        *place = self.value_within(ENVELOPE_DEPTH_MAX)?.present();
        Ok(())
    }

    /// Steps over the next value, which may hold rows.
    #[inline(never)]
    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        self.value_within(ENVELOPE_DEPTH_MAX)?;
        Ok(())
    }

    #[inline(always)]
    fn value_within(&mut self, depth_max: u32) -> Result<Value<'t>, Malformed> {
        let kind = match self.next_byte()? {
            b'"' => {
                let text = self.string()?;
                return Ok(Value {
                    raw: text.raw,
                    kind: Kind::Text {
                        escaped: text.escaped,
                    },
                });
            }
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b't' => Kind::Bool(true),
            b'f' => Kind::Bool(false),
            b'n' => Kind::Null,
            _ => Kind::Number,
        };
        let start = self.at;
        match kind {
            Kind::Object | Kind::Array => self.compound(depth_max)?,
            _ => self.scalar()?,
        }
        Ok(Value {
            raw: &self.text[start..self.at],
            kind,
        })
    }

    /// Steps over a value that is no object and no array.
    #[inline(always)]
    fn scalar(&mut self) -> Result<(), Malformed> {
        match self.text.as_bytes().get(self.at) {
            Some(b'"') => self.string().map(|_| ()),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Malformed> {
        if self.pass(word) {
            Ok(())
        } else {
            Err(Malformed::Syntax)
        }
    }

    /// Steps over an object or an array with all that it holds.
    #[inline(never)]
    fn compound(&mut self, depth_max: u32) -> Result<(), Malformed> {
        // The brackets that are open, one bit each: 1 is an object's.
        let mut open: u128 = 0;
        let mut depth = 0;
        loop {
            let bracket = self.next_byte()?;
            if matches!(bracket, b'{' | b'[') {
                if depth == depth_max {
                    return Err(Malformed::TooDeep);
                }
                self.at += 1;
                let in_object = bracket == b'{';
                if self.next_byte()? != if in_object { b'}' } else { b']' } {
                    depth += 1;
                    open = open << 1 | u128::from(in_object);
                    if in_object {
                        self.pair()?;
                    }
                    continue;
                }
                // Empty.
                self.at += 1;
            } else {
                self.scalar()?;
            }
            // Behind a value.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let in_object = open & 1 == 1;
                match self.next_byte()? {
                    b',' => {
                        self.at += 1;
                        if in_object {
                            self.pair()?;
                        }
                        break;
                    }
                    b'}' if in_object => {}
                    b']' if !in_object => {}
                    _ => return Err(Malformed::Syntax),
                }
                self.at += 1;
                open >>= 1;
                depth -= 1;
            }
        }
    }

    #[inline(always)]
    fn number(&mut self) -> Result<(), Malformed> {
        let bytes = self.text.as_bytes();
        let mut at = self.at;
        let digits = |at: &mut usize| {
            let start = *at;
            while matches!(bytes.get(*at), Some(b'0'..=b'9')) {
                *at += 1;
            }
            *at - start
        };
        if bytes.get(at) == Some(&b'-') {
            at += 1;
        }
        let leading_zero = bytes.get(at) == Some(&b'0');
        let whole = digits(&mut at);
        if whole == 0 || (leading_zero && whole > 1) {
            return Err(Malformed::Syntax);
        }
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            if digits(&mut at) == 0 {
                return Err(Malformed::Syntax);
            }
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            at += 1;
            if let Some(b'+' | b'-') = bytes.get(at) {
                at += 1;
            }
            if digits(&mut at) == 0 {
                return Err(Malformed::Syntax);
            }
        }
        self.at = at;
        Ok(())
    }

    /// A string; the place is on its quote.
    #[inline(always)]
    fn string(&mut self) -> Result<Quoted<'t>, Malformed> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut at = start + 1;
        let mut escaped = false;
        loop {
            while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
                match first_special(u64::from_le_bytes(*eight)) {
                    None => at += 8,
                    Some(place) => {
                        at += place;
                        break;
                    }
                }
            }
            match bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(Quoted {
                        raw: &self.text[start..at + 1],
                        escaped,
                    });
                }
                Some(b'\\') => {
                    escaped = true;
                    at += escape_len(&bytes[at..]).ok_or(Malformed::Syntax)?;
                }
                None | Some(0..0x20) => return Err(Malformed::Syntax),
                // One of the last bytes of the text, fewer than eight.
                Some(_) => at += 1,
            }
        }
    }
}

/// The bytes of an escape that these bytes begin with.
fn escape_len(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => {
            let hex = bytes.get(2..6)?;
            hex.iter().all(u8::is_ascii_hexdigit).then_some(6)
        }
        _ => None,
    }
}

/// Which of eight bytes is the first that can't stand in a string as itself: a quote, a backslash, a control.
///
/// The test for a zero byte is the [well-known one](https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord);
/// a borrow can only spoil bytes above the first hit.
#[inline]
fn first_special(eight: u64) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let below = |value: u64, limit: u64| value.wrapping_sub(ONES * limit) & !value;
    let quote = below(eight ^ (ONES * b'"' as u64), 1);
    let backslash = below(eight ^ (ONES * b'\\' as u64), 1);
    let control = below(eight, 0x20);
    let hits = (quote | backslash | control) & HIGH;
    (hits != 0).then(|| hits.trailing_zeros() as usize / 8)
}
