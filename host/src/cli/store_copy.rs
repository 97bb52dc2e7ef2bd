//! The store as it is now, to try something on: what is written goes to memory, and the file stays as it is.
//!
//! Holds the lock that a daemon would hold, so that nothing changes below it.

use std::{
    collections::BTreeMap,
    fs::{File, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;

use crate::{
    limits::Limits,
    store::{Backend, Store},
};

/// What is written is kept in pieces of this size.
const PAGE_BYTES: usize = 4096;

/// What there is to try on.
pub(super) enum StoreCopy {
    /// What the data directory holds.
    Of(Box<Store>),
    /// Nothing is there yet.
    Nothing,
    /// Another process has it.
    InUse,
}

/// A copy of the store in a data directory.
///
/// # Errors
/// If a daemon could not open it either.
pub(super) fn of(data_dir: &Path, limits: &Limits) -> anyhow::Result<StoreCopy> {
    if !Store::exists(data_dir) {
        return Ok(StoreCopy::Nothing);
    }
    let path = Store::file(data_dir);
    let context = || format!("can't read {}", path.display());
    let file = File::open(&path).with_context(context)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(StoreCopy::InUse),
        Err(TryLockError::Error(error)) => return Err(error).with_context(context),
    }
    Store::check_whole(&path)?;
    let size = file.metadata().with_context(context)?.len();
    let bytes = Bytes {
        file,
        file_size: size,
        size,
        written: BTreeMap::new(),
    };
    let store = Store::with_backend(Overlay(Mutex::new(bytes)), limits)
        .with_context(|| format!("can't open the store in data_dir {}", data_dir.display()))?;
    Ok(StoreCopy::Of(Box::new(store)))
}

/// A file with what was written over it.
#[derive(Debug)]
struct Overlay(Mutex<Bytes>);

#[derive(Debug)]
struct Bytes {
    file: File,
    /// How much of the file still counts: less than it has once this was cut.
    file_size: u64,
    size: u64,
    written: BTreeMap<u64, Box<[u8]>>,
}

impl Bytes {
    /// A page's bytes: as written, else as in the file, with zeros behind its end.
    fn page(&mut self, number: u64) -> io::Result<Box<[u8]>> {
        if let Some(page) = self.written.get(&number) {
            return Ok(page.clone());
        }
        let mut page = vec![0; PAGE_BYTES].into_boxed_slice();
        let start = number * PAGE_BYTES as u64;
        let there = self.file_size.saturating_sub(start);
        let there = usize::try_from(there).unwrap_or(PAGE_BYTES).min(PAGE_BYTES);
        if there > 0 {
            self.file.seek(SeekFrom::Start(start))?;
            self.file.read_exact(&mut page[..there])?;
        }
        Ok(page)
    }
}

impl Overlay {
    fn bytes(&self) -> MutexGuard<'_, Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The page at an offset, and where in it that lies.
fn place(offset: u64) -> (u64, usize) {
    let page_bytes = PAGE_BYTES as u64;
    (offset / page_bytes, (offset % page_bytes) as usize)
}

impl Backend for Overlay {
    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes().size)
    }

    fn read(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        let mut bytes = self.bytes();
        if offset.saturating_add(out.len() as u64) > bytes.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while !out.is_empty() {
            let (number, at) = place(offset);
            let page = bytes.page(number)?;
            let count = out.len().min(PAGE_BYTES - at);
            let (now, rest) = out.split_at_mut(count);
            now.copy_from_slice(&page[at..at + count]);
            offset += count as u64;
            out = rest;
        }
        Ok(())
    }

    fn resize(&self, len: u64) -> io::Result<()> {
        let mut bytes = self.bytes();
        if len < bytes.size {
            let (last, at) = place(len);
            bytes.written.retain(|&number, _| number <= last);
            if let Some(page) = bytes.written.get_mut(&last) {
                page[at..].fill(0);
            }
            bytes.file_size = bytes.file_size.min(len);
        }
        bytes.size = len;
        Ok(())
    }

    fn write(&self, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        let mut bytes = self.bytes();
        bytes.size = bytes.size.max(offset.saturating_add(data.len() as u64));
        while !data.is_empty() {
            let (number, at) = place(offset);
            let mut page = bytes.page(number)?;
            let count = data.len().min(PAGE_BYTES - at);
            let (now, rest) = data.split_at(count);
            page[at..at + count].copy_from_slice(now);
            bytes.written.insert(number, page);
            offset += count as u64;
            data = rest;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let before = vec![7; PAGE_BYTES + 10];
        std::fs::write(&path, &before).unwrap();
        let size = before.len() as u64;
        let overlay = Overlay(Mutex::new(Bytes {
            file: File::open(&path).unwrap(),
            file_size: size,
            size,
            written: BTreeMap::new(),
        }));
        let read = |offset, len| {
            let mut out = vec![1; len];
            overlay.read(offset, &mut out).map(|()| out)
        };
        let end = PAGE_BYTES as u64;
        overlay.write(end - 2, &[1, 2, 3]).unwrap();
        assert_eq!(read(end - 3, 5).unwrap(), [7, 1, 2, 3, 7]);
        assert!(read(size - 1, 2).is_err(), "past the end");
        // What was cut off doesn't come back.
        overlay.resize(end - 1).unwrap();
        overlay.resize(size).unwrap();
        assert_eq!(read(end - 3, 5).unwrap(), [7, 1, 0, 0, 0]);
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
