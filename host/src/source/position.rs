//! How far a file has been read, and how to know that it is still that file.
//!
//! A file is known by its bytes, not by its number on the disk: those at its beginning and those before the
//! place that was reached. So a copy that was put in its place and only grew is the same file, and one whose content
//! changed is not.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes looked at on either side.
const SAMPLE_BYTES: u64 = 256;

/// A place in a file: behind a whole line, or inside one that is too long.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct FilePosition {
    /// Bytes before it.
    pub(super) offset: u64,
    /// Lines before it.
    pub(super) lines: u64,
    /// A CSV file's column names.
    pub(super) header: Option<Vec<String>>,
    /// SHA-256 of the bytes that the file is known by.
    pub(super) fingerprint: [u8; 32],
    /// What else there is to know, stored behind the rest.
    #[serde(skip)]
    pub(super) special: Special,
}

/// What few positions have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Special {
    /// The place is inside a line that is longer than the limit: its rest is passed over.
    pub(super) in_long_line: bool,
    /// Why nothing behind the place can be read, as it was said in the dead letters.
    pub(super) stuck: Option<String>,
}

/// What a file turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    /// The file that the position is of.
    Same,
    /// It is shorter than what was read of it.
    Truncated,
    /// Its content is another.
    Replaced,
}

impl FilePosition {
    /// The fingerprint of a file of which nothing has been read: any file has it.
    pub(super) fn start() -> [u8; 32] {
        Sha256::digest([]).into()
    }

    pub(super) fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = postcard::to_allocvec(self)?;
        if self.special != Special::default() {
            bytes.extend(postcard::to_allocvec(&self.special)?);
        }
        Ok(bytes)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> anyhow::Result<Self> {
        let (mut position, rest) = postcard::take_from_bytes::<Self>(bytes)?;
        if !rest.is_empty() {
            position.special = postcard::from_bytes(rest)?;
        }
        Ok(position)
    }

    /// Takes the fingerprint of what has been read.
    pub(super) fn seal(&mut self, file: &mut File) -> io::Result<()> {
        self.fingerprint = fingerprint(file, self.offset)?;
        Ok(())
    }

    /// Whether a file is the one that this position is of.
    pub(super) fn identify(&self, file: &mut File) -> io::Result<Identity> {
        if file.metadata()?.len() < self.offset {
            return Ok(Identity::Truncated);
        }
        if fingerprint(file, self.offset)? == self.fingerprint {
            return Ok(Identity::Same);
        }
        Ok(Identity::Replaced)
    }
}

fn fingerprint(file: &mut File, offset: u64) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut sample = Vec::new();
    let head = offset.min(SAMPLE_BYTES);
    let tail = offset.saturating_sub(SAMPLE_BYTES);
    for (from, len) in [(0, head), (tail, offset - tail)] {
        file.seek(SeekFrom::Start(from))?;
        sample.clear();
        file.by_ref().take(len).read_to_end(&mut sample)?;
        hash.update(&sample);
    }
    Ok(hash.finalize().into())
}
