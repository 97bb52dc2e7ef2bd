//! CSV files that can't be read as rows of a table, and lines with quotes that can't be told apart.

use super::*;

/// Reads what is there twice: what was said once is not said again.
fn once(rig: &Rig) {
    rig.once().unwrap();
    let bad = rig.bad();
    rig.once().unwrap();
    assert_eq!(rig.bad(), bad);
}

#[test]
fn a_header_that_makes_no_sense_is_said_once() {
    for (header, why) in [
        ("id,id", "the header has column id twice"),
        ("id,,note", "the header has no name for column 2"),
        ("id,\"note", "field 2 opens a quote that nothing closes"),
        ("id,\"no\"te", "field 2 has text behind its closing quote"),
        (
            "name,note",
            "the header has no column id, which is of the key",
        ),
    ] {
        let rig = Rig::new();
        rig.write("t.csv", format!("{header}\n1,1\n2,2\n"));
        rig.write("u.csv", "id\n3\n");
        once(&rig);
        assert_eq!(rig.changes(), ["u 3"], "{header}: the other file is read");
        let bad = rig.bad();
        assert_eq!(bad.len(), 1, "{bad:?}");
        assert!(
            bad[0].starts_with("t.csv:1: ") && bad[0].contains(why),
            "{bad:?}"
        );
        rig.notes(|notes| {
            assert_eq!(notes.bad[0].text, header);
            assert_eq!(notes.status.state, "ended; stuck: t.csv");
        });
        rig.write("t.csv", "id,note\n1,1\n2,2\n");
        once(&rig);
        assert_eq!(rig.changes(), ["u 3", "t 1", "t 2"], "{header}");
        assert_eq!(rig.notes(|notes| notes.status.state.clone()), "ended");
    }
}

#[test]
fn a_file_of_an_unknown_table_waits_for_it() {
    let rig = Rig::new();
    rig.write("w.csv", "id\n1\n2\n");
    let following = rig.follow();
    rig.wait("stuck", |notes| {
        notes.status.state == "following; stuck: w.csv"
    });
    assert_eq!(rig.bad().len(), 1);
    assert!(rig.bad()[0].contains("unknown table w"), "{:?}", rig.bad());
    let added: Result<(), ()> = rig.engine.catalog.update(|catalog| {
        let mut table = Table::clone(catalog.by_name("t").unwrap());
        table.id = catalog.next_id();
        table.name = "w".into();
        catalog.put(table);
        Ok(())
    });
    added.unwrap();
    // A plugin that is loaded wakes nobody; the directory is looked through now and then.
    rig.write("touch", "");
    rig.wait("read", |notes| notes.changes == ["w 1", "w 2"]);
    rig.wait("no longer stuck", |notes| notes.status.state == "following");
    following.stop();
    assert_eq!(rig.bad().len(), 1);
}

#[test]
fn a_table_that_changes_under_a_file_stops_it_there() {
    let rig = Rig::new();
    rig.write("t.csv", "id\n1\n");
    rig.once().unwrap();
    let need = |nullable| {
        let changed: Result<(), ()> = rig.engine.catalog.update(|catalog| {
            let mut table = Table::clone(catalog.by_name("t").unwrap());
            table.columns.truncate(1);
            table.columns.push(Column {
                name: "size".into(),
                ty: Some(ColumnType::I64),
                nullable,
            });
            catalog.put(table);
            Ok(())
        });
        changed.unwrap();
    };
    need(false);
    rig.append("t.csv", "2\n3\n");
    once(&rig);
    assert_eq!(rig.changes(), rows(&[1]));
    assert_eq!(rig.bad().len(), 1);
    assert!(
        rig.bad()[0].starts_with("t.csv:3: table t: the header has no column size"),
        "{:?}",
        rig.bad()
    );
    need(true);
    once(&rig);
    assert_eq!(rig.changes(), rows(&[1, 2, 3]));
}

#[test]
fn an_unclosed_quote_costs_its_own_line() {
    let mut rig = Rig::new();
    rig.limits.line_bytes_max = 200;
    let tail: String = (10..90).map(|id| format!("{id},x\n")).collect();
    let open = "1,\"open\n2,12\" pipe\n3,\"fine\"\n4,\"open\n";
    rig.write("t.csv", format!("id,note\n{open}{tail}"));
    // What closes it lies behind the limit.
    rig.write("t.1.csv", format!("id,note\n5,\"open\n{tail}6,x\"\n7,x\n"));
    rig.write("t.2.csv", "id,note\n8,\"open\n9,x");
    rig.once().unwrap();
    let tail = || 10..90;
    let mut expected: Vec<i64> = tail().collect();
    expected.extend([6, 7, 9, 2, 3]);
    expected.extend(tail());
    assert_eq!(rig.changes(), rows(&expected));
    let limit = "opens a quote that nothing closes in limits.line_bytes_max = 200 bytes";
    assert_eq!(
        rig.bad(),
        [
            &format!("t.1.csv:2: field 2 {limit}"),
            "t.2.csv:2: field 2 opens a quote that nothing closes",
            "t.csv:2: field 2 has text behind its closing quote",
            &format!("t.csv:5: field 2 {limit}"),
        ]
    );
    assert_eq!(rig.notes(|notes| notes.bad[3].text.clone()), "4,\"open");
}

/// While a file is followed, a line that is only half there is not told to be bad.
#[test]
fn half_a_bad_line_waits_too() {
    let rig = Rig::new();
    rig.write("t.csv", "id,note\n1,\"a\"b");
    let following = rig.follow();
    following.idle();
    rig.append("t.csv", " and more\n2,x\n");
    rig.wait_for(&[2]);
    following.stop();
    assert_eq!(
        rig.notes(|notes| notes.bad[0].text.clone()),
        "1,\"a\"b and more"
    );
}
