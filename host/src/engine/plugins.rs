//! Plugins coming, changing and going; all between two batches.

use std::sync::Arc;

use rulemill_wire::manifest::{Access, Manifest};

use crate::{
    catalog::{Catalog, Table, TableId},
    change::{Key, Seq},
    row::Row,
    rule::Plugin,
    store::{LetterState, PluginVersion, Reader, RuleRecord, RuleStatus, WriteSet},
};

use super::{
    Backfill, Engine, Fatal, PluginEvent, PluginOptions,
    link::{self, Linked, LinkedRule, LinkedTable},
    rebuild,
    state::{Letter, Line, Order, RuleState, Skipped, Window},
};

/// A plugin's tables and rules, fitted to the catalog.
type Links = (Vec<LinkedTable>, Vec<LinkedRule>);

impl Engine {
    /// Takes over what the store remembers of rules, parked changes and timers.
    pub(super) fn restore(&mut self, reader: &Reader) -> anyhow::Result<()> {
        for record in reader.rules()? {
            let mut state = RuleState::new(record);
            state.dirty = false;
            self.add_state(state);
        }
        for letter in reader.dead_letters()? {
            let letter = letter?;
            let name = format!("{}.{}", letter.plugin, letter.rule);
            let Some(&place) = self.state_places.get(&name) else {
                continue;
            };
            let state = &mut self.states[place];
            if letter.state == LetterState::Skipped {
                state.skipped.push_back(Skipped {
                    id: letter.id,
                    at: letter.parked_at,
                });
                continue;
            }
            let parked = Letter {
                id: letter.id,
                order: Order::of(&letter),
                cause: letter.cause,
                bytes: letter.bytes(),
            };
            state.park(Line::of(&letter.subject), parked);
        }
        for gap in reader.gaps()? {
            let gap = gap?;
            let name = format!("{}.{}", gap.plugin, gap.rule);
            if let (Some(&place), Some(seen)) = (self.state_places.get(&name), gap.seen) {
                let gaps = &mut self.states[place].gaps;
                gaps.insert(Key::from(gap.key), seen.map(Row::from));
            }
        }
        for timer in reader.timers()? {
            self.timers.apply(&timer?);
        }
        Ok(())
    }

    /// Finds every state's place again, after some have gone or got other names.
    pub(super) fn find_states(&mut self) {
        let states = self.states.iter().enumerate();
        self.state_places = states
            .map(|(place, state)| (state.full_name(), place))
            .collect();
    }

    /// Stores the catalog with this write set.
    pub(super) fn store_catalog(&mut self, write_set: &mut WriteSet) {
        let catalog = self.catalog.load();
        self.stored_catalog = catalog.version;
        write_set.catalog = Some(catalog);
    }

    fn add_state(&mut self, state: RuleState) -> usize {
        let name = format!("{}.{}", state.record.plugin, state.record.rule);
        self.states.push(state);
        self.state_places.insert(name, self.states.len() - 1);
        self.states.len() - 1
    }

    /// Loads what the plugin directory holds at the start.
    pub(super) fn begin(&mut self, events: Vec<PluginEvent>) -> anyhow::Result<()> {
        // A plugin that makes a table comes before those that read it; one whose tables nobody makes
        // comes whenever its turn is.
        let mut waiting: Vec<PluginEvent> = events;
        waiting.sort_by(|a, b| a.name().cmp(b.name()));
        while !waiting.is_empty() {
            let made: Vec<Vec<String>> = waiting.iter().map(|event| event.tables(true)).collect();
            let ready = waiting.iter().enumerate().position(|(place, event)| {
                let reads = event.tables(false);
                made.iter()
                    .enumerate()
                    .all(|(other, made)| other == place || !made.iter().any(|t| reads.contains(t)))
            });
            let event = waiting.remove(ready.unwrap_or_default());
            self.plugin_event(event)?;
        }
        self.resume_rebuilds()?;
        // Rules in the store whose plugin is no longer there stand where they stopped.
        for place in 0..self.states.len() {
            let name = format!(
                "{}.{}",
                self.states[place].record.plugin, self.states[place].record.rule
            );
            let loaded = self
                .plugins
                .iter()
                .any(|plugin| plugin.rules.iter().any(|rule| *rule.full_name == *name));
            if !loaded && self.states[place].record.status == RuleStatus::Running {
                self.stop_rule(place, RuleStatus::Unloaded);
            }
        }
        let mut write_set = WriteSet::default();
        let catalog = self.catalog.load();
        if catalog.version != self.stored_catalog {
            self.stored_catalog = catalog.version;
            write_set.catalog = Some(catalog);
        }
        if write_set.catalog.is_some() || self.states.iter().any(|state| state.dirty) {
            self.finish(write_set, 0);
        }
        self.post_status();
        Ok(())
    }

