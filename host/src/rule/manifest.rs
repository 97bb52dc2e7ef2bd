//! Whether a manifest holds together: against itself and the limits.
//!
//! Owns the checks that need nothing but the manifest. Whether it fits the tables that are there is
//! the engine's to say. The first thing that is wrong is told, by name.

use std::collections::{HashMap, HashSet};

use rulemill_wire::{
    ColumnType,
    manifest::{Access, Column, Input, Manifest, RULES_MAX, Rule, Table, WHOLE_ROW},
};

use crate::limits::Limits;

/// A name, in bytes, at the most.
const NAME_BYTES_MAX: usize = 255;

/// Checks a manifest.
///
/// # Errors
/// What is wrong, in a sentence.
pub(super) fn check(manifest: &Manifest, limits: &Limits) -> Result<(), String> {
    check_label("the plugin's name", &manifest.name)?;
    if manifest.name.is_empty() {
        return Err("the plugin's name is empty".into());
    }
    check_label("the plugin's version", &manifest.version)?;
    check_count(
        "tables",
        manifest.tables.len(),
        "limits.plugin_tables_max",
        limits.plugin_tables_max,
    )?;
    for table in &manifest.tables {
        check_table(table, limits)?;
    }
    check_same_tables(&manifest.tables)?;
    if manifest.rules.is_empty() {
        return Err("it has no rules".into());
    }
    check_count(
        "rules",
        manifest.rules.len(),
        "the plugin interface's maximum",
        RULES_MAX,
    )?;
    let mut names = HashSet::new();
    for rule in &manifest.rules {
        check_rule(rule, manifest)?;
        if !names.insert(&rule.name) {
            return Err(format!("it has two rules named {}", rule.name));
        }
    }
    Ok(())
}

fn check_count(what: &str, count: usize, limit: &str, max: usize) -> Result<(), String> {
    if count > max {
        return Err(format!("it has {count} {what}, and {limit} is {max}"));
    }
    Ok(())
}

/// A text for people: short, on one line.
fn check_label(what: &str, text: &str) -> Result<(), String> {
    if text.len() > NAME_BYTES_MAX {
        return Err(format!("{what} is longer than {NAME_BYTES_MAX} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{what} {text:?} has control characters"));
    }
    Ok(())
}

/// Refuses a name that is empty, long, or has characters for which `allowed` is false.
fn check_name(what: &str, name: &str, allowed: impl Fn(char) -> bool) -> Result<(), String> {
    if name.is_empty() {
        return Err(format!("{what} has an empty name"));
    }
    check_label(what, name)?;
    match name.chars().find(|&c| !allowed(c)) {
        Some(bad) => Err(format!(
            "{what} {name:?} has the character {bad:?} in its name"
        )),
        None => Ok(()),
    }
}

/// Whether a rule's or a plugin file's name may have the character. Not the dot: `plugin.rule` is a
/// rule's full name.
pub(super) fn is_rule_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

/// Whether a table's name may have the character: what stands in a URL's path as it is.
fn is_table_name_char(c: char) -> bool {
    is_rule_name_char(c) || matches!(c, '.' | '$')
}

/// Whether a column's name may have the character. Sources name columns, spaces and all.
fn is_column_name_char(c: char) -> bool {
    !matches!(c, '"' | '\'' | '`')
}

fn check_table(table: &Table, limits: &Limits) -> Result<(), String> {
    check_name("a table", &table.name, is_table_name_char)?;
    let name = &table.name;
    let max = limits.table_columns_max;
    if table.columns.len() > max {
        return Err(format!(
            "table {name} has {} columns, and limits.table_columns_max is {max}",
            table.columns.len()
        ));
    }
    let mut names = HashSet::new();
    for column in &table.columns {
        check_column(table, column)?;
        if !names.insert(&column.name) {
            return Err(format!(
                "table {name} has two columns named {}",
                column.name
            ));
        }
    }
    if table.key.is_empty() {
        return Err(format!("table {name} has no key"));
    }
    let key = places(
        &format!("the key of table {name}"),
        &table.key,
        &table.columns,
    )?;
    for column in key {
        if column.nullable {
            return Err(format!(
                "column {} of table {name} is part of its key, and may be null",
                column.name
            ));
        }
        if !column.ty.can_be_key() {
            return Err(format!(
                "column {} of table {name} is part of its key, which the type {} can't be",
                column.name, column.ty
            ));
        }
    }
    for (number, index) in table.indexes.iter().enumerate() {
        let what = format!("index {number} of table {name}");
        if index.columns.is_empty() {
            return Err(format!("{what} has no columns"));
        }
        for column in places(&what, &index.columns, &table.columns)? {
            if column.name == WHOLE_ROW {
                return Err(format!("{what} names the whole row"));
            }
        }
    }
    Ok(())
}

