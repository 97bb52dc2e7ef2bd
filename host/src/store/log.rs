//! The log's blocks: changes in the order in which they were made, compressed.
//!
//! ```text
//! key   = the write set's last seq (8 bytes, big-endian), the block's place in it (4 bytes, big-endian)
//! value = raw length:varint  newest time:zigzag varint  lz4 block of entry*
//! entry = op:u8  table:varint  seq:zigzag varint (since the entry before)  time:zigzag varint (likewise)
//!         cause:varint (how far before seq; only if op has bit 2 set)
//!         key:bytes  before:row  after:row          row = 0, or length + 1 and the bytes
//! ```
//!
//! Every write set has its own blocks, so the blocks from any seq on hold every change from it on. The
//! compression is the [LZ4 block format](https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md).

use bytes::Bytes;
use rulemill_wire::{Reader, codec};

use crate::{
    catalog::TableId,
    change::{Change, Op, Seq},
};

use super::Error;

/// The op's bit for an entry whose cause is another than its seq.
const HAS_CAUSE: u8 = 4;
/// Raw bytes after which a block is full.
const BLOCK_BYTES: usize = 128 << 10;
/// No block is larger than this: one change of the largest rows that the limits could allow.
const BLOCK_BYTES_MAX: usize = 1 << 30;
/// No byte of an LZ4 block stands for more than these: so a damaged length sets no memory aside that its block can't fill.
const LZ4_RATIO_MAX: usize = 255;

/// Calls `store` with the key and value of each block of these changes.
pub(super) fn write_blocks(
    last_seq: Seq,
    changes: &[Change],
    scratch: &mut Vec<u8>,
    mut store: impl FnMut(&[u8], &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut place = 0u32;
    let mut rest = changes;
    let mut value = Vec::new();
    while !rest.is_empty() {
        scratch.clear();
        let (mut seq, mut time, mut newest) = (0i64, 0i64, i64::MIN);
        let mut taken = 0;
        for change in rest {
            let op = match change.op {
                Op::Insert => 0,
                Op::Update => 1,
                Op::Delete => 2,
            };
            let behind = change.seq.0.wrapping_sub(change.cause.0);
            scratch.push(op | if behind == 0 { 0 } else { HAS_CAUSE });
            codec::write_u64(change.table.0.into(), scratch);
            codec::write_i64((change.seq.0 as i64).wrapping_sub(seq), scratch);
            codec::write_i64(change.time.wrapping_sub(time), scratch);
            if behind != 0 {
                codec::write_u64(behind, scratch);
            }
            codec::write_bytes(&change.key, scratch);
            for row in [&change.before, &change.after] {
                match row {
                    None => scratch.push(0),
                    Some(row) => {
                        codec::write_u64(row.len() as u64 + 1, scratch);
                        scratch.extend_from_slice(row);
                    }
                }
            }
            (seq, time) = (change.seq.0 as i64, change.time);
            newest = newest.max(time);
            taken += 1;
            if scratch.len() >= BLOCK_BYTES {
                break;
            }
        }
        rest = &rest[taken..];
        value.clear();
        codec::write_u64(scratch.len() as u64, &mut value);
        codec::write_i64(newest, &mut value);
        let header = value.len();
        value.resize(
            header + lz4_flex::block::get_maximum_output_size(scratch.len()),
            0,
        );
        let written = lz4_flex::block::compress_into(scratch, &mut value[header..])
            .map_err(|error| Error::Damaged(format!("can't compress a log block: {error}")))?;
        value.truncate(header + written);
        store(&block_key(last_seq, place), &value)?;
        place += 1;
    }
    Ok(())
}

/// A block's key.
pub(super) fn block_key(last_seq: Seq, place: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&last_seq.0.to_be_bytes());
    key[8..].copy_from_slice(&place.to_be_bytes());
    key
}

