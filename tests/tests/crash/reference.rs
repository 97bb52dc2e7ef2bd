//! The states that a store may be found in: those that its commits leave, in a run without a crash.

use std::ops::RangeInclusive;

use anyhow::ensure;
use rulemill_tests::storage::{Entry, Journal, JournalDisk};

use crate::{
    contents::Contents,
    host::{Mark, Pace, open, requests},
    record,
    workload::Step,
};

/// What the store held after each commit of a run with one write set a commit.
pub(crate) struct Reference {
    pub(crate) states: Vec<Contents>,
    /// By step: the last state when it began, and when it was acknowledged.
    begun: Vec<usize>,
    acknowledged: Vec<usize>,
}

impl Reference {
    pub(crate) fn of(steps: &[Step]) -> anyhow::Result<Self> {
        let journal = record(steps, Pace::Single)?;
        let mut places = vec![0];
        places.extend(journal.syncs().into_iter().map(|place| place + 1));
        let mut states: Vec<Contents> = Vec::new();
        // Which state there is from an entry on.
        let mut reached = Vec::new();
        let requests = requests(steps);
        let mut failed = None;
        journal.replay(&places, |at, durable, _| {
            let disk = JournalDisk::<()>::new(durable.to_vec());
            match open(disk)
                .map_err(Into::into)
                .and_then(|store| Contents::of(&store, &requests))
            {
                Ok(state) => {
                    if states.last() != Some(&state) {
                        states.push(state);
                    }
                    reached.push((at, states.len() - 1));
                }
                Err(error) => failed = Some(error),
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let mut reference = Self {
            states,
            begun: vec![0; steps.len() + 1],
            acknowledged: vec![0; steps.len()],
        };
        for (at, entry) in journal.entries.iter().enumerate() {
            let last = reached.partition_point(|(place, _)| *place <= at) - 1;
            match entry {
                Entry::Mark(Mark::Begun(step)) => reference.begun[*step] = reached[last].1,
                Entry::Mark(Mark::Acknowledged(step)) => {
                    reference.acknowledged[*step] = reached[last].1;
                }
                _ => {}
            }
        }
        reference.begun[steps.len()] = reference.states.len() - 1;
        reference.is_of_everything()?;
        Ok(reference)
    }

    /// Whether there was something of everything that a crash could lose.
    fn is_of_everything(&self) -> anyhow::Result<()> {
        for section in [
            "timer",
            "notification",
            "dead letter",
            "bad input",
            "reminders",
            "totals by index 0",
        ] {
            let begins = format!("{section}: ");
            let times = self.states.iter().filter(|state| state.has_line(&begins));
            let times = times.count();
            ensure!(times > 10, "hardly any {section}: {times}");
        }
        let mut steps = self.states.windows(2);
        ensure!(
            steps.any(|two| two[1].count("dead letter: ") < two[0].count("dead letter: ")),
            "no parked change went through"
        );
        let versions = self.states.iter().map(|s| s.count("plugin version: "));
        // A shop, its next version, that rebuilt twice, and the late one.
        ensure!(versions.max() == Some(5), "not all plugins came");
        let rebuilds =
            |state: &Contents| state.has_line("rule: RuleRecord { plugin: \"shop:rebuild\"");
        let times = self.states.iter().filter(|state| rebuilds(state)).count();
        ensure!(times > 12, "hardly any state of a rebuild: {times}");
        let steps = self.states.windows(2);
        let switches = steps.filter(|two| rebuilds(&two[0]) && !rebuilds(&two[1]));
        ensure!(switches.count() == 2, "not both rebuilds were switched in");
        let mut steps = self.states.windows(2);
        ensure!(
            steps.any(|two| two[1].count("log: ") < two[0].count("log: ")),
            "the log forgot nothing"
        );
        Ok(())
    }

    /// Which states may be found after a crash.
    pub(crate) fn possible(&self, so_far: SoFar) -> RangeInclusive<usize> {
        let first = so_far
            .acknowledged
            .checked_sub(1)
            .map_or(0, |step| self.acknowledged[step]);
        first..=self.begun[so_far.begun]
    }
}

/// How many steps have begun, and how many of them were acknowledged.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SoFar {
    pub(crate) begun: usize,
    pub(crate) acknowledged: usize,
}

impl SoFar {
    pub(crate) fn at(journal: &Journal<Mark>, place: usize) -> Self {
        let mut so_far = Self::default();
        for entry in &journal.entries[..place] {
            if let Entry::Mark(mark) = entry {
                so_far.note(*mark);
            }
        }
        so_far
    }

    pub(crate) fn note(&mut self, mark: Mark) {
        match mark {
            Mark::Begun(step) => self.begun = step + 1,
            Mark::Acknowledged(step) => self.acknowledged = step + 1,
        }
    }
}
