//! A running `rulemill run`, as its user sees it: over HTTP, and ended by a signal.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value as Json;

/// How long anything may take. Far more than it does, as machines that test are busy.
const DEADLINE: Duration = Duration::from_secs(120);
/// How long to leave the daemon alone between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// The command under test.
pub(crate) fn rulemill(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rulemill-under-test"));
    command
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null());
    command
}

/// A daemon; one that is dropped while it runs is killed.
pub(crate) struct Daemon {
    child: Child,
    address: String,
    log: PathBuf,
}

impl Daemon {
    /// Starts one over the directory's `rulemill.toml` and waits until it is ready.
    pub(crate) fn start(dir: &Path) -> Self {
        let log = dir.join("daemon.log");
        let child = rulemill(dir, &["run"])
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut daemon = Self {
            child,
            address: String::new(),
            log,
        };
        let id = u64::from(daemon.child.id());
        let announcement = dir.join("data/daemon.json");
        daemon.address = daemon.until("the daemon to listen", |_| {
            // An announcement that a daemon before this one left behind isn't this one's.
            let json: Json = serde_json::from_slice(&fs::read(&announcement).ok()?).ok()?;
            (json["pid"].as_u64() == Some(id)).then(|| json["http"].as_str().unwrap().to_owned())
        });
        daemon.until("the daemon to be ready", |daemon| {
            let ready = daemon.status()?["ready"].as_bool()?;
            ready.then_some(())
        });
        daemon
    }

    /// What `GET /v1/status` answers, if anything answers.
    pub(crate) fn status(&self) -> Option<Json> {
        let url = format!("http://{}/v1/status", self.address);
        ureq::get(url).call().ok()?.body_mut().read_json().ok()
    }

    /// Input that the daemon's sources have handed over so far, and whether all of it is durable.
    pub(crate) fn taken(&self) -> Option<(u64, bool)> {
        let status = self.status()?;
        let sources = status["sources"].as_object()?;
        let taken = sources
            .values()
            .map(|source| Some(source["changes"].as_u64()? + source["bad"].as_u64()?))
            .sum::<Option<u64>>()?;
        Some((taken, status["durable_seq"] == status["last_seq"]))
    }

    /// Posts changes; they are durable when this returns.
    pub(crate) fn post(&self, changes: Vec<u8>) {
        let url = format!("http://{}/v1/changes", self.address);
        let request = ureq::post(url).header("Content-Type", "application/x-ndjson");
        if let Err(error) = request.send(&changes) {
            panic!("posting: {error}; the daemon says:\n{}", self.log());
        }
    }

    /// Waits until `look` finds something.
    ///
    /// # Panics
    /// If the daemon ends or the deadline passes first.
    pub(crate) fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!(
                    "waiting for {what}: the daemon ended with {status}:\n{}",
                    self.log()
                );
            }
            assert!(
                Instant::now() < deadline,
                "waiting for {what} for {DEADLINE:?}; the daemon says:\n{}",
                self.log()
            );
            thread::sleep(PAUSE);
        }
    }

    /// Sends SIGTERM and waits for the end, which must be a good one.
    pub(crate) fn stop(mut self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(sent.success());
        let status = self.child.wait().unwrap();
        assert!(
            status.success(),
            "the daemon ended with {status}:\n{}",
            self.log()
        );
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
