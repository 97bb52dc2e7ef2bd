//! The parts in which a call's items are handed over, and what is left of a part whose call faulted.
//!
//! Items are cut into parts because there are too many for one call, because a call faulted, or because a timer must fire between
//! them (`engine::firing`).

use std::collections::VecDeque;

use super::items::{Body, Item, bits};

/// Items of one call, and the latest time before them.
pub(super) struct Part<'a> {
    pub(super) items: Vec<Item<'a>>,
    pub(super) watermark: i64,
    pub(super) share: Share,
    /// It is what is left of an item that some of its rules have handled: what they set comes due behind it.
    pub(super) resumes: bool,
}

/// What is next.
pub(super) enum Frame<'a> {
    Run(Part<'a>),
    /// More items than a call gets now: they go from the front, a part at a time.
    Queue(VecDeque<Item<'a>>, i64, Share),
    /// The one rule of this item is at fault, unless something has been dealt with before it since: what stands before the item has been run, and so have
    /// its earlier rules.
    Verdict(Part<'a>, Verdict),
}

/// What is found against an item.
pub(super) struct Verdict {
    pub(super) message: String,
    pub(super) timed_out: bool,
    /// How many faults had been dealt with by then, with those of the call that shows it.
    pub(super) dealt_with: u64,
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
    /// Items that none of their rules has handled.
    pub(super) fn whole(items: Vec<Item<'a>>, watermark: i64, share: Share) -> Self {
        Self {
            items,
            watermark,
            share,
            resumes: false,
        }
    }

    /// Cuts items into parts of `max` at the most, in each of which causes go up: a guest keeps what it looked up for as
    /// long as nothing older comes.
    pub(super) fn cut(items: Vec<Item<'a>>, watermark: i64, max: usize) -> Vec<Self> {
        let ends = items.windows(2).enumerate();
        let ends = ends.filter(|(_, pair)| pair[1].cause < pair[0].cause);
        let mut ends: Vec<usize> = ends.map(|(place, _)| place + 1).collect();
        if ends.is_empty() && items.len() <= max {
            return vec![Part::whole(items, watermark, Share::Whole)];
        }
        ends.push(items.len());
        let (mut parts, mut watermark, mut items) = (Vec::new(), watermark, items.into_iter());
        let mut start = 0;
        for end in ends {
            while start < end {
                let len = (end - start).min(max);
                start += len;
                let items = items.by_ref().take(len).collect();
                let part = Part::whole(items, watermark, Share::Whole);
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

/// Has what stands behind a part handed over after it.
pub(super) fn push_behind<'a>(part: &Part<'a>, items: Vec<Item<'a>>, stack: &mut Vec<Frame<'a>>) {
    if !items.is_empty() {
        stack.push(Frame::Run(Part::whole(items, part.end(), part.share)));
    }
}

/// Has an item handed over alone, whose turn it is; what is left of it for other rules, if that is next, goes on from there.
pub(super) fn push_alone<'a>(part: Part<'a>, stack: &mut Vec<Frame<'a>>) {
    let is_rest = |frame: &mut Frame<'a>| {
        let (Some(item), Frame::Run(next)) = (part.items.first(), frame) else {
            return false;
        };
        let next = next.items.first();
        next.is_some_and(|next| item.is_same_change(next))
    };
    if let Some(Frame::Run(mut rest)) = stack.pop_if(is_rest) {
        let behind = rest.items.split_off(1);
        push_behind(&rest, behind, stack);
        rest.resumes = true;
        stack.push(Frame::Run(rest));
    }
    stack.push(Frame::Run(Part {
        share: Share::Alone,
        ..part
    }));
}

/// What stays of an item that no rule gets any more: it was the moment at which timers came due.
pub(super) fn what_remains<'a>(item: &Item<'a>, timers: u64) -> Option<Item<'a>> {
    (timers != 0 && item.key().is_some()).then(|| item.passed())
}

/// Takes out the items that no rule gets any more.
pub(super) fn pass_over(items: &mut Vec<Item<'_>>, timers: u64) {
    items.retain_mut(|item| {
        if item.rules == 0
            && let Some(passed) = what_remains(item, timers)
        {
            *item = passed;
        }
        item.rules != 0 || matches!(item.body, Body::Tick)
    });
}

/// The turns in which an item goes to the rules in question, alone, and before and behind them to its others.
fn turns_around(item: &Item<'_>, rules: u64, share: Share) -> Vec<(u64, Share)> {
    let (earlier, later) = item.rules_around(rules);
    let of_others = |others: u64| (others != 0).then_some((others, share));
    // A moment has no rules, and timers of its own: it gets its turn all the same.
    let turns = [
        of_others(earlier),
        Some((rules, Share::Alone)),
        of_others(later),
    ];
    turns.into_iter().flatten().collect()
}

/// What to do with a part whose call faulted, last thing first.
pub(super) fn divide<'a>(
    mut part: Part<'a>,
    verdict: Verdict,
    culprit: Option<(usize, Option<u16>)>,
    again_alone: bool,
    timers: u64,
    stack: &mut Vec<Frame<'a>>,
) {
    if part.resumes && part.items.len() > 1 {
        let behind = part.items.split_off(1);
        push_behind(&part, behind, stack);
    }
    let share = match part.share {
        Share::Whole if verdict.timed_out => Share::Search,
        share => share,
    };
    let (place, rule) = match culprit {
        Some((place, rule)) => (place, rule),
        None if part.items.len() == 1 => (0, None),
        None => {
            let right = part.items.split_off(part.items.len() / 2);
            part.share = share;
            push_behind(&part, right, stack);
            stack.push(Frame::Run(part));
            return;
        }
    };
    let mut behind = part.items.split_off(place);
    let before = part;
    let watermark = before.end();
    let item = &behind[0];
    let time = item.time;
    let rules = match rule {
        Some(rule) if item.rules & 1u64.checked_shl(rule.into()).unwrap_or(0) != 0 => 1 << rule,
        _ => item.rules,
    };
    let resumes = before.resumes;
    let is_one_rule = rules.count_ones() == 1;
    let alone: Vec<Frame<'a>> = if is_one_rule && !again_alone && before.share != Share::Search {
        // Should it be handed over again it must come to its turn among the item's rules.
        let (earlier, later) = item.rules_around(rules);
        let of_item = |rules: u64, resumes: bool| Part {
            resumes,
            ..Part::whole(vec![item.for_rules(rules)], watermark, before.share)
        };
        if earlier == 0 {
            let verdict = Frame::Verdict(of_item(rules, resumes), verdict);
            behind[0].rules = later;
            pass_over(&mut behind, timers);
            vec![verdict]
        } else {
            let first = Frame::Run(of_item(earlier, resumes));
            let mut frames = vec![first, Frame::Verdict(of_item(rules, true), verdict)];
            if later != 0 {
                frames.push(Frame::Run(of_item(later, true)));
            }
            behind.remove(0);
            frames
        }
    } else {
        let turns = if again_alone || is_one_rule {
            // It comes to its turn when those before it have had theirs, or has had a moment only.
            turns_around(item, rules, before.share)
        } else {
            // Which of the rules it was shows when each gets the item alone.
            bits(rules).map(|rule| (1 << rule, Share::Alone)).collect()
        };
        let item = behind.remove(0);
        let parts = turns.into_iter().enumerate();
        let parts = parts.map(|(place, (rules, share))| Part {
            resumes: resumes || place > 0,
            ..Part::whole(vec![item.for_rules(rules)], watermark, share)
        });
        parts.map(Frame::Run).collect()
    };
    if !behind.is_empty() {
        // Of a part that resumes these are the other rules of its one item.
        stack.push(Frame::Run(Part {
            resumes,
            ..Part::whole(behind, watermark.max(time), before.share)
        }));
    }
    stack.extend(alone.into_iter().rev());
    if !before.items.is_empty() {
        stack.push(Frame::Run(before));
    }
}
