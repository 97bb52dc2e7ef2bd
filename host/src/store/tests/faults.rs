//! A disk that fails in the middle of a commit, or loses what wasn't synced.
//!
//! Fault model: storage fails from some operation on, then the machine loses power: of the writes since the
//! last sync any may be there or not. Invariant: what opens afterwards holds every commit that was
//! reported, at most one more, and each whole.

use std::{
    io,
    sync::{Arc, Mutex},
};

use super::*;

#[derive(Debug, Default)]
struct State {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last sync: offset and bytes.
    unsynced: Vec<(usize, Vec<u8>)>,
    /// Writes, resizes and syncs until the disk fails; `None` if it won't.
    left: Option<u64>,
    done: u64,
}

#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// What a disk holds after a power failure that kept every other unsynced write, from this one on.
    fn after_power_failure(&self, keep_from: usize) -> Self {
        let state = self.0.lock().unwrap();
        let mut bytes = state.durable.clone();
        bytes.resize(state.live.len(), 0);
        for (offset, data) in state.unsynced.iter().skip(keep_from).step_by(2) {
            if offset + data.len() <= bytes.len() {
                bytes[*offset..offset + data.len()].copy_from_slice(data);
            }
        }
        Self(Arc::new(Mutex::new(State {
            live: bytes.clone(),
            durable: bytes,
            ..State::default()
        })))
    }

    fn step(&self) -> io::Result<std::sync::MutexGuard<'_, State>> {
        let mut state = self.0.lock().unwrap();
        state.done += 1;
        match &mut state.left {
            Some(0) => return Err(io::ErrorKind::StorageFull.into()),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(state)
    }
}

impl Backend for Disk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let start = offset as usize;
        out.copy_from_slice(&state.live[start..start + out.len()]);
        Ok(())
    }

    fn resize(&self, len: u64) -> io::Result<()> {
        self.step()?.live.resize(len as usize, 0);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.step()?;
        let start = offset as usize;
        state.live[start..start + data.len()].copy_from_slice(data);
        state.unsynced.push((start, data.to_vec()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.step()?;
        state.durable = state.live.clone();
        state.unsynced.clear();
        Ok(())
    }
}

const ROWS: i64 = 50;

fn limits() -> Limits {
    Limits {
        store_cache_bytes: 1 << 20,
        ..Limits::default()
    }
}

/// Commit `number` moves every row from the city of the one before to its own.
fn commit(store: &Store, number: u64) -> Result<CommitStats, Error> {
    let city = |number: u64| format!("city {number}");
    let (before, after) = (city(number - 1), city(number));
    let before = (number > 1).then_some(&before[..]);
    let rows: Vec<_> = (0..ROWS).map(|id| (id, before, Some(&after[..]))).collect();
    store.commit(&mut [WriteSet {
        catalog: first().catalog,
        ..moves(number, &rows)
    }])
}

/// Which commit the store holds, once it is seen to be whole.
fn whole(store: &Store) -> u64 {
    let number = store.reader().unwrap().last_seq().0;
    let (rows, by_index) = contents(store, false);
    let expected: Vec<String> = match number {
        0 => Vec::new(),
        _ => (0..ROWS).map(|id| format!("{id} city {number}")).collect(),
    };
    assert_eq!(rows, expected);
    assert_eq!(by_index.len(), rows.len());
    let reader = store.reader().unwrap();
    let logged: Vec<u64> = reader
        .log(Seq(0))
        .unwrap()
        .map(|change| change.unwrap().seq.0)
        .collect();
    let expected: Vec<u64> = (1..=number)
        .flat_map(|seq| std::iter::repeat_n(seq, ROWS as usize))
        .collect();
    assert_eq!(logged, expected);
    number
}

#[test]
fn a_failing_disk_leaves_the_last_commit() {
    let mut failed = 0;
    for left in 0..400 {
        let disk = Disk::default();
        let store = Store::with_backend(disk.clone(), &limits()).unwrap();
        commit(&store, 1).unwrap();
        disk.0.lock().unwrap().left = Some(left);
        let mut reported = 1;
        let error = loop {
            match commit(&store, reported + 1) {
                Ok(_) if reported == 8 => break None,
                Ok(_) => reported += 1,
                Err(error) => break Some(error),
            }
        };
        let Some(error) = error else { break };
        failed += 1;
        assert!(matches!(error, Error::Full), "after {left}: {error}");
        // Closing fails too, and must not panic.
        drop(store);
        for keep_from in [0, 1, usize::MAX] {
            let disk = disk.after_power_failure(keep_from);
            let store = Store::with_backend(disk, &limits())
                .unwrap_or_else(|error| panic!("after {left}, {keep_from}: {error}"));
            let found = whole(&store);
            assert!(
                found == reported || found == reported + 1,
                "after {left}: {reported} reported, {found} found"
            );
            commit(&store, found + 1).unwrap();
            assert_eq!(whole(&store), found + 1);
        }
    }
    assert!(failed > 50, "the disk failed only {failed} times");
}
