//! Each check of a manifest, by a lie that it finds.

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
