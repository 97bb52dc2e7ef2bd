//! The `rulemill` command as a process of its own: run to its end, or as a daemon.
//!
//! A daemon listens on a port that the system picks and is ended by its process id; nothing here waits
//! by the clock.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread::JoinHandle,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// A directory with a configuration, and the program to run there.
pub struct Site {
    program: PathBuf,
    dir: PathBuf,
}

impl Site {
    /// Writes `rulemill.toml` into a directory. `program` is the command's executable.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn new(program: &str, dir: &Path, configuration: &str) -> Result<Self> {
        fs::write(dir.join("rulemill.toml"), configuration)?;
        fs::create_dir_all(dir.join("plugins"))?;
        Ok(Self {
            program: program.into(),
            dir: dir.to_owned(),
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a file below the directory, its folder included.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) -> Result<()> {
        let path = self.dir.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text).with_context(|| path.display().to_string())
    }

    /// The command with arguments, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.dir)
            .env_remove("RULEMILL_LOG")
            .args(arguments);
        command
    }

    /// Runs the command to its end.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn run(&self, arguments: &[&str]) -> Result<Ran> {
        let output = self.command(arguments).stdin(Stdio::null()).output()?;
        Ok(Ran(output))
    }

    /// Runs a command that must succeed, and gives what it prints.
    ///
    /// # Errors
    /// If it fails.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        let ran = self.run(arguments)?;
        ensure!(
            ran.code() == 0,
            "{arguments:?} ended with {}: {}",
            ran.code(),
            ran.stderr()
        );
        Ok(ran.stdout())
    }

    /// Runs a command that must succeed, and gives the JSON that it prints.
    ///
    /// # Errors
    /// If it fails or prints something else.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.ok(arguments)?;
        serde_json::from_str(&text).with_context(|| format!("{arguments:?} printed {text}"))
    }

    /// Starts the daemon and waits until it is ready.
    ///
    /// # Errors
    /// If it ends before, with what it said.
    pub fn daemon(&self) -> Result<Daemon> {
        self.daemon_with(Stdio::null())
    }

    /// The same, with this standard input.
    ///
    /// # Errors
    /// If it ends before, with what it said.
    pub fn daemon_with(&self, stdin: Stdio) -> Result<Daemon> {
        let mut child = self
            .command(&["run"])
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("no standard error")?;
        let mut daemon = Daemon {
            child,
            address: String::new(),
            log: None,
        };
        let mut lines = BufReader::new(stderr);
        let mut said = String::new();
        loop {
            let start = said.len();
            if lines.read_line(&mut said)? == 0 {
                bail!("the daemon ended before it was ready: {said}");
            }
            let line = &said[start..];
            if let Some((_, rest)) = line.split_once("http://")
                && line.contains("ready: ")
            {
                let end = rest.find([',', ' ', '\n']).unwrap_or(rest.len());
                daemon.address = rest[..end].to_owned();
                break;
            }
        }
        // Read on, or the daemon would stand still once the pipe is full.
        daemon.log = Some(std::thread::spawn(move || {
            let mut rest = said;
            let result = lines.read_to_string(&mut rest);
            result.map(|_| rest)
        }));
        Ok(daemon)
    }
}

/// A command that has ended.
pub struct Ran(Output);

impl Ran {
    /// Its exit code; -1 if a signal ended it.
    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }

    /// What it printed.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// What it said on standard error.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }
}

/// A running daemon; killed when dropped.
pub struct Daemon {
    child: Child,
    address: String,
    log: Option<JoinHandle<std::io::Result<String>>>,
}

impl Daemon {
    /// The address of a path of its API.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Standard input, if it was given a pipe.
    pub fn stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
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
        let log = match self.log.take() {
            Some(log) => log
                .join()
                .map_err(|_| anyhow::anyhow!("the log's reader panicked"))??,
            None => String::new(),
        };
        Ok((status, log))
    }

    /// Ends it with a signal and waits.
    ///
    /// # Errors
    /// If it can't be ended.
    pub fn end(self, signal: &str) -> Result<(ExitStatus, String)> {
        self.signal(signal)?;
        self.wait()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already where a test waited for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
