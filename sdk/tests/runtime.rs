//! Whole plugins over the harness: what batching must not show, undo, timers, scans, lookups.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use rulemill_sdk::{
    prelude::*,
    testing::{Fault, Harness},
    wire::manifest::{Access, Input, Manifest},
};

#[derive(Row, Clone)]
#[table(source = "orders")]
struct Order {
    #[key]
    id: i64,
    user_id: i64,
    product: String,
    amount: Decimal,
}

#[derive(Row, Clone)]
#[table(source = "users")]
struct User {
    #[key]
    id: i64,
    name: String,
}

#[derive(Row, Default, Debug, PartialEq, Clone)]
#[table(derived = "totals", index(orders, revenue))]
struct Total {
    #[key]
    product: String,
    #[index]
    orders: i64,
    revenue: Decimal,
    #[index]
    last_user: Option<String>,
}

#[derive(Row, Default, Debug, PartialEq)]
#[table(derived = "summary")]
struct Summary {
    #[key]
    id: i64,
    products: i64,
    revenue: Decimal,
    best: String,
    scanned: i64,
}

#[derive(Row, Default, Debug, PartialEq)]
#[table(derived = "user_days")]
struct UserDay {
    #[key]
    user_id: i64,
    #[key]
    day: Date,
    orders: i64,
}

#[derive(serde::Deserialize)]
struct Settings {
    #[serde(default)]
    largest: Option<i64>,
}

#[rule]
fn totals(
    change: Change<Order>,
    totals: &mut Table<Total>,
    users: &Lookup<User>,
    config: &Config<Settings>,
) -> Outcome {
    for Delta { row, sign } in change.deltas() {
        let user = users.get(row.user_id)?.map(|user| user.name.clone());
        let total = totals.entry(row.product.clone())?;
        total.orders += sign;
        total.revenue += row.amount * sign;
        total.last_user = user;
        let empty = total.orders == 0;
        // After the write, so that there is something to undo.
        if let Some(largest) = config.largest
            && row.amount > largest.into()
        {
            reject!("order {} is too large", row.id);
        }
        if empty {
            totals.remove(row.product.clone())?;
        }
    }
    Ok(())
}

#[rule]
fn days(
    change: Change<Order>,
    days: &mut Table<UserDay>,
    notify: &mut Notify,
    now: Now,
) -> Outcome {
    let user = change.row().user_id;
    days.entry((user, now.date()))?.orders += 1;
    if days.prefix(user).count() > 1 {
        notify.send("came-back", &user)?;
    }
    Ok(())
}

/// A rule over a table of the same plugin, which scans it in the order of an index.
#[rule]
fn best(change: Change<Total>, summary: &mut Table<Summary>) -> Outcome {
    let summary = summary.entry(0)?;
    for Delta { row, sign } in change.deltas() {
        summary.products += sign;
        summary.revenue += row.revenue * sign;
    }
    Ok(())
}

rulemill_sdk::plugin!(totals, days, best);

fn order(id: i64, user_id: i64, product: &str, amount: i64) -> Order {
    Order {
        id,
        user_id,
        product: product.into(),
        amount: amount.into(),
    }
}

fn user(id: i64, name: &str) -> User {
    User {
        id,
        name: name.into(),
    }
}

fn minute(minute: i64) -> Timestamp {
    Timestamp::from_micros(minute * 60_000_000).unwrap()
}

fn harness(batch: usize) -> Harness {
    let config = json!({ "largest": 1000 });
    Harness::with_config(plugin(), &config)
        .unwrap()
        .batches_of(batch)
}

#[test]
fn a_plugin_can_move_to_another_thread() {
    let plugin = plugin();
    let described = std::thread::spawn(move || {
        let mut plugin = plugin;
        plugin.describe("null").is_ok()
    });
    assert!(described.join().unwrap());
}

