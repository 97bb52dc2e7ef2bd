//! Blocks of the log: any bytes are read or refused; what is read is written and read again as it was; and changes come
//! back as they went in.

use rulemill::{
    catalog::TableId,
    change::{Change, Op, Seq},
    store::fuzzing::{block_newest, read_block, write_blocks},
};
use rulemill_wire::{Reader, codec};

use super::bytes::Bytes;

/// Changes of one input, at the most.
const CHANGES_MAX: usize = 24;

pub(super) fn log(input: &[u8]) -> bool {
    let read = read_block(input);
    if let Ok(changes) = &read {
        assert!(block_newest(input).is_ok());
        come_back(changes);
    }
    let mut bytes = Bytes::new(input);
    let mut changes: Vec<Change> = Vec::new();
    while !bytes.is_empty() && changes.len() < CHANGES_MAX {
        changes.push(change(&mut bytes));
    }
    come_back(&changes);
    damaged(&changes, input);
    read.is_ok_and(|changes| !changes.is_empty())
}

fn change(bytes: &mut Bytes<'_>) -> Change {
    let op = [Op::Insert, Op::Update, Op::Delete][usize::from(bytes.below(3))];
    let mut row = || {
        let there = bytes.flag();
        let len = usize::from(bytes.below(40));
        let row = bytes.take(len).to_vec();
        there.then(|| row.into())
    };
    let (before, after) = (row(), row());
    let len = usize::from(bytes.below(20));
    let mut change = Change {
        op,
        before,
        after,
        key: bytes.take(len).to_vec().into(),
        seq: Seq(bytes.number() as u64),
        cause: Seq(0),
        table: TableId(bytes.number() as u32),
        time: bytes.number(),
    };
    change.cause = match bytes.flag() {
        true => Seq(bytes.number() as u64),
        false => change.seq,
    };
    change
}

fn come_back(changes: &[Change]) {
    let blocks = write_blocks(Seq(7), changes).unwrap();
    let mut back = Vec::new();
    for block in &blocks {
        let read = read_block(block).unwrap();
        let newest = read.iter().map(|change| change.time).max();
        assert_eq!(Some(block_newest(block).unwrap()), newest);
        back.extend(read);
    }
    assert_eq!(format!("{back:?}"), format!("{changes:?}"));
}

/// A block that says it holds more or less than it does isn't read.
fn another_length(block: &[u8], by: i64) {
    let mut reader = Reader::new(block);
    let Some(len) = reader.u64().unwrap().checked_add_signed(by) else {
        return;
    };
    let mut other = Vec::new();
    codec::write_u64(len, &mut other);
    other.extend_from_slice(reader.rest());
    let read = read_block(&other);
    assert!(read.is_err(), "{len} bytes, {by} more than there are");
}

/// A block with one byte changed is read as some changes or refused, but read.
fn damaged(changes: &[Change], input: &[u8]) {
    for mut block in write_blocks(Seq(7), changes).unwrap() {
        for by in [-1, 1, 1 << 20] {
            another_length(&block, by);
        }
        let place = input.len() * 31 % block.len();
        block[place] ^= input.last().copied().unwrap_or_default();
        if let Ok(changes) = read_block(&block) {
            come_back(&changes);
        }
        let _ = block_newest(&block);
    }
}
