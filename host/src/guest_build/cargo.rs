//! Runs cargo for a plugin.
//!
//! Rulemill is often started by cargo itself (`cargo run`, `cargo test`), which leaves variables
//! behind that are about the host's build. Here stands which of them reach the plugin's build.

use std::{
    env,
    ffi::OsStr,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{
    TARGET,
    packages::{Package, Workspace},
    toolchain::Toolchain,
};

/// How plugins are compiled, whatever their own release profile says.
const PROFILE: [(&str, &str); 8] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    // Most of the SDK is generic or never called: seeing the whole program makes the code several
    // times smaller, and the host's compiler has that much less to do at each load.
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    // A panic ends the instance; there is nothing to unwind to.
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    // A sum that overflows parks its change instead of going on with a wrong number, as in tests.
    ("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
    // The functions' names stay: a trap's back trace is read by people, and they cost 15 %.
    ("CARGO_PROFILE_RELEASE_STRIP", "debuginfo"),
    ("CARGO_PROFILE_RELEASE_INCREMENTAL", "false"),
];

/// Variables of cargo's that are about the user's machine, not about one build.
const KEPT: [&str; 10] = [
    "CARGO",
    "CARGO_HOME",
    "CARGO_BUILD_JOBS",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_TARGET_*",
    "CARGO_HTTP_*",
    "CARGO_NET_*",
    "CARGO_REGISTR*",
    "CARGO_TERM_*",
];

/// Variables that would compile a plugin as if it were a part of the host, or for another machine.
const DROPPED: [&str; 6] = [
    "CARGO_TARGET_TMPDIR",
    "RUSTC_BOOTSTRAP",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
];

/// Whether a variable of this process reaches the plugin's build. RUSTC and rustup's own are the
/// user's choice of a compiler, and do.
fn is_kept(name: &str) -> bool {
    let listed = |list: &[&str]| {
        list.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == *pattern,
        })
    };
    if listed(&DROPPED) {
        return false;
    }
    !name.starts_with("CARGO") || listed(&KEPT)
}

/// Cargo in `directory`, with what it may inherit.
pub(super) fn command(directory: &Path) -> Command {
    // Under `cargo run` this is the cargo that runs, be it on PATH or not.
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    clean(&mut command);
    command.current_dir(directory);
    command
}

/// Removes from a command's environment what [`is_kept`] says.
pub(super) fn clean(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if !is_kept(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
}

/// Builds one plugin and returns the WebAssembly file in the target directory.
///
/// One call a plugin, since only then can the library be made as nothing but a `cdylib`: where
/// an `rlib` is made along with it, cargo leaves link-time optimisation out. The target directory
/// is shared, so dependencies are built once.
pub(super) fn build(
    workspace: &Workspace,
    package: &Package,
    toolchain: &Toolchain,
    quiet: bool,
) -> Result<PathBuf> {
    let mut command = command(&workspace.root);
    command
        .args(["rustc", "--lib", "--crate-type", "cdylib", "--release"])
        .args(["--target", TARGET, "--package", &package.id])
        .arg("--message-format=json-render-diagnostics")
        .arg("--target-dir")
        .arg(workspace.guest_target_dir())
        .envs(PROFILE);
    toolchain.apply(&mut command);

    let (succeeded, messages, errors) = run(&mut command, quiet)?;
    if !succeeded {
        let message = format!("plugin {} doesn't compile", package.plugin);
        // Unless quiet, cargo has shown its errors already.
        match quiet {
            true => bail!("{message}:\n{}", errors.trim_end()),
            false => bail!("{message}"),
        }
    }
    artifact(&messages, package).with_context(|| {
        format!(
            "cargo built no WebAssembly file for plugin {}",
            package.plugin
        )
    })
}

/// Runs cargo; what it prints for people goes on to standard error, or is returned where `quiet`.
fn run(command: &mut Command, quiet: bool) -> Result<(bool, String, String)> {
    let start = || "can't start cargo";
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    if quiet {
        let output = command.output().with_context(start)?;
        return Ok((
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ));
    }
    let mut child = command
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(start)?;
    let mut messages = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout
            .read_to_end(&mut messages)
            .context("can't read cargo's messages")?;
    }
    let status = child.wait().context("can't wait for cargo")?;
    let messages = String::from_utf8_lossy(&messages).into_owned();
    Ok((status.success(), messages, String::new()))
}

/// One line of cargo's output, as far as it tells of files.
#[derive(Deserialize)]
struct Message<'a> {
    reason: &'a str,
    #[serde(default)]
    package_id: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

fn artifact(messages: &str, package: &Package) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message<'_>>(line).ok())
        .filter(|message| message.reason == "compiler-artifact" && message.package_id == package.id)
        .flat_map(|message| message.filenames)
        .find(|file| file.extension() == Some(OsStr::new("wasm")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_hosts_build_dont_reach_the_plugins() {
        let check = |names: &[&str], kept| {
            for name in names {
                assert_eq!(is_kept(name), kept, "{name}");
            }
        };
        check(
            &[
                "RUSTFLAGS",
                "CARGO_ENCODED_RUSTFLAGS",
                "RUSTC_WRAPPER",
                "RUSTC_BOOTSTRAP",
            ],
            false,
        );
        check(
            &[
                "CARGO_PKG_NAME",
                "CARGO_MANIFEST_DIR",
                "CARGO_PROFILE_RELEASE_LTO",
                "CARGO_BUILD_TARGET",
            ],
            false,
        );
        check(
            &[
                "CARGO_TARGET_TMPDIR",
                "CARGO_MAKEFLAGS",
                "CARGO_INCREMENTAL",
            ],
            false,
        );
        check(
            &[
                "PATH",
                "HOME",
                "RUSTC",
                "RUSTUP_TOOLCHAIN",
                "RUSTUP_HOME",
                "CARGO",
            ],
            true,
        );
        check(
            &[
                "CARGO_HOME",
                "CARGO_TARGET_DIR",
                "CARGO_NET_OFFLINE",
                "CARGO_REGISTRIES_MINE_TOKEN",
            ],
            true,
        );
        check(
            &[
                "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER",
                "CARGO_TERM_COLOR",
            ],
            true,
        );
    }

    #[test]
    fn the_plugins_file_is_told_from_cargos_other_messages() {
        let package = Package {
            id: "path+file:///w#shop@0.1.0".into(),
            plugin: "shop".into(),
            manifest: "/w/Cargo.toml".into(),
        };
        let messages = [
            r#"{"reason":"compiler-artifact","package_id":"other","filenames":["/t/other.wasm"]}"#,
            r#"{"reason":"build-script-executed","package_id":"path+file:///w#shop@0.1.0"}"#,
            "not JSON",
            r#"{"reason":"compiler-artifact","package_id":"path+file:///w#shop@0.1.0","filenames":["/t/build-script"]}"#,
            r#"{"reason":"compiler-artifact","package_id":"path+file:///w#shop@0.1.0","filenames":["/t/shop.wasm"]}"#,
            r#"{"reason":"build-finished","success":true}"#,
        ]
        .join("\n");
        assert_eq!(artifact(&messages, &package), Some("/t/shop.wasm".into()));
        assert_eq!(artifact("", &package), None);
    }
}
