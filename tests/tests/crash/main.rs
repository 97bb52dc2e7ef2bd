//! The machine loses its power at every sync, before and after it and in between, under the real engine.
//!
//! Fault model: `rulemill_tests::storage::journal`; and an operation of the disk that fails, each in turn. Invariant:
//! what opens afterwards holds *exactly* what a host would that had been stopped after one of its commits, no
//! earlier than the last that somebody was told of: every table with its provenance, indexes, timers, outbox, dead letters,
//! positions, rules, plugin versions, idempotency keys and the log. And a host that goes on from there, its source from the stored
//! position, its clients with the requests that they have no answer to, ends with what a recomputation makes.
//!
//! After a crash the store opens without a repair, which would read the whole file.
//!
//! One run writes down all that is done to its disk; every crash is made from that, so it is the same for the same
//! seed. The states to compare with come from another run, in which each write set has a commit of its own.
//!
//! `RULEMILL_CRASHES=N` takes N seeds one after the other, lets every operation fail, and goes on after every crash and not
//! just some of them (about a minute a seed); `RULEMILL_SEED=N` begins with a seed, as a failure prints it.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod contents;
mod host;
mod model;
mod plugins;
mod reference;
mod workload;

use std::{
    cell::Cell,
    collections::HashSet,
    sync::{Arc, Mutex},
};

use anyhow::{Context, bail, ensure};
use rulemill::store::Store;
use rulemill_tests::{
    random::{Random, from_environment},
    storage::{FailingDisk, Failure, Journal, JournalDisk, LOSSES, Loss},
};

use contents::Contents;
use host::{Host, Mark, Pace, check_acknowledged, next_step, open, requests, verify};
use reference::{Reference, SoFar};
use workload::{Step, steps};

/// Batches in the workload.
const BATCHES: usize = 24;

/// A disk with a new store on it.
fn new_disk() -> JournalDisk<Mark> {
    let disk = JournalDisk::new(Vec::new());
    drop(open(disk.clone()).unwrap());
    disk.take_journal();
    disk
}

/// A whole run, and what was done to its disk.
fn record(steps: &[Step], pace: Pace) -> anyhow::Result<Journal<Mark>> {
    let disk = new_disk();
    let marks = disk.clone();
    let host = Host::start(open(disk.clone())?, pace, steps, 0, move |mark| {
        marks.mark(mark);
    })?;
    host.work(0, 0, pace)?;
    host.compare()?;
    host.stop()?;
    Ok(disk.take_journal())
}

struct Trial<'a> {
    steps: &'a [Step],
    requests: Vec<String>,
    reference: &'a Reference,
    /// The most that was read of a file to open it.
    most_read: Cell<Share>,
}

/// Bytes of so many.
type Share = (u64, u64);

