//! What the engine remembers of each rule between batches: its record, what is parked for it and what it missed.

use std::{
    collections::VecDeque,
    hash::{Hash, Hasher},
};

use hashbrown::{Equivalent, HashMap};

use crate::{
    change::{Key, Seq},
    limits::Limits,
    row::Row,
    store::{DeadLetter, RuleRecord, RuleStatus, Subject},
};

/// A change's place in what a rule is told: its seq, and which change of its table with that seq it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    pub(super) seq: Seq,
    pub(super) nth: u32,
}

impl Order {
    /// A place behind all that come before this one.
    pub(super) fn right_before(self) -> Self {
        match self.nth.checked_sub(1) {
            Some(nth) => Self { nth, ..self },
            None => Self {
                seq: Seq(self.seq.0.saturating_sub(1)),
                nth: u32::MAX,
            },
        }
    }

    /// That of a parked change.
    pub(super) fn of(letter: &DeadLetter) -> Self {
        Self {
            seq: letter.seq,
            nth: letter.nth,
        }
    }
}

/// What parked changes and timers stand in line by. A row's key and a timer's may be the same bytes: a rule that was called for changes
/// in one version may be called for timers in the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// The changes of a row, by its key.
    Row(Key),
    /// The timers with a key.
    Timer(String),
}

impl Line {
    /// That of a parked change or timer.
    pub(super) fn of(subject: &Subject) -> Self {
        match subject {
            Subject::Change(change) => Self::Row(Key::copy_from_slice(&change.key)),
            Subject::Timer(timer) => Self::Timer(timer.key.clone()),
        }
    }

    /// Whether timers stand in it.
    pub(super) fn is_of_timers(&self) -> bool {
        matches!(self, Self::Timer(_))
    }
}

/// A row's line that is only looked for: hashed and compared as [`Line::Row`].
struct RowLine<'a>(&'a [u8]);

impl Hash for RowLine<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(0);
        self.0.hash(state);
    }
}

impl Hash for Line {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Row(key) => RowLine(key).hash(state),
            Self::Timer(key) => {
                state.write_u8(1);
                key.hash(state);
            }
        }
    }
}

impl Equivalent<Line> for RowLine<'_> {
    fn equivalent(&self, line: &Line) -> bool {
        matches!(line, Line::Row(key) if key == self.0)
    }
}

/// A rule, whether or not its plugin is loaded.
#[derive(Debug)]
pub(super) struct RuleState {
    pub(super) record: RuleRecord,
    /// What is parked, each line in its order.
    pub(super) parked: HashMap<Line, Vec<Letter>, foldhash::fast::RandomState>,
    /// Parked changes and timers in all.
    pub(super) parked_count: u64,
    /// Bytes of their keys, rows and errors.
    pub(super) parked_bytes: u64,
    /// Lines of timers among them.
    pub(super) timer_lines: usize,
    /// Rows of which the rule has missed changes, as it last saw them.
    pub(super) gaps: HashMap<Key, Option<Row>, foldhash::fast::RandomState>,
    /// For those that a change of the batch at hand has left: that change. What comes before it in the batch, and may yet have to be
    /// handed over again, has nothing to do with the gap.
    pub(super) gap_places: HashMap<Key, Order, foldhash::fast::RandomState>,
    /// Skipped changes and timers that are kept to be read, oldest first.
    pub(super) skipped: VecDeque<Skipped>,
    pub(super) window: Window,
    /// Where it stopped in the batch at hand: timers that come due up to there fire as if it ran, in whatever calls.
    pub(super) sets_until: Option<Order>,
    /// The record differs from what the store holds.
    pub(super) dirty: bool,
}

/// A parked change or timer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Letter {
    pub(super) id: u64,
    pub(super) order: Order,
    pub(super) cause: Seq,
    pub(super) bytes: u64,
}

/// A skipped change or timer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Skipped {
    pub(super) id: u64,
    /// When, by the host's clock.
    pub(super) at: i64,
}

impl RuleState {
    pub(super) fn new(record: RuleRecord) -> Self {
        Self {
            record,
            parked: HashMap::default(),
            parked_count: 0,
            parked_bytes: 0,
            timer_lines: 0,
            gaps: HashMap::default(),
            gap_places: HashMap::default(),
            skipped: VecDeque::new(),
            window: Window::default(),
            sets_until: None,
            dirty: true,
        }
    }

    /// Whether this is the number of a skipped change that is kept.
    pub(super) fn has_skipped(&self, id: u64) -> bool {
        self.skipped.iter().any(|skipped| skipped.id == id)
    }

    /// `plugin.rule`.
    pub(super) fn full_name(&self) -> String {
        format!("{}.{}", self.record.plugin, self.record.rule)
    }

    /// Whether live changes go to it.
    pub(super) fn takes_live(&self) -> bool {
        self.record.status == RuleStatus::Running && self.record.at_head
    }

    /// Whether it runs but has changes of the past still to handle.
    pub(super) fn is_behind(&self) -> bool {
        self.record.status == RuleStatus::Running && !self.record.at_head
    }

    /// Whether its cursor has passed a change.
    pub(super) fn has_passed(&self, order: Order) -> bool {
        let (cursor, next) = (self.record.cursor, self.record.cursor.next());
        order.seq <= cursor || (order.seq == next && order.nth < self.record.cursor_changes)
    }

