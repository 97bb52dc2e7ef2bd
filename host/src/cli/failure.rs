//! How a command that failed ends: what it says, and its exit code.

use std::{fmt, io, process::ExitCode};

use crate::store;

/// Why a command ended without being done.
#[derive(Debug)]
pub enum Failure {
    /// Wrong use or wrong configuration: exit code 2.
    Wrong(String),
    /// It was right to ask for, and failed: exit code 1.
    Failed(anyhow::Error),
    /// It failed, and the log says why: exit code 1.
    Logged,
    /// Whoever read the output has gone: ends quietly, as done.
    ReaderGone,
}

impl Failure {
    /// Wrong use or wrong configuration.
    pub fn wrong(message: impl fmt::Display) -> Self {
        Self::Wrong(message.to_string())
    }

    /// Says what went wrong on standard error, and gives the exit code.
    pub(super) fn report(self) -> ExitCode {
        match self {
            Self::Wrong(message) => {
                eprintln!("rulemill: {}", message.trim_end());
                ExitCode::from(2)
            }
            Self::Failed(error) => {
                eprintln!("rulemill: {error:#}");
                ExitCode::from(1)
            }
            Self::Logged => ExitCode::from(1),
            Self::ReaderGone => ExitCode::SUCCESS,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// An error of writing to standard output; other I/O comes with context, as `anyhow::Error`.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::ReaderGone
        } else {
            Self::Failed(anyhow::Error::new(error).context("can't write the output"))
        }
    }
}
