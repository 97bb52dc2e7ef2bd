//! Time without changes: when timers are due, and how they fire while nothing comes.

use std::time::Duration;

use crate::store::WriteSet;

use super::{Engine, FILES, Fatal, IDLE, LOOK_AGAIN, READING, schedule::Tick};

impl Engine {
    /// Whether a source has yet to come to the present end of what it reads, after the start.
    pub(super) fn sources_are_reading(&self) -> bool {
        let status = self.board.load();
        status
            .sources
            .values()
            .any(|source| source.kind == FILES && source.state == READING)
    }

    /// Whether a plugin's timers wait for a rule of it that sets them and is not at the head: what it has yet to handle may
    /// clear them, so they fire as it comes to their time.
    pub(super) fn holds_timers(&self, plugin: usize) -> bool {
        let manifest = self.plugins[plugin].plugin.manifest();
        (0..manifest.rules.len()).any(|rule| {
            manifest.rules[rule].sets_timers
                && !self.states[self.state_of(plugin, rule)].takes_live()
        })
    }

    /// What time it is for timers: that of the latest change, and what has passed on the clock since. So old changes
    /// that are only now read in find no timer fired that they would have cleared.
    pub(super) fn now(&self) -> i64 {
        let passed = (self.clock)().saturating_sub(self.watermark_clock).max(0);
        self.watermark.saturating_add(passed)
    }

    /// When the next timer is due that would fire: one of a rule that doesn't run stays set until it does.
    pub(super) fn next_due(&self) -> Option<i64> {
        self.timers.next_due(|plugin, rule| {
            let Some(owner) = self.plugin_named(plugin) else {
                return false;
            };
            // Its plugin may have come to call it for changes.
            let name = format!("{plugin}.{rule}");
            let rules = &self.plugins[owner].rules;
            let is_for_timers = rules
                .iter()
                .any(|rule| *rule.full_name == *name && rule.input.is_none());
            let place = self.state_places.get(&name);
            is_for_timers
                && place.is_some_and(|&place| self.states[place].takes_live())
                && !self.holds_timers(owner)
        })
    }

    /// How long until a timer is due, if time moves on without changes.
    pub(super) fn until_next_timer(&self) -> Duration {
        match self.next_due().filter(|_| self.ticks) {
            Some(_) if self.sources_are_reading() => LOOK_AGAIN,
            Some(due) => {
                let micros = due.saturating_sub(self.now()).max(0) as u64;
                Duration::from_micros(micros).min(IDLE)
            }
            _ => IDLE,
        }
    }

    /// Lets the timers fire that have come due while no change came.
    pub(super) fn tick(&mut self) -> Result<(), Fatal> {
        let now = self.now();
        let is_due = |due: Option<i64>| due.is_some_and(|due| due <= now);
        if !self.ticks || !is_due(self.next_due()) || self.sources_are_reading() {
            return Ok(());
        }
        self.last_seq = self.last_seq.next();
        let tick = Tick {
            seq: self.last_seq,
            time: now,
        };
        let mut write_set = WriteSet::default();
        self.view_mut().begin_batch(tick.seq, 0);
        let mut derived = Vec::new();
        self.run_schedule(&[], Some(tick), &mut write_set, &mut derived)?;
        self.view_mut().end_batch();
        derived.sort_by_key(|change| change.seq);
        write_set.log = derived;
        self.watermark = now;
        self.watermark_clock = (self.clock)();
        self.finish(write_set, 0);
        Ok(())
    }
}