#[test]
fn the_manifest_is_made_from_the_signatures() {
    let manifest = Manifest::from_bytes(&plugin().describe("null").unwrap()).unwrap();
    let tables: Vec<_> = manifest
        .tables
        .iter()
        .map(|t| (t.name.as_str(), t.access))
        .collect();
    assert_eq!(
        tables,
        [
            ("orders", Access::Read),
            ("totals", Access::Own),
            ("users", Access::Read),
            ("user_days", Access::Own),
            ("summary", Access::Own),
        ]
    );
    let rules: Vec<_> = manifest
        .rules
        .iter()
        .map(|r| (r.name.as_str(), r.input))
        .collect();
    assert_eq!(
        rules,
        [
            ("totals", Input::Changes(0)),
            ("days", Input::Changes(0)),
            ("best", Input::Changes(1))
        ]
    );
    let first = &manifest.rules[0];
    assert_eq!(
        (&first.lookups[..], &first.writes[..]),
        (&[2][..], &[1][..])
    );
    assert!(manifest.rules[1].notifies && !manifest.rules[1].sets_timers);
    let indexes: Vec<_> = manifest.tables[1]
        .indexes
        .iter()
        .map(|i| i.columns.clone())
        .collect();
    assert_eq!(indexes, [vec![1], vec![3], vec![1, 2]]);
    assert_eq!(manifest.tables[3].key, [0, 1]);
    assert_eq!(manifest.name, "rulemill-sdk");
}

/// Everything that a run leaves, as text.
fn run(batch: usize) -> String {
    let mut harness = harness(batch);
    harness
        .at(minute(0))
        .push(Change::read(user(1, "Ada")))
        .push(Change::insert(user(2, "Bob")));
    let pencil = order(1, 1, "pencil", 5);
    harness.push(Change::insert(pencil.clone()));
    harness.push(Change::update(user(1, "Ada"), user(1, "Augusta")));
    harness.at(minute(24 * 60));
    harness.push(Change::insert(order(2, 1, "paper", 7)));
    harness.push(Change::update(pencil, order(1, 1, "paper", 6)));
    harness.push(Change::insert(order(3, 2, "paper", 5000)));
    harness.push(Change::insert(order(4, 2, "ink", 9000)));
    harness.push(Change::insert(order(5, 2, "ink", 9)));
    harness.push(Change::delete(user(2, "Bob")));
    harness.push(Change::delete(order(5, 2, "ink", 9)));
    harness.run();
    format!(
        "{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
        harness.rows::<Total>(),
        harness.rows::<Summary>(),
        harness.rows::<UserDay>(),
        harness.notifications(),
        harness.faults()
    )
}

#[test]
fn batching_is_not_visible() {
    let serial = run(1);
    assert!(
        serial.contains("too large") && serial.contains("came-back"),
        "{serial}"
    );
    for batch in [2, 3, 4, 5, 100] {
        assert_eq!(run(batch), serial, "in batches of {batch}");
    }
}

#[test]
fn a_lookup_is_as_of_its_change() {
    let mut harness = harness(100);
    harness.push(Change::insert(order(1, 1, "a", 1)));
    harness.push(Change::insert(user(1, "Ada")));
    harness.push(Change::insert(order(2, 1, "b", 1)));
    harness.push(Change::update(user(1, "Ada"), user(1, "Augusta")));
    harness.push(Change::insert(order(3, 1, "c", 1)));
    harness.push(Change::delete(user(1, "Augusta")));
    harness.push(Change::insert(order(4, 1, "d", 1)));
    harness.run();
    let seen: Vec<_> = harness
        .rows::<Total>()
        .into_iter()
        .map(|t| t.last_user)
        .collect();
    assert_eq!(
        seen,
        [None, Some("Ada".into()), Some("Augusta".into()), None]
    );
}

