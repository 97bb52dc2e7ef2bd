//! A plugin that rings alarms, in a version that fails at some of them and in one that is mended, and the ways to drive it.

use std::sync::Arc;

use rulemill::{
    change::RawOp,
    engine::{ControlError, OnError, PluginOptions},
    store::{LetterState, ParkedTimer, Store, Subject},
};
use rulemill_tests::{
    native::Make,
    rig::{Options, Rig, TestChange},
};
use rulemill_wire::ValueRef;

/// How long a row may be: an alarm that is `big` writes a longer one.
pub(crate) const ROW_BYTES_MAX: usize = 2_000;

macro_rules! alarms {
    ($name:ident, $faulty:expr) => {
        mod $name {
            use rulemill_sdk::prelude::*;

            #[derive(Row)]
            #[table(source = "alarms")]
            pub struct Alarm {
                #[key]
                id: String,
                /// From its change, in microseconds; negative: it has long been due.
                delay: i64,
                version: i64,
            }

            #[derive(Row)]
            #[table(source = "volumes")]
            pub struct Volume {
                #[key]
                id: i64,
                loud: i64,
            }

            #[derive(Row, Default)]
            #[table(derived = "rung")]
            pub struct Rung {
                #[key]
                id: String,
                times: i64,
                /// When the last one was due, by the timer and by the rule's clock.
                last: i64,
                now: i64,
                loud: i64,
                text: String,
            }

            #[derive(Row, Default)]
            #[table(derived = "seen")]
            pub struct Seen {
                #[key]
                id: String,
                changes: i64,
            }

            #[rule]
            pub fn watch(change: Change<Alarm>, timers: &mut Timers, now: Now) -> Outcome {
                let id = change.key().clone();
                match &change.after {
                    Some(alarm) => {
                        let due = now.timestamp().micros() + alarm.delay;
                        let due = Timestamp::from_micros(due).ok_or("no such time")?;
                        timers.set("ring", id, due)?;
                    }
                    None => timers.clear("ring", id)?,
                }
                Ok(())
            }

            /// Has nothing to do with timers, and must never be blamed for one.
            #[rule]
            pub fn count(change: Change<Alarm>, seen: &mut Table<Seen>) -> Outcome {
                if $faulty && change.key().starts_with("both") {
                    return Err("nor counted".into());
                }
                seen.entry(change.key().clone())?.changes += 1;
                Ok(())
            }

            #[rule]
            pub fn ring(
                timer: Timer,
                now: Now,
                volumes: &Lookup<Volume>,
                rung: &mut Table<Rung>,
                timers: &mut Timers,
            ) -> Outcome {
                let loud = volumes.get(1)?.map_or(0, |volume| volume.loud);
                let row = rung.entry(timer.key.clone())?;
                row.times += 1;
                row.last = timer.due.micros();
                row.now = now.timestamp().micros();
                row.loud = loud;
                let is_odd = row.times % 2 == 1;
                // Whatever it has written by then must not stay.
                if $faulty {
                    match timer.key.split('-').next() {
                        Some("err" | "both") => return Err("no bell".into()),
                        Some("panic") => panic!("the bell is cracked"),
                        Some("big") => row.text = "x".repeat(super::ROW_BYTES_MAX),
                        Some("some") if timer.due.micros() % 3 == 0 => {
                            return Err("not at this hour".into());
                        }
                        _ => {}
                    }
                }
                if timer.key.starts_with("twice") && is_odd {
                    let again = timer.due.micros() + super::AGAIN;
                    let again = Timestamp::from_micros(again).ok_or("no such time")?;
                    timers.set("ring", timer.key.clone(), again)?;
                }
                Ok(())
            }

            rulemill_sdk::plugin!(watch, count, ring);
        }
    };
}

alarms!(faulty, true);
alarms!(mended, false);

/// After how long an alarm that rings twice rings again.
pub(crate) const AGAIN: i64 = 3;

pub(crate) const FAULTY: (&str, Make, &str) = ("alarms", faulty::plugin, "1");
pub(crate) const MENDED: (&str, Make, &str) = ("alarms", mended::plugin, "2");

pub(crate) fn options(on_error: OnError, batch: usize) -> Options {
    let mut options = Options::default();
    options.limits.batch_changes_max = batch;
    options.limits.row_bytes_max = ROW_BYTES_MAX;
    let plugin = PluginOptions {
        on_error,
        ..PluginOptions::default()
    };
    options.plugins.insert("alarms".into(), plugin);
    options
}

pub(crate) fn start(options: &Options) -> Rig {
    let store = Arc::new(Store::in_memory().unwrap());
    Rig::start(store, options, &[FAULTY]).unwrap()
}

/// An alarm that is set, moved or (without a delay) taken away; its version makes it differ from the one before.
pub(crate) fn alarm<'a>(
    id: &'a str,
    delay: Option<i64>,
    version: i64,
    time: i64,
) -> TestChange<'a> {
    let mut row = vec![("id", ValueRef::Text(id))];
    if let Some(delay) = delay {
        row.push(("delay", ValueRef::I64(delay)));
        row.push(("version", ValueRef::I64(version)));
    }
    TestChange {
        table: "alarms",
        op: match delay {
            Some(_) => RawOp::Upsert,
            None => RawOp::Delete,
        },
        row,
        time: Some(time),
    }
}

/// How loud alarms are from now on: a change that rings those which are due.
pub(crate) fn volume<'a>(loud: i64, time: i64) -> TestChange<'a> {
    TestChange {
        table: "volumes",
        op: RawOp::Upsert,
        row: vec![("id", ValueRef::I64(1)), ("loud", ValueRef::I64(loud))],
        time: Some(time),
    }
}

/// Timers that are parked or were skipped: key, when they were due, how they stand.
pub(crate) fn parked(rig: &Rig) -> Vec<(String, i64, LetterState)> {
    let timers = rig
        .letters()
        .unwrap()
        .into_iter()
        .map(|letter| match letter.subject {
            Subject::Timer(ParkedTimer { key, due }) => (key, due, letter.state),
            Subject::Change(_) => panic!("no change is at fault: {letter:?}"),
        });
    timers.collect()
}

/// The timers that are set, on the disk.
pub(crate) fn set(rig: &Rig) -> Vec<(String, i64)> {
    let reader = rig.store.reader().unwrap();
    let timers = reader.timers().unwrap().map(|timer| timer.unwrap());
    timers
        .map(|timer| (timer.key, timer.due.unwrap()))
        .collect()
}

pub(crate) fn retry(rig: &Rig, id: Option<u64>) -> Result<(u64, u64), ControlError> {
    rig.retry(Some("alarms.ring"), id)
}

pub(crate) fn mend(rig: &Rig) {
    let (name, make, label) = MENDED;
    rig.load(name, make, label).unwrap();
}
