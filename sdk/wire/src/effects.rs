//! The effects: what a plugin's `apply` returns.
//!
//! ```text
//! effects       = writes timers notifications faults, each: count:u64 then so many
//! write         = table:u64  item:u64  op:u8   put 1: row(all the table's columns, wire form)
//!                                              delete 0: its key columns, wire form, key order
//! timer         = rule:u64  item:u64  key:text  op:u8   set 1: due:i64 (microseconds)   clear 0
//! notification  = rule:u64  item:u64  topic:text  body:text (a JSON document)
//! fault         = rule:u64  item:u64  message:text
//! ```
//!
//! Tables and rules are numbers of the manifest; `item` is the place in the batch (from 0) of the
//! item that had the effect. There is at most one write for a row: its last. (Where
//! effects are kept call by call a row may be written several times, and its last write counts.) A fault says that the
//! rule returned an error for that item and that nothing of what it did there is among the effects.
//! A fault of a rule for timers may also say that a timer which this batch has set came due before the item and wasn't
//! fired: the rule failed, or is one of those that a tick has named. The host then takes no effects, hands over what
//! stands before the item, and fires the timer itself.

use crate::codec::{self, DecodeError, Reader};

/// Collects effects in wire form.
#[derive(Debug, Default)]
pub struct EffectsWriter {
    sections: [(u64, Vec<u8>); 4],
}

const WRITES: usize = 0;
const TIMERS: usize = 1;
const NOTIFICATIONS: usize = 2;
const FAULTS: usize = 3;

impl EffectsWriter {
    /// No effects.
    pub fn new() -> Self {
        Self::default()
    }

    fn entry(&mut self, section: usize, first: u64, second: u64) -> &mut Vec<u8> {
        let (count, bytes) = &mut self.sections[section];
        *count += 1;
        codec::write_u64(first, bytes);
        codec::write_u64(second, bytes);
        bytes
    }

    /// Appends a row to write and gives the buffer for its columns, in wire form.
    pub fn put(&mut self, table: u16, item: u32) -> &mut Vec<u8> {
        let bytes = self.entry(WRITES, table.into(), item.into());
        bytes.push(1);
        bytes
    }

    /// Appends a row to remove and gives the buffer for its key columns, in wire form.
    pub fn delete(&mut self, table: u16, item: u32) -> &mut Vec<u8> {
        let bytes = self.entry(WRITES, table.into(), item.into());
        bytes.push(0);
        bytes
    }

    /// Sets a rule's timer (`due` in microseconds), or clears it.
    pub fn timer(&mut self, rule: u16, item: u32, key: &str, due: Option<i64>) {
        let bytes = self.entry(TIMERS, rule.into(), item.into());
        codec::write_bytes(key.as_bytes(), bytes);
        bytes.push(u8::from(due.is_some()));
        if let Some(due) = due {
            codec::write_i64(due, bytes);
        }
    }

    /// Sends a notification; `body` is a JSON document.
    pub fn notification(&mut self, rule: u16, item: u32, topic: &str, body: &str) {
        let bytes = self.entry(NOTIFICATIONS, rule.into(), item.into());
        codec::write_bytes(topic.as_bytes(), bytes);
        codec::write_bytes(body.as_bytes(), bytes);
    }

    /// Says that a rule returned an error for an item.
    pub fn fault(&mut self, rule: u16, item: u32, message: &str) {
        let bytes = self.entry(FAULTS, rule.into(), item.into());
        codec::write_bytes(message.as_bytes(), bytes);
    }

    /// The effects' bytes.
    pub fn finish(self) -> Vec<u8> {
        let len = self
            .sections
            .iter()
            .map(|(_, bytes)| bytes.len() + 10)
            .sum();
        let mut out = Vec::with_capacity(len);
        for (count, bytes) in self.sections {
            codec::write_u64(count, &mut out);
            out.extend_from_slice(&bytes);
        }
        out
    }
}

/// One effect, as the host reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect<'a> {
    /// A row to write; its columns follow in the reader.
    Put {
        /// The table's number.
        table: u16,
        /// The item's place in the batch.
        item: u32,
    },
    /// A row to remove; its key columns follow in the reader.
    Delete {
        /// The table's number.
        table: u16,
        /// The item's place in the batch.
        item: u32,
    },
    /// A timer set, or cleared where `due` is `None`.
    Timer {
        /// The rule's number.
        rule: u16,
        /// The item's place in the batch.
        item: u32,
        /// The timer's key, unique in its rule.
        key: &'a str,
        /// When it is due, in microseconds since 1970.
        due: Option<i64>,
    },
    /// A notification.
    Notification {
        /// The rule's number.
        rule: u16,
        /// The item's place in the batch.
        item: u32,
        /// Its topic.
        topic: &'a str,
        /// A JSON document.
        body: &'a str,
    },
    /// A rule's error.
    Fault {
        /// The rule's number.
        rule: u16,
        /// The item's place in the batch.
        item: u32,
        /// What the rule said.
        message: &'a str,
    },
}

impl Effect<'_> {
    /// The item that had it, by its place in the batch.
    pub fn item(&self) -> u32 {
        match self {
            Self::Put { item, .. }
            | Self::Delete { item, .. }
            | Self::Timer { item, .. }
            | Self::Notification { item, .. }
            | Self::Fault { item, .. } => *item,
        }
    }
}

/// Reads effects one by one; after a put or a delete the caller reads the columns from
/// [`body`](Self::body) before the next.
#[derive(Debug)]
pub struct EffectsReader<'a> {
    reader: Reader<'a>,
    section: usize,
    left: u64,
}

impl<'a> EffectsReader<'a> {
    /// A reader over what `apply` returned.
    ///
    /// # Errors
    /// If the bytes don't begin as effects do.
    pub fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let left = reader.u64()?;
        Ok(Self {
            reader,
            section: WRITES,
            left,
        })
    }

    /// The next effect; `None` after the last.
    ///
    /// # Errors
    /// If the bytes are no effect, or bytes follow the last one.
    pub fn next_effect(&mut self) -> Result<Option<Effect<'a>>, DecodeError> {
        while self.left == 0 {
            if self.section == FAULTS {
                return if self.reader.is_empty() {
                    Ok(None)
                } else {
                    Err(DecodeError::OutOfRange("the effects' count"))
                };
            }
            self.section += 1;
            self.left = self.reader.u64()?;
        }
        self.left -= 1;
        let reader = &mut self.reader;
        let first = u16::try_from(reader.u64()?)
            .map_err(|_| DecodeError::OutOfRange("a table or rule number"))?;
        let item = u32::try_from(reader.u64()?).map_err(|_| DecodeError::OutOfRange("an item"))?;
        Ok(Some(match self.section {
            WRITES => match reader.u8()? {
                0 => Effect::Delete { table: first, item },
                1 => Effect::Put { table: first, item },
                tag => return Err(DecodeError::BadTag(tag)),
            },
            TIMERS => Effect::Timer {
                rule: first,
                item,
                key: reader.text()?,
                due: match reader.u8()? {
                    0 => None,
                    1 => Some(reader.i64()?),
                    tag => return Err(DecodeError::BadTag(tag)),
                },
            },
            NOTIFICATIONS => Effect::Notification {
                rule: first,
                item,
                topic: reader.text()?,
                body: reader.text()?,
            },
            _ => Effect::Fault {
                rule: first,
                item,
                message: reader.text()?,
            },
        }))
    }

    /// Where the columns of a put or delete are read from.
    pub fn body(&mut self) -> &mut Reader<'a> {
        &mut self.reader
    }
}
