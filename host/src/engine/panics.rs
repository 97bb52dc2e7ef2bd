//! Panics: what a plugin had done by then is kept.
//!
//! A plugin that has panicked is asked for a while to keep the effects of its rules call by call (interface 1.1). When it panics
//! again it says at which item and hands over what came before; that counts, and nothing of it is run again.

use crate::{
    catalog::Catalog,
    rule::{Culprit, Fault},
};

use super::{
    Engine, Fatal,
    effects::Checker,
    link::Linked,
    parts::Part,
    run::{Outcome, Output, REACH_MIN},
};

/// What a guest says of a timer that came due inside the batch, in place of its rule's number.
const INNER_TIMER: u32 = u32::MAX;
/// Items after a panic in which another is to be expected.
const WARY_ITEMS: u64 = 10_000;
/// Items that the first call after a panic gets, at the most.
const NEXT_MAX: u64 = 256;

impl Engine {
    /// Items that a call of a plugin that has panicked lately gets: if it was just now a few more than have lain between the last panics,
    /// since what comes behind the next one is written for nothing.
    pub(super) fn wary_reach(&self, plugin: usize) -> Option<usize> {
        let Linked { wary, between, .. } = self.plugins[plugin];
        if wary == 0 {
            return None;
        }
        let since = WARY_ITEMS - wary;
        let next = (between + between / 4).min(NEXT_MAX).saturating_sub(since);
        Some(REACH_MIN.max(next.max(since / 4) as usize))
    }

    /// The plugin has panicked at the item in this place of a call's.
    fn grow_wary(&mut self, plugin: usize, place: usize) {
        let linked = &mut self.plugins[plugin];
        let since = WARY_ITEMS - linked.wary + place as u64;
        linked.between = match linked.wary {
            0 => since,
            _ => (linked.between + since) / 2,
        };
        linked.wary = WARY_ITEMS;
    }

    /// What is known of a call that faulted, when the guest has said what it was at. If it has kept what it had done by
    /// then, that is taken, and the part is what is left.
    pub(super) fn take_culprit(
        &mut self,
        plugin: usize,
        part: &mut Part<'_>,
        places: &[u32],
        fault: Fault,
        culprit: Option<Culprit>,
        output: &mut Output<'_>,
    ) -> Result<Outcome, Fatal> {
        // Of a guest that has said so and then goes on, until its time is over, nothing is known.
        let (Fault::Trap(_), Some(Culprit { item, rule, done })) = (&fault, culprit) else {
            return Ok(Outcome::Fault(fault, None));
        };
        let Some(&place) = places.get(item as usize) else {
            return Ok(Outcome::Fault(fault, None));
        };
        let place = place as usize;
        self.grow_wary(plugin, place);
        // One that this call has set, so that something stands before it.
        let is_inner_timer = rule == INNER_TIMER && place > 0;
        let rule = u16::try_from(rule).ok();
        let at = rule.map(|rule| (place, rule));
        if let Some(place) = self.left_to_fire(plugin, &part.items, at.into_iter(), output) {
            return Ok(Outcome::Cut(place));
        }
        let unsaved = |fault| match is_inner_timer {
            true => Outcome::Cut(place),
            false => Outcome::Fault(fault, Some((place, rule))),
        };
        let Some(done) = done else {
            return Ok(unsaved(fault));
        };
        let places = &places[..=item as usize];
        let catalog = self.catalog.load();
        let effects = match self.checker(plugin, &catalog, places.len()).check(&done) {
            Ok(effects) => effects,
            // What it did before it panicked is no better: those at fault are found one by one.
            Err(_) => return Ok(unsaved(fault)),
        };
        let at = effects.faults_at(places);
        if let Some(place) = self.left_to_fire(plugin, &part.items, at, output) {
            return Ok(Outcome::Cut(place));
        }
        // Of the rules that get this very item those before the one at fault have had it.
        let mut rest = part.items.split_off(place);
        let rules = rest[0].rules;
        let earlier = match rule.and_then(|rule| 1u64.checked_shl(rule.into())) {
            Some(bit) if rules & bit != 0 => rest[0].rules_around(bit).0,
            _ => 0,
        };
        let before_it = part.end();
        part.items.push(rest[0].for_rules(earlier));
        let outcome = self.take_faults(plugin, &mut part.items, places, &effects, output);
        if let Some(outcome) = outcome {
            let left = part.items.pop().map_or(0, |item| item.rules);
            rest[0].rules = rules & !earlier | left;
            part.items.append(&mut rest);
            return Ok(outcome);
        }
        self.take_effects(plugin, &part.items, places, effects, &catalog, output)?;
        rest[0].rules = rules & !earlier;
        *part = Part {
            items: rest,
            watermark: before_it,
            share: part.share,
            // One that was left of an item goes on being so where its rule has panicked again.
            resumes: earlier != 0 || (place == 0 && part.resumes),
        };
        Ok(match is_inner_timer {
            // The host knows of it now, and fires it first.
            true => Outcome::Again(true),
            false => Outcome::Fault(fault, Some((0, rule))),
        })
    }

    pub(super) fn checker<'a>(
        &'a self,
        plugin: usize,
        catalog: &'a Catalog,
        items: usize,
    ) -> Checker<'a> {
        let linked = &self.plugins[plugin];
        Checker {
            tables: &linked.tables,
            catalog,
            limits: &self.limits,
            items,
            rules: linked.rules.len(),
        }
    }
}
