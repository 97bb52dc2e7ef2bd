//! Plugins that misbehave while they run, over some changes only, beside others that do nothing wrong.
//!
//! Each run has three plugins in real WebAssembly under the real engine: a hostile one and a good one that copy the same
//! table, and one that copies another. The same changes go through a run in which nobody misbehaves. What could go
//! wrong: the fault is laid at another change's door, or said to be another; a change with another key is set aside, or one
//! behind the fault isn't; a neighbour loses a change, gets one twice, or is held up for longer than the limits allow;
//! what was set aside is gone when the mended plugin comes. So all tables must equal a recomputation, the dead letters
//! must be those changes with that fault, each batch has its time, and a retry through the mended plugin must bring
//! everything.
//!
//! `RULEMILL_SEED=N` repeats a seed, as a failure prints it.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod applying;
mod copier;
#[path = "../../guests/mod.rs"]
mod guests;
mod loading;
mod runaway;
mod stream;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rulemill::{
    engine::{OnError, PluginOptions, TableOptions},
    limits::Limits,
    rule::{Plugin, Runtime},
    store::{Store, Subject},
};
use rulemill_tests::{
    random::from_environment,
    rig::{Options, Rig},
};
use rulemill_wire::{ColumnType, Reader, ValueRef, key, manifest::Manifest};

use copier::Copier;
use stream::{BATCH_CHANGES, Expected, Parked, ParkedByKey, Step};

/// How long one fault may hold up its batch: so many times what a fault takes that stands alone in its batch. A call's time is
/// shared out among the call that runs out of it, the search for the change at fault, and that change alone.
const FAULTS_ALONE: u32 = 3;
/// What else may take time on a machine with other things to do. A change that hangs takes far longer.
const SLACK: Duration = Duration::from_secs(2);
const CALL_LIMIT: Duration = Duration::from_millis(200);

const HOSTILE: Copier = Copier {
    reads: "numbers",
    column: "value",
    owns: "hostile_copy",
};
const GOOD: Copier = Copier {
    reads: "numbers",
    column: "value",
    owns: "good_copy",
};
const OTHER: Copier = Copier {
    reads: "letters",
    column: "value",
    owns: "letters_copy",
};

fn limits() -> Limits {
    Limits {
        batch_changes_max: BATCH_CHANGES as usize,
        plugin_call_ms_max: CALL_LIMIT.as_millis() as u64,
        plugin_describe_ms_max: 400,
        plugin_memory_bytes_max: 16 << 20,
        effects_bytes_max: 1 << 20,
        state_reads_max: 1_000,
        ..Limits::default()
    }
}

/// One run at a time: they are timed.
static TURN: Mutex<()> = Mutex::new(());

/// An engine with the good plugins.
struct Host {
    rig: Rig,
    runtime: Runtime,
}

impl Host {
    fn start() -> Self {
        Self::start_with(OnError::default())
    }

    /// What is done with the hostile plugin's faults is said.
    fn start_with(on_error: OnError) -> Self {
        let table = |name: &str| TableOptions {
            name: name.into(),
            key: vec!["id".into()],
            mirror: true,
            columns: vec![
                ("id".into(), ColumnType::I64, false),
                ("value".into(), ColumnType::I64, false),
            ],
        };
        let hostile = PluginOptions {
            on_error,
            ..PluginOptions::default()
        };
        let options = Options {
            limits: limits(),
            tables: vec![table("numbers"), table("letters")],
            plugins: [("hostile".to_owned(), hostile)].into(),
            ticks: false,
        };
        let store = Arc::new(Store::in_memory().unwrap());
        let host = Self {
            rig: Rig::start(store, &options, &[]).unwrap(),
            runtime: Runtime::new(&limits(), None).unwrap(),
        };
        host.load("good", &GOOD.manifest(), "", "").unwrap();
        host.load("other", &OTHER.manifest(), "", "").unwrap();
        host
    }

    /// Compiles and checks a file, as the plugin directory does, and lets the engine take it.
    fn load(
        &self,
        name: &str,
        manifest: &Manifest,
        hostile: &str,
        fields: &str,
    ) -> Result<(), String> {
        self.take(name, copier::assemble(manifest, hostile, fields))
    }

    fn take(&self, name: &str, code: Vec<u8>) -> Result<(), String> {
        let config = serde_json::Value::Null;
        let plugin: Arc<dyn Plugin> = self
            .runtime
            .load(name, code.into(), &config)
            .map_err(|error| error.to_string())?;
        self.rig
            .take(name, plugin)
            .map_err(|error| error.to_string())
    }

    /// Hands in a batch, waits until it is durable, and says how long that took.
    fn apply(&self, batch: &[Step]) -> Duration {
        let changes: Vec<_> = batch.iter().map(Step::change).collect();
        let begun = Instant::now();
        self.rig.apply(&changes).unwrap();
        begun.elapsed()
    }

    /// A copied table.
    fn copy(&self, table: &str) -> BTreeMap<i64, i64> {
        let number = |cell: &str| cell.split_once('=').unwrap().1.parse::<i64>().unwrap();
        let rows = self.rig.rows(table).unwrap();
        let cells = rows.iter().map(|row| row.split_once(' ').unwrap());
        cells
            .map(|(id, value)| (number(id), number(value)))
            .collect()
    }

    /// The neighbours have what they must have, and nothing was set aside for them.
    fn check_neighbours(&self, expected: &Expected, case: &str) {
        assert_eq!(self.copy("good_copy"), expected.numbers, "{case}");
        assert_eq!(self.copy("letters_copy"), expected.letters, "{case}");
        let all = expected.numbers_changes;
        for (rule, changes) in [("good.copy", all), ("other.copy", expected.letters_changes)] {
            self.rig.wait_for(|status| {
                let rule = &status.rules[rule];
                let undisturbed = (rule.faults, rule.parked, rule.lag_changes) == (0, 0, 0);
                rule.status == "running" && undisturbed && rule.changes == changes
            });
        }
    }

