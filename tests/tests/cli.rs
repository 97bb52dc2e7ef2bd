//! The command line as its users meet it: exit codes, what is printed where, with and without a daemon.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    io::{Read, Write},
    process::Stdio,
};

use rulemill_tests::site::{CONFIGURATION, Site};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_rulemill-under-test");

fn site(dir: &tempfile::TempDir) -> Site {
    let site = Site::new(PROGRAM, dir.path(), CONFIGURATION).unwrap();
    std::fs::create_dir_all(dir.path().join("inbox")).unwrap();
    site
}

fn user(id: i64, name: &str) -> String {
    let line = json!({"table":"users","op":"upsert","after":{"id":id,"name":name}});
    format!("{line}\n")
}

#[test]
fn a_batch_run_is_read_without_a_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir);
    let lines = user(2, "bob, \"the\" builder") + "{\"table\":\n" + &user(1, "ada");
    site.write("inbox/users.jsonl", lines).unwrap();
    site.ok(&["run", "--once"]).unwrap();

    assert_eq!(
        site.ok(&["query", "users", "--format", "csv"]).unwrap(),
        "id,name\n1,ada\n2,\"bob, \"\"the\"\" builder\"\n"
    );
    let json_lines = site
        .ok(&["query", "users", "--key", "1", "--json"])
        .unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&json_lines).unwrap(),
        json!({"id":1,"name":"ada"})
    );
    // Both lines are of sources: no plugin wrote them.
    assert_eq!(
        site.ok(&["query", "users", "--provenance", "--format", "csv"])
            .unwrap(),
        "id,name,:seq,:plugin,:hash\n1,ada,2,,\n2,\"bob, \"\"the\"\" builder\",1,,\n"
    );
    assert_eq!(
        site.json(&["query", "users", "--key", "1", "--json", "--provenance"])
            .unwrap(),
        json!({"row":{"id":1,"name":"ada"},"seq":2,"plugin":null,"version":null,"hash":null})
    );
    let table = site.ok(&["query", "users", "--from", "2"]).unwrap();
    assert!(table.contains("bob") && !table.contains("ada"), "{table}");

    let tables = site.json(&["tables", "--json"]).unwrap();
    assert_eq!(tables["tables"][0]["name"], "users");
    let status = site.json(&["status", "--json"]).unwrap();
    assert_eq!(status["running"], false);
    assert_eq!(status["durable_seq"], 2);
    let text = site.ok(&["status"]).unwrap();
    assert!(
        text.contains("needs attention: bad lines from inbox: 1\n"),
        "{text}"
    );
    let bad = site
        .json(&["dead-letters", "--source", "inbox", "--json"])
        .unwrap();
    let letters = bad["dead_letters"].as_array().unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["line"], 2);
    let id = letters[0]["id"].to_string();
    let shown = site
        .json(&["dead-letters", "show", &id, "--source", "inbox"])
        .unwrap();
    assert_eq!(shown["text"], "{\"table\":");
    let unknown = site.run(&["dead-letters", "--source", "outbox"]).unwrap();
    assert_eq!(unknown.code(), 1, "{}", unknown.stdout());
    assert!(
        unknown.stderr().contains("there is no source outbox"),
        "{}",
        unknown.stderr()
    );

    // Nothing comes twice.
    site.ok(&["run", "--once"]).unwrap();
    let status = site.json(&["status", "--json"]).unwrap();
    assert_eq!(status["durable_seq"], 2);
}

#[test]
fn a_batch_run_without_its_plugin_fails_and_says_what_it_did() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir);
    site.write("inbox/users.jsonl", user(1, "ada") + "{\"table\":\n")
        .unwrap();
    let ran = site.run(&["run", "--once"]).unwrap();
    assert_eq!(ran.code(), 0, "{}", ran.stderr());
    let summary = "changes taken: 1; lines that could not be taken: inbox 1; changes parked: none; halted: none";
    assert!(ran.stderr().contains(summary), "{}", ran.stderr());

    site.write("plugins/junk.wasm", "no wasm at all").unwrap();
    let ran = site.run(&["run", "--once"]).unwrap();
    assert_eq!(ran.code(), 1, "{}", ran.stderr());
    let log = ran.stderr();
    assert!(log.contains("plugins none, rules none"), "{log}");
    assert!(log.contains("refused plugins: junk"), "{log}");
    let last = log.lines().last().unwrap();
    let why = "refused plugin junk, so that its rules did not run (is no valid WebAssembly";
    assert!(last.contains(why), "{log}");
}

