//! `daemon.json` in the data directory: how other processes find the running daemon.
//!
//! Written once the daemon listens, removed when it ends. One that was killed leaves the file behind,
//! so a reader asks the address whether that process still answers; the store's lock, not this file,
//! keeps a second daemon out.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The file's name in the data directory.
const FILE: &str = "daemon.json";

/// What a daemon says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Its process id.
    pub pid: u32,
    /// The address that it listens on, as bound.
    pub http: Option<String>,
}

/// An announcement that stands until this is dropped.
#[derive(Debug)]
pub struct Announced {
    path: PathBuf,
}

impl Announcement {
    /// Writes the announcement, over one that was left behind.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn publish(&self, data_dir: &Path) -> anyhow::Result<Announced> {
        let path = data_dir.join(FILE);
        let partial = data_dir.join(format!("{FILE}.partial"));
        let json = serde_json::to_vec(self)?;
        // Renamed into place, so that a reader never finds half of it.
        fs::write(&partial, json)
            .and_then(|()| fs::rename(&partial, &path))
            .with_context(|| format!("can't write {}", path.display()))?;
        Ok(Announced { path })
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, "can't remove {}", self.path.display());
        }
    }
}

/// The announcement in a data directory, if there is one.
///
/// # Errors
/// If the file is there and can't be read.
pub fn read(data_dir: &Path) -> anyhow::Result<Option<Announcement>> {
    let path = data_dir.join(FILE);
    match fs::read(&path) {
        Ok(json) => serde_json::from_slice(&json)
            .map(Some)
            .with_context(|| format!("can't read {}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_stands_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        let announcement = Announcement {
            pid: 7,
            http: Some("127.0.0.1:7700".into()),
        };
        let announced = announcement.publish(dir.path()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(announcement));
        drop(announced);
        assert_eq!(read(dir.path()).unwrap(), None);
        fs::write(dir.path().join(FILE), "{").unwrap();
        let error = format!("{:#}", read(dir.path()).unwrap_err());
        assert!(error.contains("daemon.json"), "{error}");
    }
}
