//! What the store holds, in the words of the recomputation.

use std::collections::BTreeMap;

use rulemill::{
    catalog::Catalog,
    change::Seq,
    row,
    store::{LetterState, Reader, RuleStatus, Store, Subject},
};
use rulemill_tests::rig;
use rulemill_wire::ValueRef;

use crate::{
    feed::Source,
    model::{BUCKETS, Model, Status},
};

/// Derived tables, and the plugins that make them.
pub(crate) const DERIVED: [(&str, &str); 14] = [
    ("totals", "shop"),
    ("buckets", "shop"),
    ("flags", "shop"),
    ("refused", "shop"),
    ("names", "enrich"),
    ("shaky", "enrich"),
    ("entries", "stock"),
    ("levels", "stock"),
    ("counts", "ledger"),
    ("reminded", "carts"),
    ("lenient_sums", "lenient"),
    ("standings", "reader"),
    ("late_sums", "late"),
    ("tardy_sums", "tardy"),
];

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Everything, rules' states and parked changes with it.
    All,
    /// What doesn't depend on where rules that were stopped stand.
    Steady,
    /// Everything, once nothing is parked; notifications in any order.
    Mended,
}

/// Compares the store with what it must hold.
pub(crate) fn compare(store: &Store, model: &Model, depth: Depth) -> Result<(), String> {
    let reader = store.reader().map_err(|error| error.to_string())?;
    let catalog = reader.catalog().map_err(|error| error.to_string())?;
    for source in Source::ALL {
        table(store, model, source.name())?;
    }
    // First what says why a table differs.
    if depth != Depth::Steady {
        rules(&reader, &catalog, model, depth)?;
    }
    for (name, plugin) in DERIVED {
        let steady = plugin == "carts";
        // What was skipped stays so, and what was looked up of a table that stood still as well.
        let stays = depth == Depth::Mended && matches!(plugin, "lenient" | "reader");
        // A plugin that was never loaded has no tables.
        let is_there = catalog.by_name(name).is_some();
        if is_there && !stays && (steady || depth != Depth::Steady) {
            table(store, model, name)?;
        }
    }
    same("timers", &timers(&reader)?, &model.timers())?;
    index(&reader, &catalog)?;
    let mut sent = notifications(&reader)?;
    let mut expected = model.notifications.clone();
    let in_order = |rule: &crate::model::Rule| rule.name != "shop.notices" || !rule.has_retried;
    if depth == Depth::Mended || !model.rules.iter().all(in_order) {
        sent.values_mut().for_each(|sent| sent.sort());
        expected.values_mut().for_each(|sent| sent.sort());
    }
    for rule in ["shop.notices", "carts.remind"] {
        if depth != Depth::Steady || rule == "carts.remind" {
            let lines =
                |of: &BTreeMap<&str, Vec<String>>| of.get(rule).cloned().unwrap_or_default();
            let sent = sent.get(rule).cloned().unwrap_or_default();
            same(rule, &sent, &lines(&expected))?;
        }
    }
    if depth == Depth::Mended {
        log(&reader, &catalog, model)?;
    }
    Ok(())
}

fn table(store: &Store, model: &Model, name: &str) -> Result<(), String> {
    let found = rig::rows(store, name).map_err(|error| format!("table {name}: {error}"))?;
    same(&format!("table {name}"), &found, &model.rows(name))
}

/// Says where two lists of lines part.
pub(crate) fn same(what: &str, found: &[String], expected: &[String]) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let place = found
        .iter()
        .zip(expected)
        .take_while(|(found, expected)| found == expected)
        .count();
    let show = |lines: &[String]| {
        let lines: Vec<_> = lines.iter().skip(place).take(4).collect();
        format!("{lines:?}")
    };
    Err(format!(
        "{what}: {} entries, expected {}; from entry {place} on it holds\n  {}\nexpected\n  {}",
        found.len(),
        expected.len(),
        show(found),
        show(expected)
    ))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn timers(reader: &Reader) -> Result<Vec<String>, String> {
    reader
        .timers()
        .map_err(text)?
        .map(|timer| {
            let timer = timer.map_err(text)?;
            Ok(format!("{} {}", timer.key, timer.due.unwrap_or_default()))
        })
        .collect()
}

/// Notifications by rule, in order.
pub(crate) fn notifications(reader: &Reader) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut by_rule: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for notification in reader.notifications(0).map_err(text)? {
        let sent = notification.map_err(text)?;
        let rule = format!("{}.{}", sent.plugin, sent.rule);
        let line = format!("{} {}", sent.topic, sent.body);
        by_rule.entry(rule).or_default().push(line);
    }
    Ok(by_rule)
}

