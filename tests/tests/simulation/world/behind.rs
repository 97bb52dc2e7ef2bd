//! Rules that are behind come nearer, and the world looks how far they have come.
//!
//! How many rows a rule takes over in a step, when rebuilt tables are switched in and which write sets the log still holds is the
//! engine's own business: so it is looked up in the store, after every step while there is anything to see, and written down
//! between what was accepted. The recomputation then says what must have come of it.

use std::collections::HashMap;

use rulemill::{
    change::Seq,
    engine::Behind,
    store::{RuleRecord, RuleStatus},
};
use rulemill_wire::{ColumnType, Reader, Value, key};

use crate::{
    compare::{self, DERIVED},
    model::{Event, Reading},
};

use super::{End, World};

/// Steps in which everything must have come to the head: many rules may be behind, and take three changes in a step.
const STEPS_MAX: usize = 30_000;

impl World {
    pub(crate) fn step_behind(&mut self) -> Result<Behind, End> {
        let step = self.step(rulemill::engine::Stepped::step_behind)?;
        if step == Behind::Done {
            self.note(format_args!("what is behind comes nearer"));
            // It may have had to wait for the disk.
            self.look()?;
            if !self.settings.is_loose && self.model().must_look() {
                self.settle_all()?;
                self.look_at_rules()?;
            }
        }
        Ok(step)
    }

    /// Lets every rule come to the head whose tables serve; what is being rebuilt may take longer.
    pub(crate) fn drain_serving(&mut self) -> Result<(), End> {
        if self.settings.is_loose || !self.model().is_rebuilding_any() {
            return self.drain();
        }
        for _ in 0..STEPS_MAX {
            self.settle_all()?;
            let reader = self.reader()?;
            let records = self.disk_or_wrong(reader.rules())?;
            let is_late = |record: &RuleRecord| {
                record.status == RuleStatus::Running
                    && !(record.at_head && record.backfill.is_none())
                    && !record.plugin.ends_with(":rebuild")
            };
            if !records.iter().any(is_late) || self.step_behind()? == Behind::Idle {
                return Ok(());
            }
        }
        self.never_done()
    }

    /// Lets every rule come to the head, and everything arrive.
    pub(crate) fn drain(&mut self) -> Result<(), End> {
        for _ in 0..STEPS_MAX {
            match self.step_behind()? {
                Behind::Done => {}
                Behind::NeedsCommit => self.settle_all()?,
                Behind::Idle => return self.settle_all(),
            }
            if self.engine().is_full() {
                self.settle_all()?;
            }
        }
        self.never_done()
    }

    fn never_done(&mut self) -> Result<(), End> {
        let status = self.engine().status();
        let rules = status.rules.iter();
        let behind: Vec<_> = rules.filter(|(_, rule)| rule.status != "running").collect();
        Err(End::Wrong(format!(
            "a rule never comes to the head: {behind:?}"
        )))
    }

    /// Writes down how far rules have come with the rows that they take over, and which plugin's rebuilt tables serve now.
    pub(super) fn look_at_rules(&mut self) -> Result<(), End> {
        let reader = self.reader()?;
        let catalog = self.disk_or_wrong(reader.catalog())?;
        let records = self.disk_or_wrong(reader.rules())?;
        for (table, plugin) in DERIVED {
            let since = catalog.by_name(table).map_or(0, |table| table.since());
            if since > self.model().since(plugin) {
                self.note(format_args!(
                    "{plugin} serves what was rebuilt, since {since}"
                ));
                self.accept(Event::Switched { plugin, since }, Vec::new())?;
            }
        }
        let by_name: HashMap<String, &RuleRecord> = records
            .iter()
            .map(|record| (format!("{}.{}", record.plugin, record.rule), record))
            .collect();
        for (rule, known) in self.model().readings() {
            // One that is about to begin isn't there yet.
            let Some(record) = by_name.get(&rule) else {
                continue;
            };
            let reached = match &record.backfill {
                None => Reading::Done,
                Some(key) => Reading::At(key_of(key)?),
            };
            let runs = record.status == RuleStatus::Running;
            if reached != known || (!runs && self.model().is_running(&rule)) {
                self.note(format_args!(
                    "{rule} has read {reached:?}, and runs: {runs}"
                ));
                let event = Event::Reads {
                    rule,
                    reached,
                    runs,
                };
                self.accept(event, Vec::new())?;
            }
        }
        self.settle_all()
    }

    /// What was being rebuilt when the process died, and what the store makes of it.
    pub(super) fn look_at_rebuilds(&mut self) -> Result<(), End> {
        let reader = self.reader()?;
        let records = self.disk_or_wrong(reader.rules())?;
        for event in std::mem::take(&mut self.undone) {
            let (Event::Rebuild(name)
            | Event::Cancel(name)
            | Event::Load(name, _)
            | Event::Remove(name)) = event
            else {
                continue;
            };
            let shadow = format!("{name}:rebuild");
            let is_there = records.iter().any(|record| record.plugin == shadow);
            match (is_there, self.model().is_rebuilding(name)) {
                (true, false) => self.accept(Event::Rebuild(name), Vec::new())?,
                (false, true) => self.accept(Event::Cancel(name), Vec::new())?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes down what the log no longer holds.
    pub(super) fn look_at_log(&mut self) -> Result<(), End> {
        let reader = self.reader()?;
        let catalog = self.disk_or_wrong(reader.catalog())?;
        let records = self.disk_or_wrong(reader.rules())?;
        let first = self
            .disk_or_wrong(reader.log_first_seq())?
            .unwrap_or(Seq(1));
        let kept = compare::logged(&reader, &catalog).map_err(|what| self.failed_or(what))?;
        let lost: Vec<String> = records
            .iter()
            .filter(|record| !record.at_head && record.cursor.next() < first)
            .map(|record| format!("{}.{}", record.plugin, record.rule))
            .filter(|name| !self.model().is_lost(name))
            .collect();
        if kept != self.model().kept() || !lost.is_empty() {
            self.note(format_args!(
                "the log begins at {first}; {lost:?} stand before it"
            ));
            self.accept(Event::Forgot { kept, lost }, Vec::new())?;
        }
        self.settle_all()
    }

    /// What is old is removed from the log, as the committer does from time to time.
    pub(crate) fn prune(&mut self) -> Result<(), End> {
        self.settle_all()?;
        let reader = self.reader()?;
        let bytes = self.disk_or_wrong(reader.log_bytes())?;
        let mut limits = self.settings.limits.clone();
        limits.log_bytes_max = bytes * self.random.below(4) / 4;
        self.note(format_args!(
            "of {bytes} bytes of log {} are kept",
            limits.log_bytes_max
        ));
        self.count("the log is pruned");
        self.has_pruned = true;
        loop {
            let pruned = self.store().prune(0, &limits);
            if !self.disk_or_wrong(pruned)? {
                break;
            }
        }
        match self.settings.is_loose {
            true => Ok(()),
            false => self.look_at_log(),
        }
    }
}

fn key_of(bytes: &[u8]) -> Result<Option<i64>, End> {
    if bytes.is_empty() {
        return Ok(None);
    }
    match key::read(ColumnType::I64, &mut Reader::new(bytes)) {
        Ok(Value::I64(key)) => Ok(Some(key)),
        other => Err(End::Wrong(format!("{bytes:?} is no key: {other:?}"))),
    }
}