#[test]
fn an_error_undoes_one_rule_for_one_change() {
    let mut harness = harness(100);
    harness.push(Change::insert(order(1, 1, "pencil", 5)));
    harness.push(Change::insert(order(2, 1, "pencil", 5000)));
    harness.push(Change::insert(order(3, 1, "paper", 5000)));
    harness.push(Change::insert(order(4, 1, "pencil", 2)));
    harness.run();
    let totals: Vec<_> = harness
        .rows::<Total>()
        .into_iter()
        .map(|t| (t.product, t.orders, t.revenue))
        .collect();
    assert_eq!(totals, [("pencil".into(), 2, 7.into())]);
    // The other rule over the same changes counted all of them.
    assert_eq!(harness.rows::<UserDay>()[0].orders, 4);
    let fault = |seq, id| Fault {
        rule: "totals".into(),
        seq,
        message: format!("order {id} is too large"),
    };
    assert_eq!(harness.faults(), [fault(2, 2), fault(3, 3)]);
}

#[test]
fn a_wrong_configuration_says_where() {
    let error = Harness::with_config(plugin(), &json!({ "largest": "big" })).unwrap_err();
    assert!(
        error.contains("rule totals: wrong configuration") && error.contains("line 1 column"),
        "{error}"
    );
}

mod keys {
    use super::*;

    #[rule]
    fn moves_a_row(change: Change<Order>, totals: &mut Table<Total>) -> Outcome {
        totals.entry(change.row().product.clone())?.product = "other".into();
        Ok(())
    }

    rulemill_sdk::plugin!(moves_a_row);

    #[test]
    fn a_row_must_keep_its_key() {
        let mut harness = Harness::new(plugin()).unwrap();
        harness.push(Change::insert(order(1, 1, "pencil", 5))).run();
        assert!(harness.rows::<Total>().is_empty());
        let message = &harness.faults()[0].message;
        assert!(
            message.contains("table totals") && message.contains("\"pencil\""),
            "{message}"
        );
    }
}

mod scans {
    use super::*;

    fn products(rows: Scan<'_, Total>) -> Vec<String> {
        rows.map(|row| row.unwrap().product).collect()
    }

    #[rule]
    fn scan(change: Change<Order>, totals: &mut Table<Total>, notify: &mut Notify) -> Outcome {
        let row = change.row();
        // Scanned first, so that the overlays have to follow what comes after.
        let before = products(totals.by(Total::BY_ORDERS, row.amount.to_string().parse::<i64>()?));
        let total = totals.entry(row.product.clone())?;
        total.orders = row.amount.to_string().parse()?;
        total.last_user = (row.user_id != 0).then(|| format!("user {}", row.user_id));
        if change.after.is_none() {
            totals.remove(row.product.clone())?;
        }
        let all = products(totals.range(..));
        let back = products(totals.range(..).descending());
        let some = products(totals.range("b".."d"));
        let most = products(totals.by_range(Total::BY_ORDERS, ..).descending().limit(2));
        let nobody = products(totals.by(Total::BY_LAST_USER, None));
        let pairs = products(totals.by(Total::BY_ORDERS_REVENUE, 5));
        notify.send(
            "seen",
            &json!([before, all, back, some, most, nobody, pairs]),
        )?;
        if row.id == 99 {
            reject!("undone");
        }
        Ok(())
    }

    rulemill_sdk::plugin!(scan);

    fn run(batch: usize) -> Vec<String> {
        let mut harness = Harness::new(plugin()).unwrap().batches_of(batch);
        for (id, user, product, orders) in [
            (1, 0, "d", 5),
            (2, 1, "b", 3),
            (3, 0, "a", 5),
            (99, 0, "0", 9),
            (4, 2, "c", 1),
            (5, 2, "b", 7),
        ] {
            harness.push(Change::insert(order(id, user, product, orders)));
        }
        harness.push(Change::delete(order(6, 2, "a", 5)));
        harness.run();
        harness
            .notifications()
            .iter()
            .map(|sent| sent.body.clone())
            .collect()
    }