    /// Puts its cursor right before a change and takes it from the head.
    pub(super) fn stop_before(&mut self, order: Order, status: RuleStatus) {
        self.record.cursor = Seq(order.seq.0.saturating_sub(1));
        self.record.cursor_changes = order.nth;
        self.record.at_head = false;
        self.record.status = status;
        self.dirty = true;
    }

    /// Whether a change comes behind the one that left the gap of its row, if there is one.
    pub(super) fn is_behind_gap(&self, key: &[u8], order: Order) -> bool {
        self.gaps.contains_key(key) && self.gap_places.get(key).is_none_or(|place| order > *place)
    }

    /// Whether a row with this key has been read, or will be, by the backfill that is under way.
    pub(super) fn is_ahead_of_backfill(&self, key: &[u8]) -> bool {
        self.record
            .backfill
            .as_ref()
            .is_some_and(|position| key > &position[..])
    }

    pub(super) fn park(&mut self, line: Line, letter: Letter) {
        let is_of_timers = line.is_of_timers();
        let letters = self.parked.entry(line).or_default();
        if is_of_timers && letters.is_empty() {
            self.timer_lines += 1;
        }
        let place = match is_of_timers {
            // In the order in which they came due, which is that of their numbers: a rule that catches up fires timers at old places.
            true => letters.partition_point(|earlier| earlier.id < letter.id),
            false => letters.partition_point(|earlier| earlier.order < letter.order),
        };
        letters.insert(place, letter);
        self.parked_count += 1;
        self.parked_bytes += letter.bytes;
    }

    /// Whether a change or a timer at this place stands behind a parked one of its line.
    pub(super) fn waits(&self, line: &Line, order: Order) -> bool {
        let first = self.parked.get(line).and_then(|letters| letters.first());
        first.is_some_and(|first| line.is_of_timers() || order >= first.order)
    }

    /// The same of a change, by its row's key.
    #[inline]
    pub(super) fn row_waits(&self, key: &[u8], order: Order) -> bool {
        let first = self
            .parked
            .get(&RowLine(key))
            .and_then(|letters| letters.first());
        first.is_some_and(|first| order >= first.order)
    }

    pub(super) fn unpark(&mut self, line: &Line, id: u64) {
        let Some(letters) = self.parked.get_mut(line) else {
            return;
        };
        if let Some(place) = letters.iter().position(|letter| letter.id == id) {
            let letter = letters.remove(place);
            self.parked_count -= 1;
            self.parked_bytes -= letter.bytes;
        }
        if letters.is_empty() {
            self.parked.remove(line);
            self.timer_lines -= usize::from(line.is_of_timers());
        }
    }

    /// A parked change or timer is written anew, with so many bytes.
    pub(super) fn rewritten(&mut self, line: &Line, id: u64, bytes: u64) {
        let letters = self.parked.get_mut(line);
        let mut letters = letters.into_iter().flatten();
        if let Some(letter) = letters.find(|letter| letter.id == id) {
            self.parked_bytes = self.parked_bytes - letter.bytes + bytes;
            letter.bytes = bytes;
        }
    }

    /// Whether another parked change or timer of this size would be too much, and by which limit.
    pub(super) fn is_full(&self, bytes: u64, limits: &Limits) -> Option<&'static str> {
        if self.parked_count >= limits.dead_letters_max as u64 {
            Some("dead_letters_max")
        } else if self.parked_bytes + bytes > limits.dead_letters_bytes_max as u64 {
            Some("dead_letters_bytes_max")
        } else {
            None
        }
    }

    pub(super) fn fault(&mut self, message: &str) {
        self.record.faults += 1;
        self.record.last_error = Some(message.to_owned());
        self.dirty = true;
    }
}

/// How a rule has fared lately: what the breaker goes by. Older changes count for less and less.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window {
    changes: u64,
    faults: u64,
    time_outs: u64,
}

impl Window {
    /// Counts changes that were handled or faulted on.
    pub(super) fn add(&mut self, changes: u64, faults: u64, limits: &Limits) {
        let max = limits.breaker_window_changes.max(1);
        self.changes += changes;
        self.faults += faults;
        if self.changes > max {
            self.faults = self.faults * max / self.changes;
            self.time_outs = self.time_outs * max / self.changes;
            self.changes = max;
        }
    }

    /// Counts a call that ran out of time.
    pub(super) fn add_time_out(&mut self) {
        self.time_outs += 1;
    }

    /// Why the rule had better be paused if it were now to handle so many changes and fault on so many of them.
    pub(super) fn trips(&self, changes: u64, faults: u64, limits: &Limits) -> Option<String> {
        let (changes, faults) = (self.changes + changes, self.faults + faults);
        if changes >= limits.breaker_changes_min
            && faults * 100 > changes * limits.breaker_faults_percent
        {
            return Some(format!(
                "it faulted on {faults} of its last {changes} changes"
            ));
        }
        if self.time_outs >= limits.breaker_timeouts_max {
            return Some(format!(
                "{} of its last {changes} changes ran out of time",
                self.time_outs
            ));
        }
        None
    }
}
