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
mod tests {
    use rulemill_wire::manifest::Index;

    use super::*;

    fn column(name: &str, ty: ColumnType, nullable: bool) -> Column {
        Column {
            name: name.into(),
            ty,
            nullable,
        }
    }

    fn table(name: &str, access: Access) -> Table {
        Table {
            name: name.into(),
            access,
            columns: vec![
                column("id", ColumnType::I64, false),
                column("Größe in cm", ColumnType::F64, true),
            ],
            key: vec![0],
            indexes: Vec::new(),
        }
    }

    fn rule(name: &str, input: Input, writes: &[u16]) -> Rule {
        Rule {
            name: name.into(),
            input,
            lookups: Vec::new(),
            writes: writes.to_vec(),
            notifies: false,
            sets_timers: false,
        }
    }

    /// Two source tables, one of them listed twice, and two rules, one fed by the other.
    fn honest() -> Manifest {
        let mut whole = table("public.users", Access::Read);
        whole.columns[1] = column(WHOLE_ROW, ColumnType::Json, false);
        let mut indexed = table("sizes", Access::Own);
        indexed.indexes = vec![Index {
            columns: vec![1, 0],
        }];
        Manifest {
            name: "shop".into(),
            version: "1.0".into(),
            tables: vec![
                table("public.users", Access::Read),
                indexed,
                table("months", Access::Own),
                whole,
            ],
            rules: vec![
                rule("sizes", Input::Changes(0), &[1]),
                rule("months", Input::Changes(1), &[2]),
                rule("reminders", Input::Timers, &[]),
            ],
        }
    }

    fn limits() -> Limits {
        Limits {
            table_columns_max: 3,
            plugin_tables_max: 5,
            ..Limits::default()
        }
    }

    #[test]
    fn an_honest_manifest_passes() {
        assert_eq!(super::check(&honest(), &limits()), Ok(()));
    }

    #[track_caller]
    fn check(expected: &str, lie: fn(&mut Manifest)) {
        let mut manifest = honest();
        lie(&mut manifest);
        assert_eq!(super::check(&manifest, &limits()), Err(expected.into()));
    }

    #[test]
    fn names() {
        check("the plugin's name is empty", |m| m.name.clear());
        check("the plugin's name \"a\\nb\" has control characters", |m| {
            m.name = "a\nb".into();
        });
        check("the plugin's version is longer than 255 bytes", |m| {
            m.version = "1".repeat(256);
        });
        check("a rule has an empty name", |m| m.rules[0].name.clear());
        check("a rule \"a.b\" has the character '.' in its name", |m| {
            m.rules[0].name = "a.b".into();
        });
        check("it has two rules named sizes", |m| {
            m.rules[1].name = "sizes".into();
        });
        check("a table has an empty name", |m| m.tables[0].name.clear());
        check("a table \"a/b\" has the character '/' in its name", |m| {
            m.tables[0].name = "a/b".into();
        });
        check("a table \"a\\0\" has control characters", |m| {
            m.tables[0].name = "a\0".into();
        });
        check("a column of table sizes has an empty name", |m| {
            m.tables[1].columns[1].name.clear();
        });
        check(
            "a column of table sizes \"a'b\" has the character '\\'' in its name",
            |m| m.tables[1].columns[1].name = "a'b".into(),
        );
        check("table sizes has two columns named id", |m| {
            m.tables[1].columns[1].name = "id".into();
        });
    }

    #[test]
    fn counts() {
        check("it has no rules", |m| m.rules.clear());
        check(
            "it has 65 rules, and the plugin interface's maximum is 64",
            |m| {
                m.rules = (0..65)
                    .map(|n| rule(&format!("r{n}"), Input::Changes(0), &[]))
                    .collect();
            },
        );
        check("it has 6 tables, and limits.plugin_tables_max is 5", |m| {
            m.tables
                .extend([table("a", Access::Read), table("b", Access::Read)]);
        });
        check(
            "table months has 4 columns, and limits.table_columns_max is 3",
            |m| {
                m.tables[2].columns.extend([
                    column("a", ColumnType::Bool, true),
                    column("b", ColumnType::Bool, true),
                ]);
            },
        );
    }

    #[test]
    fn keys_and_indexes() {
        check("table sizes has no key", |m| m.tables[1].key.clear());
        check(
            "the key of table sizes names column number 2, and there are 2",
            |m| m.tables[1].key = vec![0, 2],
        );
        check("the key of table sizes names column id twice", |m| {
            m.tables[1].key = vec![0, 0];
        });
        check(
            "column id of table sizes is part of its key, and may be null",
            |m| m.tables[1].columns[0].nullable = true,
        );
        check(
            "column id of table sizes is part of its key, which the type json can't be",
            |m| m.tables[1].columns[0].ty = ColumnType::Json,
        );
        check("index 0 of table sizes has no columns", |m| {
            m.tables[1].indexes[0].columns.clear();
        });
        check(
            "index 0 of table sizes names column number 9, and there are 2",
            |m| m.tables[1].indexes[0].columns = vec![9],
        );
        check("index 0 of table sizes names column id twice", |m| {
            m.tables[1].indexes[0].columns = vec![0, 0];
        });
        check("index 0 of table public.users names the whole row", |m| {
            m.tables[3].indexes = vec![Index { columns: vec![1] }];
        });
    }

    #[test]
    fn whole_rows() {
        check(
            "the column * of table public.users must be json and not nullable",
            |m| m.tables[3].columns[1].ty = ColumnType::Text,
        );
        check(
            "the column * of table public.users must be json and not nullable",
            |m| m.tables[3].columns[1].nullable = true,
        );
        check(
            "table sizes is owned and has a column *, which stands for the whole row of a table \
             that is read",
            |m| m.tables[1].columns[1] = column(WHOLE_ROW, ColumnType::Json, false),
        );
    }

    #[test]
    fn tables_listed_twice() {
        check("table sizes is owned and listed twice", |m| {
            m.tables[2].name = "sizes".into();
        });
        check("table sizes is owned and listed twice", |m| {
            m.tables[3].name = "sizes".into();
        });
        check(
            "table public.users is listed twice with different keys",
            |m| m.tables[3].columns[0].name = "number".into(),
        );
        check(
            "column id of table public.users is i64 in one place and text in another",
            |m| m.tables[3].columns[0].ty = ColumnType::Text,
        );
    }

    #[test]
    fn rules() {
        check(
            "rule sizes gets the changes of table number 4, and there are 4",
            |m| m.rules[0].input = Input::Changes(4),
        );
        check("rule sizes looks up table number 7, and there are 4", |m| {
            m.rules[0].lookups = vec![0, 7]
        });
        check("rule sizes writes table number 7, and there are 4", |m| {
            m.rules[0].writes = vec![7];
        });
        check(
            "rule sizes writes table public.users, which the plugin only reads",
            |m| m.rules[0].writes = vec![0],
        );
        check(
            "rule months writes table sizes, whose changes it gets",
            |m| m.rules[1].writes = vec![1, 2],
        );
        check(
            "rule months gets the changes of table sizes, which the plugin owns and no rule writes",
            |m| m.rules[0].writes.clear(),
        );
    }
}
