//! The operator: plugin files, rules that are stopped and go on, parked changes, rebuilds.

use crossbeam_channel::{Receiver, bounded};
use rulemill::{
    engine::{Control, ControlError, PluginEvent, Stepped},
    store::LetterState,
};
use rulemill_wire::{ColumnType, Reader, Value, key};

use crate::{
    compare,
    model::{Event, Place},
    plugins,
};

use super::{End, World};

impl World {
    /// The operator says something, and the entry with it.
    pub(crate) fn command(&mut self, event: Event) -> Result<(), End> {
        self.note(format_args!("{event:?}"));
        self.count(kind_of(&event));
        let (reply, receiver) = bounded(1);
        let command = match &event {
            Event::Load(name, version) => {
                self.directory.insert(name, *version);
                Control::Plugin(plugins::loaded(name, *version))
            }
            Event::Remove(name) => {
                self.directory.remove(name);
                let name = (*name).to_owned();
                Control::Plugin(PluginEvent::Removed { name })
            }
            Event::Pause(rule) => Control::Pause {
                rule: (*rule).to_owned(),
                reply,
            },
            Event::Resume(rule) | Event::Skip(rule) => Control::Resume {
                skip_gap: matches!(event, Event::Skip(_)),
                rule: (*rule).to_owned(),
                reply,
            },
            Event::Retry(rule) => return self.retry(event.clone(), rule.map(str::to_owned), None),
            Event::Drop(rule) => {
                self.has_dropped = true;
                let (reply, _) = bounded(1);
                Control::DropDeadLetters {
                    rule: rule.map(str::to_owned),
                    id: None,
                    reply,
                }
            }
            Event::Rebuild(name) | Event::Cancel(name) => {
                return self.rebuild(name, matches!(event, Event::Cancel(_)));
            }
            Event::Tick { .. } => {
                self.step(Stepped::tick)?;
                return self.accept(event, Vec::new());
            }
            other => return Err(End::Wrong(format!("this is no command: {other:?}"))),
        };
        let is_answered = matches!(event, Event::Pause(_) | Event::Resume(_) | Event::Skip(_));
        self.step(|engine| engine.command(command))?;
        self.look()?;
        self.accept(event, Vec::new())?;
        if is_answered {
            self.replies.push((self.history.len(), receiver));
        }
        Ok(())
    }

    /// A rebuild begins or is given up, or is refused since it is under way or isn't.
    fn rebuild(&mut self, name: &'static str, cancel: bool) -> Result<(), End> {
        let (reply, answer) = bounded(1);
        let command = Control::Rebuild {
            plugin: name.to_owned(),
            cancel,
            reply,
        };
        self.step(|engine| engine.command(command))?;
        self.look()?;
        if self.settings.is_loose {
            return Ok(());
        }
        if self.model().is_rebuilding(name) != cancel {
            return match answer.try_recv() {
                Ok(Err(ControlError::Conflict(_))) => Ok(()),
                other => Err(End::Wrong(format!("a rebuild was answered with {other:?}"))),
            };
        }
        let event = match cancel {
            true => Event::Cancel(name),
            false => Event::Rebuild(name),
        };
        self.accept(event, Vec::new())?;
        self.settle_all()?;
        self.answered_well(&answer)
    }

    /// A plugin comes that must be refused.
    pub(crate) fn refused(&mut self) -> Result<(), End> {
        self.note(format_args!("a plugin that doesn't fit"));
        self.count("a plugin is refused");
        let (reply, answer) = bounded(1);
        let event = PluginEvent::Loaded {
            name: "thief".into(),
            plugin: plugins::compiled("thief", 1),
            last_good: None,
            reply: Some(reply),
        };
        self.step(|engine| engine.command(Control::Plugin(event)))?;
        match answer.try_recv() {
            Ok(Err(_)) => {}
            other => return Err(End::Wrong(format!("the thief was let in: {other:?}"))),
        }
        let event = PluginEvent::Refused {
            name: "shop".into(),
            reason: "no plugin".into(),
            last_good: None,
        };
        self.step(|engine| engine.command(Control::Plugin(event)))
    }

