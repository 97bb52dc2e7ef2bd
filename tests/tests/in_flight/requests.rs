//! An idempotency key is known from the moment at which its request is taken.
//!
//! A client that gets no answer in time sends its request again, while the first one may lie anywhere between the
//! queue and the disk. Applied twice, it undoes what others did in between. Two gaps were there once:
//! requests that the engine took in one batch were held only against those of earlier batches, and a request
//! whose changes came to nothing was forgotten as soon as any commit ended.

use std::sync::{Arc, atomic::Ordering};

use rulemill::{
    change::{Idempotency, RawOp, Refused},
    store::Store,
};
use rulemill_tests::{
    rig::{Options, Rig, TestChange},
    wait::until,
};
use rulemill_wire::{Decimal, ValueRef};

use crate::{
    held::{hold, submit, wait_until_committed},
    plugins::counting,
};

fn start(options: &Options) -> Rig {
    let store = Arc::new(Store::in_memory().unwrap());
    Rig::start(store, options, &[("counting", counting::plugin, "1")]).unwrap()
}

fn item<'a>(op: RawOp, id: i64, level: i64) -> TestChange<'a> {
    TestChange {
        table: "items",
        op,
        row: vec![
            ("id", ValueRef::I64(id)),
            ("part", ValueRef::I64(0)),
            ("level", ValueRef::I64(level)),
            ("amount", ValueRef::Decimal(Decimal::ZERO)),
        ],
        time: Some(1),
    }
}

fn key(body: u8) -> Option<Idempotency> {
    Some(Idempotency {
        key: "k".into(),
        body_hash: [body; 32],
    })
}

#[test]
fn a_request_that_comes_twice_in_one_batch_counts_once() {
    let mut options = Options::default();
    // The engine waits until it has these four, and takes them as one batch.
    options.limits.batch_changes_max = 4;
    options.limits.batch_wait_ms = 120_000;
    let rig = start(&options);
    let first = submit(&rig, &[item(RawOp::Upsert, 1, 5)], key(1));
    let between = submit(&rig, &[item(RawOp::Upsert, 1, 6)], None);
    let again = submit(&rig, &[item(RawOp::Upsert, 1, 5)], key(1));
    let other = submit(&rig, &[item(RawOp::Upsert, 1, 7)], key(2));
    let (first, again) = (first.wait().unwrap(), again.wait().unwrap());
    assert!(!first.repeated && again.repeated);
    assert_eq!((first.seq, first.changes), (again.seq, again.changes));
    between.wait().unwrap();
    assert!(matches!(other.wait(), Err(Refused::KeyReused)));
    assert_eq!(rig.rows("counts").unwrap(), ["id=1 changes=2 level=6"]);
    rig.stop().unwrap();
}

#[test]
fn a_request_that_changed_nothing_is_known_until_its_own_commit() {
    let mut options = Options::default();
    options.limits.batch_changes_max = 1;
    let rig = start(&options);
    let before = hold(&rig, &[item(RawOp::Upsert, 1, 1)]);
    // There is no item 7, so this takes no number.
    let nothing = submit(&rig, &[item(RawOp::Delete, 7, 0)], key(1));
    let second = hold(&rig, &[item(RawOp::Upsert, 7, 2)]);
    until("the engine to have taken both", || {
        (counting::GREATEST.load(Ordering::SeqCst) == 7).then_some(())
    });
    before.release();
    rig.wait_for(|status| status.durable_seq == 1);
    // Now the second commit is held: what is in it is in the engine's hands alone.
    let again = submit(&rig, &[item(RawOp::Delete, 7, 0)], key(1));
    let last = submit(&rig, &[item(RawOp::Upsert, 2, 3)], None);
    second.release();
    assert!(!nothing.wait().unwrap().repeated);
    assert!(again.wait().unwrap().repeated);
    wait_until_committed(&rig, &last);
    let expected = [
        "id=1 changes=1 level=1",
        "id=2 changes=1 level=3",
        "id=7 changes=1 level=2",
    ];
    assert_eq!(rig.rows("counts").unwrap(), expected);
    rig.stop().unwrap();
}
