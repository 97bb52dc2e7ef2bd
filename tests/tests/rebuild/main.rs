//! A plugin's tables made again beside themselves: readers see the old ones or the new, other plugins are told what differs, and
//! nothing of the changes that come meanwhile is lost.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod differences;
mod tail;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rulemill::{
    change::RawOp,
    engine::{
        Backfill, Control, ControlError, OnError, PluginEvent, PluginOptions, TableOptions, Turned,
    },
    http::read,
    store::Store,
};
use rulemill_tests::{
    native::Make,
    random::{Random, from_environment},
    rig::{Options, Rig, TestChange, rows},
};
use rulemill_wire::ValueRef;

/// Totals by user. The versions differ in the type of `amount` (not optional, so that the table can't be taken over) and in
/// what they count.
macro_rules! totals {
    ($name:ident, $amount:ty, $factor:expr) => {
        mod $name {
            use rulemill_sdk::prelude::*;

            #[derive(Row)]
            #[table(source = "orders")]
            pub struct Order {
                #[key]
                id: i64,
                user_id: i64,
                amount: i64,
            }

            #[derive(Row, Default)]
            #[table(derived = "totals")]
            pub struct Total {
                #[key]
                user_id: i64,
                orders: i64,
                amount: $amount,
            }

            #[rule]
            pub fn totals(
                change: Change<Order>,
                totals: &mut Table<Total>,
                notify: &mut Notify,
            ) -> Outcome {
                for Delta { row, sign } in change.deltas() {
                    if row.amount == 13 {
                        return Err("thirteen".into());
                    }
                    let total = totals.entry(row.user_id)?;
                    total.orders += sign * $factor;
                    total.amount += <$amount>::from(row.amount * sign);
                    if total.orders == 0 {
                        totals.remove(row.user_id)?;
                    }
                }
                notify.send("changed", &change.key())?;
                Ok(())
            }

            rulemill_sdk::plugin!(totals);
        }
    };
}

totals!(first, i64, 1);
totals!(second, Decimal, 2);

/// Another plugin, which is called for the changes of those totals.
mod grand {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "totals")]
    pub struct Total {
        #[key]
        user_id: i64,
        orders: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "grand")]
    pub struct Grand {
        #[key]
        id: i64,
        users: i64,
        orders: i64,
    }

    #[rule]
    pub fn grand(change: Change<Total>, grand: &mut Table<Grand>) -> Outcome {
        for Delta { row, sign } in change.deltas() {
            let total = grand.entry(0)?;
            total.users += sign;
            total.orders += sign * row.orders;
        }
        Ok(())
    }

    rulemill_sdk::plugin!(grand);
}

const FIRST: (&str, Make, &str) = ("shop", first::plugin, "1");
const GRAND: (&str, Make, &str) = ("grand", grand::plugin, "1");

fn order<'a>(op: RawOp, id: i64, user_id: i64, amount: i64) -> TestChange<'a> {
    TestChange {
        table: "orders",
        op,
        row: vec![
            ("id", ValueRef::I64(id)),
            ("user_id", ValueRef::I64(user_id)),
            ("amount", ValueRef::I64(amount)),
        ],
        time: Some(1_000_000 + id),
    }
}

fn options() -> Options {
    let mut options = Options::default();
    // Several steps for a few rows.
    options.limits.batch_changes_max = 16;
    options
}

fn rebuild(rig: &Rig, cancel: bool) -> Result<(), ControlError> {
    rig.handle.ask(|reply| Control::Rebuild {
        plugin: "shop".to_owned(),
        cancel,
        reply,
    })
}

