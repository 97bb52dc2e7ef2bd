//! A daemon that is killed again and again, in the middle of whatever it does.
//!
//! Changes come from a file that grows and over HTTP, with idempotency keys, each request sent again until it
//! is answered. SIGKILL comes at random moments, also while the daemon starts. What could go wrong: a position that
//! is stored without the rows before it (lines are lost) or rows without it (lines count twice); a request that was
//! answered and isn't there; one that was taken, not answered, and is taken again; half a transaction; a derived
//! table that a restart leaves behind its source. In the end the source tables, the derived tables and
//! the number of changes must be exactly what was sent, each of them once.
//!
//! `RULEMILL_KILLS=1000` kills more often than every test run does (about half a second each);
//! `RULEMILL_SEED=N` repeats a seed, as a failure prints it. The moments are random even so.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod shop;
mod writers;

use std::{
    collections::BTreeMap,
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rulemill::guest_build::{self, BuildRequest};
use rulemill_tests::{
    random::{Random, from_environment},
    site::Site,
};
use serde_json::Value;

use shop::Shop;
use writers::{FileWriter, HttpWriter};

const PROGRAM: &str = env!("CARGO_BIN_EXE_rulemill-under-test");

const CONFIGURATION: &str = r#"
[http]
listen = "127.0.0.1:0"

[[source]]
name = "inbox"
kind = "files"
path = "inbox"

[[plugin.audit.config.watch]]
table = "orders"
key = [{ name = "id", type = "i64" }]
"#;

fn site(dir: &Path) -> Site {
    let site = Site::new(PROGRAM, dir, CONFIGURATION).unwrap();
    std::fs::create_dir_all(site.path("inbox")).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let crates = ["plugins/shop", "plugins/audit"].map(|path| root.join(path));
    guest_build::build(&BuildRequest {
        crates: crates.into(),
        out: site.path("plugins"),
        quiet: true,
    })
    .unwrap();
    site
}

struct Run {
    seed: u64,
    site: Site,
    random: Random,
    file: FileWriter,
    http: HttpWriter,
}

impl Run {
    /// A daemon that works until it is killed.
    fn life(&mut self) {
        let daemon = self.site.daemon().unwrap();
        let status = daemon.status().unwrap();
        assert!(
            status["durable_seq"].as_u64().unwrap() >= self.http.answered_seq,
            "what was answered is not there; seed {}: {status}",
            self.seed
        );
        // Mostly short, since what is new after a start is what a kill may hit; some long enough for a backlog.
        let most = if self.random.one_in(8) { 1_500 } else { 400 };
        let lifetime = Duration::from_millis(self.random.below(most));
        let killed = AtomicBool::new(false);
        let (site, http, file) = (&self.site, &mut self.http, &mut self.file);
        thread::scope(|scope| {
            scope.spawn(|| http.write(&daemon, &killed));
            scope.spawn(|| file.write(site, &killed));
            // Not a wait for something: the moment is what is tried out.
            thread::sleep(lifetime);
            daemon.signal("KILL").unwrap();
            killed.store(true, Ordering::SeqCst);
        });
        let (status, log) = daemon.wait().unwrap();
        assert_eq!(status.code(), None, "it ended before it was killed: {log}");
    }

    /// A daemon that is killed while it starts.
    fn stillbirth(&mut self) {
        let mut command = self.site.command(&["run"]);
        let silent = command.stdin(Stdio::null()).stderr(Stdio::null());
        let mut child = silent.spawn().unwrap();
        thread::sleep(Duration::from_millis(self.random.below(150)));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Lets all that was sent be taken, and compares.
    fn check(&mut self) {
        let daemon = self.site.daemon().unwrap();
        self.http.finish(&daemon);
        daemon.stop().unwrap();
        self.file.finish(&self.site);
        self.site.ok(&["run", "--once"]).unwrap();
        self.site.ok(&["verify"]).unwrap();

        let mut shop = Shop::default();
        for stream in [&self.file.sent, &self.http.sent] {
            stream.iter().for_each(|change| shop.apply(change));
        }
        let seed = self.seed;
        let status = self.site.json(&["status", "--json"]).unwrap();
        let sent = self.file.sent.len() + self.http.sent.len();
        println!(
            "seed {seed}: {sent} changes, {} of the requests were taken before their answer was lost",
            self.http.repeated
        );
        for (table, expected) in shop.tables() {
            self.compare(table, &expected);
        }
        assert_eq!(status["durable_seq"], sent, "changes taken; seed {seed}");
        let rules = self.site.json(&["rules", "--json"]).unwrap();
        for rule in rules["rules"].as_array().unwrap() {
            assert_eq!(rule["faults"], 0, "seed {seed}: {rule}");
        }
        let arguments = ["dead-letters", "--source", "inbox", "--json"];
        let bad = self.site.json(&arguments).unwrap();
        assert_eq!(bad["dead_letters"], serde_json::json!([]), "seed {seed}");
    }

    fn compare(&self, table: &str, expected: &BTreeMap<String, String>) {
        let limit = u32::MAX.to_string();
        let arguments = ["query", table, "--json", "--limit", &limit];
        let text = self.site.ok(&arguments).unwrap();
        let found: BTreeMap<String, String> = text
            .lines()
            .map(|line| shop::row(table, &serde_json::from_str::<Value>(line).unwrap()))
            .collect();
        for (key, row) in expected {
            assert_eq!(
                found.get(key),
                Some(row),
                "table {table}, key {key}; seed {}",
                self.seed
            );
        }
        let surplus: Vec<_> = found
            .keys()
            .filter(|key| !expected.contains_key(*key))
            .collect();
        assert!(
            surplus.is_empty(),
            "table {table}: {surplus:?}; seed {}",
            self.seed
        );
    }
}

#[test]
fn every_change_counts_once_however_often_the_daemon_is_killed() {
    let seed = from_environment("RULEMILL_SEED", 0x5eed);
    let kills = from_environment("RULEMILL_KILLS", 50);
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run {
        seed,
        site: site(dir.path()),
        random: Random::new(seed),
        file: FileWriter::new(seed),
        http: HttpWriter::new(seed),
    };
    for kill in 0..kills {
        if kill % 4 == 3 {
            run.stillbirth();
        } else {
            run.life();
        }
    }
    run.check();
}
