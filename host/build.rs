//! Puts the SDK's sources into the host, for the crates that `rulemill new` makes.
//!
//! Writes `sdk_files.rs`: a list of path and text of every file that another crate needs to build
//! against the SDK. Tests and benchmarks of the SDK stay out.

use std::{
    env,
    error::Error,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// What is taken of the SDK's folder.
const TAKEN: [&str; 7] = [
    "Cargo.toml",
    "src",
    "wit",
    "macros/Cargo.toml",
    "macros/src",
    "wire/Cargo.toml",
    "wire/src",
];

fn main() -> Result<(), Box<dyn Error>> {
    let host = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let sdk = host.join("../sdk").canonicalize()?;
    let mut files = Vec::new();
    for taken in TAKEN {
        let path = sdk.join(taken);
        // For a directory cargo watches everything in it.
        println!("cargo::rerun-if-changed={}", path.display());
        collect(&path, &mut files)?;
    }
    files.sort();

    let mut list = "[\n".to_owned();
    for file in &files {
        let name = file
            .strip_prefix(&sdk)?
            .to_str()
            .ok_or("a file's name is no UTF-8")?;
        writeln!(
            list,
            "    ({:?}, include_str!({:?})),",
            name.replace('\\', "/"),
            file
        )?;
    }
    list.push_str("]\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("sdk_files.rs"), list)?;
    Ok(())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let is_source = path
            .extension()
            .is_some_and(|extension| extension == "rs" || extension == "wit");
        if path.is_dir() || is_source {
            collect(&path, files)?;
        }
    }
    Ok(())
}
