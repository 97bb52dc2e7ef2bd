//! What the store holds, in the words of the recomputation.

use std::collections::{BTreeMap, BTreeSet};

use rulemill::{
    catalog::Catalog,
    change::Seq,
    row,
    store::{DeadLetter, LetterState, ParkedChange, Reader, RuleStatus, Store, Subject},
};
use rulemill_tests::rig;
use rulemill_wire::ValueRef;

use crate::{
    feed::Source,
    model::{Model, Status},
};

/// Derived tables, and the plugins that make them.
pub(crate) const DERIVED: [(&str, &str); 15] = [
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
    ("users_total", "follow"),
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
///
/// In the end all must be as if nothing had ever failed, but for what depends on when it was made: `remade` are the plugins that were
/// made again, or stood still in the face of timers, and the tables whose rules have skipped what the log had forgotten.
pub(crate) fn compare(
    store: &Store,
    model: &Model,
    depth: Depth,
    remade: &BTreeSet<&'static str>,
) -> Result<(), String> {
    if let Some(what) = &model.complaint
        && depth != Depth::Steady
    {
        return Err(what.clone());
    }
    let reader = store.reader().map_err(|error| error.to_string())?;
    let catalog = reader.catalog().map_err(|error| error.to_string())?;
    for source in Source::ALL {
        table(store, model, source.name())?;
    }
    // First what says why a table differs.
    if depth != Depth::Steady {
        rules(&reader, &catalog, model, depth, remade)?;
    }
    for (name, plugin) in DERIVED {
        let steady = plugin == "carts" && !remade.contains("carts");
        // What was skipped stays so, and what was looked up of a table that stood still as well.
        let by_time = matches!(name, "names" | "counts" | "reminded" | "tardy_sums");
        let is_apart = by_time && remade.contains(plugin) || remade.contains(name);
        let stays = depth == Depth::Mended && (matches!(plugin, "lenient" | "reader") || is_apart);
        // A plugin that was never loaded has no tables.
        let is_there = catalog.by_name(name).is_some();
        if is_there && !stays && (steady || depth != Depth::Steady) {
            table(store, model, name)?;
        }
    }
    let has_timers = depth == Depth::All || !remade.contains("carts");
    if has_timers {
        same("timers", &timers(&reader)?, &model.timers())?;
    }
    index(&reader, &catalog)?;
    let mut sent = notifications(&reader)?;
    let mut expected = model.notifications.clone();
    if depth == Depth::Mended || model.disordered.contains("shop.notices") {
        sent.values_mut().for_each(|sent| sent.sort());
        expected.values_mut().for_each(|sent| sent.sort());
    }
    let senders = [("shop.notices", "shop"), ("carts.remind", "carts")];
    let is_one = |rule: &&String| senders.iter().any(|(sender, _)| sender == rule);
    if let Some(rule) = sent.keys().find(|rule| !is_one(rule)) {
        return Err(format!("{rule} has sent something"));
    }
    for (rule, plugin) in senders {
        let is_known = depth == Depth::All || !remade.contains(plugin);
        if is_known && (depth != Depth::Steady || plugin == "carts") {
            let lines =
                |of: &BTreeMap<&str, Vec<String>>| of.get(rule).cloned().unwrap_or_default();
            let sent = sent.get(rule).cloned().unwrap_or_default();
            same(rule, &sent, &lines(&expected))?;
        }
    }
    let found = logged(&reader, &catalog)?;
    let least = model.changes.saturating_sub(model.forgotten);
    match depth {
        Depth::Steady => Ok(()),
        _ if found == least => Ok(()),
        _ => Err(format!(
            "{found} changes of source tables in the log, expected {least}"
        )),
    }
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
            let rule = format!("{}.{}", timer.plugin, timer.rule);
            let due = timer.due.unwrap_or_default();
            Ok(format!("{rule} {} {due}", timer.key))
        })
        .collect::<Result<Vec<_>, _>>()
        .map(|mut timers| {
            timers.sort();
            timers
        })
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

/// The changes of source tables that the log holds: each under a seq of its own.
pub(crate) fn logged(reader: &Reader, catalog: &Catalog) -> Result<usize, String> {
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
    Ok(found)
}

