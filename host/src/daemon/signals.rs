//! SIGTERM and SIGINT: the first one asks the host to end, the second ends the process.

use std::{io, process};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// The handlers; from when they are made on a signal no longer ends the process by itself.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Installs the handlers.
    pub(super) fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Watches for signals: the receiver gets the first one's name, the second ends the process with
    /// 128 and its number.
    pub(super) fn watch(mut self) -> watch::Receiver<Option<&'static str>> {
        let (first, receiver) = watch::channel(None);
        tokio::spawn(async move {
            let (name, _) = self.next().await;
            tracing::info!("{name}: ending after the batch at hand; a second signal ends at once");
            first.send_replace(Some(name));
            let (name, number) = self.next().await;
            eprintln!("rulemill: a second {name}: ended at once");
            process::exit(128 + number);
        });
        receiver
    }

    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", 15),
            _ = self.interrupt.recv() => ("SIGINT", 2),
        }
    }
}
