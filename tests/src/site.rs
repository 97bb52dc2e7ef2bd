//! A directory with a configuration, and the `rulemill` command run there as a user would.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::daemon::Daemon;

/// The configuration of a site that keeps users from the files of its inbox.
pub const CONFIGURATION: &str = r#"
data_dir = "data"
plugin_dir = "plugins"

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
"#;

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
        Ok(Self::existing(program, dir))
    }

    /// A directory that has its `rulemill.toml` already.
    pub fn existing(program: &str, dir: &Path) -> Self {
        Self {
            program: program.into(),
            dir: dir.to_owned(),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path below the directory.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.join(path)
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

    /// Appends to a file below the directory, made with its folder where it is missing.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn append(&self, path: &str, text: impl AsRef<[u8]>) -> Result<()> {
        let path = self.dir.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        file.write_all(text.as_ref())
            .with_context(|| path.display().to_string())
    }

    /// The command with arguments, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.dir)
            .env_remove("RULEMILL_LOG")
            .env_remove("RUST_BACKTRACE")
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

    /// All rows of a table as its CSV lines, without the header.
    ///
    /// # Errors
    /// If the table can't be read.
    pub fn rows(&self, table: &str) -> Result<Vec<String>> {
        let limit = u32::MAX.to_string();
        let text = self.ok(&["query", table, "--format", "csv", "--limit", &limit])?;
        Ok(text.lines().skip(1).map(str::to_owned).collect())
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
        Daemon::start(self.command(&["run"]).stdin(stdin))
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
