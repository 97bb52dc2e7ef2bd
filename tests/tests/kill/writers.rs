//! Those who send changes, and go on as if nothing had happened when the daemon dies.

use std::{
    io::Read,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rulemill_tests::{daemon::Daemon, random::Random, site::Site};

use crate::shop::{Change, Customers};

/// Between two writes, so that a backlog doesn't grow without end.
const PACE: Duration = Duration::from_millis(1);

/// Appends lines to a file, and now and then begins another one. Half a line may stand there for a while.
pub(crate) struct FileWriter {
    customers: Customers,
    random: Random,
    file: u64,
    /// What is left of a line that stands there by half.
    rest: String,
    pub(crate) sent: Vec<Change>,
}

impl FileWriter {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            customers: Customers::new(seed, 2, 0),
            random: Random::new(seed + 7),
            file: 0,
            rest: String::new(),
            sent: Vec::new(),
        }
    }

    pub(crate) fn write(&mut self, site: &Site, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            self.finish(site);
            // The order between files is that of their names, whatever was there first; so a file that is begun
            // is the last one, and the ones before it no longer grow.
            if self.random.one_in(200) {
                self.file += 1;
            }
            let changes = self.customers.changes();
            let text: String = changes.iter().map(Change::line).collect();
            let cut = match self.random.one_in(3) {
                true => self.random.below(text.len() as u64) as usize,
                false => text.len(),
            };
            site.append(&self.path(), &text[..cut]).unwrap();
            text[cut..].clone_into(&mut self.rest);
            self.sent.extend(changes);
            thread::sleep(PACE);
        }
    }

    fn path(&self) -> String {
        format!("inbox/shop.{:05}.jsonl", self.file)
    }

    /// Appends what is left of a line.
    pub(crate) fn finish(&mut self, site: &Site) {
        if !self.rest.is_empty() {
            site.append(&self.path(), &self.rest).unwrap();
            self.rest.clear();
        }
    }
}

/// A request that isn't answered yet.
struct Request {
    key: String,
    changes: Vec<Change>,
}

/// Posts changes, each request until it is answered.
pub(crate) struct HttpWriter {
    customers: Customers,
    /// When to send twice.
    impatience: Random,
    requests: u64,
    open: Option<Request>,
    pub(crate) sent: Vec<Change>,
    /// The last seq of the last answer.
    pub(crate) answered_seq: u64,
    /// Requests that had been taken when they were sent again.
    pub(crate) repeated: u64,
}

impl HttpWriter {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            customers: Customers::new(seed, 2, 1),
            impatience: Random::new(seed + 11),
            requests: 0,
            open: None,
            sent: Vec::new(),
            answered_seq: 0,
            repeated: 0,
        }
    }

    pub(crate) fn write(&mut self, daemon: &Daemon, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            if self.open.is_none() {
                self.requests += 1;
                self.open = Some(Request {
                    key: format!("request-{}", self.requests),
                    changes: self.customers.changes(),
                });
            }
            if !self.send(daemon) {
                return;
            }
        }
    }

    /// Sends the open request; false if there was no answer.
    fn send(&mut self, daemon: &Daemon) -> bool {
        let Some(request) = &self.open else {
            return true;
        };
        let body: String = request.changes.iter().map(Change::line).collect();
        // Some requests are sent twice: while the first is under way, or after its answer got lost.
        let mut first = None;
        if self.impatience.one_in(8) {
            let Ok(connection) = daemon.post_unread(&request.key, &body) else {
                return false;
            };
            first = Some(connection);
        }
        if self.impatience.one_in(2)
            && let Some(mut connection) = first.take()
            && !matches!(connection.read(&mut [0; 1]), Ok(1))
        {
            return false;
        }
        let Ok((status, answer)) = daemon.post(Some(&request.key), body) else {
            return false;
        };
        assert_eq!(status, 200, "{answer}");
        self.answered_seq = answer["seq"].as_u64().unwrap();
        self.repeated += u64::from(answer["repeated"] == true);
        self.sent.extend(&request.changes);
        self.open = None;
        true
    }

    /// Gets the last request answered.
    pub(crate) fn finish(&mut self, daemon: &Daemon) {
        assert!(
            self.send(daemon),
            "no answer from a daemon that nobody killed"
        );
    }
}
