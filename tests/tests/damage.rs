//! A store whose file has damaged pages: every command ends with a sentence that says so, and the daemon ends.
//!
//! Over such pages redb panics, at many places. Once that came out as its own message and a back trace, of a batch run sometimes as a
//! source that had got no answer, and a daemon's reader was told that a task had panicked.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    fmt::Write as _,
    fs,
    io::{Seek, SeekFrom, Write},
    time::Duration,
};

use rulemill_tests::{
    daemon::Daemon,
    site::{CONFIGURATION, Ran, Site},
};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rulemill-under-test");

const USERS: i64 = 2_000;
const PAGE: usize = 4096;
/// What is said where the database panics.
const CONTRADICTION: &str = "the store is damaged: its pages contradict each other";

fn users(from: i64, step: usize, name: &str) -> String {
    let mut lines = String::new();
    for id in (from..USERS).step_by(step) {
        let row = format!(r#"{{"id":{id},"name":"{name} {id}"}}"#);
        writeln!(lines, r#"{{"table":"users","op":"upsert","after":{row}}}"#).unwrap();
    }
    lines
}

/// A store with users, and the bytes of its file.
fn site(dir: &tempfile::TempDir) -> (Site, Vec<u8>) {
    let site = Site::new(PROGRAM, dir.path(), CONFIGURATION).unwrap();
    site.write("inbox/users.jsonl", users(0, 1, "Ann")).unwrap();
    site.ok(&["run", "--once"]).unwrap();
    let bytes = fs::read(site.path("data/store.redb")).unwrap();
    (site, bytes)
}

fn damage(site: &Site, whole: &[u8], page: usize) {
    let mut bytes = whole.to_vec();
    bytes[page * PAGE..][..PAGE].fill(0);
    fs::write(site.path("data/store.redb"), bytes).unwrap();
}

/// What a command said that failed over a damaged store; none if it didn't meet the damage.
fn failed(ran: &Ran, what: &str) -> Option<String> {
    let said = ran.stderr();
    assert!(
        !said.contains("panicked") && !said.contains("stack backtrace"),
        "{what}: {said}"
    );
    match ran.code() {
        0 => None,
        1 => {
            let last = said.lines().last().unwrap().to_owned();
            assert!(last.starts_with("rulemill: "), "{what}: {said}");
            assert!(
                (last.contains("damaged") && last.contains("`rulemill verify` says"))
                    || last.contains("no longer begins like one"),
                "{what}: {last}"
            );
            Some(last)
        }
        code => panic!("{what} ended with {code}: {said}"),
    }
}

#[test]
fn commands_that_read_end_with_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let (site, whole) = site(&dir);
    let mut panics = 0;
    for page in 0..whole.len() / PAGE {
        for command in [
            &["query", "users", "--limit", "5000", "--json"][..],
            &["status"],
        ] {
            damage(&site, &whole, page);
            let what = format!("{command:?} without page {page}");
            let ran = site.run(command).unwrap();
            if let Some(sentence) = failed(&ran, &what) {
                assert_eq!(ran.stderr().lines().count(), 1, "{what}: {}", ran.stderr());
                panics += usize::from(sentence.contains(CONTRADICTION));
            }
        }
    }
    assert!(panics > 5, "{panics} panics of the database");
}

#[test]
fn a_batch_run_ends_with_what_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (site, whole) = site(&dir);
    // So that most rows are read and written.
    site.append("inbox/users.jsonl", users(0, 7, "Bo")).unwrap();
    let mut panics = 0;
    for page in 0..whole.len() / PAGE {
        damage(&site, &whole, page);
        let ran = site.run(&["run", "--once"]).unwrap();
        if let Some(sentence) = failed(&ran, &format!("a run without page {page}")) {
            panics += usize::from(sentence.contains(CONTRADICTION));
        }
    }
    assert!(panics > 5, "{panics} panics of the database");
}

#[test]
fn a_back_trace_comes_to_who_asks_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (site, whole) = site(&dir);
    damage(&site, &whole, page_of(&whole, "Ann 1000"));
    let mut command = site.command(&["query", "users", "--key", "1000"]);
    let output = command.env("RUST_BACKTRACE", "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("stack backtrace"), "{said}");
    assert!(
        said.lines().last().unwrap().contains(CONTRADICTION),
        "{said}"
    );
}

