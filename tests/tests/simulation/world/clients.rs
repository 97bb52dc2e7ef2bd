//! The source, and clients who post changes: they know no more than what they were told.

use std::collections::BTreeMap;

use rulemill::{
    catalog::TableId,
    change::{Idempotency, Key, RawChange, RawOp, Receipt, Refused},
    row::{ColumnId, RowBuilder},
};
use rulemill_wire::{ValueRef, key};

use crate::{
    feed::{NOTE, Row, Said},
    model::Event,
};

use super::{End, World, batch, place_of, position};

/// A request that a client sends until it is answered.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) said: Vec<Said>,
}

/// Somebody who waits for an answer.
pub(super) struct Waiting {
    /// Entries of the history that must be durable before the answer comes.
    events: usize,
    number: u64,
    pub(super) request: Option<Request>,
    repeated: bool,
}

impl World {
    /// The source hands over its next transactions, in batches that are decided as one.
    pub(crate) fn source(&mut self, batches: &[usize]) -> Result<(), End> {
        let mut handed = Vec::new();
        let from = self.position;
        let said = self.sent[from..from + batches.iter().sum::<usize>()].to_vec();
        for count in batches {
            let mut changes = Vec::new();
            for _ in 0..*count {
                let said = self.sent[self.position].clone();
                self.position += 1;
                changes.extend(said.iter().map(|said| self.raw(said)));
                self.history.push(Event::Transaction {
                    said,
                    request: None,
                    clock: self.now(),
                });
            }
            let mut batch = batch("source", changes);
            batch.positions.push(position(self.position));
            if self.random.one_in(4) {
                batch.done = Some(self.wait(None, false));
            }
            handed.push(batch);
        }
        let to = self.position;
        self.note(format_args!(
            "the source hands over transactions {from}..{to} in batches {batches:?}: {:?}",
            said.concat()
        ));
        self.mark(handed)
    }

    /// A client sends a request, for the first time or again.
    pub(crate) fn request(&mut self, request: Request, other_body: bool) -> Result<(), End> {
        let changes: Vec<RawChange> = request.said.iter().map(|said| self.raw(said)).collect();
        let repeated = self.taken.contains_key(&request.id);
        self.note(format_args!(
            "request {}{}{}: {:?}",
            request.id,
            if repeated { " again" } else { "" },
            if other_body { " with another body" } else { "" },
            request.said
        ));
        let mut batch = batch("http", changes);
        batch.idempotency = Some(Idempotency {
            key: request.id.to_string(),
            body_hash: [u8::from(other_body); 32],
        });
        if other_body {
            assert!(repeated, "a first request has no other body");
            let (sender, receiver) = crossbeam_channel::bounded(1);
            batch.done = Some(Box::new(move |result| drop(sender.send(result))));
            self.count("a key for another body");
            self.mark(vec![batch])?;
            return match receiver.try_recv() {
                Ok(Err(Refused::KeyReused)) => Ok(()),
                other => Err(End::Wrong(format!("a key for two bodies: {other:?}"))),
            };
        }
        let event = Event::Transaction {
            said: request.said.clone(),
            request: Some(request.id),
            clock: self.now(),
        };
        self.history.push(event);
        let entry = (self.history.len(), request.said.len());
        self.taken.entry(request.id).or_insert(entry);
        batch.done = Some(self.wait(Some(request), repeated));
        self.mark(vec![batch])
    }

    fn wait(&mut self, request: Option<Request>, repeated: bool) -> rulemill::change::Done {
        let number = self.next_number;
        self.next_number += 1;
        self.waiting.push(Waiting {
            events: self.history.len(),
            number,
            request,
            repeated,
        });
        let answers = self.answers.clone();
        Box::new(move |result| {
            let mut answers = answers.lock().expect("nobody panics with it");
            answers.push((number, result));
        })
    }

    fn raw(&self, said: &Said) -> RawChange {
        let (table, columns) = &self.tables[said.table as usize];
        let columns_of = |row: &Row| {
            let mut columns = columns.clone();
            if row.len() >= columns.len() {
                // A column that nobody has named, as decoders find it.
                columns.push(self.note_column(*table));
            }
            columns
        };
        let key_of = |id: i64| {
            let mut bytes = Vec::new();
            key::write(ValueRef::I64(id), &mut bytes);
            Key::from(bytes)
        };
        let after = said.row.as_ref().map(|row| {
            let mut builder = RowBuilder::default();
            builder.set(columns[0], ValueRef::I64(said.key));
            for (column, value) in columns_of(row).into_iter().skip(1).zip(row) {
                if let Some(value) = value {
                    builder.set(column, ValueRef::I64(*value));
                }
            }
            let mut bytes = Vec::new();
            builder.finish(&mut bytes);
            bytes.into()
        });
        RawChange {
            table: *table,
            op: said.op,
            key: match said.op {
                RawOp::Truncate => Key::new(),
                _ => key_of(said.key),
            },
            old_key: said.old_key.map(key_of),
            before: None,
            lacks: said.lacks,
            after,
            time: said.time,
        }
    }

    /// The number of the column that no rule names: new to the store with the first row that has it.
    fn note_column(&self, table: TableId) -> ColumnId {
        let engine = self.engine.as_ref().expect("it was started");
        let columns = engine.catalog().intern_columns(table, &[NOTE], 100);
        columns.expect("there are few")[0]
    }

    /// Looks how much of the history is on the disk by now.
    pub(super) fn look(&mut self) -> Result<(), End> {
        if self.disk.has_failed() {
            // Whether a commit that failed is there shows when the store is opened again.
            return Ok(());
        }
        let stored = self
            .store()
            .reader()
            .and_then(|reader| reader.positions("history"));
        let place = match stored {
            Ok(positions) => positions.first().map_or(Ok(0), place_of)?,
            // The engine meets the same error.
            Err(_) if self.disk.has_failed() => return Ok(()),
            Err(error) => return Err(End::Wrong(format!("can't look at the store: {error}"))),
        };
        if place < self.settled || place > self.history.len() {
            return Err(End::Wrong(format!("the store went back to {place}")));
        }
        self.arrived(place)
    }

    /// What was on its way is durable: all who waited for it, and nobody else, have their answer.
    fn arrived(&mut self, events: usize) -> Result<(), End> {
        self.settled = events;
        let mut answers: BTreeMap<u64, Result<Receipt, Refused>> = self
            .answers
            .lock()
            .expect("nobody panics with it")
            .drain(..)
            .collect();
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.events > events {
                self.waiting.push(waiting);
                continue;
            }
            let receipt = match answers.remove(&waiting.number) {
                Some(Ok(receipt)) => receipt,
                other => {
                    let what = format!("durable, and answered with {other:?}");
                    return Err(End::Wrong(what));
                }
            };
            if let Some(request) = waiting.request {
                let changes = request.said.len() as u64;
                if receipt.repeated != waiting.repeated || receipt.changes != changes {
                    return Err(End::Wrong(format!("{request:?} got {receipt:?}")));
                }
                self.answered.push(request);
            }
        }
        if !answers.is_empty() {
            return Err(End::Wrong(format!("answered too soon: {answers:?}")));
        }
        for (asked, receiver) in std::mem::take(&mut self.replies) {
            if asked > events {
                self.replies.push((asked, receiver));
                continue;
            }
            receiver
                .try_recv()
                .map_err(|_| "a command that is durable got no reply".to_owned())?
                .map_err(|error| format!("a command was refused: {error}"))?;
        }
        Ok(())
    }
}
