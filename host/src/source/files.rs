//! Changes from the files of a directory, or from one file, followed as they grow.
//!
//! Files are read in the order of their names. A position lies behind a whole line and is stored with the
//! changes before it, so after a crash nothing is read twice and nothing is left out. A line that is
//! only half there waits for its end (in batch mode the file is taken to be complete, and its end ends the line).
//! A file whose content has changed behind the reader's back, cut or replaced, is told and read from its start.
//! A CSV file whose header makes no sense, or that is of no known table, is stuck: that is said once, none of its
//! lines is guessed at, and it is looked at again until it, or the table, is mended.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use crossbeam_channel::{Receiver, bounded, select};
use notify::Watcher;

use crate::{
    change::Position,
    decode::{Format, Header},
    file_events::is_reading,
};

use super::{
    Setting,
    position::{FilePosition, Identity, Special},
    reader::{Halt, Next, Outstanding, RecordReader, submit},
    window::Window,
};

/// What the names of files that are read end in.
const ENDINGS: [&str; 3] = [".jsonl", ".ndjson", ".csv"];
/// How often the directory is looked through although nothing was noticed there: some file systems tell
/// nothing.
const RESCAN: Duration = Duration::from_secs(5);

/// A directory of files as a source.
pub struct Files {
    setting: Setting,
    path: PathBuf,
    format: Option<Format>,
    positions: BTreeMap<String, Vec<u8>>,
    open: BTreeMap<String, OpenFile>,
    /// Used for the file that is being read; what is left of it then, half a line, is read again next time.
    window: Window,
    outstanding: Outstanding,
}

struct OpenFile {
    records: RecordReader,
    position: FilePosition,
}

impl Files {
    /// The source, going on from these positions.
    pub fn new(
        setting: Setting,
        path: PathBuf,
        format: Option<Format>,
        positions: Vec<Position>,
    ) -> Self {
        Self {
            setting,
            path,
            format,
            positions: positions
                .into_iter()
                .map(|position| (position.part, position.bytes))
                .collect(),
            open: BTreeMap::new(),
            window: Window::default(),
            outstanding: Outstanding::default(),
        }
    }

    /// Reads what is there, then, unless in batch mode, follows until the end is wanted.
    ///
    /// # Errors
    /// If a file or the directory can't be read.
    pub fn run(mut self) -> anyhow::Result<()> {
        let watch = if self.setting.once {
            None
        } else {
            Some(self.watch()?)
        };
        loop {
            match self.pass() {
                Ok(()) => {}
                Err(Stopped::Halt(Halt::Refused)) => return Ok(()),
                Err(Stopped::Halt(Halt::BadInput(reason))) => {
                    tracing::error!(source = &*self.setting.name, reason, "halted");
                    self.setting.intake.show(&self.setting.name, &|status| {
                        "halted".clone_into(&mut status.state);
                        status.bad += 1;
                        status.last_error = Some(reason.clone());
                    });
                    return self.outstanding.wait();
                }
                Err(Stopped::Failed(error)) => {
                    let text = format!("{error:#}");
                    self.setting.intake.show(&self.setting.name, &|status| {
                        "failed".clone_into(&mut status.state);
                        status.last_error = Some(text.clone());
                    });
                    return Err(error);
                }
            }
            let Some((_, events)) = &watch else {
                self.outstanding.wait()?;
                self.show_state("ended");
                return Ok(());
            };
            if self.setting.stop.is_wanted() {
                return Ok(());
            }
            self.show_state("following");
            select! {
                recv(events) -> _ => while events.try_recv().is_ok() {},
                recv(self.setting.stop.signal) -> _ => return Ok(()),
                default(RESCAN) => {}
            }
        }
    }

    fn show_state(&self, state: &str) {
        let stuck: Vec<&str> = self
            .open
            .iter()
            .filter(|(_, file)| file.records.stuck.is_some())
            .map(|(name, _)| &**name)
            .collect();
        let state = match stuck[..] {
            [] => state.to_owned(),
            _ => format!("{state}; stuck: {}", stuck.join(", ")),
        };
        self.setting.intake.show(&self.setting.name, &|status| {
            status.state.clone_from(&state)
        });
    }

    /// Whether the path names a file: one that is there, or one that has a file's name and isn't there yet.
    fn is_one_file(&self) -> bool {
        self.path.is_file() || (is_readable(&self.path) && !self.path.is_dir())
    }