    /// One dead letter is run again or given up, by its number.
    pub(crate) fn one_letter(&mut self, drop: bool) -> Result<(), End> {
        let reader = self.reader()?;
        let letters = self.disk_or_wrong(reader.dead_letters().and_then(Iterator::collect))?;
        let letters: Vec<rulemill::store::DeadLetter> = letters;
        if letters.is_empty() {
            return Ok(());
        }
        let chosen = &letters[self.random.below(letters.len() as u64) as usize];
        let rule = format!("{}.{}", chosen.plugin, chosen.rule);
        let plugin = chosen.plugin.trim_end_matches(":rebuild");
        if !self.directory.contains_key(plugin) {
            return Ok(());
        }
        self.note(format_args!(
            "{} dead letter {} of {rule}",
            if drop { "drop" } else { "retry" },
            chosen.id
        ));
        let id = chosen.id;
        if chosen.state == LetterState::Skipped {
            self.count("a skipped change is asked for by its number");
            return self.skipped_letter(id, drop);
        }
        let parked = compare::parked(&reader).map_err(|what| self.failed_or(what))?;
        let of_key = parked.get(&rule).into_iter().flatten();
        let key_of = |letter| compare::change(letter).map(|change| &change.key);
        let chosen_key = key_of(chosen).map_err(End::Wrong)?;
        let mut of_key = of_key.filter(|letter| key_of(letter) == Ok(chosen_key));
        let nth = of_key
            .position(|letter| letter.id == id)
            .unwrap_or_default();
        let key = match key::read(ColumnType::I64, &mut Reader::new(chosen_key)) {
            Ok(Value::I64(key)) => key,
            other => return Err(End::Wrong(format!("a dead letter of {other:?}"))),
        };
        let place = Place { rule, key, nth };
        self.note(format_args!("it is {place:?}"));
        if !drop {
            self.count("one dead letter is retried");
            return self.retry(Event::RetryOne(place), None, Some(id));
        }
        self.has_dropped = true;
        self.count("one dead letter is dropped");
        let (reply, answer) = bounded(1);
        let command = Control::DropDeadLetters {
            rule: None,
            id: Some(id),
            reply,
        };
        // What only stood behind it runs again.
        self.in_steps(command, Event::DropOne(place), &answer)
    }

    /// One that was passed over is there to be read only.
    fn skipped_letter(&mut self, id: u64, drop: bool) -> Result<(), End> {
        let (reply, answer) = bounded(1);
        if drop {
            let command = Control::DropDeadLetters {
                rule: None,
                id: Some(id),
                reply,
            };
            self.step(|engine| engine.command(command))?;
            self.settle_all()?;
            return self.answered_well(&answer);
        }
        let (reply, answer) = bounded(1);
        let command = Control::RetryDeadLetters {
            rule: None,
            id: Some(id),
            reply,
        };
        self.step(|engine| engine.command(command))?;
        match answer.try_recv() {
            Ok(Err(ControlError::Conflict(_))) => Ok(()),
            other => Err(End::Wrong(format!("a skipped change: {other:?}"))),
        }
    }

    /// Parked changes are run again. That takes steps: what it has come to when they are interrupted isn't known.
    fn retry(&mut self, event: Event, rule: Option<String>, id: Option<u64>) -> Result<(), End> {
        let (reply, answer) = bounded(1);
        let command = Control::RetryDeadLetters { rule, id, reply };
        self.in_steps(command, event, &answer)
    }

    /// A command that goes on in steps, before whatever else is behind.
    fn in_steps<T: std::fmt::Debug>(
        &mut self,
        command: Control,
        event: Event,
        answer: &Receiver<Result<T, ControlError>>,
    ) -> Result<(), End> {
        self.is_retrying = true;
        self.step(|engine| engine.command(command))?;
        if !self.settings.is_loose || self.is_mending {
            self.accept(event, Vec::new())?;
            self.drain()?;
            self.answered_well(answer)?;
        }
        self.is_retrying = false;
        Ok(())
    }

    fn answered_well<T: std::fmt::Debug>(
        &self,
        answer: &Receiver<Result<T, ControlError>>,
    ) -> Result<(), End> {
        match answer.try_recv() {
            Ok(Ok(_)) => Ok(()),
            other => Err(End::Wrong(format!("a command was answered with {other:?}"))),
        }
    }
}

/// What a command is counted as.
fn kind_of(event: &Event) -> &'static str {
    match event {
        Event::Load(..) => "a version comes",
        Event::Remove(_) => "a plugin goes",
        Event::Pause("carts.watch" | "carts.remind") => "a rule for timers is paused",
        Event::Resume("carts.watch" | "carts.remind") => "a rule for timers is resumed",
        Event::Pause(_) => "a rule is paused",
        Event::Resume(_) => "a rule is resumed",
        Event::Skip(_) => "a rule is to skip a gap",
        Event::Retry(_) => "parked changes are retried",
        Event::Drop(_) => "parked changes are dropped",
        Event::Rebuild(_) => "a plugin is to be rebuilt",
        Event::Cancel(_) => "a rebuild is to be given up",
        Event::Tick { .. } => "the clock is looked at",
        _ => "something is seen",
    }
}
