//! The file as it is written, before it is held against what makes sense.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use rulemill_wire::ColumnType;
use serde::{Deserialize, Deserializer, de};

use super::{Backfill, ColumnSpec, LogFormat, OnBadInput, OnError};
use crate::decode::Format;
use crate::limits::Limits;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    pub(super) data_dir: Option<PathBuf>,
    pub(super) plugin_dir: Option<PathBuf>,
    #[serde(default)]
    pub(super) http: Http,
    #[serde(default)]
    pub(super) source: Vec<Source>,
    #[serde(default)]
    pub(super) table: Vec<Table>,
    #[serde(default)]
    pub(super) plugin: BTreeMap<String, Plugin>,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) log: Log,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    pub(super) enabled: Option<bool>,
    pub(super) listen: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) path: Option<PathBuf>,
    pub(super) format: Option<Format>,
    pub(super) table: Option<String>,
    #[serde(default)]
    pub(super) on_bad_input: OnBadInput,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) key: Option<Vec<String>>,
    pub(super) mirror: Option<bool>,
    #[serde(default)]
    pub(super) columns: BTreeMap<String, ColumnSpec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plugin {
    #[serde(default)]
    pub(super) on_error: OnError,
    #[serde(default)]
    pub(super) backfill: Backfill,
    pub(super) config: Option<toml::Value>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    #[serde(default)]
    pub(super) format: LogFormat,
    pub(super) level: Option<String>,
}

impl<'de> Deserialize<'de> for ColumnSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ColumnSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a column type as text, like \"decimal\" or \"decimal?\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ColumnSpec, E> {
                let (name, nullable) = match text.strip_suffix('?') {
                    Some(name) => (name, true),
                    None => (text, false),
                };
                match ColumnType::ALL.into_iter().find(|ty| ty.name() == name) {
                    Some(ty) => Ok(ColumnSpec { ty, nullable }),
                    None => Err(E::custom(format_args!(
                        "unknown variant `{name}`, expected one of {}",
                        ColumnType::ALL.map(|ty| format!("`{ty}`")).join(", ")
                    ))),
                }
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// TOML as JSON: what TOML has beyond it, dates and times, becomes text.
pub(super) fn to_json(value: toml::Value) -> Result<serde_json::Value, &'static str> {
    use serde_json::Value as Json;
    Ok(match value {
        toml::Value::String(text) => Json::String(text),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(number)
            .map(Json::Number)
            .ok_or("infinite numbers and NaN can't be handed to a plugin")?,
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(at) => Json::String(at.to_string()),
        toml::Value::Array(items) => {
            Json::Array(items.into_iter().map(to_json).collect::<Result<_, _>>()?)
        }
        toml::Value::Table(entries) => Json::Object(
            entries
                .into_iter()
                .map(|(key, value)| Ok((key, to_json(value)?)))
                .collect::<Result<_, &'static str>>()?,
        ),
    })
}
