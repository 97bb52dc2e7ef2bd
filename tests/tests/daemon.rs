//! How the daemon starts, ends and stands beside others, seen from outside.
//!
//! What could go wrong: a signal in the middle of a batch loses it or leaves the process hanging; a rule that never
//! returns keeps the host from ending at all; a second host on the same directory spoils it; a batch run that
//! is repeated counts twice; a log for machines has a line that is none of theirs.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../guests/mod.rs"]
mod guests;

use std::{io::Write, process::Stdio, thread, time::Duration};

use guests::Guest;
use rulemill_tests::{daemon::Daemon, site::Site};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rulemill-under-test");

const CONFIGURATION: &str = r#"
[http]
listen = "127.0.0.1:0"

[[source]]
name = "inbox"
kind = "files"
path = "inbox"

[[table]]
name = "users"
key = ["id"]
columns = { id = "i64" }

[limits]
plugin_call_ms_max = 600000
"#;

/// About a second of computing, and then nothing to write.
const SLOW: &str = "(local $i i32)
    (loop $l
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $l (i32.ne (local.get $i) (i32.const 1000000000))))
    (call $effects)";

const ENDLESS: &str = "(loop $l (br $l)) unreachable";

fn site(dir: &tempfile::TempDir, configuration: &str) -> Site {
    let site = Site::new(PROGRAM, dir.path(), configuration).unwrap();
    std::fs::create_dir_all(site.path("inbox")).unwrap();
    site
}

/// Changes of a table, by their keys.
fn lines(table: &str, ids: impl IntoIterator<Item = i64>) -> String {
    ids.into_iter()
        .map(|id| {
            format!("{{\"table\":\"{table}\",\"op\":\"upsert\",\"after\":{{\"id\":{id}}}}}\n")
        })
        .collect()
}

/// A site whose rule over `orders` does this.
fn with_rule(dir: &tempfile::TempDir, configuration: &str, apply: &'static str) -> Site {
    let site = site(dir, configuration);
    let guest = Guest {
        apply,
        ..Guest::default()
    };
    site.write("plugins/guest.wasm", guest.assemble()).unwrap();
    site
}

/// A daemon whose rule has been handed three orders.
fn busy(site: &Site) -> Daemon {
    let mut daemon = site.daemon().unwrap();
    site.write("inbox/orders.jsonl", lines("orders", 1..=3))
        .unwrap();
    daemon.until("the orders to be handed over", |daemon| {
        (daemon.handed_over()? == 3).then_some(())
    });
    daemon
}