/// The index of `entries` holds what its rows say.
fn index(reader: &Reader, catalog: &Catalog) -> Result<(), String> {
    let Some(table) = catalog.by_name("entries") else {
        return Ok(());
    };
    let mut by_rows = Vec::new();
    for stored in reader.rows(table, &[], None, false).map_err(text)? {
        let (_, stored) = stored.map_err(text)?;
        by_rows.push(stored.row);
    }
    let level = |bytes: &[u8]| match row::value(bytes, 1) {
        Ok(ValueRef::I64(level)) => level,
        _ => 0,
    };
    // Stable: entries of one level stay in the order of their keys.
    by_rows.sort_by_key(|row| level(row));
    let mut by_index = Vec::new();
    for entry in reader
        .index_rows(table, 0, &[], None, false)
        .map_err(text)?
    {
        by_index.push(entry.map_err(text)?.2.row);
    }
    if by_index != by_rows {
        return Err("the index of entries doesn't fit its rows".into());
    }
    Ok(())
}

/// Every change of a source table is in the log, under a seq of its own.
fn log(reader: &Reader, catalog: &Catalog, model: &Model) -> Result<(), String> {
    let mut last = Seq(0);
    let mut found = 0;
    for change in reader.log(Seq(0)).map_err(text)? {
        let change = change.map_err(text)?;
        if catalog.table(change.table).is_derived() {
            continue;
        }
        if change.seq <= last {
            return Err(format!("seq {} comes after {last} in the log", change.seq));
        }
        last = change.seq;
        found += 1;
    }
    if found != model.changes {
        return Err(format!(
            "{found} changes of source tables in the log, expected {}",
            model.changes
        ));
    }
    Ok(())
}

/// The rules' states and what is parked.
fn rules(reader: &Reader, catalog: &Catalog, model: &Model, depth: Depth) -> Result<(), String> {
    let mut parked: BTreeMap<String, Vec<(Vec<u8>, Seq, String)>> = BTreeMap::new();
    for letter in reader.dead_letters().map_err(text)? {
        let letter = letter.map_err(text)?;
        if letter.state == LetterState::Skipped {
            continue;
        }
        let rule = format!("{}.{}", letter.plugin, letter.rule);
        let Subject::Change(change) = letter.subject else {
            return Err(format!("{rule} has parked a timer: {:?}", letter.subject));
        };
        let table = catalog.table(change.table);
        let row = |bytes: &Option<Vec<u8>>| {
            let mut cells = Vec::new();
            for (column, value) in table
                .columns
                .iter()
                .zip(row::values(bytes.as_deref().unwrap_or_default()))
            {
                if let Ok(ValueRef::I64(value)) = value {
                    cells.push(format!("{}={value}", column.name));
                }
            }
            cells.join(" ")
        };
        let (before, after) = (row(&change.before), row(&change.after));
        let line = format!("{rule}: {before} -> {after} at {}", letter.time);
        parked
            .entry(rule)
            .or_default()
            .push((change.key, letter.seq, line));
    }
    for letters in parked.values_mut() {
        // By key, each key's in the order in which they are run again.
        letters.sort();
    }
    let records = reader.rules().map_err(text)?;
    for record in &records {
        let name = format!("{}.{}", record.plugin, record.rule);
        let status = match &record.status {
            RuleStatus::Running => Status::Running,
            RuleStatus::Paused => Status::Paused,
            RuleStatus::Halted(_) => Status::Halted,
            RuleStatus::Tripped(_) => Status::Tripped,
            RuleStatus::Unloaded => Status::Unloaded,
        };
        let found: Vec<String> = parked
            .remove(&name)
            .into_iter()
            .flatten()
            .map(|(.., line)| line)
            .collect();
        let place = model.rules.iter().position(|rule| rule.name == name);
        let (expected, letters) = match place {
            Some(place) => (Some(model.rules[place].status), model.parked(place)),
            None if name == BUCKETS => (model.buckets_status(), Vec::new()),
            None => (Some(Status::Running), Vec::new()),
        };
        if expected != Some(status) {
            return Err(format!(
                "{name} is {:?}, expected {expected:?}; its record: {record:?}",
                record.status
            ));
        }
        same(&format!("parked for {name}"), &found, &letters)?;
        if let Some(place) = place
            && name != "late.sums"
            && (name != "lenient.sums" || depth != Depth::Mended)
            && record.changes != model.rules[place].handled
        {
            return Err(format!(
                "{name} has handled {} changes, expected {} ({depth:?})",
                record.changes, model.rules[place].handled
            ));
        }
        if depth == Depth::Mended && !(record.at_head && record.backfill.is_none()) {
            return Err(format!("{name} is not at the head: {record:?}"));
        }
    }
    match parked.into_iter().next() {
        Some((rule, _)) => Err(format!("changes are parked for {rule}, which nobody knows")),
        None => Ok(()),
    }
}
