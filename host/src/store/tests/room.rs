//! A disk that is full, below the database: a sync waits, and what waits for it is read as if it were there.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::prelude::*;
use redb::StorageBackend;

use crate::store::room::{PAGE_BYTES, Patient, Room};

/// Bytes in memory, and whether there is room for a write.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<(Vec<u8>, bool)>>);

impl Disk {
    fn set_full(&self, full: bool) {
        self.0.lock().unwrap().1 = full;
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().0.clone()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().0.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = offset as usize;
        out.copy_from_slice(&self.0.lock().unwrap().0[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().0.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let start = offset as usize;
        // Half of a write may be there although it found no room.
        let len = if disk.1 { data.len() / 2 } else { data.len() };
        disk.0[start..start + len].copy_from_slice(&data[..len]);
        match disk.1 {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

fn patient() -> (Disk, Room, Patient<Disk>) {
    let (disk, room) = (Disk::default(), Room::default());
    room.wait();
    (disk.clone(), room.clone(), Patient::new(disk, room))
}

#[test]
fn a_sync_waits_for_room_and_nothing_else_does() {
    let (disk, room, patient) = patient();
    patient.set_len(3 * PAGE_BYTES).unwrap();
    disk.set_full(true);
    patient.write(100, &[7; 5_000]).unwrap();
    assert_eq!(room.full_since(), None);
    // A length is made durable in the middle of a transaction.
    patient.set_len(5 * PAGE_BYTES).unwrap();
    let waited = std::thread::scope(|scope| {
        let syncing = scope.spawn(|| patient.sync_data());
        while room.full_since().is_none() && !syncing.is_finished() {
            std::thread::yield_now();
        }
        let waited = room.full_since().is_some();
        disk.set_full(false);
        syncing.join().unwrap().unwrap();
        waited
    });
    assert!(!waited, "with a lock that readers need");
    disk.set_full(true);
    patient.write(0, &[1]).unwrap();
    std::thread::scope(|scope| {
        let syncing = scope.spawn(|| patient.sync_data());
        while room.full_since().is_none() {
            assert!(!syncing.is_finished(), "it didn't wait");
            std::thread::yield_now();
        }
        let mut out = [0; 2];
        patient.read(99, &mut out).unwrap();
        assert_eq!(out, [0, 7], "readers go on");
        disk.set_full(false);
        syncing.join().unwrap().unwrap();
    });
    assert_eq!(room.full_since(), None);
    assert_eq!(disk.bytes()[..2], [1, 0]);
    assert_eq!(disk.bytes()[100..5_100], [7; 5_000]);
}

#[test]
fn where_nobody_waits_a_full_disk_is_an_error() {
    let (disk, room, _) = patient();
    disk.set_len(PAGE_BYTES).unwrap();
    let patient = Patient::new(disk.clone(), Room::default());
    disk.set_full(true);
    let error = patient.write(0, &[1]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let patient = Patient::new(disk, room.clone());
    patient.write(0, &[1]).unwrap();
    room.wait_at_most(Duration::from_millis(10));
    let error = patient.sync_data().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[derive(Debug, Clone)]
enum Step {
    Write(u64, Vec<u8>),
    Resize(u64),
    Full(bool),
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = proptest::collection::vec(any::<u8>(), 1..6_000);
    prop_oneof![
        6 => (0..20_000u64, bytes).prop_map(|(at, bytes)| Step::Write(at, bytes)),
        1 => (0..30_000u64).prop_map(Step::Resize),
        2 => any::<bool>().prop_map(Step::Full),
        1 => Just(Step::Sync),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_kept_is_read_as_if_it_were_written(steps in proptest::collection::vec(step(), 1..40)) {
        let (disk, _, patient) = patient();
        let mut model = Vec::new();
        for step in steps {
            match step {
                Step::Write(at, bytes) => {
                    let at = at as usize;
                    let len = bytes.len().min(model.len().saturating_sub(at));
                    if len == 0 {
                        continue;
                    }
                    patient.write(at as u64, &bytes[..len]).unwrap();
                    model[at..at + len].copy_from_slice(&bytes[..len]);
                }
                Step::Resize(len) => {
                    patient.set_len(len).unwrap();
                    model.resize(len as usize, 0);
                }
                Step::Full(full) => disk.set_full(full),
                Step::Sync => {
                    disk.set_full(false);
                    patient.sync_data().unwrap();
                }
            }
            let mut found = vec![1; model.len()];
            patient.read(0, &mut found).unwrap();
            prop_assert!(found == model);
        }
        disk.set_full(false);
        if !model.is_empty() {
            patient.write(0, &model[..1]).unwrap();
        }
        patient.sync_data().unwrap();
        prop_assert!(model.is_empty() || disk.bytes() == model);
    }
}
