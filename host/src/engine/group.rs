//! Write sets that are decided and not yet durable: they go to the committer as groups, one at a time, while the next ones are decided.
//!
//! Nobody is told of anything before its group is on disk. If a commit fails the engine ends, and those who wait are told that their batches aren't
//! in the store.

use std::{collections::HashMap, sync::Arc, thread};

use crate::{
    change::{Refused, Seq},
    commit::Committed,
    store::{IdempotencyRecord, Notification, WriteSet},
};

use super::{Engine, Fatal};

impl Engine {
    pub(super) fn is_full(&self) -> bool {
        self.pending_changes >= self.limits.commit_changes_max
            || self.pending_bytes >= self.limits.commit_bytes_max
    }

    pub(super) fn is_unsettled(&self) -> bool {
        self.committing || !self.pending.is_empty()
    }

    /// Stores what the start has decided (tables, plugin versions, rules), before anybody can look.
    pub(super) fn settle_start(&mut self) -> anyhow::Result<()> {
        let mut group = self.take_pending();
        if group.is_empty() {
            return Ok(());
        }
        self.store.commit(&mut group)?;
        let reader = Arc::new(self.store.reader()?);
        let view = self.view_mut();
        view.hand_over();
        view.settled(reader);
        self.post_status();
        Ok(())
    }

    /// Takes the pending write sets as a group, with the rules whose state has changed.
    pub(super) fn take_pending(&mut self) -> Vec<WriteSet> {
        if self.pending.is_empty() {
            return Vec::new();
        }
        let mut records = Vec::new();
        for state in self.states.iter_mut().filter(|state| state.dirty) {
            state.dirty = false;
            records.push(state.record.clone());
        }
        if let Some(last) = self.pending.last_mut() {
            last.rules = records;
        }
        self.pending_changes = 0;
        self.pending_bytes = 0;
        std::mem::take(&mut self.pending)
    }

    /// Gives what is pending to the committer, if that is idle.
    pub(super) fn hand_over(&mut self) -> Result<(), Fatal> {
        if self.committing || self.pending.is_empty() {
            return Ok(());
        }
        let group = self.take_pending();
        self.view_mut().hand_over();
        self.requests.hand_over();
        self.committing = true;
        self.committer
            .submit(group)
            .map_err(|_| Fatal::Store("the committer has ended".into()))
    }

    pub(super) fn settle(&mut self, report: Committed) -> Result<(), Fatal> {
        self.committing = false;
        report.result?;
        let reader = Arc::new(self.store.reader()?);
        let settled = self.view_mut().settled(reader);
        // Freeing a quarter of a million rows takes a while, and nothing waits for it.
        thread::Builder::new()
            .name("free".into())
            .spawn(move || drop(settled))
            .map_err(Fatal::store)?;
        self.requests.settled();
        self.commits += 1;
        self.post_status();
        Ok(())
    }

    /// Waits until all that was decided is on disk.
    pub(super) fn settle_all(&mut self) -> Result<(), Fatal> {
        while self.is_unsettled() {
            self.hand_over()?;
            self.await_commit()?;
        }
        Ok(())
    }

    /// Waits until the committer has nothing in hand, so that the snapshot holds all that anybody was told
    /// is durable.
    pub(super) fn await_commit(&mut self) -> Result<(), Fatal> {
        while self.committing {
            let report = self.committer.next_report();
            let report = report.map_err(|_| Fatal::Store("the committer has ended".into()))?;
            self.settle(report)?;
        }
        Ok(())
    }

    pub(super) fn request_taken(&self, key: &str) -> Result<Option<IdempotencyRecord>, Fatal> {
        if let Some(record) = self.requests.earlier(key) {
            return Ok(Some(record.clone()));
        }
        Ok(self.view.snapshot().idempotency(key)?)
    }

    /// Puts a write set behind those that are pending.
    pub(super) fn finish(&mut self, mut write_set: WriteSet, bytes: usize) {
        // Of a change and of the timers that came due before it, in whatever calls.
        let mut ordinals: HashMap<(Seq, &str, &str), u32> = HashMap::new();
        for notification in &mut write_set.notifications {
            let Notification {
                seq, plugin, rule, ..
            } = notification;
            let next = ordinals.entry((*seq, plugin, rule)).or_default();
            notification.ordinal = *next;
            *next += 1;
        }
        write_set.last_seq = self.last_seq;
        write_set.watermark = self.watermark;
        write_set.watermark_clock = self.watermark_clock;
        self.batch_watermark = self.watermark;
        if let Some(past) = &mut self.past {
            past.note(&write_set);
        }
        self.pending_changes += write_set.log.len().max(1);
        self.pending_bytes += bytes;
        self.pending.push(write_set);
    }

    /// After a failure: tells those who wait that their batches are not in the store.
    pub(super) fn refuse_pending(&mut self) {
        let reason: Arc<str> = "the host has stopped".into();
        for write_set in self.pending.drain(..) {
            for (done, _) in write_set.done {
                done(Err(Refused::Stopped(reason.clone())));
            }
        }
    }
}