    #[test]
    fn scans_merge_the_batch_with_the_host() {
        let serial = run(1);
        // The notification of the change that failed is undone with the rest.
        assert_eq!(serial.len(), 6);
        assert_eq!(
            serial[4],
            r#"[[],["a","b","c","d"],["d","c","b","a"],["b","c"],["b","d"],["a","d"],["a","d"]]"#
        );
        assert_eq!(
            serial[5],
            r#"[["a","d"],["b","c","d"],["d","c","b"],["b","c"],["b","d"],["d"],["d"]]"#
        );
        for batch in [2, 3, 4, 10] {
            assert_eq!(run(batch), serial, "in batches of {batch}");
        }
    }
}

mod timers {
    use super::*;

    #[rule]
    fn orders(change: Change<Order>, timers: &mut Timers, now: Now) -> Outcome {
        let row = change.row();
        if row.amount == 0.into() {
            timers.clear("late", row.product.clone())?;
        } else {
            let minutes: i64 = row.amount.to_string().parse()?;
            timers.set("late", row.product.clone(), now.plus_minutes(minutes)?)?;
        }
        if row.product == "bad" {
            timers.clear("late", "a")?;
            reject!("bad");
        }
        if row.product == "unknown rule" {
            timers.set("early", "x", *now)?;
        }
        Ok(())
    }

    #[rule]
    fn late(timer: Timer, timers: &mut Timers, notify: &mut Notify, now: Now) -> Outcome {
        assert_eq!(timer.due, *now);
        notify.send("late", &json!([timer.key, timer.due]))?;
        if let Some(left) = timer.key.strip_suffix('+') {
            timers.set("late", left, timer.due)?;
        }
        Ok(())
    }

    rulemill_sdk::plugin!(orders, late);

    fn run(batch: usize) -> (Vec<String>, String) {
        let mut harness = Harness::new(plugin()).unwrap().batches_of(batch);
        for (at, product, minutes) in [
            (0, "a", 10),
            (1, "b", 5),
            (2, "b", 3),   // moves to 5
            (2, "c++", 1), // due at 3, sets c+, which sets c
            (3, "d", 4),
            (4, "d", 0), // clears d
            (5, "e", 0),
            (6, "bad", 3),
            (7, "unknown rule", 1),
            (9, "f", -5), // overdue when set: before the next change
            (10, "a", 5), // a fires at 10 first, and is set anew
            (11, "z", 1),
            (15, "y", 100),
        ] {
            harness
                .at(minute(at))
                .push(Change::insert(order(1, 1, product, minutes)));
        }
        harness.run();
        let sent = harness
            .notifications()
            .iter()
            .map(|sent| sent.body.clone())
            .collect();
        (
            sent,
            format!("{:?} {:?}", harness.timers(), harness.faults()),
        )
    }

    #[test]
    fn timers_fire_in_order_whatever_the_batches() {
        let (sent, rest) = run(1);
        let at = |key: &str, minute: u32| format!(r#"["{key}","1970-01-01T00:{minute:02}:00Z"]"#);
        assert_eq!(
            sent,
            [
                at("c++", 3),
                at("c+", 3),
                at("c", 3),
                at("b", 5),
                at("f", 4),
                at("a", 10),
                at("z", 12),
                at("a", 15)
            ]
        );
        assert!(
            rest.contains(r#"key: "y""#) && !rest.contains(r#"key: "d""#),
            "{rest}"
        );
        assert!(
            rest.contains("no rule early takes a `Timer`") && rest.contains("those that do: late"),
            "{rest}"
        );
        for batch in [2, 3, 4, 5, 7, 100] {
            assert_eq!(
                run(batch),
                (sent.clone(), rest.clone()),
                "in batches of {batch}"
            );
        }
    }

    #[test]
    fn time_alone_fires_timers() {
        let mut harness = Harness::new(plugin()).unwrap();
        harness
            .at(minute(0))
            .push(Change::insert(order(1, 1, "a", 10)))
            .run();
        harness.advance(minute(9));
        assert!(harness.notifications().is_empty());
        harness.advance(minute(10));
        assert_eq!(harness.notifications().len(), 1);
        assert!(harness.timers().is_empty());
    }
}
