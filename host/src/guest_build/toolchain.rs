//! How to compile for WebAssembly here: the first way that works.
//!
//! 1. the target is installed;
//! 2. `rustup target add` installs it;
//! 3. a rustc that has its library's source compiles the library too;
//! 4. on Debian as root, the packages that hold such a rustc are installed;
//! 5. else [`NoToolchain`], which says what to install.
//!
//! Nothing is remembered between calls: where the target is there, finding that out is one call of
//! rustc. The order and the messages are here; what is done to the machine is behind [`Machine`].

use std::{
    ffi::OsStr,
    fmt,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::TARGET;

/// The oldest rustc that compiles the SDK: the host's own minimum.
const RUSTC_MINIMUM: &str = env!("CARGO_PKG_RUST_VERSION");

/// Debian's packages of a recent rustc and its library's source.
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];

/// Debian's package of a linker for WebAssembly.
const DEBIAN_LINKER: &str = "lld";

/// A way to compile plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Toolchain {
    /// The compiler that cargo takes anyway has the target.
    Installed,
    /// The standard library is compiled along, by this compiler, and linked by this linker.
    WithSource {
        /// The compiler.
        rustc: PathBuf,
        /// The linker.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// Makes `cargo` compile this way.
    pub(super) fn apply(&self, cargo: &mut Command) {
        if let Self::WithSource { rustc, linker } = self {
            cargo
                .args(["-Z", "build-std=std,panic_abort"])
                .env("RUSTC", rustc)
                // `-Z` is for nightly compilers; building the library is all it is used for.
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
    }
}

/// What a compiler says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Compiler {
    /// Its version, such as `1.96.0`.
    pub(super) version: String,
    /// Whether its library's source lies in its sysroot.
    pub(super) has_source: bool,
}

/// What the choice asks of a machine, and does to it. Errors are one line each: the reason.
pub(super) trait Machine {
    /// Tells the user.
    fn say(&self, line: &str);
    /// Whether the compiler that cargo takes has the target; an error where there is none.
    fn has_target(&self) -> Result<bool, String>;
    /// `rustup target add`.
    fn add_target(&self) -> Result<(), String>;
    /// Every rustc there is, the preferred one first.
    fn compilers(&self) -> Vec<PathBuf>;
    /// What one of them is.
    fn compiler(&self, rustc: &Path) -> Result<Compiler, String>;
    /// A linker for WebAssembly.
    fn linker(&self) -> Option<PathBuf>;
    /// An error where packages can't be installed.
    fn may_install_packages(&self) -> Result<(), String>;
    /// Installs packages.
    fn install_packages(&self, packages: &[&str]) -> Result<(), String>;
}

/// There is no way to compile for WebAssembly; says what was tried and what to install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoToolchain {
    tried: Vec<(&'static str, String)>,
}

impl fmt::Display for NoToolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "found no way to compile for {TARGET}. What was tried:")?;
        for (way, reason) in &self.tried {
            writeln!(f, "  {way}: {reason}")?;
        }
        write!(
            f,
            "Install one of these and try again:\n  \
             rustup target add {TARGET}\n  \
             apt-get install {} {DEBIAN_LINKER}      (Debian, as root, after apt-get update)\n  \
             rustup component add rust-src      (compiles the library's source instead)",
            DEBIAN_PACKAGES.join(" ")
        )
    }
}

impl std::error::Error for NoToolchain {}

/// Finds a way to compile, or makes one. Processes that have to install something take turns, by a
/// lock file in `directory`.
pub(super) fn obtain(machine: &impl Machine, directory: &Path) -> Result<Toolchain> {
    // The usual case needs no lock.
    if machine.has_target() == Ok(true) {
        machine.say(&format!("compiling with the installed target {TARGET}"));
        return Ok(Toolchain::Installed);
    }
    let _turn = take_turn(machine, directory)?;
    Ok(choose(machine)?)
}

fn take_turn(machine: &impl Machine, directory: &Path) -> Result<File> {
    let path = directory.join("toolchain.lock");
    fs::create_dir_all(directory)
        .and_then(|()| File::create(&path))
        .and_then(|file| {
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    machine.say("waiting for another build that looks for a toolchain");
                    file.lock()?;
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            Ok(file)
        })
        .with_context(|| format!("can't lock {}", path.display()))
}

