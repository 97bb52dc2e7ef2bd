//! Bytes to records to batches: what files and standard input share.

use std::{ops::Range, sync::Arc};

use crate::{
    change::{BadInput, Done, Position, SourceBatch},
    config::{Format, OnBadInput},
    decode::{Decoder, Header, Reason, record_end},
};

use super::Setting;

/// Why reading stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Halt {
    /// `on_bad_input = "halt"`, and this is the input.
    BadInput(String),
    /// The engine takes no more.
    Refused,
}

/// Cuts bytes into records and decodes them.
pub(super) struct RecordReader {
    decoder: Decoder,
    format: Option<Format>,
    /// The table, for CSV.
    table: Option<String>,
    pub(super) header: Option<Header>,
    pub(super) origin: String,
    /// The place behind the last whole record.
    pub(super) offset: u64,
    pub(super) lines: u64,
    bad: Vec<BadInput>,
    input_bytes: usize,
    /// Inside a record that is longer than the limit: its bytes are passed over.
    skipping: bool,
}

impl RecordReader {
    pub(super) fn new(
        setting: &Setting,
        origin: String,
        format: Option<Format>,
        table: Option<String>,
    ) -> Self {
        Self {
            decoder: Decoder::new(setting.catalog.clone(), &setting.limits),
            format,
            table,
            header: None,
            origin,
            offset: 0,
            lines: 0,
            bad: Vec::new(),
            input_bytes: 0,
            skipping: false,
        }
    }

    fn is_csv(&self) -> bool {
        self.format == Some(Format::Csv)
    }

    /// Whether a batch is full.
    pub(super) fn is_full(&self, setting: &Setting) -> bool {
        self.decoder.len() >= setting.limits.batch_changes_max
            || self.decoder.len_bytes() >= setting.limits.batch_bytes_max
            || self.bad.len() >= setting.limits.batch_changes_max
    }

    /// Whether something was read since the last batch.
    pub(super) fn has_input(&self) -> bool {
        self.input_bytes > 0
    }

    /// Takes the whole records at the front of `bytes`, until a batch is full. Gives how many bytes were used;
    /// with `last` the end of `bytes` ends the last record.
    ///
    /// # Errors
    /// If the source halts; what was taken before stays taken.
    pub(super) fn take(
        &mut self,
        setting: &Setting,
        bytes: &[u8],
        last: bool,
    ) -> Result<usize, Halt> {
        let mut used = 0;
        while used < bytes.len() && !self.is_full(setting) {
            let rest = &bytes[used..];
            let end = if self.skipping || !self.is_csv() {
                memchr::memchr(b'\n', rest).map(|place| place + 1)
            } else {
                record_end(rest)
            };
            let end = match end {
                Some(end) => end,
                None if rest.len() > setting.limits.line_bytes_max && !self.skipping => {
                    // Its end isn't needed to know that it is too long.
                    self.too_long(setting, rest)?;
                    self.skipping = true;
                    rest.len()
                }
                None if self.skipping || last => rest.len(),
                None => break,
            };
            let record = &rest[..end];
            if self.skipping {
                self.skipping = !record.ends_with(b"\n");
            } else {
                self.record(setting, record)?;
            }
            used += end;
            self.offset += end as u64;
            self.lines += memchr::memchr_iter(b'\n', record).count() as u64;
            self.input_bytes += end;
        }
        Ok(used)
    }

    fn too_long(&mut self, setting: &Setting, bytes: &[u8]) -> Result<(), Halt> {
        let reason = format!(
            "the line has more than limits.line_bytes_max = {} bytes; passed over to its end",
            setting.limits.line_bytes_max
        );
        self.refuse(setting, bytes, reason)
    }

    fn record(&mut self, setting: &Setting, record: &[u8]) -> Result<(), Halt> {
        let result = if self.is_csv() {
            self.csv(record)
        } else {
            let record = if self.offset == 0 {
                record.strip_prefix(b"\xef\xbb\xbf").unwrap_or(record)
            } else {
                record
            };
            self.decoder.json_line(record, self.format)
        };
        match result {
            Ok(()) => Ok(()),
            Err(reason) => self.refuse(setting, record, reason.text),
        }
    }

