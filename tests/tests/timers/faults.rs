//! Timers whose rule fails: what becomes of the one, of those behind it, and of everybody else.
//!
//! One bad timer once stopped its rule for ever, whatever `on_error` said.

use rulemill::{
    engine::{ControlError, OnError},
    limits::Limits,
    store::{LetterState, Subject},
};
use rulemill_tests::rig::Rig;

use crate::alarms::{FAULTY, alarm, mend, options, parked, retry, set, start, volume};

use LetterState::{Faulted, Skipped, Waiting};

fn owned(found: &[(&str, i64, LetterState)]) -> Vec<(String, i64, LetterState)> {
    let found = found.iter();
    found
        .map(|(key, due, state)| ((*key).to_owned(), *due, *state))
        .collect()
}

fn is_running(rig: &Rig) {
    let board = rig.handle.board.load();
    for (rule, line) in &board.rules {
        assert_eq!(line.status, "running", "{rule}");
    }
}

/// Three kinds of faults, each with its words: an error, a panic, effects that are refused.
const KINDS: [(&str, &str); 3] = [
    ("err-1", "no bell"),
    ("panic-1", "the bell is cracked"),
    ("big-1", "exceeded limits.row_bytes_max = 2000"),
];

#[test]
fn a_timer_that_fails_is_parked_and_those_of_its_key_wait() {
    for (id, words) in KINDS {
        let options = options(OnError::Park, 4_096);
        let mut rig = start(&options);
        // Set, due and behind in one batch: the guest comes to it first, by itself.
        rig.apply(&[
            alarm(id, Some(10), 0, 1_000),
            alarm("well", Some(10), 0, 1_000),
            alarm(id, Some(10), 1, 2_000),
            alarm("well", Some(10), 1, 2_000),
            volume(1, 3_000),
        ])
        .unwrap();
        let expected = owned(&[(id, 1_010, Faulted), (id, 2_010, Waiting)]);
        assert_eq!(parked(&rig), expected);
        assert!(set(&rig).is_empty());
        let of_good = "id=well times=2 last=2010 now=2010 loud=1 text=";
        assert_eq!(rig.rows("rung").unwrap(), [of_good]);
        is_running(&rig);
        let [first, second] = &rig.letters().unwrap()[..] else {
            panic!("two")
        };
        assert!(first.error.contains(words), "{first:?}");
        assert!(second.error.contains("waits behind"), "{second:?}");
        assert_eq!((&*first.plugin, &*first.rule), ("alarms", "ring"));
        assert_eq!((first.seq.0, second.seq.0), (3, 5));
        assert_eq!((first.version, first.time), (1, 2_000));

        // It outlives the host.
        let store = rig.stop().unwrap();
        rig = Rig::start(store, &options, &[FAULTY]).unwrap();
        rig.apply(&[alarm(id, Some(10), 2, 4_000), volume(2, 5_000)])
            .unwrap();
        let third = owned(&[(id, 4_010, Waiting)]);
        let expected = [expected, third].concat();
        assert_eq!(parked(&rig), expected);

        // Not mended: all stay where they are.
        assert_eq!(retry(&rig, None).unwrap(), (0, 3));
        assert_eq!(parked(&rig), expected);
        is_running(&rig);
        let first = rig.letters().unwrap()[0].id;
        mend(&rig);
        assert_eq!(retry(&rig, Some(first)).unwrap(), (1, 0));
        let rung = format!("id={id} times=1 last=1010 now=1010 loud=2 text=");
        assert_eq!(rig.rows("rung").unwrap()[..1], [rung.clone()][..]);
        assert_eq!(retry(&rig, None).unwrap(), (2, 0));
        assert!(rig.letters().unwrap().is_empty());
        // In their order, each with its own time, seeing other tables as they are now.
        let rung = format!("id={id} times=3 last=4010 now=4010 loud=2 text=");
        assert_eq!(rig.rows("rung").unwrap(), [&rung, of_good]);
        // Nothing waits any more.
        rig.apply(&[alarm(id, Some(10), 3, 6_000), volume(3, 7_000)])
            .unwrap();
        let rung = format!("id={id} times=4 last=6010 now=6010 loud=3 text=");
        assert_eq!(rig.rows("rung").unwrap(), [&rung, of_good]);
        // Whoever got only changes was not blamed.
        let counted = format!("id={id} changes=4");
        assert_eq!(rig.rows("seen").unwrap(), [&counted, "id=well changes=2"]);
    }
}

