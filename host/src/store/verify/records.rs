//! The records beside the rows: each under its own key, and naming only what is there.

use rulemill_wire::{ColumnType, Reader, Value, key};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::{catalog::TableId, change::BadInput};

use super::{
    super::{
        DeadLetter, Gap, IdempotencyRecord, Notification, PluginVersion, RuleRecord, Subject,
        TimerWrite,
        commit::{age_key, text_key},
    },
    Check, Error, hex,
    rows::whole,
    shown,
    tables::{self, Bytes},
};

/// A record, and nothing behind it.
fn record<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(value) {
        Ok((record, [])) => Ok(record),
        Ok((_, rest)) => Err(format!("{} bytes stand behind its record", rest.len())),
        Err(error) => Err(format!("its record can't be read: {error}")),
    }
}

/// Texts in key form, to the end.
fn texts(key: &[u8]) -> Option<Vec<String>> {
    let mut reader = Reader::new(key);
    let mut texts = Vec::new();
    while !reader.is_empty() {
        match key::read(ColumnType::Text, &mut reader) {
            Ok(Value::Text(text)) => texts.push(text),
            _ => return None,
        }
    }
    Some(texts)
}

fn shown_texts(key: &[u8]) -> String {
    texts(key).map_or_else(|| hex(key), |texts| texts.join(" "))
}

fn number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

fn shown_number(key: &[u8]) -> String {
    number(key).map_or_else(|| hex(key), |number| number.to_string())
}

