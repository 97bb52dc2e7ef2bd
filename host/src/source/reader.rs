//! Bytes to records to batches: what files and standard input share.

use std::sync::Arc;

use crate::{
    change::{BadInput, Done, Position, Receipt, Refused, SourceBatch},
    config::OnBadInput,
    decode::{BYTE_ORDER_MARK, Decoder, Format, Header, Reason, Split, Splitter},
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

/// What has to happen before more can be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// More bytes have to come.
    More,
    /// A batch is full.
    HandOver,
    /// Nothing that follows can be taken; why, [`RecordReader::stuck`] says.
    Stuck,
}

/// Cuts bytes into records and decodes them.
pub(super) struct RecordReader {
    decoder: Decoder,
    format: Option<Format>,
    /// The table, for CSV.
    table: Option<String>,
    pub(super) header: Option<Header>,
    /// The version of the catalog which the header was last held against.
    fits_since: Option<u64>,
    splitter: Splitter,
    pub(super) origin: String,
    /// The place behind the last whole record.
    pub(super) offset: u64,
    pub(super) lines: u64,
    /// Bytes behind that place in which no line ends.
    searched: usize,
    bad: Vec<BadInput>,
    input_bytes: usize,
    /// Inside a line that is longer than the limit: its bytes are passed over.
    pub(super) in_long_line: bool,
    /// Why nothing behind the place can be taken.
    pub(super) stuck: Option<String>,
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
            fits_since: None,
            splitter: Splitter::default(),
            origin,
            offset: 0,
            lines: 0,
            searched: 0,
            bad: Vec::new(),
            input_bytes: 0,
            in_long_line: false,
            stuck: None,
        }
    }

    /// Whether a batch is full.
    fn is_full(&self, setting: &Setting) -> bool {
        self.decoder.len() >= setting.limits.batch_changes_max
            || self.decoder.len_bytes() >= setting.limits.batch_bytes_max
            || self.bad.len() >= setting.limits.batch_changes_max
    }

    /// Whether something was read since the last batch.
    pub(super) fn has_input(&self) -> bool {
        self.input_bytes > 0 || !self.bad.is_empty()
    }

    /// The bytes behind the place are about to be read again.
    pub(super) fn begin_again(&mut self) {
        self.searched = 0;
    }

    /// Takes the whole records at the front of `bytes` until a batch is full, and adds up in `used` how many bytes
    /// they are; with `last` the end of `bytes` ends the last record.
    ///
    /// # Errors
    /// If the source halts; what was taken before stays taken.
    pub(super) fn take(
        &mut self,
        setting: &Setting,
        bytes: &[u8],
        last: bool,
        used: &mut usize,
    ) -> Result<Next, Halt> {
        while *used < bytes.len() {
            if self.is_full(setting) {
                return Ok(Next::HandOver);
            }
            let rest = &bytes[*used..];
            let before = self.offset;
            let next = if self.offset == 0 && rest.starts_with(BYTE_ORDER_MARK) {
                self.advance(BYTE_ORDER_MARK.len(), 0);
                None
            } else if self.in_long_line {
                self.pass_over(rest);
                None
            } else if self.format == Some(Format::Csv) {
                self.csv(setting, rest, last)?
            } else {
                self.line(setting, rest, last)?
            };
            *used += (self.offset - before) as usize;
            if let Some(next) = next {
                return Ok(next);
            }
        }
        Ok(match self.is_full(setting) {
            true => Next::HandOver,
            false => Next::More,
        })
    }

    /// These bytes are done with.
    fn advance(&mut self, len: usize, lines: u64) {
        self.offset += len as u64;
        self.lines += lines;
        self.input_bytes += len;
        self.searched = 0;
    }

    fn pass_over(&mut self, rest: &[u8]) {
        match memchr::memchr(b'\n', rest) {
            Some(end) => {
                self.in_long_line = false;
                self.advance(end + 1, 1);
            }
            None => self.advance(rest.len(), 0),
        }
    }

    /// Refuses a line whose end isn't needed to know that it is too long.
    fn too_long(&mut self, setting: &Setting, rest: &[u8]) -> Result<(), Halt> {
        let reason = format!(
            "the line has more than limits.line_bytes_max = {} bytes; passed over to its end",
            setting.limits.line_bytes_max
        );
        self.refuse(setting, rest, reason)?;
        self.in_long_line = true;
        self.pass_over(rest);
        Ok(())
    }

    /// Takes one line of JSON.
    fn line(&mut self, setting: &Setting, rest: &[u8], last: bool) -> Result<Option<Next>, Halt> {
        let searched = self.searched.min(rest.len());
        let (len, lines) = match memchr::memchr(b'\n', &rest[searched..]) {
            Some(end) => (searched + end + 1, 1),
            None if rest.len() > setting.limits.line_bytes_max => {
                self.too_long(setting, rest)?;
                return Ok(None);
            }
            None if last => (rest.len(), 0),
            None => {
                self.searched = rest.len();
                return Ok(Some(Next::More));
            }
        };
        let record = &rest[..len];
        if let Err(reason) = self.decoder.json_line(record, self.format) {
            self.refuse(setting, record, reason.text)?;
        }
        self.advance(len, lines);
        Ok(None)
    }

    /// Takes one record of CSV.
    fn csv(&mut self, setting: &Setting, rest: &[u8], last: bool) -> Result<Option<Next>, Halt> {
        if self.header.is_some()
            && let Some(reason) = self.misfit(setting)
        {
            return self.stick(setting, rest, reason).map(Some);
        }
        let max = setting.limits.line_bytes_max;
        let mut split = self.splitter.split(rest, last);
        if split == Split::Incomplete && rest.len() > max {
            // Either a quote that nothing closes or a line that is too long.
            if memchr::memchr(b'\n', &rest[..max]).is_none() {
                if self.header.is_none() {
                    let reason =
                        format!("the header has more than limits.line_bytes_max = {max} bytes");
                    return self.stick(setting, rest, reason).map(Some);
                }
                self.too_long(setting, rest)?;
                return Ok(None);
            }
            split = self.splitter.unclosed(rest, max);
        }
        if let Split::Record { len, .. } = split
            && len > max
            && memchr::memchr(b'\n', &rest[..max]).is_some()
        {
            // So long a field isn't taken anyway; more likely its quote is one too many.
            split = self.splitter.unclosed(rest, max);
        }
        match split {
            Split::Incomplete => Ok(Some(Next::More)),
            // Only half there: its end must not be taken for a line of its own.
            Split::Bad { len, .. } if !last && !rest[..len].ends_with(b"\n") && len <= max => {
                Ok(Some(Next::More))
            }
            Split::Bad { reason, .. } if self.header.is_none() => {
                self.stick(setting, rest, reason.text).map(Some)
            }
            Split::Bad { reason, len } => {
                self.refuse(setting, &rest[..len], reason.text)?;
                self.in_long_line = !last;
                self.pass_over(&rest[..len]);
                Ok(None)
            }
            Split::Record { len, lines } => {
                let record = &rest[..len];
                if let Some(header) = &self.header {
                    let table = self.table.as_deref().unwrap_or_default();
                    let taken = self
                        .decoder
                        .csv_record(table, header, record, &self.splitter);
                    if let Err(reason) = taken {
                        self.refuse(setting, record, reason.text)?;
                    }
                } else if !record.trim_ascii().is_empty() {
                    match Header::parse(record, &self.splitter) {
                        Ok(header) => self.header = Some(header),
                        Err(reason) => {
                            return self.stick(setting, record, reason.text).map(Some);
                        }
                    }
                    if let Some(reason) = self.misfit(setting) {
                        self.header = None;
                        return self.stick(setting, record, reason).map(Some);
                    }
                }
                self.advance(len, lines);
                Ok(None)
            }
        }
    }

    /// Why the rows under the header can't be those of the table, if they can't.
    fn misfit(&mut self, setting: &Setting) -> Option<String> {
        let version = setting.catalog.version();
        if self.fits_since == Some(version) {
            return None;
        }
        let fits = match (&self.table, &self.header) {
            (Some(table), Some(header)) => self.decoder.csv_fits(table, header),
            (None, _) => Err(Reason {
                malformed: false,
                text: "CSV on this source needs `table = \"..\"`".into(),
            }),
            (Some(_), None) => Ok(()),
        };
        match fits {
            Ok(()) => {
                self.fits_since = Some(version);
                self.stuck = None;
                None
            }
            Err(reason) => Some(reason.text),
        }
    }

    /// Nothing from here on can be taken. That is said once; then the place is looked at again from time to time.
    fn stick(&mut self, setting: &Setting, bytes: &[u8], reason: String) -> Result<Next, Halt> {
        if self.stuck.as_ref() != Some(&reason) {
            let line = &bytes[..memchr::memchr(b'\n', bytes).unwrap_or(bytes.len())];
            let text = format!("{reason}; nothing from this line on is read until that is mended");
            self.refuse(setting, line, text)?;
            self.stuck = Some(reason);
        }
        Ok(Next::Stuck)
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
#[derive(Default)]
struct Open {
    batches: u64,
    refused: Option<Refused>,
}

/// Counts batches that are not yet durable.
#[derive(Clone, Default)]
pub(super) struct Outstanding {
    state: Arc<(std::sync::Mutex<Open>, std::sync::Condvar)>,
}

/// One of them. A batch that is dropped without an answer counts as refused: whoever waits must not wait for ever.
struct One {
    of: Outstanding,
    answer: Result<(), Refused>,
}

impl One {
    fn close(mut self, result: Result<Receipt, Refused>) {
        self.answer = result.map(drop);
    }
}

impl Drop for One {
    fn drop(&mut self) {
        let mut open = self.of.lock();
        open.batches -= 1;
        if let Err(refused) = std::mem::replace(&mut self.answer, Ok(())) {
            open.refused.get_or_insert(refused);
        }
        drop(open);
        self.of.state.1.notify_all();
    }
}

impl Outstanding {
    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.state
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What to call when a batch is durable.
    pub(super) fn one(&self) -> Done {
        self.lock().batches += 1;
        let one = One {
            of: self.clone(),
            answer: Err(Refused::Stopped(
                "it has ended without an answer to a batch".into(),
            )),
        };
        Box::new(move |result| one.close(result))
    }

    /// Waits until every batch is durable or refused.
    ///
    /// # Errors
    /// The first [`Refused`].
    pub(super) fn wait(&self) -> anyhow::Result<()> {
        let open = self
            .state
            .1
            .wait_while(self.lock(), |open| open.batches > 0)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match &open.refused {
            Some(refused) => Err(refused.clone().into()),
            None => Ok(()),
        }
    }
}
