//! Changes from standard input.
//!
//! A pipe can't be read twice, so there is no position: what came in before a crash and was not yet
//! committed is gone with the pipe. Input that must not be lost goes into files.

use std::io::Read;

use anyhow::Context;

use crate::config::Format;

use super::{
    Setting,
    reader::{Halt, Outstanding, RecordReader, keep_rest, submit},
};

/// Bytes asked for at once.
const READ_BYTES: usize = 256 << 10;

/// Standard input as a source.
pub struct Stdin {
    setting: Setting,
    records: RecordReader,
}

impl Stdin {
    /// The source; `table` is what CSV goes to.
    pub fn new(setting: Setting, format: Option<Format>, table: Option<String>) -> Self {
        let records = RecordReader::new(&setting, "stdin".into(), format, table);
        Self { setting, records }
    }

    /// Reads until the input ends, the source halts or its end is wanted; then waits until all is durable.
    ///
    /// # Errors
    /// If the input can't be read.
    pub fn run(mut self, mut input: impl Read) -> anyhow::Result<()> {
        let outstanding = Outstanding::default();
        let mut buffer = Vec::new();
        let mut chunk = vec![0; READ_BYTES];
        loop {
            let len = input
                .read(&mut chunk)
                .context("can't read standard input")?;
            buffer.extend_from_slice(&chunk[..len]);
            let mut start = 0;
            loop {
                let taken = self.records.take(&self.setting, &buffer[start..], len == 0);
                if let Ok(used) = taken {
                    start += used;
                }
                // Whatever has come is handed over: nobody knows when more comes.
                let idle = !self.records.is_full(&self.setting);
                if self.records.has_input() {
                    let done = Some(outstanding.one());
                    let batch = self.records.batch(&self.setting, Vec::new(), done);
                    if submit(&self.setting, batch).is_err() {
                        return Ok(());
                    }
                }
                if let Err(halt) = taken {
                    self.halted(&halt);
                    return outstanding.wait();
                }
                if idle {
                    break;
                }
            }
            keep_rest(&mut buffer, 0..start);
            if len == 0 || self.setting.stop.is_wanted() {
                break;
            }
        }
        outstanding.wait()?;
        self.setting.intake.show(&self.setting.name, &|status| {
            "ended".clone_into(&mut status.state)
        });
        Ok(())
    }

    fn halted(&self, halt: &Halt) {
        if let Halt::BadInput(reason) = halt {
            tracing::error!(source = &*self.setting.name, reason, "halted");
            self.setting.intake.show(&self.setting.name, &|status| {
                "halted".clone_into(&mut status.state);
                status.bad += 1;
                status.last_error = Some(reason.clone());
            });
        }
    }
}
