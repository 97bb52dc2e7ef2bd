//! How the rest of the host talks to the engine: batches in, commands in, status out.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use crossbeam_channel::Sender;
use rulemill_wire::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    catalog::SharedCatalog,
    change::{Refused, SourceBatch},
    rule::Plugin,
    store::Store,
};

/// A way to the engine; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) input: Sender<SourceBatch>,
    pub(super) control: Sender<Control>,
    /// The store, for reading committed state.
    pub store: Arc<Store>,
    /// The tables, for decoding.
    pub catalog: Arc<SharedCatalog>,
    /// What goes on.
    pub board: Arc<StatusBoard>,
}

/// Where the engine and the sources post what goes on, for whoever wants to see it.
#[derive(Debug, Default)]
pub struct StatusBoard {
    current: ArcSwap<Status>,
    writing: std::sync::Mutex<()>,
    /// The plugin that is being called: apart from the rest, since that is often.
    calling: std::sync::Mutex<Option<Calling>>,
    changed: tokio::sync::Notify,
}

/// A plugin that is being called.
#[derive(Debug)]
struct Calling {
    plugin: Arc<str>,
    items: usize,
    since: Instant,
}

/// A call is shown once it takes as long as this.
const LONG_CALL: Duration = Duration::from_secs(1);

impl StatusBoard {
    /// The latest status.
    pub fn load(&self) -> Arc<Status> {
        self.current.load_full()
    }

    /// Changes the status.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        // A poisoned lock guards no data: the status is swapped whole.
        let _writing = self
            .writing
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut copy = Status::clone(&self.current.load());
        change(&mut copy);
        self.current.store(Arc::new(copy));
        self.changed.notify_waiters();
    }

    /// Notes that a plugin is being called with so many items.
    pub(crate) fn begin_call(&self, plugin: Arc<str>, items: usize, since: Instant) {
        *self.calling() = Some(Calling {
            plugin,
            items,
            since,
        });
    }

    /// Notes that it has returned.
    pub(crate) fn end_call(&self) {
        *self.calling() = None;
    }

    fn calling(&self) -> std::sync::MutexGuard<'_, Option<Calling>> {
        self.calling
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The plugin that is being called, if that has taken long.
    pub fn long_call(&self) -> Option<LongCall> {
        let calling = self.calling();
        let calling = calling.as_ref()?;
        let taken = calling.since.elapsed();
        if taken < LONG_CALL {
            return None;
        }
        let since = SystemTime::now().checked_sub(taken)?;
        let since = since.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(LongCall {
            plugin: calling.plugin.to_string(),
            items: calling.items as u64,
            since: i64::try_from(since.as_micros())
                .ok()
                .and_then(Timestamp::from_micros)
                .map(|at| at.to_string()),
            taken_ms: taken.as_millis() as u64,
        })
    }

    /// Resolves at the next change after this call (not after its first poll), so: call this, look, wait.
    pub fn changed(&self) -> impl Future<Output = ()> + '_ {
        self.changed.notified()
    }
}

/// Health at a glance.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Status {
    /// Whether sources and plugins have been started.
    pub ready: bool,
    /// Why the host has stopped or is stopping, if it is.
    pub stopping: Option<String>,
    /// Why no changes are taken for now, if they aren't: the disk is full.
    #[serde(default)]
    pub waiting: Option<String>,
    /// The last seq handed out.
    pub last_seq: u64,
    /// The last seq that is on disk.
    pub durable_seq: u64,
    /// Source changes handled since the start.
    pub changes: u64,
    /// Commits since the start.
    pub commits: u64,
    /// The latest commit time seen, as a timestamp.
    pub watermark: Option<String>,
    /// A plugin that has not returned for long; the engine does nothing else meanwhile.
    #[serde(default)]
    pub call: Option<LongCall>,
    /// Sources by name.
    pub sources: BTreeMap<String, SourceStatus>,
    /// Plugins by name.
    pub plugins: BTreeMap<String, PluginStatus>,
    /// Rules by full name (`plugin.rule`).
    pub rules: BTreeMap<String, RuleStatusLine>,
}

/// A call of a plugin that takes long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongCall {
    /// The plugin.
    pub plugin: String,
    /// Changes and timers that it is called with, in several calls where one of them makes it fault.
    pub items: u64,
    /// When it began.
    pub since: Option<String>,
    /// How long ago that is, in milliseconds.
    pub taken_ms: u64,
}

/// A source, as `status` shows it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Its kind.
    pub kind: String,
    /// What it is doing: reading, following, ended, halted.
    pub state: String,
    /// Changes handed over since the start.
    pub changes: u64,
    /// Inputs that could not be taken, since the start.
    pub bad: u64,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
}

/// A plugin, as `rules` shows it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PluginStatus {
    /// SHA-256 of the running file, in hex; none if nothing runs.
    pub hash: Option<String>,
    /// The version that it says of itself.
    pub version: String,
    /// Why the newest file was refused, if it was.
    pub refused: Option<String>,
    /// While its tables are being rebuilt: how far that has come, or what it waits for.
    #[serde(default)]
    pub rebuild: Option<String>,
}

