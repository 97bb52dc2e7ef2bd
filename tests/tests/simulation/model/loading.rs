//! Plugins coming and going, being made again, and rules being stopped and going on.

use std::collections::BTreeMap;

use crate::{
    compare::DERIVED,
    feed::{Row, Source},
};

use super::{
    Change, Deployment, Model, Reading, Rule, Status,
    deployment::Follower,
    timers::{Carts, REMIND, WATCH},
};

pub(crate) const BUCKETS: &str = "shop.buckets";
pub(crate) const FOLLOW: &str = "follow.users";

/// Rules over source tables: name and table.
const RULES: [(&str, Source); 12] = [
    ("shop.totals", Source::Orders),
    ("shop.flags", Source::Orders),
    ("shop.notices", Source::Orders),
    ("enrich.names", Source::Orders),
    ("enrich.shaky", Source::Orders),
    ("stock.entries", Source::Items),
    ("ledger.counts", Source::Orders),
    (WATCH, Source::Carts),
    ("lenient.sums", Source::Orders),
    ("reader.standings", Source::Orders),
    ("late.sums", Source::Orders),
    ("tardy.sums", Source::Orders),
];

/// Rules over `totals`.
const FOLLOWERS: [&str; 2] = [BUCKETS, FOLLOW];

fn is_of(rule: &str, plugin: &str) -> bool {
    rule.split('.').next() == Some(plugin)
}