impl Trial<'_> {
    /// Whether a store holds what it may.
    fn check(&self, store: &Store, so_far: SoFar) -> anyhow::Result<()> {
        check_acknowledged(&store.reader()?, self.steps, so_far.acknowledged)?;
        let found = Contents::of(store, &self.requests).context("it can't be read")?;
        let possible = self.reference.possible(so_far);
        if self.reference.states[possible.clone()].contains(&found) {
            return Ok(());
        }
        let other = self.reference.states.iter().position(|s| *s == found);
        if let Some(place) = other {
            bail!("it holds state {place}, and should hold one of {possible:?}");
        }
        let nearest = self.reference.states[possible.clone()]
            .iter()
            .map(|state| found.difference(state))
            .min_by_key(Vec::len)
            .unwrap_or_default();
        bail!(
            "it holds what no commit left (one of {possible:?} is expected); the nearest differs by\n{}",
            nearest.join("\n")
        )
    }

    /// Goes on after a crash, to the end.
    fn go_on(&self, store: Store, so_far: SoFar, pace: Pace) -> anyhow::Result<()> {
        let next = next_step(&store.reader()?)?;
        ensure!(next <= so_far.begun, "a position from the future: {next}");
        let host = Host::start(store, pace, self.steps, so_far.begun, |_| {})?;
        // A client repeats what it has no answer to, and also what was answered.
        for (number, step) in self.steps[..next].iter().enumerate() {
            if matches!(step, Step::Request(_)) {
                host.repeat(number)?;
            }
        }
        host.work(next, so_far.acknowledged, pace)?;
        host.compare()?;
        let seen = verify(&mut host.stop()?)?;
        let counts = [
            seen.tables,
            seen.rows,
            seen.index_entries,
            seen.log_changes,
            seen.records,
        ];
        ensure!(counts.iter().all(|count| *count > 1), "{seen:?}");
        Ok(())
    }

    /// One crash; then, if asked for, one while the store opens again, and the rest of the workload.
    fn crash(
        &self,
        bytes: Vec<u8>,
        so_far: SoFar,
        goes_on: bool,
        random: &mut Random,
    ) -> anyhow::Result<()> {
        let len = bytes.len() as u64;
        let disk = JournalDisk::<Mark>::new(bytes);
        let mut store = open(disk.clone()).context("it doesn't open")?;
        self.most_read
            .set(self.most_read.get().max((disk.bytes_read(), len)));
        self.check(&store, so_far)?;
        let opening = disk.take_journal();
        verify(&mut store)?;
        if goes_on {
            self.go_on(store, so_far, Pace::Several)
                .context("going on")?;
        }
        let mut failed = None;
        let places = [opening.entries.len() / 2, opening.entries.len()];
        opening.replay(&places, |at, durable, since| {
            let bytes = opening.crash(durable, since, Loss::Torn, random);
            let result = open(JournalDisk::<()>::new(bytes))
                .context("it doesn't open")
                .and_then(|store| self.check(&store, so_far));
            if let Err(error) = result {
                failed = Some(error.context(format!("a second crash, at {at} of opening")));
            }
        });
        failed.map_or(Ok(()), Err)
    }
}

/// Every crash of one seed; gives how many.
fn crashes(seed: u64, pace: Pace, go_on_every: u64) -> anyhow::Result<u64> {
    let mut random = Random::new(seed);
    let steps = steps(&mut random, BATCHES);
    let reference = Reference::of(&steps)?;
    let journal = record(&steps, pace)?;
    let trial = Trial {
        requests: requests(&steps),
        steps: &steps,
        reference: &reference,
        most_read: Cell::default(),
    };
    let mut places = Vec::new();
    let mut from = 0;
    for sync in journal.syncs() {
        // Right before it and right after it, and at some operation between it and the one before.
        let between = from + random.below((sync - from) as u64 + 1) as usize;
        places.extend([between, sync, sync + 1]);
        from = sync + 1;
    }
    places.sort_unstable();
    places.dedup();
    let mut tried = 0;
    let mut failed = None;
    journal.replay(&places, |at, durable, since| {
        if failed.is_some() {
            return;
        }
        let so_far = SoFar::at(&journal, at);
        let mut seen = HashSet::new();
        for loss in LOSSES {
            let bytes = journal.crash(durable, since.clone(), loss, &mut random);
            if !seen.insert(bytes.clone()) {
                continue;
            }
            tried += 1;
            let goes_on = tried % go_on_every == 0;
            if let Err(error) = trial.crash(bytes, so_far, goes_on, &mut random) {
                failed = Some(error.context(format!(
                    "a crash before operation {at} of {}, {loss:?} lost, {so_far:?}",
                    journal.entries.len()
                )));
                return;
            }
        }
    });
    let (read, len) = trial.most_read.get();
    // redb's debug build reads every page once.
    if failed.is_none() && read > len {
        failed = Some(anyhow::anyhow!(
            "{read} bytes were read to open a file of {len}"
        ));
    }
    println!(
        "seed {seed}, {pace:?}: {} syncs, {} states, {tried} crashes, {read} of {len} bytes read to open",
        journal.syncs().len(),
        reference.states.len()
    );
    failed.map_or(Ok(tried), Err)
}

