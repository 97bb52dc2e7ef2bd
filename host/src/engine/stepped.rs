//! The engine without its threads: whoever holds it decides what happens next.
//!
//! Owns an engine and the committer's work, and does one step of either at a time, on the caller's thread:
//! a batch, a command, a step of a rule that is behind, the clock, a group's way to the disk. So a test can choose
//! where batches and groups end, what is decided while a group is on its way, and when the disk fails, and choose the
//! same again. It decides nothing itself and calls what the engine's own loop calls; only the order is the
//! caller's. The loop takes no input while [`Stepped::is_full`] holds; a caller that means to be like it
//! doesn't either.
//!
//! When a step fails the engine has ended, as its thread would have: those who wait are told, and every further
//! step fails. Dropping it is a crash: what wasn't committed is gone and nobody is told.

use std::sync::Arc;

use anyhow::{anyhow, ensure};

use crate::{catalog::SharedCatalog, change::SourceBatch, commit::Committer};

use super::{Control, Engine, Fatal, Setup, Status, StatusBoard, behind, open};

/// Whether a rule that is behind has come further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// No rule is behind.
    Idle,
    /// A batch was handled.
    Done,
    /// The rule can go on once everything decided is durable.
    NeedsCommit,
}

/// An engine that does what it is told, step by step.
pub struct Stepped {
    engine: Engine,
    catalog: Arc<SharedCatalog>,
    board: Arc<StatusBoard>,
}

impl Stepped {
    /// An engine over an open store, with the plugins linked that are there.
    ///
    /// # Errors
    /// As [`start`](super::start).
    pub fn start(setup: Setup) -> anyhow::Result<Self> {
        let committer = Committer::without_thread(
            setup.store.clone(),
            setup.limits.clone(),
            setup.clock.clone(),
        );
        let (engine, handle, ..) = open(setup, committer)?;
        Ok(Self {
            engine,
            catalog: handle.catalog,
            board: handle.board,
        })
    }

    /// The tables, for making changes of them.
    pub fn catalog(&self) -> &SharedCatalog {
        &self.catalog
    }

    /// What goes on, as of the last command or commit.
    pub fn status(&self) -> Arc<Status> {
        self.board.load()
    }

    /// Decides these batches as one.
    ///
    /// # Errors
    /// Why the engine has ended.
    pub fn process(&mut self, batches: Vec<SourceBatch>) -> anyhow::Result<()> {
        let bytes = batches.iter().map(|batch| batch.input_bytes).sum();
        self.step(|engine| engine.process(batches, bytes))
    }

    /// Carries out a command. One that must see what is decided on the disk has it arrive there first.
    ///
    /// # Errors
    /// Why the engine has ended. What the command itself comes to is in its reply, which may come with a later commit.
    pub fn command(&mut self, command: Control) -> anyhow::Result<()> {
        self.step(|engine| engine.command(command))
    }

    /// Lets a retry, or else the rule that is behind at the lowest level, handle a batch. It may have what is decided arrive on the
    /// disk first.
    ///
    /// # Errors
    /// Why the engine has ended.
    pub fn step_behind(&mut self) -> anyhow::Result<Behind> {
        let step = self.step(Engine::step_behind)?;
        Ok(match step {
            behind::Step::Idle => Behind::Idle,
            behind::Step::Done => Behind::Done,
            behind::Step::NeedsCommit => Behind::NeedsCommit,
        })
    }

    /// Lets the timers fire that have come due by the clock.
    ///
    /// # Errors
    /// Why the engine has ended.
    pub fn tick(&mut self) -> anyhow::Result<()> {
        self.step(Engine::tick)
    }

    /// Hands what is decided to the committer, if there is anything and the committer has nothing in hand.
    ///
    /// # Errors
    /// Why the engine has ended.
    pub fn hand_over(&mut self) -> anyhow::Result<()> {
        self.step(Engine::hand_over)
    }

    /// The committer stores what it was handed and tells those who wait; the engine doesn't know yet. Gives whether there was
    /// anything.
    pub fn commit(&mut self) -> bool {
        self.engine.committer.commit_waiting()
    }

    /// The engine takes the committer's report, if there is one.
    ///
    /// # Errors
    /// Why the engine has ended: the report says that the commit failed.
    pub fn settle(&mut self) -> anyhow::Result<()> {
        match self.engine.committer.committed.try_recv() {
            Ok(report) => self.step(|engine| engine.settle(report)),
            Err(_) => Ok(()),
        }
    }

    /// Whether so much waits for the committer that the engine takes no input.
    pub fn is_full(&self) -> bool {
        self.engine.is_full()
    }

    /// Whether anything is decided that the engine doesn't know to be durable.
    pub fn is_unsettled(&self) -> bool {
        self.engine.is_unsettled()
    }

    /// Whether a group is with the committer, or its report on the way back.
    pub fn is_committing(&self) -> bool {
        self.engine.committing
    }

    fn step<T>(&mut self, step: impl FnOnce(&mut Engine) -> Result<T, Fatal>) -> anyhow::Result<T> {
        let ended = self.board.load().stopping.clone();
        ensure!(ended.is_none(), "the engine has ended before: {ended:?}");
        step(&mut self.engine).map_err(|error| {
            let reason = error.to_string();
            self.board.update(|status| status.stopping = Some(reason));
            self.engine.refuse_pending();
            anyhow!(error)
        })
    }
}
