//! Notifications in the outbox: which of its change's each is, whatever calls they came from.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

use std::sync::Arc;

use rulemill::{change::RawOp, store::Store};
use rulemill_sdk::prelude::*;
use rulemill_tests::rig::{Options, Rig, TestChange};
use rulemill_wire::ValueRef;

#[derive(Row)]
#[table(source = "orders")]
struct Order {
    #[key]
    id: i64,
    seconds: i64,
}

/// Tells of each order twice, and has a reminder sent after its seconds.
#[rule]
fn tell(change: Change<Order>, notify: &mut Notify, timers: &mut Timers, now: Now) -> Outcome {
    for Delta { row, .. } in change.deltas() {
        notify.send("order", &row.id)?;
        notify.send("order again", &row.id)?;
        let due = now
            .timestamp()
            .plus_seconds(row.seconds)
            .ok_or("too late")?;
        timers.set("remind", row.id.to_string(), due)?;
    }
    Ok(())
}

#[rule]
fn remind(timer: Timer, notify: &mut Notify) -> Outcome {
    notify.send("reminder", &timer.key)?;
    Ok(())
}

rulemill_sdk::plugin!(tell, remind);

#[test]
fn no_two_notifications_of_a_rule_for_a_change_have_the_same_number() {
    let mut told = Vec::new();
    for batch in [1, 3, 4_096] {
        let mut options = Options::default();
        options.limits.batch_changes_max = batch;
        let store = Arc::new(Store::in_memory().unwrap());
        let rig = Rig::start(store, &options, &[("shop", plugin, "1")]).unwrap();
        // The reminders of the first three come due before the fourth.
        let changes: Vec<_> = [(1, 0), (2, 2), (3, 1), (4, 100)]
            .into_iter()
            .enumerate()
            .map(|(place, (id, seconds))| TestChange {
                table: "orders",
                op: RawOp::Insert,
                row: vec![
                    ("id", ValueRef::I64(id)),
                    ("seconds", ValueRef::I64(seconds)),
                ],
                time: Some(1_000_000 + if place == 3 { 10_000_000 } else { 0 }),
            })
            .collect();
        for part in changes.chunks(batch) {
            rig.apply(part).unwrap();
        }
        let reader = rig.store.reader().unwrap();
        let sent: Vec<_> = reader
            .notifications(0)
            .unwrap()
            .map(|sent| sent.unwrap())
            .map(|sent| (sent.seq.0, sent.rule, sent.ordinal, sent.body))
            .collect();
        assert_eq!(sent.len(), 11);
        let mut names: Vec<_> = sent
            .iter()
            .map(|(seq, rule, ordinal, _)| (seq, rule, ordinal))
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 11, "{sent:?}");
        told.push(sent);
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0], told[2]);
}