#[test]
fn sigterm_finishes_the_batch_at_hand() {
    let dir = tempfile::tempdir().unwrap();
    let site = with_rule(&dir, CONFIGURATION, SLOW);
    let daemon = busy(&site);
    let posted = thread::scope(|scope| {
        let posted = scope.spawn(|| daemon.post(None, lines("users", [1])));
        daemon.signal("TERM").unwrap();
        posted.join().unwrap()
    });
    let (status, log) = daemon.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(
        log.contains("SIGTERM: ending after the batch at hand"),
        "{log}"
    );
    assert!(log.contains("ended: received SIGTERM"), "{log}");
    assert_eq!(site.rows("orders").unwrap(), ["1", "2", "3"]);
    let rules = site.json(&["rules", "--json"]).unwrap();
    assert_eq!(rules["rules"][0]["changes"], 3, "{rules}");
    // A request in the middle of it is answered for what it is.
    let users = site.rows("users").unwrap();
    match posted {
        Ok((200, answer)) => assert_eq!(users, ["1"], "{answer}"),
        Ok((503, _)) | Err(_) => assert_eq!(users, [""; 0]),
        Ok(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    for (first, second, code) in [
        ("TERM", "TERM", 143),
        ("INT", "INT", 130),
        ("TERM", "INT", 130),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let site = with_rule(&dir, CONFIGURATION, ENDLESS);
        let daemon = site.daemon().unwrap();
        let (status, answer) = daemon.post(None, lines("users", [7])).unwrap();
        assert_eq!(status, 200, "{answer}");
        drop(daemon.stop().unwrap());

        let mut daemon = busy(&site);
        daemon.signal(first).unwrap();
        daemon.until("the first signal to be told", |daemon| {
            daemon
                .log()
                .contains("a second signal ends at once")
                .then_some(())
        });
        daemon.signal(second).unwrap();
        let (status, log) = daemon.wait_at_most(Duration::from_secs(10)).unwrap();
        assert_eq!(status.code(), Some(code), "{log}");
        assert!(
            log.contains(&format!("a second signal, SIG{second}")),
            "{log}"
        );
        assert_eq!(site.rows("users").unwrap(), ["7"]);
    }
}

/// Checks that all that was said is JSON objects, one a line, with a level and a message; gives the messages.
fn messages(log: &str) -> Vec<String> {
    assert!(!log.is_empty());
    log.lines()
        .map(|line| {
            let object: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(object["level"].is_string(), "{line}");
            assert!(object["timestamp"].is_string(), "{line}");
            object["message"]
                .as_str()
                .unwrap_or_else(|| panic!("{line}"))
                .to_owned()
        })
        .collect()
}

#[test]
fn a_json_log_is_one_object_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let configuration = format!("{CONFIGURATION}\n[log]\nformat = \"json\"\n");
    let site = with_rule(&dir, &configuration, ENDLESS);
    site.write("plugins/junk.wasm", "junk\nover two lines")
        .unwrap();
    site.write("inbox/bad.jsonl", "{\n\"\n").unwrap();
    let mut daemon = site.daemon().unwrap();
    daemon.until_taken(2);
    let second = site.run(&["run"]).unwrap();
    assert_eq!(second.code(), 1);
    let said = messages(&second.stderr());
    assert!(said.last().unwrap().contains("in use"), "{said:?}");
    let said = messages(&daemon.stop().unwrap());
    assert!(
        said.iter().any(|line| line.contains("parked input")),
        "{said:?}"
    );
    assert!(said.last().unwrap().contains("ended"), "{said:?}");

    let daemon = busy(&site);
    daemon.signal("TERM").unwrap();
    daemon.signal("INT").unwrap();
    let (_, log) = daemon.wait_at_most(Duration::from_secs(10)).unwrap();
    let said = messages(&log);
    assert!(said.last().unwrap().contains("second signal"), "{said:?}");
}

#[test]
fn a_second_host_is_kept_out_and_told_why() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir, CONFIGURATION);
    let daemon = site.daemon().unwrap();
    for arguments in [&["run"][..], &["run", "--once"]] {
        let second = site.run(arguments).unwrap();
        let says = second.stderr();
        assert_eq!(second.code(), 1, "{says}");
        let last = says.lines().last().unwrap();
        assert!(
            last.contains("data") && last.contains("in use by another rulemill"),
            "{says}"
        );
    }
    // The first one doesn't mind, and is still found.
    assert_eq!(daemon.post(None, lines("users", [1])).unwrap().0, 200);
    assert_eq!(site.rows("users").unwrap(), ["1"]);
    let status = site.json(&["status", "--json"]).unwrap();
    assert_eq!(status["running"], true);
    daemon.stop().unwrap();
}

#[test]
fn a_plugin_is_compiled_once_and_the_log_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir, CONFIGURATION);
    site.write("plugins/sums.wasm", guests::assemble(guests::V1))
        .unwrap();
    let log = || site.run(&["run", "--once"]).unwrap().stderr();
    let first = log();
    assert!(first.contains("compiled plugin sums in "), "{first}");
    let second = log();
    assert!(!second.contains("compiled plugin"), "{second}");
}

/// Both once said that they had done it, whatever the rule did before.
#[test]
fn a_rule_that_runs_or_stands_already_is_told_and_plugins_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir, CONFIGURATION);
    site.write("plugins/sums.wasm", guests::assemble(guests::V1))
        .unwrap();
    let daemon = site.daemon().unwrap();
    for (command, says) in [
        ("resume", "sums.sums runs already\n"),
        ("pause", "paused sums.sums\n"),
        ("pause", "sums.sums is paused already\n"),
        ("resume", "resumed sums.sums\n"),
        ("resume", "sums.sums runs already\n"),
    ] {
        assert_eq!(site.ok(&["rules", command, "sums"]).unwrap(), says);
    }
    let again = ["rules", "resume", "sums", "--json"];
    assert_eq!(
        site.json(&again).unwrap(),
        serde_json::json!({"rule": "sums.sums", "changed": false, "status": "running"})
    );
    // Where the error leads to, they are.
    let ran = site.run(&["rebuild", "nope"]).unwrap();
    let says = "there is no plugin nope: `rulemill status` lists them";
    assert!(ran.stderr().contains(says), "{}", ran.stderr());
    let status = site.ok(&["status"]).unwrap();
    assert!(
        status.lines().any(|line| line.starts_with("plugin sums ")),
        "{status}"
    );
    // A start says what stands.
    site.ok(&["rules", "pause", "sums"]).unwrap();
    daemon.stop().unwrap();
    let log = site.run(&["run", "--once"]).unwrap().stderr();
    assert!(log.contains("rule sums.sums is paused"), "{log}");
}

