//! Taking effects: rows, timers and notifications into the view and the write set.

use crate::{
    catalog::{Catalog, Table},
    change::{Change, Op},
    store::{Notification, RowWrite, TableWrites, TimerWrite},
};

use super::{
    Engine, Fatal,
    effects::Effects,
    items::{Body, Item, bits},
    rebuild,
    run::Output,
};

impl Engine {
    /// Takes what a plugin returned for these items.
    pub(super) fn take_effects(
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
        let mut left = writes.len();
        output.derived.reserve(left);
        for write in writes {
            left -= 1;
            let table: &Table = catalog.table(tables[usize::from(write.table)].id);
            let before = self.view.row(table, &write.key)?;
            if before == write.row {
                continue;
            }
            // At once: a plugin that breaks its contract and writes a row twice gets what it wrote last.
            self.view_mut()
                .put_derived(table, write.key.clone(), write.row.clone());
            let item = item_of(write.item);
            let indexed_before = match table.indexes.is_empty() {
                true => None,
                false => before.clone(),
            };
            let change = Change {
                seq: output.log_seq.unwrap_or(item.seq),
                cause: item.cause,
                table: table.id,
                op: Op::between(&before, &write.row),
                key: write.key.clone(),
                before,
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
                        rows: Vec::with_capacity(left + 1),
                    });
                    let last = by_table.len() - 1;
                    &mut by_table[last].rows
                }
            };
            rows.push(RowWrite {
                key: write.key,
                before: indexed_before,
                after: write.row,
                seq: item.cause,
                version,
            });
        }
        output.write_set.tables.append(&mut by_table);
        // Timers that were delivered are spent, unless the effects set them again. One that was parked has long been, and what is set
        // under its key is another.
        let mut timers: Vec<TimerWrite> = Vec::new();
        let rules = &self.plugins[plugin].plugin.manifest().rules;
        let delivered = match output.retry {
            Some(_) => &[],
            None => places,
        };
        for &place in delivered {
            let item = &items[place as usize];
            if item.rules != 0
                && let Body::Timer { rule, key, .. } = &item.body
            {
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
        let is_silent = rebuild::is_shadow(&name);
        for notification in effects.notifications {
            if is_silent {
                continue;
            }
            let item = item_of(notification.item);
            output.write_set.notifications.push(Notification {
                id: 0,
                seq: item.cause,
                plugin: name.to_string(),
                rule: rules[usize::from(notification.rule)].name.clone(),
                ordinal: 0,
                topic: notification.topic,
                body: notification.body,
                time: item.time,
            });
        }
        for timer in timers {
            self.timers.apply(&timer);
            output.write_set.timers.push(timer);
        }
        // Items handled, by rule.
        let mut counts = [0u64; 64];
        // The first stands twice where a tick was put before it.
        let repeated = usize::from(places.len() > 1 && places[0] == places[1]);
        for &place in &places[repeated..] {
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
                state.window.add(count, 0, &self.limits);
            }
        }
        self.close_gaps(plugin, items, places, output);
        Ok(())
    }

    /// What its rules now know of the rows that they were told of. What is run again after it was parked comes before whatever they have
    /// missed since.
    fn close_gaps(
        &mut self,
        plugin: usize,
        items: &[Item<'_>],
        places: &[u32],
        output: &mut Output<'_>,
    ) {
        if output.retry.is_some() {
            return;
        }
        for rule in 0..self.plugins[plugin].rules.len() {
            let state = self.state_of(plugin, rule);
            if self.states[state].gaps.is_empty() {
                continue;
            }
            for &place in places {
                let item = &items[place as usize];
                if item.rules & 1 << rule != 0
                    && let Some(key) = item.key()
                    && self.states[state].is_behind_gap(key, item.order())
                {
                    self.close_gap(state, key, output.write_set);
                }
            }
        }
    }
}
