//! What a person asks of the engine: rules paused and resumed, parked changes, rebuilds. Each is answered once it is on disk.

use crossbeam_channel::Sender;

use crate::{
    change::{Done, Receipt},
    store::{Gap, RuleStatus, WriteSet},
};

use super::{
    Control, ControlError, Engine, Fatal, Turned, dead_letters::Retry, rebuild, state::Window,
    status::status_of,
};

impl Engine {
    pub(super) fn command(&mut self, command: Control) -> Result<(), Fatal> {
        match command {
            Control::Plugin(event) => self.plugin_event(event)?,
            Control::Pause { rule, reply } => {
                let result = self.find_rule(&rule).map(|(place, name)| {
                    let changed = self.states[place].record.status == RuleStatus::Running;
                    if changed {
                        self.stop_rule(place, RuleStatus::Paused);
                        self.finish(WriteSet::default(), 0);
                    }
                    self.turned(place, name, changed)
                });
                self.answer(reply, result);
            }
            Control::Resume {
                rule,
                skip_gap,
                reply,
            } => {
                let result = self.find_rule(&rule).and_then(|(place, name)| {
                    let changed = self.resume_rule(place, skip_gap)?;
                    Ok(self.turned(place, name, changed))
                });
                self.answer(reply, result);
            }
            Control::RetryDeadLetters { rule, id, reply } => {
                match self
                    .chosen_rule(rule)
                    .and_then(|rule| self.begin_retry(rule, id))
                {
                    Ok(keys) => self.retries.push_back(Retry::new(keys, reply)),
                    Err(error) => self.answer(reply, Err(error)),
                }
            }
            Control::DropDeadLetters { rule, id, reply } => {
                let result = match self.chosen_rule(rule) {
                    Ok(rule) => self.drop_dead_letters(rule, id)?,
                    Err(error) => Err(error),
                };
                self.answer(reply, result);
            }
            Control::Rebuild {
                plugin,
                cancel,
                reply,
            } => {
                let result = match cancel {
                    false => self.begin_rebuild(&plugin),
                    true if self.cancel_rebuild(&plugin)? => Ok(()),
                    true => Err(ControlError::Conflict(format!(
                        "plugin {plugin} is not being rebuilt"
                    ))),
                };
                self.answer(reply, result);
            }
            Control::Shutdown => {}
        }
        self.post_status();
        Ok(())
    }

    /// Answers a command once all that was decided up to here is on disk.
    pub(super) fn answer<T: Send + 'static>(
        &mut self,
        reply: Sender<Result<T, ControlError>>,
        result: Result<T, ControlError>,
    ) {
        if result.is_ok() && self.pending.is_empty() && self.committing {
            self.finish(WriteSet::default(), 0);
        }
        // Whoever asked may have gone.
        match self.pending.last_mut() {
            Some(last) if result.is_ok() => {
                let done: Done = Box::new(move |durable| {
                    let _ = reply.send(durable.map_err(|_| ControlError::Stopped).and(result));
                });
                let receipt = Receipt {
                    seq: self.last_seq,
                    changes: 0,
                    repeated: false,
                };
                last.done.push((done, receipt));
            }
            _ => drop(reply.send(result)),
        }
    }

    fn chosen_rule(&self, rule: Option<String>) -> Result<Option<usize>, ControlError> {
        rule.map(|rule| self.find_rule(&rule).map(|(place, _)| place))
            .transpose()
    }

    /// A rule by its full name, or by its own where that is unique. A plugin that is being rebuilt has each rule twice: the
    /// short name is that of the one that serves.
    fn find_rule(&self, name: &str) -> Result<(usize, String), ControlError> {
        if let Some(&place) = self.state_places.get(name) {
            return Ok((place, name.to_owned()));
        }
        let found: Vec<usize> = (0..self.states.len())
            .filter(|&place| {
                let record = &self.states[place].record;
                record.rule == name && !rebuild::is_shadow(&record.plugin)
            })
            .collect();
        match found[..] {
            [] => Err(ControlError::NoSuchRule(name.to_owned())),
            [place] => Ok((
                place,
                format!("{}.{name}", self.states[place].record.plugin),
            )),
            _ => Err(ControlError::Ambiguous(found.len(), name.to_owned())),
        }
    }

    /// Stops a rule where it stands.
    pub(super) fn stop_rule(&mut self, place: usize, status: RuleStatus) {
        let state = &mut self.states[place];
        if state.record.at_head {
            state.record.cursor = self.last_seq;
            state.record.cursor_changes = 0;
            state.record.cursor_watermark = self.watermark;
            state.record.at_head = false;
        }
        state.record.status = status;
        state.dirty = true;
        self.schedule_dirty = true;
    }

    fn turned(&self, place: usize, rule: String, changed: bool) -> Turned {
        Turned {
            rule,
            changed,
            status: status_of(&self.states[place].record),
        }
    }

    /// Lets a rule go on. False if it runs already.
    fn resume_rule(&mut self, place: usize, skip_gap: bool) -> Result<bool, ControlError> {
        let since = self.input_since(place);
        let log_start = self.log_start().max(since);
        let name = self.states[place].full_name();
        let mut rules = self.plugins.iter().flat_map(|plugin| &plugin.rules);
        let is_loaded = rules.any(|rule| *rule.full_name == *name);
        let state = &mut self.states[place];
        match state.record.status {
            RuleStatus::Running => return Ok(false),
            _ if !is_loaded => {
                return Err(ControlError::Conflict(format!(
                    "rule {}.{} can't go on: its plugin's file is gone",
                    state.record.plugin, state.record.rule
                )));
            }
            RuleStatus::Unloaded
            | RuleStatus::Paused
            | RuleStatus::Halted(_)
            | RuleStatus::Tripped(_) => {}
        }
        state.record.status = RuleStatus::Running;
        state.window = Window::default();
        state.sets_until = None;
        let mut write_set = WriteSet::default();
        if skip_gap && !state.record.at_head && state.record.cursor < log_start {
            tracing::warn!(
                rule = state.full_name(),
                from = state.record.cursor.0,
                to = log_start.0,
                "skips what the log no longer holds"
            );
            if state.record.cursor < since {
                // What it knows is of a table that is no longer there.
                state.record.backfill = None;
                state.record.replaced = None;
                for key in std::mem::take(&mut state.gaps).into_keys() {
                    write_set.gaps.push(Gap {
                        plugin: state.record.plugin.clone(),
                        rule: state.record.rule.clone(),
                        key: key.to_vec(),
                        seen: None,
                    });
                }
            }
            state.record.cursor = log_start;
            state.record.cursor_changes = 0;
        }
        state.dirty = true;
        self.schedule_dirty = true;
        self.finish(write_set, 0);
        Ok(true)
    }
}
