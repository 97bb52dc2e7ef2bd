//! Very many timers that are due at once, and timers that come due again and again.
//!
//! Each part of a batch once looked through all that were due, so that so many as here took longer than anybody waits; and a
//! rule that set itself for a time that had been reached never came back where each call got one item.

use std::sync::Arc;

use rulemill::{
    change::RawOp,
    engine::{OnError, PluginOptions},
    store::{LetterState, Store},
};
use rulemill_tests::{
    native::Make,
    rig::{Options, Rig, TestChange},
};
use rulemill_wire::ValueRef;

use crate::alarms::{alarm, mend, options, parked, retry, set, start, volume};

/// Timers that come due before one change.
const MANY: usize = 50_000;

#[test]
fn fifty_thousand_at_once_in_small_parts() {
    let ids: Vec<String> = (0..MANY)
        .map(|id| match id % 1_000 {
            // Where one fails, the parts are cut again.
            500 => format!("err-{id:05}"),
            _ => format!("well-{id:05}"),
        })
        .collect();
    let mut options = options(OnError::Park, 32);
    options.limits.breaker_changes_min = 1_000_000;
    let rig = start(&options);
    let alarms: Vec<_> = ids.iter().map(|id| alarm(id, Some(10), 0, 1_000)).collect();
    rig.apply(&alarms).unwrap();
    assert_eq!(set(&rig).len(), MANY);
    rig.apply(&[volume(1, 2_000), volume(2, 3_000)]).unwrap();
    assert!(set(&rig).is_empty());
    let rung = rig.rows("rung").unwrap();
    assert_eq!(rung.len() + rig.letters().unwrap().len(), MANY);
    let once = " times=1 last=1010 now=1010 loud=1 text=";
    assert!(rung.iter().all(|row| row.ends_with(once)), "{rung:?}");
    // In the order of their times and keys.
    let bad: Vec<&String> = ids.iter().filter(|id| id.starts_with("err")).collect();
    let found = parked(&rig);
    assert!(
        found
            .iter()
            .all(|(_, _, state)| *state == LetterState::Faulted)
    );
    let found: Vec<&String> = found.iter().map(|(key, ..)| key).collect();
    assert_eq!(found, bad);
    mend(&rig);
    assert_eq!(retry(&rig, None).unwrap(), (50, 0));
    assert_eq!(rig.rows("rung").unwrap().len(), MANY);
}

mod spinner {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "tops")]
    pub struct Top {
        #[key]
        id: String,
        due: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "spun")]
    pub struct Spun {
        #[key]
        id: String,
        times: i64,
    }

    #[rule]
    pub fn watch(change: Change<Top>, timers: &mut Timers) -> Outcome {
        if let Some(top) = &change.after {
            let due = Timestamp::from_micros(top.due).ok_or("no such time")?;
            timers.set("spin", top.id.clone(), due)?;
        }
        Ok(())
    }

    #[rule]
    pub fn spin(timer: Timer, spun: &mut Table<Spun>, timers: &mut Timers) -> Outcome {
        let row = spun.entry(timer.key.clone())?;
        row.times += 1;
        let due = timer.due.micros();
        let next = match &*timer.key {
            "stuck" => Some(due),
            "back" => Some(due - 1),
            "crawls" => Some(due + 1),
            // Comes to its end.
            "walks" if row.times < 3_000 => Some(due + 1),
            _ => None,
        };
        if let Some(next) = next {
            let next = Timestamp::from_micros(next).ok_or("no such time")?;
            timers.set("spin", timer.key.clone(), next)?;
        }
        Ok(())
    }

    rulemill_sdk::plugin!(watch, spin);
}

mod neighbour {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "tops")]
    pub struct Top {
        #[key]
        id: String,
        due: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "tops_seen")]
    pub struct Seen {
        #[key]
        id: String,
        due: i64,
    }

    #[rule]
    pub fn see(change: Change<Top>, seen: &mut Table<Seen>) -> Outcome {
        if let Some(top) = change.after {
            seen.entry(top.id)?.due = top.due;
        }
        Ok(())
    }

    rulemill_sdk::plugin!(see);
}

fn top(id: &str, due: i64, time: i64) -> TestChange<'_> {
    TestChange {
        table: "tops",
        op: RawOp::Upsert,
        row: vec![("id", ValueRef::Text(id)), ("due", ValueRef::I64(due))],
        time: Some(time),
    }
}

#[test]
fn one_that_sets_itself_for_ever_is_told_from_one_that_takes_its_time() {
    for on_error in [OnError::Park, OnError::Skip, OnError::Halt] {
        for id in ["stuck", "back", "crawls"] {
            // One item a call: nothing runs out of time.
            let mut options = Options::default();
            options.limits.batch_changes_max = 1;
            let plugin = PluginOptions {
                on_error,
                ..PluginOptions::default()
            };
            options.plugins.insert("spinner".into(), plugin);
            let store = Arc::new(Store::in_memory().unwrap());
            let plugins: [(&str, Make, &str); 2] = [
                ("spinner", spinner::plugin, "1"),
                ("neighbour", neighbour::plugin, "1"),
            ];
            let rig = Rig::start(store, &options, &plugins).unwrap();
            rig.apply(&[top("walks", 1_500, 1_000)]).unwrap();
            rig.apply(&[top(id, 500_000, 2_000_000)]).unwrap();
            // Before this one it fires, and fires, and fires.
            rig.apply(&[top("other", 1_000, 3_000_000)]).unwrap();
            rig.apply(&[top("last", 1_000, 4_000_000)]).unwrap();
            let seen = rig.rows("tops_seen").unwrap();
            assert_eq!(seen.len(), 4, "{seen:?}");
            let spun = rig.rows("spun").unwrap();
            assert!(spun.contains(&"id=walks times=3000".to_owned()), "{spun:?}");
            let what = "comes due again and again before change 3: it must be set for a time that has yet to come";
            let line = |status: &rulemill::engine::Status| status.rules["spinner.spin"].clone();
            if on_error == OnError::Halt {
                rig.wait_for(|status| {
                    let status = line(status).status;
                    status.starts_with("halted: ") && status.contains(what)
                });
                assert!(set(&rig).iter().any(|(key, _)| key == id));
                continue;
            }
            // The firing that was one too many is set aside, and the rule goes on with the others.
            rig.wait_for(|status| line(status).status == "running" && line(status).faults == 1);
            let found = rig.letters().unwrap();
            assert_eq!(found.len(), 1);
            assert!(found[0].error.contains(what), "{found:?}");
            assert_eq!(parked(&rig)[0].0, id);
            assert!(spun.contains(&"id=other times=1".to_owned()), "{spun:?}");
            assert_eq!(
                set(&rig).len(),
                1,
                "the last one's, which is due with the next change"
            );
        }
    }
}