/// Damages a store below a running daemon that keeps no pages in memory.
fn damage_below(site: &Site) {
    let path = site.path("data/store.redb");
    let whole = fs::read(&path).unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for (page, bytes) in whole.chunks(PAGE).enumerate() {
        if bytes.windows(3).any(|text| text == b"Ann") {
            file.seek(SeekFrom::Start((page * PAGE) as u64)).unwrap();
            file.write_all(&[0; PAGE]).unwrap();
        }
    }
}

fn forgetful(dir: &tempfile::TempDir) -> Site {
    site(dir);
    let configuration = CONFIGURATION.to_owned() + "\n[limits]\nstore_cache_bytes = 1\n";
    Site::new(PROGRAM, dir.path(), &configuration).unwrap()
}

/// What a daemon that ended over damage said at last.
fn ended(site: &Site, daemon: Daemon) {
    let (status, log) = daemon.wait_at_most(Duration::from_secs(30)).unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    let last = log.lines().last().unwrap();
    assert!(
        last.starts_with("rulemill: ") && last.contains(CONTRADICTION),
        "{log}"
    );
    assert!(!log.contains("panicked"), "{log}");
    assert!(!site.path("data/daemon.json").exists());
}

#[test]
fn a_daemon_tells_readers_of_damage_and_ends_where_it_meets_it_itself() {
    let dir = tempfile::tempdir().unwrap();
    let site = forgetful(&dir);
    let daemon = site.daemon().unwrap();
    damage_below(&site);
    let ran = site.run(&["query", "users", "--key", "1000"]).unwrap();
    assert!(failed(&ran, "a query").unwrap().contains(CONTRADICTION));
    assert!(site.ok(&["status"]).unwrap().contains("running"));
    // The engine looks up what the row was.
    let (status, answer) = daemon.post(None, users(1000, 5_000, "Bo")).unwrap();
    assert_eq!(status, 503, "{answer}");
    ended(&site, daemon);
}

#[test]
fn a_daemon_ends_where_its_committer_meets_damage() {
    let dir = tempfile::tempdir().unwrap();
    let site = forgetful(&dir);
    let daemon = site.daemon().unwrap();
    let newcomer = |id: i64| {
        let row = format!(r#"{{"id":{id},"name":"Cy"}}"#);
        daemon.post(
            None,
            format!(r#"{{"table":"users","op":"insert","after":{row}}}"#),
        )
    };
    assert_eq!(newcomer(USERS).unwrap().0, 200);
    // Behind the first commit it looks for what is old; after this one it doesn't.
    assert_eq!(newcomer(USERS + 1).unwrap().0, 200);
    damage_below(&site);
    // Nothing is looked up for a key behind all others.
    let (status, answer) = newcomer(USERS + 2).unwrap();
    assert_eq!(status, 503, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains(CONTRADICTION));
    ended(&site, daemon);
}

/// What the reference says of a store that can't be saved.
#[test]
fn an_empty_data_directory_takes_the_files_again_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (site, _) = site(&dir);
    let before = site.rows("users").unwrap();
    let daemon = site.daemon().unwrap();
    let row = format!(r#"{{"table":"users","op":"insert","after":{{"id":{USERS}}}}}"#);
    let sent = |daemon: &Daemon| daemon.post(Some("once"), &row).unwrap();
    assert_eq!(sent(&daemon).0, 200);
    daemon.stop().unwrap();
    let pages = fs::read(site.path("data/store.redb")).unwrap();
    damage(&site, &pages, page_of(&pages, "Ann 1000"));
    let ran = site.run(&["verify"]).unwrap();
    assert_eq!(ran.code(), 1, "{}", ran.stdout());
    assert!(ran.stderr().contains("A damaged store"), "{}", ran.stderr());

    fs::rename(site.path("data"), site.path("data.damaged")).unwrap();
    let mut daemon = site.daemon().unwrap();
    daemon.until_taken(USERS as u64);
    assert_eq!(site.rows("users").unwrap(), before);
    // What was posted is new to it.
    let (status, answer) = sent(&daemon);
    assert_eq!((status, &answer["repeated"]), (200, &Value::Null));
    assert_eq!(site.rows("users").unwrap().len(), before.len() + 1);
    daemon.stop().unwrap();
}

/// The page that holds a row's text, of those of its table.
fn page_of(bytes: &[u8], text: &str) -> usize {
    let at = (0..bytes.len()).rfind(|&at| bytes[at..].starts_with(text.as_bytes()));
    at.unwrap() / PAGE
}
