//! Lines of files.

use rulemill_tests::{daemon::Daemon, site::Site};
use serde_json::Value;

use crate::{CASES, CONFIGURATION, Case, PROGRAM, good, ids};

fn site(dir: &tempfile::TempDir, configuration: &str) -> Site {
    let site = Site::new(PROGRAM, dir.path(), configuration).unwrap();
    std::fs::create_dir_all(site.path("inbox")).unwrap();
    site
}

fn dead_letters(site: &Site) -> Vec<Value> {
    let arguments = [
        "dead-letters",
        "--source",
        "inbox",
        "--json",
        "--limit",
        "1000",
    ];
    let mut answer = site.json(&arguments).unwrap();
    serde_json::from_value(answer["dead_letters"].take()).unwrap()
}

/// The bad input of a file; there must be one.
fn of_file<'a>(letters: &'a [Value], file: &str) -> &'a Value {
    let mut found = letters.iter().filter(|letter| letter["origin"] == file);
    let letter = found
        .next()
        .unwrap_or_else(|| panic!("{file} isn't reported"));
    assert!(found.next().is_none(), "{file} is reported twice");
    letter
}

fn check_parked(case: &Case, letters: &[Value], daemon: &Daemon) {
    let file = format!("{}.jsonl", case.name);
    let letter = of_file(letters, &file);
    assert_eq!(letter["line"], 2, "{file}");
    assert_eq!(letter["offset_bytes"], good(0).len(), "{file}");
    case.check_reason(letter["reason"].as_str().unwrap());
    let text = String::from_utf8_lossy(case.line);
    assert_eq!(letter["text"], *text, "{file}");
    let log = daemon.log();
    assert!(
        log.lines()
            .any(|line| line.contains(&file) && line.contains("line=2")),
        "{file}: not in the log: {log}"
    );
}

#[test]
fn a_bad_line_is_kept_with_its_place_and_the_others_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir, CONFIGURATION);
    let mut daemon = site.daemon().unwrap();
    for (number, _) in CASES.iter().enumerate() {
        let case = &CASES[number];
        let first = 2 * number as i64;
        // All good lines are of one length, so that the bad one's place is known.
        let ids = [first % 10, 1_000 + first];
        let path = format!("inbox/{}.jsonl", case.name);
        site.write(&path, case.between_good_lines(ids)).unwrap();
    }
    // The record is two fields short, and the next one is whole.
    let csv = "id,name,paid\n901,ann,1.00\n902\n903,bob,\"2.50\"\n904,eve,lots\n";
    site.write("inbox/users.csv", csv).unwrap();
    let lines = 3 * CASES.len() as u64 + 4;
    daemon.until_taken(lines);

    let letters = dead_letters(&site);
    for case in CASES {
        check_parked(case, &letters, &daemon);
    }
    let csv: Vec<&Value> = letters
        .iter()
        .filter(|l| l["origin"] == "users.csv")
        .collect();
    assert_eq!(csv.len(), 2, "{csv:?}");
    for (letter, line, words) in [
        (csv[0], 3, &["users", "1 field", "header", "3"][..]),
        (csv[1], 5, &["users", "paid", "lots", "decimal"]),
    ] {
        assert_eq!(letter["line"], line);
        let reason = letter["reason"].as_str().unwrap();
        for word in words {
            assert!(reason.contains(word), "{word:?} is not in: {reason}");
        }
    }
    let status = daemon.status().unwrap();
    let inbox = &status["sources"]["inbox"];
    assert_eq!(inbox["bad"], CASES.len() as u64 + 2);
    assert_eq!(inbox["state"], "following");

    let found = ids(&site);
    for number in 0..CASES.len() as i64 {
        let (before, after) = (2 * number % 10, 1_000 + 2 * number);
        assert!(
            found.contains(&before) && found.contains(&after),
            "{number}: {found:?}"
        );
    }
    assert!(found.contains(&901) && found.contains(&903), "{found:?}");
    assert!(!found.contains(&902) && !found.contains(&904), "{found:?}");
    daemon.stop().unwrap();
}

#[test]
fn a_source_that_halts_on_bad_input_stops_before_it() {
    let configuration = CONFIGURATION.replace(
        "path = \"inbox\"",
        "path = \"inbox\"\non_bad_input = \"halt\"",
    );
    for case in CASES {
        let dir = tempfile::tempdir().unwrap();
        let site = site(&dir, &configuration);
        site.write("inbox/users.jsonl", case.between_good_lines([1, 2]))
            .unwrap();
        // The second time it stands before the same line.
        for _ in 0..2 {
            let ran = site.run(&["run", "--once"]).unwrap();
            assert_eq!(ran.code(), 1, "{}: {}", case.name, ran.stderr());
            let last = ran.stderr().lines().last().unwrap().to_owned();
            assert!(
                last.contains("inbox") && last.contains("users.jsonl:2"),
                "{last}"
            );
            case.check_reason(&last);
            assert_eq!(ids(&site), [1], "{}", case.name);
            let status = site.json(&["status", "--json"]).unwrap();
            assert_eq!(status["durable_seq"], 1, "{}", case.name);
        }
    }
}

#[test]
fn a_halted_source_goes_on_once_its_line_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let configuration = CONFIGURATION.replace(
        "path = \"inbox\"",
        "path = \"inbox\"\non_bad_input = \"halt\"",
    );
    let site = site(&dir, &configuration);
    let bad = &CASES[0];
    site.write("inbox/users.jsonl", bad.between_good_lines([1, 2]))
        .unwrap();
    let mut daemon = site.daemon().unwrap();
    daemon.until("the source to halt", |daemon| {
        let status = daemon.status().ok()?;
        let inbox = &status["sources"]["inbox"];
        let reason = inbox["last_error"].as_str()?;
        assert!(reason.contains("users.jsonl:2"), "{reason}");
        (inbox["state"] == "halted").then_some(())
    });
    // Other ways in stay open.
    assert_eq!(daemon.post(None, good(7)).unwrap().0, 200);
    daemon.stop().unwrap();
    let mended = [good(1), good(5), good(2)].concat();
    site.write("inbox/users.jsonl", mended).unwrap();
    site.ok(&["run", "--once"]).unwrap();
    assert_eq!(ids(&site), [1, 2, 5, 7]);
}
