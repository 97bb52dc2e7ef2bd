//! Reading the records beside the rows: positions, rules, timers, parked changes, the log.

use rulemill_wire::{ColumnType, Value};

use crate::change::{BadInput, Change, Position, Seq};

use super::{
    DeadLetter, Error, Gap, IdempotencyRecord, Notification, PluginVersion, Reader, RuleRecord,
    TimerWrite,
    commit::{get_number, log_from, number, text_key},
    log,
    reader::{Entries, range},
    tables::{self, meta},
};

impl Reader {
    /// Where a source has come to, part by part.
    ///
    /// # Errors
    /// If the database fails.
    pub fn positions(&self, source: &str) -> Result<Vec<Position>, Error> {
        let from = text_key(&[source]);
        let mut positions = Vec::new();
        for entry in self.prefixed(tables::POSITIONS, &from)? {
            let (key, value) = entry?;
            let mut reader = rulemill_wire::Reader::new(&key.value()[from.len()..]);
            let Value::Text(part) = rulemill_wire::key::read(ColumnType::Text, &mut reader)? else {
                return Err(Error::Damaged(format!("a position of source {source}")));
            };
            positions.push(Position {
                part,
                bytes: value.value().to_vec(),
            });
        }
        Ok(positions)
    }

    /// Input of a source that could not be taken, with its number, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub fn bad_input(
        &self,
        source: &str,
    ) -> Result<impl Iterator<Item = Result<(u64, BadInput), Error>> + use<>, Error> {
        let from = text_key(&[source]);
        let skip = from.len();
        Ok(self.prefixed(tables::BAD_INPUT, &from)?.map(move |entry| {
            let (key, value) = entry?;
            Ok((
                number(&key.value()[skip..])?,
                postcard::from_bytes(value.value())?,
            ))
        }))
    }

    /// Every rule that the store knows.
    ///
    /// # Errors
    /// If the database fails.
    pub fn rules(&self) -> Result<Vec<RuleRecord>, Error> {
        self.records(tables::RULES, &[])?.collect()
    }

    /// Every plugin version that ever ran, oldest first, without its code.
    ///
    /// # Errors
    /// If the database fails.
    pub fn plugin_versions(&self) -> Result<Vec<PluginVersion>, Error> {
        self.records(tables::PLUGIN_VERSIONS, &[])?.collect()
    }

    /// The bytes of a plugin's file, by their SHA-256.
    ///
    /// # Errors
    /// If the database fails.
    pub fn plugin_code(&self, hash: &[u8; 32]) -> Result<Option<Vec<u8>>, Error> {
        let code = self.open(tables::PLUGIN_CODE)?.get(&hash[..])?;
        Ok(code.map(|code| code.value().to_vec()))
    }

    /// Every timer that is set.
    ///
    /// # Errors
    /// If the database fails.
    pub fn timers(&self) -> Result<impl Iterator<Item = Result<TimerWrite, Error>> + use<>, Error> {
        self.records(tables::TIMERS, &[])
    }

    /// Notifications from this number on.
    ///
    /// # Errors
    /// If the database fails.
    pub fn notifications(
        &self,
        from: u64,
    ) -> Result<impl Iterator<Item = Result<Notification, Error>> + use<>, Error> {
        self.records(tables::OUTBOX, &from.to_be_bytes())
    }

    /// Parked changes, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub fn dead_letters(
        &self,
    ) -> Result<impl Iterator<Item = Result<DeadLetter, Error>> + use<>, Error> {
        self.records(tables::DEAD_LETTERS, &[])
    }

    /// A parked change by its number.
    ///
    /// # Errors
    /// If the database fails.
    pub fn dead_letter(&self, id: u64) -> Result<Option<DeadLetter>, Error> {
        match self
            .open(tables::DEAD_LETTERS)?
            .get(&id.to_be_bytes()[..])?
        {
            None => Ok(None),
            Some(letter) => Ok(Some(postcard::from_bytes(letter.value())?)),
        }
    }

    /// The rows that rules have missed changes of.
    ///
    /// # Errors
    /// If the database fails.
    pub fn gaps(&self) -> Result<impl Iterator<Item = Result<Gap, Error>> + use<>, Error> {
        self.records(tables::GAPS, &[])
    }

    /// The highest number that a parked change ever had.
    ///
    /// # Errors
    /// If the database fails.
    pub fn last_dead_letter(&self) -> Result<u64, Error> {
        get_number(&self.open(tables::META)?, meta::LAST_DEAD_LETTER)
    }

    /// What was answered to a request.
    ///
    /// # Errors
    /// If the database fails.
    pub fn idempotency(&self, key: &str) -> Result<Option<IdempotencyRecord>, Error> {
        match self.open(tables::IDEMPOTENCY)?.get(key.as_bytes())? {
            None => Ok(None),
            Some(record) => Ok(Some(postcard::from_bytes(record.value())?)),
        }
    }

    /// The first seq from which the log holds every change.
    ///
    /// # Errors
    /// If the database fails.
    pub fn log_first_seq(&self) -> Result<Option<Seq>, Error> {
        Ok(Some(log_from(&self.open(tables::META)?)?))
    }

    /// The log's compressed size.
    ///
    /// # Errors
    /// If the database fails.
    pub fn log_bytes(&self) -> Result<u64, Error> {
        get_number(&self.open(tables::META)?, meta::LOG_BYTES)
    }

    /// The logged changes of every write set that ends at `from` or later, in the order of their seqs (those of sources before
    /// those derived from them); the first few may have lower ones.
    ///
    /// # Errors
    /// If the database fails, here or while the iterator runs.
    pub fn log(
        &self,
        from: Seq,
    ) -> Result<impl Iterator<Item = Result<Change, Error>> + use<>, Error> {
        let table = self.open(tables::LOG)?;
        let range = range(Some(&table), &log::block_key(from, 0), None)?;
        let blocks = Entries {
            range,
            descending: false,
        };
        let blocks = blocks.map(|entry| {
            let (key, value) = entry?;
            let set = log::block_last_seq(key.value())?;
            Ok((set, log::read_block(value.value())?))
        });
        let sets = WriteSets {
            blocks: blocks.peekable(),
        };
        Ok(sets.flat_map(|set| {
            let (changes, error) = match set {
                Ok(changes) => (changes, None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            changes.into_iter().map(Ok).chain(error)
        }))
    }

    fn prefixed(&self, table: tables::Bytes<'_>, prefix: &[u8]) -> Result<Entries, Error> {
        let table = self.open(table)?;
        let to = rulemill_wire::key::prefix_end(prefix);
        Ok(Entries {
            range: range(Some(&table), prefix, to.as_deref())?,
            descending: false,
        })
    }

    fn records<T: serde::de::DeserializeOwned>(
        &self,
        table: tables::Bytes<'_>,
        from: &[u8],
    ) -> Result<impl Iterator<Item = Result<T, Error>> + use<T>, Error> {
        let table = self.open(table)?;
        let entries = Entries {
            range: range(Some(&table), from, None)?,
            descending: false,
        };
        Ok(entries.map(|entry| Ok(postcard::from_bytes(entry?.1.value())?)))
    }
}

/// The changes of one write set after the other, each set's in the order of their seqs.
struct WriteSets<I: Iterator<Item = Result<(Seq, Vec<Change>), Error>>> {
    blocks: std::iter::Peekable<I>,
}

impl<I: Iterator<Item = Result<(Seq, Vec<Change>), Error>>> Iterator for WriteSets<I> {
    type Item = Result<Vec<Change>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (set, mut changes) = match self.blocks.next()? {
            Ok(block) => block,
            Err(error) => return Some(Err(error)),
        };
        let of_set = |next: &Result<(Seq, Vec<Change>), Error>| {
            next.as_ref().is_ok_and(|(other, _)| *other == set)
        };
        while let Some(Ok((_, more))) = self.blocks.next_if(of_set) {
            changes.extend(more);
        }
        // Stored are the sources' changes before the derived ones.
        changes.sort_by_key(|change| change.seq);
        Some(Ok(changes))
    }
}
