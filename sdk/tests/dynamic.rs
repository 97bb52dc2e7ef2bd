//! A plugin built from its configuration, over the harness: what a typed one does, it does too.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use rulemill_sdk::{
    dynamic::{Change, ColumnType, Context, Plugin, Range, Record, Table, Value, to_json},
    prelude::{Delta, Outcome, Row, json, reject},
    testing::Harness,
};

use rulemill_sdk::Change as RowChange;

#[derive(Row, Clone)]
#[table(source = "orders")]
struct Order {
    #[key]
    id: i64,
    user: i64,
    amount: i64,
}

#[derive(Row)]
#[table(source = "users")]
struct User {
    #[key]
    id: i64,
    name: String,
}

#[derive(serde::Deserialize)]
struct Settings {
    /// Orders above it are refused.
    largest: i64,
}

fn ids(rows: &[Record]) -> Vec<serde_json::Value> {
    rows.iter().map(|row| to_json(&row.values()[0])).collect()
}

fn build(settings: Settings) -> Result<Plugin, String> {
    let mut plugin = Plugin::new();
    let orders = plugin.table(
        Table::source("orders")
            .column("id", ColumnType::I64)
            .column("user", ColumnType::I64)
            .column("amount", ColumnType::I64)
            .key(["id"]),
    )?;
    let users = plugin.table(
        Table::source("users")
            .column("id", ColumnType::I64)
            .column("name", ColumnType::Text)
            .key(["id"]),
    )?;
    let totals = plugin.table(
        Table::derived("totals")
            .column("user", ColumnType::I64)
            .nullable("name", ColumnType::Text)
            .column("amount", ColumnType::I64)
            .key(["user"])
            .index(["name"])
            .index(["amount"]),
    )?;
    let largest = settings.largest;
    let written = totals.clone();
    plugin
        .rule("totals")
        .on(&orders)
        .looks_up(&users)
        .writes(&totals)
        .notifies()
        .sets_timers()
        .runs(move |change, context| {
            for Delta { row, sign } in change.deltas() {
                let key = [row.value("user")?.clone()];
                let name = match context.get(&users, &key)? {
                    Some(user) => user.value("name")?.clone(),
                    None => Value::Null,
                };
                let total = context.entry(&written, &key)?;
                let amount = total.i64("amount")? + row.i64("amount")? * sign;
                total.set("amount", Value::I64(amount))?;
                total.set("name", name)?;
                if amount == 0 {
                    context.remove(&written, &key)?;
                }
                let due = context.now();
                context.set_timer("later", row.i64("user")?.to_string(), due)?;
                if row.i64("amount")? > largest {
                    reject!("too large");
                }
            }
            let most = context.scan(&written, &Range::all().index(1).descending().limit(2))?;
            let nobody = context.scan(&written, &Range::prefix([Value::Null]).index(0))?;
            let some = context.scan(&written, &Range::between([Value::I64(2)], [Value::I64(4)]))?;
            let ids = json!([ids(&most), ids(&nobody), ids(&some)]);
            context.notify("seen", &ids)?;
            Ok(())
        })?;
    plugin
        .rule("later")
        .writes(&totals)
        .notifies()
        .runs_timers(move |timer, context| {
            let key = [Value::I64(timer.key.parse()?)];
            let total = context.get(&totals, &key)?;
            context.notify("later", &json!([timer.key, total]))?;
            Ok(())
        })?;
    Ok(plugin)
}

rulemill_sdk::dynamic_plugin!(build);

fn run(batch: usize) -> String {
    let config = json!({ "largest": 100 });
    let mut harness = Harness::with_config(plugin(), &config)
        .unwrap()
        .batches_of(batch);
    let order = |id, user, amount| Order { id, user, amount };
    harness.push(RowChange::insert(order(1, 1, 5)));
    harness.push(RowChange::insert(User {
        id: 1,
        name: "Ada".into(),
    }));
    harness.push(RowChange::insert(order(2, 2, 7)));
    harness.push(RowChange::insert(order(3, 1, 4)));
    harness.push(RowChange::insert(order(4, 3, 500)));
    harness.push(RowChange::update(order(2, 2, 7), order(2, 3, 7)));
    harness.push(RowChange::delete(order(2, 3, 7)));
    harness.run();
    format!(
        "{:?} {:?} {:?} {:?}",
        harness.values("totals"),
        harness.notifications(),
        harness.faults(),
        harness.timers()
    )
}