#[test]
fn a_batch_run_that_halts_does_not_claim_to_have_read_all() {
    let dir = tempfile::tempdir().unwrap();
    let configuration =
        CONFIGURATION.replace("\"inbox\"\n\n", "\"inbox\"\non_bad_input = \"halt\"\n\n");
    let site = Site::new(PROGRAM, dir.path(), &configuration).unwrap();
    site.write(
        "inbox/users.jsonl",
        "{\"table\":\n".to_owned() + &user(1, "ada"),
    )
    .unwrap();
    let ran = site.run(&["run", "--once"]).unwrap();
    assert_eq!(ran.code(), 1, "{}", ran.stderr());
    let log = ran.stderr();
    assert!(log.contains("halted: source inbox"), "{log}");
    assert!(!log.contains("the sources have been read"), "{log}");
}

#[test]
fn rows_stored_before_a_column_had_a_type_are_shown_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let columns = |columns: &str| {
        let text = CONFIGURATION.replace("id = \"i64\", name = \"text?\"", columns);
        Site::new(PROGRAM, dir.path(), &text).unwrap()
    };
    let site = columns("id = \"i64\"");
    let line = |id: i64, driver: Value| {
        format!(
            "{}\n",
            json!({"table":"users","op":"upsert","after":{"id":id,"driver":driver}})
        )
    };
    site.write("inbox/users.jsonl", line(1, json!("279")))
        .unwrap();
    site.ok(&["run", "--once"]).unwrap();
    let site = columns("id = \"i64\", driver = \"i64?\"");
    site.append("inbox/users.jsonl", line(2, json!(397)))
        .unwrap();
    site.ok(&["run", "--once"]).unwrap();
    let expected = "id,driver\n1,279\n2,397\n";
    let arguments = ["query", "users", "--format", "csv"];
    assert_eq!(site.ok(&arguments).unwrap(), expected);
    let row = site
        .json(&["query", "users", "--key", "1", "--json"])
        .unwrap();
    assert_eq!(row, json!({"id": 1, "driver": 279}));
    let daemon = site.daemon().unwrap();
    assert_eq!(site.ok(&arguments).unwrap(), expected);
    assert_eq!(
        site.ok(&["query", "users", "--provenance", "--format", "csv"])
            .unwrap(),
        "id,driver,:seq,:plugin,:hash\n1,279,1,,\n2,397,2,,\n"
    );
    daemon.end("TERM").unwrap();
}

#[test]
fn a_daemon_that_does_not_answer_yet_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir);
    site.ok(&["run", "--once"]).unwrap();
    // Whoever starts or stops has the store and answers nobody.
    let store = std::fs::File::open(dir.path().join("data/store.redb")).unwrap();
    store.lock().unwrap();
    let waiting = || {
        site.command(&["query", "users"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let output = waiting().wait_with_output().unwrap();
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{says}");
    assert!(
        says.contains("it is starting") && says.contains("try again"),
        "{says}"
    );

    let child = waiting();
    store.unlock().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn exit_codes_tell_wrong_use_from_failure() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir);
    for (arguments, code, says) in [
        (&["fly"][..], 2, "fly"),
        (&["query"][..], 2, "TABLE"),
        (&["tables", "-c", "missing.toml"][..], 2, "missing.toml"),
        (&["dead-letters", "drop"][..], 2, "--all"),
        (&["tables"][..], 1, "no store"),
        (&["tail"][..], 1, "no daemon runs"),
        (&["rules", "pause", "x"][..], 1, "no daemon runs"),
    ] {
        let ran = site.run(arguments).unwrap();
        assert_eq!(ran.code(), code, "{arguments:?}: {}", ran.stderr());
        assert!(
            ran.stderr().contains(says),
            "{arguments:?}: {}",
            ran.stderr()
        );
        assert_eq!(ran.stdout(), "", "{arguments:?}");
    }
    site.ok(&["run", "--once"]).unwrap();
    let ran = site.run(&["query", "nope"]).unwrap();
    assert_eq!(ran.code(), 1);
    assert!(
        ran.stderr().contains("there is no table nope"),
        "{}",
        ran.stderr()
    );

    site.write("wrong.toml", "data_dir = \"data\"\nplugin_dri = \"x\"\n")
        .unwrap();
    let ran = site.run(&["run", "-c", "wrong.toml"]).unwrap();
    assert_eq!(ran.code(), 2);
    assert!(ran.stderr().contains("wrong.toml:2"), "{}", ran.stderr());
}

#[test]
fn help_lists_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let help = site(&dir).ok(&["--help"]).unwrap();
    for command in [
        "demo",
        "run",
        "new",
        "build",
        "check",
        "tables",
        "query",
        "rules",
        "dead-letters",
        "status",
        "tail",
        "verify",
    ] {
        assert!(help.contains(&format!("  {command}")), "{command}: {help}");
    }
}

