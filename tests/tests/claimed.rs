//! A table that a plugin reads before the plugin is there that makes it: changes of it came from outside and went again, and what
//! is kept of them (in the log, parked, as what a rule last saw) is read as what it was when the table has its owner.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

use std::sync::Arc;

use rulemill::{
    change::RawOp,
    engine::{Control, ControlError, PluginEvent, Turned},
    store::Store,
};
use rulemill_tests::{
    native::Make,
    rig::{Options, Rig, TestChange},
};
use rulemill_wire::ValueRef;

/// Sums the totals; one of thirteen is none for the first version.
macro_rules! reader {
    ($name:ident, $refused:expr) => {
        mod $name {
            use rulemill_sdk::prelude::*;

            #[derive(Row)]
            #[table(source = "totals")]
            pub struct Total {
                #[key]
                user_id: i64,
                orders: i64,
            }

            #[derive(Row, Default)]
            #[table(derived = "seen")]
            pub struct Seen {
                #[key]
                id: i64,
                users: i64,
                orders: i64,
            }

            #[rule]
            pub fn seen(change: Change<Total>, seen: &mut Table<Seen>) -> Outcome {
                for Delta { row, sign } in change.deltas() {
                    if $refused == row.orders {
                        return Err("thirteen".into());
                    }
                    let seen = seen.entry(0)?;
                    seen.users += sign;
                    seen.orders += sign * row.orders;
                }
                Ok(())
            }

            rulemill_sdk::plugin!(seen);
        }
    };
}

reader!(reads, 13);
reader!(reads_all, i64::MIN);

/// Makes the totals, with other columns, in another order.
macro_rules! owner {
    ($name:ident, $key:ty, $of:expr, $count:ident) => {
        mod $name {
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
                name: String,
                $count: i64,
                #[key]
                user_id: $key,
            }

            #[rule]
            pub fn totals(change: Change<Order>, totals: &mut Table<Total>) -> Outcome {
                for Delta { row, sign } in change.deltas() {
                    let key: fn(i64) -> $key = $of;
                    let total = totals.entry(key(row.user_id))?;
                    total.name = "somebody".into();
                    total.$count += sign;
                }
                Ok(())
            }

            rulemill_sdk::plugin!(totals);
        }
    };
}

owner!(makes, i64, |user| user, orders);
owner!(makes_by_text, String, |user| user.to_string(), orders);
owner!(makes_no_orders, i64, |user| user, count);

const READER: (&str, Make, &str) = ("reader", reads::plugin, "1");

fn total<'a>(op: RawOp, user: i64, orders: i64) -> TestChange<'a> {
    TestChange {
        table: "totals",
        op,
        row: vec![
            ("user_id", ValueRef::I64(user)),
            ("orders", ValueRef::I64(orders)),
        ],
        time: Some(1_000),
    }
}

fn order<'a>(id: i64, user: i64) -> TestChange<'a> {
    TestChange {
        table: "orders",
        op: RawOp::Insert,
        row: vec![("id", ValueRef::I64(id)), ("user_id", ValueRef::I64(user))],
        time: Some(2_000),
    }
}

fn start() -> Rig {
    let store = Arc::new(Store::in_memory().unwrap());
    Rig::start(store, &Options::default(), &[READER]).unwrap()
}

fn pause(rig: &Rig, pause: bool) {
    let rule = "reader.seen".to_owned();
    let answer: Result<Turned, ControlError> = rig.handle.ask(|reply| match pause {
        true => Control::Pause { rule, reply },
        false => Control::Resume {
            rule,
            skip_gap: false,
            reply,
        },
    });
    answer.unwrap();
}

fn remove(rig: &Rig, name: &str) {
    let name = name.to_owned();
    let event = PluginEvent::Removed { name };
    rig.handle.control(Control::Plugin(event)).unwrap();
}

