//! A line of 80 MB, five times what `limits.line_bytes_max` allows.
//!
//! Its end isn't needed to know that it is too long, and what is known to be of no use needn't be held: the
//! daemon's memory may grow by a line of the allowed length and its buffers, not by this one.

use std::{fs::File, io::Write};

use rulemill_tests::{daemon::Daemon, site::Site};

use crate::{CONFIGURATION, PROGRAM, good, ids};

const LINE_BYTES: usize = 80 << 20;
/// What the daemon may take for it: twice the allowed length, as a buffer that grows has its old half beside it.
const GROWTH_KIB_MAX: u64 = 40 << 10;

fn site(dir: &tempfile::TempDir) -> Site {
    let site = Site::new(PROGRAM, dir.path(), CONFIGURATION).unwrap();
    std::fs::create_dir_all(site.path("inbox")).unwrap();
    site
}

/// A change that would be good if it were shorter, between good ones.
fn write_lines(mut to: impl Write, line_bytes: usize) {
    to.write_all(good(1).as_bytes()).unwrap();
    to.write_all(br#"{"table":"users","op":"upsert","after":{"id":2,"name":""#)
        .unwrap();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..line_bytes >> 20 {
        to.write_all(&piece).unwrap();
    }
    to.write_all(b"\"}}\n").unwrap();
    to.write_all(good(3).as_bytes()).unwrap();
}

fn check_memory(daemon: &Daemon, before_kib: u64) {
    let growth_kib = daemon.peak_memory_kib().unwrap() - before_kib;
    println!("grew by {growth_kib} KiB");
    assert!(growth_kib < GROWTH_KIB_MAX, "grew by {growth_kib} KiB");
}

#[test]
fn in_a_file_it_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir);
    let mut daemon = site.daemon().unwrap();
    let before_kib = daemon.peak_memory_kib().unwrap();
    let aside = site.path("long.partial");
    write_lines(File::create(&aside).unwrap(), LINE_BYTES);
    std::fs::rename(aside, site.path("inbox/long.jsonl")).unwrap();
    daemon.until_taken(3);
    assert_eq!(ids(&site), [1, 3]);
    check_memory(&daemon, before_kib);
    let letters = site
        .json(&["dead-letters", "--source", "inbox", "--json"])
        .unwrap();
    let letter = &letters["dead_letters"][0];
    assert_eq!(letter["line"], 2);
    assert_eq!(letter["cut"], true);
    assert!(letter["text"].as_str().unwrap().len() <= 4 << 10);
    let reason = letter["reason"].as_str().unwrap();
    assert!(reason.contains("limits.line_bytes_max"), "{reason}");
    assert_eq!(daemon.status().unwrap()["sources"]["inbox"]["bad"], 1);
    daemon.stop().unwrap();
}

#[test]
fn posted_it_is_refused_without_being_held() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir);
    let daemon = site.daemon().unwrap();
    let before_kib = daemon.peak_memory_kib().unwrap();
    let mut body = Vec::new();
    write_lines(&mut body, LINE_BYTES);
    let (status, problem) = daemon.post(None, &body).unwrap();
    assert_eq!(status, 413, "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("limits.request_bytes_max"), "{detail}");
    check_memory(&daemon, before_kib);
    assert_eq!(ids(&site), [0; 0]);
    daemon.stop().unwrap();
}

#[test]
fn one_that_a_request_may_hold_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(&dir);
    let daemon = site.daemon().unwrap();
    let mut body = Vec::new();
    write_lines(&mut body, 20 << 20);
    let (status, problem) = daemon.post(None, &body).unwrap();
    assert_eq!((status, &problem["line"]), (422, &2.into()), "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("limits.line_bytes_max"), "{detail}");
    assert_eq!(ids(&site), [0; 0]);
    daemon.stop().unwrap();
}
