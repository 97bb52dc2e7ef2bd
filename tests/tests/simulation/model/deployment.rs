//! A plugin as the store knows it, or a second one of it that is being rebuilt beside the first.

use std::collections::BTreeMap;

use super::{Model, Reading, Rule, timers::Carts};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Running,
    Paused,
    Halted,
    Tripped,
    Unloaded,
}

impl Status {
    /// Where a version that comes leaves it.
    pub(super) fn with_version(self, halted_at: u64, number: u64) -> Self {
        match self {
            Self::Unloaded => Self::Running,
            Self::Halted | Self::Tripped if halted_at != number => Self::Running,
            other => other,
        }
    }
}

/// Number and amount, by slot.
pub(crate) type Sums = BTreeMap<i64, (i64, i64)>;

/// A rule over `totals`. What it makes is a fold over that table, so when it came to know of what doesn't show.
#[derive(Debug, Clone)]
pub(crate) struct Follower {
    pub(super) name: &'static str,
    pub(super) status: Status,
    pub(super) halted_at: u64,
    pub(super) reading: Reading,
    /// The log no longer has what it has yet to handle.
    pub(super) lost: bool,
    /// What it has seen of its table while it stands still.
    pub(super) frozen: Option<Sums>,
}

/// A plugin with its rules.
#[derive(Debug, Clone)]
pub(crate) struct Deployment {
    pub(crate) name: &'static str,
    /// It is being rebuilt: nobody reads its tables, and it tells nobody anything.
    pub(crate) is_shadow: bool,
    /// The seq of the switch that made its tables serve.
    pub(crate) since: u64,
    pub(super) loaded: bool,
    pub(super) label: u32,
    /// Counts the versions that have come.
    pub(super) number: u64,
    /// Rules over source tables.
    pub(crate) rules: Vec<Rule>,
    pub(super) followers: Vec<Follower>,
    pub(super) carts: Option<Carts>,
}

impl Deployment {
    /// A rule's full name here.
    pub(crate) fn full_name(&self, rule: &str) -> String {
        let own = rule.split('.').nth(1).unwrap_or_default();
        match self.is_shadow {
            true => format!("{}:rebuild.{own}", self.name),
            false => rule.to_owned(),
        }
    }

    /// Each rule by its full name, and whether it runs.
    pub(crate) fn statuses(&self) -> Vec<(String, Status)> {
        let rules = self.rules.iter().map(|rule| (rule.name, rule.status));
        let followers = self.followers.iter();
        let followers = followers.map(|follower| (follower.name, follower.status));
        let remind = self.carts.iter();
        let remind = remind.map(|carts| (super::timers::REMIND, carts.remind));
        let all = rules.chain(followers).chain(remind);
        all.map(|(rule, status)| (self.full_name(rule), status))
            .collect()
    }

    /// How far each rule is with the rows that it takes over.
    pub(crate) fn readings(&self) -> Vec<(String, Reading)> {
        let rules = self.rules.iter().map(|rule| (rule.name, rule.reading));
        let followers = self.followers.iter();
        let followers = followers.map(|follower| (follower.name, follower.reading));
        let all = rules.chain(followers);
        all.map(|(rule, reading)| (self.full_name(rule), reading))
            .collect()
    }

    /// The log no longer has what these rules have yet to handle.
    pub(super) fn lose(&mut self, names: &[String]) {
        let is_lost = |deployment: &Self, rule| names.contains(&deployment.full_name(rule));
        for place in 0..self.rules.len() {
            self.rules[place].lost |= is_lost(self, self.rules[place].name);
        }
        for place in 0..self.followers.len() {
            self.followers[place].lost |= is_lost(self, self.followers[place].name);
        }
    }

    /// Whether every rule runs and has what it takes over.
    pub(super) fn is_at_head(&self) -> bool {
        let runs = |(_, status)| status == Status::Running;
        let has_read = |(_, reading)| reading == Reading::Done;
        self.statuses().into_iter().all(runs) && self.readings().into_iter().all(has_read)
    }
}

impl Model {
    pub(super) fn find(&self, name: &str, is_shadow: bool) -> Option<usize> {
        let mut deployments = self.deployments.iter();
        deployments.position(|found| found.name == name && found.is_shadow == is_shadow)
    }

