//! The carts' timers: set by changes, fired by time, which goes by the changes' own and else by the clock.
//!
//! While the rule that sets them stands still they wait for it, and fire as it comes to their time; while the one that is called for
//! them does, the other one goes on setting and clearing them, and what is left fires late.

use std::collections::BTreeMap;

use crate::{feed::Source, rules::carts::AGAIN};

use super::{Change, Model, Status};

pub(super) const WATCH: &str = "carts.watch";
pub(super) const REMIND: &str = "carts.remind";

/// Timers, and what came of them.
#[derive(Debug, Clone)]
pub(crate) struct Carts {
    pub(super) remind: Status,
    pub(super) halted_at: u64,
    timers: BTreeMap<String, i64>,
    /// How often, and when last.
    pub(super) reminded: BTreeMap<i64, (i64, i64)>,
}

impl Carts {
    pub(super) fn new() -> Self {
        Self {
            remind: Status::Running,
            halted_at: 0,
            timers: BTreeMap::new(),
            reminded: BTreeMap::new(),
        }
    }
}

impl Model {
    /// Whether a rule for timers that isn't paused is called.
    fn reminds(&self, place: usize) -> bool {
        let deployment = &self.deployments[place];
        let carts = deployment.carts.as_ref();
        deployment.loaded && carts.is_some_and(|carts| carts.remind == Status::Running)
    }

    /// Whether timers fire now.
    fn fires(&self, place: usize) -> bool {
        self.reminds(place) && self.runs(place, 0)
    }

    /// Time has come to that of a change that is about to be handed to the rules.
    pub(super) fn time_moves(&mut self, change: &Change) {
        let before = self.watermark;
        let reached = before.max(change.time);
        self.watermark = reached;
        for place in 0..self.deployments.len() {
            if self.deployments[place].carts.is_none() {
                continue;
            }
            let is_its = change.table == Source::Carts
                && !self.deployments[place].rules[0].will_read(change.key);
            if self.fires(place) && (change.time > before || is_its) {
                self.fire(place, reached);
            }
        }
    }

    /// A rule that is behind comes to a time.
    pub(super) fn time_comes_to(&mut self, place: usize, rule: usize, time: i64, is_its: bool) {
        let state = &mut self.deployments[place].rules[rule];
        let moves = time > state.watermark;
        state.watermark = state.watermark.max(time);
        let reached = state.watermark;
        if (moves || is_its) && self.reminds(place) && self.fire(place, reached) {
            self.outcome("timers fire as a rule catches up");
        }
    }

    /// A rule reads a row that was there before it: a timer that was set for a time that had been reached fires before.
    pub(super) fn time_stands(&mut self, place: usize) {
        if self.reminds(place) {
            self.fire(place, self.watermark);
        }
    }

    /// A cart has changed.
    pub(super) fn watch(&mut self, place: usize, change: &Change) {
        let key = change.key.to_string();
        let Some(carts) = &mut self.deployments[place].carts else {
            return;
        };
        match &change.after {
            Some(row) => {
                let wait = row[0].unwrap_or_default();
                carts.timers.insert(key, change.time + wait);
            }
            None => drop(carts.timers.remove(&key)),
        }
    }

    /// Fires what is due, and what that sets. False if nothing was.
    fn fire(&mut self, place: usize, time: i64) -> bool {
        let deployment = &mut self.deployments[place];
        let is_shadow = deployment.is_shadow;
        let Some(carts) = &mut deployment.carts else {
            return false;
        };
        let mut sent = Vec::new();
        while let Some((due, key)) = carts
            .timers
            .iter()
            .map(|(key, due)| (*due, key.clone()))
            .min()
            .filter(|(due, _)| *due <= time)
        {
            carts.timers.remove(&key);
            let id = key.parse().expect("a cart's id");
            let reminded = carts.reminded.entry(id).or_default();
            *reminded = (reminded.0 + 1, due);
            if reminded.0 % 2 == 1 {
                carts.timers.insert(key.clone(), due + AGAIN);
            }
            sent.push(format!("reminded [\"{key}\",{due}]"));
        }
        let has_fired = !sent.is_empty();
        if !is_shadow {
            sent.into_iter().for_each(|what| self.notify(REMIND, what));
        }
        has_fired
    }

    pub(super) fn tick(&mut self, clock: i64) {
        let now = self.watermark + (clock - self.watermark_clock).max(0);
        let firing: Vec<usize> = (0..self.deployments.len())
            .filter(|&place| self.deployments[place].carts.is_some() && self.fires(place))
            .collect();
        let due = firing.iter().any(|&place| {
            let carts = self.deployments[place].carts.as_ref();
            let mut timers = carts.into_iter().flat_map(|carts| carts.timers.values());
            timers.any(|due| *due <= now)
        });
        if due {
            for place in firing {
                self.fire(place, now);
            }
            self.watermark = now;
            self.watermark_clock = clock;
        }
    }

    /// The timers that are set.
    pub(crate) fn timers(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for deployment in &self.deployments {
            for (key, due) in deployment.carts.iter().flat_map(|carts| &carts.timers) {
                let rule = deployment.full_name(REMIND);
                lines.push(format!("{rule} {key} {due}"));
            }
        }
        lines.sort();
        lines
    }
}