#[test]
fn a_dynamic_plugin_does_what_a_typed_one_does() {
    let serial = run(1);
    assert!(
        serial.starts_with(r#"[[I64(1), Text("Ada"), I64(9)]]"#),
        "{serial}"
    );
    assert!(serial.contains("too large"), "{serial}");
    assert!(serial.contains(r#"body: "[[1,2],[2],[2]]""#), "{serial}");
    assert!(
        serial.contains(r#"[\"1\",{\"user\":1,\"name\":\"Ada\",\"amount\":9}]"#)
            || serial.contains(r#"[\"1\",{\"amount\":9,\"name\":\"Ada\",\"user\":1}]"#),
        "{serial}"
    );
    for batch in [2, 3, 4, 100] {
        assert_eq!(run(batch), serial, "in batches of {batch}");
    }
}

#[test]
fn wrong_use_is_an_error_that_says_what_to_do() {
    let mut plugin = Plugin::new();
    let id = |table: Table| table.column("id", ColumnType::I64).key(["id"]);
    let users = plugin.table(id(Table::source("users"))).unwrap();
    let own = plugin.table(id(Table::derived("own"))).unwrap();
    fn runs(_: &Change, _: &mut Context<'_>) -> Outcome {
        Ok(())
    }
    for (result, expected) in [
        (
            plugin.rule("r").runs(runs),
            "rule r listens to nothing: name its table with `on`",
        ),
        (
            plugin.rule("r").on(&users).writes(&users).runs(runs),
            "rule r writes table users, which the plugin only reads: make it with `Table::derived`",
        ),
        (
            plugin.rule("r").on(&users).looks_up(&own).runs(runs),
            "rule r looks up table own, which the plugin owns: use `writes`",
        ),
        (
            plugin
                .table(Table::derived("t").column("x", ColumnType::F64).key(["x"]))
                .map(|_| ()),
            "column x of table t can't be part of the key: it is f64",
        ),
        (
            plugin
                .table(Table::derived("t").column("x", ColumnType::I64).key(["y"]))
                .map(|_| ()),
            "table t has no column y for its key or an index",
        ),
    ] {
        assert_eq!(result, Err(expected.to_owned()));
    }
}

fn undeclared(_: ()) -> Result<Plugin, String> {
    let mut plugin = Plugin::new();
    let id = |table: Table| table.column("id", ColumnType::I64).key(["id"]);
    let users = plugin.table(id(Table::source("users")))?;
    let own = plugin.table(id(Table::derived("own")))?;
    plugin
        .rule("sneaky")
        .on(&users)
        .runs(move |change, context| {
            if change.row().i64("id")? == 1 {
                context.notify("x", "y")?;
            }
            context.insert(&own, own.record())?;
            Ok(())
        })?;
    Ok(plugin)
}

mod sneaky {
    rulemill_sdk::dynamic_plugin!(super::undeclared);
}

#[test]
fn what_a_rule_did_not_declare_it_can_not_do() {
    let mut harness = Harness::new(sneaky::plugin()).unwrap();
    harness.push(RowChange::insert(User {
        id: 1,
        name: String::new(),
    }));
    harness.push(RowChange::insert(User {
        id: 2,
        name: String::new(),
    }));
    harness.run();
    let messages: Vec<_> = harness
        .faults()
        .iter()
        .map(|fault| &*fault.message)
        .collect();
    assert_eq!(
        messages,
        [
            "rule sneaky did not declare `notifies`",
            "rule sneaky did not declare table own: add `looks_up` or `writes`"
        ]
    );
    assert!(harness.values("own").is_empty());
}
