//! Does an example's steps in a copy of its directory.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use rulemill::guest_build::{self, BuildRequest};
use rulemill_tests::{daemon::Daemon, site::Site};
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::{
    root,
    steps::{self, Step},
};

/// The command under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_rulemill-under-test");

/// Set to anything, it has the expected files written instead of compared.
const BLESS: &str = "RULEMILL_BLESS";

/// Runs the example of this name.
pub(crate) fn example(name: &str) {
    let source = root().join("examples").join(name);
    let dir = TempDir::new().unwrap();
    copy(&source, dir.path());
    let steps = steps::read(&fs::read_to_string(source.join("steps.txt")).unwrap());
    let mut example = Example {
        source,
        site: Site::existing(PROGRAM, dir.path()),
        _dir: dir,
        daemon: None,
        blessed: BTreeSet::new(),
    };
    for step in &steps {
        example.step(step);
    }
    assert!(
        example.daemon.is_none(),
        "{name}: the last step of a daemon is `stop`"
    );
}

/// Copies what a host needs; not the plugins' sources, which are built where they lie.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if !entry.file_type().unwrap().is_dir() {
            fs::copy(entry.path(), target).unwrap();
        } else if entry.file_name() == "inbox" {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        }
    }
}

struct Example {
    /// The example as it is checked in.
    source: PathBuf,
    /// Its copy, and the command there.
    site: Site,
    _dir: TempDir,
    daemon: Option<Daemon>,
    /// Expectations that this run has written: from then on they are compared.
    blessed: BTreeSet<String>,
}

impl Example {
    fn path(&self, name: &str) -> PathBuf {
        self.site.path(name)
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Plugin { name, from } => self.plugin(name, from),
            Step::RunOnce => drop(self.output(&["run", "--once"])),
            Step::Start => self.daemon = Some(self.site.daemon().unwrap()),
            Step::Append { file, to } => self.append(file, to),
            Step::Post { file } => {
                let changes = fs::read(self.path(file)).unwrap();
                let daemon = self.daemon.as_ref().expect("`post` needs a daemon");
                let (status, answer) = daemon.post(None, changes).unwrap();
                assert_eq!(status, 200, "posting {file}: {answer}");
            }
            Step::Expect { dir } => self.expect(dir),
            Step::Stop => {
                let daemon = self.daemon.take().expect("`stop` needs a daemon");
                daemon.stop().unwrap();
            }
            Step::Fresh => fs::remove_dir_all(self.path("data")).unwrap(),
        }
    }

    fn plugin(&mut self, name: &str, from: &str) {
        let built = guest_build::build(&BuildRequest {
            crates: vec![root().join(from)],
            out: self.path("built"),
            quiet: true,
        })
        .unwrap();
        let [plugin] = &*built else {
            panic!("{from} is one crate");
        };
        let hash = |daemon: &Daemon| {
            daemon.status().ok()?["plugins"][name]["hash"]
                .as_str()
                .map(str::to_owned)
        };
        let before = self.daemon.as_ref().and_then(hash);
        fs::create_dir_all(self.path("plugins")).unwrap();
        let target = self.path(&format!("plugins/{name}.wasm"));
        // Renamed into place, so that nobody sees half of it.
        let partial = self.path(&format!("built/{name}.partial"));
        fs::copy(&plugin.path, &partial).unwrap();
        fs::rename(partial, target).unwrap();
        if let Some(daemon) = &mut self.daemon {
            daemon.until("the plugin's new hash", |daemon| {
                let hash = hash(daemon)?;
                (Some(hash) != before).then_some(())
            });
        }
    }

    fn append(&mut self, file: &str, to: &str) {
        let more = fs::read(self.path(file)).unwrap();
        let lines = more.iter().filter(|&&byte| byte == b'\n').count() as u64;
        let daemon = self.daemon.as_ref();
        let before = daemon.map_or(0, |daemon| daemon.handed_over().unwrap());
        self.site.append(to, more).unwrap();
        if let Some(daemon) = &mut self.daemon {
            daemon.until_taken(before + lines);
        }
    }

    fn expect(&mut self, name: &str) {
        self.refuse_faults();
        let dir = self.source.join(name);
        let bless = std::env::var_os(BLESS).is_some() && self.blessed.insert(name.to_owned());
        if bless && !dir.exists() {
            fs::create_dir_all(&dir).unwrap();
            for table in self.derived_tables() {
                fs::write(dir.join(format!("{table}.csv")), "").unwrap();
            }
        }
        let mut files: Vec<PathBuf> = fs::read_dir(&dir)
            .unwrap_or_else(|error| panic!("{}: {error}; {BLESS}=1 writes it", dir.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        for file in files {
            let table = file.file_stem().unwrap().to_str().unwrap();
            let found = self.output(&["query", table, "--format", "csv", "--limit", "1000000"]);
            if bless {
                fs::write(&file, found).unwrap();
                continue;
            }
            let expected = fs::read_to_string(&file).unwrap();
            assert!(
                expected == found,
                "table {table} is not as in {}:\n{}\nif it is right, run the test again with {BLESS}=1",
                file.display(),
                differing_lines(&expected, &found)
            );
        }
    }

    /// An example shows what works: a refused plugin, a fault or bad input isn't hidden behind its tables.
    fn refuse_faults(&self) {
        let rules: Json = serde_json::from_str(&self.output(&["rules", "--json"])).unwrap();
        for (name, plugin) in rules["plugins"].as_object().unwrap() {
            assert!(
                plugin["refused"].is_null(),
                "plugin {name} was refused: {}",
                plugin["refused"]
            );
        }
        for rule in rules["rules"].as_array().unwrap() {
            assert!(
                rule["faults"] == 0,
                "rule {} failed: {}",
                rule["name"],
                rule["last_error"]
            );
        }
    }

    fn derived_tables(&self) -> Vec<String> {
        let tables: Json = serde_json::from_str(&self.output(&["tables", "--json"])).unwrap();
        let tables = tables["tables"].as_array().unwrap();
        let derived = tables.iter().filter(|table| table["kind"] == "derived");
        derived
            .map(|table| table["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// What a command prints; it must go well.
    fn output(&self, arguments: &[&str]) -> String {
        self.site.ok(arguments).unwrap()
    }
}

/// The lines of one text that the other doesn't have.
fn differing_lines(expected: &str, found: &str) -> String {
    let lines = |text: &str, other: &str, mark: &str| -> String {
        let known: BTreeSet<&str> = other.lines().collect();
        let missing = text.lines().filter(|line| !known.contains(line));
        missing
            .take(20)
            .map(|line| format!("{mark} {line}\n"))
            .collect()
    };
    lines(expected, found, "-") + &lines(found, expected, "+")
}