#[test]
fn check_names_the_plugin_that_would_be_refused() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir);
    assert!(site.ok(&["check"]).unwrap().contains("configuration: ok"));
    site.write("plugins/junk.wasm", "no wasm at all").unwrap();
    let ran = site.run(&["check", "--json"]).unwrap();
    assert_eq!(ran.code(), 1);
    assert!(ran.stderr().contains("junk"), "{}", ran.stderr());
    let report: Value = serde_json::from_str(&ran.stdout()).unwrap();
    assert_eq!(report["ok"], false);
    assert!(report["plugins"]["junk"]["refused"].is_string(), "{report}");
    assert!(!dir.path().join("data").exists(), "check changes nothing");
}

#[test]
fn verify_says_whether_the_store_is_well_and_where_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir);
    let ran = site.run(&["verify"]).unwrap();
    assert_eq!(ran.code(), 1);
    assert!(
        ran.stderr().contains("there is no store"),
        "{}",
        ran.stderr()
    );
    let name = "a name that is nowhere else";
    site.write("inbox/users.jsonl", user(1, name)).unwrap();
    let daemon = site.daemon().unwrap();
    let ran = site.run(&["verify"]).unwrap();
    assert_eq!(ran.code(), 1, "with a daemon");
    assert!(ran.stderr().contains("stop it first"), "{}", ran.stderr());
    daemon.stop().unwrap();
    site.ok(&["run", "--once"]).unwrap();

    let file = site.path("data/store.redb");
    let before = std::fs::read(&file).unwrap();
    assert_eq!(
        site.ok(&["verify"]).unwrap(),
        "1 tables, 1 rows, 0 index entries, 1 changes in the log, 1 records: all is well\n"
    );
    let report = site.json(&["verify", "--json"]).unwrap();
    assert_eq!(report["ok"], true, "{report}");
    assert_eq!(report["findings"], json!([]), "{report}");
    assert!(
        std::fs::read(&file).unwrap() == before,
        "verify has changed the store"
    );

    let whole = before.clone();
    let mut bytes = before;
    let places: Vec<_> = (0..bytes.len())
        .filter(|&at| bytes[at..].starts_with(name.as_bytes()))
        .collect();
    places.iter().for_each(|&at| bytes[at] ^= 1);
    std::fs::write(&file, bytes).unwrap();
    let ran = site.run(&["verify", "--json"]).unwrap();
    assert_eq!(ran.code(), 1, "{}", ran.stdout());
    assert!(ran.stderr().contains("is damaged"), "{}", ran.stderr());
    let report: Value = serde_json::from_str(&ran.stdout()).unwrap();
    assert_eq!(report["ok"], false, "{report}");
    let problem = report["findings"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("its pages are damaged"), "{problem}");

    // Whole pages that are gone, over which the database itself may panic.
    let page = 4096;
    let mut found = 0;
    for place in (0..whole.len() / page).step_by(whole.len() / page / 16 + 1) {
        let mut bytes = whole.clone();
        bytes[place * page..][..page].fill(0);
        std::fs::write(&file, bytes).unwrap();
        let ran = site.run(&["verify"]).unwrap();
        assert!(
            matches!(ran.code(), 0 | 1),
            "page {place}: {}",
            ran.stderr()
        );
        assert!(!ran.stderr().contains("panicked"), "{}", ran.stderr());
        found += ran.code();
    }
    assert!(found > 0);
    std::fs::write(&file, "").unwrap();
    for command in [&["verify"][..], &["run", "--once"]] {
        let ran = site.run(command).unwrap();
        assert_eq!(ran.code(), 1, "{}", ran.stdout());
        let said = ran.stdout() + &ran.stderr();
        assert!(said.contains("store.redb is empty"), "{said}");
    }
    // What is cut short, and what is something else.
    let cut = "its file ends too early";
    for (bytes, verified, ran_into) in [
        (&whole[..100], cut, cut),
        (
            &b"my notes\n"[..],
            "doesn't begin like a store's",
            "is not a store of rulemill",
        ),
    ] {
        std::fs::write(&file, bytes).unwrap();
        for (command, says) in [(&["verify"][..], verified), (&["run", "--once"], ran_into)] {
            let ran = site.run(command).unwrap();
            assert_eq!(ran.code(), 1, "{}", ran.stdout());
            let said = ran.stdout() + &ran.stderr();
            assert!(said.contains(says), "{command:?}: {said}");
        }
    }
}