fn choose(machine: &impl Machine) -> Result<Toolchain, NoToolchain> {
    let mut tried = Vec::new();
    let mut failed = |way, reason: String| {
        machine.say(&format!("{way}: {reason}"));
        tried.push((way, reason));
    };

    match machine.has_target() {
        // Another process installed it while this one waited for its turn.
        Ok(true) => {
            machine.say(&format!("compiling with the installed target {TARGET}"));
            return Ok(Toolchain::Installed);
        }
        Ok(false) => failed("installed target", format!("rustc has no {TARGET}")),
        Err(reason) => failed("installed target", reason),
    }

    let added = machine.add_target().and_then(|()| {
        // Where RUSTC is not rustup's, what rustup installs doesn't reach it.
        match machine.has_target()? {
            true => Ok(()),
            false => Err("done, but the rustc in use still has no such target".to_owned()),
        }
    });
    match added {
        Ok(()) => {
            machine.say(&format!("compiling with {TARGET}, added by rustup"));
            return Ok(Toolchain::Installed);
        }
        Err(reason) => failed("rustup target add", reason),
    }

    match with_source(machine) {
        Ok(toolchain) => return Ok(toolchain),
        Err(reason) => failed("rustc with its library's source", reason),
    }

    let installed = machine.may_install_packages().and_then(|()| {
        let packages = missing_packages(machine);
        machine.say(&format!(
            "installing {} with apt-get (some 140 MB to download)",
            packages.join(", ")
        ));
        machine.install_packages(&packages)?;
        with_source(machine)
    });
    match installed {
        Ok(toolchain) => return Ok(toolchain),
        Err(reason) => failed("Debian's packages", reason),
    }
    Err(NoToolchain { tried })
}

fn missing_packages(machine: &impl Machine) -> Vec<&'static str> {
    let mut packages = Vec::new();
    if compiler_with_source(machine).is_err() {
        packages.extend(DEBIAN_PACKAGES);
    }
    if machine.linker().is_none() {
        packages.push(DEBIAN_LINKER);
    }
    packages
}

fn with_source(machine: &impl Machine) -> Result<Toolchain, String> {
    let (rustc, version) = compiler_with_source(machine)?;
    let linker = machine.linker().ok_or_else(|| {
        format!(
            "{} has it, but there is no linker: neither rust-lld in a rustup toolchain nor wasm-ld on PATH",
            rustc.display()
        )
    })?;
    machine.say(&format!(
        "compiling with {} ({version}) and its library's source, linking with {}",
        rustc.display(),
        linker
            .file_name()
            .unwrap_or(OsStr::new("rust-lld"))
            .display()
    ));
    Ok(Toolchain::WithSource { rustc, linker })
}

/// The first compiler that is new enough and has its library's source, and its version.
fn compiler_with_source(machine: &impl Machine) -> Result<(PathBuf, String), String> {
    let mut reasons = Vec::new();
    for rustc in machine.compilers() {
        let reason = match machine.compiler(&rustc) {
            Ok(compiler) if !compiler.has_source => "has none".to_owned(),
            Ok(compiler) if minor(&compiler.version) < minor(RUSTC_MINIMUM) => {
                format!(
                    "is {}, too old: {RUSTC_MINIMUM} is needed",
                    compiler.version
                )
            }
            Ok(compiler) => return Ok((rustc, compiler.version)),
            Err(reason) => reason,
        };
        reasons.push(format!("{} {reason}", rustc.display()));
    }
    match reasons.is_empty() {
        true => Err("there is no rustc".to_owned()),
        false => Err(reasons.join("; ")),
    }
}