/// While a plugin is rebuilt it has each rule twice.
#[test]
fn a_short_name_is_that_of_the_rule_that_serves() {
    let store = Arc::new(Store::in_memory().unwrap());
    let rig = Rig::start(store, &options(), &[FIRST, GRAND]).unwrap();
    some(&rig);
    // The switch waits for whoever reads the tables.
    pause_grand(&rig, true);
    rig.load("shop", second::plugin, "2").unwrap_err();
    rebuild(&rig, false).unwrap();
    rig.wait_for(|status| status.rules["shop:rebuild.totals"].status == "running");
    let rule = "totals".to_owned();
    let paused = rig.handle.ask(|reply| Control::Pause { rule, reply });
    assert_eq!(paused.unwrap().rule, "shop.totals");
    // Both fault on this one; only one is asked for.
    let rule = "totals".to_owned();
    let resumed = rig.handle.ask(|reply| Control::Resume {
        rule,
        skip_gap: false,
        reply,
    });
    assert_eq!(resumed.unwrap().rule, "shop.totals");
    rig.wait_for(|status| status.rules["shop.totals"].status == "running");
    rig.apply(&[order(RawOp::Insert, 200, 1, 13)]).unwrap();
    let shown = |rule: &str| -> Vec<String> {
        let query = read::LettersQuery {
            rule: Some(rule.to_owned()),
            ..read::LettersQuery::default()
        };
        let reader = rig.store.reader().unwrap();
        let letters = read::dead_letters(&reader, &options().limits, &query).unwrap();
        let names = letters.dead_letters.into_iter().map(|letter| letter.rule);
        names.collect()
    };
    assert_eq!(shown("totals"), ["shop.totals"]);
    assert_eq!(shown("shop:rebuild.totals"), ["shop:rebuild.totals"]);
    let dropped = rig.handle.ask(|reply| Control::DropDeadLetters {
        rule: Some("totals".to_owned()),
        id: None,
        reply,
    });
    assert_eq!(dropped, Ok(1));
    assert_eq!(shown("totals"), [""; 0]);
    assert_eq!(shown("shop:rebuild.totals").len(), 1);
}

fn is_rebuilt(rig: &Rig) {
    rig.wait_for(|status| status.plugins["shop"].rebuild.is_none());
}

fn notifications(rig: &Rig) -> usize {
    let reader = rig.store.reader().unwrap();
    reader.notifications(0).unwrap().count()
}

/// Orders of 100, by twenty users.
fn some(rig: &Rig) {
    for id in 1..=100 {
        rig.apply(&[order(RawOp::Insert, id, id % 20, 10)]).unwrap();
    }
}

#[test]
fn a_table_made_otherwise_asks_for_a_rebuild_and_gets_it() {
    let store = Arc::new(Store::in_memory().unwrap());
    let rig = Rig::start(store, &options(), &[FIRST, GRAND]).unwrap();
    some(&rig);
    assert_eq!(rig.rows("grand").unwrap(), ["id=0 users=20 orders=100"]);
    let refused = rig
        .load("shop", second::plugin, "2")
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("column amount was i64 and would become decimal")
            && refused.contains("`rulemill rebuild shop`"),
        "{refused}"
    );
    // The old one goes on.
    rig.apply(&[order(RawOp::Insert, 101, 0, 10)]).unwrap();
    assert_eq!(
        rig.rows("totals").unwrap()[0],
        "user_id=0 orders=6 amount=60"
    );
    let sent = notifications(&rig);
    rebuild(&rig, false).unwrap();
    is_rebuilt(&rig);
    rig.wait_for(|_| rig.rows("totals").unwrap()[0] == "user_id=0 orders=12 amount=60");
    assert_eq!(rig.rows("totals").unwrap().len(), 20);
    // Whoever is called for the totals is told row by row what differs.
    rig.wait_for(|_| rig.rows("grand").unwrap() == ["id=0 users=20 orders=202"]);
    assert_eq!(notifications(&rig), sent);
    // What comes now goes through the new code, and is told again.
    rig.apply(&[order(RawOp::Delete, 101, 0, 0)]).unwrap();
    assert_eq!(
        rig.rows("totals").unwrap()[0],
        "user_id=0 orders=10 amount=50"
    );
    assert_eq!(rig.rows("grand").unwrap(), ["id=0 users=20 orders=200"]);
    assert_eq!(notifications(&rig), sent + 1);
    // A restart finds the new tables, under the new code.
    let store = rig.stop().unwrap();
    let plugins = [("shop", second::plugin as Make, "2"), GRAND];
    let rig = Rig::start(store, &options(), &plugins).unwrap();
    assert!(rig.handle.board.load().plugins["shop"].refused.is_none());
    rig.apply(&[order(RawOp::Insert, 102, 0, 10)]).unwrap();
    assert_eq!(
        rig.rows("totals").unwrap()[0],
        "user_id=0 orders=12 amount=60"
    );
    let names: Vec<String> = rig
        .handle
        .catalog
        .load()
        .tables()
        .filter(|table| table.is_serving())
        .map(|table| table.name.clone())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