    pub(super) fn plugin_event(&mut self, event: PluginEvent) -> Result<(), Fatal> {
        match event {
            PluginEvent::Loaded {
                name,
                plugin,
                last_good,
                reply,
            } => {
                let hash = plugin.hash();
                let claims = self.claims(&plugin);
                if claims.iter().any(|&table| self.view.is_touched(table)) {
                    // Whether a table has rows is seen on the disk.
                    self.settle_all()?;
                }
                let result = self.load(&name, plugin);
                if result.is_ok() {
                    self.claimed.extend(claims);
                }
                match &result {
                    Ok(()) => {
                        self.candidates.remove(&name);
                        tracing::info!(plugin = name, "loaded");
                    }
                    Err(reason) => {
                        tracing::error!(plugin = name, reason, "refused");
                        self.fall_back(&name, last_good);
                    }
                }
                self.restart_rebuild(&name, hash)?;
                self.post_plugin(&name, result.as_ref().err().cloned());
                self.post_status();
                if let Some(reply) = reply {
                    let _ = reply.send(result);
                }
            }
            PluginEvent::Refused {
                name,
                reason,
                last_good,
            } => {
                tracing::error!(plugin = name, reason, "refused");
                self.fall_back(&name, last_good);
                self.post_plugin(&name, Some(reason));
            }
            PluginEvent::Removed { name } => {
                self.candidates.remove(&name);
                self.cancel_rebuild(&name)?;
                if let Some(place) = self.plugins.iter().position(|p| *p.name == *name) {
                    self.unload(place);
                    tracing::info!(plugin = name, "unloaded: its tables stay");
                }
                self.post_removed(&name);
            }
        }
        self.post_status();
        Ok(())
    }

    /// The tables that a plugin makes and that are still a source's.
    fn claims(&self, plugin: &Arc<dyn Plugin>) -> Vec<TableId> {
        let catalog = self.catalog.load();
        let tables = plugin.manifest().tables.iter();
        tables
            .filter(|declared| declared.access == Access::Own)
            .filter_map(|declared| catalog.by_name(&declared.name))
            .filter(|table| !table.is_derived())
            .map(|table| table.id)
            .collect()
    }

    /// Lets what ran before go on in place of what was refused.
    fn fall_back(&mut self, name: &str, last_good: Option<Arc<dyn Plugin>>) {
        let Some(plugin) = last_good else { return };
        match self.load(name, plugin) {
            Ok(()) => tracing::warn!(plugin = name, "its last good version goes on"),
            Err(reason) => {
                tracing::error!(plugin = name, reason, "its last good version can't go on");
            }
        }
    }

    /// Fits a plugin in, in place of the one with the same name.
    pub(super) fn load(&mut self, name: &str, plugin: Arc<dyn Plugin>) -> Result<(), String> {
        let place = self.plugins.iter().position(|p| *p.name == *name);
        if place.is_some_and(|place| self.plugins[place].plugin.hash() == plugin.hash()) {
            return Ok(());
        }
        let catalog = self.catalog.clone();
        let links = match catalog.update(|copy| self.link_all(name, &plugin, copy)) {
            Ok(links) => links,
            Err(reason) => {
                if !rebuild::is_shadow(name) {
                    self.candidates.insert(name.to_owned(), plugin);
                }
                return Err(reason);
            }
        };
        let options = self.plugin_options.get(name).copied().unwrap_or_default();
        self.check_backfill(name, &plugin, &links, options)?;
        let version = self.version_of(name, &*plugin);
        let linked = Linked {
            name: name.into(),
            plugin,
            version: version.id,
            options,
            tables: Arc::default(),
            rules: Vec::new(),
            instance: None,
            spare: None,
            wary: 0,
            kept: false,
            between: 0,
        };
        match place {
            Some(place) => self.plugins[place] = linked,
            None => self.plugins.push(linked),
        }
        for (plugin, (tables, rules)) in self.plugins.iter_mut().zip(links) {
            plugin.tables = Arc::new(tables);
            plugin.rules = rules;
        }
        let place = place.unwrap_or(self.plugins.len() - 1);
        self.start_rules(place);
        let mut write_set = WriteSet::default();
        if !self.versions.iter().any(|known| known.id == version.id) {
            self.versions.push(PluginVersion {
                code: Arc::default(),
                ..version.clone()
            });
            write_set.plugin_versions.push(version);
        }
        self.store_catalog(&mut write_set);
        self.finish(write_set, 0);
        self.schedule_dirty = true;
        Ok(())
    }

