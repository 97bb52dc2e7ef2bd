//! A disk that writes down what is done to it, so that every moment of a run can be made into what a machine would find
//! that lost its power then.
//!
//! Fault model: what was written before the last sync is there. Of what was written since, nothing is there
//! ([`Loss::All`]), or any of the writes, in any order ([`Loss::Some`]), or any of their sectors ([`Loss::Torn`]); the length is
//! that of the last sync or any that it was given since. Sectors of 512 bytes are written whole or not at all.

use std::{
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rulemill::store::Backend;

use crate::random::Random;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Something that happened to a disk, or that a test noted.
#[derive(Debug, Clone)]
pub enum Entry<M> {
    /// Bytes were written at this offset.
    Write(usize, Arc<[u8]>),
    /// It got this length.
    Resize(usize),
    /// All that was written before is durable.
    Sync,
    /// What the test noted here.
    Mark(M),
}

/// What becomes of writes that were not synced when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// They are lost.
    All,
    /// Any of them are there, in any order.
    Some,
    /// Any of their sectors are there.
    Torn,
}

/// Each of them.
pub const LOSSES: [Loss; 3] = [Loss::All, Loss::Some, Loss::Torn];

#[derive(Debug)]
struct State<M> {
    start: Vec<u8>,
    live: Vec<u8>,
    entries: Vec<Entry<M>>,
    bytes_read: u64,
}

/// The disk; clones are the same disk.
#[derive(Debug)]
pub struct JournalDisk<M>(Arc<Mutex<State<M>>>);

impl<M> Clone for JournalDisk<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// What was done to a disk that began with some bytes.
#[derive(Debug)]
pub struct Journal<M> {
    /// What it held at first.
    pub start: Vec<u8>,
    /// What was done, in order.
    pub entries: Vec<Entry<M>>,
}

impl<M> JournalDisk<M> {
    /// A disk that holds these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State {
            start: bytes.clone(),
            live: bytes,
            entries: Vec::new(),
            bytes_read: 0,
        })))
    }

    /// Notes something between what is done to the disk.
    pub fn mark(&self, mark: M) {
        self.state().entries.push(Entry::Mark(mark));
    }

    /// Takes what has been written down so far, and begins anew.
    pub fn take_journal(&self) -> Journal<M> {
        let mut state = self.state();
        let live = state.live.clone();
        Journal {
            start: std::mem::replace(&mut state.start, live),
            entries: std::mem::take(&mut state.entries),
        }
    }

    /// How many bytes have been read from it.
    pub fn bytes_read(&self) -> u64 {
        self.state().bytes_read
    }

    fn state(&self) -> MutexGuard<'_, State<M>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes bytes, behind the end too.
fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

impl<M: std::fmt::Debug + Send + 'static> Backend for JournalDisk<M> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.state().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        let start = offset as usize;
        let found = state.live.get(start..start + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        state.bytes_read += out.len() as u64;
        Ok(())
    }

    fn resize(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.live.resize(len as usize, 0);
        state.entries.push(Entry::Resize(len as usize));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        put(&mut state.live, offset as usize, data);
        state
            .entries
            .push(Entry::Write(offset as usize, data.into()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.state().entries.push(Entry::Sync);
        Ok(())
    }
}

impl<M> Journal<M> {
    /// Places of the syncs.
    pub fn syncs(&self) -> Vec<usize> {
        let places = self.entries.iter().enumerate();
        places
            .filter(|(_, entry)| matches!(entry, Entry::Sync))
            .map(|(place, _)| place)
            .collect()
    }

    /// Calls `visit` for each of these places, in order, with what is durable before that entry and the place of the
    /// first entry that isn't.
    pub fn replay(&self, places: &[usize], mut visit: impl FnMut(usize, &[u8], Range<usize>)) {
        let mut durable = self.start.clone();
        let mut synced = 0;
        let mut next = places.iter().peekable();
        for at in 0..=self.entries.len() {
            while next.next_if(|&&place| place == at).is_some() {
                visit(at, &durable, synced..at);
            }
            if let Some(Entry::Sync) = self.entries.get(at) {
                for entry in &self.entries[synced..at] {
                    match entry {
                        Entry::Write(offset, data) => put(&mut durable, *offset, data),
                        Entry::Resize(len) => durable.resize(*len, 0),
                        Entry::Sync | Entry::Mark(_) => {}
                    }
                }
                synced = at + 1;
            }
        }
    }

    /// What is found after a power failure: `durable`, and what this loss leaves of the entries since.
    pub fn crash(
        &self,
        durable: &[u8],
        since: Range<usize>,
        loss: Loss,
        random: &mut Random,
    ) -> Vec<u8> {
        let mut bytes = durable.to_vec();
        if loss == Loss::All {
            return bytes;
        }
        let mut writes = Vec::new();
        let mut lengths = vec![bytes.len()];
        for entry in &self.entries[since] {
            match entry {
                Entry::Write(offset, data) => writes.push((*offset, &data[..])),
                Entry::Resize(len) => lengths.push(*len),
                Entry::Sync | Entry::Mark(_) => {}
            }
        }
        let len = lengths[random.below(lengths.len() as u64) as usize];
        bytes.resize(len, 0);
        // Mostly some of each; now and then nearly none or nearly all.
        let rarity = random.between(2, 6).unsigned_abs();
        let most = random.one_in(2);
        let keep = |random: &mut Random| random.one_in(rarity) != most;
        for place in (1..writes.len()).rev() {
            writes.swap(place, random.below(place as u64 + 1) as usize);
        }
        for (offset, data) in writes {
            if loss == Loss::Some {
                if keep(random) {
                    put(&mut bytes, offset, data);
                }
                continue;
            }
            let mut from = 0;
            while from < data.len() {
                let sector_end = ((offset + from) / SECTOR_BYTES + 1) * SECTOR_BYTES - offset;
                let to = sector_end.min(data.len());
                if keep(random) {
                    put(&mut bytes, offset + from, &data[from..to]);
                }
                from = to;
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_is_there_and_of_the_rest_any_part() {
        let disk = JournalDisk::<()>::new(Vec::new());
        disk.resize(2_048).unwrap();
        disk.write(0, &[1; 2_048]).unwrap();
        disk.sync().unwrap();
        disk.write(256, &[2; 1_024]).unwrap();
        disk.write(1_280, &[3; 768]).unwrap();
        let journal = disk.take_journal();
        let mut random = Random::new(1);
        let (mut parts, mut torn) = (Vec::new(), 0);
        journal.replay(&[1, 5], |at, durable, since| {
            let lost = journal.crash(durable, since.clone(), Loss::All, &mut random);
            if at == 1 {
                assert_eq!((lost.len(), since), (0, 0..1));
                return;
            }
            assert_eq!(lost, [1; 2_048]);
            for _ in 0..100 {
                let some = journal.crash(durable, since.clone(), Loss::Some, &mut random);
                assert!(some[..256].iter().all(|byte| *byte == 1));
                parts.push((some[256], some[1_279], some[1_280], some[2_047]));
                let some = journal.crash(durable, since.clone(), Loss::Torn, &mut random);
                for sector in some[512..].chunks(SECTOR_BYTES).take(1) {
                    assert!(sector.iter().all(|byte| *byte == sector[0]));
                }
                torn += u32::from(some[256] != some[512]);
            }
        });
        parts.sort_unstable();
        parts.dedup();
        assert_eq!(
            parts,
            [(1, 1, 1, 1), (1, 1, 3, 3), (2, 2, 1, 1), (2, 2, 3, 3)]
        );
        assert!(torn > 10, "{torn}");
    }
}
