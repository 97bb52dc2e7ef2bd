//! Is all as the recomputation says? While the host runs, and in the end, when everything has been mended.

use std::collections::{BTreeMap, BTreeSet};

use rulemill::engine::RuleStatusLine;

use crate::{
    compare::{self, Depth},
    model::{Event, Model},
    plugins,
};

use super::{End, World};

impl World {
    /// Lets rules come to the head, and compares.
    pub(crate) fn check(&mut self) -> Result<(), End> {
        self.drain()?;
        let depth = match self.settings.is_loose {
            true => Depth::Steady,
            false => Depth::All,
        };
        if let Some(what) = self.model().left_over()
            && depth == Depth::All
        {
            return Err(End::Wrong(what));
        }
        let remade = self.model.remade.clone();
        compare::compare(self.store(), &self.model, depth, &remade)?;
        self.checked = self.model.clone();
        self.checked_events = self.model_events;
        Ok(())
    }

    /// The host is stopped and started again, with these plugin files.
    pub(crate) fn restart(&mut self, directory: BTreeMap<&'static str, u32>) -> Result<(), End> {
        self.count("a restart");
        self.drain_serving()?;
        if !self.settings.is_loose && self.model().is_rebuilding_any() {
            self.count("a restart while a plugin is rebuilt");
        }
        self.note(format_args!("stop"));
        self.engine = None;
        self.store = None;
        self.directory = directory;
        self.start()
    }

    /// Every plugin is mended, every rule goes on, everything parked is run again: then all must be as if nothing had ever
    /// failed.
    pub(crate) fn mend(&mut self) -> Result<(), End> {
        self.is_mending = true;
        self.drain()?;
        for name in plugins::ALL {
            self.command(Event::Load(name, plugins::MENDED))?;
        }
        for round in 0.. {
            for rule in crate::RULES {
                // The log may have forgotten what it has yet to handle, and nothing else can make its table.
                let is_lost = |line: &RuleStatusLine| line.status.contains("--skip-gap");
                let status = self.engine().status();
                match status.rules.get(rule).is_some_and(is_lost) {
                    true => self.command(Event::Skip(rule)),
                    false => self.command(Event::Resume(rule)),
                }?;
                // When a timer fires depends on which of its rules goes on first.
                if rule.starts_with("carts.") {
                    self.drain()?;
                }
            }
            self.drain()?;
            self.command(Event::Retry(None))?;
            let status = self.engine().status();
            let is_done = |rule: &RuleStatusLine| rule.parked == 0 && rule.status == "running";
            if status.rules.values().all(is_done) {
                break;
            }
            if round > 20 {
                return Err(End::Wrong(format!(
                    "it can't be mended: {:#?}",
                    status.rules
                )));
            }
        }
        if !self.settings.is_loose {
            self.check()?;
        }
        if self.has_dropped {
            return Ok(());
        }
        let mut model = Model::new(self.settings.limits.dead_letters_max);
        let mended = plugins::ALL.into_iter().map(|name| (name, plugins::MENDED));
        model.apply(&Event::Start {
            directory: mended.collect(),
            clock: 1_000,
        });
        for event in &self.history {
            if let Event::Transaction { .. } | Event::Tick { .. } = event {
                model.apply(event);
            }
        }
        let remade = self.remade()?;
        model.forgotten = match self.settings.is_loose && self.has_pruned {
            true => {
                let reader = self.reader()?;
                let catalog = self.disk_or_wrong(reader.catalog())?;
                let kept = compare::logged(&reader, &catalog).map_err(|what| self.failed_or(what));
                model.changes - kept?
            }
            false => self.model().forgotten,
        };
        compare::compare(self.store(), &model, Depth::Mended, &remade)?;
        self.count("all is mended, and as if nothing had failed");
        Ok(())
    }

    /// Plugins whose tables depend on when they were made.
    fn remade(&mut self) -> Result<BTreeSet<&'static str>, End> {
        let mut remade = self.model().remade.clone();
        if !self.settings.is_loose {
            return Ok(remade);
        }
        // What the operator's commands came to in between isn't known.
        let reader = self.reader()?;
        let catalog = self.disk_or_wrong(reader.catalog())?;
        for (table, plugin) in compare::DERIVED {
            if catalog
                .by_name(table)
                .is_some_and(|table| table.since() > 0)
            {
                remade.insert(plugin);
            }
        }
        remade.extend(["late", "tardy"]);
        Ok(remade)
    }
}