    /// The plugin and the rule, by the rule's name.
    pub(super) fn rule(&self, name: &str) -> Option<(usize, usize)> {
        let deployments = self.deployments.iter().enumerate();
        deployments
            .filter(|(_, deployment)| !deployment.is_shadow)
            .find_map(|(place, deployment)| {
                let rule = deployment.rules.iter().position(|rule| rule.name == name)?;
                Some((place, rule))
            })
    }

    pub(super) fn follower(&self, name: &str) -> Option<(usize, usize)> {
        let deployments = self.deployments.iter().enumerate();
        deployments
            .filter(|(_, deployment)| !deployment.is_shadow)
            .find_map(|(place, deployment)| {
                let mut followers = deployment.followers.iter();
                let follower = followers.position(|follower| follower.name == name)?;
                Some((place, follower))
            })
    }

    /// How far rules have come with the rows that they take over.
    pub(crate) fn readings(&self) -> Vec<(String, Reading)> {
        let deployments = self.deployments.iter();
        let readings = deployments.flat_map(Deployment::readings);
        readings
            .filter(|(_, reading)| *reading != Reading::Done)
            .collect()
    }

    /// Whether a rule runs, by its full name.
    pub(crate) fn is_running(&self, rule: &str) -> bool {
        let mut statuses = self.deployments.iter().flat_map(Deployment::statuses);
        statuses.any(|(name, status)| name == rule && status == Status::Running)
    }

    /// Whether it is known of a rule that the log has left it behind.
    pub(crate) fn is_lost(&self, rule: &str) -> bool {
        self.deployments.iter().any(|deployment| {
            let rules = deployment.rules.iter().map(|rule| (rule.name, rule.lost));
            let followers = deployment.followers.iter();
            let followers = followers.map(|follower| (follower.name, follower.lost));
            let mut all = rules.chain(followers);
            all.any(|(name, lost)| lost && deployment.full_name(name) == rule)
        })
    }

    /// Changes of source tables that the log still holds.
    pub(crate) fn kept(&self) -> usize {
        self.changes - self.forgotten
    }

    /// The seq of the switch that made a plugin's tables serve.
    pub(crate) fn since(&self, plugin: &str) -> u64 {
        let place = self.find(plugin, false);
        place.map_or(0, |place| self.deployments[place].since)
    }

    /// Plugins that are being rebuilt.
    pub(crate) fn rebuilding(&self) -> Vec<&'static str> {
        let shadows = self.deployments.iter().filter(|found| found.is_shadow);
        shadows.map(|shadow| shadow.name).collect()
    }

    pub(crate) fn is_rebuilding_any(&self) -> bool {
        self.deployments
            .iter()
            .any(|deployment| deployment.is_shadow)
    }

    /// Whether all of a plugin's rules run and have what they take over.
    pub(crate) fn is_at_head(&self, name: &str) -> bool {
        let place = self.find(name, false);
        place.is_some_and(|place| self.deployments[place].is_at_head())
    }

    /// Whether a plugin is being rebuilt.
    pub(crate) fn is_rebuilding(&self, name: &str) -> bool {
        self.find(name, true).is_some()
    }

    /// Whether the world must look after every step how far rules have come.
    pub(crate) fn must_look(&self) -> bool {
        self.deployments.iter().any(|deployment| {
            let reads = |(_, reading)| reading != Reading::Done;
            deployment.is_shadow || deployment.readings().into_iter().any(reads)
        })
    }

    /// Why a plugin's rebuild can't be switched in yet.
    pub(super) fn in_the_way(&self, name: &str) -> Option<String> {
        let Some(place) = self.find(name, true) else {
            return Some("it isn't being rebuilt".into());
        };
        if !self.deployments[place].is_at_head() {
            return Some("its rules are not at the head".into());
        }
        let reads_it = |deployment: &&Deployment| {
            name == "shop"
                && matches!(deployment.name, "reader" | "follow")
                && (deployment.loaded || deployment.is_shadow)
        };
        let mut others = self.deployments.iter().filter(reads_it);
        let late = others.find(|other| !other.is_at_head())?;
        Some(format!("{} reads its tables, and is late", late.name))
    }

    /// Once nothing is left to do: whether something is that ought not to be.
    pub(crate) fn left_over(&self) -> Option<String> {
        self.deployments
            .iter()
            .filter(|deployment| deployment.is_shadow)
            .find(|shadow| self.in_the_way(shadow.name).is_none())
            .map(|shadow| format!("the rebuild of {} doesn't end", shadow.name))
    }
}