fn check_column(table: &Table, column: &Column) -> Result<(), String> {
    if column.name != WHOLE_ROW {
        let what = format!("a column of table {}", table.name);
        return check_name(&what, &column.name, is_column_name_char);
    }
    if table.access == Access::Own {
        return Err(format!(
            "table {} is owned and has a column {WHOLE_ROW}, which stands for the whole row of a table that is read",
            table.name
        ));
    }
    if column.ty != ColumnType::Json || column.nullable {
        return Err(format!(
            "the column {WHOLE_ROW} of table {} must be json and not nullable",
            table.name
        ));
    }
    Ok(())
}

/// The columns at these places, each there and named once.
fn places<'a>(
    what: &str,
    places: &[u16],
    columns: &'a [Column],
) -> Result<Vec<&'a Column>, String> {
    let mut found = Vec::with_capacity(places.len());
    for (number, &place) in places.iter().enumerate() {
        let Some(column) = columns.get(usize::from(place)) else {
            return Err(format!(
                "{what} names column number {place}, and there are {}",
                columns.len()
            ));
        };
        if places[..number].contains(&place) {
            return Err(format!("{what} names column {} twice", column.name));
        }
        found.push(column);
    }
    Ok(found)
}

/// Entries of the same table: only a table that is read may stand twice, and must be the same there.
fn check_same_tables(tables: &[Table]) -> Result<(), String> {
    let mut first: HashMap<&str, &Table> = HashMap::new();
    let mut types: HashMap<(&str, &str), ColumnType> = HashMap::new();
    for table in tables {
        let name = &table.name;
        if let Some(other) = first.insert(name, table) {
            if table.access == Access::Own || other.access == Access::Own {
                return Err(format!("table {name} is owned and listed twice"));
            }
            if !table
                .key_columns()
                .map(|c| &c.name)
                .eq(other.key_columns().map(|c| &c.name))
            {
                return Err(format!("table {name} is listed twice with different keys"));
            }
        }
        for column in &table.columns {
            if let Some(ty) = types.insert((name, &column.name), column.ty)
                && ty != column.ty
            {
                return Err(format!(
                    "column {} of table {name} is {ty} in one place and {} in another",
                    column.name, column.ty
                ));
            }
        }
    }
    Ok(())
}

fn check_rule(rule: &Rule, manifest: &Manifest) -> Result<(), String> {
    check_name("a rule", &rule.name, is_rule_name_char)?;
    let name = &rule.name;
    let table = |what: &str, number: u16| {
        manifest.tables.get(usize::from(number)).ok_or_else(|| {
            format!(
                "rule {name} {what} table number {number}, and there are {}",
                manifest.tables.len()
            )
        })
    };
    for &number in &rule.lookups {
        table("looks up", number)?;
    }
    for &number in &rule.writes {
        let written = table("writes", number)?;
        if written.access != Access::Own {
            return Err(format!(
                "rule {name} writes table {}, which the plugin only reads",
                written.name
            ));
        }
    }
    let Input::Changes(number) = rule.input else {
        return Ok(());
    };
    let input = table("gets the changes of", number)?;
    if rule.writes.contains(&number) {
        return Err(format!(
            "rule {name} writes table {}, whose changes it gets",
            input.name
        ));
    }
    let written = manifest
        .rules
        .iter()
        .any(|other| other.writes.contains(&number));
    if input.access == Access::Own && !written {
        return Err(format!(
            "rule {name} gets the changes of table {}, which the plugin owns and no rule writes",
            input.name
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
