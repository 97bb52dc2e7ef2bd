//! A plugin's file comes, changes, breaks, goes and is mended while changes never stop coming in.
//!
//! What could go wrong: a change between two versions is handled by both or by neither; rows that were there
//! before the rule are left out or read twice; a broken file stops the rule that runs; a rule whose file is gone
//! loses what comes in meanwhile; a status screen says that all is well. The rule copies numbers and adds a mark
//! to each that tells its version, so every row says who made it. In the end each number must have been
//! copied once, by the version whose turn it was.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../guests/mod.rs"]
mod guests;

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    thread,
};

use rulemill_tests::{daemon::Daemon, site::Site, wait::until};
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
name = "numbers"
key = ["id"]
columns = { id = "i64", value = "i64" }

[limits]
# The guest takes 127 at the most, and a rule that is behind has to take many steps.
batch_changes_max = 40
plugin_debounce_ms = 20
"#;

/// Numbers that come by file have keys from here on.
const FILE_FROM: i64 = 1_000_000_000;
/// What each version adds.
const MARK: i64 = 1_000_000;

/// The frozen guest, made to copy numbers with this version's mark.
fn guest(version: i64) -> Vec<u8> {
    let copies = format!(
        "(i64.add (local.get $value) (i64.const {}))",
        version * MARK
    );
    let replaced = [
        "(i64.add (local.get $value) (call $sum-by-get (local.get $id) (local.get $seq)))",
        "(i64.add (local.get $value) (call $count-by-scan (local.get $id) (local.get $seq)))",
    ];
    let mut text = guests::V1.to_owned();
    for part in replaced {
        assert!(text.contains(part), "the frozen guest has changed");
        text = text.replace(part, &copies);
    }
    guests::assemble(&text)
}

/// Between an insert and its delete: more than a batch, as the frozen guest takes each row once a batch.
const LIFE: i64 = 95;

/// Inserts numbers in order, a few at a time; of each run of ten one is deleted again later.
#[derive(Default)]
struct Load {
    /// Numbers below this one have been sent, or are being sent.
    sent: AtomicI64,
    /// Numbers below this one are durable.
    taken: AtomicI64,
    ended: AtomicBool,
}

impl Load {
    fn line(op: &str, id: i64) -> String {
        format!(
            "{{\"table\":\"numbers\",\"op\":\"{op}\",\"after\":{{\"id\":{id},\"value\":{}}}}}\n",
            id % 1_000
        )
    }

    /// The changes of these numbers.
    fn lines(ids: Range<i64>) -> String {
        let mut text = String::new();
        for id in ids {
            text += &Self::line("insert", id);
            if id % 10 == 9 {
                text += &Self::line("delete", id - LIFE);
            }
        }
        text
    }

    fn post(&self, daemon: &Daemon) {
        while !self.ended.load(Ordering::SeqCst) {
            let from = self.sent.fetch_add(7, Ordering::SeqCst);
            let (status, answer) = daemon.post(None, Self::lines(from..from + 7)).unwrap();
            assert_eq!(status, 200, "{answer}");
            self.taken.store(from + 7, Ordering::SeqCst);
        }
    }

    fn append(&self, site: &Site) {
        let mut next = FILE_FROM;
        while !self.ended.load(Ordering::SeqCst) {
            site.append("inbox/numbers.jsonl", Self::lines(next..next + 10))
                .unwrap();
            next += 10;
            self.sent.store(next, Ordering::SeqCst);
            thread::yield_now();
            // As fast as the posts, not faster.
            thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn wait_for_more(&self) {
        let taken = self.taken.load(Ordering::SeqCst);
        until("more numbers to be taken", || {
            (self.taken.load(Ordering::SeqCst) > taken + 50).then_some(())
        });
    }
}

/// When a version took over: the numbers before and those after the range are clear.
struct Turn {
    version: i64,
    between: Range<i64>,
}

struct Host<'a> {
    site: &'a Site,
    daemon: &'a Daemon,
    load: &'a Load,
    turns: Vec<Turn>,
}

impl Host<'_> {
    fn rules(&self) -> Value {
        let by_command = self.site.json(&["rules", "--json"]).unwrap();
        let by_http = self.daemon.get("/v1/rules").unwrap();
        for rules in [&by_command, &by_http] {
            assert!(
                rules["rules"].is_array() && rules["plugins"].is_object(),
                "{rules}"
            );
        }
        by_command
    }

    /// Puts a file in place at once, as `rulemill build` does.
    fn put(&self, code: &[u8]) {
        self.site.write("plugins/.new", code).unwrap();
        let target = self.site.path("plugins/sums.wasm");
        fs::rename(self.site.path("plugins/.new"), target).unwrap();
    }