    fn csv(&mut self, record: &[u8]) -> Result<(), Reason> {
        let Some(header) = &self.header else {
            if !record.trim_ascii().is_empty() {
                self.header = Some(Header::parse(record.trim_ascii_end())?);
            }
            return Ok(());
        };
        let table = self.table.as_deref().ok_or_else(|| Reason {
            malformed: false,
            text: "CSV on this source needs `table = \"..\"`".into(),
        })?;
        self.decoder.csv_record(table, header, record)
    }

    fn refuse(&mut self, setting: &Setting, bytes: &[u8], reason: String) -> Result<(), Halt> {
        let line = self.lines + 1;
        if setting.on_bad_input == OnBadInput::Halt {
            return Err(Halt::BadInput(format!("{}:{line}: {reason}", self.origin)));
        }
        tracing::warn!(
            source = &*setting.name,
            file = self.origin,
            line,
            reason,
            "parked input that can't be taken"
        );
        let max = setting.limits.bad_input_bytes_max;
        self.bad.push(BadInput {
            origin: self.origin.clone(),
            line,
            offset_bytes: self.offset,
            reason,
            text: String::from_utf8_lossy(&bytes[..bytes.len().min(max)])
                .trim_end()
                .to_owned(),
            cut: bytes.len() > max,
        });
        Ok(())
    }

    /// What was taken since the last batch, as one.
    pub(super) fn batch(
        &mut self,
        setting: &Setting,
        positions: Vec<Position>,
        done: Option<Done>,
    ) -> SourceBatch {
        SourceBatch {
            source: setting.name.clone(),
            changes: self.decoder.take(),
            bad: std::mem::take(&mut self.bad),
            positions,
            input_bytes: std::mem::take(&mut self.input_bytes),
            idempotency: None,
            done,
        }
    }
}

/// Hands a batch over and counts it.
pub(super) fn submit(setting: &Setting, batch: SourceBatch) -> Result<(), Halt> {
    let (changes, bad) = (batch.changes.len() as u64, batch.bad.len() as u64);
    let last_error = batch
        .bad
        .last()
        .map(|bad| format!("{}:{}: {}", bad.origin, bad.line, bad.reason));
    setting.intake.submit(batch).map_err(|_| Halt::Refused)?;
    setting.intake.show(&setting.name, &|status| {
        status.changes += changes;
        status.bad += bad;
        if last_error.is_some() {
            status.last_error.clone_from(&last_error);
        }
    });
    Ok(())
}

/// How many batches are not yet durable, and the first refusal.
type OpenBatches = (u64, Option<String>);

/// Counts batches that are not yet durable.
#[derive(Clone, Default)]
pub(super) struct Outstanding {
    state: Arc<(std::sync::Mutex<OpenBatches>, std::sync::Condvar)>,
}

impl Outstanding {
    /// What to call when a batch is durable.
    pub(super) fn one(&self) -> Done {
        let lock = || {
            self.state
                .0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        };
        lock().0 += 1;
        let state = self.state.clone();
        Box::new(move |result| {
            let mut guard = state
                .0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            guard.0 -= 1;
            if let Err(refused) = result {
                guard.1.get_or_insert(refused.to_string());
            }
            state.1.notify_all();
        })
    }

    /// Waits until every batch is durable or refused.
    ///
    /// # Errors
    /// The first refusal.
    pub(super) fn wait(&self) -> anyhow::Result<()> {
        let guard = self
            .state
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let guard = self
            .state
            .1
            .wait_while(guard, |(open, _)| *open > 0)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match &guard.1 {
            Some(refused) => Err(anyhow::anyhow!("{refused}")),
            None => Ok(()),
        }
    }
}

/// Moves what is left of a buffer to its front.
pub(super) fn keep_rest(buffer: &mut Vec<u8>, used: Range<usize>) {
    buffer.drain(used);
}
