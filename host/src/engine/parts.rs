//! The parts in which a call's items are handed over, and the timers that fire between them.
//!
//! Items are cut into parts because there are too many for one call, or because a call faulted. What a part sets, moves
//! or clears shows only in its effects, so timers are put between the items part by part: just those fire that
//! would if every change were a batch.

use std::collections::{HashMap, HashSet};

use crate::store::RuleStatus;

use super::{
    Engine,
    items::{Body, Item},
};

/// Items of one call, and the latest time before them.
pub(super) struct Part<'a> {
    pub(super) items: Vec<Item<'a>>,
    pub(super) watermark: i64,
    pub(super) share: Share,
}

/// How much of a call's time a part gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// A batch's first call.
    Whole,
    /// Part of a batch that ran out of time.
    Search,
    /// A change that did, alone.
    Alone,
}

impl Share {
    /// Its milliseconds. A call that runs out of time, the search through its items (two calls for each halving) and the verdict on
    /// one of them come to about `ms_max`.
    pub(super) fn of(self, ms_max: u64) -> u64 {
        match self {
            Self::Whole => ms_max / 2,
            Self::Search => ms_max / 64,
            Self::Alone => ms_max * 3 / 10,
        }
        .max(1)
    }
}

impl<'a> Part<'a> {
    /// Cuts items into parts of `max` at the most, in each of which causes go up: a guest keeps what it looked up for as
    /// long as nothing older comes.
    pub(super) fn cut(items: Vec<Item<'a>>, watermark: i64, max: usize) -> Vec<Self> {
        let ends = items.windows(2).enumerate();
        let ends = ends.filter(|(_, pair)| pair[1].cause < pair[0].cause);
        let mut ends: Vec<usize> = ends.map(|(place, _)| place + 1).collect();
        if ends.is_empty() && items.len() <= max {
            return vec![Part {
                items,
                watermark,
                share: Share::Whole,
            }];
        }
        ends.push(items.len());
        let (mut parts, mut watermark, mut items) = (Vec::new(), watermark, items.into_iter());
        let mut start = 0;
        for end in ends {
            while start < end {
                let len = (end - start).min(max);
                start += len;
                let part = Part {
                    items: items.by_ref().take(len).collect(),
                    watermark,
                    share: Share::Whole,
                };
                watermark = part.end();
                parts.push(part);
            }
        }
        parts
    }

    /// The latest time up to their end.
    pub(super) fn end(&self) -> i64 {
        let times = self.items.iter().map(|item| item.time);
        times.fold(self.watermark, i64::max)
    }
}

/// How often each timer has been put in since a call ran out of time: one that sets itself again for a time that has been reached would
/// fire for ever.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    pub(super) counts: bool,
    timers: HashMap<(u16, String), u32>,
    /// The rule of one that has come too often, and its key.
    pub(super) runaway: Option<(u16, String)>,
}

/// How often a timer may be put in after a call ran out of time.
const ROUNDS_MAX: u32 = 100;

impl Rounds {
    fn count(&mut self, rule: u16, key: &str) {
        if !self.counts {
            return;
        }
        let timer = (rule, key.to_owned());
        let count = self.timers.entry(timer.clone()).or_default();
        *count += 1;
        if *count > ROUNDS_MAX {
            self.runaway.get_or_insert(timer);
        }
    }
}

impl Engine {
    /// Puts in the timers that the items' times reach, and takes out those that a part before has moved or
    /// cleared: what is due shows only when everything earlier has been handled.
    pub(super) fn fit_timers(
        &self,
        plugin: usize,
        items: &mut Vec<Item<'_>>,
        rules: u64,
        mut watermark: i64,
        rounds: &mut Rounds,
    ) {
        let Some(latest) = items.iter().map(|item| item.time).max() else {
            return;
        };
        let linked = &self.plugins[plugin];
        let manifest = &linked.plugin.manifest().rules;
        items.retain(|item| match &item.body {
            Body::Timer { rule, key, due } => {
                let name = &manifest[usize::from(*rule)].name;
                self.timers.is_set(&linked.name, name, key, *due)
            }
            _ => true,
        });
        let mut known = HashSet::new();
        for item in &*items {
            if let Body::Timer { rule, key, .. } = &item.body {
                known.insert((*rule, key.clone()));
            }
        }
        let mut due = Vec::new();
        for (at, name, key) in self.timers.due(&linked.name, latest.max(watermark)) {
            let Some(rule) = manifest.iter().position(|rule| rule.name == name) else {
                continue;
            };
            let runs =
                self.states[self.state_of(plugin, rule)].record.status == RuleStatus::Running;
            if rules & 1 << rule != 0 && runs && !known.contains(&(rule as u16, key.clone())) {
                due.push((at, rule, key));
            }
        }
        if due.is_empty() {
            return;
        }
        let mut due = due.into_iter().peekable();
        for item in std::mem::take(items) {
            watermark = watermark.max(item.time);
            // A timer that a part before has set may come before one that was put in then.
            let comes_first = |(at, rule, key): &(i64, usize, String)| match &item.body {
                Body::Timer {
                    rule: other,
                    key: other_key,
                    due,
                } => {
                    let name = |rule: usize| &manifest[rule].name;
                    let other = (due, name(usize::from(*other)), other_key);
                    (at, name(*rule), key) < other
                }
                _ => *at <= watermark,
            };
            while let Some((at, rule, key)) = due.next_if(comes_first) {
                rounds.count(rule as u16, &key);
                items.push(Item {
                    seq: item.seq,
                    nth: item.nth,
                    cause: item.cause,
                    time: item.time,
                    rules: 1 << rule,
                    body: Body::Timer {
                        rule: rule as u16,
                        key,
                        due: at,
                    },
                });
            }
            items.push(item);
        }
    }
}
