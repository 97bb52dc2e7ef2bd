//! This machine, as the choice of a toolchain sees it.
//!
//! Every step that can hang has a bound: rustup is ended after [`RUSTUP_SECONDS_MAX`], apt-get has
//! time-outs of its own (ending it half-way would leave packages half installed). No step asks
//! the user anything.

use std::{
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::{
    TARGET, cargo, output,
    packages::Workspace,
    toolchain::{Compiler, Machine},
};

/// How long a download of the target may take altogether.
const RUSTUP_SECONDS_MAX: u64 = 180;

/// How long it may stand still.
const RUSTUP_STALL_SECONDS_MAX: &str = "15";

/// How long apt-get waits for a server, and for another package installation to end.
const APT_OPTIONS: [&str; 10] = [
    "-o",
    "Acquire::http::Timeout=30",
    "-o",
    "Acquire::https::Timeout=30",
    "-o",
    "Acquire::Retries=1",
    "-o",
    "DPkg::Lock::Timeout=300",
    "-o",
    "Dpkg::Use-Pty=0",
];

/// The machine that this process runs on, from a workspace's directory: that decides which of
/// rustup's toolchains is in use.
pub(super) struct Local {
    directory: PathBuf,
    quiet: bool,
}

impl Local {
    pub(super) fn new(workspace: &Workspace, quiet: bool) -> Self {
        Self {
            directory: workspace.root.clone(),
            quiet,
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        cargo::clean(&mut command);
        command
            .current_dir(&self.directory)
            // Error messages are shown to people.
            .env("RUST_BACKTRACE", "0");
        command
    }

    /// What a command printed, without the last line break.
    fn ask(&self, program: &Path, arguments: &[&str]) -> Result<String, String> {
        let mut command = self.command(program);
        let output = output(command.args(arguments)).map_err(|_| "doesn't start".to_owned())?;
        if !output.status.success() {
            return Err(reason(&String::from_utf8_lossy(&output.stderr)));
        }
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    }

    fn apt_get(&self, arguments: &[&str]) -> Result<(), String> {
        let mut command = self.command(Path::new("apt-get"));
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C")
            .args(APT_OPTIONS)
            .args(arguments);
        let output = output(&mut command).map_err(|error| format!("{error:#}"))?;
        if output.status.success() {
            return Ok(());
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(format!("apt-get {}: {}", arguments[0], reason(&errors)))
    }
}

/// The compiler that cargo takes: RUSTC, else the first on PATH.
fn default_rustc() -> PathBuf {
    env::var_os("RUSTC").map_or_else(|| "rustc".into(), PathBuf::from)
}

impl Machine for Local {
    fn say(&self, line: &str) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }

    fn has_target(&self) -> Result<bool, String> {
        let rustc = default_rustc();
        let arguments = ["--print", "target-libdir", "--target", TARGET];
        let directory = self
            .ask(&rustc, &arguments)
            .map_err(|reason| format!("{} {reason}", rustc.display()))?;
        // The directory alone may be a left-over.
        let has_library = fs::read_dir(directory).is_ok_and(|files| {
            files.flatten().any(|file| {
                let name = file.file_name();
                let name = name.to_string_lossy();
                name.starts_with("libstd-") && name.ends_with(".rlib")
            })
        });
        Ok(has_library)
    }

    fn add_target(&self) -> Result<(), String> {
        let mut command = self.command(Path::new("rustup"));
        command
            .args(["target", "add", TARGET])
            .env("RUSTUP_MAX_RETRIES", "1")
            .env("RUSTUP_DOWNLOAD_TIMEOUT", RUSTUP_STALL_SECONDS_MAX);
        self.say(&format!("trying rustup target add {TARGET}"));
        run_bounded(command, Duration::from_secs(RUSTUP_SECONDS_MAX))
    }

    fn compilers(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = Vec::new();
        let mut seen = Vec::new();
        let named = env::var_os("RUSTC").map(PathBuf::from);
        let system = PathBuf::from("/usr/bin/rustc");
        for rustc in named.into_iter().chain(on_path("rustc")).chain([system]) {
            // /bin is often /usr/bin.
            if let Ok(real) = fs::canonicalize(&rustc)
                && !seen.contains(&real)
            {
                seen.push(real);
                found.push(rustc);
            }
        }
        found
    }

    fn compiler(&self, rustc: &Path) -> Result<Compiler, String> {
        let version = self.ask(rustc, &["-vV"])?;
        let version = version
            .lines()
            .find_map(|line| line.strip_prefix("release: "))
            .ok_or("is no rustc")?
            .to_owned();
        let library = Path::new(&self.ask(rustc, &["--print", "sysroot"])?)
            .join("lib/rustlib/src/rust/library");
        Ok(Compiler {
            version,
            // Cargo builds by this lock file; the path may lead through links.
            has_source: library.join("Cargo.lock").is_file()
                && library.join("std/Cargo.toml").is_file(),
        })
    }

    fn linker(&self) -> Option<PathBuf> {
        let in_toolchain = |toolchain: &Path| {
            entries(&toolchain.join("lib/rustlib"))
                .map(|target| target.join("bin/rust-lld"))
                .find(|linker| linker.is_file())
        };
        let sysroot = self.ask(&default_rustc(), &["--print", "sysroot"]);
        if let Some(linker) = sysroot.ok().and_then(|path| in_toolchain(Path::new(&path))) {
            return Some(linker);
        }
        rustup_home()
            .and_then(|home| {
                entries(&home.join("toolchains")).find_map(|toolchain| in_toolchain(&toolchain))
            })
            .or_else(|| {
                ["rust-lld", "wasm-ld", "lld"]
                    .into_iter()
                    .find_map(|name| on_path(name).next())
            })
    }

    fn may_install_packages(&self) -> Result<(), String> {
        if !Path::new("/etc/debian_version").exists() || on_path("apt-get").next().is_none() {
            return Err("this is no Debian".to_owned());
        }
        if !is_root() {
            return Err("installing them needs root".to_owned());
        }
        Ok(())
    }

    fn install_packages(&self, packages: &[&str]) -> Result<(), String> {
        // Lists that can't be fetched are no reason to give up: the old ones may know the packages.
        if let Err(reason) = self.apt_get(&["update"]) {
            self.say(&reason);
        }
        // Never at the cost of a package that is in use.
        let mut arguments = vec!["install", "--yes", "--no-install-recommends", "--no-remove"];
        arguments.extend(packages);
        self.apt_get(&arguments)
    }
}

fn rustup_home() -> Option<PathBuf> {
    env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".rustup")))
}