/// The first two numbers of a version.
fn minor(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A machine on which nothing works unless a test says so.
    #[derive(Default)]
    struct Fake {
        target: bool,
        no_rustc: bool,
        rustup_adds: bool,
        /// rustup's target lands in a toolchain that is not in use.
        rustup_adds_elsewhere: bool,
        compilers: Vec<(&'static str, &'static str, bool)>,
        linker: Option<&'static str>,
        apt: bool,
        apt_finds_packages: bool,
        /// What rustup and apt changed.
        now: RefCell<Installed>,
        said: RefCell<Vec<String>>,
    }

    #[derive(Default)]
    struct Installed {
        target: bool,
        packages: Vec<String>,
    }

    impl Fake {
        fn has_package(&self, name: &str) -> bool {
            self.now
                .borrow()
                .packages
                .iter()
                .any(|package| package == name)
        }
    }

    impl Machine for Fake {
        fn say(&self, line: &str) {
            self.said.borrow_mut().push(line.to_owned());
        }

        fn has_target(&self) -> Result<bool, String> {
            match self.no_rustc {
                true => Err("there is no rustc".to_owned()),
                false => Ok(self.target || self.now.borrow().target),
            }
        }

        fn add_target(&self) -> Result<(), String> {
            if self.rustup_adds_elsewhere {
                return Ok(());
            }
            if !self.rustup_adds {
                return Err("could not download".to_owned());
            }
            self.now.borrow_mut().target = true;
            Ok(())
        }

        fn compilers(&self) -> Vec<PathBuf> {
            let mut compilers: Vec<_> = self
                .compilers
                .iter()
                .map(|(path, ..)| PathBuf::from(path))
                .collect();
            if self.has_package("rustc-web") {
                compilers.push("/usr/bin/rustc".into());
            }
            compilers
        }

        fn compiler(&self, rustc: &Path) -> Result<Compiler, String> {
            let (version, has_source) = self
                .compilers
                .iter()
                .find(|(path, ..)| Path::new(path) == rustc)
                .map_or(("1.96.0", self.has_package("rust-web-src")), |known| {
                    (known.1, known.2)
                });
            if version.is_empty() {
                return Err("doesn't start".to_owned());
            }
            Ok(Compiler {
                version: version.to_owned(),
                has_source,
            })
        }

        fn linker(&self) -> Option<PathBuf> {
            if self.has_package("lld") {
                return Some("/usr/bin/wasm-ld".into());
            }
            self.linker.map(PathBuf::from)
        }

        fn may_install_packages(&self) -> Result<(), String> {
            match self.apt {
                true => Ok(()),
                false => Err("not root".to_owned()),
            }
        }

        fn install_packages(&self, packages: &[&str]) -> Result<(), String> {
            if !self.apt_finds_packages {
                return Err("unable to locate package".to_owned());
            }
            let packages = packages.iter().map(|name| (*name).to_owned());
            self.now.borrow_mut().packages.extend(packages);
            Ok(())
        }
    }

    /// `expected`: the compiler's path, the linker's after a space; `installed`; or the reasons of
    /// the error, joined by `|`.
    fn check(fake: &Fake, expected: &str) {
        let outcome = match choose(fake) {
            Ok(Toolchain::Installed) => "installed".to_owned(),
            Ok(Toolchain::WithSource { rustc, linker }) => {
                format!("{} {}", rustc.display(), linker.display())
            }
            Err(error) => {
                let reasons: Vec<_> = error.tried.into_iter().map(|(_, reason)| reason).collect();
                reasons.join("|")
            }
        };
        assert_eq!(outcome, expected, "said: {:#?}", fake.said.borrow());
    }

    const LLD: Option<&str> = Some("/rustup/rust-lld");

    #[test]
    fn the_first_way_that_works_is_taken() {
        let nothing = Fake::default;
        check(
            &Fake {
                target: true,
                rustup_adds: true,
                ..nothing()
            },
            "installed",
        );
        check(
            &Fake {
                rustup_adds: true,
                apt: true,
                ..nothing()
            },
            "installed",
        );
        let debian = ("/usr/bin/rustc", "1.96.0", true);
        let rustup = ("/rustup/rustc", "1.95.0", false);
        check(
            &Fake {
                compilers: vec![rustup, debian],
                linker: LLD,
                ..nothing()
            },
            "/usr/bin/rustc /rustup/rust-lld",
        );
        check(
            &Fake {
                rustup_adds_elsewhere: true,
                compilers: vec![debian],
                linker: LLD,
                ..nothing()
            },
            "/usr/bin/rustc /rustup/rust-lld",
        );
        // Debian's own rustc is older than the SDK needs; a broken one is passed over.
        let old = ("/old/rustc", "1.63.0", true);
        let broken = ("/broken/rustc", "", true);
        check(
            &Fake {
                compilers: vec![broken, old, debian],
                linker: LLD,
                ..nothing()
            },
            "/usr/bin/rustc /rustup/rust-lld",
        );
    }

    #[test]
    fn packages_are_installed_last_and_only_those_that_are_missing() {
        let apt = || Fake {
            apt: true,
            apt_finds_packages: true,
            ..Fake::default()
        };
        let installed = |fake: &Fake| fake.now.borrow().packages.join(" ");
        let fake = Fake {
            linker: LLD,
            ..apt()
        };
        check(&fake, "/usr/bin/rustc /rustup/rust-lld");
        assert_eq!(installed(&fake), "rustc-web rust-web-src");

        let fake = apt();
        check(&fake, "/usr/bin/rustc /usr/bin/wasm-ld");
        assert_eq!(installed(&fake), "rustc-web rust-web-src lld");

        let fake = Fake {
            compilers: vec![("/my/rustc", "1.97.0", true)],
            ..apt()
        };
        check(&fake, "/my/rustc /usr/bin/wasm-ld");
        assert_eq!(installed(&fake), "lld");
    }

    #[test]
    fn where_nothing_works_one_message_says_what_to_install() {
        let fake = Fake {
            no_rustc: true,
            ..Fake::default()
        };
        check(
            &fake,
            "there is no rustc|could not download|there is no rustc|not root",
        );

        let old = ("/usr/bin/rustc", "1.63.0", true);
        let fake = Fake {
            compilers: vec![old],
            apt: true,
            ..Fake::default()
        };
        let minimum = RUSTC_MINIMUM;
        check(
            &fake,
            &format!(
                "rustc has no {TARGET}|could not download|/usr/bin/rustc is 1.63.0, too old: {minimum} is \
                 needed|unable to locate package"
            ),
        );
        let message = choose(&fake).unwrap_err().to_string();
        for part in [
            "rustup target add wasm32-unknown-unknown\n",
            "apt-get install rustc-web rust-web-src lld",
            "rustup target add: could not download",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn each_failure_is_told_in_one_line() {
        let fake = Fake {
            compilers: vec![("/usr/bin/rustc", "1.96.0", true)],
            linker: LLD,
            ..Fake::default()
        };
        choose(&fake).unwrap();
        assert_eq!(
            *fake.said.borrow(),
            [
                "installed target: rustc has no wasm32-unknown-unknown",
                "rustup target add: could not download",
                "compiling with /usr/bin/rustc (1.96.0) and its library's source, linking with rust-lld",
            ]
        );
    }
}
