//! A rule that skips changes, and is then stopped before an earlier one of the same batch, comes to them again: it has missed nothing of them.

use super::*;

/// Totals by user. The first version needs an amount, and refuses one of them.
macro_rules! totals {
    ($name:ident, $amount:ty, $count:expr) => {
        mod $name {
            use rulemill_sdk::prelude::*;

            #[derive(Row)]
            #[table(source = "orders")]
            pub struct Order {
                #[key]
                id: i64,
                user_id: i64,
                amount: $amount,
            }

            #[derive(Row, Default)]
            #[table(derived = "totals")]
            pub struct Total {
                #[key]
                user_id: i64,
                orders: i64,
                amount: i64,
            }

            #[rule]
            pub fn totals(change: Change<Order>, totals: &mut Table<Total>) -> Outcome {
                let count: fn($amount) -> Result<i64, RuleError> = $count;
                for Delta { row, sign } in change.deltas() {
                    let total = totals.entry(row.user_id)?;
                    total.orders += sign;
                    total.amount += count(row.amount)? * sign;
                }
                Ok(())
            }

            rulemill_sdk::plugin!(totals);
        }
    };
}

totals!(strict, i64, |amount| match amount {
    super::REFUSED => Err("thirteen".into()),
    amount => Ok(amount),
});
totals!(
    lenient,
    Option<i64>,
    |amount| Ok(amount.unwrap_or_default())
);

fn null(op: RawOp, id: i64) -> TestChange<'static> {
    let mut change = order(op, id, 1, 0);
    change.row[2].1 = ValueRef::Null;
    change
}

fn start(mut options: Options, change: fn(&mut Options)) -> Rig {
    change(&mut options);
    let plugins = [("shop", strict::plugin as Make, "1")];
    Rig::start(Arc::new(Store::in_memory().unwrap()), &options, &plugins).unwrap()
}

fn gaps(rig: &Rig) -> usize {
    rig.store.reader().unwrap().gaps().unwrap().count()
}

/// Waits until the rule has stopped before what comes behind `cursor`, and lets it go on with code that takes everything.
fn is_mended_after(rig: &Rig, cursor: u64, reason: &str) {
    rig.wait_for(|status| {
        let rule = &status.rules["shop.totals"];
        rule.status.starts_with("paused: ") && rule.status.contains(reason) && rule.cursor == cursor
    });
    assert!(letters(rig).is_empty(), "they come again");
    rig.load("shop", lenient::plugin, "2").unwrap();
    rig.wait_for(|status| status.rules["shop.totals"].status == "running");
}

fn is_total(rig: &Rig, orders: i64, amount: i64) {
    let total = format!("user_id=1 orders={orders} amount={amount}");
    assert_eq!(rig.rows("totals").unwrap(), [total]);
}

/// Each of these orders changes once more, and the last one goes.
fn changes_again(rig: &Rig, orders: &[i64]) {
    let again = |id: &i64| order(RawOp::Update, *id, 1, 5);
    rig.apply(&orders.iter().map(again).collect::<Vec<_>>())
        .unwrap();
    let last = *orders.last().unwrap();
    rig.apply(&[order(RawOp::Delete, last, 1, 0)]).unwrap();
}

#[test]
fn what_was_skipped_behind_the_fault_at_which_a_rule_is_paused_comes_again() {
    // Rows that don't fit are skipped before the others are handed over; with the errors of those they are too many.
    let rig = start(options(OnError::Skip), |options| {
        options.limits.breaker_changes_min = 10;
    });
    let mut changes: Vec<_> = (1..=5)
        .map(|id| order(RawOp::Insert, id, 1, REFUSED))
        .collect();
    changes.extend((6..=10).map(|id| null(RawOp::Insert, id)));
    rig.apply(&changes).unwrap();
    is_mended_after(&rig, 0, "it faulted on 10 of its last 10 changes");
    is_total(&rig, 10, 5 * REFUSED);
    assert_eq!(gaps(&rig), 0);
    changes_again(&rig, &[6, 7, 8, 9, 10]);
    is_total(&rig, 9, 5 * REFUSED + 4 * 5);
}

#[test]
fn what_was_skipped_behind_a_change_that_there_is_no_room_to_skip_comes_again() {
    let rig = start(options(OnError::Skip), |options| {
        options.limits.dead_letters_max = 3;
    });
    // One of them is known, so that the row before it counts too.
    rig.apply(&[order(RawOp::Insert, 4, 1, 100)]).unwrap();
    rig.apply(&[
        order(RawOp::Insert, 1, 1, REFUSED),
        null(RawOp::Insert, 2),
        null(RawOp::Insert, 3),
        null(RawOp::Update, 4),
    ])
    .unwrap();
    is_mended_after(&rig, 1, "it has missed changes of 3 rows");
    is_total(&rig, 4, REFUSED);
    assert_eq!(gaps(&rig), 0);
    changes_again(&rig, &[2, 3, 4]);
    is_total(&rig, 3, REFUSED + 2 * 5);
}

#[test]
fn what_was_skipped_behind_a_change_whose_column_is_gone_comes_again() {
    let rig = start(options(OnError::Skip), |_| {});
    rig.apply(&[order(RawOp::Insert, 2, 1, 100)]).unwrap();
    // That the column is gone shows when the one before it of the same row has been handled, and the others have been skipped by then.
    let mut gone = order(RawOp::Update, 1, 1, 0);
    gone.row.pop();
    let changes = [
        order(RawOp::Insert, 1, 1, 7),
        gone,
        null(RawOp::Update, 2),
        null(RawOp::Insert, 3),
    ];
    let mut batch = rig.batch(&changes).unwrap();
    batch.changes[1].lacks = true;
    rig.handle.submit(batch).unwrap();
    is_mended_after(&rig, 2, "column amount of table orders");
    is_total(&rig, 3, 0);
    assert_eq!(gaps(&rig), 0);
    changes_again(&rig, &[1, 2, 3]);
    is_total(&rig, 2, 2 * 5);
}