/// Readers take snapshots all the while: in each, every user's orders are counted once, or every user's twice.
#[test]
fn no_reader_sees_a_mixture() {
    let store = Arc::new(Store::in_memory().unwrap());
    let rig = Rig::start(store.clone(), &options(), &[FIRST, GRAND]).unwrap();
    some(&rig);
    rig.load("shop", second::plugin, "2").unwrap_err();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut old, mut new) = (0, 0);
            loop {
                // Asked first, so that a reader that is late looks once at least.
                let is_last = over.load(Ordering::SeqCst);
                let totals = rows(&store, "totals").unwrap();
                assert_eq!(totals.len(), 20);
                let counted_once = |row: &&String| row.contains(" orders=5 ");
                match totals.iter().filter(counted_once).count() {
                    20 => old += 1,
                    0 => new += 1,
                    some => panic!("{some} of 20 rows are old: {totals:?}"),
                }
                if is_last {
                    return (old, new);
                }
            }
        });
        rebuild(&rig, false).unwrap();
        is_rebuilt(&rig);
        rig.wait_for(|_| rig.rows("totals").unwrap()[0].contains(" orders=10 "));
        over.store(true, Ordering::SeqCst);
        let (old, new) = reader.join().unwrap();
        assert!(old + new > 0);
    });
}

/// Random changes before, during and after, with restarts in the middle and parked changes, against a plain count.
#[test]
fn what_comes_meanwhile_is_counted() {
    let first = from_environment("RULEMILL_SEED", 0);
    let seeds = if first == 0 { 1..=12 } else { first..=first };
    for seed in seeds {
        let mut random = Random::new(seed);
        let store = Arc::new(Store::in_memory().unwrap());
        let mut rig = Rig::start(store, &options(), &[FIRST, GRAND]).unwrap();
        let mut orders = std::collections::BTreeMap::new();
        let mut change = |rig: &Rig, random: &mut Random| {
            for _ in 0..random.between(1, 30) {
                let id = random.between(1, 60);
                if random.one_in(4) {
                    orders.remove(&id);
                    rig.apply(&[order(RawOp::Delete, id, 0, 0)]).unwrap();
                } else {
                    let amount = if random.one_in(15) {
                        13
                    } else {
                        random.between(1, 9)
                    };
                    let user = random.between(1, 5);
                    orders.insert(id, (user, amount));
                    rig.apply(&[order(RawOp::Upsert, id, user, amount)])
                        .unwrap();
                }
            }
        };
        for _ in 0..3 {
            change(&rig, &mut random);
        }
        rig.load("shop", second::plugin, "2").unwrap_err();
        rebuild(&rig, false).unwrap();
        if random.one_in(3) {
            change(&rig, &mut random);
            // Both are there after a restart: what goes on, and what is to come.
            let store = rig.stop().unwrap();
            rig = Rig::start_over(
                store,
                &options(),
                ("shop", second::plugin, "2"),
                FIRST,
                &[GRAND],
            )
            .unwrap();
        }
        if random.one_in(3) {
            change(&rig, &mut random);
            // Unless it was quicker.
            if rebuild(&rig, true).is_ok() {
                change(&rig, &mut random);
                rebuild(&rig, false).unwrap();
            }
        }
        change(&rig, &mut random);
        is_rebuilt(&rig);
        change(&rig, &mut random);
        // The rows that couldn't be counted are mended, and what was given up is made up for with each row's next change.
        rig.handle
            .ask(|reply| Control::DropDeadLetters {
                rule: None,
                id: None,
                reply,
            })
            .unwrap();
        for id in 1..=60 {
            rig.apply(&[order(RawOp::Upsert, id, 1, 1)]).unwrap();
            match orders.get_mut(&id) {
                None => rig.apply(&[order(RawOp::Delete, id, 0, 0)]).unwrap(),
                Some((user, amount)) => {
                    if *amount == 13 {
                        *amount = 1;
                    }
                    rig.apply(&[order(RawOp::Upsert, id, *user, *amount)])
                        .unwrap()
                }
            };
        }
        let mut totals = std::collections::BTreeMap::new();
        for (user, amount) in orders.values() {
            let total: &mut (i64, i64) = totals.entry(*user).or_default();
            total.0 += 2;
            total.1 += amount;
        }
        let expected: Vec<String> = totals
            .iter()
            .map(|(user, (orders, amount))| {
                format!("user_id={user} orders={orders} amount={amount}")
            })
            .collect();
        assert_eq!(
            rig.rows("totals").unwrap(),
            expected,
            "repeat with RULEMILL_SEED={seed}"
        );
        let all: i64 = totals.values().map(|(orders, _)| orders).sum();
        let grand = format!("id=0 users={} orders={all}", totals.len());
        rig.wait_for(|status| status.rules["grand.grand"].status == "running");
        assert_eq!(
            rig.rows("grand").unwrap(),
            [grand],
            "repeat with RULEMILL_SEED={seed}"
        );
        let mut store = rig.stop().unwrap();
        let mut findings = Vec::new();
        Arc::get_mut(&mut store)
            .unwrap()
            .verify(&mut |finding| findings.push(finding))
            .unwrap();
        assert!(findings.is_empty(), "{findings:#?}");
    }
}