fn on_path(name: &str) -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let candidates: Vec<_> = env::split_paths(&path)
        .map(|directory| directory.join(name))
        .filter(|file| file.is_file())
        .collect();
    candidates.into_iter()
}

/// What a directory holds, in name order; nothing where it can't be read.
fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths.into_iter()
}

#[cfg(unix)]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    // A process's own directory belongs to the user it runs as.
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

/// Runs a command; past the bound it is ended.
fn run_bounded(mut command: Command, bound: Duration) -> Result<(), String> {
    let name = command.get_program().display().to_string();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("can't start {name}: {error}"))?;
    let (sender, receiver) = mpsc::channel();
    let stderr = child.stderr.take();
    // Its standard error ends when it does: that is what is waited for.
    thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut stderr) = stderr {
            // An unreadable message is an empty one; the exit status decides.
            drop(stderr.read_to_end(&mut text));
        }
        drop(sender.send(text));
    });
    let Ok(text) = receiver.recv_timeout(bound) else {
        drop(child.kill());
        drop(child.wait());
        return Err(format!("not done after {} s", bound.as_secs()));
    };
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(reason(&String::from_utf8_lossy(&text))),
        Err(error) => Err(format!("can't wait for {name}: {error}")),
    }
}

/// How much of another program's message is shown.
const REASON_CHARS_MAX: usize = 160;

/// The line of a program's error output that says most: the first that is marked as an error.
fn reason(stderr: &str) -> String {
    let marked = stderr.lines().map(str::trim).find_map(|line| {
        line.strip_prefix("error: ")
            .or_else(|| line.strip_prefix("E: "))
    });
    let line = marked
        .or_else(|| stderr.lines().map(str::trim).rfind(|line| !line.is_empty()))
        .unwrap_or("failed without a message");
    match line.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_error_output_the_line_that_says_most_is_shown() {
        let check = |stderr, line| assert_eq!(reason(stderr), line, "{stderr:?}");
        check(
            "info: downloading component rust-std\nerror: could not download file\n\nCaused by:\n  x\n",
            "could not download file",
        );
        check(
            "Reading lists\nE: Unable to locate package rustc-web\nE: more\n",
            "Unable to locate package rustc-web",
        );
        check("one\ntwo\n\n", "two");
        check("", "failed without a message");
        let long = "é".repeat(REASON_CHARS_MAX + 1);
        check(&long, &format!("{}...", "é".repeat(REASON_CHARS_MAX)));
    }

    #[cfg(unix)]
    #[test]
    fn a_command_that_doesnt_end_is_ended() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let minute = Duration::from_secs(60);
        assert_eq!(run_bounded(shell("exit 0"), minute), Ok(()));
        assert_eq!(
            run_bounded(shell("echo 'error: no' >&2; exit 1"), minute),
            Err("no".to_owned())
        );
        assert_eq!(
            run_bounded(shell("exec sleep 60"), Duration::from_millis(50)),
            Err("not done after 0 s".to_owned())
        );
        let missing = run_bounded(Command::new("/no/such/program"), minute).unwrap_err();
        assert!(
            missing.starts_with("can't start /no/such/program"),
            "{missing}"
        );
    }
}
