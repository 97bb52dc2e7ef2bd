//! What happens around the changes: rules are paused and come anew, plugins are refused, requests are repeated, a call takes long.

use rulemill::change::{Idempotency, Refused};

use super::*;

#[test]
fn a_paused_rule_catches_up_with_what_it_missed() {
    let mut options = Options::default();
    options.limits.batch_changes_max = 3;
    let rig = rig(&options);
    rig.apply(&[order(RawOp::Insert, 1, 1, 10)]).unwrap();
    rig.pause("user_totals").unwrap();
    for id in 2..20 {
        rig.apply(&[
            order(RawOp::Insert, id, id % 3, id + 20),
            order(RawOp::Update, 1, 1, id + 20),
        ])
        .unwrap();
    }
    assert_eq!(
        rig.rows("user_totals").unwrap(),
        ["user_id=1 orders=1 amount=10"]
    );
    rig.resume("user_totals").unwrap();
    rig.wait_for(|status| status.rules["shop.user_totals"].status == "running");
    let rows = {
        let store = rig.stop().unwrap();
        rulemill_tests::rig::rows(&store, "grand_total").unwrap()
    };
    let amount: i64 = (22..40).sum::<i64>() + 39;
    assert_eq!(rows, [format!("id=0 users=3 amount={amount}")]);
}

#[test]
fn a_new_rule_takes_over_the_rows_that_are_there_while_they_change() {
    let mut options = Options::default();
    options.limits.batch_changes_max = 4;
    let rig = rig(&options);
    for id in 0..100 {
        rig.apply(&[order(RawOp::Insert, id, 1, 1)]).unwrap();
    }
    rig.load("late", late::plugin, "1").unwrap();
    // Changes land before and behind the key that the backfill has come to.
    for id in 0..100 {
        rig.apply(&[
            order(RawOp::Update, 99 - id, 1, 2),
            order(RawOp::Insert, 100 + id, 1, 5),
        ])
        .unwrap();
    }
    rig.wait_for(|status| status.rules["late.order_count"].status == "running");
    let store = rig.stop().unwrap();
    assert_eq!(
        rulemill_tests::rig::rows(&store, "order_count").unwrap(),
        ["id=0 orders=200 amount=700"]
    );
}

#[test]
fn an_idempotency_key_is_taken_once() {
    let rig = rig(&Options::default());
    let request = |body: u8| {
        Some(Idempotency {
            key: "k1".into(),
            body_hash: [body; 32],
        })
    };
    let changes = [order(RawOp::Insert, 1, 1, 10)];
    let first = rig.apply_request(&changes, request(1)).unwrap().unwrap();
    let second = rig.apply_request(&changes, request(1)).unwrap().unwrap();
    assert!(!first.repeated && second.repeated);
    assert_eq!((first.seq, first.changes), (second.seq, second.changes));
    let other = rig.apply_request(&changes, request(2)).unwrap();
    assert!(matches!(other, Err(Refused::KeyReused)));
    // Also after a restart.
    let store = rig.stop().unwrap();
    let rig = Rig::start(store, &Options::default(), &[("shop", shop::plugin, "1")]).unwrap();
    assert!(
        rig.apply_request(&changes, request(1))
            .unwrap()
            .unwrap()
            .repeated
    );
    assert_eq!(
        rig.rows("user_totals").unwrap(),
        ["user_id=1 orders=1 amount=10"]
    );
    rig.stop().unwrap();
}

#[test]
fn a_plugin_that_does_not_fit_is_refused_and_the_old_one_goes_on() {
    let rig = rig(&Options::default());
    let refused = rig
        .load("thief", fixed::plugin, "1")
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("user_totals") && refused.contains("shop"),
        "{refused}"
    );
    rig.apply(&[order(RawOp::Insert, 1, 1, 10)]).unwrap();
    assert_eq!(
        rig.rows("user_totals").unwrap(),
        ["user_id=1 orders=1 amount=10"]
    );
    rig.stop().unwrap();
}

/// A rule that doesn't return before it is told to.
mod slow {
    use std::sync::{Condvar, Mutex};

    use rulemill_sdk::prelude::*;

    pub static MAY_RETURN: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    #[derive(Row)]
    #[table(source = "orders")]
    pub struct Order {
        #[key]
        id: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "slow")]
    pub struct Slow {
        #[key]
        id: i64,
    }

    #[rule]
    pub fn slow(change: Change<Order>, slow: &mut Table<Slow>) -> Outcome {
        let (lock, told) = &MAY_RETURN;
        let may_return = lock.lock().unwrap();
        drop(told.wait_while(may_return, |may| !*may).unwrap());
        slow.entry(change.row().id)?;
        Ok(())
    }

    rulemill_sdk::plugin!(slow);
}

#[test]
fn a_call_that_takes_long_is_told_while_it_does() {
    let store = Arc::new(Store::in_memory().unwrap());
    let plugins = [("slow", slow::plugin as Make, "1")];
    let rig = Rig::start(store, &Options::default(), &plugins).unwrap();
    let change = TestChange {
        table: "orders",
        op: RawOp::Insert,
        row: vec![("id", ValueRef::I64(1))],
        time: Some(1),
    };
    rig.handle.submit(rig.batch(&[change]).unwrap()).unwrap();
    rig.wait_for(|_| rig.handle.board.long_call().is_some());
    let call = rig.handle.board.long_call().unwrap();
    assert_eq!((&*call.plugin, call.items), ("slow", 1));
    assert!(call.taken_ms >= 1_000, "{call:?}");
    let (lock, told) = &slow::MAY_RETURN;
    *lock.lock().unwrap() = true;
    told.notify_all();
    rig.wait_for(|_| rig.rows("slow").unwrap() == ["id=1"]);
    assert_eq!(rig.handle.board.long_call(), None);
}
