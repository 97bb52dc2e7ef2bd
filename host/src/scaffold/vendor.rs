//! The SDK's sources, as crates that stand alone.
//!
//! In this repository the SDK's manifests inherit from the workspace. [`standalone`] resolves what
//! they inherit, points the crates at each other, and leaves out what only their own tests need.

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

/// Every file of the SDK, by its path below `sdk/`.
static SDK: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/sdk_files.rs"));

/// What the SDK's manifests inherit from.
const WORKSPACE: &str = include_str!("../../../Cargo.toml");

/// The crates by their folders below `sdk/`; the SDK itself, whose folder is a prefix of all, last.
const CRATES: [(&str, &str); 3] = [
    ("macros/", "rulemill-sdk-macros"),
    ("wire/", "rulemill-wire"),
    ("", "rulemill-sdk"),
];

/// The files to write into `vendor/`: their path there, and their text.
pub(super) fn files() -> Result<Vec<(String, String)>> {
    let workspace = WORKSPACE
        .parse()
        .context("can't read the workspace's Cargo.toml")?;
    SDK.iter()
        .map(|(path, text)| {
            let (name, rest) = place(path);
            let text = match rest {
                "Cargo.toml" => standalone(text, &workspace)
                    .with_context(|| format!("can't make the manifest of {name} stand alone"))?,
                _ => (*text).to_owned(),
            };
            Ok((format!("{name}/{rest}"), text))
        })
        .collect()
}

/// The crate that a file belongs to, and its path in it.
fn place(path: &str) -> (&'static str, &str) {
    for (folder, name) in CRATES {
        if let Some(rest) = path.strip_prefix(folder) {
            return (name, rest);
        }
    }
    unreachable!("the SDK's own folder is a prefix of every path");
}

/// A manifest without anything that is inherited from `workspace`.
fn standalone(manifest: &str, workspace: &Table) -> Result<String> {
    let mut manifest: Table = manifest.parse()?;
    let workspace = workspace
        .get("workspace")
        .and_then(Value::as_table)
        .context("there is no [workspace]")?;
    // Lints and tests are for those who work on the SDK.
    manifest.remove("lints");
    manifest.remove("dev-dependencies");
    if let Some(package) = manifest.get_mut("package").and_then(Value::as_table_mut) {
        for (key, value) in package.iter_mut() {
            if is_inherited(value) {
                *value = inherited(workspace, "package", key)?;
            }
        }
    }
    resolve_dependencies(&mut manifest, workspace)?;
    if let Some(targets) = manifest.get_mut("target").and_then(Value::as_table_mut) {
        for target in targets
            .iter_mut()
            .filter_map(|(_, target)| target.as_table_mut())
        {
            target.remove("dev-dependencies");
            resolve_dependencies(target, workspace)?;
        }
    }
    Ok(format!(
        "# Written by `rulemill new`: the SDK that belongs to the host that made this crate.\n\n{}",
        toml::to_string(&manifest)?
    ))
}

fn resolve_dependencies(table: &mut Table, workspace: &Table) -> Result<()> {
    for kind in ["dependencies", "build-dependencies"] {
        let Some(dependencies) = table.get_mut(kind).and_then(Value::as_table_mut) else {
            continue;
        };
        for (name, value) in dependencies.iter_mut() {
            if is_inherited(value) {
                let base = inherited(workspace, "dependencies", name)?;
                *value = merge(base, value).with_context(|| format!("dependency {name}"))?;
            }
            if CRATES.iter().any(|(_, known)| known == name) {
                let mut dependency = Table::new();
                dependency.insert("path".to_owned(), format!("../{name}").into());
                *value = dependency.into();
            } else if value.get("path").is_some() {
                bail!("dependency {name} is a path that doesn't come along");
            }
        }
    }
    Ok(())
}

fn is_inherited(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

fn inherited(workspace: &Table, table: &str, key: &str) -> Result<Value> {
    workspace
        .get(table)
        .and_then(|table| table.get(key))
        .cloned()
        .with_context(|| format!("the workspace has no {table}.{key}"))
}

/// What a member adds to a dependency of the workspace: more features, or `optional`.
fn merge(base: Value, member: &Value) -> Result<Value> {
    let mut merged = match base {
        Value::String(version) => Table::from_iter([("version".to_owned(), Value::from(version))]),
        Value::Table(table) => table,
        other => bail!("{other} is no dependency"),
    };
    for (key, value) in member.as_table().into_iter().flatten() {
        match (key.as_str(), value) {
            ("workspace", _) => {}
            ("features", Value::Array(more)) => {
                let features = merged
                    .entry("features")
                    .or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(features) = features else {
                    bail!("features are no list");
                };
                for feature in more {
                    if !features.contains(feature) {
                        features.push(feature.clone());
                    }
                }
            }
            ("optional", value) => {
                merged.insert(key.clone(), value.clone());
            }
            (other, _) => bail!("can't tell what {other} means beside workspace = true"),
        }
    }
    Ok(merged.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(manifest: &str, expected: &str) {
        let workspace = r#"
            [workspace.package]
            version = "0.3.0"
            [workspace.dependencies]
            rulemill-wire = { path = "sdk/wire", version = "0.3.0" }
            stray = { path = "stray" }
            serde = { version = "1", features = ["derive"] }
            plain = "2"
        "#
        .parse()
        .unwrap();
        match standalone(manifest, &workspace) {
            Ok(text) => {
                let found: Table = text.parse().unwrap();
                let expected: Table = expected.parse().unwrap();
                assert_eq!(found, expected, "{manifest}");
            }
            Err(error) => assert_eq!(format!("{error:#}"), expected, "{manifest}"),
        }
    }

    #[test]
    fn what_a_manifest_inherits_is_written_out() {
        check(
            r#"
            package = { name = "x", version.workspace = true }
            lints.workspace = true
            [dependencies]
            rulemill-wire.workspace = true
            serde = { workspace = true, features = ["rc", "derive"] }
            plain = { workspace = true, optional = true }
            own = "3"
            [dev-dependencies]
            stray.workspace = true
            [target.'cfg(unix)'.dependencies]
            serde.workspace = true
            "#,
            r#"
            package = { name = "x", version = "0.3.0" }
            [dependencies]
            rulemill-wire = { path = "../rulemill-wire" }
            serde = { version = "1", features = ["derive", "rc"] }
            plain = { version = "2", optional = true }
            own = "3"
            [target.'cfg(unix)'.dependencies]
            serde = { version = "1", features = ["derive"] }
            "#,
        );
    }

    #[test]
    fn what_cant_stand_alone_is_refused() {
        check(
            "dependencies.stray.workspace = true",
            "dependency stray is a path that doesn't come along",
        );
        check(
            "dependencies.missing.workspace = true",
            "the workspace has no dependencies.missing",
        );
        check(
            "dependencies.plain = { workspace = true, default-features = false }",
            "dependency plain: can't tell what default-features means beside workspace = true",
        );
    }

    #[test]
    fn the_sdk_comes_whole_and_stands_alone() {
        let files = files().unwrap();
        for path in [
            "rulemill-sdk/Cargo.toml",
            "rulemill-sdk/src/lib.rs",
            "rulemill-sdk/wit/v1/plugin.wit",
            "rulemill-sdk-macros/src/lib.rs",
            "rulemill-wire/src/codec.rs",
        ] {
            assert!(files.iter().any(|(name, _)| name == path), "{path}");
        }
        for (path, text) in &files {
            assert!(!path.contains("/tests/"), "{path}");
            if path.ends_with("Cargo.toml") {
                assert!(!text.contains("workspace"), "{path}:\n{text}");
            }
        }
    }
}