    /// What was set aside, by key, and with which words.
    fn parked(&self) -> (ParkedByKey, Vec<(i64, String)>) {
        let mut letters: Vec<_> = self
            .rig
            .store
            .reader()
            .unwrap()
            .dead_letters()
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        letters.sort_by_key(|letter| letter.seq);
        let mut parked = ParkedByKey::new();
        let mut errors = Vec::new();
        for letter in letters {
            assert_eq!((&*letter.plugin, &*letter.rule), ("hostile", "copy"));
            let Subject::Change(change) = letter.subject else {
                panic!("{letter:?}");
            };
            let id = key::read(ColumnType::I64, &mut Reader::new(&change.key)).unwrap();
            let ValueRef::I64(id) = id.as_ref() else {
                panic!("{change:?}");
            };
            let value = change.after.map(|row| match rulemill::row::value(&row, 1) {
                Ok(ValueRef::I64(value)) => value,
                other => panic!("{other:?}"),
            });
            let faulty = letter.error != "waits behind a parked change of the same key";
            if faulty {
                errors.push((id, letter.error));
            }
            parked.entry(id).or_default().push(Parked { value, faulty });
        }
        (parked, errors)
    }
}

/// A plugin that misbehaves.
struct Case {
    name: &'static str,
    manifest: Manifest,
    /// What it does over a poisoned row.
    hostile: &'static str,
    fields: &'static str,
    /// The fault; if it ends in `..`, its beginning.
    fault: &'static str,
    /// Whether it isn't the plugin that faults, but rows that don't fit: then so does a change whose row before doesn't.
    by_row: bool,
}

impl Case {
    /// A copier that does this over a poisoned row, which is this fault.
    fn new(name: &'static str, hostile: &'static str, fault: &'static str) -> Self {
        Self {
            name,
            manifest: HOSTILE.manifest(),
            hostile,
            fields: "",
            fault,
            by_row: false,
        }
    }

    fn check(&self) {
        self.check_within(FAULTS_ALONE);
    }

    /// Checks that each fault holds up its batch for no longer than so many that stand alone.
    fn check_within(&self, faults_alone: u32) {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let seed = from_environment("RULEMILL_SEED", 0x5eed);
        let case = format!("{}, RULEMILL_SEED={seed}", self.name);
        let batches = stream::batches(seed);
        let expected = Expected::of(&batches);
        let (parked, faults) = expected.counts();
        assert!(faults >= 3 && parked > 10, "{case}: nothing to see");

        let control = Host::start();
        control
            .load("hostile", &HOSTILE.manifest(), "", "")
            .unwrap();
        let begun = Instant::now();
        for batch in &batches {
            control.apply(batch);
        }
        let undisturbed = begun.elapsed();
        assert_eq!(control.copy("hostile_copy"), expected.numbers, "{case}");

        let host = Host::start();
        host.load("hostile", &self.manifest, self.hostile, self.fields)
            .unwrap_or_else(|reason| panic!("{case}: {reason}"));
        let begun = Instant::now();
        // How long a limit really is on a machine with other things to do.
        let alone = host.apply(&batches[0]);
        assert!(
            alone < CALL_LIMIT * 5 + SLACK,
            "{case}: one fault took {alone:?}"
        );
        let allowed = |faults| alone * faults_alone * faults * 3 / 2 + SLACK;
        for batch in &batches[1..] {
            let took = host.apply(batch);
            let most = allowed(stream::poisoned(batch));
            assert!(
                took < most,
                "{case}: a batch took {took:?}, more than {most:?}"
            );
        }
        let took = begun.elapsed();
        let most = undisturbed * 5 + allowed(faults);
        println!(
            "{}: {took:?}, without it {undisturbed:?}, at most {most:?}",
            self.name
        );
        assert!(took < most, "{case}: {took:?}, more than {most:?}");

        host.check_neighbours(&expected, &case);
        self.check_parked(&host, &expected, &case);
        self.check_mended(&host, &expected, &case);
    }

    fn check_parked(&self, host: &Host, expected: &Expected, case: &str) {
        let (mut found, errors) = host.parked();
        if self.by_row {
            for behind in found.values_mut().flat_map(|parked| &mut parked[1..]) {
                behind.faulty = false;
            }
        }
        assert_eq!(found, expected.parked, "{case}");
        for (id, error) in errors {
            let same = match self.fault.strip_suffix("..") {
                Some(beginning) => error.starts_with(beginning),
                None => error == self.fault,
            };
            assert!(
                same,
                "{case}, key {id}:\nexpected: {}\nfound:    {error}",
                self.fault
            );
        }
        assert_eq!(host.copy("hostile_copy"), expected.copied, "{case}");
        // The board is posted behind the commit.
        let (parked, faults) = expected.counts();
        host.rig.wait_for(|status| {
            let rule = &status.rules["hostile.copy"];
            let faulted = rule.faults == u64::from(faults) || self.by_row;
            rule.status == "running" && rule.parked == parked && faulted
        });
    }

    /// The mended plugin comes, and what was set aside goes through it.
    fn check_mended(&self, host: &Host, expected: &Expected, case: &str) {
        host.load("hostile", &HOSTILE.manifest(), "", "").unwrap();
        let retried = host.rig.retry(None, None);
        let (parked, _) = expected.counts();
        assert_eq!(retried.unwrap(), (parked, 0), "{case}");
        assert_eq!(host.copy("hostile_copy"), expected.numbers, "{case}");
        host.check_neighbours(expected, case);
    }
}