    /// Waits for a state of the rule and its plugin.
    fn until(&self, what: &str, holds: impl Fn(&Value, &Value) -> bool) -> Value {
        until(what, || {
            let rules = self.rules();
            let plugin = &rules["plugins"]["sums"];
            holds(&rules["rules"][0], plugin).then(|| rules.clone())
        })
    }

    /// A version comes, and has caught up.
    fn install(&mut self, version: i64) {
        let code = guest(version);
        let hash = rulemill::rule::hash(&code).to_string();
        let before = self.load.taken.load(Ordering::SeqCst);
        self.put(&code);
        let rules = self.until("the new version to run", |rule, plugin| {
            plugin["hash"] == *hash && rule["status"] == "running"
        });
        let after = self.load.sent.load(Ordering::SeqCst);
        assert_eq!(rules["plugins"]["sums"]["refused"], Value::Null, "{rules}");
        assert_eq!(rules["rules"][0]["name"], "sums.sums");
        assert_eq!(rules["rules"][0]["faults"], 0, "{rules}");
        self.turns.push(Turn {
            version,
            between: before..after,
        });
        self.load.wait_for_more();
    }

    /// A file comes that can't be taken: the reason is shown, and the one that runs goes on.
    fn refuse(&self, code: &[u8], reason: &str) {
        let before = self.rules();
        self.put(code);
        let rules = self.until("the file to be refused", |_, plugin| {
            plugin["refused"]
                .as_str()
                .is_some_and(|said| said.contains(reason))
        });
        assert_eq!(
            rules["plugins"]["sums"]["hash"],
            before["plugins"]["sums"]["hash"]
        );
        assert_eq!(rules["rules"][0]["status"], "running", "{rules}");
        let shown = self.site.ok(&["rules"]).unwrap();
        assert!(
            shown.contains("plugin sums refused") && shown.contains(reason),
            "{shown}"
        );
        let handled = rules["rules"][0]["changes"].as_u64().unwrap();
        self.load.wait_for_more();
        self.until("the old version to go on", |rule, _| {
            rule["changes"].as_u64().is_some_and(|now| now > handled)
        });
    }

    fn remove(&self) {
        fs::remove_file(self.site.path("plugins/sums.wasm")).unwrap();
        let rules = self.until("the rule to be unloaded", |rule, plugin| {
            rule["status"] == "unloaded" && plugin["hash"].is_null()
        });
        let handled = &rules["rules"][0]["changes"];
        self.load.wait_for_more();
        let rules = self.rules();
        assert_eq!(&rules["rules"][0]["changes"], handled);
        assert!(
            rules["rules"][0]["lag_changes"].as_u64().unwrap() > 50,
            "{rules}"
        );
    }

    /// The life of a plugin's file.
    fn run(&mut self) {
        self.load.wait_for_more();
        self.install(1);
        self.install(2);
        self.refuse(b"garbage, and no plugin at all", "is no valid WebAssembly");
        let whole = guest(3);
        self.refuse(&whole[..whole.len() / 2], "is no valid WebAssembly");
        // What is mended runs on as if nothing had been.
        self.put(&guest(2));
        self.until("the refusal to be taken back", |rule, plugin| {
            plugin["refused"].is_null() && rule["status"] == "running"
        });
        self.refuse(b"", "is no valid WebAssembly");
        self.install(3);
        self.remove();
        self.install(4);
    }
}

fn table(site: &Site, name: &str) -> BTreeMap<i64, i64> {
    let rows = site.rows(name).unwrap();
    let number = |text: &str| text.parse::<i64>().unwrap();
    rows.iter()
        .map(|row| row.split_once(',').unwrap())
        .map(|(id, value)| (number(id), number(value)))
        .collect()
}

fn compare(table: &str, found: &BTreeMap<i64, i64>, expected: &BTreeMap<i64, i64>) {
    let first = |a: &BTreeMap<i64, i64>, b: &BTreeMap<i64, i64>| {
        let other = a.iter().find(|(id, value)| b.get(id) != Some(value));
        other.map(|(id, value)| (*id, *value))
    };
    assert_eq!(
        first(expected, found),
        None,
        "missing in or other in table {table}"
    );
    assert_eq!(first(found, expected), None, "too much in table {table}");
}

/// What is left of these numbers.
fn numbers(ids: Range<i64>) -> BTreeMap<i64, i64> {
    let last = ids.end;
    ids.filter(|id| id % 10 != 4 || id + LIFE >= last)
        .map(|id| (id, id % 1_000))
        .collect()
}

