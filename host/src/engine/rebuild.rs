//! Rebuilding a plugin's tables: from a snapshot of what they come from, beside those that serve.
//!
//! The code that is to run then is loaded a second time, as the plugin's *shadow*: rules and tables of its own, under names that no
//! plugin can have. Its rules take the rows over that are there, as those of a new plugin do, and go on with every change. Once all
//! of them are at the head one write set makes the switch: the shadow's tables get the names, its rules the records, and what the old ones
//! left (parked changes, gaps, timers) goes. A reader sees the old tables or the new ones. That write set holds no rows, so its size
//! doesn't depend on theirs. Rules of other plugins that are called for changes of these tables are told what differs
//! afterwards, in steps between live batches ([`super::differences`]); the old table's rows stay until they have been.
//!
//! A shadow sends no notifications while it rebuilds, since they have been sent. A restart in the middle goes on where it was.

use std::{collections::HashSet, sync::Arc};

use rulemill_wire::manifest::Access;

use crate::{
    catalog::{Stage, Table, TableId},
    change::Seq,
    rule::{Plugin, PluginHash},
    store::{DeadLetter, Gap, WriteSet},
};

use super::{Backfill, ControlError, Engine, Fatal, PluginOptions, state::RuleState};

/// What follows a name in its shadow's.
const SHADOW: &str = ":rebuild";

/// The name of a plugin's or a table's shadow.
pub(super) fn shadow(name: &str) -> String {
    format!("{name}{SHADOW}")
}

/// Whether this is the name of a shadow.
pub(crate) fn is_shadow(name: &str) -> bool {
    name.ends_with(SHADOW)
}

/// The tables that one plugin makes, as they serve and as they have been rebuilt.
type Pairs = Vec<(Option<Arc<Table>>, Arc<Table>)>;

impl Engine {
    /// Begins to rebuild a plugin's tables, with the newest code that there is of it.
    pub(super) fn begin_rebuild(&mut self, name: &str) -> Result<(), ControlError> {
        let Some(code) = self.codes(name).next().cloned() else {
            return Err(ControlError::NoSuchPlugin(name.to_owned()));
        };
        if self.is_rebuilding(name) {
            return Err(ControlError::Conflict(format!(
                "plugin {name} is being rebuilt already: `rulemill status` shows how far it is"
            )));
        }
        self.load_shadow(name, code).map_err(|reason| {
            ControlError::Conflict(format!("plugin {name} can't be rebuilt: it {reason}"))
        })?;
        tracing::info!(plugin = name, "is being rebuilt");
        self.post_rebuilds();
        Ok(())
    }

    /// Loads a plugin's code beside it, as its shadow.
    fn load_shadow(&mut self, name: &str, code: Arc<dyn Plugin>) -> Result<(), String> {
        let options = PluginOptions {
            backfill: Backfill::Snapshot,
            ..self.plugin_options.get(name).copied().unwrap_or_default()
        };
        let shadow = shadow(name);
        self.plugin_options.insert(shadow.clone(), options);
        self.load(&shadow, code)
    }

    /// A plugin's code: what doesn't fit the tables that serve, then what runs.
    fn codes(&self, name: &str) -> impl Iterator<Item = &Arc<dyn Plugin>> {
        let running = self.plugin_named(name).map(|place| &self.plugins[place]);
        let candidate = self.candidates.get(name);
        let code = [candidate, running.map(|linked| &linked.plugin)];
        code.into_iter().flatten()
    }

    /// Goes on with the rebuilds that the store knows of, with the code that they began with; gives up those whose code is gone.
    pub(super) fn resume_rebuilds(&mut self) -> Result<(), Fatal> {
        let records = self.states.iter().map(|state| &state.record);
        let shadows: HashSet<(String, u32)> = records
            .filter(|record| is_shadow(&record.plugin))
            .map(|record| (record.plugin.clone(), record.version))
            .collect();
        for (shadow, version) in shadows {
            let name = shadow.trim_end_matches(SHADOW).to_owned();
            let known = self.versions.iter().find(|known| known.id == version);
            let hash = known.map(|known| known.hash);
            let mut codes = self.codes(&name);
            let code = codes.find(|code| Some(code.hash().0) == hash).cloned();
            drop(codes);
            let result = match code {
                Some(code) => self.load_shadow(&name, code),
                None => Err("its file is another than the one that it began with".into()),
            };
            if let Err(reason) = result {
                tracing::error!(plugin = name, reason, "its rebuild is given up");
                self.cancel_rebuild(&name)?;
            }
        }
        self.post_rebuilds();
        Ok(())
    }

    /// Whether a plugin is being rebuilt.
    pub(super) fn is_rebuilding(&self, name: &str) -> bool {
        self.plugin_named(&shadow(name)).is_some()
    }

