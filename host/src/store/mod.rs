//! The store: everything that must survive, in one redb database.
//!
//! Owns the database file, its tables and their byte formats. The committer writes it, a whole group
//! of [`WriteSet`]s in one transaction; everyone else reads snapshots. It never decides what to
//! write. When a write fails the transaction is gone as if it had never begun.
//!
//! Nothing outside this module names redb.

mod write_set;

use crate::{
    catalog::{Catalog, Table},
    change::{BadInput, Change, Key, Position, Seq},
    row::Row,
};
/// x
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct Error;
/// The open store.
pub struct Store {}
impl Store {
    pub fn reader(&self) -> Result<Reader, Error> {
        todo!()
    }
    pub fn commit(&self, group: Vec<WriteSet>) -> Result<(), Error> {
        todo!()
    }
}
pub struct Reader {}
pub struct StoredRow {
    pub row: Row,
    pub seq: Seq,
    pub version: u32,
}
impl Reader {
    pub fn catalog(&self) -> Result<Catalog, Error> {
        todo!()
    }
    pub fn last_seq(&self) -> Seq {
        todo!()
    }
    pub fn watermark(&self) -> i64 {
        todo!()
    }
    pub fn last_dead_letter(&self) -> Result<u64, Error> {
        todo!()
    }
    pub fn row(&self, t: &Table, key: &[u8]) -> Result<Option<StoredRow>, Error> {
        todo!()
    }
    pub fn rows(
        &self,
        t: &Table,
        from: &[u8],
        to: Option<&[u8]>,
        d: bool,
    ) -> Result<std::vec::IntoIter<Result<(Key, StoredRow), Error>>, Error> {
        todo!()
    }
    pub fn index_rows(
        &self,
        t: &Table,
        i: usize,
        from: &[u8],
        to: Option<&[u8]>,
        d: bool,
    ) -> Result<std::vec::IntoIter<Result<(Vec<u8>, Key, StoredRow), Error>>, Error> {
        todo!()
    }
    pub fn plugin_versions(&self) -> Result<Vec<PluginVersion>, Error> {
        todo!()
    }
    pub fn rules(&self) -> Result<Vec<RuleRecord>, Error> {
        todo!()
    }
    pub fn dead_letters(&self) -> Result<std::vec::IntoIter<Result<DeadLetter, Error>>, Error> {
        todo!()
    }
    pub fn timers(&self) -> Result<std::vec::IntoIter<Result<TimerWrite, Error>>, Error> {
        todo!()
    }
    pub fn log_first_seq(&self) -> Result<Option<Seq>, Error> {
        todo!()
    }
    pub fn log(&self, from: Seq) -> Result<std::vec::IntoIter<Result<Change, Error>>, Error> {
        todo!()
    }
    pub fn idempotency(&self, key: &str) -> Result<Option<IdempotencyRecord>, Error> {
        todo!()
    }
}

pub use write_set::{
    DeadLetter, IdempotencyRecord, Notification, PluginVersion, RowWrite, RuleRecord, RuleStatus,
    TableWrites, TimerWrite, WriteSet,
};
