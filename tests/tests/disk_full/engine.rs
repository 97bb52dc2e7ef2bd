//! The engine over a disk in memory whose room ends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, bounded};
use rulemill::{
    change::{RawOp, Receipt, Refused},
    engine::Control,
    limits::Limits,
    store::Store,
};
use rulemill_tests::{
    rig::{Options, Rig, TestChange, rows},
    storage::{JournalDisk, SmallDisk},
    wait::until,
};
use rulemill_wire::ValueRef;

#[allow(unreachable_pub, reason = "the macros name the types")]
mod notes {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "notes")]
    pub struct Note {
        #[key]
        id: i64,
        text: String,
    }

    #[derive(Row, Default)]
    #[table(derived = "lengths")]
    pub struct Length {
        #[key]
        id: i64,
        changes: i64,
        bytes: i64,
    }

    #[rule]
    pub fn lengths(change: Change<Note>, lengths: &mut Table<Length>) -> Outcome {
        for Delta { row, sign } in change.deltas() {
            let length = lengths.entry(0)?;
            length.changes += sign;
            length.bytes += sign * row.text.len() as i64;
        }
        Ok(())
    }

    rulemill_sdk::plugin!(lengths);
}

const TEXT_BYTES: usize = 3_000;
const NOTES: i64 = 60;
/// More than the store ever takes here.
const PLENTY: usize = 100_000;

fn options() -> Options {
    Options {
        limits: Limits {
            // Pages are written in the middle of a transaction too.
            store_cache_bytes: 64 << 10,
            ..Limits::default()
        },
        ..Options::default()
    }
}

fn open(disk: &SmallDisk) -> Store {
    Store::with_backend(disk.clone(), &options().limits).unwrap()
}

fn start(store: Store) -> Rig {
    Rig::start(
        Arc::new(store),
        &options(),
        &[("notes", notes::plugin, "1")],
    )
    .unwrap()
}

type Answer = Receiver<Result<Receipt, Refused>>;

fn hand_in(rig: &Rig, id: i64) -> Answer {
    let text = format!("{id:0width$}", width = TEXT_BYTES);
    let change = TestChange {
        table: "notes",
        op: RawOp::Upsert,
        row: vec![("id", ValueRef::I64(id)), ("text", ValueRef::Text(&text))],
        time: Some(id),
    };
    let mut batch = rig.batch(&[change]).unwrap();
    let (answer, answered) = bounded(1);
    batch.done = Some(Box::new(move |result| {
        let _ = answer.send(result);
    }));
    rig.handle.submit(batch).unwrap();
    answered
}

fn check(store: &mut Store, notes: i64) {
    assert_eq!(rows(store, "notes").unwrap().len() as i64, notes);
    let expected = match notes {
        0 => Vec::new(),
        _ => vec![format!(
            "id=0 changes={notes} bytes={}",
            notes * TEXT_BYTES as i64
        )],
    };
    assert_eq!(rows(store, "lengths").unwrap(), expected);
    let mut findings = Vec::new();
    store.verify(&mut |finding| findings.push(finding)).unwrap();
    assert_eq!(findings, []);
}

/// Stops the host and takes its store.
fn stop(rig: Rig) -> Store {
    let mut store = rig.stop().unwrap();
    loop {
        match Arc::try_unwrap(store) {
            Ok(store) => return store,
            // A thread of the engine frees the last commit.
            Err(shared) => store = shared,
        }
        std::thread::yield_now();
    }
}

/// How many pages the store has when it is new, and when it has all the notes.
fn pages() -> (usize, usize) {
    let disk = SmallDisk::new(PLENTY);
    let rig = start(open(&disk));
    let first = disk.pages();
    let answers: Vec<_> = (0..NOTES).map(|id| hand_in(&rig, id)).collect();
    for answer in answers {
        answer.recv().unwrap().unwrap();
    }
    check(&mut stop(rig), NOTES);
    (first, disk.pages())
}

#[test]
fn a_full_disk_is_waited_for_wherever_in_a_commit_it_is_full() {
    let (first, last) = pages();
    assert!(last > first + 50, "{first} {last}");
    let mut waited = 0;
    for room in (first..last).step_by(3) {
        let disk = SmallDisk::new(PLENTY);
        let rig = start(open(&disk));
        disk.set_room(room);
        let answers: Vec<_> = (0..NOTES).map(|id| hand_in(&rig, id)).collect();
        // Groups are not the same in every run: it may be done with less.
        let full = until("the disk to be full, or all to be stored", || {
            let full = rig.store.room().full_since().is_some();
            (full || answers.last().is_some_and(|answer| !answer.is_empty())).then_some(full)
        });
        if full {
            waited += 1;
            assert!(disk.refused() > 0);
            // What is stored can be read, and only what is stored was answered.
            let stored = rows(&rig.store, "notes").unwrap().len();
            let answered = answers.iter().filter(|answer| !answer.is_empty()).count();
            assert!(answered <= stored, "{answered} answered, {stored} stored");
            disk.set_room(PLENTY);
        }
        for answer in answers {
            answer.recv().unwrap().unwrap();
        }
        assert_eq!(rig.store.room().full_since(), None);
        check(&mut stop(rig), NOTES);
    }
    assert!(waited > 10, "the disk was full only {waited} times");
}

#[test]
fn a_host_that_must_end_while_the_disk_is_full_ends_soon_and_loses_nothing_that_was_answered() {
    let (first, last) = pages();
    let mut ended = 0;
    for room in (first..last).step_by(11) {
        let disk = SmallDisk::new(PLENTY);
        let rig = start(open(&disk));
        disk.set_room(room);
        let mut answers: Vec<_> = (0..NOTES).map(|id| hand_in(&rig, id)).collect();
        let full = until("the disk to be full, or all to be stored", || {
            let full = rig.store.room().full_since().is_some();
            (full || answers.last().is_some_and(|answer| !answer.is_empty())).then_some(full)
        });
        if !full {
            stop(rig);
            continue;
        }
        ended += 1;
        let since = Instant::now();
        rig.store.room().wait_at_most(Duration::from_millis(300));
        rig.handle.control(Control::Shutdown).unwrap();
        let Err(error) = rig.stop() else {
            panic!("it ended as if there had been room");
        };
        let error = error.to_string();
        assert!(error.contains("disk is full"), "{error}");
        assert!(
            since.elapsed() < Duration::from_secs(20),
            "{:?}",
            since.elapsed()
        );
        // As a process finds it that starts after this one has ended.
        let disk = JournalDisk::<()>::new(disk.bytes());
        let mut store = Store::with_backend(disk, &options().limits).unwrap();
        let stored = rows(&store, "notes").map_or(0, |rows| rows.len());
        for answer in answers.drain(..stored) {
            // Of the last commit it may not have been told.
            let _ = answer.recv();
        }
        for answer in answers {
            let answer = answer.recv();
            assert!(!matches!(answer, Ok(Ok(_))), "answered and not stored");
        }
        check(&mut store, stored as i64);
        // And goes on with the rest.
        let rig = start(store);
        for id in stored as i64..NOTES {
            hand_in(&rig, id).recv().unwrap().unwrap();
        }
        check(&mut stop(rig), NOTES);
    }
    assert!(ended > 3, "only {ended} times");
}
