//! The process or the machine dies, and everybody goes on from what is stored.

use rulemill::store::Store;

use crate::model::Event;

use super::{End, World, place_of};

impl World {
    /// The process or the machine dies, and is started again.
    pub(crate) fn crash(&mut self) -> Result<(), End> {
        self.count("a crash");
        if !self.settings.is_loose && self.model().is_rebuilding_any() {
            self.count("a crash while a plugin is rebuilt");
        }
        let disk_failed = self.disk.has_failed();
        self.disk.kill();
        self.engine = None;
        self.store = None;
        if self.random.one_in(2) {
            self.note(format_args!("the power goes"));
            self.disk.lose_power(&mut self.random);
        } else {
            self.note(format_args!("the process dies"));
        }
        self.disk.mend();
        let (history, position) = self.stored()?;
        // A commit that failed may have come through; and a step may have handed over what was decided before it.
        let may_be = [self.on_its_way, Some(self.history.len())];
        let fits = history == self.settled || (disk_failed && may_be.contains(&Some(history)));
        if !fits {
            return Err(End::Wrong(format!(
                "the store holds {history} entries of the history; {} were settled, on its way were {:?}",
                self.settled, self.on_its_way
            )));
        }
        let is_of_source =
            |event: &&Event| matches!(event, Event::Transaction { request: None, .. });
        let handed_over = self.history[..history].iter().filter(is_of_source).count();
        if position != handed_over {
            return Err(End::Wrong(format!(
                "the store has the source at transaction {position}, and holds {handed_over} of it"
            )));
        }
        self.rewind(history, position);
        if self.random.one_in(6) {
            let operations = self.random.below(80);
            self.disk.fail_after(operations);
        }
        self.start()
    }

    /// The stored positions of the history and of the source.
    fn stored(&mut self) -> Result<(usize, usize), End> {
        let wrong = |error: rulemill::store::Error| End::Wrong(format!("after a crash: {error}"));
        let store = Store::with_backend(self.disk.clone(), &self.settings.limits).map_err(wrong)?;
        let reader = store.reader().map_err(wrong)?;
        let place = |source: &str| {
            let stored = reader.positions(source).map_err(wrong)?;
            stored.first().map_or(Ok(0), place_of)
        };
        Ok((place("history")?, place("source")?))
    }

    /// Everybody goes on from what is stored.
    fn rewind(&mut self, history: usize, position: usize) {
        self.undone = self.history.split_off(history);
        if history < self.model_events {
            self.model = self.checked.clone();
            self.model_events = self.checked_events;
        }
        self.settled = history;
        self.on_its_way = None;
        self.position = position;
        self.taken.retain(|_, (entry, _)| *entry <= history);
        for waiting in std::mem::take(&mut self.waiting) {
            self.unanswered.extend(waiting.request);
        }
        self.replies.clear();
        self.answers.lock().expect("nobody panics with it").clear();
        // How far a retry came isn't known.
        self.settings.is_loose |= std::mem::take(&mut self.is_retrying);
        if !self.settings.is_loose {
            // What a rule that is behind has handled with which version must be known.
            self.directory = self.model().directory();
        }
    }
}