/// A run of which one operation of the disk fails; gives whether the host stopped.
fn failure(
    trial: &Trial<'_>,
    number: u64,
    failure: Failure,
    goes_on: bool,
) -> anyhow::Result<bool> {
    let disk = FailingDisk::default();
    drop(open(disk.clone())?);
    let so_far = Arc::new(Mutex::new(SoFar::default()));
    let noted = so_far.clone();
    disk.fail_at(number, failure);
    let run = || {
        let store = open(disk.clone())?;
        let host = Host::start(store, Pace::Several, trial.steps, 0, move |mark| {
            noted.lock().unwrap().note(mark);
        })?;
        host.work(0, 0, Pace::Several)?;
        host.compare()?;
        host.stop().map(drop)
    };
    let stopped = run();
    ensure!(disk.has_failed(), "operation {number} was never reached");
    let so_far = *so_far.lock().unwrap();
    if stopped.is_ok() {
        ensure!(so_far.acknowledged == trial.steps.len(), "{so_far:?}");
    }
    let mut store = open(JournalDisk::<Mark>::new(disk.bytes())).context("it doesn't open")?;
    trial.check(&store, so_far)?;
    verify(&mut store)?;
    if goes_on {
        trial
            .go_on(store, so_far, Pace::Several)
            .context("going on")?;
    }
    Ok(stopped.is_err())
}

/// Lets operations of a run fail, one a run; gives in how many runs the host stopped, and how many there were.
fn failures(seed: u64, kind: Failure, every: u64) -> anyhow::Result<(u64, u64)> {
    let mut random = Random::new(seed);
    let steps = steps(&mut random, BATCHES);
    let reference = Reference::of(&steps)?;
    let trial = Trial {
        requests: requests(&steps),
        steps: &steps,
        reference: &reference,
        most_read: Cell::default(),
    };
    let disk = FailingDisk::default();
    drop(open(disk.clone())?);
    let before = disk.operations();
    let host = Host::start(open(disk.clone())?, Pace::Several, &steps, 0, |_| {})?;
    host.work(0, 0, Pace::Several)?;
    host.stop()?;
    // Groups are never quite the same: the last operations may not come about.
    let operations = (disk.operations() - before) * 9 / 10;
    let (mut stopped, mut tried) = (0, 0);
    let mut number = random.below(every);
    while number < operations {
        let goes_on = every == 1 || tried % 7 == 0;
        let result = failure(&trial, number, kind, goes_on);
        let has_stopped =
            result.with_context(|| format!("{kind:?} at operation {number} of {operations}"))?;
        stopped += u64::from(has_stopped);
        tried += 1;
        number += 1 + random.below(2 * every - 1);
    }
    println!(
        "seed {seed}, {kind:?}: {tried} of {operations} operations failed, {stopped} stopped the host"
    );
    Ok((stopped, tried))
}

#[test]
fn an_operation_of_the_disk_that_fails_costs_nothing_that_was_told() {
    let seed = from_environment("RULEMILL_SEED", 0x5eed);
    let seeds = from_environment("RULEMILL_CRASHES", 0);
    let every = if seeds > 0 { 1 } else { 5 };
    for seed in seed..seed + seeds.max(1) {
        match failures(seed, Failure::Error, every) {
            Ok((stopped, tried)) => assert!(stopped > tried / 2, "{stopped} of {tried}"),
            Err(error) => report(seed, &error),
        }
        // A full disk is waited for, but while the host starts.
        match failures(seed, Failure::Full, every) {
            Ok((stopped, tried)) => assert!(stopped < tried / 4, "{stopped} of {tried}"),
            Err(error) => report(seed, &error),
        }
    }
}

fn report(seed: u64, error: &anyhow::Error) -> ! {
    panic!(
        "{error:#}\nto repeat: RULEMILL_SEED={seed} RULEMILL_CRASHES=1 cargo test --workspace --test crash -- --nocapture"
    )
}

#[test]
fn every_crash_leaves_one_of_the_commits_and_the_host_goes_on_from_there() {
    let seed = from_environment("RULEMILL_SEED", 0x5eed);
    let seeds = from_environment("RULEMILL_CRASHES", 0);
    let (seeds, go_on_every) = if seeds > 0 { (seeds, 1) } else { (2, 7) };
    for seed in seed..seed + seeds {
        for pace in [Pace::Single, Pace::Several] {
            match crashes(seed, pace, go_on_every) {
                Ok(tried) => assert!(tried > 150, "only {tried} crashes"),
                Err(error) => report(seed, &error),
            }
        }
    }
}