    /// A rebuild under way begins again with the code that has come.
    pub(super) fn restart_rebuild(&mut self, name: &str, hash: PluginHash) -> Result<(), Fatal> {
        let place = self.plugin_named(&shadow(name));
        if place.is_some_and(|place| self.plugins[place].plugin.hash() != hash) {
            self.cancel_rebuild(name)?;
            if let Err(error) = self.begin_rebuild(name) {
                tracing::error!(plugin = name, %error, "its rebuild is given up");
            }
        }
        Ok(())
    }

    /// Gives a rebuild up. False if there was none.
    pub(super) fn cancel_rebuild(&mut self, name: &str) -> Result<bool, Fatal> {
        let shadow = shadow(name);
        let is_known = self
            .states
            .iter()
            .any(|state| state.record.plugin == shadow);
        if !is_known && self.plugin_named(&shadow).is_none() {
            return Ok(false);
        }
        if let Some(place) = self.plugin_named(&shadow) {
            self.plugins.remove(place);
        }
        self.settle_all()?;
        let mut write_set = WriteSet::default();
        self.take_rules_away(&shadow, &[], &mut write_set)?;
        let result: Result<(), std::convert::Infallible> = self.catalog.update(|catalog| {
            let mine: Vec<Arc<Table>> = catalog
                .tables()
                .filter(|table| table.stage == Stage::Rebuilding && table.is_of(&shadow))
                .cloned()
                .collect();
            for table in mine {
                catalog.put(dropped(&table));
            }
            Ok(())
        });
        let Ok(()) = result;
        self.drop_replaced();
        self.store_catalog(&mut write_set);
        self.schedule_dirty = true;
        self.finish(write_set, 0);
        self.post_rebuilds();
        Ok(true)
    }

