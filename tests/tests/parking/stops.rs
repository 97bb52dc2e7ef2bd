//! A rule that faults too often, or halts, and what it costs to find the change at fault.

use super::*;

#[test]
fn a_rule_that_faults_on_most_of_what_it_gets_is_paused_and_goes_on_when_mended() {
    for (bad, batch) in [
        (REFUSED, 4_096),
        (PANICS, 4_096),
        (REFUSED, 10),
        (PANICS, 1),
    ] {
        let mut options = options(OnError::Park);
        options.limits.batch_changes_max = batch;
        let rig = start(&options);
        let good: Vec<_> = (1..=400).map(|id| order(RawOp::Insert, id, 1, 1)).collect();
        for part in good.chunks(batch) {
            rig.apply(part).unwrap();
        }
        let worse: Vec<_> = (401..=3_000)
            .map(|id| order(RawOp::Insert, id, 2, bad))
            .collect();
        for part in worse.chunks(batch.max(100)) {
            rig.apply(part).unwrap();
        }
        rig.wait_for(|status| {
            status.rules["shop.totals"]
                .status
                .starts_with("paused: it faulted on")
        });
        let parked = parked(&rig, "shop.totals");
        assert!(parked <= 1_000, "{parked} parked");
        // The others have not noticed.
        let board = rig.handle.board.load();
        assert_eq!(board.rules["shop.sums"].status, "running");
        let sums = rig.rows("sums").unwrap();
        assert!(sums[0].starts_with("id=0 halves=6000 "), "{sums:?}");
        rig.load("shop", mended::plugin, "2").unwrap();
        rig.wait_for(|status| status.rules["shop.totals"].status == "running");
        assert_eq!(rig.retry(None, None).unwrap(), (parked, 0));
        let of_bad = format!("user_id=2 orders=2600 amount={}", 2_600 * bad);
        assert_eq!(
            rig.rows("totals").unwrap(),
            ["user_id=1 orders=400 amount=400", &*of_bad]
        );
    }
}

#[test]
fn a_paused_rule_that_is_resumed_unmended_is_paused_again_where_it_stands() {
    let rig = start(&options(OnError::Park));
    let bad: Vec<_> = (1..=1_000)
        .map(|id| order(RawOp::Insert, id, 1, REFUSED))
        .collect();
    rig.apply(&bad).unwrap();
    let is_paused = |status: &rulemill::engine::Status| {
        let rule = &status.rules["shop.totals"];
        rule.status.starts_with("paused: ") && rule.cursor == 0
    };
    rig.wait_for(is_paused);
    let faults = rig.handle.board.load().rules["shop.totals"].faults;
    rig.resume("shop.totals").unwrap();
    rig.wait_for(|status| status.rules["shop.totals"].faults > faults && is_paused(status));
    assert_eq!(parked(&rig, "shop.totals"), 0);
}

/// Not one fault may have its whole batch run change by change; and once a plugin has panicked, what comes before its next panic
/// isn't run again.
#[test]
fn the_change_at_fault_is_found_without_running_the_others_often() {
    for bad in [REFUSED, PANICS] {
        let rig = start(&options(OnError::Park));
        let before = faulty::CALLS.load(Ordering::SeqCst);
        let changes: Vec<_> = (1..=4_000)
            .map(|id| {
                let amount = if id % 100 == 0 { bad } else { 1 };
                order(RawOp::Insert, id, COUNTED, amount)
            })
            .collect();
        rig.apply(&changes).unwrap();
        rig.wait_for(|status| status.rules["shop.totals"].parked == 40);
        assert_eq!(
            rig.rows("totals").unwrap(),
            ["user_id=77 orders=3960 amount=3960"]
        );
        let calls = faulty::CALLS.load(Ordering::SeqCst) - before;
        // Once each, and what led up to the first panic once more.
        assert!(calls <= 4_000 + 200, "{calls} calls for 4,000 changes");
        rig.stop().unwrap();
    }
}

/// Both halves of an order come under one seq. The rule once stopped between them, and took the first again when it went on.
#[test]
fn a_rule_that_halts_between_changes_of_one_seq_repeats_none_of_them() {
    for batch in [1, 4_096] {
        let mut options = options(OnError::Halt);
        options.limits.batch_changes_max = batch;
        let rig = start(&options);
        // Halves of 60 and 61, of 70 and 71, of 80 and 81.
        rig.apply(&[
            order(RawOp::Insert, 1, 1, 6),
            order(RawOp::Insert, 2, 1, 7),
            order(RawOp::Insert, 3, 1, 8),
        ])
        .unwrap();
        rig.wait_for(|status| status.rules["shop.sums"].status.starts_with("halted"));
        assert_eq!(
            rig.rows("sums").unwrap(),
            ["id=0 halves=3 amount=191"],
            "60, 61 and 70"
        );
        let store = rig.stop().unwrap();
        let plugins = [("shop", mended::plugin as Make, "2")];
        let rig = Rig::start(store, &options, &plugins).unwrap();
        rig.wait_for(|status| status.rules["shop.sums"].status == "running");
        rig.wait_for(|_| rig.rows("sums").unwrap() == ["id=0 halves=6 amount=423"]);
    }
}
