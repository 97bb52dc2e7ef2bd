//! The engine over a store on some disk, taken through the workload.

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use crossbeam_channel::{Receiver, bounded};
use rulemill::{
    change::{BadInput, Idempotency, Position, Receipt, Refused},
    engine::{Control, Status},
    limits::Limits,
    store::{Backend, Reader, RuleRecord, RuleStatus, Store, Verified},
};
use rulemill_tests::{
    native::Make,
    rig::{Options, Rig, TestChange},
};

use crate::{
    contents::SOURCE,
    model::Model,
    plugins::{late, mended, shop},
    workload::{BATCH, Step},
};

/// What is noted between the disk's operations.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark {
    /// A step has begun.
    Begun(usize),
    /// Somebody was told that it is durable.
    Acknowledged(usize),
}

/// How the host works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// One write set a commit, and each step waits for the one before.
    Single,
    /// Several batches are under way, and share commits as it comes.
    Several,
}

/// Whether a transaction of the source brings input that can't be taken.
fn has_bad(number: usize) -> bool {
    number.is_multiple_of(3)
}

/// The idempotency keys of the workload.
pub(crate) fn requests(steps: &[Step]) -> Vec<String> {
    let numbered = steps.iter().enumerate();
    numbered
        .filter(|(_, step)| matches!(step, Step::Request(_)))
        .map(|(number, _)| request_key(number))
        .collect()
}

/// What must be there once so many steps were acknowledged.
pub(crate) fn check_acknowledged(
    reader: &Reader,
    steps: &[Step],
    acknowledged: usize,
) -> anyhow::Result<()> {
    let next = next_step(reader)?;
    for (number, step) in steps[..acknowledged].iter().enumerate() {
        let is_there = match step {
            Step::Source(_) => number < next,
            Step::Request(_) => reader.idempotency(&request_key(number))?.is_some(),
            Step::Mend => reader.plugin_versions()?.len() > 1,
            Step::Late => reader.plugin_versions()?.len() > 2,
            // Whether these have been done shows in the state only.
            Step::Pause | Step::Prune | Step::Resume | Step::Retry | Step::Rebuild => true,
        };
        ensure!(is_there, "step {number} was acknowledged and isn't there");
    }
    Ok(())
}

fn request_key(number: usize) -> String {
    format!("request {number}")
}

pub(crate) fn limits(pace: Pace) -> Limits {
    let mut limits = Limits {
        // Small, so that pages go to the disk in the middle of a transaction too.
        store_cache_bytes: 1 << 20,
        batch_changes_max: BATCH,
        // Batches are never put together: so the same write sets come about in every run.
        batch_bytes_max: 1,
        ..Limits::default()
    };
    if pace == Pace::Single {
        limits.commit_changes_max = 1;
    }
    limits
}

pub(crate) fn open(disk: impl Backend) -> Result<Store, rulemill::store::Error> {
    Store::with_backend(disk, &limits(Pace::Several))
}

pub(crate) struct Host<'a> {
    rig: Rig,
    steps: &'a [Step],
    mark: Arc<dyn Fn(Mark) + Send + Sync>,
}

type Answer = Receiver<Result<Receipt, Refused>>;

impl<'a> Host<'a> {
    /// Starts the engine with the plugins whose files are there once these first steps have begun.
    pub(crate) fn start(
        store: Store,
        pace: Pace,
        steps: &'a [Step],
        begun: usize,
        mark: impl Fn(Mark) + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let begun = &steps[..begun];
        let is_there = |step: fn(&Step) -> bool| begun.iter().any(step);
        // As long as plugins are, so that it shows whether the whole file is read to open it.
        let code = "1".repeat(CODE_BYTES);
        let first: (&str, Make, &str) = ("shop", shop::plugin, &code);
        let mut plugins = vec![match is_there(|step| matches!(step, Step::Mend)) {
            true => MENDED,
            false => first,
        }];
        if is_there(|step| matches!(step, Step::Late)) {
            plugins.push(LATE);
        }
        let options = Options {
            limits: limits(pace),
            ..Options::default()
        };
        Ok(Self {
            rig: Rig::start(Arc::new(store), &options, &plugins)?,
            steps,
            mark: Arc::new(mark),
        })
    }

