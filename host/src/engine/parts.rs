//! The parts in which a call's items are handed over.
//!
//! Items are cut into parts because there are too many for one call, because a call faulted, or because a timer must fire between
//! them (`engine::firing`).

use super::items::Item;

/// Items of one call, and the latest time before them.
pub(super) struct Part<'a> {
    pub(super) items: Vec<Item<'a>>,
    pub(super) watermark: i64,
    pub(super) share: Share,
    /// It is what is left of an item that some of its rules have handled: what they set comes due behind it.
    pub(super) resumes: bool,
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