impl Check<'_> {
    pub(super) fn records(&mut self) -> Result<(), Error> {
        self.plugin_versions()?;
        self.plugin_code()?;
        self.rules()?;
        self.positions()?;
        self.bad_input()?;
        self.timers()?;
        self.outbox()?;
        self.dead_letters()?;
        self.gaps()?;
        self.requests()
    }

    /// Walks a table of records, and reports what `problems` finds in each under the name that `name` gives its key.
    fn walk_records<T: DeserializeOwned>(
        &mut self,
        table: Bytes<'_>,
        name: fn(&[u8]) -> String,
        mut problems: impl FnMut(&mut Self, &[u8], T) -> Vec<String>,
    ) -> Result<(), Error> {
        use redb::TableHandle;
        let called = table.name().to_owned();
        self.walk(&called, &called, false, |check, key, value| {
            check.counts.records += 1;
            let problems = match record(value) {
                Ok(record) => problems(check, key, record),
                Err(problem) => vec![problem],
            };
            for problem in problems {
                check.report(&called, Some(name(key)), problem);
            }
            Ok(())
        })
    }

    fn plugin_versions(&mut self) -> Result<(), Error> {
        let code = self.open("plugin_code").unwrap_or_default();
        let name: fn(&[u8]) -> String = |key| match <[u8; 4]>::try_from(key) {
            Ok(bytes) => u32::from_be_bytes(bytes).to_string(),
            Err(_) => hex(key),
        };
        self.walk_records(
            tables::PLUGIN_VERSIONS,
            name,
            |check, key, version: PluginVersion| {
                let mut problems = Vec::new();
                if key != version.id.to_be_bytes() {
                    problems.push(format!("its record says that it is version {}", version.id));
                }
                // A version may begin with the change that comes next.
                if version.from_seq > check.head.last_seq.next() {
                    problems.push(format!(
                        "it begins with change {}, and the last is {}",
                        version.from_seq, check.head.last_seq
                    ));
                }
                let has_code = code.as_ref().map(|code| code.get(&version.hash[..]));
                if !matches!(has_code, Some(Ok(Some(_)))) {
                    problems.push(format!("its code {} isn't there", hex(&version.hash)));
                }
                check.versions.insert(version.id, version);
                problems
            },
        )
    }

    fn plugin_code(&mut self) -> Result<(), Error> {
        self.walk("plugin_code", "plugin_code", false, |check, key, code| {
            check.counts.records += 1;
            if Sha256::digest(code)[..] != *key {
                check.report(
                    "plugin_code",
                    Some(hex(key)),
                    "its code has another SHA-256",
                );
            } else if !check.versions.values().any(|version| version.hash == *key) {
                check.report(
                    "plugin_code",
                    Some(hex(key)),
                    "no plugin version has this code",
                );
            }
            Ok(())
        })
    }

    fn rules(&mut self) -> Result<(), Error> {
        self.walk_records(
            tables::RULES,
            shown_texts,
            |check, key, rule: RuleRecord| {
                let mut problems = Vec::new();
                if key != text_key(&[&rule.plugin, &rule.rule]) {
                    problems.push(format!(
                        "its record is of rule {}.{}",
                        rule.plugin, rule.rule
                    ));
                }
                if rule.cursor > check.head.last_seq {
                    problems.push(format!(
                        "it stands at change {}, and the last is {}",
                        rule.cursor, check.head.last_seq
                    ));
                }
                match check.versions.get(&rule.version) {
                    None => problems.push(format!("there is no plugin version {}", rule.version)),
                    Some(version) if version.plugin != rule.plugin => problems.push(format!(
                        "it ran with version {}, which is one of plugin {}",
                        rule.version, version.plugin
                    )),
                    Some(_) => {}
                }
                check.rules.insert((rule.plugin, rule.rule));
                problems
            },
        )
    }

    fn positions(&mut self) -> Result<(), Error> {
        self.walk("positions", "positions", false, |check, key, _| {
            check.counts.records += 1;
            if texts(key).is_none_or(|texts| texts.len() != 2) {
                let problem = "its key is no source and part";
                check.report("positions", Some(hex(key)), problem);
            }
            Ok(())
        })
    }

    fn bad_input(&mut self) -> Result<(), Error> {
        let name: fn(&[u8]) -> String = |key| {
            let (source, number) = key.split_at(key.len().saturating_sub(8));
            format!("{} {}", shown_texts(source), shown_number(number))
        };
        let mut before: Option<(Vec<u8>, u64)> = None;
        self.walk_records(tables::BAD_INPUT, name, |_, key, _: BadInput| {
            let (source, own) = key.split_at(key.len().saturating_sub(8));
            let Some(own) = number(own).filter(|_| texts(source).is_some_and(|t| t.len() == 1))
            else {
                return vec!["its key is no source and number".into()];
            };
            let last = before.replace((source.to_vec(), own));
            match last {
                Some((of, last)) if of == source && last + 1 != own => {
                    vec![format!("the one before it is number {last}")]
                }
                _ => Vec::new(),
            }
        })
    }

    fn rule_problem(&self, plugin: &str, rule: &str) -> Option<String> {
        let known = self.rules.contains(&(plugin.to_owned(), rule.to_owned()));
        (!known).then(|| format!("there is no rule {plugin}.{rule}"))
    }

    fn timers(&mut self) -> Result<(), Error> {
        self.walk_records(
            tables::TIMERS,
            shown_texts,
            |check, key, timer: TimerWrite| {
                let mut problems = Vec::new();
                if key != text_key(&[&timer.plugin, &timer.rule, &timer.key]) {
                    problems.push("its record is of another timer".into());
                }
                if timer.due.is_none() {
                    problems.push("it is due never".into());
                }
                problems.extend(check.rule_problem(&timer.plugin, &timer.rule));
                problems
            },
        )
    }

    fn outbox(&mut self) -> Result<(), Error> {
        self.walk_records(
            tables::OUTBOX,
            shown_number,
            |check, key, sent: Notification| {
                let mut problems = Vec::new();
                if key != sent.id.to_be_bytes() {
                    problems.push(format!("its record has number {}", sent.id));
                }
                if sent.id > check.head.last_notification {
                    let last = check.head.last_notification;
                    problems.push(format!("the last number given is {last}"));
                }
                if sent.seq > check.head.last_seq {
                    let last = check.head.last_seq;
                    problems.push(format!(
                        "it is about change {}, and the last is {last}",
                        sent.seq
                    ));
                }
                // The rule may have gone with a rebuild; its plugin has been there.
                if !check
                    .versions
                    .values()
                    .any(|known| known.plugin == sent.plugin)
                {
                    problems.extend(check.rule_problem(&sent.plugin, &sent.rule));
                }
                problems
            },
        )
    }

    fn dead_letters(&mut self) -> Result<(), Error> {
        self.walk_records(
            tables::DEAD_LETTERS,
            shown_number,
            |check, key, letter: DeadLetter| {
                let mut problems = Vec::new();
                if key != letter.id.to_be_bytes() {
                    problems.push(format!("its record has number {}", letter.id));
                }
                if letter.id > check.head.last_dead_letter {
                    let last = check.head.last_dead_letter;
                    problems.push(format!("the last number given is {last}"));
                }
                if letter.cause > letter.seq {
                    problems.push(format!(
                        "change {} comes before its cause, {}",
                        letter.seq, letter.cause
                    ));
                }
                if letter.seq > check.head.last_seq {
                    let last = check.head.last_seq;
                    problems.push(format!(
                        "it is change {}, and the last is {last}",
                        letter.seq
                    ));
                }
                problems.extend(check.rule_problem(&letter.plugin, &letter.rule));
                if !check.versions.contains_key(&letter.version) {
                    problems.push(format!("there is no plugin version {}", letter.version));
                }
                problems.extend(check.letter_rows(&letter));
                problems
            },
        )
    }

    /// The rows of a change; a timer's letter names none.
    fn letter_rows(&self, letter: &DeadLetter) -> Option<String> {
        let Subject::Change(change) = &letter.subject else {
            return None;
        };
        let TableId(id) = change.table;
        let Some(table) = self.table(change.table) else {
            return Some(format!("there is no table {id}"));
        };
        let mut rows = change.before.iter().chain(&change.after);
        rows.find_map(|row| whole(&table, row)).map(|problem| {
            let key = shown(&table, &change.key).unwrap_or_default();
            format!("table {}, key {key}: {problem}", table.name)
        })
    }

    fn gaps(&mut self) -> Result<(), Error> {
        let name: fn(&[u8]) -> String = hex;
        self.walk_records(tables::GAPS, name, |check, key, gap: Gap| {
            let mut problems = Vec::new();
            if key != [&text_key(&[&gap.plugin, &gap.rule])[..], &gap.key].concat() {
                problems.push("its record is of another row".into());
            }
            if gap.seen.is_none() {
                problems.push("it is none".into());
            }
            problems.extend(check.rule_problem(&gap.plugin, &gap.rule));
            problems
        })
    }

    /// Idempotency keys, and the list of them by age.
    fn requests(&mut self) -> Result<(), Error> {
        let name: fn(&[u8]) -> String = |key| String::from_utf8_lossy(key).into_owned();
        let by_age = self.open("idempotency_by_age").unwrap_or_default();
        self.walk_records(
            tables::IDEMPOTENCY,
            name,
            |check, key, request: IdempotencyRecord| {
                let mut problems = Vec::new();
                if key != request.key.as_bytes() {
                    problems.push(format!("its record is of request {}", request.key));
                }
                if request.seq > check.head.last_seq {
                    let last = check.head.last_seq;
                    problems.push(format!(
                        "it was answered {}, and the last is {last}",
                        request.seq
                    ));
                }
                let entry = age_key(request.taken_at, key);
                let listed = by_age.as_ref().map(|list| list.get(&entry[..]));
                if !matches!(listed, Some(Ok(Some(_)))) {
                    problems.push("it isn't listed by age, so it would never be forgotten".into());
                }
                problems
            },
        )?;
        let requests = self.open("idempotency").unwrap_or_default();
        let called = "idempotency_by_age";
        self.walk(called, called, false, |check, entry, _| {
            let mut reader = Reader::new(entry);
            let Ok(Value::I64(taken_at)) = key::read(ColumnType::I64, &mut reader) else {
                check.report(called, Some(hex(entry)), "its key is no time and request");
                return Ok(());
            };
            let key = reader.rest();
            let found = match requests.as_ref().map(|requests| requests.get(key)) {
                Some(Ok(found)) => found.map(|found| found.value().to_vec()),
                Some(Err(error)) => return check.unreadable("idempotency", error.into()),
                None => None,
            };
            let problem = match found.as_deref().map(record::<IdempotencyRecord>) {
                // A key may have been taken again since; the entry goes when it is old.
                Some(Ok(request)) if request.taken_at >= taken_at => return Ok(()),
                // That it can't be read has been said.
                Some(Err(_)) => return Ok(()),
                Some(Ok(request)) => format!("the request was taken at {}", request.taken_at),
                None => "there is no such request".into(),
            };
            let name = format!("{taken_at} {}", String::from_utf8_lossy(key));
            check.report(called, Some(name), problem);
            Ok(())
        })
    }
}