    /// Does these steps, with as many under way at once as the pace allows. Of those that were acknowledged before a crash an operator
    /// doesn't ask for a rebuild again: it would forget what has come of timers since.
    pub(crate) fn work(&self, from: usize, acknowledged: usize, pace: Pace) -> anyhow::Result<()> {
        let most = match pace {
            Pace::Single => 1,
            Pace::Several => 5,
        };
        let mut under_way: Vec<Answer> = Vec::new();
        for (number, step) in self.steps.iter().enumerate().skip(from) {
            let changes = !step.made().is_empty();
            if !changes || under_way.len() == most {
                finish(&mut under_way)?;
                self.wait_until_settled(|_, _| Ok(true))?;
            }
            (self.mark)(Mark::Begun(number));
            if matches!(step, Step::Rebuild) && number < acknowledged {
                continue;
            }
            if changes {
                under_way.push(self.hand_in(number)?);
            } else {
                self.control(step)
                    .with_context(|| format!("step {number}: {step:?}"))?;
                (self.mark)(Mark::Acknowledged(number));
            }
        }
        finish(&mut under_way)?;
        self.wait_until_settled(|_, _| Ok(true))
    }

    fn hand_in(&self, number: usize) -> anyhow::Result<Answer> {
        let step = &self.steps[number];
        let changes: Vec<TestChange<'_>> = step.made().iter().map(|made| made.change()).collect();
        let mut batch = self.rig.batch(&changes)?;
        batch.input_bytes = 1;
        if let Step::Request(_) = step {
            let mut body_hash = [0; 32];
            body_hash[0] = number as u8;
            batch.idempotency = Some(Idempotency {
                key: request_key(number),
                body_hash,
            });
        } else {
            batch.source = SOURCE.into();
            batch.positions.push(Position {
                part: String::new(),
                bytes: vec![number as u8],
            });
            if has_bad(number) {
                batch.bad.push(BadInput {
                    origin: "a file".into(),
                    line: number as u64,
                    offset_bytes: 0,
                    reason: "a test".into(),
                    text: "?".into(),
                    cut: false,
                });
            }
        }
        let (answer, answered) = bounded(1);
        let mark = self.mark.clone();
        batch.done = Some(Box::new(move |result: Result<Receipt, Refused>| {
            if result.is_ok() {
                mark(Mark::Acknowledged(number));
            }
            let _ = answer.send(result);
        }));
        self.rig.handle.submit(batch)?;
        Ok(answered)
    }

    /// Sends a request again of which it is known that it was taken.
    pub(crate) fn repeat(&self, number: usize) -> anyhow::Result<()> {
        let receipt = self.hand_in(number)?.recv()??;
        ensure!(
            receipt.repeated,
            "request {number} had been taken, and was applied again"
        );
        Ok(())
    }

    fn control(&self, step: &Step) -> anyhow::Result<()> {
        let rule = "shop.totals".to_owned();
        match step {
            Step::Source(_) | Step::Request(_) => Ok(()),
            Step::Mend => {
                let (name, make, label) = MENDED;
                self.rig.load(name, make, label)?;
                self.wait_until_settled(|reader, _| {
                    let versions = reader.plugin_versions()?;
                    let of = versions.iter().filter(|version| version.plugin == name);
                    Ok(of.count() >= 2)
                })
            }
            Step::Late => {
                let (name, make, label) = LATE;
                self.rig.load(name, make, label)?;
                self.wait_until_settled(|reader, _| {
                    Ok(reader.rules()?.iter().any(|rule| rule.plugin == name))
                })
            }
            Step::Pause => {
                self.rig
                    .handle
                    .ask(|reply| Control::Pause { rule, reply })?;
                self.wait_until_settled(|reader, _| is_paused(reader))
            }
            Step::Resume => {
                self.rig.handle.ask(|reply| Control::Resume {
                    rule,
                    skip_gap: false,
                    reply,
                })?;
                self.wait_until_settled(|reader, _| Ok(!is_paused(reader)?))
            }
            Step::Prune => {
                let mut limits = limits(Pace::Several);
                limits.log_bytes_max = 1;
                // What the committer does from time to time.
                while self.rig.store.prune(0, &limits)? {}
                Ok(())
            }
            Step::Rebuild => {
                let plugin = "shop".to_owned();
                self.rig.handle.ask(|reply| Control::Rebuild {
                    plugin,
                    cancel: false,
                    reply,
                })?;
                self.wait_until_settled(|_, _| Ok(true))
            }
            Step::Retry => {
                let answer = self.rig.retry(None, None)?;
                self.wait_until_settled(|reader, _| {
                    Ok(reader.dead_letters()?.count() as u64 == answer.1)
                })
            }
        }
    }