    /// Makes the switch for a plugin whose rebuild is complete. False if there is none.
    pub(super) fn step_rebuild(&mut self) -> Result<bool, Fatal> {
        if !self.plugins.iter().any(|plugin| is_shadow(&plugin.name)) {
            return Ok(false);
        }
        let names: Vec<String> = self
            .plugins
            .iter()
            .filter_map(|plugin| Some(plugin.name.strip_suffix(SHADOW)?.to_owned()))
            .collect();
        for name in names {
            if self.in_the_way(&name).is_none() {
                self.switch(&name)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What a rebuild still waits for.
    pub(super) fn in_the_way(&self, name: &str) -> Option<String> {
        let shadow = shadow(name);
        let place = self.plugin_named(&shadow)?;
        let rules = self.plugins[place].rules.len();
        let done = (0..rules).filter(|&rule| {
            let state = &self.states[self.state_of(place, rule)];
            state.takes_live() && state.record.backfill.is_none()
        });
        let done = done.count();
        if done < rules {
            return Some(format!("{done} of {rules} rules have come to the head"));
        }
        if !self.retries.is_empty() {
            return Some("waits for a retry of parked changes".into());
        }
        let serving: Vec<TableId> = self
            .pairs(place)
            .iter()
            .filter_map(|(old, _)| Some(old.as_ref()?.id))
            .collect();
        for (other, plugin) in self.plugins.iter().enumerate() {
            if *plugin.name == *name || *plugin.name == *shadow {
                continue;
            }
            let manifest = plugin.plugin.manifest();
            for (number, rule) in plugin.rules.iter().enumerate() {
                let is_one = |table: &u16| serving.contains(&plugin.tables[usize::from(*table)].id);
                let is_called = rule.input.as_ref().is_some_and(is_one);
                if !is_called && !manifest.rules[number].lookups.iter().any(is_one) {
                    continue;
                }
                let state = &self.states[self.state_of(other, number)];
                if !state.takes_live() || state.record.backfill.is_some() {
                    return Some(format!(
                        "waits for rule {}, which reads its tables and is not at the head",
                        rule.full_name
                    ));
                }
                if is_called && !(state.parked.is_empty() && state.gaps.is_empty()) {
                    return Some(format!(
                        "waits for rule {}, which has parked or missed changes of its tables: retry them",
                        rule.full_name
                    ));
                }
            }
        }
        None
    }

    /// The tables that the shadow at this place makes, each with the one that serves in its stead.
    fn pairs(&self, place: usize) -> Pairs {
        let catalog = self.catalog.load();
        let plugin = &self.plugins[place];
        let declared = plugin.plugin.manifest().tables.iter();
        declared
            .zip(&*plugin.tables)
            .filter(|(declared, _)| declared.access == Access::Own)
            .map(|(declared, linked)| {
                let serving = catalog.by_name(&declared.name).cloned();
                (serving, catalog.table(linked.id).clone())
            })
            .collect()
    }

    /// Puts the shadow in the plugin's place.
    fn switch(&mut self, name: &str) -> Result<(), Fatal> {
        let shadow_name = shadow(name);
        let Some(place) = self.plugin_named(&shadow_name) else {
            return Ok(());
        };
        self.settle_all()?;
        let pairs = self.pairs(place);
        let seq = self.last_seq.next();
        // Whoever reads the tables must fit the new ones; if somebody doesn't, all goes back.
        let switched: Result<(), std::convert::Infallible> = self.catalog.update(|catalog| {
            for (serving, rebuilt) in &pairs {
                if let Some(serving) = serving {
                    catalog.put(Table {
                        stage: Stage::Replaced { by: rebuilt.id },
                        ..dropped(serving)
                    });
                }
                let mut table = Table::clone(rebuilt);
                table.name = table.plain_name().to_owned();
                table.stage = Stage::Serving { since: seq.0 };
                table.origin = crate::catalog::Origin::Derived {
                    plugin: name.to_owned(),
                };
                catalog.put(table);
            }
            Ok(())
        });
        let Ok(()) = switched;
        let code = self.plugins[place].plugin.clone();
        let mut plugins = std::mem::take(&mut self.plugins);
        let mut linked = plugins.remove(place);
        let running = plugins.iter().position(|plugin| *plugin.name == *name);
        let old = running.map(|running| plugins.remove(running));
        linked.name = name.into();
        linked.options = self.plugin_options.get(name).copied().unwrap_or_default();
        plugins.push(linked);
        self.plugins = plugins;
        let catalog = self.catalog.clone();
        let links = catalog.update(|copy| self.link_all(name, &code, copy));
        let links = match links {
            Ok(links) => links,
            Err(reason) => {
                tracing::error!(plugin = name, reason, "can't take its rebuilt tables");
                let last = self.plugins.len() - 1;
                self.plugins[last].name = shadow_name.as_str().into();
                self.plugins.extend(old);
                // Sources may have added columns to their tables meanwhile: only these go back.
                let undone: Result<(), std::convert::Infallible> = self.catalog.update(|copy| {
                    for (serving, rebuilt) in &pairs {
                        copy.put(Table::clone(rebuilt));
                        if let Some(serving) = serving {
                            copy.put(Table::clone(serving));
                        }
                    }
                    Ok(())
                });
                let Ok(()) = undone;
                self.cancel_rebuild(name)?;
                self.post_plugin(name, Some(reason));
                return Ok(());
            }
        };
        for (plugin, (tables, rules)) in self.plugins.iter_mut().zip(links) {
            plugin.tables = Arc::new(tables);
            plugin.rules = rules;
        }
        self.candidates.remove(name);
        let mut write_set = WriteSet::default();
        self.rename_rules(name, &mut write_set)?;
        let version = self.plugins.last().map_or(0, |linked| linked.version);
        if let Some(known) = self.versions.iter_mut().find(|known| known.id == version) {
            known.plugin = name.to_owned();
            write_set.plugin_versions.push(known.clone());
        }
        self.tell_differences(name, &pairs);
        self.drop_replaced();
        self.store_catalog(&mut write_set);
        self.schedule_dirty = true;
        self.last_seq = seq;
        self.finish(write_set, 0);
        tracing::info!(plugin = name, "serves its rebuilt tables");
        // First who is not at the head any more.
        self.post_status();
        self.post_plugin(name, None);
        self.post_rebuilds();
        Ok(())
    }

    /// Has the rules of other plugins that are called for changes of these tables told how they differ, from here on.
    fn tell_differences(&mut self, name: &str, pairs: &Pairs) {
        for (serving, rebuilt) in pairs {
            let Some(serving) = serving else { continue };
            for place in 0..self.plugins.len() {
                // Its own rules have made these tables from the same changes.
                if *self.plugins[place].name == *name {
                    continue;
                }
                for rule in 0..self.plugins[place].rules.len() {
                    let plugin = &self.plugins[place];
                    let input = plugin.rules[rule].input;
                    if input.map(|input| plugin.tables[usize::from(input)].id) != Some(rebuilt.id) {
                        continue;
                    }
                    let state = self.state_of(place, rule);
                    let state = &mut self.states[state];
                    state.record.backfill = Some(Vec::new());
                    state.record.replaced = Some(serving.id);
                    state.dirty = true;
                }
            }
        }
    }

    /// Lets go of replaced tables that no rule needs any more. False if there is none.
    pub(super) fn drop_replaced(&mut self) -> bool {
        let needed: HashSet<TableId> = self
            .states
            .iter()
            .filter_map(|state| state.record.replaced)
            .collect();
        let catalog = self.catalog.load();
        let goes = |table: &&Arc<Table>| match table.stage {
            // What comes to a rule that stood before two switches is not told row by row: it begins again.
            Stage::Replaced { by } => {
                !needed.contains(&table.id) || !catalog.table(by).is_serving()
            }
            _ => false,
        };
        let gone: Vec<Arc<Table>> = catalog.tables().filter(goes).cloned().collect();
        if gone.is_empty() {
            return false;
        }
        let result: Result<(), std::convert::Infallible> = self.catalog.update(|copy| {
            for table in gone {
                copy.put(Table {
                    stage: Stage::Dropped,
                    ..Table::clone(&table)
                });
            }
            Ok(())
        });
        let Ok(()) = result;
        true
    }

    /// Rules that a plugin no longer has wait for no replaced table. One that comes back with a later version stands before the
    /// switch, and begins again as any that does.
    pub(super) fn forget_replaced(&mut self, name: &str, rules: &[String]) {
        let catalog = self.catalog.load();
        for state in &mut self.states {
            let record = &mut state.record;
            if record.plugin != name || rules.contains(&record.rule) {
                continue;
            }
            let Some(replaced) = record.replaced.take() else {
                continue;
            };
            record.backfill = None;
            if let Stage::Replaced { by } = catalog.table(replaced).stage {
                record.cursor = Seq(catalog.table(by).since().saturating_sub(1));
                record.cursor_changes = 0;
            }
            state.dirty = true;
        }
        self.drop_replaced();
    }

    /// Gives the plugin the rules of its shadow, in place of its own.
    fn rename_rules(&mut self, name: &str, write_set: &mut WriteSet) -> Result<(), Fatal> {
        let shadow = shadow(name);
        let kept: Vec<String> = self
            .states
            .iter()
            .filter(|state| state.record.plugin == shadow)
            .map(|state| state.record.rule.clone())
            .collect();
        self.take_rules_away(name, &kept, write_set)?;
        for letter in self.view.snapshot().clone().dead_letters()? {
            let letter = letter?;
            if letter.plugin == shadow {
                let plugin = name.to_owned();
                write_set.dead_letters.push(DeadLetter { plugin, ..letter });
            }
        }
        for mut timer in self.timers.of(&shadow) {
            let mut gone = timer.clone();
            gone.due = None;
            timer.plugin = name.to_owned();
            for write in [gone, timer] {
                self.timers.apply(&write);
                write_set.timers.push(write);
            }
        }
        for state in &mut self.states {
            if state.record.plugin != shadow {
                continue;
            }
            let rule = state.record.rule.clone();
            for (key, seen) in &state.gaps {
                for (plugin, seen) in [(&*shadow, None), (name, Some(seen))] {
                    write_set.gaps.push(Gap {
                        plugin: plugin.to_owned(),
                        rule: rule.clone(),
                        key: key.to_vec(),
                        seen: seen.map(|seen| seen.as_ref().map(|row| row.to_vec())),
                    });
                }
            }
            write_set.removed_rules.push((shadow.clone(), rule));
            state.record.plugin = name.to_owned();
            state.dirty = true;
        }
        self.find_states();
        Ok(())
    }

    /// Forgets the rules of a plugin with all that was kept for them; the records of `kept` are about to be written anew.
    fn take_rules_away(
        &mut self,
        name: &str,
        kept: &[String],
        write_set: &mut WriteSet,
    ) -> Result<(), Fatal> {
        for letter in self.view.snapshot().clone().dead_letters()? {
            let letter = letter?;
            if letter.plugin == name {
                write_set.settled_dead_letters.push(letter.id);
            }
        }
        for mut timer in self.timers.of(name) {
            timer.due = None;
            self.timers.apply(&timer);
            write_set.timers.push(timer);
        }
        let (gone, stay): (Vec<RuleState>, Vec<RuleState>) = std::mem::take(&mut self.states)
            .into_iter()
            .partition(|state| state.record.plugin == name);
        self.states = stay;
        for state in gone {
            for key in state.gaps.into_keys() {
                write_set.gaps.push(Gap {
                    plugin: name.to_owned(),
                    rule: state.record.rule.clone(),
                    key: key.to_vec(),
                    seen: None,
                });
            }
            if !kept.contains(&state.record.rule) {
                let rule = (name.to_owned(), state.record.rule);
                write_set.removed_rules.push(rule);
            }
        }
        self.find_states();
        Ok(())
    }
}

/// The table without its name: only its number stays, and its rows until they are removed.
pub(super) fn dropped(table: &Table) -> Table {
    Table {
        name: format!("{}:{}", table.name, table.id),
        stage: Stage::Dropped,
        ..table.clone()
    }
}
