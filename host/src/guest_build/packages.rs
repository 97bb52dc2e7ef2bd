//! Which packages the named directories mean, by the workspace that they are in.
//!
//! Cargo is asked (`cargo metadata`); nothing is guessed from the files. A directory that holds no
//! plugin is an error that says what is missing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{cargo, output};

/// A workspace and those of its packages that are to be built.
#[derive(Debug)]
pub(super) struct Workspace {
    /// Its directory.
    pub(super) root: PathBuf,
    /// Its target directory, as cargo's settings say.
    target_dir: PathBuf,
    /// What is to be built, in the order named, each once.
    pub(super) packages: Vec<Package>,
}

/// A package that makes a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    /// Cargo's identifier, good as `-p`.
    pub(super) id: String,
    /// The plugin's name: the library's.
    pub(super) plugin: String,
    /// Its Cargo.toml.
    pub(super) manifest: PathBuf,
}

impl Workspace {
    /// Where guests are built: apart from builds for this machine, which would otherwise wait for
    /// the same lock.
    pub(super) fn guest_target_dir(&self) -> PathBuf {
        self.target_dir.join("rulemill")
    }
}

/// The packages in `directories`.
pub(super) fn find(directories: &[PathBuf]) -> Result<Vec<Workspace>> {
    let mut workspaces: Vec<Workspace> = Vec::new();
    for directory in directories {
        let found = inspect(directory)?;
        match workspaces.iter_mut().find(|known| known.root == found.root) {
            Some(known) => {
                for package in found.packages {
                    if !known.packages.contains(&package) {
                        known.packages.push(package);
                    }
                }
            }
            None => workspaces.push(found),
        }
    }
    Ok(workspaces)
}

fn inspect(directory: &Path) -> Result<Workspace> {
    let manifest = directory.join("Cargo.toml");
    if !manifest.is_file() {
        bail!(
            "{} has no Cargo.toml: name a plugin crate's directory, or make one with `rulemill new DIR`",
            directory.display()
        );
    }
    let manifest = fs::canonicalize(&manifest)
        .with_context(|| format!("can't resolve {}", manifest.display()))?;
    let directory = manifest.parent().unwrap_or(directory);
    let mut command = cargo::command(directory);
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    let answer = output(&mut command)?;
    if !answer.status.success() {
        bail!(
            "cargo can't read {}:\n{}",
            manifest.display(),
            String::from_utf8_lossy(&answer.stderr).trim_end()
        );
    }
    let metadata: Metadata = serde_json::from_slice(&answer.stdout)
        .with_context(|| format!("can't read cargo's metadata of {}", manifest.display()))?;
    select(metadata, &manifest)
}

/// The part of `cargo metadata` that is needed here.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Debug, Deserialize)]
struct MetadataPackage {
    id: String,
    name: String,
    manifest_path: PathBuf,
    targets: Vec<MetadataTarget>,
}

#[derive(Debug, Deserialize)]
struct MetadataTarget {
    name: String,
    crate_types: Vec<String>,
}

impl MetadataPackage {
    fn plugin(&self) -> Option<Package> {
        let library = self
            .targets
            .iter()
            .find(|target| target.crate_types.iter().any(|kind| kind == "cdylib"))?;
        Some(Package {
            id: self.id.clone(),
            plugin: library.name.replace('-', "_"),
            manifest: self.manifest_path.clone(),
        })
    }
}

/// The package of `manifest`, or all plugins of the workspace that `manifest` is the root of.
fn select(metadata: Metadata, manifest: &Path) -> Result<Workspace> {
    let own = metadata
        .packages
        .iter()
        .find(|package| package.manifest_path == manifest);
    let packages = match own {
        Some(package) => match package.plugin() {
            Some(plugin) => vec![plugin],
            None => bail!(
                "{} ({}) is no plugin: its Cargo.toml needs\n\n    [lib]\n    crate-type = [\"cdylib\"]\n",
                package.name,
                manifest.display()
            ),
        },
        None => metadata
            .packages
            .iter()
            .filter_map(MetadataPackage::plugin)
            .collect(),
    };
    if packages.is_empty() {
        bail!(
            "the workspace {} has no plugin: no member's library has the crate-type \"cdylib\"",
            manifest.display()
        );
    }
    Ok(Workspace {
        root: metadata.workspace_root,
        target_dir: metadata.target_directory,
        packages,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Metadata {
        serde_json::from_value(serde_json::json!({
            "workspace_root": "/w",
            "target_directory": "/w/target",
            "packages": [
                {"id": "path+file:///w/a#order-totals@0.1.0", "name": "order-totals",
                 "manifest_path": "/w/a/Cargo.toml",
                 "targets": [{"name": "order_totals", "crate_types": ["cdylib", "rlib"]}]},
                {"id": "path+file:///w/b#tool@0.1.0", "name": "tool", "manifest_path": "/w/b/Cargo.toml",
                 "targets": [{"name": "tool", "crate_types": ["bin"]}]},
            ],
        }))
        .unwrap()
    }

    fn check(manifest: &str, expected: Result<&[&str], &str>) {
        let found = select(metadata(), Path::new(manifest));
        match (found, expected) {
            (Ok(workspace), Ok(names)) => {
                let plugins: Vec<_> = workspace
                    .packages
                    .iter()
                    .map(|package| package.plugin.as_str())
                    .collect();
                assert_eq!(plugins, names, "{manifest}");
                assert_eq!(
                    workspace.guest_target_dir(),
                    Path::new("/w/target/rulemill")
                );
            }
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{manifest}: {error}");
            }
            (found, expected) => panic!("{manifest}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_directory_means_its_package_or_the_workspaces_plugins() {
        check("/w/a/Cargo.toml", Ok(&["order_totals"]));
        check("/w/b/Cargo.toml", Err("crate-type = [\"cdylib\"]"));
        check("/w/Cargo.toml", Ok(&["order_totals"]));
    }

    #[test]
    fn a_directory_without_a_crate_is_refused() {
        let empty = tempfile::tempdir().unwrap();
        let error = find(&[empty.path().to_owned()]).unwrap_err().to_string();
        assert!(
            error.contains("has no Cargo.toml: name a plugin crate's directory"),
            "{error}"
        );
    }
}
