//! Idempotency keys that are not yet on disk.
//!
//! They lie where the write sets of their requests lie, as rows do: with the batch at hand, young, or settling
//! with the committer. A key is known from the moment at which its request is taken, and is forgotten here only when the
//! commit that holds it is what the engine reads from, so a client that sends a request again never finds a gap.

use std::collections::HashMap;

use crate::{
    change::{Receipt, Seq},
    store::IdempotencyRecord,
};

/// The keys by where they lie.
#[derive(Debug, Default)]
pub(super) struct Requests {
    batch: HashMap<String, IdempotencyRecord>,
    young: HashMap<String, IdempotencyRecord>,
    settling: HashMap<String, IdempotencyRecord>,
}

impl Requests {
    /// The request of the batch at hand with this key. Its seq isn't known yet.
    pub(super) fn of_batch(&self, key: &str) -> Option<&IdempotencyRecord> {
        self.batch.get(key)
    }

    /// The request with this key that an earlier batch has taken.
    pub(super) fn earlier(&self, key: &str) -> Option<&IdempotencyRecord> {
        self.young.get(key).or_else(|| self.settling.get(key))
    }

    /// The batch at hand takes a request.
    pub(super) fn take(&mut self, record: IdempotencyRecord) {
        self.batch.insert(record.key.clone(), record);
    }

    /// Ends the batch, which reaches `seq`, and gives its requests for the store.
    pub(super) fn end_batch(&mut self, seq: Seq) -> Vec<IdempotencyRecord> {
        let mut records: Vec<_> = self.batch.drain().map(|(_, record)| record).collect();
        // A map's order is nobody's.
        records.sort_by(|a, b| a.key.cmp(&b.key));
        for record in &mut records {
            record.seq = seq;
            self.young.insert(record.key.clone(), record.clone());
        }
        records
    }

    /// What has been decided so far goes to the committer.
    pub(super) fn hand_over(&mut self) {
        self.settling = std::mem::take(&mut self.young);
    }

    /// What the committer had is on disk.
    pub(super) fn settled(&mut self) {
        self.settling.clear();
    }
}

/// What is answered to a request that was taken before.
pub(super) fn repeated(record: &IdempotencyRecord) -> Receipt {
    Receipt {
        seq: record.seq,
        changes: record.changes,
        repeated: true,
    }
}
