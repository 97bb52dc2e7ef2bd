//! The plugin directory: every `*.wasm` in it is a plugin, named like its file.
//!
//! Owns which files there are and what was last told of each; compiles and checks what is new, aside
//! from the engine, and reports it as [`PluginEvent`]s. It never decides what runs. A file that can't
//! be used is reported as refused, with the reason; a directory that is missing is reported and looked
//! for, and what came from it goes on meanwhile.
//!
//! ```text
//! scan(): all files, once, at start       watch(): a thread that looks whenever something may have changed
//! ```
//!
//! The directory's content is the truth; what the file system's notifications say only tells when to
//! look. A file is read once it has been the same for `limits.plugin_debounce_ms`.

mod file;
mod watch;

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    engine::PluginEvent,
    limits::Limits,
    rule::{self, PluginHash, Runtime},
};
use file::Fingerprint;
pub use watch::Watching;

/// A plugin directory.
pub struct PluginDir {
    dir: PathBuf,
    runtime: Arc<Runtime>,
    limits: Limits,
    configs: HashMap<String, serde_json::Value>,
    files: BTreeMap<OsString, File>,
}

/// A file as last seen.
struct File {
    name: String,
    /// `None` where the system won't tell.
    fingerprint: Option<Fingerprint>,
    /// It isn't there. It is given up only when it is due: programs that replace a file often remove
    /// it first.
    gone: bool,
    /// When to read it, unless it changes before; `None` once it has been read.
    due: Option<Instant>,
    told: Option<Told>,
}

/// What was last told of a file.
#[derive(PartialEq, Eq)]
enum Told {
    /// Its content, loaded or refused.
    Content(PluginHash),
    /// It could not even be read.
    Refused(String),
}

impl PluginDir {
    /// The plugins in `dir`. Each gets its configuration from `configs` by its name, and null if it
    /// has none there.
    pub fn new(
        dir: PathBuf,
        runtime: Arc<Runtime>,
        limits: &Limits,
        configs: HashMap<String, serde_json::Value>,
    ) -> Self {
        Self {
            dir,
            runtime,
            limits: limits.clone(),
            configs,
            files: BTreeMap::new(),
        }
    }

    /// Reads every file now and reports what is new, in the order of the files' names: at the first
    /// call, everything.
    ///
    /// # Errors
    /// If the directory can't be read. That may change: [`watch`](Self::watch) waits for it.
    pub fn scan(&mut self) -> anyhow::Result<Vec<PluginEvent>> {
        self.find()?;
        for file in self.files.values_mut().filter(|file| file.due.is_some()) {
            file.due = Some(Instant::now());
        }
        let mut events = Vec::new();
        self.read_due(|event| events.push(event));
        Ok(events)
    }

    /// Compiles and checks bytes that were a plugin's file once, with the configuration that the plugin has
    /// now.
    ///
    /// # Errors
    /// Why they are refused.
    pub fn load_kept(
        &self,
        name: &str,
        code: Vec<u8>,
    ) -> Result<Arc<dyn rule::Plugin>, rule::LoadError> {
        let config = self.configs.get(name).unwrap_or(&serde_json::Value::Null);
        self.runtime.load(name, code.into(), config)
    }

    /// Goes on reporting what changes, from a thread of its own, until the answer is dropped.
    ///
    /// # Errors
    /// If the thread can't be started.
    pub fn watch(self, report: impl Fn(PluginEvent) + Send + 'static) -> anyhow::Result<Watching> {
        Watching::start(self, report)
    }

    /// Brings the list of files up to date: those that came, changed or went become due.
    fn find(&mut self) -> anyhow::Result<()> {
        let found = file::list(&self.dir)
            .with_context(|| format!("can't read plugin_dir {}", self.dir.display()))?;
        let due = Some(Instant::now() + self.debounce());
        for (file_name, file) in &mut self.files {
            if !file.gone && !found.contains_key(file_name) {
                file.gone = true;
                file.due = due;
            }
        }
        for (file_name, fingerprint) in found {
            match self.files.get_mut(&file_name) {
                Some(file) if !file.gone && file.fingerprint == fingerprint => {}
                Some(file) => {
                    file.fingerprint = fingerprint;
                    file.gone = false;
                    file.due = due;
                }
                None => {
                    let file = File {
                        name: file::plugin_name(&file_name),
                        fingerprint,
                        gone: false,
                        due,
                        told: None,
                    };
                    self.files.insert(file_name, file);
                }
            }
        }
        Ok(())
    }

    /// Makes a file due again, since something happened to it.
    fn touch(&mut self, path: &Path) {
        let due = Instant::now() + self.debounce();
        if let Some(file) = path.file_name().and_then(|name| self.files.get_mut(name)) {
            file.due = Some(due);
        }
    }

    fn touch_all(&mut self) {
        let due = Instant::now() + self.debounce();
        for file in self.files.values_mut() {
            file.due = Some(due);
        }
    }

    fn debounce(&self) -> Duration {
        Duration::from_millis(self.limits.plugin_debounce_ms)
    }

    /// When the next file is to be read.
    fn next_due(&self) -> Option<Instant> {
        self.files.values().filter_map(|file| file.due).min()
    }

    /// Sees to the files that are due: reports those whose content is new and those that went.
    fn read_due(&mut self, mut report: impl FnMut(PluginEvent)) {
        let now = Instant::now();
        let is_due = |file: &File| file.due.is_some_and(|due| due <= now);
        self.files.retain(|_, file| {
            let went = file.gone && is_due(file);
            if went && file.told.is_some() {
                let name = file.name.clone();
                report(PluginEvent::Removed { name });
            }
            !went
        });
        let debounce = self.debounce();
        for (file_name, file) in &mut self.files {
            if !is_due(file) {
                continue;
            }
            let path = self.dir.join(file_name);
            let content = file::read(&path, &self.limits);
            let after = Fingerprint::of(&path).ok();
            if after != file.fingerprint {
                // Written to while it was read: what was read may be half of it.
                file.fingerprint = after;
                file.due = Some(Instant::now() + debounce);
                continue;
            }
            file.due = None;
            let told = match &content {
                Ok(code) => Told::Content(rule::hash(code)),
                Err(reason) => Told::Refused(reason.clone()),
            };
            if file.told.as_ref() == Some(&told) {
                continue;
            }
            file.told = Some(told);
            let name = file.name.clone();
            let loaded = content.and_then(|code| {
                file::check_name(&name)?;
                let config = self.configs.get(&name).unwrap_or(&serde_json::Value::Null);
                let loaded = self.runtime.load(&name, code, config);
                loaded.map_err(|error| error.to_string())
            });
            report(match loaded {
                Ok(plugin) => PluginEvent::Loaded {
                    name,
                    plugin,
                    last_good: None,
                    reply: None,
                },
                Err(reason) => PluginEvent::Refused {
                    name,
                    reason,
                    last_good: None,
                },
            });
        }
    }
}