fn verify(rig: Rig) {
    let mut store = rig.stop().unwrap();
    let mut findings = Vec::new();
    Arc::get_mut(&mut store)
        .unwrap()
        .verify(&mut |finding| findings.push(finding))
        .unwrap();
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn changes_of_before_are_told_as_they_were() {
    let rig = start();
    // Of user 4 the rule knows five orders: what came since was given up.
    rig.apply(&[total(RawOp::Insert, 4, 5)]).unwrap();
    rig.apply(&[total(RawOp::Update, 4, 13)]).unwrap();
    rig.apply(&[total(RawOp::Delete, 4, 0)]).unwrap();
    let dropped = rig.handle.ask(|reply| Control::DropDeadLetters {
        rule: None,
        id: None,
        reply,
    });
    assert_eq!(dropped, Ok(2));
    // User 2 is parked, user 1 is known, and of user 3 it has heard nothing yet.
    rig.apply(&[total(RawOp::Insert, 1, 7), total(RawOp::Insert, 2, 13)])
        .unwrap();
    pause(&rig, true);
    rig.apply(&[
        total(RawOp::Delete, 1, 0),
        total(RawOp::Delete, 2, 0),
        total(RawOp::Insert, 3, 1),
        total(RawOp::Update, 3, 2),
        total(RawOp::Delete, 3, 0),
    ])
    .unwrap();
    assert_eq!(rig.rows("totals").unwrap().len(), 0);
    assert_eq!(rig.rows("seen").unwrap(), ["id=0 users=2 orders=12"]);
    rig.load("owner", makes::plugin, "1").unwrap();
    rig.apply(&[order(1, 9), order(2, 9), order(3, 4)]).unwrap();
    assert_eq!(
        rig.rows("totals").unwrap(),
        [
            "user_id=4 orders=1 name=somebody",
            "user_id=9 orders=2 name=somebody"
        ]
    );
    pause(&rig, false);
    rig.wait_for(|status| status.rules["reader.seen"].status == "running");
    assert_eq!(rig.rows("seen").unwrap(), ["id=0 users=2 orders=3"]);
    let status = rig.handle.board.load();
    let reader = &status.rules["reader.seen"];
    assert_eq!(reader.parked, 2, "{reader:?}");
    assert_eq!(reader.last_error.as_deref(), Some("thirteen"));
    // What is parked is what it was, for code that takes it.
    rig.load("reader", reads_all::plugin, "2").unwrap();
    let retried = rig.handle.ask(|reply| Control::RetryDeadLetters {
        rule: None,
        id: None,
        reply,
    });
    assert_eq!(retried, Ok((2, 0)));
    assert_eq!(rig.rows("seen").unwrap(), ["id=0 users=2 orders=3"]);
    // And again after a restart.
    let store = rig.stop().unwrap();
    let plugins = [
        ("owner", makes::plugin as Make, "1"),
        ("reader", reads_all::plugin, "2"),
    ];
    let rig = Rig::start(store, &Options::default(), &plugins).unwrap();
    rig.apply(&[order(4, 9)]).unwrap();
    assert_eq!(rig.rows("seen").unwrap(), ["id=0 users=2 orders=4"]);
    verify(rig);
}

/// The reader's file went before the owner came, and what it knows of has another key.
#[test]
fn a_table_with_another_key_is_another_table() {
    let rig = start();
    rig.apply(&[total(RawOp::Insert, 1, 7), total(RawOp::Insert, 2, 13)])
        .unwrap();
    remove(&rig, "reader");
    rig.apply(&[total(RawOp::Delete, 1, 0), total(RawOp::Delete, 2, 0)])
        .unwrap();
    rig.load("owner", makes_by_text::plugin, "1").unwrap();
    rig.apply(&[order(1, 9)]).unwrap();
    assert_eq!(
        rig.rows("totals").unwrap(),
        ["name=somebody orders=1 user_id=9"]
    );
    let refused = rig.load("reader", reads::plugin, "1").unwrap_err();
    let refused = refused.to_string();
    assert!(refused.contains("reads column totals.user_id"), "{refused}");
    verify(rig);
}

#[test]
fn an_owner_that_does_not_make_what_is_read_is_refused() {
    let rig = start();
    rig.apply(&[total(RawOp::Insert, 1, 7)]).unwrap();
    rig.apply(&[total(RawOp::Delete, 1, 0)]).unwrap();
    let refused = rig.load("owner", makes_no_orders::plugin, "1").unwrap_err();
    let refused = refused.to_string();
    assert!(
        refused.contains("would break plugin reader: reads column orders of table totals"),
        "{refused}"
    );
    rig.apply(&[total(RawOp::Insert, 1, 8)]).unwrap();
    assert_eq!(rig.rows("seen").unwrap(), ["id=0 users=1 orders=8"]);
    verify(rig);
}

/// They were decoded when the table was still one of a source.
#[test]
fn changes_that_are_on_their_way_when_the_owner_comes_are_refused() {
    let rig = start();
    let (sender, answer) = crossbeam_channel::bounded(1);
    let mut batch = rig
        .batch(&[total(RawOp::Insert, 1, 7), total(RawOp::Delete, 3, 0)])
        .unwrap();
    batch.done = Some(Box::new(move |result| drop(sender.send(result))));
    rig.load("owner", makes::plugin, "1").unwrap();
    rig.apply(&[order(1, 1)]).unwrap();
    rig.handle.submit(batch).unwrap();
    let receipt = answer.recv().unwrap().unwrap();
    assert_eq!(receipt.changes, 0);
    assert_eq!(rig.rows("totals").unwrap().len(), 1);
    assert_eq!(rig.rows("seen").unwrap(), ["id=0 users=1 orders=1"]);
    let reader = rig.store.reader().unwrap();
    let bad: Vec<_> = reader
        .bad_input("test")
        .unwrap()
        .map(|bad| bad.unwrap().1)
        .collect();
    assert_eq!(bad.len(), 2);
    assert!(
        bad[0]
            .reason
            .contains("table totals belongs to the rules of a plugin that was loaded while"),
        "{bad:?}"
    );
    assert_eq!(
        bad[0].text,
        r#"{"after":{"name":null,"orders":7,"user_id":1},"key":1,"op":"insert","table":"totals"}"#
    );
    drop(reader);
    verify(rig);
}
