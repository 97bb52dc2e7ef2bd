//! Reading the past: what a rule that is behind sees of other tables.
//!
//! The state as of a change is the state now with the rows put back that have changed since, which a history made from the log
//! knows ([`crate::store::History`]). It is made when a rule is behind or parked changes are tried again, a bounded part at a time
//! between live batches, then kept up with every write set that is decided, and dropped when nothing is behind any more. Only
//! tables that some rule looks up are in it; where no rule looks any up, there is none.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    catalog::TableId,
    change::{Change, Seq},
    store::{History, WriteSet},
};

use super::{Engine, Fatal};

/// Changes of the log that are taken in at once, in batches.
const STEP_BATCHES: usize = 16;

/// The history that leads back from now.
pub(super) struct Past {
    history: History,
    tables: BTreeSet<TableId>,
    /// It holds every change of those tables behind this one, once it is complete.
    from: Seq,
    /// What is still to be taken in from the log: behind the first, up to the second.
    missing: Option<(Seq, Seq)>,
    /// Changes decided since, not yet taken in.
    unfed: Vec<Change>,
    /// The seq of the batch whose changes were taken in while it was being decided.
    fed: Seq,
}

impl Past {
    /// Takes note of what has just been decided.
    pub(super) fn note(&mut self, write_set: &WriteSet) {
        let is_in =
            |change: &&Change| self.tables.contains(&change.table) && change.seq != self.fed;
        self.unfed
            .extend(write_set.log.iter().filter(is_in).cloned());
    }
}

impl Engine {
    /// Makes it possible to read other tables as of any change behind `from`, as far as the log reaches. False if more steps
    /// are needed.
    pub(super) fn reach_back(&mut self, from: Seq) -> Result<bool, Fatal> {
        let tables = self.looked_up();
        if tables.is_empty() {
            self.forget_past();
            return Ok(true);
        }
        let starts = self.view.snapshot().log_first_seq()?;
        let from = from.max(Seq(starts.map_or(0, |first| first.0 - 1)));
        if self.past.as_ref().is_some_and(|past| past.tables != tables) {
            self.forget_past();
        }
        if self.past.is_none() {
            // From here on it is kept up.
            self.settle_all()?;
            self.past = Some(Past {
                history: self.store.history()?,
                tables,
                from,
                missing: Some((from, self.last_seq)),
                unfed: Vec::new(),
                fed: Seq(0),
            });
        }
        let Some(past) = &mut self.past else {
            return Ok(true);
        };
        if past.missing.is_none() && from < past.from {
            past.missing = Some((from, past.from));
            past.from = from;
        }
        let catalog = self.catalog.load();
        let unfed = std::mem::take(&mut past.unfed);
        past.history.add(&catalog, &unfed)?;
        if let Some((next, end)) = past.missing {
            let max = self.limits.batch_changes_max.max(1) * STEP_BATCHES;
            let mut found = Vec::new();
            past.missing = None;
            for (seen, change) in self.view.snapshot().log(next.next())?.enumerate() {
                let change = change?;
                if change.seq > end {
                    break;
                }
                // Changes of one seq are taken in together.
                if seen >= max && change.seq.0 > next.0 + 1 {
                    let reached = Seq(change.seq.0 - 1);
                    found.retain(|change: &Change| change.seq <= reached);
                    past.missing = Some((reached, end));
                    break;
                }
                if change.seq > next && past.tables.contains(&change.table) {
                    found.push(change);
                }
            }
            past.history.add(&catalog, &found)?;
        }
        let is_complete = past.missing.is_none() && past.from <= from;
        if is_complete {
            let reader = Arc::new(past.history.reader()?);
            self.view_mut().set_past(Some(reader));
        }
        Ok(is_complete)
    }

    /// Takes in what has been decided since, once that is much.
    pub(super) fn drain_past(&mut self) -> Result<(), Fatal> {
        let max = self.limits.batch_changes_max;
        if let Some(past) = self.past.as_mut().filter(|past| past.unfed.len() > max) {
            let unfed = std::mem::take(&mut past.unfed);
            past.history.add(&self.catalog.load(), &unfed)?;
        }
        Ok(())
    }

    /// Takes in what the batch of a rule that is behind has derived so far, for the rules that follow in it: they see
    /// other tables as of what is behind their changes too.
    pub(super) fn feed_past(&mut self, derived: &[Change]) -> Result<(), Fatal> {
        let Some(past) = self.past.as_mut().filter(|past| past.missing.is_none()) else {
            return Ok(());
        };
        let is_in = |change: &&Change| past.tables.contains(&change.table);
        let found: Vec<Change> = derived.iter().filter(is_in).cloned().collect();
        if let Some(first) = derived.first() {
            past.fed = first.seq;
        }
        if !found.is_empty() {
            past.history.add(&self.catalog.load(), &found)?;
            let reader = Arc::new(past.history.reader()?);
            self.view_mut().set_past(Some(reader));
        }
        Ok(())
    }

    /// Nothing is behind any more.
    pub(super) fn forget_past(&mut self) {
        if self.past.take().is_some() {
            self.view_mut().set_past(None);
        }
    }

    /// The tables that rules look up.
    fn looked_up(&self) -> BTreeSet<TableId> {
        let mut tables = BTreeSet::new();
        for plugin in &self.plugins {
            for rule in &plugin.plugin.manifest().rules {
                let of_rule = rule
                    .lookups
                    .iter()
                    .filter(|table| !rule.writes.contains(table));
                tables.extend(of_rule.map(|&table| plugin.tables[usize::from(table)].id));
            }
        }
        tables
    }
}
