//! Plugin files: which there are, whether they changed, their names and their bytes.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::{self, Metadata},
    io::{self, Read as _},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use crate::{
    limits::Limits,
    rule::{self, LoadError},
};

/// How a file looks from the outside: when this is another, so may be its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    len: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Fingerprint {
    /// A file's or directory's.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::from_metadata(&metadata))
    }

    fn from_metadata(metadata: &Metadata) -> Self {
        Self {
            len: metadata.len(),
            modified: metadata.modified().ok(),
            inode: inode(metadata),
        }
    }

    /// What tells one directory from another that has taken its place.
    pub(super) fn inode(&self) -> u64 {
        self.inode
    }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

/// The plugin files of a directory, each with its fingerprint where the system tells it. Hidden files
/// are none: editors and copying programs keep what is not finished under such names.
pub(super) fn list(dir: &Path) -> io::Result<BTreeMap<OsString, Option<Fingerprint>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if hidden || path.extension() != Some(OsStr::new("wasm")) {
            continue;
        }
        let fingerprint = match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => Some(Fingerprint::from_metadata(&metadata)),
            Ok(_) => continue,
            // It went since the directory was read, or is a link to nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // Reading it will say what is wrong.
            Err(_) => None,
        };
        files.insert(entry.file_name(), fingerprint);
    }
    Ok(files)
}

/// The name of a file's plugin.
pub(super) fn plugin_name(file_name: &OsStr) -> String {
    let stem = Path::new(file_name).file_stem().unwrap_or(file_name);
    stem.to_string_lossy().into_owned()
}

/// Refuses names that could not be written as `plugin.rule`, in a URL or in `[plugin.NAME]`.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let sane = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.chars().all(sane) {
        return Ok(());
    }
    Err(format!(
        "has the name {name:?}: rename the file so that it has only letters a to z, digits, _ and - \
         before .wasm"
    ))
}

/// A file's bytes, or why it can't be a plugin.
pub(super) fn read(path: &Path, limits: &Limits) -> Result<Arc<[u8]>, String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // One more than the limit shows that there is more.
        let max = (limits.plugin_bytes_max as u64).saturating_add(1);
        fs::File::open(path)?.take(max).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| LoadError::File(error.to_string()).to_string())?;
    rule::check_size(bytes.len() as u64, limits).map_err(|error| error.to_string())?;
    Ok(bytes.into())
}