#[test]
fn what_can_not_be_rebuilt_says_why() {
    let store = Arc::new(Store::in_memory().unwrap());
    let rig = Rig::start(store, &options(), &[FIRST]).unwrap();
    assert!(matches!(
        rebuild(&rig, true),
        Err(ControlError::Conflict(reason)) if reason.contains("is not being rebuilt")
    ));
    let nobody = rig.handle.ask(|reply| Control::Rebuild {
        plugin: "nobody".to_owned(),
        cancel: false,
        reply,
    });
    assert_eq!(nobody, Err(ControlError::NoSuchPlugin("nobody".to_owned())));
}

fn rule(rig: &Rig, pause: bool, skip_gap: bool) -> Result<Turned, ControlError> {
    let rule = "shop.totals".to_owned();
    rig.handle.ask(|reply| match pause {
        true => Control::Pause { rule, reply },
        false => Control::Resume {
            rule,
            skip_gap,
            reply,
        },
    })
}

/// A rule sleeps until the log no longer reaches back to where it stands.
fn sleeps_too_long(backfill: Backfill, mirror: bool) -> Rig {
    let mut options = options();
    let on_error = OnError::Park;
    let of_shop = PluginOptions { on_error, backfill };
    options.plugins.insert("shop".into(), of_shop);
    options.limits.log_bytes_max = 1;
    options.tables.push(TableOptions {
        name: "orders".into(),
        key: vec!["id".into()],
        mirror,
        columns: Vec::new(),
    });
    let store = Arc::new(Store::in_memory().unwrap());
    let rig = Rig::start(store.clone(), &options, &[FIRST, GRAND]).unwrap();
    some(&rig);
    rule(&rig, true, false).unwrap();
    for id in 50..=150 {
        rig.apply(&[order(RawOp::Upsert, id, id % 20, 10)]).unwrap();
    }
    // What the committer does every minute.
    while store.prune(1_000_000, &options.limits).unwrap() {}
    // And the engine's next look at the store.
    let receipt = rig.apply(&[order(RawOp::Upsert, 150, 10, 10)]).unwrap();
    rig.wait_for(|status| status.durable_seq >= receipt.seq.0);
    rule(&rig, false, false).unwrap();
    rig
}

#[test]
fn a_rule_that_the_log_has_left_behind_begins_again_from_a_snapshot() {
    let rig = sleeps_too_long(Backfill::Snapshot, true);
    rig.wait_for(|status| {
        status.rules["shop.totals"].status == "running" && status.plugins["shop"].rebuild.is_none()
    });
    rig.wait_for(|_| rig.rows("grand").unwrap() == ["id=0 users=20 orders=150"]);
    let totals = rig.rows("totals").unwrap();
    assert!(
        totals
            .iter()
            .all(|row| row.contains(" amount=7") || row.contains(" amount=8")),
        "{totals:?}"
    );
}

#[test]
fn a_rule_that_nothing_can_bring_up_waits_for_a_decision() {
    for (backfill, mirror, why) in [
        (Backfill::Log, true, "backfill isn't \"snapshot\""),
        (Backfill::Snapshot, false, "keeps no rows to begin from"),
    ] {
        let rig = sleeps_too_long(backfill, mirror);
        rig.wait_for(|status| {
            let told = &status.rules["shop.totals"].status;
            told.starts_with("paused: it stands at change 1")
                && told.contains(" and the log reaches back to change ")
                && told.contains(why)
                && told.contains("--skip-gap shop.totals")
        });
        // It stays so until somebody decides.
        rig.apply(&[order(RawOp::Insert, 200, 0, 10)]).unwrap();
        let before = rig.rows("grand").unwrap();
        rule(&rig, false, true).unwrap();
        rig.wait_for(|status| status.rules["shop.totals"].status == "running");
        rig.wait_for(|_| rig.rows("grand").unwrap() != before);
    }
}

/// A version whose totals the other plugin can't read.
mod third {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "orders")]
    pub struct Order {
        #[key]
        id: i64,
        user_id: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "totals")]
    pub struct Total {
        #[key]
        user_id: i64,
        orders: Decimal,
    }

    #[rule]
    pub fn totals(change: Change<Order>, totals: &mut Table<Total>) -> Outcome {
        for Delta { row, sign } in change.deltas() {
            totals.entry(row.user_id)?.orders += Decimal::from(sign);
        }
        Ok(())
    }

    rulemill_sdk::plugin!(totals);
}

