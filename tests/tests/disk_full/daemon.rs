//! The daemon on a small file system in memory.

use std::{path::PathBuf, process::Command, time::Duration};

use rulemill_tests::{
    daemon::{Daemon, agent},
    site::Site,
};
use serde_json::{Value, json};

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
columns = { id = "i64", name = "text" }

[limits]
request_ms_max = 1000
"#;

/// A file system of 8 MiB, gone when this is.
struct Small(PathBuf);

impl Small {
    /// Mounts it; `None`, loudly, where this process may not.
    fn mount(path: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]);
        let mounted = command.arg(&path).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(path)),
            failed => {
                eprintln!("SKIPPED: a small file system can't be mounted here: {failed:?}");
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(
            unmounted.unwrap().success(),
            "{} stays mounted",
            self.0.display()
        );
    }
}

/// A user whose name is long and not like others.
fn user(id: i64) -> String {
    let mut random = rulemill_tests::random::Random::new(id.unsigned_abs());
    let name: String = (0..2_500)
        .map(|_| format!("{:016x}", random.bits()))
        .collect();
    let line = json!({"table":"users","op":"upsert","after":{"id":id,"name":name}});
    format!("{line}\n")
}

/// Posts users until one finds no room; gives which, and its answer.
fn fill(daemon: &Daemon, from: i64) -> (i64, Value) {
    for id in from.. {
        match daemon.post(Some(&format!("user {id}")), user(id)).unwrap() {
            (200, _) => {}
            (status, answer) => {
                assert_eq!(status, 507, "{answer}");
                return (id, answer);
            }
        }
    }
    unreachable!("a disk without an end")
}

fn ready(daemon: &Daemon) -> (u16, String) {
    let mut response = agent().get(daemon.url("/readyz")).call().unwrap();
    let status = response.status().as_u16();
    (status, response.body_mut().read_to_string().unwrap())
}

#[test]
fn the_daemon_says_that_the_disk_is_full_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(PROGRAM, dir.path(), CONFIGURATION).unwrap();
    std::fs::create_dir_all(site.path("inbox")).unwrap();
    let Some(_small) = Small::mount(site.path("data")) else {
        return;
    };
    for ballast in ["data/one", "data/two"] {
        site.write(ballast, vec![1; 1 << 20]).unwrap();
    }

    let mut daemon = site.daemon().unwrap();
    let (last, answer) = fill(&daemon, 0);
    assert!(last > 5, "full at once: {answer}");
    assert_eq!(answer["type"], "/problems/disk-full");
    let detail = answer["detail"].as_str().unwrap();
    assert!(detail.contains("waits for room"), "{detail}");
    // It takes nothing more, and says so everywhere.
    let (status, answer) = daemon.post(Some("another"), user(1_000)).unwrap();
    let detail = answer["detail"].as_str().unwrap();
    assert!(
        status == 507 && detail.contains("nothing of this request was taken"),
        "{answer}"
    );
    let (status, text) = ready(&daemon);
    assert!(
        status == 503 && text.contains("disk full"),
        "{status} {text}"
    );
    assert!(daemon.log().contains("disk full"), "{}", daemon.log());
    let status = daemon.status().unwrap();
    assert!(
        status["waiting"].as_str().unwrap().contains("disk full"),
        "{status}"
    );
    let mut metrics = agent().get(daemon.url("/metrics")).call().unwrap();
    let metrics = metrics.body_mut().read_to_string().unwrap();
    assert!(metrics.contains("\nrulemill_waiting 1\n"), "{metrics}");
    let text = site.ok(&["status"]).unwrap();
    assert!(text.contains("disk full"), "{text}");
    // What it has can be read.
    let found = daemon
        .get(&format!("/v1/tables/users/rows?key={}", last - 1))
        .unwrap();
    assert_eq!(found["rows"][0]["id"], last - 1, "{found}");
    // A source waits meanwhile.
    site.append("inbox/users.jsonl", user(2_000)).unwrap();

    std::fs::remove_file(site.path("data/one")).unwrap();
    daemon.until("there to be room", |daemon| {
        (ready(daemon).0 == 200).then_some(())
    });
    // It had been taken in, and counts once.
    let key = format!("user {last}");
    let (status, answer) = daemon.post(Some(&key), user(last)).unwrap();
    assert!(status == 200 && answer["repeated"] == true, "{answer}");
    daemon.until_taken(1);
    let status = daemon.status().unwrap();
    assert_eq!(status["waiting"], Value::Null, "{status}");
    let all = last + 2;
    assert_eq!(site.rows("users").unwrap().len() as i64, all);

    // One that has to end while it waits ends soon, and with a failure.
    let (next, _) = fill(&daemon, last + 1);
    daemon.signal("TERM").unwrap();
    let (status, log) = daemon.wait_at_most(Duration::from_secs(60)).unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("the disk is full"), "{log}");
    // It doesn't start where it can't store anything.
    let verified = site.ok(&["verify"]).unwrap();
    assert!(verified.contains("all is well"), "{verified}");
    std::fs::remove_file(site.path("data/two")).unwrap();
    let daemon = site.daemon().unwrap();
    let stored = site.rows("users").unwrap().len() as i64;
    assert_eq!(
        stored,
        all + next - last - 1,
        "what was answered, and no more"
    );
    let (status, answer) = daemon
        .post(Some(&format!("user {next}")), user(next))
        .unwrap();
    assert_eq!(
        (status, &answer["repeated"]),
        (200, &Value::Null),
        "{answer}"
    );
    daemon.stop().unwrap();
    assert!(site.ok(&["verify"]).unwrap().contains("all is well"));
}
