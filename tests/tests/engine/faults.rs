//! Changes at which a rule faults, or whose rows don't fit it: parked, skipped, or the rule stops.

use rulemill::engine::{Backfill, OnError, PluginOptions, Status};

use super::*;

fn with_on_error(on_error: OnError) -> Options {
    let mut options = Options::default();
    options.plugins.insert(
        "shop".into(),
        PluginOptions {
            on_error,
            backfill: Backfill::Snapshot,
        },
    );
    options
}

#[test]
fn a_change_that_faults_is_parked_with_those_behind_it_and_retried_in_order() {
    for amount in [13, 666] {
        let rig = rig(&Options::default());
        rig.apply(&[
            order(RawOp::Insert, 1, 1, 10),
            order(RawOp::Insert, 2, 1, amount),
            order(RawOp::Insert, 3, 2, 5),
            order(RawOp::Update, 2, 1, 14),
        ])
        .unwrap();
        rig.apply(&[order(RawOp::Update, 2, 2, 15)]).unwrap();
        // The other rule of the plugin handled every change.
        assert_eq!(rig.rows("named_orders").unwrap().len(), 3);
        assert_eq!(
            rig.rows("user_totals").unwrap(),
            [
                "user_id=1 orders=1 amount=10",
                "user_id=2 orders=1 amount=5"
            ]
        );
        rig.wait_for(|status| status.rules["shop.user_totals"].parked == 3);
        let retried = rig.retry(Some("user_totals"), None).unwrap();
        assert_eq!(
            retried,
            (0, 3),
            "the first still faults, so the others wait"
        );
        let store = rig.stop().unwrap();
        // A new version without the fault takes them in order.
        let rig = Rig::start(store, &Options::default(), &[("shop", fixed::plugin, "2")]).unwrap();
        let retried = rig.retry(None, None).unwrap();
        assert_eq!(retried, (3, 0));
        let store = rig.stop().unwrap();
        assert_eq!(
            rulemill_tests::rig::rows(&store, "user_totals").unwrap(),
            [
                "user_id=1 orders=1 amount=10",
                "user_id=2 orders=2 amount=20"
            ]
        );
    }
}

#[test]
fn a_row_that_does_not_fit_is_parked_at_its_place() {
    let rig = rig(&Options::default());
    let null = |id| {
        let mut order = order(RawOp::Update, id, 1, 0);
        order.row.retain(|(name, _)| *name != "amount");
        order
    };
    rig.apply(&[
        order(RawOp::Insert, 1, 1, 1),
        order(RawOp::Update, 1, 1, 2),
        null(1),
        order(RawOp::Update, 1, 1, 4),
        null(1),
        order(RawOp::Update, 1, 1, 6),
        order(RawOp::Insert, 2, 2, 8),
    ])
    .unwrap();
    let expected = ["user_id=1 orders=1 amount=2", "user_id=2 orders=1 amount=8"];
    assert_eq!(rig.rows("user_totals").unwrap(), expected);
    rig.wait_for(|status| status.rules["shop.user_totals"].parked == 4);
    let store = rig.stop().unwrap();
    let plugins = [("shop", fixed::plugin as Make, "2")];
    let rig = Rig::start(store, &Options::default(), &plugins).unwrap();
    let retried = rig.retry(Some("user_totals"), None).unwrap();
    assert_eq!(retried, (4, 0));
    // The answer came after the disk.
    let expected = ["user_id=1 orders=1 amount=6", "user_id=2 orders=1 amount=8"];
    assert_eq!(rig.rows("user_totals").unwrap(), expected);
}

#[test]
fn of_two_rows_that_do_not_fit_the_first_halts() {
    let rig = rig(&with_on_error(OnError::Halt));
    let null = |id| {
        let mut order = order(RawOp::Insert, id, 1, 0);
        order.row.retain(|(name, _)| *name != "amount");
        order
    };
    rig.apply(&[
        order(RawOp::Insert, 1, 1, 10),
        null(2),
        order(RawOp::Insert, 3, 1, 5),
        null(4),
        order(RawOp::Insert, 5, 1, 1),
    ])
    .unwrap();
    let halted = |status: &Status| {
        status.rules["shop.user_totals"]
            .status
            .starts_with("halted")
    };
    rig.wait_for(halted);
    assert_eq!(rig.handle.board.load().rules["shop.user_totals"].cursor, 1);
    let store = rig.stop().unwrap();
    let plugins = [("shop", fixed::plugin as Make, "2")];
    let rig = Rig::start(store, &Options::default(), &plugins).unwrap();
    rig.wait_for(|status| status.rules["shop.user_totals"].status == "running");
    let store = rig.stop().unwrap();
    assert_eq!(
        rulemill_tests::rig::rows(&store, "user_totals").unwrap(),
        ["user_id=1 orders=5 amount=16"]
    );
}

