//! Files that must be refused, which come while their neighbours work: none of them is held up or disturbed.

use std::{sync::PoisonError, thread};

use rulemill_tests::{random::from_environment, wait::until};
use rulemill_wire::manifest::{Access, Input, Manifest};

use crate::{
    HOSTILE, Host, SLACK, TURN,
    copier::{assemble, table},
    guests::Guest,
    stream::{self, Expected},
};

/// A file, and why it is refused; if that ends in `..`, its beginning.
struct Refused {
    name: &'static str,
    code: Vec<u8>,
    reason: &'static str,
}

fn lie(name: &'static str, reason: &'static str, change: fn(&mut Manifest)) -> Refused {
    let mut manifest = HOSTILE.manifest();
    change(&mut manifest);
    Refused {
        name,
        code: assemble(&manifest, "", ""),
        reason,
    }
}

/// A guest that says this much at once has it in a segment that is copied when it is asked.
fn large(manifest: &Manifest) -> Vec<u8> {
    let bytes = manifest.to_bytes();
    let escaped: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let len = bytes.len();
    Guest {
        fields: format!("(data $large \"{escaped}\")").leak(),
        describe: format!(
            "(drop (memory.grow (i32.const 64)))
             (memory.init $large (i32.const 131072) (i32.const 0) (i32.const {len}))
             (call $ok (i32.const 131072) (i32.const {len}))"
        )
        .leak(),
        ..Guest::default()
    }
    .assemble()
}

fn ten_thousand_tables() -> Manifest {
    let mut manifest = HOSTILE.manifest();
    let tables = (0..10_000).map(|number| table(&format!("t{number}"), Access::Own, "v"));
    manifest.tables.extend(tables);
    manifest
}

fn files() -> Vec<Refused> {
    let faulted =
        "faulted while describing itself: ran longer than limits.plugin_describe_ms_max = 400";
    let start = |fields, reason| Refused {
        name: "a start function",
        code: Guest {
            fields,
            ..Guest::default()
        }
        .assemble(),
        reason,
    };
    vec![
        Refused {
            name: "10,000 tables",
            code: large(&ten_thousand_tables()),
            reason: "describes itself wrongly: it has 10002 tables, and limits.plugin_tables_max is 256",
        },
        start("(func $start (loop $l (br $l))) (start $start)", faulted),
        start(
            "(func $start (unreachable)) (start $start)",
            "faulted while describing itself: trapped: ..",
        ),
        lie(
            "a neighbour's table",
            "claims table good_copy, which belongs to plugin good: ..",
            |m| m.tables[1].name = "good_copy".into(),
        ),
        lie(
            "a source's table",
            "claims table letters, whose rows come from a source: ..",
            |m| m.tables[1].name = "letters".into(),
        ),
        lie(
            "a column of another type",
            "hostile reads column numbers.value as uuid, but plugin good has it as i64: ..",
            |m| {
                m.tables[0].columns[1].ty = rulemill_wire::ColumnType::Uuid;
            },
        ),
        lie(
            "another key",
            "says that the key of table numbers is (value), but it is (id)",
            |m| m.tables[0].key = vec![1],
        ),
        lie(
            "an index that nobody has",
            "table numbers has no index on value: ..",
            |m| {
                let index = rulemill_wire::manifest::Index { columns: vec![1] };
                m.tables[0].indexes.push(index);
            },
        ),
        lie(
            "a rule that is called for what it writes",
            "describes itself wrongly: rule copy writes table hostile_copy, whose changes it gets",
            |m| m.rules[0].input = Input::Changes(1),
        ),
        lie(
            "a table's name with a space",
            "describes itself wrongly: a table \"a b\" has the character ' ' in its name",
            |m| m.tables[1].name = "a b".into(),
        ),
        lie(
            "a table's name that is a path",
            "describes itself wrongly: a table \"../../etc/passwd\" has the character '/' in its name",
            |m| m.tables[1].name = "../../etc/passwd".into(),
        ),
        lie(
            "a table's name with a control character",
            "describes itself wrongly: a table \"a\\u{1b}[2J\" has control characters",
            |m| m.tables[1].name = "a\u{1b}[2J".into(),
        ),
        lie(
            "a table's name that is written from right to left",
            "describes itself wrongly: a table \"a\\u{202e}b\" has the character '\\u{202e}' in its name",
            |m| m.tables[1].name = "a\u{202e}b".into(),
        ),
        lie(
            "a table without a name",
            "describes itself wrongly: a table has an empty name",
            |m| m.tables[1].name.clear(),
        ),
        lie(
            "a name of 10,000 bytes",
            "describes itself wrongly: a table is longer than 255 bytes",
            |m| m.tables[1].name = "t".repeat(10_000),
        ),
        lie(
            "a rule's name with a dot",
            "describes itself wrongly: a rule \"good.copy\" has the character '.' in its name",
            |m| m.rules[0].name = "good.copy".into(),
        ),
        lie(
            "a column's name with a quote",
            "describes itself wrongly: a column of table hostile_copy \"v\\\"\" has the character '\"' in its name",
            |m| m.tables[1].columns[1].name = "v\"".into(),
        ),
        lie(
            "a plugin's name of two lines",
            "describes itself wrongly: the plugin's name \"a\\nb\" has control characters",
            |m| m.name = "a\nb".into(),
        ),
    ]
}

#[test]
fn files_that_are_refused_disturb_nobody() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = from_environment("RULEMILL_SEED", 0x5eed);
    let batches = stream::batches(seed);
    println!("repeat with RULEMILL_SEED={seed}");
    let files = files();
    let host = Host::start();
    let tables_before = host.rig.handle.catalog.load().tables().count();
    let mut taken = Vec::new();
    thread::scope(|scope| {
        let loading = scope.spawn(|| {
            for Refused { name, code, reason } in &files {
                let said = match host.take("hostile", code.clone()) {
                    Ok(()) => "nothing: it runs".to_owned(),
                    Err(said) => said,
                };
                let same = match reason.strip_suffix("..") {
                    Some(beginning) => said.starts_with(beginning),
                    None => said == *reason,
                };
                println!("{name}: {said}");
                if !same || said.starts_with("nothing") {
                    return Err(format!("{name}:\nexpected: {reason}\nfound:    {said}"));
                }
            }
            Ok(())
        });
        // Again and again, for as long as files come.
        while !loading.is_finished() || taken.len() < batches.len() {
            let batch = &batches[taken.len() % batches.len()];
            let took = host.apply(batch);
            assert!(took < SLACK, "a batch took {took:?}; RULEMILL_SEED={seed}");
            taken.push(batch.clone());
        }
        loading.join().unwrap().unwrap();
    });
    let expected = Expected::of(&taken);
    host.check_neighbours(&expected, "refused files");
    assert_eq!(
        host.rig.handle.catalog.load().tables().count(),
        tables_before,
        "a refused plugin left a table"
    );
    let status = host.rig.handle.board.load();
    assert!(!status.rules.contains_key("hostile.copy"), "{status:?}");
    // The name is free for one that does nothing wrong.
    host.load("hostile", &HOSTILE.manifest(), "", "").unwrap();
    until("the rows that were there to be copied", || {
        // The table comes with the commit of its first rows.
        let there = host.rig.rows("hostile_copy").is_ok();
        (there && host.copy("hostile_copy") == expected.numbers).then_some(())
    });
}