/// The last seq of the write set that a block is of.
pub(super) fn block_last_seq(key: &[u8]) -> Result<Seq, Error> {
    let bytes = key
        .first_chunk::<8>()
        .ok_or_else(|| Error::Damaged("a log block's key is too short".into()))?;
    Ok(Seq(u64::from_be_bytes(*bytes)))
}

/// The newest commit time in a block.
pub(super) fn block_newest(value: &[u8]) -> Result<i64, Error> {
    let mut reader = Reader::new(value);
    reader.u64()?;
    Ok(reader.i64()?)
}

/// The changes of a block, in order.
pub(super) fn read_block(value: &[u8]) -> Result<Vec<Change>, Error> {
    let mut reader = Reader::new(value);
    let len = reader.len()?;
    reader.i64()?;
    let possible = reader.rest().len().saturating_mul(LZ4_RATIO_MAX);
    if len > BLOCK_BYTES_MAX.min(possible) {
        return Err(Error::Damaged(format!("a log block of {len} bytes")));
    }
    let raw = lz4_flex::block::decompress(reader.rest(), len)
        .map_err(|error| Error::Damaged(format!("a log block: {error}")))?;
    if raw.len() != len {
        return Err(Error::Damaged(format!(
            "a log block says {len} bytes and has {}",
            raw.len()
        )));
    }
    let raw = Bytes::from(raw);
    let mut reader = Reader::new(&raw);
    let mut changes = Vec::new();
    let (mut seq, mut time) = (0i64, 0i64);
    while !reader.is_empty() {
        let tag = reader.u8()?;
        let op = match tag & !HAS_CAUSE {
            0 => Op::Insert,
            1 => Op::Update,
            2 => Op::Delete,
            _ => return Err(Error::Damaged(format!("a log entry of kind {tag}"))),
        };
        let table = u32::try_from(reader.u64()?)
            .map_err(|_| Error::Damaged("a log entry's table".into()))?;
        seq = seq.wrapping_add(reader.i64()?);
        time = time.wrapping_add(reader.i64()?);
        let behind = match tag & HAS_CAUSE {
            0 => 0,
            _ => reader.u64()?,
        };
        let key = raw.slice_ref(reader.bytes()?);
        let mut rows = [None, None];
        for row in &mut rows {
            let len = reader.len()?;
            if len > 0 {
                *row = Some(raw.slice_ref(reader.take(len - 1)?));
            }
        }
        let [before, after] = rows;
        changes.push(Change {
            seq: Seq(seq as u64),
            cause: Seq((seq as u64).wrapping_sub(behind)),
            table: TableId(table),
            op,
            key,
            before,
            after,
            time,
        });
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn change() -> impl Strategy<Value = Change> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..60);
        let row = || proptest::option::of(bytes());
        (
            (0..1u64 << 40, 0..3u64),
            0..9u32,
            0..3u8,
            bytes(),
            row(),
            row(),
            any::<i64>(),
        )
            .prop_map(
                |((seq, behind), table, op, key, before, after, time)| Change {
                    seq: Seq(seq),
                    cause: Seq(seq.saturating_sub(behind)),
                    table: TableId(table),
                    op: [Op::Insert, Op::Update, Op::Delete][usize::from(op)],
                    key: key.into(),
                    before: before.map(Bytes::from),
                    after: after.map(Bytes::from),
                    time,
                },
            )
    }

    proptest! {
        #[test]
        fn changes_come_back_as_they_went_in(changes in proptest::collection::vec(change(), 0..200), copies in 1..40usize) {
            // Enough copies to fill several blocks.
            let changes: Vec<Change> = std::iter::repeat_n(changes, copies).flatten().collect();
            let mut back = Vec::new();
            let mut keys = Vec::new();
            write_blocks(Seq(7), &changes, &mut Vec::new(), |key, value| {
                keys.push(key.to_vec());
                back.extend(read_block(value)?);
                Ok(())
            }).unwrap();
            prop_assert!(keys.is_sorted());
            prop_assert_eq!(format!("{back:?}"), format!("{changes:?}"));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = read_block(&bytes);
            let _ = block_newest(&bytes);
        }
    }
}
