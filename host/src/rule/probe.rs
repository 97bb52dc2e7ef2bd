//! What a plugin file is, by its header, imports and exports, before anything in it is compiled.
//!
//! Owns the first look at a file and the wrapping of a core module into a component. It runs
//! nothing of the file; what it can't read is refused.

use std::{borrow::Cow, fmt};

use wasmparser::{Encoding, Parser, Payload};
use wit_component::ComponentEncoder;

use super::{interface::Version, plugin::LoadError};

/// The sections in which wit-bindgen leaves a module's interface are named so.
const METADATA_PREFIX: &str = "component-type";

/// An import by its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Import {
    /// A component's import, or the module part of a core module's.
    pub(super) interface: String,
    /// The name inside, which only a core module's import shows here.
    pub(super) name: Option<String>,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.interface)?;
        if let Some(name) = &self.name {
            write!(f, "#{name}")?;
        }
        match self.origin() {
            Some(origin) => write!(f, " (from {origin})"),
            None => Ok(()),
        }
    }
}

impl Import {
    /// What the author probably used to get this import.
    fn origin(&self) -> Option<&'static str> {
        let interface = self.interface.as_str();
        if interface == "wasi_snapshot_preview1" || interface == "wasi_unstable" {
            return Some(preview1_origin(self.name.as_deref().unwrap_or_default()));
        }
        if interface == "env" {
            return Some("an extern function that nothing defines");
        }
        if interface.starts_with("__wbindgen") || interface == "wbg" {
            return Some(
                "a crate that expects JavaScript: turn its `js` or `wasm-bindgen` feature off",
            );
        }
        let wasi = interface.strip_prefix("wasi:")?;
        Some(match wasi.split('/').next().unwrap_or_default() {
            "clocks" => "std::time or a crate that reads the clock: take `Now` in the rule instead",
            "random" => "rand, getrandom or a hash map with random seeds",
            "filesystem" => "std::fs",
            "sockets" | "http" => "std::net or an HTTP client",
            _ => "std built for a WASI target: build for wasm32-unknown-unknown",
        })
    }
}

fn preview1_origin(function: &str) -> &'static str {
    match function {
        name if name.starts_with("clock_") => {
            "std::time or a crate that reads the clock: take `Now` in the rule instead"
        }
        "random_get" => "rand, getrandom or a hash map with random seeds",
        name if name.starts_with("path_") => "std::fs",
        name if name.starts_with("sock_") => "std::net",
        name if name.starts_with("environ_") || name.starts_with("args_") => "std::env",
        name if name.starts_with("fd_") => "std::fs, println! or eprintln!",
        _ => "std built for a WASI target: build for wasm32-unknown-unknown",
    }
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Probe {
    /// Whether it is a component already.
    pub(super) is_component: bool,
    /// Its imports, in order, each interface once.
    pub(super) imports: Vec<Import>,
    /// The names of its exports.
    pub(super) exports: Vec<String>,
    /// For a core module: the versions of the plugin interface that its metadata names.
    pub(super) package_versions: Vec<Version>,
    has_metadata: bool,
}

/// Looks at a file.
///
/// # Errors
/// If it is no WebAssembly or ends early.
pub(super) fn probe(code: &[u8]) -> Result<Probe, LoadError> {
    if code.is_empty() {
        return Err(LoadError::Invalid("the file is empty".into()));
    }
    if !code.starts_with(b"\0asm") {
        return Err(LoadError::Invalid(
            "it doesn't begin with the bytes `\\0asm`".into(),
        ));
    }
    let mut probe = read(code).map_err(|error| LoadError::Invalid(error.to_string()))?;
    if probe.has_metadata {
        probe.package_versions = package_versions(code)?;
    }
    Ok(probe)
}

fn read(code: &[u8]) -> wasmparser::Result<Probe> {
    let mut probe = Probe {
        is_component: false,
        imports: Vec::new(),
        exports: Vec::new(),
        package_versions: Vec::new(),
        has_metadata: false,
    };
    // Only the outermost module or component speaks for the plugin.
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(code) {
        match payload? {
            Payload::Version { encoding, .. } => {
                depth += 1;
                if depth == 1 {
                    probe.is_component = encoding == Encoding::Component;
                }
            }
            Payload::End(_) => depth -= 1,
            _ if depth > 1 => {}
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    probe.add_import(import.module, Some(import.name));
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    probe.add_import(&import?.name.full_name(), None);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    probe.exports.push(export?.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    probe.exports.push(export?.name.full_name().into_owned());
                }
            }
            Payload::CustomSection(section) if section.name().starts_with(METADATA_PREFIX) => {
                probe.has_metadata |= !probe.is_component;
            }
            _ => {}
        }
    }
    Ok(probe)
}

impl Probe {
    fn add_import(&mut self, interface: &str, name: Option<&str>) {
        let import = Import {
            interface: interface.to_owned(),
            name: name.map(str::to_owned),
        };
        if !self.imports.contains(&import) {
            self.imports.push(import);
        }
    }

    /// Refuses what lacks the exports of a plugin.
    pub(super) fn check_exports(&self) -> Result<(), LoadError> {
        if !self.is_component && !self.has_metadata {
            return Err(LoadError::NotAPlugin(
                "it is a plain module without component metadata: write it with rulemill-sdk and \
                 `rulemill_sdk::plugin!`, built as a cdylib for wasm32-unknown-unknown"
                    .into(),
            ));
        }
        let missing: Vec<&str> = ["describe", "apply"]
            .into_iter()
            .filter(|name| !self.exports.iter().any(|export| export == name))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(LoadError::NotAPlugin(format!(
            "it doesn't export {}: does it call `rulemill_sdk::plugin!`?",
            missing.join(" and ")
        )))
    }

    /// The file as a component.
    pub(super) fn component<'a>(&self, code: &'a [u8]) -> Result<Cow<'a, [u8]>, LoadError> {
        if self.is_component {
            return Ok(Cow::Borrowed(code));
        }
        // wasmtime validates what it compiles, so the encoder need not.
        let encoded = ComponentEncoder::default()
            .validate(false)
            .module(code)
            .and_then(|encoder| encoder.encode());
        match encoded {
            Ok(component) => Ok(Cow::Owned(component)),
            Err(error) => Err(LoadError::Invalid(format!(
                "it can't be made a component: {error:#}"
            ))),
        }
    }
}

fn package_versions(code: &[u8]) -> Result<Vec<Version>, LoadError> {
    let (_, bindgen) = wit_component::metadata::decode(code).map_err(|error| {
        LoadError::Invalid(format!("its component metadata can't be read: {error:#}"))
    })?;
    let packages = bindgen.resolve.packages.iter();
    Ok(packages
        .filter(|(_, package)| {
            package.name.namespace == "rulemill" && package.name.name == "plugin"
        })
        .filter_map(|(_, package)| package.name.version.as_ref())
        .map(|version| Version {
            major: version.major,
            minor: version.minor,
        })
        .collect())
}
