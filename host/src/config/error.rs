//! What is wrong with a configuration file, and where.

use std::{fmt, path::PathBuf};

/// Why there is no configuration.
///
/// `Display` is one line, for logs and pipes: `rulemill.toml:12:8: source[0].kind: ...`. Written with
/// `{:#}` it also shows the line with a mark below it, for terminals.
#[derive(Debug)]
pub enum Error {
    /// The file can't be read.
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file says something that it can't.
    Invalid {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// The line's text.
        text: String,
        /// How many characters the mark is long.
        marked: usize,
        /// The path of keys, like `source[0].kind`; empty for the file as a whole.
        key: String,
        /// What is wrong and what was expected.
        message: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { file, error } => write!(
                f,
                "{}: can't read the configuration: {error}",
                file.display()
            ),
            Self::Invalid {
                file,
                line,
                column,
                text,
                marked,
                key,
                message,
            } => {
                write!(f, "{}:{line}:{column}: ", file.display())?;
                if !key.is_empty() {
                    write!(f, "{key}: ")?;
                }
                f.write_str(message)?;
                if f.alternate() {
                    let gutter = line.to_string();
                    let indent: String = text
                        .chars()
                        .take(column - 1)
                        .map(|c| if c == '\t' { '\t' } else { ' ' })
                        .collect();
                    write!(
                        f,
                        "\n{gutter} | {text}\n{:width$} | {indent}{}",
                        "",
                        "^".repeat((*marked).max(1)),
                        width = gutter.len()
                    )?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { error, .. } => Some(error),
            Self::Invalid { .. } => None,
        }
    }
}
