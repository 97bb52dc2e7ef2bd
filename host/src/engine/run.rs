//! Running rules: items into calls, calls into effects, effects into the view and the write set.
//!
//! A call that ends in a fault is made again in two halves, each in a fresh instance, until the item
//! at fault stands alone; so one bad change costs a batch the logarithm of its length in calls. A rule
//! that returns an error has already undone that item itself.

use std::{collections::HashMap, sync::Arc};

use crate::{
    catalog::{Catalog, Table},
    change::{Change, Key, Op, Seq},
    rule::Fault,
    store::{DeadLetter, Notification, RowWrite, RuleStatus, TableWrites, TimerWrite, WriteSet},
};

use super::{
    Engine, Fatal,
    access::CallState,
    effects::{Checker, Effects},
    items::{Body, Item, write_batch},
    parts::Part,
    setup::OnError,
};

/// The bits of a rule mask, as rule numbers.
pub(super) fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let bit = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        Some(bit)
    })
}

/// What a run produced for later levels and the log.
pub(super) struct Output<'a> {
    pub(super) write_set: &'a mut WriteSet,
    /// Net changes of derived tables.
    pub(super) derived: &'a mut Vec<Change>,
    /// The seq that derived changes get in the log; `None`: that of the item behind them.
    pub(super) log_seq: Option<Seq>,
    /// Rules whose timers fire as the items' times reach them.
    pub(super) timers: u64,
    /// Items are being run again after they had been parked: a fault parks nothing, it is collected here
    /// by item (its place among the items handed in is lost, so by seq).
    pub(super) retry: Option<&'a mut Vec<(Seq, String)>>,
}

