//! How much is kept of what was parked, skipped or missed, and what happens when there is no room for more.

use rulemill::{engine::Status, http::read};

use super::*;

/// A rule that knows six orders, of each ten times its number, and may set three changes aside.
fn with_room_for_three(on_error: OnError) -> Rig {
    let mut options = options(on_error);
    options.limits.dead_letters_max = 3;
    let rig = start(&options);
    let known = (1..=6).map(|id| order(RawOp::Insert, id, 1, id * 10));
    rig.apply(&known.collect::<Vec<_>>()).unwrap();
    rig
}

/// An order that the rule knows comes to be one that it refuses.
fn bad(id: i64) -> TestChange<'static> {
    order(RawOp::Update, id, 1, REFUSED)
}

#[test]
fn skipped_changes_are_kept_up_to_their_limit() {
    let mut options = options(OnError::Skip);
    options.limits.skipped_kept_max = 3;
    let rig = start(&options);
    for id in 1..=10 {
        rig.apply(&[order(RawOp::Insert, id, 1, REFUSED)]).unwrap();
    }
    let kept: Vec<u64> = letters(&rig).iter().map(|(id, _)| *id).collect();
    assert_eq!(kept, [8, 9, 10]);
    // Whoever looks at the status sees them, from the daemon and from the disk.
    let shown = |status: &Status| {
        let rule = &status.rules["shop.totals"];
        (rule.skipped, rule.skipped_since.clone())
    };
    let since = Some("1970-01-01T00:00:01Z".to_owned());
    rig.wait_for(|status| shown(status) == (3, since.clone()));
    let reader = rig.store.reader().unwrap();
    assert_eq!(shown(&read::stored_status(&reader).unwrap()), (3, since));
    drop(reader);
    assert!(matches!(
        rig.retry(None, Some(9)),
        Err(ControlError::Conflict(reason)) if reason.contains("was skipped")
    ));
    assert_eq!(rig.retry(None, None).unwrap(), (0, 0));
    assert_eq!(rig.drop_letters(None, Some(9)).unwrap(), 1);
    assert_eq!(rig.drop_letters(None, None).unwrap(), 2);
    assert!(letters(&rig).is_empty());
    rig.wait_for(|status| shown(status) == (0, None));
    let store = rig.stop().unwrap();
    let reader = store.reader().unwrap();
    assert_eq!(shown(&read::stored_status(&reader).unwrap()), (0, None));
}

/// A rule that says too much.
mod wordy {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "orders")]
    pub struct Order {
        #[key]
        id: i64,
    }

    #[rule]
    pub fn says(change: Change<Order>) -> Outcome {
        Err(format!("{}: {}", change.key(), "no ".repeat(1_000_000)).into())
    }

    rulemill_sdk::plugin!(says);
}

#[test]
fn of_an_error_the_beginning_is_kept() {
    let store = Arc::new(Store::in_memory().unwrap());
    let plugins = [("wordy", wordy::plugin as Make, "1")];
    let rig = Rig::start(store, &options(OnError::Park), &plugins).unwrap();
    rig.apply(&[order(RawOp::Insert, 1, 1, 1)]).unwrap();
    let letters = letters(&rig);
    let error = &letters[0].1;
    assert!(error.starts_with("1: no no no"), "{error:.40}");
    assert!(error.len() < 10_000, "{} bytes", error.len());
}

#[test]
fn parked_changes_are_bounded_by_their_bytes_too() {
    let mut options = options(OnError::Park);
    options.limits.dead_letters_bytes_max = 200;
    let rig = start(&options);
    for id in 1..=20 {
        rig.apply(&[order(RawOp::Insert, id, 1, REFUSED)]).unwrap();
    }
    rig.wait_for(|status| {
        status.rules["shop.totals"]
            .status
            .contains("limits.dead_letters_bytes_max")
    });
    let kept = parked(&rig, "shop.totals");
    assert!((2..10).contains(&kept), "{kept} parked");
    rig.load("shop", mended::plugin, "2").unwrap();
    rig.wait_for(|status| status.rules["shop.totals"].status == "running");
    assert_eq!(rig.retry(None, None).unwrap(), (kept, 0));
    assert_eq!(
        rig.rows("totals").unwrap(),
        ["user_id=1 orders=20 amount=260"]
    );
}

/// What a rule last saw of rows whose changes it skipped is kept for as many rows as may be parked; it is not forgotten silently.
#[test]
fn a_rule_that_can_not_remember_what_it_skips_is_paused() {
    let rig = with_room_for_three(OnError::Skip);
    rig.apply(&[bad(1), bad(2), bad(3)]).unwrap();
    // The same row again needs no more room, nor does a change that leaves the row as it is.
    rig.apply(&[order(RawOp::Update, 3, 2, REFUSED)]).unwrap();
    assert_eq!(
        rig.handle.board.load().rules["shop.totals"].status,
        "running"
    );
    rig.apply(&[
        order(RawOp::Insert, 7, 1, 5),
        bad(4),
        order(RawOp::Insert, 8, 1, 5),
    ])
    .unwrap();
    rig.wait_for(|status| {
        status.rules["shop.totals"].status
            == "paused: it has missed changes of 3 rows that have not changed since, and limits.dead_letters_max allows no more: load a version that takes them, or raise the limit, then resume the rule"
    });
    assert_eq!(
        rig.rows("totals").unwrap(),
        ["user_id=1 orders=7 amount=215"]
    );
    // A version that takes them goes on from there and makes up for what was skipped, a row at a time.
    rig.load("shop", mended::plugin, "2").unwrap();
    rig.wait_for(|status| status.rules["shop.totals"].status == "running");
    let again: Vec<_> = (1..=3)
        .map(|id| order(RawOp::Update, id, 1, id * 10))
        .collect();
    rig.apply(&again).unwrap();
    assert_eq!(
        rig.rows("totals").unwrap(),
        [format!("user_id=1 orders=8 amount={}", 220 - 40 + REFUSED)]
    );
}

#[test]
fn what_can_not_be_remembered_is_not_dropped() {
    let rig = with_room_for_three(OnError::Park);
    rig.apply(&[bad(1), bad(2)]).unwrap();
    assert_eq!(rig.drop_letters(None, None), Ok(2));
    rig.apply(&[bad(3), bad(4)]).unwrap();
    let refused = rig.drop_letters(None, None).unwrap_err().to_string();
    assert!(
        refused.contains("rule shop.totals has missed changes of 2 rows that have not changed since, and would miss those of 2 more; limits.dead_letters_max allows 3"),
        "{refused}"
    );
    assert_eq!(parked(&rig, "shop.totals"), 2);
    let id = letters(&rig)[0].0;
    assert_eq!(rig.drop_letters(None, Some(id)), Ok(1));
    // Once the rule knows the others again there is room.
    rig.apply(&[order(RawOp::Update, 1, 1, 11)]).unwrap();
    assert_eq!(rig.drop_letters(None, None), Ok(1));
    rig.apply(&[
        order(RawOp::Update, 2, 1, 20),
        order(RawOp::Update, 3, 1, 30),
        order(RawOp::Update, 4, 1, 40),
    ])
    .unwrap();
    assert_eq!(
        rig.rows("totals").unwrap(),
        ["user_id=1 orders=6 amount=211"]
    );
}