#[test]
fn a_rebuild_that_another_plugin_can_not_read_is_refused_and_the_old_tables_go_on() {
    let store = Arc::new(Store::in_memory().unwrap());
    let rig = Rig::start(store, &options(), &[FIRST, GRAND]).unwrap();
    some(&rig);
    rig.load("shop", third::plugin, "3").unwrap_err();
    rebuild(&rig, false).unwrap();
    rig.wait_for(|status| {
        let shop = &status.plugins["shop"];
        let refused = shop.refused.as_deref().unwrap_or_default();
        shop.rebuild.is_none()
            && refused.contains("would break plugin grand: reads column totals.orders")
    });
    rig.apply(&[order(RawOp::Insert, 101, 0, 10)]).unwrap();
    assert_eq!(
        rig.rows("totals").unwrap()[0],
        "user_id=0 orders=6 amount=60"
    );
    assert_eq!(rig.rows("grand").unwrap(), ["id=0 users=20 orders=101"]);
    // And again after a restart.
    let store = rig.stop().unwrap();
    let rig = Rig::start(store, &options(), &[FIRST, GRAND]).unwrap();
    rig.apply(&[order(RawOp::Delete, 101, 0, 0)]).unwrap();
    assert_eq!(rig.rows("grand").unwrap(), ["id=0 users=20 orders=100"]);
    let mut store = rig.stop().unwrap();
    let mut findings = Vec::new();
    Arc::get_mut(&mut store)
        .unwrap()
        .verify(&mut |finding| findings.push(finding))
        .unwrap();
    assert!(findings.is_empty(), "{findings:#?}");
}

fn pause_grand(rig: &Rig, pause: bool) {
    let rule = "grand.grand".to_owned();
    let command = |reply| match pause {
        true => Control::Pause { rule, reply },
        false => Control::Resume {
            rule,
            skip_gap: false,
            reply,
        },
    };
    rig.handle.ask(command).unwrap();
}

#[test]
fn a_rebuild_goes_on_after_a_restart_with_the_code_that_it_began_with() {
    let store = Arc::new(Store::in_memory().unwrap());
    let rig = Rig::start(store, &options(), &[FIRST, GRAND]).unwrap();
    some(&rig);
    // The switch waits for whoever reads the tables.
    pause_grand(&rig, true);
    rig.load("shop", second::plugin, "2").unwrap_err();
    rebuild(&rig, false).unwrap();
    rig.wait_for(|status| status.rules["shop:rebuild.totals"].status == "running");
    let store = rig.stop().unwrap();
    let rig = Rig::start_over(
        store,
        &options(),
        ("shop", second::plugin, "2"),
        FIRST,
        &[GRAND],
    )
    .unwrap();
    rig.apply(&[order(RawOp::Insert, 101, 0, 10)]).unwrap();
    assert_eq!(
        rig.rows("totals").unwrap()[0],
        "user_id=0 orders=6 amount=60"
    );
    assert!(rig.handle.board.load().plugins["shop"].rebuild.is_some());
    pause_grand(&rig, false);
    is_rebuilt(&rig);
    rig.wait_for(|_| rig.rows("totals").unwrap()[0] == "user_id=0 orders=12 amount=60");
    rig.wait_for(|_| rig.rows("grand").unwrap() == ["id=0 users=20 orders=202"]);
}

#[test]
fn a_plugin_that_was_away_while_a_table_was_rebuilt_counts_nothing_twice() {
    let store = Arc::new(Store::in_memory().unwrap());
    let rig = Rig::start(store, &options(), &[FIRST, GRAND]).unwrap();
    some(&rig);
    rig.handle
        .control(Control::Plugin(PluginEvent::Removed {
            name: "grand".to_owned(),
        }))
        .unwrap();
    rig.apply(&[order(RawOp::Insert, 101, 0, 10)]).unwrap();
    rig.load("shop", second::plugin, "2").unwrap_err();
    rebuild(&rig, false).unwrap();
    is_rebuilt(&rig);
    rig.wait_for(|_| rig.rows("totals").unwrap()[0] == "user_id=0 orders=12 amount=60");
    rig.load("grand", grand::plugin, "1").unwrap();
    // It stands before the switch, and the table's own changes begin with that: so it begins again from the rows.
    rig.wait_for(|_| rig.rows("grand").unwrap() == ["id=0 users=20 orders=202"]);
    rig.wait_for(|status| status.rules["grand.grand"].status == "running");
    rig.apply(&[order(RawOp::Insert, 102, 0, 10)]).unwrap();
    rig.wait_for(|_| rig.rows("grand").unwrap() == ["id=0 users=20 orders=204"]);
}