    /// Waits until nothing is under way that would be stored, and something holds.
    fn wait_until_settled(
        &self,
        holds: impl Fn(&Reader, &Status) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let status = self.rig.handle.board.load();
            if let Some(reason) = &status.stopping {
                bail!("the host has stopped: {reason}");
            }
            let reader = self.rig.store.reader()?;
            let settled = reader.last_seq().0 == status.last_seq
                && status.durable_seq == status.last_seq
                && reader.rules()?.iter().all(is_settled);
            if settled && holds(&reader, &status)? {
                return Ok(());
            }
            ensure!(
                std::time::Instant::now() < deadline,
                "it doesn't settle: {status:#?}"
            );
            std::thread::yield_now();
        }
    }

    /// Whether the store holds what the steps make of it.
    pub(crate) fn compare(&self) -> anyhow::Result<()> {
        let model = Model::after(self.steps);
        let reader = self.rig.store.reader()?;
        for (table, expected) in model.tables() {
            let found = self.rig.rows(table)?;
            ensure!(
                found == expected,
                "table {table} holds\n{found:#?}\nand should hold\n{expected:#?}"
            );
        }
        let mut timers = Vec::new();
        for timer in reader.timers()? {
            let timer = timer?;
            timers.push((timer.key, timer.due.unwrap_or_default()));
        }
        timers.sort();
        ensure!(timers == model.timers(), "timers {timers:?}");
        let mut sent = Vec::new();
        for (place, notification) in reader.notifications(0)?.enumerate() {
            let notification = notification?;
            ensure!(notification.id == place as u64 + 1, "{notification:?}");
            sent.push(format!("{} {}", notification.topic, notification.body));
        }
        sent.sort();
        let expected = model.notifications();
        ensure!(sent == expected, "sent\n{sent:#?}\nnot\n{expected:#?}");
        let mut bad = Vec::new();
        for (place, entry) in reader.bad_input(SOURCE)?.enumerate() {
            let (number, input) = entry?;
            ensure!(number == place as u64 + 1, "{number}: {input:?}");
            bad.push(input.line as usize);
        }
        let expected = self.steps.iter().enumerate();
        let expected: Vec<usize> = expected
            .filter(|(number, step)| matches!(step, Step::Source(_)) && has_bad(*number))
            .map(|(number, _)| number)
            .collect();
        ensure!(bad == expected, "bad input {bad:?}");
        let parked = reader.dead_letters()?.count();
        ensure!(parked == model.parked(), "{parked} are parked");
        Ok(())
    }

    /// Stops it, and gives its store.
    pub(crate) fn stop(self) -> anyhow::Result<Store> {
        // The engine frees what it has committed on a thread of its own, which ends soon.
        let mut store = self.rig.stop()?;
        loop {
            match Arc::try_unwrap(store) {
                Ok(store) => return Ok(store),
                Err(shared) => store = shared,
            }
            std::thread::yield_now();
        }
    }
}

const CODE_BYTES: usize = 400_000;
const MENDED: (&str, Make, &str) = ("shop", mended::plugin, "2");
const LATE: (&str, Make, &str) = ("late", late::plugin, "1");

/// Whether a rule stands where it will stand if nothing happens: at the head, and none that is being rebuilt.
fn is_settled(rule: &RuleRecord) -> bool {
    let is_at_head = rule.status == RuleStatus::Running && rule.at_head && rule.backfill.is_none();
    (is_at_head || rule.status == RuleStatus::Paused) && !rule.plugin.contains(':')
}

fn is_paused(reader: &Reader) -> anyhow::Result<bool> {
    let rules = reader.rules()?;
    Ok(rules.iter().any(|rule| rule.status == RuleStatus::Paused))
}

fn finish(under_way: &mut Vec<Answer>) -> anyhow::Result<()> {
    for answer in under_way.drain(..) {
        answer.recv().context("the engine dropped a batch")??;
    }
    Ok(())
}

/// Whether everything in a store fits everything else.
pub(crate) fn verify(store: &mut Store) -> anyhow::Result<Verified> {
    let mut findings = Vec::new();
    let verified = store.verify(&mut |finding| findings.push(finding))?;
    ensure!(findings.is_empty(), "{findings:#?}");
    Ok(verified)
}

/// The step at which a source goes on that asks the store for its position.
pub(crate) fn next_step(reader: &Reader) -> anyhow::Result<usize> {
    let positions = reader.positions(SOURCE)?;
    Ok(positions
        .first()
        .and_then(|position| position.bytes.first())
        .map_or(0, |number| usize::from(*number) + 1))
}
