//! The timers that fire between a call's items, and those that must not.
//!
//! What a part sets, moves or clears shows only in its effects, so timers are put between the items part by part: just
//! those fire that would if every change were a batch. A guest fires by itself what its own part sets and reaches. Whatever the host must have a
//! say in (a timer that fails there, one that may have to wait behind a parked one) ends the part before it, so that it is
//! the host's to fire.
//!
//! A part takes only as many of the timers that are due as it has room for; the others stay where they are, in the order of their
//! times, until the next part looks for them. So very many that come due at once cost each part no more than a few do.

use std::{
    cell::OnceCell,
    collections::{HashMap, HashSet},
};

use crate::store::RuleStatus;

use super::{
    Engine,
    items::{Body, Item, bits},
    run::Output,
    state::Order,
    timers::Due,
};

/// How often timers have been put in again before the same item: one that sets itself again for a time that has been reached would fire
/// there for ever.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// A call has run out of time: what comes again may be why.
    pub(super) timed_out: bool,
    timers: HashMap<(u16, String), Round>,
    /// The rule of one that has come too often, and its key.
    runaway: Option<(u16, String)>,
}

/// How a timer has fared.
#[derive(Debug)]
struct Round {
    /// The item that it was put in before.
    before: Order,
    due: i64,
    /// How often it came again before that item.
    again: u32,
    /// How often of these for a time that was no later than before.
    stuck: u32,
    /// How often it came again before any item since a call ran out of time.
    again_timed_out: u32,
}

/// How often a timer may come again that doesn't get on.
const STUCK_MAX: u32 = 100;
/// How often one that may be why a call ran out of time: each may take a call in the search.
const TIMED_OUT_MAX: u32 = 30;
/// How often one may come again before an item, whatever the time that it sets itself for.
const AGAIN_MAX: u32 = 100_000;

impl Rounds {
    fn count(&mut self, rule: u16, key: &str, due: i64, before: Order) {
        let new = Round {
            before,
            due,
            again: 0,
            stuck: 0,
            again_timed_out: 0,
        };
        let Some(round) = self.timers.get_mut(&(rule, key.to_owned())) else {
            self.timers.insert((rule, key.to_owned()), new);
            return;
        };
        if round.before != before {
            *round = Round {
                again_timed_out: round.again_timed_out,
                ..new
            };
            return;
        }
        round.again += 1;
        round.stuck += u32::from(due <= round.due);
        round.again_timed_out += u32::from(self.timed_out);
        round.due = due;
        let is_too_often = round.again > AGAIN_MAX
            || round.stuck > STUCK_MAX
            || round.again_timed_out > TIMED_OUT_MAX;
        if is_too_often {
            self.runaway.get_or_insert((rule, key.to_owned()));
        }
    }
}

