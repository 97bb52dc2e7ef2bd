//! What the operator does: the part of the script that changes what runs.
//!
//! In a strict run commands wait until the rules whose tables serve have come to the head, and are such that what comes of them can be
//! recomputed. In a loose one they come at any time.

use rulemill_tests::random::Random;

use crate::{model::Event, plugins, world::End};

use super::{Run, pick};

impl Run {
    pub(super) fn restart(&mut self) -> Result<(), End> {
        let name = pick(&mut self.world.random, &plugins::ALL);
        let name = self.or_rebuilt(name);
        let is_rebuilt = self.world.rebuilding().contains(&name);
        let may_go = self.may_go(name);
        let world = &mut self.world;
        let mut directory = world.directory.clone();
        if world.random.one_in(2) {
            if may_go && !is_rebuilt && world.random.one_in(2) {
                directory.remove(name);
            } else {
                let version = version(&mut world.random, name, world.settings.is_loose);
                directory.insert(name, version);
            }
        }
        world.restart(directory)?;
        world.check()
    }

    pub(super) fn command(&mut self) -> Result<(), End> {
        self.world.drain_serving()?;
        let random = &mut self.world.random;
        let name = pick(random, &plugins::ALL);
        let rule = pick(random, &crate::RULES);
        match random.below(24) {
            0..4 => self.load(name),
            4 => match self.may_go(name) {
                true => self.world.command(Event::Remove(name)),
                false => Ok(()),
            },
            5 => self.world.refused(),
            6..11 => self.pause_or_resume(rule),
            11..14 => self.parked(rule),
            14 | 15 => {
                let may_drop = !self.world.settings.is_loose;
                let drop = may_drop && self.world.random.one_in(3);
                self.world.one_letter(drop)
            }
            16 | 17 => self.world.prune(),
            18 | 19 => self.skip(rule),
            _ => self.rebuild(name),
        }
    }

    fn load(&mut self, name: &'static str) -> Result<(), End> {
        let name = self.or_rebuilt(name);
        let world = &mut self.world;
        let version = version(&mut world.random, name, world.settings.is_loose);
        world.command(Event::Load(name, version))?;
        self.catch_up_at_once(name)
    }

    /// Now and then another plugin: what is being rebuilt is to meet new versions.
    fn or_rebuilt(&mut self, name: &'static str) -> &'static str {
        match self.world.rebuilding().first() {
            Some(rebuilt) if self.world.random.one_in(2) => rebuilt,
            _ => name,
        }
    }

    fn pause_or_resume(&mut self, rule: &'static str) -> Result<(), End> {
        let plugin = plugin_of(rule);
        if !self.may_stop(plugin) || !self.world.directory.contains_key(plugin) {
            return Ok(());
        }
        let event = match self.world.random.one_in(2) {
            true => Event::Pause(rule),
            false => Event::Resume(rule),
        };
        self.world.command(event)?;
        self.catch_up_at_once(plugin)
    }

    /// All that is parked, or what is parked for a rule.
    fn parked(&mut self, rule: &'static str) -> Result<(), End> {
        let world = &mut self.world;
        let all = world.random.one_in(2);
        let is_there = |name| world.directory.contains_key(name);
        if !is_there(plugin_of(rule)) || (all && !plugins::FROM_START.into_iter().all(is_there)) {
            return Ok(());
        }
        let rule = (!all).then_some(rule);
        let may_drop = !world.settings.is_loose;
        match may_drop && world.random.one_in(6) {
            true => world.command(Event::Drop(rule)),
            false => world.command(Event::Retry(rule)),
        }
    }

    /// A rule goes on without what the log has forgotten. What it made then of rows that it missed is known of those that
    /// neither park nor look anything up.
    fn skip(&mut self, rule: &'static str) -> Result<(), End> {
        let world = &mut self.world;
        if world.settings.is_loose {
            return Ok(());
        }
        let lost = ["tardy.sums", "late.sums", "ledger.counts"];
        let lost = lost.into_iter().find(|rule| world.model().is_lost(rule));
        let rule = lost.unwrap_or(rule);
        let may =
            self.may_stop(plugin_of(rule)) && (lost.is_some() || !self.world.model().is_lost(rule));
        if !may || !self.world.directory.contains_key(plugin_of(rule)) {
            return Ok(());
        }
        self.world.command(Event::Skip(rule))?;
        self.catch_up_at_once(plugin_of(rule))
    }

    fn rebuild(&mut self, name: &'static str) -> Result<(), End> {
        let world = &mut self.world;
        let under_way = world.rebuilding();
        if let Some(under_way) = under_way.first()
            && world.random.one_in(2)
        {
            return world.command(Event::Cancel(under_way));
        }
        if !world.directory.contains_key(name) || world.model().changes == 0 {
            return Ok(());
        }
        // Timers are looked at where they are the only ones that time moves on for.
        if name == "carts" && (world.settings.is_loose || !world.model().is_at_head(name)) {
            return Ok(());
        }
        if world.random.one_in(8) {
            // There is none.
            return world.command(Event::Cancel(name));
        }
        // Who follows its tables may be away when they are switched.
        if name == "shop" && self.may_go("follow") && self.world.random.one_in(2) {
            self.world.command(Event::Remove("follow"))?;
        }
        self.world.command(Event::Rebuild(name))?;
        if self.world.random.one_in(3) {
            for _ in 0..self.world.random.below(4) {
                self.world.step_behind()?;
            }
            return self.restart();
        }
        Ok(())
    }

    /// Whether a plugin that is there may go.
    fn may_go(&self, name: &'static str) -> bool {
        name != "reader" && self.may_stop(name) && self.world.directory.contains_key(name)
    }

    /// Whether a plugin's rules may stand still.
    ///
    /// What a rule finds in a derived table as of a change isn't recomputed here where the rule and the one that derives the table
    /// have both been behind: so one of them never is. And while no loaded rule looks the table up, the log holds what each batch
    /// made of it, not each change: so the rule that does is always loaded. In a loose run timers are all that is always known.
    fn may_stop(&self, plugin: &str) -> bool {
        let reader_may = self.profile.mix.flaw_in == 0;
        match plugin {
            "carts" => {
                let model = self.world.known_model();
                !self.world.settings.is_loose && !model.is_rebuilding("carts")
            }
            "reader" => reader_may,
            "shop" => !reader_may,
            _ => true,
        }
    }

    /// What others look up of a rule that is behind depends on how far it has come, and when a timer fires on which of the rules that are
    /// behind goes on first: so here they are never left behind.
    fn catch_up_at_once(&mut self, plugin: &str) -> Result<(), End> {
        match matches!(plugin, "shop" | "carts") && !self.world.settings.is_loose {
            true => self.world.drain_serving(),
            false => Ok(()),
        }
    }
}

fn plugin_of(rule: &str) -> &str {
    rule.split('.').next().unwrap_or_default()
}

fn version(random: &mut Random, name: &str, is_loose: bool) -> u32 {
    // What the third version of `shop` faults on depends on the batches.
    let versions = if is_loose { plugins::versions(name) } else { 2 };
    1 + random.below(versions.into()) as u32
}