/// Each posted number was copied by the version whose turn it was, and in their order.
fn check_turns(sums: &BTreeMap<i64, i64>, turns: &[Turn]) {
    let mut last = 1;
    for (id, value) in sums.range(..FILE_FROM) {
        let version = value / MARK;
        for turn in turns {
            // The first version reads what was there before it, so its turn begins with the first number.
            if *id >= turn.between.end {
                assert!(
                    version >= turn.version,
                    "{id} was copied by version {version}"
                );
            } else if *id < turn.between.start && turn.version > 1 && turn.version != 4 {
                assert!(
                    version < turn.version,
                    "{id} was copied by version {version}"
                );
            }
        }
        assert!(
            version >= last,
            "{id} was copied by version {version} after {last}"
        );
        last = version;
    }
    assert_eq!(last, 4, "the last version copied nothing");
}

#[test]
fn no_change_is_lost_or_handled_twice_while_a_plugin_comes_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(PROGRAM, dir.path(), CONFIGURATION).unwrap();
    fs::create_dir_all(site.path("inbox")).unwrap();
    let mut daemon = site.daemon().unwrap();
    let (posts, appends) = (Load::default(), Load::default());
    let turns = thread::scope(|scope| {
        let posting = scope.spawn(|| posts.post(&daemon));
        let appending = scope.spawn(|| appends.append(&site));
        let mut host = Host {
            site: &site,
            daemon: &daemon,
            load: &posts,
            turns: Vec::new(),
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| host.run()));
        // Also after a failure, or the scope would wait for ever.
        posts.ended.store(true, Ordering::SeqCst);
        appends.ended.store(true, Ordering::SeqCst);
        posting.join().unwrap();
        appending.join().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        host.turns
    });
    let appended = appends.sent.load(Ordering::SeqCst);
    daemon.until_taken((appended - FILE_FROM).unsigned_abs() * 11 / 10);
    daemon.until("the rule to be at the head", |daemon| {
        let rules = daemon.get("/v1/rules").ok()?;
        let rule = &rules["rules"][0];
        (rule["status"] == "running" && rule["lag_changes"] == 0).then_some(())
    });
    daemon.stop().unwrap();

    let mut expected = numbers(0..posts.sent.load(Ordering::SeqCst));
    expected.extend(numbers(FILE_FROM..appended));
    compare("numbers", &table(&site, "numbers"), &expected);
    let sums = table(&site, "sums");
    let values = sums.iter().map(|(id, value)| (*id, value % MARK)).collect();
    compare("sums", &values, &expected);
    check_turns(&sums, &turns);
    println!("{} numbers, versions {:?}", sums.len(), turns.len());
}

#[test]
fn a_restart_over_a_broken_file_goes_on_with_what_ran_before() {
    restart_over(&guest(2)[..500], "is no valid WebAssembly");
}

#[test]
fn a_restart_over_a_file_that_does_not_fit_goes_on_with_what_ran_before() {
    let mut manifest = guests::manifest();
    manifest.tables[1].name = "numbers".into();
    let thief = guests::Guest {
        manifest: manifest.to_bytes(),
        ..guests::Guest::default()
    };
    restart_over(&thief.assemble(), "claims table numbers");
}

fn restart_over(file: &[u8], why: &str) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(PROGRAM, dir.path(), CONFIGURATION).unwrap();
    fs::create_dir_all(site.path("inbox")).unwrap();
    site.write("plugins/sums.wasm", guest(1)).unwrap();
    let daemon = site.daemon().unwrap();
    assert_eq!(daemon.post(None, Load::lines(0..5)).unwrap().0, 200);
    daemon.stop().unwrap();

    site.write("plugins/sums.wasm", file).unwrap();
    let mut daemon = site.daemon().unwrap();
    assert_eq!(daemon.post(None, Load::lines(5..9)).unwrap().0, 200);
    let rules = site.json(&["rules", "--json"]).unwrap();
    assert_eq!(rules["rules"][0]["status"], "running", "{rules}");
    assert_eq!(rules["rules"][0]["lag_changes"], 0, "{rules}");
    assert!(rules["plugins"]["sums"]["hash"].is_string(), "{rules}");
    let reason = rules["plugins"]["sums"]["refused"].as_str().unwrap();
    assert!(reason.contains(why), "{reason}");
    assert_eq!(table(&site, "sums").len(), 9);

    site.write("plugins/sums.wasm", guest(2)).unwrap();
    daemon.until("the mended file to be taken", |daemon| {
        let rules = daemon.get("/v1/rules").ok()?;
        rules["plugins"]["sums"]["refused"].is_null().then_some(())
    });
    assert_eq!(daemon.post(None, Load::lines(9..11)).unwrap().0, 200);
    daemon.stop().unwrap();
    let expected = (0..11).map(|id| (id, id + if id < 9 { MARK } else { 2 * MARK }));
    compare("sums", &table(&site, "sums"), &expected.collect());
}
