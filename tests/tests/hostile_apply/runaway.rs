//! A timer that sets itself again for a time that has been reached: its plugin would fire it for ever, in whichever batch it is.
//!
//! The guest is written by hand, and does what the SDK's does: it keeps a timer that is set in a batch, fires it before the next item,
//! sets it again, and never comes to that item. Only running out of time ends that, and neither half of the batch is at fault
//! alone. What could go wrong: the host searches without end, blames a change, or lets the neighbours wait.

use std::sync::PoisonError;

use rulemill::{
    engine::{Control, OnError},
    store::{DeadLetter, LetterState, ParkedTimer, Subject},
};
use rulemill_wire::manifest::{Input, Manifest, Rule};

use crate::{
    HOSTILE, Host, TURN, guests,
    stream::{self, Expected},
};

fn manifest() -> Manifest {
    let rule = |name: &str, input| Rule {
        name: name.into(),
        input,
        lookups: Vec::new(),
        writes: Vec::new(),
        notifies: false,
        sets_timers: true,
    };
    let rules = vec![
        rule("watch", Input::Changes(0)),
        rule("spin", Input::Timers),
    ];
    Manifest {
        rules,
        ..HOSTILE.manifest()
    }
}

/// What a guest does with its items. A row of 666 sets the timer `t` for the year 1970; `{{again}}` is what its firing does.
const APPLY: &str = r#"
    (global $timers (mut i32) (i32.const 0))
    (global $faults (mut i32) (i32.const 0))
    ;; A timer is set that is due before the next item.
    (global $armed (mut i32) (i32.const 0))
    (global $held (mut i64) (i64.const 0))
    (global $place (mut i64) (i64.const 0))

    (func $arm (param $item i64)
      (global.set $armed (i32.const 1))
      (global.set $timers (i32.add (global.get $timers) (i32.const 1)))
      (call $write-unsigned (i64.const 1))
      (call $write-unsigned (local.get $item))
      (call $write-unsigned (i64.const 1))
      (call $write-byte (i32.const 116))
      (call $write-byte (i32.const 1))
      (call $write-signed (i64.const 0)))

    ;; Before an item: what is set fires, unless its rule is held; then the first item before which it would have is noted.
    (func $fire (param $item i64)
      (if (i32.eqz (global.get $armed)) (then (return)))
      (if (i64.eqz (i64.and (global.get $held) (i64.const 2)))
        (then {{fire}})
        (else (if (i32.eqz (global.get $faults)) (then
          (global.set $faults (i32.const 1))
          (global.set $place (local.get $item)))))))

    (func $item (param $item i64) (param $rules i64) (param $kind i32)
      (local $len i64) (local $value i64)
      (if (i32.eq (local.get $kind) (i32.const 4)) (then
        (local.set $len (call $unsigned))
        (global.set $in (i32.add (global.get $in) (i32.wrap_i64 (local.get $len))))
        (drop (call $signed))
        {{again}}
        (return)))
      (call $fire (local.get $item))
      (if (i32.eq (local.get $kind) (i32.const 5)) (then
        (global.set $held (local.get $rules))
        (return)))
      (drop (call $signed))
      (local.set $value (call $signed))
      (if (i32.eq (local.get $kind) (i32.const 1)) (then
        (drop (call $signed))
        (local.set $value (call $signed))))
      (if (i32.eq (local.get $kind) (i32.const 2)) (then (return)))
      (if (i64.eq (local.get $value) (i64.const 666)) (then (call $arm (local.get $item)))))

    (func (export "apply") (param $batch i32) (param $len i32) (result i32)
      (local $count i64) (local $item i64) (local $rules i64)
      (global.set $in (local.get $batch))
      (global.set $out (i32.const 65538))
      (global.set $timers (i32.const 0))
      (global.set $faults (i32.const 0))
      (global.set $armed (i32.const 0))
      (global.set $held (i64.const 0))
      (drop (call $unsigned))
      (drop (call $signed))
      (local.set $count (call $unsigned))
      (block $done
        (loop $more
          (br_if $done (i64.eq (local.get $item) (local.get $count)))
          (drop (call $unsigned))
          (drop (call $signed))
          (local.set $rules (call $unsigned))
          (call $item (local.get $item) (local.get $rules) (call $byte))
          (local.set $item (i64.add (local.get $item) (i64.const 1)))
          (br $more)))
      (i32.store8 (i32.const 65536) (i32.const 0))
      (i32.store8 (i32.const 65537) (global.get $timers))
      (call $write-byte (i32.const 0))
      (call $write-byte (global.get $faults))
      (if (global.get $faults) (then
        (call $write-unsigned (i64.const 1))
        (call $write-unsigned (global.get $place))
        (call $write-unsigned (i64.const 0))))
      (global.set $heap (i32.const 131072))
      (call $ok (i32.const 65536) (i32.sub (global.get $out) (i32.const 65536)))))

  (core instance $main"#;

fn guest(fire: &str, again: &str) -> Vec<u8> {
    let (head, rest) = guests::V1.split_once("(func $item").unwrap();
    let (_, tail) = rest.split_once("(core instance $main").unwrap();
    let apply = APPLY.replace("{{fire}}", fire).replace("{{again}}", again);
    let text = format!("{head}{apply}{tail}");
    guests::assemble(&super::copier::with_manifest(&text, &manifest()))
}

/// Fires it before the next item, and there again, and again.
fn spinning() -> Vec<u8> {
    guest("(loop $l (br $l))", "(call $arm (local.get $item))")
}

/// Fires it once.
fn mended() -> Vec<u8> {
    guest("(global.set $armed (i32.const 0))", "")
}

fn letters(host: &Host) -> Vec<DeadLetter> {
    let reader = host.rig.store.reader().unwrap();
    let letters = reader.dead_letters().unwrap();
    letters.map(|letter| letter.unwrap()).collect()
}

/// The rule's parked timers: how they stand, and in which words the first of them.
fn parked(host: &Host) -> (Vec<LetterState>, String) {
    let letters = letters(host);
    let timer = Subject::Timer(ParkedTimer {
        key: "t".into(),
        due: 0,
    });
    for letter in &letters {
        assert_eq!((&*letter.plugin, &*letter.rule), ("hostile", "spin"));
        assert_eq!(letter.subject, timer);
    }
    let error = letters.first().map(|letter| letter.error.clone());
    let states = letters.iter().map(|letter| letter.state);
    (states.collect(), error.unwrap_or_default())
}

const AGAIN_AND_AGAIN: &str = "its timer t comes due again and again before change ";

fn status(host: &Host, rule: &str) -> String {
    host.rig.handle.board.load().rules[rule].status.clone()
}

#[test]
fn is_set_aside_while_everybody_goes_on() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = 0x5eed;
    let batches = stream::batches(seed);
    let expected = Expected::of(&batches);
    let poisoned: u32 = batches.iter().map(|batch| stream::poisoned(batch)).sum();
    let host = Host::start();
    host.take("hostile", spinning()).unwrap();
    for batch in &batches {
        host.apply(batch);
    }
    host.check_neighbours(&expected, "a timer that sets itself again");
    let (states, error) = parked(&host);
    assert!(error.starts_with(AGAIN_AND_AGAIN), "{error}");
    assert_eq!(states[0], LetterState::Faulted);
    // Each later change that sets it has one more wait.
    assert_eq!(states.len() as u32, poisoned);
    assert!(
        states[1..]
            .iter()
            .all(|state| *state == LetterState::Waiting)
    );
    host.rig.wait_for(|status| {
        let (watch, spin) = (
            &status.rules["hostile.watch"],
            &status.rules["hostile.spin"],
        );
        let watched = watch.changes == expected.numbers_changes && watch.faults == 0;
        watched && watch.status == "running" && spin.status == "running" && spin.faults == 1
    });

    // Given up, those behind it fire; and the last of them sets it for the past once more.
    let drop = |reply| Control::DropDeadLetters {
        rule: None,
        id: Some(letters(&host)[0].id),
        reply,
    };
    assert_eq!(host.rig.handle.ask(drop).unwrap(), 1);
    host.rig
        .wait_for(|status| status.rules["hostile.spin"].parked == 0);
    let more = stream::batches(seed + 1);
    host.apply(&more[1]);
    let (states, error) = parked(&host);
    assert_eq!(states[0], LetterState::Faulted, "{states:?}");
    assert!(error.starts_with(AGAIN_AND_AGAIN), "{error}");
    assert_eq!(status(&host, "hostile.spin"), "running");

    host.take("hostile", mended()).unwrap();
    let retry = |reply| Control::RetryDeadLetters {
        rule: None,
        id: None,
        reply,
    };
    let parked = states.len() as u64;
    assert_eq!(host.rig.handle.ask(retry).unwrap(), (parked, 0));
    assert!(letters(&host).is_empty());
    let both: Vec<_> = batches.into_iter().chain([more[1].clone()]).collect();
    host.check_neighbours(&Expected::of(&both), "and afterwards");
}

#[test]
fn stops_its_rule_alone_where_that_is_asked_for() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let batches = stream::batches(0x5eed);
    let host = Host::start_with(OnError::Halt);
    host.take("hostile", spinning()).unwrap();
    for batch in &batches {
        host.apply(batch);
    }
    let expected = Expected::of(&batches);
    host.check_neighbours(&expected, "a timer that sets itself again");
    host.rig.wait_for(|status| {
        let (watch, spin) = (
            &status.rules["hostile.watch"],
            &status.rules["hostile.spin"],
        );
        let halted = spin.status.starts_with("halted: ") && spin.status.contains(AGAIN_AND_AGAIN);
        halted && watch.status == "running" && watch.changes == expected.numbers_changes
    });
    assert!(letters(&host).is_empty());
    let reader = host.rig.store.reader().unwrap();
    assert_eq!(reader.timers().unwrap().count(), 1);
}