    /// A channel on which something comes when something changes in the directory.
    fn watch(&self) -> anyhow::Result<(notify::RecommendedWatcher, Receiver<()>)> {
        let (wake, events) = bounded(1);
        let mut watcher = notify::recommended_watcher(move |event| {
            if is_news(&event) {
                // Full: a look is due already.
                let _ = wake.try_send(());
            }
        })?;
        let dir = match self.path.parent() {
            Some(parent) if self.is_one_file() && parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) if self.is_one_file() => parent,
            _ => &self.path,
        };
        std::fs::create_dir_all(dir).with_context(|| format!("can't make {}", dir.display()))?;
        watcher
            .watch(dir, notify::RecursiveMode::NonRecursive)
            .with_context(|| format!("can't watch {}", dir.display()))?;
        Ok((watcher, events))
    }

    /// Reads every file to its present end.
    fn pass(&mut self) -> Result<(), Stopped> {
        for (name, path) in self.list()? {
            self.read(&name, &path)?;
            if self.setting.stop.is_wanted() {
                break;
            }
        }
        Ok(())
    }

    fn list(&self) -> anyhow::Result<BTreeSet<(String, PathBuf)>> {
        if self.path.is_file() {
            let file = self.path.file_name().unwrap_or_default().to_string_lossy();
            return Ok([(file.into_owned(), self.path.clone())].into());
        }
        let mut files = BTreeSet::new();
        if self.is_one_file() && !self.setting.once {
            // It is waited for.
            return Ok(files);
        }
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let text = format!("{} is not there", self.path.display());
                if self.setting.once {
                    return Err(anyhow::anyhow!(text));
                }
                self.warn(text);
                return Ok(files);
            }
            Err(error) => {
                return Err(error).with_context(|| format!("can't list {}", self.path.display()));
            }
        };
        for entry in entries {
            let path = entry
                .with_context(|| format!("can't list {}", self.path.display()))?
                .path();
            if is_readable(&path)
                && let Some(name) = path.file_name().and_then(|name| name.to_str())
                && path.is_file()
            {
                files.insert((name.to_owned(), path));
            }
        }
        Ok(files)
    }

    fn warn(&self, text: String) {
        tracing::warn!(source = &*self.setting.name, "{text}");
        self.setting.intake.show(&self.setting.name, &|status| {
            status.last_error = Some(text.clone())
        });
    }

    fn read(&mut self, name: &str, path: &Path) -> Result<(), Stopped> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            // Gone since it was listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(Stopped::Failed(
                    anyhow::Error::new(error).context(format!("can't open {}", path.display())),
                ));
            }
        };
        let mut open = match self.open.remove(name) {
            Some(open) => open,
            None => self.first_look(name)?,
        };
        let identity = open.position.identify(&mut file)?;
        if identity != Identity::Same {
            self.warn(format!(
                "{name} was {} behind byte {}: reading it from its start",
                match identity {
                    Identity::Truncated => "cut",
                    _ => "replaced",
                },
                open.position.offset
            ));
            self.positions.remove(name);
            open = self.first_look(name)?;
        }
        let result = self.read_on(name, &mut file, &mut open);
        self.open.insert(name.to_owned(), open);
        result
    }

    /// A file as its stored position has it, or from its start.
    fn first_look(&self, name: &str) -> anyhow::Result<OpenFile> {
        let position = match self.positions.get(name) {
            Some(bytes) => FilePosition::from_bytes(bytes)
                .with_context(|| format!("the stored position of {name} can't be read"))?,
            None => FilePosition {
                fingerprint: FilePosition::start(),
                ..FilePosition::default()
            },
        };
        let is_csv = name.ends_with(".csv");
        let format = if is_csv {
            Some(Format::Csv)
        } else {
            self.format
        };
        // `orders.csv` and `orders.2026-01.csv` are table orders.
        let table = name.split('.').next().map(str::to_owned);
        let mut records = RecordReader::new(&self.setting, name.to_owned(), format, table);
        records.offset = position.offset;
        records.lines = position.lines;
        records.header = position.header.clone().map(Header::from_names);
        records.in_long_line = position.special.in_long_line;
        records.stuck.clone_from(&position.special.stuck);
        Ok(OpenFile { records, position })
    }

    fn read_on(&mut self, name: &str, file: &mut File, open: &mut OpenFile) -> Result<(), Stopped> {
        // Whoever ended the last look early may have left something.
        self.window.clear();
        open.records.begin_again();
        file.seek(SeekFrom::Start(open.records.offset))?;
        let mut at_end = false;
        loop {
            let mut used = 0;
            let bytes = self.window.unused();
            let last = at_end && self.setting.once;
            let taken = open.records.take(&self.setting, bytes, last, &mut used);
            self.window.take(used);
            if (at_end || taken != Ok(Next::More)) && open.records.has_input() {
                self.hand_over(name, file, open)?;
                let unused = self.window.unused().len() as u64;
                file.seek(SeekFrom::Start(open.records.offset + unused))?;
            }
            match taken.map_err(Stopped::Halt)? {
                Next::HandOver => {}
                Next::Stuck => return Ok(()),
                Next::More if at_end => return Ok(()),
                Next::More => at_end = self.window.fill(file)? == 0,
            }
            if self.setting.stop.is_wanted() {
                return Ok(());
            }
        }
    }

    fn hand_over(&self, name: &str, file: &mut File, open: &mut OpenFile) -> Result<(), Stopped> {
        open.position.offset = open.records.offset;
        open.position.lines = open.records.lines;
        open.position.header = open
            .records
            .header
            .as_ref()
            .map(|header| header.names().to_vec());
        open.position.special = Special {
            in_long_line: open.records.in_long_line,
            stuck: open.records.stuck.clone(),
        };
        open.position.seal(file)?;
        let position = Position {
            part: name.to_owned(),
            bytes: open.position.to_bytes()?,
        };
        let done = Some(self.outstanding.one());
        let batch = open.records.batch(&self.setting, vec![position], done);
        submit(&self.setting, batch).map_err(Stopped::Halt)
    }
}

/// Whether something may have changed. An error may hide anything.
fn is_news(event: &notify::Result<notify::Event>) -> bool {
    event.as_ref().map_or(true, |event| !is_reading(event.kind))
}

/// Whether a file of this name is read.
fn is_readable(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| ENDINGS.iter().any(|ending| name.ends_with(ending)))
}

/// Why a pass ended early.
enum Stopped {
    Halt(Halt),
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Stopped {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<std::io::Error> for Stopped {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}
