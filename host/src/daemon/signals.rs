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

    /// Watches for signals: the first one is told, the second ends the process with 128 and its
    /// number.
    pub(super) fn watch(mut self) -> FirstSignal {
        let (first, receiver) = watch::channel(None);
        tokio::spawn(async move {
            let (name, _) = self.next().await;
            tracing::info!("{name}: ending after the batch at hand; a second signal ends at once");
            first.send_replace(Some(name));
            let (name, number) = self.next().await;
            tracing::warn!("a second signal, {name}: ended at once");
            process::exit(128 + number);
        });
        FirstSignal(receiver)
    }

    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", 15),
            _ = self.interrupt.recv() => ("SIGINT", 2),
        }
    }
}

/// Where the first signal is told.
#[derive(Debug)]
pub(super) struct FirstSignal(watch::Receiver<Option<&'static str>>);

impl FirstSignal {
    /// Resolves with the first signal's name, also if it has come already.
    pub(super) async fn first(&mut self) -> &'static str {
        match self.0.wait_for(Option::is_some).await {
            Ok(name) => name.unwrap_or("a signal"),
            // The watcher ends with the runtime alone, and this with it.
            Err(_) => std::future::pending().await,
        }
    }
}