impl Model {
    /// The plugin files as of the last event.
    pub(crate) fn directory(&self) -> BTreeMap<&'static str, u32> {
        let loaded = |deployment: &&Deployment| deployment.loaded && !deployment.is_shadow;
        let loaded = self.deployments.iter().filter(loaded);
        loaded.map(|found| (found.name, found.label)).collect()
    }

    pub(super) fn start(&mut self, directory: &BTreeMap<&'static str, u32>, clock: i64) {
        if self.watermark_clock == 0 {
            self.watermark_clock = clock;
        }
        for name in self.directory().into_keys() {
            if !directory.contains_key(name) {
                self.remove(name);
            }
        }
        for (name, label) in directory {
            let place = self.find(name, true);
            if place.is_some_and(|place| self.deployments[place].label != *label) {
                // It goes on with the code that it began with or not at all.
                self.outcome("a rebuild that a start gives up");
                self.cancel_rebuild(name);
            } else if place.is_some() {
                self.outcome("a rebuild that goes on after a start");
            }
        }
        for (name, label) in directory {
            self.load(name, *label);
        }
    }

    pub(super) fn load(&mut self, name: &'static str, label: u32) {
        let place = match self.find(name, false) {
            Some(place) => place,
            None => self.deploy(name, false),
        };
        if self.deployments[place].label != label {
            self.numbers += 1;
            self.deployments[place].label = label;
            self.deployments[place].number = self.numbers;
        }
        self.deployments[place].loaded = true;
        let shadow = self.find(name, true);
        if shadow.is_some_and(|shadow| self.deployments[shadow].label != label) {
            self.outcome("a rebuild that a version begins again");
            self.cancel_rebuild(name);
            self.begin_rebuild(name);
        }
        let deployment = &mut self.deployments[place];
        let number = deployment.number;
        let mut goes_on = false;
        for rule in &mut deployment.rules {
            let stood = rule.status;
            rule.status = stood.with_version(rule.halted_at, number);
            goes_on |= stood == Status::Tripped && rule.status == Status::Running;
        }
        for follower in &mut deployment.followers {
            follower.status = follower.status.with_version(follower.halted_at, number);
        }
        if let Some(carts) = &mut deployment.carts {
            carts.remind = carts.remind.with_version(carts.halted_at, number);
        }
        if goes_on {
            self.outcome("a rule goes on with another version");
        }
        self.goes_on(place);
    }

    /// A plugin that the store doesn't know yet.
    fn deploy(&mut self, name: &'static str, is_shadow: bool) -> usize {
        // What is there before any change is no snapshot.
        let reads = match self.changes > 0 && name != "tardy" || is_shadow {
            true => Reading::At(None),
            false => Reading::Done,
        };
        if reads != Reading::Done || (name == "tardy" && self.forgotten > 0) {
            self.remade.insert(name);
        }
        let mut rules: Vec<Rule> = RULES
            .iter()
            .filter(|(rule, _)| is_of(rule, name))
            .map(|(rule, table)| Rule::new(rule, *table, self.watermark))
            .collect();
        for rule in &mut rules {
            rule.reading = reads;
            if name == "tardy" && !is_shadow {
                let kept = self
                    .log
                    .iter()
                    .filter(|change| change.place >= self.forgotten);
                rule.queue.extend(kept.cloned());
                let gone = self
                    .log
                    .iter()
                    .filter(|change| change.place < self.forgotten);
                gone.for_each(|change| rule.pass(change));
            }
        }
        let followers = FOLLOWERS.iter().filter(|rule| is_of(rule, name));
        self.deployments.push(Deployment {
            name,
            is_shadow,
            since: 0,
            loaded: false,
            label: 0,
            number: 0,
            rules,
            followers: followers
                .map(|rule| Follower {
                    name: rule,
                    status: Status::Running,
                    halted_at: 0,
                    reading: reads,
                    lost: false,
                    frozen: None,
                })
                .collect(),
            carts: is_of(REMIND, name).then(Carts::new),
        });
        self.deployments.len() - 1
    }

    /// What runs handles what has come meanwhile.
    fn goes_on(&mut self, place: usize) {
        for rule in 0..self.deployments[place].rules.len() {
            self.catch_up(place, rule);
        }
        for follower in 0..self.deployments[place].followers.len() {
            self.follow(place, follower);
        }
    }

    fn follow(&mut self, place: usize, follower: usize) {
        let deployment = &mut self.deployments[place];
        let state = &mut deployment.followers[follower];
        if state.status != Status::Running || !deployment.loaded {
            return;
        }
        if state.lost {
            state.status = Status::Tripped;
            state.halted_at = deployment.number;
            self.leave_log(place);
        } else {
            state.frozen = None;
        }
    }

    pub(super) fn remove(&mut self, name: &'static str) {
        self.cancel_rebuild(name);
        let Some(place) = self.find(name, false) else {
            return;
        };
        if std::mem::take(&mut self.deployments[place].loaded) {
            for (rule, _) in self.deployments[place].statuses() {
                self.stop(&rule, Status::Unloaded);
            }
        }
    }

    pub(super) fn pause(&mut self, name: &str) {
        self.stop(name, Status::Paused);
    }

    fn stop(&mut self, name: &str, status: Status) {
        if name == WATCH || name == REMIND {
            self.remade.insert("carts");
        }
        let watermark = self.watermark;
        if let Some((place, rule)) = self.rule(name) {
            let state = &mut self.deployments[place].rules[rule];
            if state.status == Status::Running {
                state.status = status;
                state.watermark = watermark;
            }
        } else if let Some((place, follower)) = self.follower(name) {
            if self.deployments[place].followers[follower].status == Status::Running {
                let seen = self.totals(place);
                let state = &mut self.deployments[place].followers[follower];
                state.status = status;
                state.frozen.get_or_insert(seen);
            }
        } else if name == REMIND
            && let Some(carts) = self.carts_mut()
            && carts.remind == Status::Running
        {
            carts.remind = status;
        }
    }

    fn carts_mut(&mut self) -> Option<&mut Carts> {
        let place = self.find("carts", false)?;
        self.deployments[place].carts.as_mut()
    }

    pub(super) fn resume(&mut self, name: &str) {
        let goes_on = |status: &mut Status| {
            if *status != Status::Unloaded {
                *status = Status::Running;
            }
        };
        if let Some((place, rule)) = self.rule(name) {
            goes_on(&mut self.deployments[place].rules[rule].status);
            self.catch_up(place, rule);
        } else if let Some((place, follower)) = self.follower(name) {
            goes_on(&mut self.deployments[place].followers[follower].status);
            self.follow(place, follower);
        } else if let Some(carts) = self.carts_mut() {
            goes_on(&mut carts.remind);
        }
    }

    /// A rule that the log has left behind is to go on from where the log begins.
    pub(super) fn skip(&mut self, name: &str) {
        let forgotten = self.forgotten;
        let Some((place, rule)) = self.rule(name) else {
            return;
        };
        let state = &mut self.deployments[place].rules[rule];
        if !std::mem::take(&mut state.lost) {
            return;
        }
        while let Some(change) = state.queue.pop_front_if(|change| change.place < forgotten) {
            state.pass(&change);
        }
        let plugin = state.plugin();
        self.remade.insert(plugin);
        let tables = DERIVED.into_iter().filter(|(_, maker)| *maker == plugin);
        self.remade.extend(tables.map(|(table, _)| table));
        self.outcome("a gap that was skipped");
    }

    /// A rule's plugin is made again, since the log no longer has what the rule would catch up on; or a person must decide.
    pub(super) fn leave_log(&mut self, place: usize) {
        let Deployment {
            name, is_shadow, ..
        } = self.deployments[place];
        if !is_shadow && name != "tardy" && !self.is_rebuilding(name) {
            self.outcome("a rebuild since the log has forgotten");
            self.begin_rebuild(name);
        }
    }

    pub(super) fn begin_rebuild(&mut self, name: &'static str) {
        let Some(serving) = self.find(name, false) else {
            return self.complain(format!("{name} is rebuilt, and there is none"));
        };
        let label = self.deployments[serving].label;
        self.numbers += 1;
        let place = self.deploy(name, true);
        let shadow = &mut self.deployments[place];
        shadow.label = label;
        shadow.number = self.numbers;
        shadow.loaded = true;
    }

    pub(super) fn cancel_rebuild(&mut self, name: &str) {
        self.deployments
            .retain(|deployment| !(deployment.is_shadow && deployment.name == name));
    }

    /// A rule has read rows that were there before it.
    pub(super) fn read(&mut self, name: &str, reached: Reading, runs: bool) {
        let found = self.deployments.iter().enumerate().find_map(|(place, of)| {
            let mut rules = of.rules.iter();
            let rule = rules.position(|rule| of.full_name(rule.name) == name);
            let mut followers = of.followers.iter();
            let follower = followers.position(|rule| of.full_name(rule.name) == name);
            (rule.is_some() || follower.is_some()).then_some((place, rule, follower))
        });
        match found {
            Some((place, Some(rule), _)) => self.read_rows(place, rule, reached, runs),
            Some((place, _, Some(follower))) => {
                self.deployments[place].followers[follower].reading = reached;
            }
            _ => self.complain(format!("{name} reads rows, and nobody knows it")),
        }
    }

    fn read_rows(&mut self, place: usize, rule: usize, reached: Reading, runs: bool) {
        let state = &self.deployments[place].rules[rule];
        let full_name = self.deployments[place].full_name(state.name);
        let is_in = |key: i64| match reached {
            Reading::Done => true,
            Reading::At(reached) => reached.is_some_and(|reached| key <= reached),
        };
        let rows = self.sources.get(&state.table).into_iter().flatten();
        let ahead: Vec<Change> = rows
            .filter(|(key, _)| state.will_read(**key))
            .map(|(&key, row)| self.as_read(state.table, key, row))
            .collect();
        let (read, left): (Vec<_>, Vec<_>) = ahead.into_iter().partition(|row| is_in(row.key));
        let stood = state.status;
        for mut row in read {
            let user = row
                .after
                .as_ref()
                .and_then(|row| row[0])
                .unwrap_or_default();
            match self.deployments[place].name {
                "enrich" => row.name = self.name(user),
                "reader" => row.standing = self.standing(user),
                // It takes no time, but is an occasion for what is due already.
                "carts" => self.time_stands(place),
                _ => {}
            }
            self.take(place, rule, &row, false);
        }
        if self.deployments[place].rules[rule].status != stood {
            self.complain(format!("{full_name} has read more than it can"));
        }
        self.deployments[place].rules[rule].reading = reached;
        if !runs && stood == Status::Running {
            let next = left.first();
            let stumbles = next.is_some_and(|next| self.stumbles(place, rule, next));
            if !stumbles {
                self.complain(format!("{full_name} stops reading"));
            }
            let deployment = &mut self.deployments[place];
            deployment.rules[rule].status = Status::Halted;
            deployment.rules[rule].halted_at = deployment.number;
        }
    }

    /// A row that was there before the rule.
    fn as_read(&self, table: Source, key: i64, row: &Row) -> Change {
        Change {
            table,
            key,
            before: None,
            after: Some(row.clone()),
            time: self.watermark,
            lacks: false,
            place: self.changes,
            name: String::new(),
            standing: String::new(),
        }
    }

    /// Puts the rebuilt deployment in the other's place.
    pub(super) fn switch(&mut self, name: &'static str, since: u64) {
        if let Some(what) = self.in_the_way(name) {
            self.complain(format!("{name} is switched, though {what}"));
        }
        self.deployments
            .retain(|deployment| deployment.is_shadow || deployment.name != name);
        if let Some(place) = self.find(name, true) {
            self.deployments[place].is_shadow = false;
            self.deployments[place].since = since;
        }
        self.remade.insert(name);
        self.outcome("a rebuild that was switched in");
        // Who is away stands before the switch, and the new table's changes begin with that.
        if name == "shop"
            && let Some((place, follower)) = self.follower(FOLLOW)
            && !self.deployments[place].loaded
        {
            self.deployments[place].followers[follower].lost = true;
            self.outcome("a rule that a switch has left behind");
        }
    }
}