/// What a dead letter is of: the simulated rules fail at no timer.
pub(crate) fn change(letter: &DeadLetter) -> Result<&ParkedChange, String> {
    match &letter.subject {
        Subject::Change(change) => Ok(change),
        Subject::Timer(timer) => Err(format!(
            "{}.{} has parked a timer: {timer:?}",
            letter.plugin, letter.rule
        )),
    }
}

/// A parked change's rule and line, as the recomputation says it.
pub(crate) fn letter_line(catalog: &Catalog, letter: &DeadLetter) -> Result<String, String> {
    let change = change(letter)?;
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
    Ok(format!("{before} -> {after} at {}", letter.time))
}

/// What is parked, by rule; each rule's by key, each key's in the order in which they are run again.
pub(crate) fn parked(reader: &Reader) -> Result<BTreeMap<String, Vec<DeadLetter>>, String> {
    let mut parked: BTreeMap<String, Vec<DeadLetter>> = BTreeMap::new();
    for letter in reader.dead_letters().map_err(text)? {
        let letter = letter.map_err(text)?;
        if letter.state != LetterState::Skipped {
            let rule = format!("{}.{}", letter.plugin, letter.rule);
            parked.entry(rule).or_default().push(letter);
        }
    }
    for letters in parked.values_mut() {
        let changes = letters.iter().map(change);
        changes.collect::<Result<Vec<_>, _>>()?;
        letters.sort_by_cached_key(|letter| {
            let key = change(letter).map(|change| change.key.clone());
            (key.unwrap_or_default(), letter.seq, letter.nth)
        });
    }
    Ok(parked)
}

/// The rules' states and what is parked.
fn rules(
    reader: &Reader,
    catalog: &Catalog,
    model: &Model,
    depth: Depth,
    remade: &BTreeSet<&'static str>,
) -> Result<(), String> {
    let mut parked = parked(reader)?;
    let records = reader.rules().map_err(text)?;
    let mut expected: BTreeMap<String, (Status, Vec<String>, Option<u64>)> = BTreeMap::new();
    for deployment in &model.deployments {
        for (name, status) in deployment.statuses() {
            expected.insert(name, (status, Vec::new(), None));
        }
        for rule in &deployment.rules {
            let known = expected.get_mut(&deployment.full_name(rule.name));
            let known = known.ok_or("a rule without a status")?;
            known.1 = rule.parked_lines();
            known.2 = Some(rule.handled);
        }
    }
    for record in &records {
        let name = format!("{}.{}", record.plugin, record.rule);
        let status = match &record.status {
            RuleStatus::Running => Status::Running,
            RuleStatus::Paused => Status::Paused,
            RuleStatus::Halted(_) => Status::Halted,
            RuleStatus::Tripped(_) => Status::Tripped,
            RuleStatus::Unloaded => Status::Unloaded,
        };
        let Some((known, letters, handled)) = expected.remove(&name) else {
            return Err(format!("nobody knows of rule {name}: {record:?}"));
        };
        if known != status {
            return Err(format!(
                "{name} is {:?}, expected {known:?}; its record: {record:?}",
                record.status
            ));
        }
        let found: Vec<String> = parked
            .remove(&name)
            .into_iter()
            .flatten()
            .map(|letter| letter_line(catalog, &letter))
            .collect::<Result<_, _>>()?;
        same(&format!("parked for {name}"), &found, &letters)?;
        let stays = depth == Depth::Mended
            && (record.plugin == "lenient" || remade.contains(&*record.plugin));
        if let Some(handled) = handled
            && !stays
            && record.changes != handled
        {
            return Err(format!(
                "{name} has handled {} changes, expected {handled} ({depth:?})",
                record.changes
            ));
        }
        if depth == Depth::Mended && !(record.at_head && record.backfill.is_none()) {
            return Err(format!("{name} is not at the head: {record:?}"));
        }
    }
    // A plugin that never came is known to the recomputation of the end only.
    if let Some((name, _)) = expected.into_iter().next()
        && depth != Depth::Mended
    {
        return Err(format!("there is no rule {name}"));
    }
    match parked.into_iter().next() {
        Some((rule, _)) => Err(format!("changes are parked for {rule}, which nobody knows")),
        None => Ok(()),
    }
}