#[test]
fn a_timer_that_is_set_again_stays_set_when_the_parked_one_is_retried() {
    let rig = start(&options(OnError::Park, 4_096));
    rig.apply(&[alarm("err-1", Some(10), 0, 1_000), volume(1, 2_000)])
        .unwrap();
    rig.apply(&[alarm("err-1", Some(10), 1, 3_000)]).unwrap();
    assert_eq!(parked(&rig), owned(&[("err-1", 1_010, Faulted)]));
    assert_eq!(set(&rig), [("err-1".to_owned(), 3_010)]);
    assert_eq!(retry(&rig, None).unwrap(), (0, 1));
    assert_eq!(set(&rig), [("err-1".to_owned(), 3_010)]);
    mend(&rig);
    assert_eq!(retry(&rig, None).unwrap(), (1, 0));
    assert_eq!(set(&rig), [("err-1".to_owned(), 3_010)]);
    // That one is a firing of its own.
    rig.apply(&[volume(2, 4_000)]).unwrap();
    assert!(set(&rig).is_empty());
    assert_eq!(
        rig.rows("rung").unwrap(),
        ["id=err-1 times=2 last=3010 now=3010 loud=2 text="]
    );
}

/// Changes that are retried see other tables as of themselves; a timer that is retried with them doesn't.
#[test]
fn a_timer_that_is_retried_beside_a_change_sees_what_is_there_now() {
    let rig = start(&options(OnError::Park, 4_096));
    rig.apply(&[volume(1, 500)]).unwrap();
    rig.apply(&[alarm("both-1", Some(10), 0, 1_000)]).unwrap();
    rig.apply(&[volume(2, 2_000)]).unwrap();
    rig.apply(&[volume(3, 3_000)]).unwrap();
    assert_eq!(rig.letters().unwrap().len(), 2);
    mend(&rig);
    let all = rig.retry(None, None);
    assert_eq!(all.unwrap(), (2, 0));
    assert_eq!(
        rig.rows("rung").unwrap(),
        ["id=both-1 times=1 last=1010 now=1010 loud=3 text="]
    );
    assert_eq!(rig.rows("seen").unwrap(), ["id=both-1 changes=1"]);
}

/// A timer that is cleared before the place where it would wait never comes to it.
#[test]
fn what_a_change_of_the_same_batch_clears_does_not_wait() {
    for batch in [1, 4_096] {
        let rig = start(&options(OnError::Park, batch));
        let changes = [
            alarm("err-1", Some(10), 0, 1_000),
            volume(1, 2_000),
            alarm("err-1", Some(10), 1, 3_000),
        ];
        for part in changes.chunks(batch) {
            rig.apply(part).unwrap();
        }
        // It is set when the batch begins, and due at the second change of it.
        let changes = [alarm("err-1", None, 0, 3_005), volume(2, 4_000)];
        for part in changes.chunks(batch) {
            rig.apply(part).unwrap();
        }
        assert_eq!(parked(&rig), owned(&[("err-1", 1_010, Faulted)]));
        assert!(set(&rig).is_empty());
    }
}

