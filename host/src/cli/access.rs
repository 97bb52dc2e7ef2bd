//! Where a reading command finds the state: in the running daemon, else in the data directory.

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;

use super::{
    ConfigArg, Failure,
    client::{Client, segment},
};
use crate::{
    config::{Config, Source},
    daemon::announce::{self, Announcement},
    engine::SourceStatus,
    http::{
        Problem,
        answers::{BadInputs, DeadLetters, Rows, Rules, StatusAnswer, Tables},
        read::{self, LettersQuery, RowsQuery},
    },
    limits::Limits,
    store::{self, Reader, Store},
};

/// How long a command waits for a daemon that has the data directory and doesn't answer yet.
const STARTING_WAIT: Duration = Duration::from_secs(5);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A way to the state.
pub(super) enum Access {
    /// Through the daemon.
    Daemon {
        /// The way to it.
        client: Client,
        /// The limits as configured, for the size of pages.
        limits: Arc<Limits>,
    },
    /// From the store, which this process has opened.
    Store {
        /// The store.
        store: Box<Store>,
        /// The limits as configured.
        limits: Arc<Limits>,
        /// The configured sources.
        sources: Vec<Source>,
    },
}

impl Access {
    /// Finds the daemon of a configuration, else opens its store.
    pub(super) fn open(config: &ConfigArg) -> Result<Self, Failure> {
        let config = load(config)?;
        let limits = Arc::new(config.limits.clone());
        match holder(&config, &limits)? {
            Holder::Daemon(client) => Ok(Self::Daemon { client, limits }),
            Holder::Nobody(Some(store)) => Ok(Self::Store {
                store,
                limits,
                sources: config.sources,
            }),
            Holder::Nobody(None) => Err(Failure::Failed(anyhow::anyhow!(
                "there is no store in {} yet: `rulemill run` makes it",
                config.data_dir.display()
            ))),
        }
    }

    /// Finds the daemon of a configuration, for what only that can do.
    pub(super) fn open_daemon(config: &ConfigArg, what_for: &str) -> Result<Client, Failure> {
        let config = load(config)?;
        match holder(&config, &config.limits)? {
            Holder::Daemon(client) => Ok(client),
            Holder::Nobody(_) => Err(Failure::Failed(anyhow::anyhow!(
                "no daemon runs on {}: start it with `rulemill run` {what_for}",
                config.data_dir.display()
            ))),
        }
    }

    /// Rows that one page holds at the most.
    pub(super) fn page_rows_max(&self) -> u64 {
        match self {
            Self::Daemon { limits, .. } | Self::Store { limits, .. } => {
                limits.response_rows_max as u64
            }
        }
    }

    pub(super) fn tables(&self) -> Result<Tables, Failure> {
        match self {
            Self::Daemon { client, .. } => client.get("/v1/tables", &[]),
            Self::Store { store, .. } => {
                let catalog = reader(store)?.catalog().context("can't read the tables")?;
                Ok(Tables::of(&catalog))
            }
        }
    }

    pub(super) fn rows(&self, query: &RowsQuery) -> Result<Rows, Failure> {
        match self {
            Self::Daemon { client, .. } => {
                let mut parameters = Vec::new();
                let texts = [
                    ("key", &query.key),
                    ("from", &query.from),
                    ("to", &query.to),
                    ("cursor", &query.cursor),
                ];
                for (name, text) in texts {
                    parameters.extend(text.clone().map(|text| (name, text)));
                }
                parameters.extend(query.limit.map(|limit| ("limit", limit.to_string())));
                if query.provenance {
                    parameters.push(("provenance", true.to_string()));
                }
                client.get(
                    &format!("/v1/tables/{}/rows", segment(&query.table)),
                    &parameters,
                )
            }
            Self::Store { store, limits, .. } => Ok(read::rows(&reader(store)?, limits, query)?),
        }
    }

    pub(super) fn rules(&self) -> Result<Rules, Failure> {
        match self {
            Self::Daemon { client, .. } => client.get("/v1/rules", &[]),
            Self::Store { store, .. } => Ok(Rules::of(&read::stored_status(&reader(store)?)?)),
        }
    }

    pub(super) fn dead_letters(&self, query: &LettersQuery) -> Result<DeadLetters, Failure> {
        match self {
            Self::Daemon { client, .. } => client.get("/v1/dead-letters", &parameters(query)),
            Self::Store { store, limits, .. } => {
                Ok(read::dead_letters(&reader(store)?, limits, query)?)
            }
        }
    }

