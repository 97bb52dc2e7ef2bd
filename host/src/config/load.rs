//! Reading the file, and finding the place of what is wrong with it.

use std::{ops::Range, path::Path};

use toml::de::{DeTable, DeValue};

use super::{Config, Error, raw};

impl Config {
    /// Reads and checks a configuration file. Relative paths in it are relative to the file.
    ///
    /// # Errors
    /// If the file can't be read or says something that makes no sense: where, and what was expected.
    pub fn load(file: impl AsRef<Path>) -> Result<Self, Error> {
        let file = file.as_ref();
        let text = std::fs::read_to_string(file).map_err(|error| Error::Read {
            file: file.to_owned(),
            error,
        })?;
        Self::parse(file, &text)
    }

    /// Checks a configuration's text, which was read from `file`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(file: &Path, text: &str) -> Result<Self, Error> {
        let document = Document::new(file, text);
        let deserializer = toml::Deserializer::parse(text)
            .map_err(|error| document.error(String::new(), error.span(), error.message().into()))?;
        let raw: raw::Config = serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let path = error.path().to_string();
            let path = if path == "." { String::new() } else { path };
            let inner = error.into_inner();
            document.error(path, inner.span(), explain(inner.message()))
        })?;
        document.check(raw)
    }
}

/// A configuration's text, and the file that it is from.
pub(super) struct Document<'a> {
    pub(super) file: &'a Path,
    text: &'a str,
}

impl<'a> Document<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text }
    }

    /// An error at a key, found again in the text.
    pub(super) fn at(&self, key: &str, message: String) -> Error {
        let span = DeTable::parse(self.text)
            .ok()
            .and_then(|root| find(root.into_inner(), key));
        self.error(key.into(), span, message)
    }

    fn error(&self, key: String, span: Option<Range<usize>>, message: String) -> Error {
        let span = span.unwrap_or(0..0);
        let start = self.text.floor_char_boundary(span.start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let text = self.text[line_start..].lines().next().unwrap_or_default();
        let column = self.text[line_start..start].chars().count() + 1;
        let end = self
            .text
            .floor_char_boundary(span.end.min(line_start + text.len()));
        Error::Invalid {
            file: self.file.to_owned(),
            line: self.text[..line_start].matches('\n').count() + 1,
            column,
            marked: self.text.get(start..end).map_or(1, |s| s.chars().count()),
            text: text.to_owned(),
            key,
            message: message.lines().collect::<Vec<_>>().join(" "),
        }
    }
}

/// The place in the text of a path of keys like `source[0].kind`, or of as much of it as is there.
fn find(root: DeTable<'_>, path: &str) -> Option<Range<usize>> {
    let mut value = DeValue::Table(root);
    let mut span = None;
    for step in path.split('.') {
        let (name, index) = match step.split_once('[') {
            Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
            None => (step, None),
        };
        let DeValue::Table(table) = value else { break };
        let Some((key, found)) = table
            .into_iter()
            .find(|(key, _)| key.get_ref().as_ref() == name)
        else {
            break;
        };
        let found = match (index, found.get_ref()) {
            (Some(index), DeValue::Array(_)) => {
                let DeValue::Array(items) = found.into_inner() else {
                    break;
                };
                let Some(item) = items.into_iter().nth(index) else {
                    break;
                };
                item
            }
            _ => found,
        };
        // A scalar is marked itself; of a table its key or header.
        span = Some(match found.get_ref() {
            DeValue::Table(_) if index.is_none() => key.span(),
            _ => found.span(),
        });
        value = found.into_inner();
    }
    span
}

/// A parser's message with a suggestion where a key or value was misspelt.
fn explain(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((wrong, known)) if message.starts_with("unknown ") => {
            let message = message
                .replacen("unknown field", "there is no key", 1)
                .replacen("unknown variant", "there is no", 1);
            format!("{message}{}", suggest(wrong, known.iter().copied()))
        }
        _ => message.to_owned(),
    }
}

/// What may have been meant, as the end of a sentence.
pub(super) fn suggest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(wrong, known), known))
        .min()
        .filter(|&(distance, known)| distance <= 1 + known.len() / 4)
        .map_or(String::new(), |(_, known)| {
            format!("; did you mean {known}?")
        })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
