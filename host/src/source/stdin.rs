//! Changes from standard input.
//!
//! A pipe can't be read twice, so there is no position: what came in before a crash and was not yet
//! committed is gone with the pipe. Input that must not be lost goes into files.

use std::{
    io::{self, Read},
    thread,
};

use anyhow::Context;
use crossbeam_channel::{Receiver, bounded, select};

use crate::decode::Format;

use super::{
    Setting, Stop,
    reader::{Halt, Next, Outstanding, RecordReader, submit},
    window::{READ_BYTES, Window},
};

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
        let mut window = Window::default();
        loop {
            let len = window
                .fill_some(&mut input)
                .context("can't read standard input")?;
            if len == 0 && self.setting.stop.is_wanted() {
                // Not the input's end: half a line is no line.
                break;
            }
            loop {
                let mut used = 0;
                let bytes = window.unused();
                let taken = self.records.take(&self.setting, bytes, len == 0, &mut used);
                window.take(used);
                // Whatever has come is handed over: nobody knows when more comes.
                if self.records.has_input() {
                    let done = Some(outstanding.one());
                    let batch = self.records.batch(&self.setting, Vec::new(), done);
                    if submit(&self.setting, batch).is_err() {
                        return Ok(());
                    }
                }
                match taken {
                    Ok(Next::HandOver) => {}
                    Ok(Next::More) => break,
                    Ok(Next::Stuck) => {
                        // A pipe can't be mended and read again.
                        let reason = self.records.stuck.clone().unwrap_or_default();
                        self.halted(&Halt::BadInput(format!("stdin: {reason}")));
                        return outstanding.wait();
                    }
                    Err(halt) => {
                        self.halted(&halt);
                        return outstanding.wait();
                    }
                }
            }
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

/// The process's standard input, read on a thread of its own: a pipe on which nothing comes would keep
/// the end of the source waiting. Its end and a wish to end both read as the end of the input.
pub(super) struct Interruptible {
    chunks: Receiver<io::Result<Vec<u8>>>,
    stop: Stop,
    chunk: io::Cursor<Vec<u8>>,
}

impl Interruptible {
    /// Begins to read. The thread ends with the input or the process.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start(stop: Stop) -> io::Result<Self> {
        let (sender, chunks) = bounded(1);
        thread::Builder::new().name("stdin".into()).spawn(move || {
            let mut input = io::stdin().lock();
            loop {
                let mut chunk = vec![0; READ_BYTES];
                let read = loop {
                    match input.read(&mut chunk) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        read => break read,
                    }
                };
                let ends = !matches!(read, Ok(1..));
                let chunk = read.map(|len| {
                    chunk.truncate(len);
                    chunk
                });
                if sender.send(chunk).is_err() || ends {
                    return;
                }
            }
        })?;
        Ok(Self {
            chunks,
            stop,
            chunk: io::Cursor::default(),
        })
    }
}

impl Read for Interruptible {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.chunk.read(out)?;
        if len > 0 {
            return Ok(len);
        }
        select! {
            recv(self.chunks) -> chunk => match chunk {
                Ok(chunk) => {
                    self.chunk = io::Cursor::new(chunk?);
                    self.chunk.read(out)
                }
                // The thread has told the end already.
                Err(_) => Ok(0),
            },
            // Closed, which is the signal.
            recv(self.stop.signal) -> _ => Ok(0),
        }
    }
}
