//! The API of a real daemon: what it answered is on disk, whatever happens to the process.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    io::{BufRead, BufReader},
    thread,
};

use rulemill_tests::{
    daemon::{Daemon, agent},
    site::Site,
};
use serde_json::{Value, json};
use ureq::http::Response;

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
columns = { id = "i64", name = "text?" }

[limits]
request_bytes_max = 1000000
"#;

fn site(dir: &tempfile::TempDir) -> Site {
    std::fs::create_dir_all(dir.path().join("inbox")).unwrap();
    Site::new(PROGRAM, dir.path(), CONFIGURATION).unwrap()
}

fn user(id: i64, name: &str) -> String {
    let line = json!({"table":"users","op":"upsert","after":{"id":id,"name":name}});
    format!("{line}\n")
}

fn json_of(response: &mut Response<ureq::Body>) -> Value {
    let text = response.body_mut().read_to_string().unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn post(daemon: &Daemon, key: Option<&str>, body: &str) -> (u16, Value) {
    daemon.post(key, body).unwrap()
}

fn get(daemon: &Daemon, path: &str) -> Value {
    daemon.get(path).unwrap()
}

#[test]
fn what_was_answered_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir);
    let daemon = site.daemon().unwrap();
    let body = user(1, "ada") + &user(2, "bob");
    let first = post(&daemon, Some("k1"), &body);
    assert_eq!(first, (200, json!({"seq":2,"changes":2})));
    daemon.end("KILL").unwrap();

    let daemon = site.daemon().unwrap();
    let rows = get(&daemon, "/v1/tables/users/rows");
    assert_eq!(
        rows["rows"],
        json!([{"id":1,"name":"ada"},{"id":2,"name":"bob"}])
    );
    let again = post(&daemon, Some("k1"), &body);
    assert_eq!(again, (200, json!({"seq":2,"changes":2,"repeated":true})));
    assert_eq!(post(&daemon, Some("k1"), &user(3, "eve")).0, 422);
    assert_eq!(post(&daemon, None, &user(3, "eve")).1["seq"], 3);
    let (status, log) = daemon.end("TERM").unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn bad_requests_are_answered_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir);
    let daemon = site.daemon().unwrap();
    let bad = |tail: &str, status: u16| {
        let (got, problem) = post(&daemon, None, &(user(1, "ada") + tail));
        assert_eq!(got, status, "{problem}");
        assert_eq!(problem["status"], status);
        problem
    };
    assert_eq!(bad("{", 400)["line"], 2);
    assert_eq!(
        bad(r#"{"table":"nope","op":"insert","after":{"id":1}}"#, 422)["line"],
        2
    );
    bad(&" ".repeat(1_000_000), 413);
    assert_eq!(get(&daemon, "/v1/tables/users/rows")["rows"], json!([]));
    let mut unknown = agent().get(daemon.url("/nothing")).call().unwrap();
    assert_eq!(unknown.status(), 404);
    assert_eq!(
        unknown.headers()["content-type"],
        "application/problem+json"
    );
    assert_eq!(json_of(&mut unknown)["type"], "/problems/not-found");
    // It still takes good ones.
    assert_eq!(post(&daemon, None, &user(1, "ada")).0, 200);
}

#[test]
fn many_writers_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir);
    let daemon = site.daemon().unwrap();
    let (writers, requests) = (6, 30);
    thread::scope(|scope| {
        for writer in 0..writers {
            let daemon = &daemon;
            scope.spawn(move || {
                for request in 0..requests {
                    let id = writer * requests + request;
                    let (status, answer) = post(daemon, Some(&format!("w{id}")), &user(id, "x"));
                    assert_eq!(status, 200, "{answer}");
                    // The next read sees it.
                    let rows = get(daemon, &format!("/v1/tables/users/rows?key={id}"));
                    assert_eq!(rows["rows"], json!([{"id":id,"name":"x"}]));
                }
            });
        }
    });
    let status = get(&daemon, "/v1/status");
    assert_eq!(status["durable_seq"], writers * requests);
}

#[test]
fn a_tail_follows_files_and_posts_until_the_host_ends() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir);
    let daemon = site.daemon().unwrap();
    let response = agent()
        .get(daemon.url("/v1/tail?table=users"))
        .call()
        .unwrap();
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let mut lines = BufReader::new(response.into_body().into_reader()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    post(&daemon, None, &user(1, "ada"));
    let first = next();
    assert_eq!(first["op"], "insert");
    assert_eq!(first["key"], 1);
    site.write("inbox/a.jsonl", user(1, "eve")).unwrap();
    let second = next();
    assert_eq!(second["op"], "update");
    assert_eq!(second["before"]["name"], "ada");
    assert_eq!(second["after"]["name"], "eve");
    let (status, log) = daemon.end("TERM").unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(lines.next().is_none_or(|line| line.is_err()));
}

#[test]
fn health_readiness_and_metrics_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir);
    let daemon = site.daemon().unwrap();
    assert_eq!(get(&daemon, "/healthz")["pid"], daemon.pid());
    assert_eq!(get(&daemon, "/readyz")["status"], "ok");
    post(&daemon, None, &user(1, "ada"));
    let metrics = agent()
        .get(daemon.url("/metrics"))
        .call()
        .unwrap()
        .body_mut()
        .read_to_string()
        .unwrap();
    assert!(
        metrics.lines().any(|line| line == "rulemill_durable_seq 1"),
        "{metrics}"
    );
    let bytes = metrics
        .lines()
        .find_map(|line| line.strip_prefix("rulemill_store_bytes "))
        .unwrap();
    assert!(bytes.parse::<u64>().unwrap() > 0);
}
