//! The batch: what one `apply` call hands to a plugin.
//!
//! ```text
//! batch = base_seq:u64  watermark:i64  count:u64  item{count}
//! item  = seq:u64   (since the item before, the first since base_seq)
//!         time:i64  (commit time in microseconds, since the item before, the first since 0)
//!         rules:u64 (bit mask: the rules that get the item, by number)
//!         kind:u8   body
//! body  = insert 0, read 3   row(after)
//!         update 1           row(before) row(after)
//!         delete 2           row(before)
//!         timer  4           key:text  due:i64
//!         tick   5           (nothing: time has moved on)   its rules: those for timers that don't fire from here
//!                            to the batch's end, even if a timer that is set here comes due
//! row   = the columns of the rules' input table, in manifest order, each in wire form
//! ```
//!
//! Integers are variable-length, signed ones zigzag-coded. All rules of one mask have the same input.
//! Items come in the order of their seq. The watermark is the latest commit time before the batch;
//! ticks are sent only to plugins that set timers, so that a timer set by one item can fire before a
//! later one.

use crate::codec::{self, DecodeError, Reader};

/// What happened to a row, or to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A row came to be.
    Insert = 0,
    /// A row changed.
    Update = 1,
    /// A row went.
    Delete = 2,
    /// A row that was there before the rule was: part of its first snapshot.
    Read = 3,
    /// A timer is due.
    Timer = 4,
    /// Time has moved on.
    Tick = 5,
}

impl Kind {
    fn from_u8(tag: u8) -> Result<Self, DecodeError> {
        Ok(match tag {
            0 => Self::Insert,
            1 => Self::Update,
            2 => Self::Delete,
            3 => Self::Read,
            4 => Self::Timer,
            5 => Self::Tick,
            tag => return Err(DecodeError::BadTag(tag)),
        })
    }
}

/// What stands before an item's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemHeader {
    /// The host's number for the change.
    pub seq: u64,
    /// The change's commit time, in microseconds since 1970.
    pub time: i64,
    /// The rules that get the item.
    pub rules: u64,
    /// What the body is.
    pub kind: Kind,
}

/// A place in a batch that is being written.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    len_bytes: usize,
    count: u64,
    seq: u64,
    time: i64,
}

/// Writes a batch item by item.
#[derive(Debug)]
pub struct BatchWriter {
    bytes: Vec<u8>,
    count: u64,
    seq: u64,
    time: i64,
    base_seq: u64,
    watermark: i64,
}

impl BatchWriter {
    /// An empty batch. `capacity_bytes` is set aside at once.
    pub fn new(base_seq: u64, watermark: i64, capacity_bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity_bytes),
            count: 0,
            seq: base_seq,
            time: 0,
            base_seq,
            watermark,
        }
    }

    /// Appends an item's header and gives the buffer for its body. Items come in seq order.
    #[inline]
    pub fn item(&mut self, header: ItemHeader) -> &mut Vec<u8> {
        codec::write_u64(header.seq.wrapping_sub(self.seq), &mut self.bytes);
        codec::write_i64(header.time.wrapping_sub(self.time), &mut self.bytes);
        codec::write_u64(header.rules, &mut self.bytes);
        self.bytes.push(header.kind as u8);
        self.seq = header.seq;
        self.time = header.time;
        self.count += 1;
        &mut self.bytes
    }

    /// The batch as it stands, to come back to with [`reset`](Self::reset).
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark {
            len_bytes: self.bytes.len(),
            count: self.count,
            seq: self.seq,
            time: self.time,
        }
    }

    /// Takes back every item since `mark`.
    pub fn reset(&mut self, mark: Mark) {
        self.bytes.truncate(mark.len_bytes);
        self.count = mark.count;
        self.seq = mark.seq;
        self.time = mark.time;
    }

    /// Items so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes so far.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The batch's bytes.
    pub fn finish(self) -> Vec<u8> {
        let mut batch = Vec::with_capacity(self.bytes.len() + 30);
        codec::write_u64(self.base_seq, &mut batch);
        codec::write_i64(self.watermark, &mut batch);
        codec::write_u64(self.count, &mut batch);
        batch.extend_from_slice(&self.bytes);
        batch
    }
}

/// Reads a batch item by item; the caller reads each body from [`body`](Self::body) before the
/// next header.
#[derive(Debug)]
pub struct BatchReader<'a> {
    reader: Reader<'a>,
    left: u64,
    seq: u64,
    time: i64,
    watermark: i64,
}

impl<'a> BatchReader<'a> {
    /// A reader over a batch's bytes.
    ///
    /// # Errors
    /// If the bytes don't begin as a batch does.
    pub fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let seq = reader.u64()?;
        let watermark = reader.i64()?;
        let left = reader.u64()?;
        Ok(Self {
            reader,
            left,
            seq,
            time: 0,
            watermark,
        })
    }

    /// The latest commit time before the batch, in microseconds.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// The next item's header; `None` after the last.
    ///
    /// # Errors
    /// If the bytes are no item, or bytes follow the last one.
    #[inline]
    pub fn next_header(&mut self) -> Result<Option<ItemHeader>, DecodeError> {
        if self.left == 0 {
            return if self.reader.is_empty() {
                Ok(None)
            } else {
                Err(DecodeError::OutOfRange("the batch's count"))
            };
        }
        self.left -= 1;
        self.seq = self.seq.wrapping_add(self.reader.u64()?);
        self.time = self.time.wrapping_add(self.reader.i64()?);
        let rules = self.reader.u64()?;
        let kind = Kind::from_u8(self.reader.u8()?)?;
        Ok(Some(ItemHeader {
            seq: self.seq,
            time: self.time,
            rules,
            kind,
        }))
    }

    /// Where the current item's body is read from.
    #[inline]
    pub fn body(&mut self) -> &mut Reader<'a> {
        &mut self.reader
    }
}