#[test]
fn a_batch_run_that_is_repeated_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir, CONFIGURATION);
    site.write("plugins/sums.wasm", guests::assemble(guests::V1))
        .unwrap();
    let number = |id: i64, value: i64| {
        format!(
            "{{\"table\":\"numbers\",\"op\":\"insert\",\"after\":{{\"id\":{id},\"value\":{value}}}}}\n"
        )
    };
    let text: String = (0..40).map(|id| number(id, id)).collect();
    site.write("inbox/numbers.jsonl", text + &number(50, 7) + "{\n")
        .unwrap();
    site.write("inbox/users.csv", "id\n1\n2\n").unwrap();
    let state = || {
        let mut status = site.json(&["status", "--json"]).unwrap();
        // The file may be packed otherwise.
        status.as_object_mut().unwrap().remove("store_bytes");
        let bad = site
            .json(&["dead-letters", "--source", "inbox", "--json"])
            .unwrap();
        let tables = ["numbers", "sums", "users"].map(|table| site.rows(table).unwrap());
        (status, bad, tables)
    };
    site.ok(&["run", "--once"]).unwrap();
    let first = state();
    assert_eq!(first.0["durable_seq"], 43);
    assert_eq!(first.2[1].len(), 41);
    assert_eq!(first.2[1][40], "50,7");
    site.ok(&["run", "--once"]).unwrap();
    assert_eq!(state(), first);
}

#[test]
fn standard_input_is_read_to_its_end() {
    let configuration =
        CONFIGURATION.replace("kind = \"files\"\npath = \"inbox\"", "kind = \"stdin\"");
    let halting = configuration.replace(
        "kind = \"stdin\"",
        "kind = \"stdin\"\non_bad_input = \"halt\"",
    );
    // The last line has no end of its own.
    let good = lines("users", 1..=2000);
    let good = good.trim_end();
    for (configuration, input, code, rows) in [
        (&configuration, good.to_owned(), 0, 2000),
        (&configuration, format!("{{\n{good}"), 0, 2000),
        (&halting, good.to_owned(), 0, 2000),
        (&halting, format!("{}{{\n{good}", lines("users", [5])), 1, 1),
        (&halting, String::new(), 0, 0),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let site = site(&dir, configuration);
        let mut command = site.command(&["run", "--once"]);
        let piped = command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A source that halts closes the pipe before all is written.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let says = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{says}");
        assert_eq!(site.rows("users").unwrap().len(), rows, "{says}");
        if code == 1 {
            assert!(says.lines().last().unwrap().contains("stdin:2"), "{says}");
        }
    }
}

#[test]
fn a_daemon_outlives_its_standard_input() {
    let configuration =
        CONFIGURATION.replace("kind = \"files\"\npath = \"inbox\"", "kind = \"stdin\"");
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir, &configuration);
    let mut daemon = site.daemon_with(Stdio::piped()).unwrap();
    let mut stdin = daemon.stdin().unwrap();
    stdin.write_all(lines("users", 1..=5).as_bytes()).unwrap();
    daemon.until_taken(5);
    drop(stdin);
    daemon.until("the source to end", |daemon| {
        let status = daemon.status().ok()?;
        (status["sources"]["inbox"]["state"] == "ended").then_some(())
    });
    assert_eq!(daemon.post(None, lines("users", [6])).unwrap().0, 200);
    assert_eq!(site.rows("users").unwrap().len(), 6);
    daemon.stop().unwrap();
}
