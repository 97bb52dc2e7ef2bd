//! A running `rulemill run`, as its user meets it: over HTTP, by its log, and ended by a signal.
//!
//! It listens on a port that the system picks and is ended by its process id; nothing here waits by
//! the clock. One that is dropped while it runs is killed.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use crossbeam_channel::{Sender, bounded};
use serde_json::Value;
use ureq::Agent;

use crate::wait::{DEADLINE, until};

/// A running daemon; killed when dropped.
pub struct Daemon {
    child: Child,
    address: String,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    agent: Agent,
}

/// A client for the loopback interface: no proxy, and an answer is an answer whatever its status.
pub fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_global(Some(DEADLINE))
        .build()
        .new_agent()
}

impl Daemon {
    /// Starts the command and waits until it says that it is ready.
    ///
    /// # Errors
    /// If it ends before, with what it said.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("no standard error")?;
        let log = Arc::<Mutex<String>>::default();
        let (ready, address) = bounded(1);
        let seen = log.clone();
        // Read to its end, or the daemon would stand still once the pipe is full.
        let reader = thread::spawn(move || read_log(stderr, &seen, &ready));
        let mut daemon = Self {
            child,
            address: String::new(),
            log,
            reader: Some(reader),
            agent: agent(),
        };
        match address.recv_timeout(DEADLINE) {
            Ok(address) => daemon.address = address,
            Err(_) => bail!("the daemon ended before it was ready: {}", daemon.log()),
        }
        Ok(daemon)
    }

    /// The address of a path of its API.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends a post as [`post`](Self::post) does and leaves the answer in the connection.
    ///
    /// # Errors
    /// If the daemon is gone.
    pub fn post_unread(&self, key: &str, changes: &str) -> Result<TcpStream> {
        let mut connection = TcpStream::connect(&self.address)?;
        let head = format!(
            "POST /v1/changes HTTP/1.1\r\nHost: {}\r\nIdempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            changes.len()
        );
        connection.write_all((head + changes).as_bytes())?;
        Ok(connection)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.clone()
    }

    /// Standard input, if it was given a pipe.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// The most memory that it has held, in KiB.
    ///
    /// # Errors
    /// If the system doesn't tell.
    pub fn peak_memory_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.context("no VmHWM")?.trim().trim_end_matches(" kB");
        Ok(kib.parse()?)
    }

    /// What `GET path` answers, which must be a success.
    ///
    /// # Errors
    /// If it is none, or the daemon is gone.
    pub fn get(&self, path: &str) -> Result<Value> {
        let mut response = self.agent.get(self.url(path)).call()?;
        let text = response.body_mut().read_to_string()?;
        ensure!(response.status() == 200, "{path}: {text}");
        serde_json::from_str(&text).with_context(|| format!("{path} answered {text}"))
    }

    /// What `GET /v1/status` answers.
    ///
    /// # Errors
    /// If the daemon is gone.
    pub fn status(&self) -> Result<Value> {
        self.get("/v1/status")
    }

    /// Posts changes, with an idempotency key or without; gives the status and the answer.
    ///
    /// # Errors
    /// If the connection breaks before the answer is there.
    pub fn post(&self, key: Option<&str>, changes: impl AsRef<[u8]>) -> Result<(u16, Value)> {
        let mut request = self
            .agent
            .post(self.url("/v1/changes"))
            .header("Content-Type", "application/x-ndjson");
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let mut response = request.send(changes.as_ref())?;
        let text = response.body_mut().read_to_string()?;
        let answer =
            serde_json::from_str(&text).with_context(|| format!("the answer was {text}"))?;
        Ok((response.status().as_u16(), answer))
    }

    /// Waits until `look` finds something.
    ///
    /// # Panics
    /// If the daemon ends or the deadline passes first.
    pub fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        until(what, || {
            let found = look(self);
            if found.is_none()
                && let Ok(Some(status)) = self.child.try_wait()
            {
                panic!(
                    "waiting for {what}: the daemon ended with {status}:\n{}",
                    self.log()
                );
            }
            found
        })
    }

    /// Lines that the sources have handed over since the daemon's start, good and bad.
    pub fn handed_over(&self) -> Option<u64> {
        let status = self.status().ok()?;
        let sources = status["sources"].as_object()?;
        sources
            .values()
            .map(|source| Some(source["changes"].as_u64()? + source["bad"].as_u64()?))
            .sum()
    }

    /// Waits until the sources have handed over so many lines, good and bad, since the daemon's start, and all
    /// of them are durable.
    ///
    /// # Panics
    /// If the daemon ends or the deadline passes first.
    pub fn until_taken(&mut self, lines: u64) {
        self.until("the sources' lines to be handed over", |daemon| {
            (daemon.handed_over()? >= lines).then_some(())
        });
        // No changes, but behind theirs: once it is answered, they are on disk.
        match self.post(None, "") {
            Ok((200, _)) => {}
            other => panic!("an empty request: {other:?}\n{}", self.log()),
        }
    }

    /// Sends a signal, by its name without `SIG`.
    ///
    /// # Errors
    /// If `kill` can't be run.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status()?;
        ensure!(status.success(), "kill -{name} failed");
        Ok(())
    }

    /// Waits until it has ended; gives how, and all that it said.
    ///
    /// # Errors
    /// If it can't be waited for.
    pub fn wait(mut self) -> Result<(ExitStatus, String)> {
        let status = self.child.wait()?;
        if let Some(reader) = self.reader.take() {
            let joined = reader.join();
            joined.map_err(|_| anyhow!("the log's reader panicked"))?;
        }
        Ok((status, self.log()))
    }

    /// The same, or an error if it takes longer than `most`.
    ///
    /// # Errors
    /// If it takes too long or can't be waited for.
    pub fn wait_at_most(mut self, most: Duration) -> Result<(ExitStatus, String)> {
        let start = std::time::Instant::now();
        until("the daemon to end", || {
            self.child.try_wait().ok().flatten().map(drop)
        });
        ensure!(start.elapsed() < most, "it took {:?}", start.elapsed());
        self.wait()
    }

    /// Ends it with a signal and waits.
    ///
    /// # Errors
    /// If it can't be ended.
    pub fn end(self, signal: &str) -> Result<(ExitStatus, String)> {
        self.signal(signal)?;
        self.wait()
    }

    /// Ends it as a user would, which must go well; gives all that it said.
    ///
    /// # Errors
    /// If it ends otherwise.
    pub fn stop(self) -> Result<String> {
        let (status, log) = self.end("TERM")?;
        ensure!(status.success(), "the daemon ended with {status}:\n{log}");
        Ok(log)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already where a test waited for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps what a daemon says, and tells the address that it is ready on.
fn read_log(stderr: ChildStderr, log: &Mutex<String>, ready: &Sender<String>) {
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        if !matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
            return;
        }
        let line = String::from_utf8_lossy(&line);
        log.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_str(&line);
        if let Some((_, rest)) = line.split_once("ready: http ") {
            let address = rest.split([',', '"']).next().unwrap_or_default();
            let address = address.strip_prefix("http://").unwrap_or_default();
            // Told once; whoever asked may have gone.
            let _ = ready.try_send(address.to_owned());
        }
    }
}