#[test]
fn a_halt_while_rows_are_taken_over_loses_none_of_them() {
    for amount in [13, 666] {
        let mut options = with_on_error(OnError::Halt);
        options.limits.batch_changes_max = 8;
        let rig = Rig::start(store(), &options, &[("late", late::plugin, "1")]).unwrap();
        for id in 1..=30 {
            let amount = if id == 21 { amount } else { 1 };
            rig.apply(&[order(RawOp::Insert, id, 1, amount)]).unwrap();
        }
        rig.load("shop", shop::plugin, "1").unwrap();
        rig.wait_for(|status| {
            status.rules["shop.user_totals"]
                .status
                .starts_with("halted")
        });
        rig.apply(&[
            order(RawOp::Update, 3, 1, 2),
            order(RawOp::Update, 29, 1, 2),
        ])
        .unwrap();
        assert_eq!(
            rig.rows("user_totals").unwrap(),
            ["user_id=1 orders=20 amount=20"]
        );
        rig.load("shop", fixed::plugin, "2").unwrap();
        rig.wait_for(|status| status.rules["shop.user_totals"].status == "running");
        let expected = format!("user_id=1 orders=30 amount={}", 31 + amount);
        rig.wait_for(|_| rig.rows("user_totals").unwrap() == [&*expected]);
    }
}

#[test]
fn a_rule_with_no_room_to_park_is_paused_before_the_change() {
    let mut options = Options::default();
    options.limits.dead_letters_max = 1;
    let rig = rig(&options);
    rig.apply(&[order(RawOp::Insert, 1, 1, 13)]).unwrap();
    rig.apply(&[
        order(RawOp::Update, 1, 1, 14),
        order(RawOp::Insert, 2, 2, 5),
        order(RawOp::Update, 1, 1, 15),
        order(RawOp::Insert, 3, 3, 7),
    ])
    .unwrap();
    rig.wait_for(|status| {
        status.rules["shop.user_totals"]
            .status
            .starts_with("paused: ")
    });
    assert_eq!(rig.handle.board.load().rules["shop.user_totals"].cursor, 1);
    let store = rig.stop().unwrap();
    let plugins = [("shop", fixed::plugin as Make, "2")];
    let rig = Rig::start(store, &Options::default(), &plugins).unwrap();
    rig.wait_for(|status| status.rules["shop.user_totals"].status == "running");
    let retried = rig.retry(None, None);
    assert_eq!(retried.unwrap(), (3, 0));
    assert_eq!(
        rig.rows("user_totals").unwrap(),
        [
            "user_id=1 orders=1 amount=15",
            "user_id=2 orders=1 amount=5",
            "user_id=3 orders=1 amount=7"
        ]
    );
}

#[test]
fn skip_passes_a_fault_over() {
    let rig = rig(&with_on_error(OnError::Skip));
    rig.apply(&[
        order(RawOp::Insert, 1, 1, 10),
        order(RawOp::Insert, 2, 1, 13),
        order(RawOp::Insert, 3, 1, 666),
        order(RawOp::Insert, 4, 1, 1),
    ])
    .unwrap();
    assert_eq!(
        rig.rows("user_totals").unwrap(),
        ["user_id=1 orders=2 amount=11"]
    );
    rig.wait_for(|status| status.rules["shop.user_totals"].faults == 2);
    rig.stop().unwrap();
}

#[test]
fn halt_stops_before_the_fault_and_goes_on_from_there() {
    for amount in [13, 666] {
        let rig = rig(&with_on_error(OnError::Halt));
        rig.apply(&[
            order(RawOp::Insert, 1, 1, 10),
            order(RawOp::Insert, 2, 1, amount),
            order(RawOp::Insert, 3, 1, 1),
        ])
        .unwrap();
        rig.apply(&[order(RawOp::Insert, 4, 1, 2)]).unwrap();
        assert_eq!(
            rig.rows("user_totals").unwrap(),
            ["user_id=1 orders=1 amount=10"]
        );
        assert_eq!(rig.rows("named_orders").unwrap().len(), 4);
        rig.wait_for(|status| {
            status.rules["shop.user_totals"]
                .status
                .starts_with("halted")
        });
        let store = rig.stop().unwrap();
        // The same code would fault again.
        let same = [("shop", shop::plugin as Make, "1")];
        let rig = Rig::start(store, &with_on_error(OnError::Halt), &same).unwrap();
        let halted = rig.handle.board.load().rules["shop.user_totals"].clone();
        assert!(halted.status.starts_with("halted"), "{halted:?}");
        let store = rig.stop().unwrap();
        let rig = Rig::start(store, &Options::default(), &[("shop", fixed::plugin, "2")]).unwrap();
        rig.wait_for(|status| status.rules["shop.user_totals"].status == "running");
        let store = rig.stop().unwrap();
        assert_eq!(
            rulemill_tests::rig::rows(&store, "user_totals").unwrap(),
            [format!("user_id=1 orders=4 amount={}", 13 + amount)]
        );
    }
}