#[test]
fn dropped_timers_are_gone_and_what_only_waited_fires() {
    let rig = start(&options(OnError::Park, 4_096));
    for version in 0..4 {
        rig.apply(&[alarm("err-1", Some(10), version, 1_000 * (version + 1))])
            .unwrap();
    }
    rig.apply(&[volume(1, 9_000)]).unwrap();
    let ids: Vec<u64> = rig
        .letters()
        .unwrap()
        .iter()
        .map(|letter| letter.id)
        .collect();
    assert_eq!(ids.len(), 4);
    // One in the middle, then the first: the second goes through its rule, and fails there.
    assert_eq!(rig.drop_letters(None, Some(ids[2])).unwrap(), 1);
    assert_eq!(rig.drop_letters(None, Some(ids[0])).unwrap(), 1);
    rig.wait_for(|_| {
        parked(&rig) == owned(&[("err-1", 2_010, Faulted), ("err-1", 4_010, Waiting)])
    });
    // What is gone leaves nothing to make up for.
    assert!(rig.store.reader().unwrap().gaps().unwrap().next().is_none());
    mend(&rig);
    assert_eq!(rig.drop_letters(None, Some(ids[1])).unwrap(), 1);
    rig.wait_for(|_| rig.letters().unwrap().is_empty());
    assert_eq!(
        rig.rows("rung").unwrap(),
        ["id=err-1 times=1 last=4010 now=4010 loud=1 text="]
    );
    assert!(matches!(
        retry(&rig, Some(ids[1])),
        Err(ControlError::NoSuchDeadLetter(_))
    ));
}

#[test]
fn a_skipped_timer_is_gone_and_kept_to_be_read() {
    for (id, words) in KINDS {
        let rig = start(&options(OnError::Skip, 4_096));
        rig.apply(&[
            alarm(id, Some(10), 0, 1_000),
            alarm(id, Some(10), 1, 2_000),
            volume(1, 3_000),
        ])
        .unwrap();
        assert_eq!(
            parked(&rig),
            owned(&[(id, 1_010, Skipped), (id, 2_010, Skipped)])
        );
        assert!(rig.letters().unwrap()[0].error.contains(words));
        assert!(set(&rig).is_empty());
        is_running(&rig);
        rig.wait_for(|status| {
            let line = &status.rules["alarms.ring"];
            (line.faults, line.parked) == (2, 0)
        });
        assert_eq!(retry(&rig, None).unwrap(), (0, 0));
        assert_eq!(rig.drop_letters(None, None).unwrap(), 2);
        assert!(rig.store.reader().unwrap().gaps().unwrap().next().is_none());
    }
}

#[test]
fn a_rule_that_halts_leaves_its_timer_set() {
    for (id, words) in KINDS {
        for batch in [1, 4_096] {
            let options = options(OnError::Halt, batch);
            let rig = start(&options);
            let changes = [
                alarm(id, Some(10), 0, 1_000),
                volume(1, 2_000),
                volume(2, 3_000),
            ];
            for part in changes.chunks(batch) {
                rig.apply(part).unwrap();
            }
            rig.wait_for(|status| {
                let status = &status.rules["alarms.ring"].status;
                let begins =
                    format!("halted: faulted on timer {id}, which came due before change 2: ");
                status.starts_with(&begins) && status.contains(words)
            });
            assert_eq!(set(&rig), [(id.to_owned(), 1_010)]);
            assert!(rig.letters().unwrap().is_empty());
            assert!(rig.rows("rung").unwrap().is_empty());
            mend(&rig);
            rig.wait_for(|status| status.rules["alarms.ring"].status == "running");
            rig.apply(&[volume(3, 4_000)]).unwrap();
            let rung = format!("id={id} times=1 last=1010 now=1010 loud=3 text=");
            assert_eq!(rig.rows("rung").unwrap(), [rung]);
        }
    }
}