    pub(super) fn bad_input(
        &self,
        source: &str,
        query: &LettersQuery,
    ) -> Result<BadInputs, Failure> {
        match self {
            Self::Daemon { client, .. } => client.get(
                &format!("/v1/sources/{}/dead-letters", segment(source)),
                &parameters(query),
            ),
            Self::Store {
                store,
                limits,
                sources,
                ..
            } => {
                let is_known = sources.iter().any(|known| known.name == source);
                let reader = reader(store)?;
                Ok(read::bad_input(&reader, limits, source, is_known, query)?)
            }
        }
    }

    pub(super) fn status(&self) -> Result<StatusAnswer, Failure> {
        match self {
            Self::Daemon { client, .. } => client.get("/v1/status", &[]),
            Self::Store { store, sources, .. } => {
                let reader = reader(store)?;
                let mut status = read::stored_status(&reader)?;
                for source in sources {
                    let kept = reader
                        .bad_input(&source.name)
                        .context("can't read the input that was put aside")?
                        .count();
                    let line = SourceStatus {
                        kind: source.kind.name().to_owned(),
                        state: "not running".to_owned(),
                        bad: kept as u64,
                        ..SourceStatus::default()
                    };
                    status.sources.insert(source.name.clone(), line);
                }
                Ok(read::status(store, status, false)?)
            }
        }
    }
}

/// What a read says against a query fails the command.
impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Failed(anyhow::anyhow!("{}", problem.detail))
    }
}

/// Loads a configuration; what is wrong with it is wrong use.
pub(super) fn load(config: &ConfigArg) -> Result<Config, Failure> {
    Config::load(&config.path).map_err(|error| Failure::wrong(format!("{error:#}")))
}

/// Loads a configuration for a command that runs its plugins.
pub(super) fn load_with_plugins(config: &ConfigArg) -> Result<Config, Failure> {
    let config = load(config)?;
    config
        .check_plugin_dir()
        .map_err(|error| Failure::wrong(format!("{error:#}")))?;
    Ok(config)
}

fn reader(store: &Store) -> Result<Reader, Failure> {
    Ok(store.reader().context("can't read the store")?)
}

/// Who has a data directory.
enum Holder {
    /// A daemon that answers.
    Daemon(Client),
    /// Nobody; its store, if there is one.
    Nobody(Option<Box<Store>>),
}

/// Finds out who has the data directory. One who doesn't answer yet, as a daemon that still compiles its plugins, is
/// waited for.
fn holder(config: &Config, limits: &Limits) -> Result<Holder, Failure> {
    let until = Instant::now() + STARTING_WAIT;
    loop {
        if let Some(client) = daemon(&config.data_dir)? {
            return Ok(Holder::Daemon(client));
        }
        if !Store::exists(&config.data_dir) {
            return Ok(Holder::Nobody(None));
        }
        match Store::open(&config.data_dir, limits) {
            Ok(store) => return Ok(Holder::Nobody(Some(Box::new(store)))),
            Err(store::Error::Locked(_)) if Instant::now() < until => thread::sleep(LOOK_EVERY),
            Err(store::Error::Locked(_)) => return Err(no_answer(&config.data_dir)),
            Err(error) => {
                let context = format!("can't read data_dir {}", config.data_dir.display());
                return Err(Failure::Failed(anyhow::Error::new(error).context(context)));
            }
        }
    }
}

/// What is said of a data directory that somebody has who doesn't answer.
fn no_answer(data_dir: &Path) -> Failure {
    let dir = data_dir.display();
    Failure::Failed(match announce::read(data_dir) {
        Ok(Some(Announcement { pid, http: None })) => anyhow::anyhow!(
            "rulemill (process {pid}) has the data directory {dir} and serves no HTTP, so it can't be asked: try again \
             once it has ended"
        ),
        _ => anyhow::anyhow!(
            "another rulemill has the data directory {dir} and doesn't answer yet: it is starting (the first start \
             compiles its plugins) or stopping; try again in a moment"
        ),
    })
}

/// The daemon that has announced itself in a data directory and answers.
fn daemon(data_dir: &Path) -> Result<Option<Client>, Failure> {
    let Some(Announcement { pid, http }) = announce::read(data_dir)? else {
        return Ok(None);
    };
    let Some(address) = http else {
        // Nothing to ask. If it still runs, the store's lock will say so.
        return Ok(None);
    };
    let client = Client::new(&address);
    // One that was killed leaves its announcement behind; another process may have the port now.
    Ok((client.alive() == Some(pid)).then_some(client))
}

fn parameters(query: &LettersQuery) -> Vec<(&'static str, String)> {
    let mut parameters = Vec::new();
    parameters.extend(query.rule.clone().map(|rule| ("rule", rule)));
    parameters.extend(query.id.map(|id| ("id", id.to_string())));
    parameters.extend(query.after.map(|after| ("after", after.to_string())));
    parameters.extend(query.limit.map(|limit| ("limit", limit.to_string())));
    parameters
}
