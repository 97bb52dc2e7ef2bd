//! What a person can ask of a running engine, each as one call that waits for the answer; and what they find.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use rulemill::{
    change::RawOp,
    engine::{Control, ControlError, PluginEvent},
    store::DeadLetter,
};
use rulemill_wire::ValueRef;

use super::{Rig, TestChange};

impl Rig {
    /// Pauses a rule; gives its full name.
    ///
    /// # Errors
    /// What the engine answers.
    pub fn pause(&self, rule: &str) -> Result<String, ControlError> {
        let rule = rule.to_owned();
        let turned = self.handle.ask(|reply| Control::Pause { rule, reply })?;
        Ok(turned.rule)
    }

    /// Lets a rule go on; gives its full name.
    ///
    /// # Errors
    /// What the engine answers.
    pub fn resume(&self, rule: &str) -> Result<String, ControlError> {
        self.go_on(rule, false)
    }

    /// The same, from where the log begins.
    ///
    /// # Errors
    /// What the engine answers.
    pub fn resume_skipping_gap(&self, rule: &str) -> Result<String, ControlError> {
        self.go_on(rule, true)
    }

    fn go_on(&self, rule: &str, skip_gap: bool) -> Result<String, ControlError> {
        let rule = rule.to_owned();
        let turned = self.handle.ask(|reply| Control::Resume {
            rule,
            skip_gap,
            reply,
        })?;
        Ok(turned.rule)
    }

    /// Runs what is parked again: all of it, or a rule's, or one; gives how many went through and how many stay.
    ///
    /// # Errors
    /// What the engine answers.
    pub fn retry(&self, rule: Option<&str>, id: Option<u64>) -> Result<(u64, u64), ControlError> {
        let rule = rule.map(str::to_owned);
        self.handle
            .ask(|reply| Control::RetryDeadLetters { rule, id, reply })
    }

    /// Gives up what is parked: all of it, or a rule's, or one; gives how many went.
    ///
    /// # Errors
    /// What the engine answers.
    pub fn drop_letters(&self, rule: Option<&str>, id: Option<u64>) -> Result<u64, ControlError> {
        let rule = rule.map(str::to_owned);
        self.handle
            .ask(|reply| Control::DropDeadLetters { rule, id, reply })
    }

    /// Begins to rebuild a plugin's tables.
    ///
    /// # Errors
    /// What the engine answers.
    pub fn rebuild(&self, plugin: &str) -> Result<(), ControlError> {
        self.ask_rebuild(plugin, false)
    }

    /// Gives a rebuild up.
    ///
    /// # Errors
    /// What the engine answers.
    pub fn cancel_rebuild(&self, plugin: &str) -> Result<(), ControlError> {
        self.ask_rebuild(plugin, true)
    }

    fn ask_rebuild(&self, plugin: &str, cancel: bool) -> Result<(), ControlError> {
        let plugin = plugin.to_owned();
        self.handle.ask(|reply| Control::Rebuild {
            plugin,
            cancel,
            reply,
        })
    }

    /// A plugin's file goes.
    ///
    /// # Errors
    /// If the engine has stopped.
    pub fn remove(&self, plugin: &str) -> Result<(), ControlError> {
        let name = plugin.to_owned();
        self.handle
            .control(Control::Plugin(PluginEvent::Removed { name }))
    }

    /// What is parked or kept to be read, on the disk, in the order of its numbers.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn letters(&self) -> anyhow::Result<Vec<DeadLetter>> {
        let reader = self.store.reader()?;
        let letters = reader.dead_letters()?;
        Ok(letters.collect::<Result<_, _>>()?)
    }

    /// Stops the engine and goes through its whole store.
    ///
    /// # Errors
    /// Why the engine failed, or what is wrong with the store.
    pub fn verify(self) -> anyhow::Result<()> {
        let mut store = self.stop()?;
        let mut findings = Vec::new();
        Arc::get_mut(&mut store)
            .context("somebody else still holds the store")?
            .verify(&mut |finding| findings.push(finding))?;
        match findings.is_empty() {
            true => Ok(()),
            false => Err(anyhow!("{findings:#?}")),
        }
    }
}

/// A change of a shop's orders, each of which has a user and an amount.
pub fn order<'a>(op: RawOp, id: i64, user_id: i64, amount: i64) -> TestChange<'a> {
    TestChange {
        table: "orders",
        op,
        row: vec![
            ("id", ValueRef::I64(id)),
            ("user_id", ValueRef::I64(user_id)),
            ("amount", ValueRef::I64(amount)),
        ],
        time: Some(1_000_000 + id),
    }
}