impl Engine {
    /// Calls the plugin for these items and takes its effects.
    pub(super) fn run_items(
        &mut self,
        plugin: usize,
        items: Vec<Item<'_>>,
        output: &mut Output<'_>,
    ) -> Result<(), Fatal> {
        let max = self.limits.batch_changes_max.max(1);
        let mut stack: Vec<Part<'_>> = Vec::new();
        if items.len() > max {
            let mut watermark = self.batch_watermark;
            for items in items.chunks(max) {
                let items = items.to_vec();
                let part = Part { items, watermark };
                watermark = part.end();
                stack.push(part);
            }
            stack.reverse();
        } else {
            stack.push(Part {
                items,
                watermark: self.batch_watermark,
            });
        }
        while let Some(Part {
            mut items,
            watermark,
        }) = stack.pop()
        {
            if output.timers != 0 {
                self.fit_timers(plugin, &mut items, output.timers, watermark);
            }
            // A rule may have halted, or a key been parked, since these items were chosen.
            self.drop_refused(plugin, &mut items, output);
            if !items.iter().any(|item| !matches!(item.body, Body::Tick)) {
                continue;
            }
            match self.call(plugin, &mut items, watermark, output)? {
                Outcome::Taken => {}
                Outcome::Again => {
                    self.plugins[plugin].instance = None;
                    stack.push(Part { items, watermark });
                }
                Outcome::Fault(fault) => {
                    self.plugins[plugin].instance = None;
                    tracing::debug!(plugin = &*self.plugins[plugin].name, %fault, items = items.len(), "call faulted");
                    if items.len() > 1 {
                        let right = items.split_off(items.len() / 2);
                        let left = Part { items, watermark };
                        stack.push(Part {
                            items: right,
                            watermark: left.end(),
                        });
                        stack.push(left);
                    } else if items[0].rules.count_ones() > 1 {
                        // Which of the rules it was shows when each gets the item alone.
                        for rule in bits(items[0].rules).collect::<Vec<_>>().into_iter().rev() {
                            let mut alone = items.clone();
                            alone[0].rules = 1 << rule;
                            stack.push(Part {
                                items: alone,
                                watermark,
                            });
                        }
                    } else {
                        let message = fault.to_string();
                        for rule in bits(items[0].rules) {
                            self.take_fault(plugin, rule, &items[0], &message, output);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes away from items the rules that have stopped since, and parks what stands behind a parked key.
    fn drop_refused(&mut self, plugin: usize, items: &mut Vec<Item<'_>>, output: &mut Output<'_>) {
        if output.retry.is_some() {
            return;
        }
        // Rules that stopped in this batch, each with the last seq that it may still handle.
        let mut stopped: Vec<(u64, Seq)> = Vec::new();
        let mut parking = 0;
        for rule in 0..self.plugins[plugin].rules.len() {
            let state = &self.states[self.state_of(plugin, rule)];
            if state.record.status != RuleStatus::Running {
                stopped.push((1 << rule, state.record.cursor));
            } else if !state.parked.is_empty() {
                parking |= 1 << rule;
            }
        }
        if stopped.is_empty() && parking == 0 {
            return;
        }
        for item in items.iter_mut() {
            for &(bit, cursor) in &stopped {
                if item.seq > cursor {
                    item.rules &= !bit;
                }
            }
            if item.rules & parking == 0 {
                continue;
            }
            let Some(key) = item.key() else { continue };
            for rule in bits(item.rules & parking) {
                let state = self.state_of(plugin, rule);
                if self.states[state].waits(&key, item.seq) {
                    item.rules &= !(1 << rule);
                    let behind = "waits behind a parked change of the same key";
                    self.park(plugin, rule, item, behind, output.write_set);
                    if !self.is_running(plugin, rule) {
                        // No room to park it: the rule has halted before it.
                        stopped.push((1 << rule, self.states[state].record.cursor));
                        parking &= !(1 << rule);
                    }
                }
            }
        }
        items.retain(|item| item.rules != 0 || matches!(item.body, Body::Tick));
    }

    fn is_running(&self, plugin: usize, rule: usize) -> bool {
        self.states[self.state_of(plugin, rule)].record.status == RuleStatus::Running
    }

    fn call(
        &mut self,
        plugin: usize,
        items: &mut [Item<'_>],
        watermark: i64,
        output: &mut Output<'_>,
    ) -> Result<Outcome, Fatal> {
        let catalog = self.catalog.load();
        let linked = &mut self.plugins[plugin];
        let tables = linked.tables.clone();
        let batch = write_batch(items, watermark, &tables, &catalog);
        if !batch.unfit.is_empty() {
            for (place, error) in batch.unfit {
                for rule in bits(items[place].rules) {
                    // What stands behind a halt is dropped with all that does.
                    if output.retry.is_some() || self.is_running(plugin, rule) {
                        self.take_fault(plugin, rule, &items[place], &error.to_string(), output);
                        items[place].rules &= !(1 << rule);
                    }
                }
            }
            if output.retry.is_none() && self.plugins[plugin].options.on_error != OnError::Skip {
                return Ok(Outcome::Again);
            }
            if batch.places.is_empty() {
                return Ok(Outcome::Taken);
            }
        }
        let linked = &mut self.plugins[plugin];
        let instance = match &mut linked.instance {
            Some(instance) => instance,
            none => match linked.plugin.instantiate() {
                Ok(instance) => none.insert(instance),
                Err(Fault::Store(error)) => return Err(Fatal::store(error)),
                Err(fault) => return Ok(Outcome::Fault(fault)),
            },
        };
        let state = Arc::new(CallState {
            view: self.view.clone(),
            catalog: catalog.clone(),
            tables: tables.clone(),
            page_rows_max: self.limits.scan_page_rows_max,
            page_bytes_max: self.limits.effects_bytes_max,
        });
        let bytes = match instance.apply(&batch.bytes, state) {
            Ok(bytes) => bytes,
            Err(Fault::Store(error)) => return Err(Fatal::store(error)),
            Err(fault) => return Ok(Outcome::Fault(fault)),
        };
        let checker = Checker {
            tables: &tables,
            catalog: &catalog,
            limits: &self.limits,
            items: batch.places.len(),
            rules: linked.rules.len(),
        };
        let effects = match checker.check(&bytes) {
            Ok(effects) => effects,
            Err(fault) => return Ok(Outcome::Fault(fault)),
        };
        if !effects.faults.is_empty()
            && self.take_faults(plugin, items, &batch.places, &effects, output)
        {
            return Ok(Outcome::Again);
        }
        self.take_effects(plugin, items, &batch.places, effects, &catalog, output)?;
        Ok(Outcome::Taken)
    }

    /// Deals with the errors that rules returned. True if the call must be made again without some
    /// items, because they came after a parked change of the same key or after a rule's halt.
    fn take_faults(
        &mut self,
        plugin: usize,
        items: &mut [Item<'_>],
        places: &[u32],
        effects: &Effects,
        output: &mut Output<'_>,
    ) -> bool {
        let parks =
            self.plugins[plugin].options.on_error == OnError::Park && output.retry.is_none();
        // By item, so that a key's first fault is the one that parks it.
        let mut faults: Vec<_> = effects.faults.iter().collect();
        faults.sort_by_key(|fault| fault.item);
        let mut parked: HashMap<(u16, Key), u32> = HashMap::new();
        let mut halted = 0u64;
        let mut again = false;
        for fault in faults {
            let place = places[fault.item as usize];
            let item = &items[place as usize];
            let bit = 1 << fault.rule;
            if halted & bit != 0 || item.rules & bit == 0 {
                continue;
            }
            if parks && let Some(key) = item.key() {
                let first = *parked.entry((fault.rule, key)).or_insert(place);
                if first != place {
                    // It is parked behind the first when the rest is run again.
                    again = true;
                    continue;
                }
            }
            let rule = usize::from(fault.rule);
            self.take_fault(plugin, rule, item, &fault.message, output);
            if self.states[self.state_of(plugin, rule)].record.status != RuleStatus::Running {
                halted |= bit;
                again = true;
            }
            items[place as usize].rules &= !bit;
        }
        if parked.is_empty() {
            return again;
        }
        let rules = parked.keys().fold(0u64, |mask, (rule, _)| mask | 1 << rule);
        again
            || items.iter().enumerate().any(|(place, item)| {
                item.rules & rules != 0
                    && item.key().is_some_and(|key| {
                        bits(item.rules & rules).any(|rule| {
                            parked
                                .get(&(rule as u16, key.clone()))
                                .is_some_and(|&first| place as u32 > first)
                        })
                    })
            })
    }

    /// Does with one rule's fault on one item what the plugin's `on_error` says.
    fn take_fault(
        &mut self,
        plugin: usize,
        rule: usize,
        item: &Item<'_>,
        message: &str,
        output: &mut Output<'_>,
    ) {
        if let Some(retry) = &mut output.retry {
            retry.push((item.seq, message.to_owned()));
            return;
        }
        let place = self.state_of(plugin, rule);
        let linked = &self.plugins[plugin];
        let name = linked.rules[rule].full_name.clone();
        self.states[place].fault(message);
        let is_row = item.key().is_some();
        match linked.options.on_error {
            OnError::Skip if is_row => {
                tracing::warn!(
                    rule = &*name,
                    seq = item.seq.0,
                    error = message,
                    "skipped a change"
                );
            }
            OnError::Park if is_row => {
                tracing::warn!(
                    rule = &*name,
                    seq = item.seq.0,
                    error = message,
                    "parked a change"
                );
                self.park(plugin, rule, item, message, output.write_set);
            }
            _ => {
                // A timer can't be set aside, so the rule stops before it and the timer stays set.
                tracing::error!(rule = &*name, seq = item.seq.0, error = message, "halted");
                let state = &mut self.states[place];
                state.record.version = self.plugins[plugin].version;
                state.record.status =
                    RuleStatus::Halted(format!("faulted on change {}: {message}", item.seq));
                state.record.cursor = Seq(item.seq.0.saturating_sub(1));
                state.record.at_head = false;
                self.schedule_dirty = true;
            }
        }
    }

    /// Sets a change aside for a rule.
    pub(super) fn park(
        &mut self,
        plugin: usize,
        rule: usize,
        item: &Item<'_>,
        message: &str,
        write_set: &mut WriteSet,
    ) {
        let Body::Change { change, .. } = &item.body else {
            return;
        };
        let place = self.state_of(plugin, rule);
        let state = &mut self.states[place];
        if state.parked_count >= self.limits.dead_letters_max as u64 {
            state.record.version = self.plugins[plugin].version;
            state.record.status = RuleStatus::Halted(format!(
                "{} changes are parked, which is limits.dead_letters_max: retry or drop some, then resume the rule",
                state.parked_count
            ));
            state.record.cursor = Seq(item.seq.0.saturating_sub(1));
            state.record.at_head = false;
            state.dirty = true;
            self.schedule_dirty = true;
            return;
        }
        state.park(change.key.clone(), item.seq);
        state.dirty = true;
        self.last_dead_letter += 1;
        write_set.dead_letters.push(DeadLetter {
            id: self.last_dead_letter,
            plugin: state.record.plugin.clone(),
            rule: state.record.rule.clone(),
            version: self.plugins[plugin].version,
            seq: item.seq,
            table: change.table,
            op: change.op,
            key: change.key.to_vec(),
            before: change.before.as_ref().map(|row| row.to_vec()),
            after: change.after.as_ref().map(|row| row.to_vec()),
            time: change.time,
            error: message.to_owned(),
            parked_at: (self.clock)(),
        });
    }

    fn take_effects(
        &mut self,
        plugin: usize,
        items: &[Item<'_>],
        places: &[u32],
        effects: Effects,
        catalog: &Catalog,
        output: &mut Output<'_>,
    ) -> Result<(), Fatal> {
        let linked = &self.plugins[plugin];
        let item_of = |item: u32| &items[places[item as usize] as usize];
        let version = linked.version;
        let tables = linked.tables.clone();
        let name = linked.name.clone();
        let mut by_table: Vec<TableWrites> = Vec::new();
        let mut writes = effects.writes;
        // Stable, so in the guest's order where one item wrote several rows.
        writes.sort_by_key(|write| write.item);
        for write in writes {
            let table: &Table = catalog.table(tables[usize::from(write.table)].id);
            let before = self.view.row(table, &write.key)?;
            if before == write.row {
                continue;
            }
            // At once: a plugin that breaks its contract and writes a row twice gets what it wrote last.
            self.view_mut()
                .put_derived(table, write.key.clone(), write.row.clone());
            let item = item_of(write.item);
            let change = Change {
                seq: output.log_seq.unwrap_or(item.seq),
                table: table.id,
                op: match (&before, &write.row) {
                    (None, _) => Op::Insert,
                    (Some(_), Some(_)) => Op::Update,
                    (Some(_), None) => Op::Delete,
                },
                key: write.key.clone(),
                before: before.clone(),
                after: write.row.clone(),
                time: item.time,
            };
            output.derived.push(change);
            let rows = match by_table.iter_mut().find(|writes| writes.table == table.id) {
                Some(writes) => &mut writes.rows,
                None => {
                    by_table.push(TableWrites {
                        table: table.id,
                        generation: table.generation,
                        rows: Vec::new(),
                    });
                    let last = by_table.len() - 1;
                    &mut by_table[last].rows
                }
            };
            rows.push(RowWrite {
                key: write.key,
                before: if table.indexes.is_empty() {
                    None
                } else {
                    before
                },
                after: write.row,
                seq: item.seq,
                version,
            });
        }
        output.write_set.tables.append(&mut by_table);
        // Timers that were delivered are spent, unless the effects set them again.
        let mut timers: Vec<TimerWrite> = Vec::new();
        let rules = &self.plugins[plugin].plugin.manifest().rules;
        for &place in places {
            if let Body::Timer { rule, key, .. } = &items[place as usize].body {
                timers.push(TimerWrite {
                    plugin: name.to_string(),
                    rule: rules[usize::from(*rule)].name.clone(),
                    key: key.clone(),
                    due: None,
                });
            }
        }
        for timer in effects.timers {
            timers.push(TimerWrite {
                plugin: name.to_string(),
                rule: rules[usize::from(timer.rule)].name.clone(),
                key: timer.key,
                due: timer.due,
            });
        }
        let mut ordinals: HashMap<(u16, u32), u32> = HashMap::new();
        for notification in effects.notifications {
            let item = item_of(notification.item);
            let ordinal = ordinals
                .entry((notification.rule, notification.item))
                .or_default();
            output.write_set.notifications.push(Notification {
                id: 0,
                seq: item.seq,
                plugin: name.to_string(),
                rule: rules[usize::from(notification.rule)].name.clone(),
                ordinal: *ordinal,
                topic: notification.topic,
                body: notification.body,
                time: item.time,
            });
            *ordinal += 1;
        }
        for timer in timers {
            self.timers.apply(&timer);
            output.write_set.timers.push(timer);
        }
        // Items handled, by rule.
        let mut counts = [0u64; 64];
        for &place in places {
            for rule in bits(items[place as usize].rules) {
                counts[rule] += 1;
            }
        }
        let rules = self.plugins[plugin].rules.len();
        for (rule, count) in counts.into_iter().enumerate().take(rules) {
            if count > 0 {
                let place = self.state_of(plugin, rule);
                let state = &mut self.states[place];
                state.record.changes += count;
                state.record.version = version;
                state.dirty = true;
            }
        }
        Ok(())
    }
}

enum Outcome {
    Taken,
    /// The same items again, less those that are now refused.
    Again,
    Fault(Fault),
}
