//! Compiles plugin crates to WebAssembly: what `rulemill build`, the demo and the tests call.
//!
//! ```text
//! crate directories -> plugin packages, by workspace -> a toolchain that can -> cargo -> NAME.wasm in `out`
//! ```
//!
//! - [`toolchain`] decides how: the first way that works of the installed target, `rustup target
//!   add`, a rustc with the library's source, Debian's packages. [`machine`] is the machine it asks.
//! - [`packages`] finds out what is to be built, [`cargo`] builds it, [`publish`] puts it in place.
//!
//! It never changes a crate, and never touches the target directory's other builds: guests have one
//! of their own in it. A file in `out` is replaced whole or left alone, and left alone where nothing
//! changed. Where a build fails, cargo's errors are shown whole and `out` stays as it was.

mod cargo;
mod machine;
mod packages;
mod publish;
mod toolchain;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result, bail};

pub use toolchain::NoToolchain;

/// Where plugins go when nothing else is said: the `plugin_dir` that a configuration has by default.
pub const DEFAULT_OUT: &str = "plugins";

/// The target of every plugin. It has no system interface: a plugin can only compute.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// What to build, and where to.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// Directories of plugin crates; of a workspace without a package of its own, all its plugins.
    pub crates: Vec<PathBuf>,
    /// The directory that gets each plugin as `NAME.wasm`; it is made where it is missing.
    pub out: PathBuf,
    /// Print nothing to standard error; cargo's errors then come with the returned error.
    pub quiet: bool,
}

/// A plugin that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltPlugin {
    /// The plugin's name: the crate's, with `_` for `-`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether the file is new or other than before.
    pub changed: bool,
}

/// Builds plugin crates and puts `NAME.wasm` of each into `request.out`.
///
/// Crates of one workspace share a target directory, `rulemill` below the workspace's own. Where no
/// input changed, only cargo's freshness check is paid for. Calls from several processes at once
/// are safe.
///
/// # Errors
/// A directory that holds no plugin crate, no way to compile for WebAssembly ([`NoToolchain`] is the
/// cause then), a crate that doesn't compile, a directory that can't be written.
pub fn build(request: &BuildRequest) -> Result<Vec<BuiltPlugin>> {
    if request.crates.is_empty() {
        bail!("no plugin crate was named");
    }
    let workspaces = packages::find(&request.crates)?;
    refuse_same_names(&workspaces)?;

    let mut built = Vec::new();
    for workspace in &workspaces {
        let machine = machine::Local::new(workspace, request.quiet);
        let toolchain = toolchain::obtain(&machine, &workspace.guest_target_dir())?;
        for package in &workspace.packages {
            let artifact = cargo::build(workspace, package, &toolchain, request.quiet)?;
            built.push(publish::put(&artifact, &package.plugin, &request.out)?);
        }
    }
    Ok(built)
}

/// Two plugins of one name would overwrite each other, and the later one would seem to be both.
fn refuse_same_names(workspaces: &[packages::Workspace]) -> Result<()> {
    let mut seen = BTreeMap::new();
    for package in workspaces.iter().flat_map(|workspace| &workspace.packages) {
        if let Some(first) = seen.insert(&package.plugin, &package.manifest) {
            bail!(
                "two crates are named {}: {} and {}; a plugin's name is its file's, so rename one",
                package.plugin,
                first.display(),
                package.manifest.display()
            );
        }
    }
    Ok(())
}

/// Runs a command to its end without a terminal to ask on.
fn output(command: &mut std::process::Command) -> Result<std::process::Output> {
    command
        .stdin(std::process::Stdio::null())
        .output()
        .with_context(|| format!("can't start {}", command.get_program().display()))
}
