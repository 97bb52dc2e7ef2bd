//! What somebody who follows the log is told of a rebuild: nothing while it goes on, then that the rows are others.

use rulemill::{
    change::Seq,
    http::{answers::TailOp, tail},
};

use super::*;

/// The lines of `totals` behind `sent`: seq, what happened, the user, and their orders then.
fn lines(rig: &Rig, table: Option<&str>, sent: u64) -> Vec<(u64, TailOp, Option<String>)> {
    let reader = rig.store.reader().unwrap();
    let mut found = Vec::new();
    let all = tail::lines(&reader, table, Seq(sent), |line| {
        if line.table == "totals" {
            let after = line.after.map(|row| row.get().to_owned());
            found.push((line.seq, line.op, after));
        }
        assert!(!line.table.contains(':'), "{}", line.table);
        Ok(true)
    });
    assert!(all.unwrap());
    found
}

#[test]
fn whoever_follows_a_table_is_told_that_it_was_made_again() {
    let store = Arc::new(Store::in_memory().unwrap());
    let rig = Rig::start(store, &options(), &[FIRST]).unwrap();
    for id in 1..=3 {
        rig.apply(&[order(RawOp::Insert, id, id, 1)]).unwrap();
    }
    let sent = rig.store.reader().unwrap().last_seq().0;
    let before = lines(&rig, Some("totals"), 0);
    assert_eq!(before.len(), 3);
    // Another type of a column: it must be rebuilt, and isn't by itself.
    assert!(rig.load("shop", second::plugin, "2").is_err());
    rig.rebuild("shop").unwrap();
    rig.wait_for(|status| {
        let shop = &status.plugins["shop"];
        shop.rebuild.is_none() && shop.refused.is_none()
    });
    let last = rig.apply(&[order(RawOp::Insert, 4, 1, 1)]).unwrap().seq.0;
    for table in [Some("totals"), None] {
        let told = lines(&rig, table, sent);
        let (switch, op, row) = told[0].clone();
        assert_eq!((op, row), (TailOp::Rebuilt, None), "{table:?}");
        assert!(sent < switch && switch < last, "{table:?}: {told:?}");
        assert_eq!(told.len(), 2, "{table:?}: {told:?}");
        assert_eq!((told[1].0, told[1].1), (last, TailOp::Update), "{table:?}");
        assert!(told[1].2.as_ref().unwrap().contains("\"orders\":4"));
        // From the beginning: what the table was, the switch, what it is.
        let told = lines(&rig, table, 0);
        assert_eq!(told[..3], before, "{table:?}");
        assert_eq!(told.len(), 5, "{table:?}: {told:?}");
        assert_eq!(lines(&rig, table, switch).len(), 1, "{table:?}");
        assert!(lines(&rig, table, last).is_empty());
    }
}