#[test]
fn a_rule_with_no_room_to_park_a_timer_stops_before_it() {
    let limits: [fn(&mut Limits); 2] = [
        |limits| limits.dead_letters_max = 2,
        // Two errors of 7 bytes with keys of 5.
        |limits| limits.dead_letters_bytes_max = 30,
    ];
    for (limit, batch) in [(0, 1), (0, 4_096), (1, 1), (1, 4_096)] {
        let mut options = options(OnError::Park, batch);
        limits[limit](&mut options.limits);
        let rig = start(&options);
        let ids = ["err-1", "err-2", "err-3", "good"];
        let mut changes: Vec<_> = (0..)
            .zip(ids)
            .map(|(at, id)| alarm(id, Some(10), 0, 1_000 + at))
            .collect();
        changes.push(volume(1, 2_000));
        for part in changes.chunks(batch) {
            rig.apply(part).unwrap();
        }
        rig.wait_for(|status| {
            status.rules["alarms.ring"]
                .status
                .contains("allows no more")
        });
        assert_eq!(
            parked(&rig),
            owned(&[("err-1", 1_010, Faulted), ("err-2", 1_011, Faulted)])
        );
        let left = [("err-3".to_owned(), 1_012), ("good".to_owned(), 1_013)];
        assert_eq!(set(&rig), left);
        // The other rules have not noticed.
        let board = rig.handle.board.load();
        assert_eq!(board.rules["alarms.watch"].status, "running");
        assert_eq!(rig.rows("seen").unwrap().len(), 4);
        mend(&rig);
        assert_eq!(retry(&rig, None).unwrap(), (2, 0));
        rig.apply(&[volume(2, 3_000)]).unwrap();
        assert!(set(&rig).is_empty());
        let rung = rig.rows("rung").unwrap();
        assert_eq!(rung.len(), 4);
        assert!(rung.iter().all(|row| row.contains(" times=1 ")), "{rung:?}");
    }
}

#[test]
fn a_rule_that_fails_at_most_of_its_timers_is_paused() {
    for on_error in [OnError::Park, OnError::Skip] {
        let rig = start(&options(on_error, 4_096));
        let ids: Vec<String> = (0..2_000).map(|id| format!("err-{id}")).collect();
        let changes: Vec<_> = ids.iter().map(|id| alarm(id, Some(10), 0, 1_000)).collect();
        rig.apply(&changes).unwrap();
        rig.apply(&[volume(1, 2_000)]).unwrap();
        rig.wait_for(|status| {
            let status = &status.rules["alarms.ring"].status;
            status.starts_with("paused: it faulted on ") && status.contains("on timer err-")
        });
        assert_eq!(rig.letters().unwrap().len() + set(&rig).len(), 2_000);
        mend(&rig);
        rig.apply(&[volume(2, 3_000)]).unwrap();
        let (through, left) = retry(&rig, None).unwrap();
        assert_eq!(left, 0);
        let rung = rig.rows("rung").unwrap().len() as u64;
        assert_eq!(
            rung + rig.letters().unwrap().len() as u64,
            2_000,
            "{through}"
        );
    }
}

/// A plugin that is rebuilt has its timers anew, and with them what is parked of them.
#[test]
fn a_rebuilt_plugin_keeps_what_its_own_timers_came_to() {
    let rig = start(&options(OnError::Park, 4_096));
    rig.apply(&[alarm("err-1", Some(10), 0, 1_000), volume(1, 2_000)])
        .unwrap();
    let old = rig.letters().unwrap()[0].id;
    rig.rebuild("alarms").unwrap();
    let is_rebuilt = |status: &rulemill::engine::Status| {
        let plugin = &status.plugins["alarms"];
        plugin.rebuild.is_none() && status.rules.len() == 3
    };
    rig.wait_for(is_rebuilt);
    // The alarm that is there was set again; what the old rules had parked has gone with them.
    rig.apply(&[volume(2, 9_000)]).unwrap();
    let letters = rig.letters().unwrap();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_ne!(letters[0].id, old);
    assert_eq!((&*letters[0].plugin, &*letters[0].rule), ("alarms", "ring"));
    assert!(matches!(&letters[0].subject, Subject::Timer(timer) if timer.key == "err-1"));
    mend(&rig);
    assert_eq!(retry(&rig, None).unwrap(), (1, 0));
    assert_eq!(rig.rows("rung").unwrap().len(), 1);
    assert!(
        rig.store
            .reader()
            .unwrap()
            .timers()
            .unwrap()
            .next()
            .is_none()
    );
}