/// A rule, as `rules` shows it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RuleStatusLine {
    /// `running`, `catching up`, `paused`, `halted` or `unloaded`.
    pub status: String,
    /// The seq up to which it has processed its input.
    pub cursor: u64,
    /// Changes between the cursor and the last seq.
    pub lag_changes: u64,
    /// Changes handled, ever.
    pub changes: u64,
    /// Faults, ever.
    pub faults: u64,
    /// Changes and timers parked now.
    pub parked: u64,
    /// Skipped changes and timers that are kept to be read.
    #[serde(default)]
    pub skipped: u64,
    /// When the oldest of them was skipped.
    #[serde(default)]
    pub skipped_since: Option<String>,
    /// The last fault.
    pub last_error: Option<String>,
}

impl RuleStatusLine {
    /// Whether it runs, at the head or behind it.
    pub fn runs(&self) -> bool {
        matches!(self.status.as_str(), "running" | "catching up")
    }
}

/// What can be asked of the engine between two batches. Replies come when it is done and durable.
pub enum Control {
    /// A plugin file came, changed or went.
    Plugin(PluginEvent),
    /// Stop calling a rule; its cursor stays.
    Pause {
        /// The rule, as `plugin.rule`, or `rule` where that is unique.
        rule: String,
        /// Gets what came of it.
        reply: Sender<Result<Turned, ControlError>>,
    },
    /// Let a paused or halted rule go on from its cursor.
    Resume {
        /// The rule.
        rule: String,
        /// Go on from where the log begins, if the cursor lies before it: what is between is never handled.
        skip_gap: bool,
        /// Gets what came of it.
        reply: Sender<Result<Turned, ControlError>>,
    },
    /// Run parked changes and timers again, oldest first.
    RetryDeadLetters {
        /// Only those of this rule.
        rule: Option<String>,
        /// Only this one.
        id: Option<u64>,
        /// Gets how many went through and how many stay parked.
        reply: Sender<Result<(u64, u64), ControlError>>,
    },
    /// Give parked changes and timers up.
    DropDeadLetters {
        /// Only those of this rule.
        rule: Option<String>,
        /// Only this one.
        id: Option<u64>,
        /// Gets how many went.
        reply: Sender<Result<u64, ControlError>>,
    },
    /// Make a plugin's tables again from a snapshot of what they come from, with its newest code.
    Rebuild {
        /// The plugin.
        plugin: String,
        /// Give a rebuild up instead.
        cancel: bool,
        /// Told when it has begun, or is given up.
        reply: Sender<Result<(), ControlError>>,
    },
    /// Finish what was handed in, commit, stop.
    Shutdown,
}

/// What came of a pause or a resumption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turned {
    /// The rule's full name.
    pub rule: String,
    /// Whether it did something else before.
    pub changed: bool,
    /// What it does now.
    pub status: String,
}

/// What the plugin directory reports, once a file has been compiled and checked aside.
pub enum PluginEvent {
    /// A file passed its checks.
    Loaded {
        /// The plugin's name: the file's, without its ending.
        name: String,
        /// The compiled plugin.
        plugin: Arc<dyn Plugin>,
        /// At the start, where other code ran before: that, from the store.
        last_good: Option<Arc<dyn Plugin>>,
        /// Gets why it doesn't fit the tables that are there, or that it runs.
        reply: Option<Sender<Result<(), String>>>,
    },
    /// A file was refused; the one that ran before goes on.
    Refused {
        /// The plugin's name.
        name: String,
        /// Why.
        reason: String,
        /// At the start: what ran before, from the store.
        last_good: Option<Arc<dyn Plugin>>,
    },
    /// A file went: its rules are unloaded, its tables stay.
    Removed {
        /// The plugin's name.
        name: String,
    },
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// There is no such rule.
    #[error("there is no rule {0}: `rulemill rules` lists them")]
    NoSuchRule(String),
    /// There is no such plugin.
    #[error("there is no plugin {0}: `rulemill status` lists them")]
    NoSuchPlugin(String),
    /// Several plugins have a rule with this name.
    #[error("{0} plugins have a rule {1}: name it as plugin.rule")]
    Ambiguous(usize, String),
    /// There is no such dead letter.
    #[error("there is no dead letter {0}")]
    NoSuchDeadLetter(u64),
    /// The command doesn't fit the rule's state.
    #[error("{0}")]
    Conflict(String),
    /// The engine has stopped.
    #[error("the host is stopping")]
    Stopped,
}

impl Handle {
    /// Hands a batch to the engine; waits while its queue is full, which is the back-pressure on
    /// sources.
    ///
    /// # Errors
    /// If the engine has stopped; the batch's `done` is then not called.
    pub fn submit(&self, batch: SourceBatch) -> Result<(), Refused> {
        self.input
            .send(batch)
            .map_err(|_| Refused::Stopped("the engine has ended".into()))
    }

    /// Sends a command.
    ///
    /// # Errors
    /// If the engine has stopped.
    pub fn control(&self, command: Control) -> Result<(), ControlError> {
        self.control
            .send(command)
            .map_err(|_| ControlError::Stopped)
    }

    /// Sends a command that is answered, and waits for the answer.
    ///
    /// # Errors
    /// What the engine answers, or that it has stopped.
    pub fn ask<T>(
        &self,
        command: impl FnOnce(Sender<Result<T, ControlError>>) -> Control,
    ) -> Result<T, ControlError> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        self.control(command(reply))?;
        answer.recv().map_err(|_| ControlError::Stopped)?
    }
}
