//! What wrote a row: the change behind it and the code that ran, also after that has been replaced or its table rebuilt.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

use std::sync::Arc;

use rulemill::{
    change::RawOp,
    http::{
        RowsQuery,
        answers::{Provenance, Rows},
        read,
    },
    rule,
    store::Store,
};
use rulemill_tests::rig::{Options, Rig, TestChange};
use rulemill_wire::ValueRef;

mod counts {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "orders")]
    pub struct Order {
        #[key]
        id: i64,
        user_id: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "counts")]
    pub struct Count {
        #[key]
        user_id: i64,
        orders: i64,
    }

    #[rule]
    pub fn counts(change: Change<Order>, counts: &mut Table<Count>) -> Outcome {
        for Delta { row, sign } in change.deltas() {
            counts.entry(row.user_id)?.orders += sign;
        }
        Ok(())
    }

    rulemill_sdk::plugin!(counts);
}

fn order(rig: &Rig, id: i64, user: i64) -> u64 {
    let row = vec![("id", ValueRef::I64(id)), ("user_id", ValueRef::I64(user))];
    let (table, op) = ("orders", RawOp::Insert);
    let change = TestChange {
        table,
        op,
        row,
        time: Some(id),
    };
    rig.apply(&[change]).unwrap().seq.0
}

fn rows(rig: &Rig, table: &str, provenance: bool) -> Rows {
    let query = RowsQuery {
        table: table.into(),
        provenance,
        ..RowsQuery::default()
    };
    let reader = rig.store.reader().unwrap();
    read::rows(&reader, &Options::default().limits, &query).unwrap()
}

fn by(seq: u64, version: u32, label: &str) -> Provenance {
    Provenance {
        seq,
        plugin: Some("shop".into()),
        version: Some(version),
        hash: Some(rule::hash(label.as_bytes()).to_string()),
    }
}

#[test]
fn a_row_names_the_change_and_the_code_that_wrote_it() {
    let store = Arc::new(Store::in_memory().unwrap());
    let plugins = [("shop", counts::plugin as fn() -> _, "1")];
    let rig = Rig::start(store, &Options::default(), &plugins).unwrap();
    let first = order(&rig, 1, 7);
    order(&rig, 2, 8);
    let third = order(&rig, 3, 8);
    assert!(rows(&rig, "counts", false).provenance.is_none());
    let of_first = [by(first, 1, "1"), by(third, 1, "1")];
    assert_eq!(rows(&rig, "counts", true).provenance.unwrap(), of_first);
    rig.load("shop", counts::plugin, "2").unwrap();
    assert_eq!(rows(&rig, "counts", true).provenance.unwrap(), of_first);
    let fourth = order(&rig, 4, 8);
    assert_eq!(
        rows(&rig, "counts", true).provenance.unwrap(),
        [by(first, 1, "1"), by(fourth, 2, "2")]
    );
    let of_source = Provenance {
        seq: first,
        plugin: None,
        version: None,
        hash: None,
    };
    assert_eq!(rows(&rig, "orders", true).provenance.unwrap()[0], of_source);
    // A rebuild writes every row anew, under the plugin's own name once it serves.
    rig.rebuild("shop").unwrap();
    rig.wait_for(|status| status.plugins["shop"].rebuild.is_none());
    let fifth = order(&rig, 5, 8);
    let rebuilt = rows(&rig, "counts", true).provenance.unwrap();
    assert_eq!(rebuilt[1].seq, fifth);
    for row in rebuilt {
        assert!(row.seq > fourth, "{row:?}");
        let code = by(row.seq, row.version.unwrap(), "2");
        assert_eq!(row, code);
    }
}