    /// Links all plugins, with this one in its place, against a copy of the catalog.
    pub(super) fn link_all(
        &self,
        name: &str,
        plugin: &Arc<dyn Plugin>,
        catalog: &mut Catalog,
    ) -> Result<Vec<Links>, String> {
        let mut all: Vec<(&str, &Manifest)> = self
            .plugins
            .iter()
            .map(|linked| {
                if *linked.name == *name {
                    (name, plugin.manifest())
                } else {
                    (&*linked.name, linked.plugin.manifest())
                }
            })
            .collect();
        if !all.iter().any(|(other, _)| *other == name) {
            all.push((name, plugin.manifest()));
        }
        let configured = |table: &str| self.configured_tables.iter().any(|t| t == table);
        let view = &self.view;
        let is_empty = |table: &Table| {
            let mut empty = !view.is_touched(table.id);
            view.scan(table, &[], None, false, Seq(u64::MAX), |_, _| {
                empty = false;
                false
            })?;
            anyhow::Ok(empty)
        };
        let mut tables = Vec::new();
        // The new one first: it may make a table that others only read so far.
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|&place| all[place].0 != name);
        for place in order {
            let (plugin_name, manifest) = all[place];
            let others: Vec<_> = all
                .iter()
                .copied()
                .filter(|(other, _)| *other != plugin_name)
                .collect();
            let linked = link::link_tables(
                plugin_name,
                manifest,
                catalog,
                &others,
                &configured,
                &is_empty,
                self.last_seq,
            )
            .map_err(|reason| {
                if plugin_name == name {
                    reason
                } else {
                    format!("would break plugin {plugin_name}: {reason}")
                }
            })?;
            tables.push((place, linked));
        }
        tables.sort_by_key(|(place, _)| *place);
        let parts: Vec<(&str, &Manifest, &[LinkedTable])> = all
            .iter()
            .zip(&tables)
            .map(|(&(name, manifest), (_, tables))| (name, manifest, &tables[..]))
            .collect();
        let rules = link::rule_levels(&parts, catalog)?;
        Ok(tables
            .into_iter()
            .map(|(_, tables)| tables)
            .zip(rules)
            .collect())
    }

    /// A rule that is new here can't begin from the rows of a table that doesn't keep them.
    fn check_backfill(
        &self,
        name: &str,
        plugin: &Arc<dyn Plugin>,
        links: &[Links],
        options: PluginOptions,
    ) -> Result<(), String> {
        if options.backfill != Backfill::Snapshot || self.last_seq == Seq(0) {
            return Ok(());
        }
        let place = self
            .plugins
            .iter()
            .position(|p| *p.name == *name)
            .unwrap_or(self.plugins.len());
        let (tables, rules) = &links[place];
        let catalog = self.catalog.load();
        for (rule, declared) in rules.iter().zip(&plugin.manifest().rules) {
            let Some(input) = rule.input else { continue };
            let table = catalog.table(tables[usize::from(input)].id);
            if !table.mirror && !self.state_places.contains_key(&*rule.full_name) {
                return Err(format!(
                    "rule {} is new here and table {} keeps no rows to begin from (mirror = false): set backfill = \"log\" or \"none\" under [plugin.{name}]",
                    declared.name, table.name
                ));
            }
        }
        Ok(())
    }

    /// The store's record of this code: the one it ran under last, or a new one.
    fn version_of(&self, name: &str, plugin: &dyn Plugin) -> PluginVersion {
        let last = self.versions.iter().rfind(|known| known.plugin == name);
        if let Some(last) = last
            && last.hash == plugin.hash().0
        {
            return last.clone();
        }
        PluginVersion {
            id: self
                .versions
                .iter()
                .map(|known| known.id)
                .max()
                .unwrap_or(0)
                + 1,
            plugin: name.to_owned(),
            hash: plugin.hash().0,
            label: plugin.manifest().version.clone(),
            from_seq: self.last_seq.next(),
            code: plugin.code(),
        }
    }

    /// Sets the rules of a plugin going: known ones from their cursor, new ones as `backfill` says; those
    /// that it no longer has stop.
    fn start_rules(&mut self, place: usize) {
        let name = self.plugins[place].name.clone();
        let options = self.plugins[place].options;
        let version = self.plugins[place].version;
        let rules: Vec<(String, bool)> = self.plugins[place]
            .plugin
            .manifest()
            .rules
            .iter()
            .zip(&self.plugins[place].rules)
            .map(|(declared, rule)| (declared.name.clone(), rule.input.is_some()))
            .collect();
        for state in 0..self.states.len() {
            let record = &self.states[state].record;
            if record.plugin == *name
                && record.status == RuleStatus::Running
                && !rules.iter().any(|(rule, _)| *rule == record.rule)
            {
                self.stop_rule(state, RuleStatus::Unloaded);
            }
        }
        let names: Vec<String> = rules.iter().map(|(rule, _)| rule.clone()).collect();
        self.forget_replaced(&name, &names);
        for (rule, has_table) in rules {
            let full_name = format!("{name}.{rule}");
            if let Some(&known) = self.state_places.get(&full_name) {
                let state = &mut self.states[known];
                // Only a new version may have mended what halted the rule.
                let goes_on = match state.record.status {
                    RuleStatus::Unloaded => true,
                    RuleStatus::Halted(_) | RuleStatus::Tripped(_) => {
                        state.record.version != version
                    }
                    RuleStatus::Running | RuleStatus::Paused => false,
                };
                if goes_on {
                    state.record.status = RuleStatus::Running;
                    state.dirty = true;
                }
                state.window = Window::default();
                continue;
            }
            let reads_rows =
                has_table && options.backfill == Backfill::Snapshot && self.last_seq > Seq(0);
            let from_log = has_table && options.backfill == Backfill::Log;
            self.add_state(RuleState::new(RuleRecord {
                plugin: name.to_string(),
                rule,
                status: RuleStatus::Running,
                cursor: if from_log {
                    self.log_start()
                } else {
                    self.last_seq
                },
                cursor_changes: 0,
                cursor_watermark: if from_log { i64::MIN } else { self.watermark },
                at_head: !from_log,
                backfill: reads_rows.then(Vec::new),
                replaced: None,
                version,
                changes: 0,
                faults: 0,
                last_error: None,
            }));
        }
    }

    /// The seq before the first one that the log holds.
    pub(super) fn log_start(&self) -> Seq {
        // From the store: the engine's own snapshot may be older than the log's last cut.
        let first = self.store.reader().and_then(|reader| {
            let first = reader.log_first_seq()?;
            Ok(first.unwrap_or(reader.last_seq().next()))
        });
        match first {
            Ok(first) => Seq(first.0.saturating_sub(1)),
            Err(error) => {
                // The rule meets the same error when it reads the log, and the host stops there.
                tracing::error!(%error, "can't read the log");
                Seq(0)
            }
        }
    }

    fn unload(&mut self, place: usize) {
        let names: Vec<String> = self.plugins[place]
            .rules
            .iter()
            .map(|rule| rule.full_name.to_string())
            .collect();
        for name in names {
            let state = self.state_places[&name];
            if self.states[state].record.status == RuleStatus::Running {
                self.stop_rule(state, RuleStatus::Unloaded);
            }
        }
        self.plugins.remove(place);
        self.schedule_dirty = true;
        self.finish(WriteSet::default(), 0);
    }
}

impl PluginEvent {
    /// The plugin's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Loaded { name, .. } | Self::Refused { name, .. } | Self::Removed { name } => name,
        }
    }

    /// The tables that the plugin makes, or those that it only reads.
    fn tables(&self, owned: bool) -> Vec<String> {
        let (newest, last_good) = match self {
            Self::Loaded {
                plugin, last_good, ..
            } => (Some(plugin), last_good.as_ref()),
            Self::Refused { last_good, .. } => (None, last_good.as_ref()),
            Self::Removed { .. } => (None, None),
        };
        newest
            .into_iter()
            .chain(last_good)
            .flat_map(|plugin| &plugin.manifest().tables)
            .filter(|table| (table.access == Access::Own) == owned)
            .map(|table| table.name.clone())
            .collect()
    }
}
