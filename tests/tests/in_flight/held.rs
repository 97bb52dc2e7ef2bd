//! Batches whose commit is held, and waiting for those that aren't.

use crossbeam_channel::{Receiver, Sender, bounded};
use rulemill::change::{Idempotency, Receipt, Refused};
use rulemill_tests::rig::{Rig, TestChange};

/// A batch that was handed in.
pub(crate) struct Submitted(Receiver<Result<Receipt, Refused>>);

impl Submitted {
    /// Waits until it is durable.
    pub(crate) fn wait(&self) -> Result<Receipt, Refused> {
        self.0.recv().unwrap()
    }
}

/// A commit that is being held: its rows are with the committer, and for the engine they are not on disk.
pub(crate) struct Held {
    batch: Submitted,
    open: Sender<()>,
}

impl Held {
    /// Lets the commit end, and waits until it has.
    pub(crate) fn release(self) {
        drop(self.open);
        self.batch.wait().unwrap();
    }
}

/// Hands in a batch.
pub(crate) fn submit(
    rig: &Rig,
    changes: &[TestChange<'_>],
    idempotency: Option<Idempotency>,
) -> Submitted {
    let (sender, receiver) = bounded(1);
    let mut batch = rig.batch(changes).unwrap();
    batch.idempotency = idempotency;
    batch.done = Some(Box::new(move |result| sender.send(result).unwrap()));
    rig.handle.submit(batch).unwrap();
    Submitted(receiver)
}

/// Hands in a batch and keeps the committer at it: the engine goes on, and has it settling.
pub(crate) fn hold(rig: &Rig, changes: &[TestChange<'_>]) -> Held {
    let (open, opened) = bounded::<()>(0);
    let (sender, receiver) = bounded(1);
    let mut batch = rig.batch(changes).unwrap();
    batch.done = Some(Box::new(move |result| {
        // Closed, which is the sign.
        let _ = opened.recv();
        sender.send(result).unwrap();
    }));
    rig.handle.submit(batch).unwrap();
    Held {
        batch: Submitted(receiver),
        open,
    }
}

/// Waits until the engine reads what this batch has brought from the store.
pub(crate) fn wait_until_committed(rig: &Rig, batch: &Submitted) {
    let seq = batch.wait().unwrap().seq.0;
    rig.wait_for(|status| status.durable_seq >= seq);
}
