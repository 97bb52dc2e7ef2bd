//! Which majors of the plugin interface this host speaks, and how a plugin's own is found.
//!
//! Owns the one place where majors are chosen ([`link`]) and what an adapter must offer. A new major
//! is one more file beside `v1.rs`, one more entry in [`SPOKEN`], and one more arm in [`link`].

use std::fmt;

use rulemill_wire::manifest::Manifest;
use wasmtime::{Store, component::Component};

use super::{plugin::LoadError, probe::Probe, sandbox::Sandbox, v1};

/// The package whose versions count.
const PACKAGE: &str = "rulemill:plugin";

/// The newest version of each major that this host speaks.
const SPOKEN: [Version; 1] = [v1::VERSION];

/// A version of the plugin interface; patch versions change nothing but comments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    /// The major.
    pub(super) major: u64,
    /// The minor: adds imports only.
    pub(super) minor: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What a plugin says when asked to describe itself.
pub(super) enum Described {
    /// Its manifest, in the host's form.
    Manifest(Manifest),
    /// What is wrong with its configuration.
    Refused(String),
    /// Bytes that are no manifest, and why.
    Unreadable(String),
}

/// A compiled plugin behind the adapter of its major.
pub(super) trait Adapter: Send + Sync {
    /// Makes an instance in a new store.
    fn instantiate(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<Box<dyn Guest>>;
}

/// An instance behind the adapter of its major. Batches and effects are in the host's wire form.
pub(super) trait Guest: Send {
    /// Asks for the manifest.
    fn describe(&self, store: &mut Store<Sandbox>, config: &str) -> wasmtime::Result<Described>;

    /// Hands over a batch; the inner error is the guest's own.
    fn apply(
        &self,
        store: &mut Store<Sandbox>,
        batch: &[u8],
    ) -> wasmtime::Result<Result<Vec<u8>, String>>;
}

/// Links a plugin to the interface it was built for.
pub(super) fn link(component: &Component, version: Version) -> wasmtime::Result<Box<dyn Adapter>> {
    Ok(match version.major {
        1 => Box::new(v1::V1::link(component)?),
        major => wasmtime::bail!("there is no adapter for plugin interface {major}"),
    })
}

/// The interface that a plugin was built for, from the names of its imports and exports.
///
/// # Errors
/// If it imports anything else, or was built for what this host doesn't speak.
pub(super) fn version_of(probe: &Probe) -> Result<Version, LoadError> {
    // Versions first: a plugin for a later interface also imports what this one doesn't know.
    let names = probe.imports.iter().map(|import| import.interface.as_str());
    let names = names.chain(probe.exports.iter().map(String::as_str));
    let mut found: Option<Version> = None;
    for version in names
        .filter_map(|name| Some(parse(name)?.1))
        .chain(probe.package_versions.iter().copied())
    {
        check_spoken(version)?;
        if let Some(other) = found
            && other.major != version.major
        {
            return Err(LoadError::Version(format!(
                "mixes plugin interfaces {other} and {version}: build it against one rulemill-sdk"
            )));
        }
        found = found.max(Some(version));
    }
    for import in &probe.imports {
        if !parse(&import.interface).is_some_and(|(interface, _)| is_known(interface)) {
            return Err(LoadError::ForbiddenImport(import.to_string()));
        }
    }
    // v1's exports bear no version, so that a plugin without imports is one of v1.
    Ok(found.unwrap_or(v1::VERSION))
}

fn check_spoken(version: Version) -> Result<(), LoadError> {
    let speaks = SPOKEN.map(|spoken| spoken.to_string()).join(", ");
    match SPOKEN.iter().find(|spoken| spoken.major == version.major) {
        Some(spoken) if version.minor <= spoken.minor => Ok(()),
        Some(_) => Err(LoadError::Version(format!(
            "was built for plugin interface {version}, and this host speaks {speaks}: update the host"
        ))),
        None => Err(LoadError::Version(format!(
            "was built for plugin interface {version}, and this host speaks {speaks}: build it with \
             the rulemill-sdk that came with this host"
        ))),
    }
}

fn is_known(interface: &str) -> bool {
    matches!(interface, "state" | "diagnostics")
}

/// The interface and version in a name like `rulemill:plugin/state@1.0.0`; the version may leave
/// out what follows the major.
fn parse(name: &str) -> Option<(&str, Version)> {
    let rest = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
    let (interface, version) = rest.split_once('@')?;
    let mut numbers = version.split(['.', '-', '+']);
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next().map_or(Ok(0), str::parse).ok()?;
    Some((interface, Version { major, minor }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed() {
        let version = |major, minor| Version { major, minor };
        assert_eq!(
            parse("rulemill:plugin/state@1.0.0"),
            Some(("state", version(1, 0)))
        );
        assert_eq!(
            parse("rulemill:plugin/rules@2.3.1"),
            Some(("rules", version(2, 3)))
        );
        assert_eq!(
            parse("rulemill:plugin/state@1"),
            Some(("state", version(1, 0)))
        );
        assert_eq!(parse("rulemill:plugin/state"), None);
        assert_eq!(parse("rulemill:plugins/state@1.0.0"), None);
        assert_eq!(parse("wasi:clocks/wall-clock@0.2.0"), None);
    }
}