#[test]
fn a_daemon_is_asked_while_it_runs_and_ends_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir);
    site.write("plugins/junk.wasm", "no wasm at all").unwrap();
    let daemon = site.daemon().unwrap();

    let second = site.run(&["run"]).unwrap();
    assert_eq!(second.code(), 1);
    assert!(second.stderr().contains("data"), "{}", second.stderr());

    let status = site.json(&["status", "--json"]).unwrap();
    assert_eq!(status["running"], true);
    assert_eq!(status["ready"], true);
    let text = site.ok(&["status"]).unwrap();
    assert!(
        text.contains("needs attention: plugin junk refused\n"),
        "{text}"
    );
    let rules = site.ok(&["rules"]).unwrap();
    assert!(rules.contains("plugin junk refused"), "{rules}");
    assert!(site.ok(&["tables"]).unwrap().contains("users"));
    assert_eq!(site.ok(&["query", "users"]).unwrap().trim(), "no rows");
    let ran = site.run(&["rules", "pause", "nope"]).unwrap();
    assert_eq!(ran.code(), 1);
    assert!(ran.stderr().contains("no rule nope"), "{}", ran.stderr());

    let (status, log) = daemon.end("TERM").unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("SIGTERM"), "{log}");
    assert!(!dir.path().join("data/daemon.json").exists());
    assert_eq!(site.json(&["status", "--json"]).unwrap()["running"], false);
}

#[test]
fn an_announcement_left_by_a_killed_daemon_misleads_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir);
    let daemon = site.daemon().unwrap();
    let (status, _) = daemon.end("KILL").unwrap();
    assert_eq!(status.code(), None);
    assert!(dir.path().join("data/daemon.json").exists());
    assert!(site.ok(&["tables"]).unwrap().contains("users"));
    let again = site.daemon().unwrap();
    assert_eq!(site.json(&["status", "--json"]).unwrap()["running"], true);
    let (status, _) = again.end("INT").unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn standard_input_is_a_source_and_does_not_keep_the_host_from_ending() {
    let dir = tempfile::tempdir().unwrap();
    let configuration =
        CONFIGURATION.replace("kind = \"files\"\npath = \"inbox\"", "kind = \"stdin\"");
    let site = Site::new(PROGRAM, dir.path(), &configuration).unwrap();
    let mut daemon = site.daemon_with(Stdio::piped()).unwrap();
    let mut stdin = daemon.stdin().unwrap();
    let url = daemon.url("/v1/tail?since=0");
    stdin.write_all(user(1, "ada").as_bytes()).unwrap();
    stdin.flush().unwrap();
    // The stream's first line is the sign that the change is on disk.
    let agent = ureq::Agent::config_builder()
        .proxy(None)
        .build()
        .new_agent();
    let mut tail = agent.get(url).call().unwrap().into_body().into_reader();
    let mut first = [0; 1];
    tail.read_exact(&mut first).unwrap();
    let (status, log) = daemon.end("TERM").unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    drop(stdin);
    assert!(
        site.ok(&["query", "users", "--json"])
            .unwrap()
            .contains("ada")
    );
}

#[test]
fn a_reader_that_goes_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir);
    let lines: String = (0..20_000).map(|id| user(id, "somebody")).collect();
    site.write("inbox/users.jsonl", lines).unwrap();
    site.ok(&["run", "--once"]).unwrap();
    let mut child = site
        .command(&["query", "users", "--json", "--limit", "20000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