impl Engine {
    /// Puts in the timers that the items' times reach, and takes out those that a part before has moved or
    /// cleared: what is due shows only when everything earlier has been handled. Gives back the items that `max` leaves no
    /// room for; what comes due before those is found when it is their turn.
    pub(super) fn fit_timers<'a>(
        &self,
        plugin: usize,
        items: &mut Vec<Item<'a>>,
        rules: u64,
        mut watermark: i64,
        max: usize,
        rounds: &mut Rounds,
    ) -> Vec<Item<'a>> {
        let Some(latest) = items.iter().map(|item| item.time).max() else {
            return Vec::new();
        };
        let linked = &self.plugins[plugin];
        let manifest = &linked.plugin.manifest().rules;
        let mut known = HashSet::new();
        let may_fire = items
            .first()
            .is_some_and(|first| self.setters_run(plugin, first.order()));
        items.retain(|item| match &item.body {
            Body::Timer { rule, key, due } => {
                let name = &manifest[usize::from(*rule)].name;
                let is_set = may_fire && self.timers.is_set(&linked.name, name, key, *due);
                if is_set {
                    known.insert((*rule, key.clone()));
                }
                is_set
            }
            _ => true,
        });
        let runs = bits(rules).filter(|&rule| may_fire && self.is_running(plugin, rule));
        let names = runs.map(|rule| (rule as u16, &*manifest[rule].name));
        let mut due = self.timers.due(&linked.name, names);
        let is_known = |due: &mut Due<'_>, known: &HashSet<(u16, String)>| {
            !known.is_empty()
                && due
                    .first()
                    .is_some_and(|(_, rule, key)| known.contains(&(rule, key.to_owned())))
        };
        if due
            .first()
            .is_none_or(|(at, ..)| at > latest.max(watermark))
        {
            return Vec::new();
        }
        let mut fitted = Vec::with_capacity(items.len());
        let mut left = std::mem::take(items).into_iter();
        let mut rest = Vec::new();
        while let Some(item) = left.next() {
            watermark = watermark.max(item.time);
            // A timer that a part before has set may come before one that was put in then.
            let comes_first = |(at, rule, key): &(i64, u16, &str)| match &item.body {
                Body::Timer {
                    rule: other,
                    key: other_key,
                    due,
                } => (at, rule, *key) < (due, other, other_key),
                _ => *at <= watermark,
            };
            while fitted.len() < max {
                if is_known(&mut due, &known) {
                    due.next();
                    continue;
                }
                let Some((at, rule, key)) = due.first().filter(comes_first) else {
                    break;
                };
                rounds.count(rule, key, at, item.order());
                fitted.push(Item {
                    seq: item.seq,
                    nth: item.nth,
                    cause: item.cause,
                    time: item.time,
                    rules: 1 << rule,
                    body: Body::Timer {
                        rule,
                        key: key.to_owned(),
                        due: at,
                    },
                });
                due.next();
            }
            if fitted.len() >= max {
                rest.push(item);
                rest.extend(left);
                break;
            }
            fitted.push(item);
        }
        *items = fitted;
        rest
    }

    /// Deals with a timer that has come too often as with one that never ends.
    pub(super) fn end_runaway(
        &mut self,
        plugin: usize,
        items: &mut Vec<Item<'_>>,
        rounds: &mut Rounds,
        output: &mut Output<'_>,
    ) {
        let Some((rule, key)) = rounds.runaway.take() else {
            return;
        };
        let is_it = |item: &Item<'_>| matches!(&item.body, Body::Timer { rule: of, key: its, .. } if *of == rule && *its == key);
        let Some(place) = items.iter().position(is_it) else {
            return;
        };
        let item = items.remove(place);
        rounds.timers.remove(&(rule, key.clone()));
        let message = format!(
            "its timer {key} comes due again and again before change {}: it must be set for a time that has yet to come",
            item.seq
        );
        self.verdict(plugin, &item, &message, rounds.timed_out, output);
    }

    /// Parks the timers at the front that stand behind parked ones of their keys. Gives the place of the first further back that does:
    /// what stands before it may yet move or clear it, so it must wait for its turn.
    pub(super) fn park_waiting_timers(
        &mut self,
        plugin: usize,
        items: &mut Vec<Item<'_>>,
        output: &mut Output<'_>,
    ) -> Option<usize> {
        let rules = 0..self.plugins[plugin].rules.len();
        let holds = |rule: usize| self.states[self.state_of(plugin, rule)].timer_lines > 0;
        if !rules.into_iter().any(holds) {
            return None;
        }
        let front = items.iter().take_while(|item| self.must_wait(plugin, item));
        let front: Vec<Item<'_>> = items.drain(..front.count()).collect();
        for item in &front {
            for rule in bits(item.rules) {
                // One that has no room to park it has stopped before it, and it stays set.
                if self.is_running(plugin, rule) {
                    self.park_behind(plugin, rule, item, output.write_set);
                }
            }
        }
        items.iter().position(|item| self.must_wait(plugin, item))
    }

    /// Whether an item is a timer that stands behind a parked one of its key.
    fn must_wait(&self, plugin: usize, item: &Item<'_>) -> bool {
        let Body::Timer { rule, .. } = &item.body else {
            return false;
        };
        let state = &self.states[self.state_of(plugin, usize::from(*rule))];
        let waits = |line| state.waits(&line, item.order());
        state.record.status == RuleStatus::Running && item.line().is_some_and(waits)
    }

    /// Whether a timer is still set as it was when it was put in. True of anything else.
    pub(super) fn is_still_set(&self, plugin: usize, item: &Item<'_>) -> bool {
        let Body::Timer { rule, key, due } = &item.body else {
            return true;
        };
        let linked = &self.plugins[plugin];
        let name = &linked.plugin.manifest().rules[usize::from(*rule)].name;
        self.timers.is_set(&linked.name, name, key, *due)
    }

    /// The rules for timers that the guest must not call by itself in this run, though a timer that is set in it comes due: those that
    /// don't run, and those of which one is parked that it may have to wait for.
    pub(super) fn held_timers(
        &self,
        plugin: usize,
        items: &[Item<'_>],
        output: &Output<'_>,
    ) -> u64 {
        let rules = &self.plugins[plugin].rules;
        let mut held = 0;
        for (rule, linked) in rules.iter().enumerate() {
            let fires = self.fires(plugin, rule, items, output)
                && self.states[self.state_of(plugin, rule)].timer_lines == 0;
            if linked.input.is_none() && !fires {
                held |= 1 << rule;
            }
        }
        held
    }

    /// Whether a rule is one for timers, and they fire before these items.
    fn fires(&self, plugin: usize, rule: usize, items: &[Item<'_>], output: &Output<'_>) -> bool {
        self.plugins[plugin].rules[rule].input.is_none()
            && output.timers & 1 << rule != 0
            && self.is_running(plugin, rule)
            && items
                .first()
                .is_some_and(|first| self.setters_run(plugin, first.order()))
    }

    /// Whether no rule of the plugin that sets timers has stopped before this place: what it would have done to them is yet to come, so they wait.
    fn setters_run(&self, plugin: usize, at: Order) -> bool {
        let rules = self.plugins[plugin].plugin.manifest().rules.iter();
        let mut setters = rules.enumerate().filter(|(_, rule)| rule.sets_timers);
        setters.all(|(rule, _)| {
            let state = &self.states[self.state_of(plugin, rule)];
            state.record.status == RuleStatus::Running
                || state.sets_until.is_some_and(|until| at <= until)
        })
    }

    /// The place of the first item that has no timers fire before it, though the first of all has.
    pub(super) fn setters_stop(&self, plugin: usize, items: &[Item<'_>]) -> Option<usize> {
        let (first, last) = (items.first()?, items.last()?);
        let runs = |item: &Item<'_>| self.setters_run(plugin, item.order());
        // As nearly always.
        if runs(last) || !runs(first) {
            return None;
        }
        Some(items.partition_point(runs))
    }

    /// The first item before which a timer may have come due that this call has set, and that the guest could not fire: its rule failed,
    /// or is held. What stands before goes first, then the host fires it.
    pub(super) fn left_to_fire(
        &self,
        plugin: usize,
        items: &[Item<'_>],
        at: impl Iterator<Item = (usize, u16)>,
        output: &Output<'_>,
    ) -> Option<usize> {
        let rules = &self.plugins[plugin].plugin.manifest().rules;
        let sets = |rule: usize| rules.get(rule).is_some_and(|rule| rule.sets_timers);
        let is_for_timers = |rule: u16| {
            let rule = usize::from(rule);
            rule < rules.len() && self.fires(plugin, rule, items, output)
        };
        // Before what sets timers has been, none comes due that the host doesn't know.
        let first_that_sets = OnceCell::new();
        let is_set_before = |place: usize| {
            let first = || items.iter().position(|item| bits(item.rules).any(sets));
            first_that_sets
                .get_or_init(first)
                .is_some_and(|first| first < place)
        };
        let places = at.filter(|&(place, rule)| {
            let is_its_own = |place: usize| items[place].rules & 1 << rule != 0;
            place > 0 && is_for_timers(rule) && (!is_its_own(place) || is_set_before(place))
        });
        places.map(|(place, _)| place).min()
    }
}
