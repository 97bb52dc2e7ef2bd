//! Holding a file that could be read against what makes sense.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Component, Path, PathBuf},
};

use super::{
    Config, Error, Http, Log, Plugin, Source, SourceKind, Table,
    load::{Document, suggest},
    raw,
};
use crate::{decode::Format, limits::Limits};

/// Where HTTP is served if nothing is said.
pub(super) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7700);

impl Document<'_> {
    /// Holds the file against what makes sense.
    pub(super) fn check(&self, raw: raw::Config) -> Result<Config, Error> {
        let base = self.file.parent().unwrap_or(Path::new(""));
        let path = |key: &str, given: Option<PathBuf>, default: &str| {
            let given = given.unwrap_or_else(|| default.into());
            self.path(key, &given).map(|()| base.join(given))
        };
        let mut plugins = BTreeMap::new();
        for (name, plugin) in raw.plugin {
            let config = plugin
                .config
                .map_or(Ok(serde_json::Value::Null), raw::to_json)
                .map_err(|why| self.at(&format!("plugin.{name}.config"), why.into()))?;
            let plugin = Plugin {
                on_error: plugin.on_error,
                backfill: plugin.backfill,
                config,
            };
            plugins.insert(name, plugin);
        }
        self.limits(&raw.limits)?;
        let plugin_dir_named = raw.plugin_dir.is_some();
        Ok(Config {
            file: self.file.to_owned(),
            data_dir: path("data_dir", raw.data_dir, "data")?,
            plugin_dir: path("plugin_dir", raw.plugin_dir, "plugins")?,
            plugin_dir_named,
            http: Http {
                enabled: raw.http.enabled.unwrap_or(true),
                listen: match raw.http.listen {
                    None => LISTEN,
                    Some(text) => self.listen(&text)?,
                },
            },
            sources: self.sources(raw.source, base)?,
            tables: self.tables(raw.table)?,
            plugins,
            limits: raw.limits,
            log: Log {
                format: raw.log.format,
                level: match raw.log.level {
                    None => "info".into(),
                    Some(level) => self.level(level)?,
                },
            },
        })
    }

    fn listen(&self, text: &str) -> Result<SocketAddr, Error> {
        let local = text
            .strip_prefix("localhost:")
            .map(|port| format!("127.0.0.1:{port}"));
        let address: SocketAddr = local.as_deref().unwrap_or(text).parse().map_err(|_| {
            let message = format!("{text:?} is no address: expected IP:PORT, like \"{LISTEN}\"");
            self.at("http.listen", message)
        })?;
        if !address.ip().is_loopback() {
            let message = format!(
                "{address} can be reached from other machines, and TLS and tokens are still to come: \
                 listen on {}:{} and put a proxy that has both in front",
                Ipv4Addr::LOCALHOST,
                address.port()
            );
            return Err(self.at("http.listen", message));
        }
        Ok(address)
    }

    fn sources(&self, raw: Vec<raw::Source>, base: &Path) -> Result<Vec<Source>, Error> {
        let mut sources: Vec<Source> = Vec::with_capacity(raw.len());
        let mut names = HashMap::new();
        let mut paths: HashMap<PathBuf, String> = HashMap::new();
        for (place, source) in raw.into_iter().enumerate() {
            let key = |name: &str| format!("source[{place}].{name}");
            let name = source.name;
            self.name(&key("name"), &name)?;
            if name == "http" {
                let message = "\"http\" is the name of changes that are posted: choose another";
                return Err(self.at(&key("name"), message.into()));
            }
            if let Some(first) = names.insert(name.clone(), place) {
                let message =
                    format!("source[{first}] has the name {name:?} too: each needs its own");
                return Err(self.at(&key("name"), message));
            }
            let kind = match source.kind.as_str() {
                "files" => {
                    if source.table.is_some() {
                        let message = "a files source takes a CSV file's table from the file's name \
                                       (orders.csv is table orders): remove the key";
                        return Err(self.at(&key("table"), message.into()));
                    }
                    let Some(path) = source.path else {
                        let message = "a files source needs `path`, a directory or a file";
                        return Err(self.at(&format!("source[{place}]"), message.into()));
                    };
                    self.path(&key("path"), &path)?;
                    let path = base.join(path);
                    // Two readers of one directory would hand every change over twice.
                    let plain: PathBuf = path
                        .components()
                        .filter(|part| *part != Component::CurDir)
                        .collect();
                    if let Some(other) = paths.insert(plain, name.clone()) {
                        let message = format!(
                            "source {other:?} reads {} already: its changes would come twice",
                            path.display()
                        );
                        return Err(self.at(&key("path"), message));
                    }
                    let format = source.format;
                    SourceKind::Files { path, format }
                }
                "stdin" => {
                    if source.path.is_some() {
                        let message = "standard input has no path: remove the key, or did you mean \
                                       kind = \"files\"?";
                        return Err(self.at(&key("path"), message.into()));
                    }
                    if sources
                        .iter()
                        .any(|s| matches!(s.kind, SourceKind::Stdin { .. }))
                    {
                        let message = "there is one standard input, and another source reads it";
                        return Err(self.at(&key("kind"), message.into()));
                    }
                    let (format, table) = (source.format, source.table);
                    if format == Some(Format::Csv) && table.is_none() {
                        let message = "CSV lines name no table: say it as `table`";
                        return Err(self.at(&key("format"), message.into()));
                    }
                    if table.is_some() && format != Some(Format::Csv) {
                        let message = "only CSV needs a table, JSON lines name theirs: remove the key \
                                       or set format = \"csv\"";
                        return Err(self.at(&key("table"), message.into()));
                    }
                    SourceKind::Stdin { format, table }
                }
                other => {
                    let known = ["files", "stdin"];
                    let message = format!(
                        "there is no kind {other:?}: expected \"files\" or \"stdin\"{}{}",
                        if other == "http" {
                            " (changes over HTTP need no source entry)"
                        } else {
                            ""
                        },
                        suggest(other, known)
                    );
                    return Err(self.at(&key("kind"), message));
                }
            };
            sources.push(Source {
                name,
                kind,
                on_bad_input: source.on_bad_input,
            });
        }
        Ok(sources)
    }

    fn tables(&self, raw: Vec<raw::Table>) -> Result<Vec<Table>, Error> {
        let mut tables: Vec<Table> = Vec::with_capacity(raw.len());
        for (place, table) in raw.into_iter().enumerate() {
            let key = |name: &str| format!("table[{place}].{name}");
            self.name(&key("name"), &table.name)?;
            if let Some(first) = tables.iter().position(|t| t.name == table.name) {
                let message = format!("table[{first}] is {:?} too: join the entries", table.name);
                return Err(self.at(&key("name"), message));
            }
            for (at, column) in table.key.iter().flatten().enumerate() {
                let here = format!("table[{place}].key[{at}]");
                if table
                    .key
                    .iter()
                    .flatten()
                    .filter(|other| *other == column)
                    .count()
                    > 1
                {
                    return Err(self.at(&here, format!("column {column:?} stands here twice")));
                }
                match table.columns.get(column) {
                    Some(spec) if spec.nullable => {
                        let message = format!(
                            "a key's column can't be null: write {column} = \"{}\"",
                            spec.ty
                        );
                        return Err(self.at(&format!("table[{place}].columns.{column}"), message));
                    }
                    Some(spec) if !spec.ty.can_be_key() => {
                        let message =
                            format!("column {column} is {}, which no key can be", spec.ty);
                        return Err(self.at(&here, message));
                    }
                    _ => {}
                }
            }
            if table.key.as_ref().is_some_and(Vec::is_empty) {
                return Err(self.at(&key("key"), "a key has at least one column".into()));
            }
            tables.push(Table {
                name: table.name,
                key: table.key,
                mirror: table.mirror.unwrap_or(true),
                columns: table.columns,
            });
        }
        Ok(tables)
    }

    fn path(&self, key: &str, path: &Path) -> Result<(), Error> {
        if path.as_os_str().is_empty() {
            let message = "the path is empty: write \".\" for the configuration's own directory";
            return Err(self.at(key, message.into()));
        }
        Ok(())
    }

    /// Levels, each with or without the module that it is for. A word that is no level would be taken for a module's
    /// name, and nothing be logged.
    fn level(&self, text: String) -> Result<String, Error> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        for part in text.split(',') {
            let level = part.rsplit('=').next().unwrap_or(part).trim();
            if !LEVELS.contains(&&*level.to_ascii_lowercase()) {
                let message = format!(
                    "{level:?} is no level: expected off, error, warn, info, debug or trace, or a filter \
                     like \"info,rulemill::store=debug\"{}",
                    suggest(level, LEVELS)
                );
                return Err(self.at("log.level", message));
            }
        }
        Ok(text)
    }

    fn name(&self, key: &str, name: &str) -> Result<(), Error> {
        if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
            let message = format!("{name:?} is no name: expected 1 to 200 bytes of text");
            return Err(self.at(key, message));
        }
        Ok(())
    }

    fn limits(&self, limits: &Limits) -> Result<(), Error> {
        // Numbers that may be 0: waits.
        const MAY_BE_ZERO: [&str; 2] = ["batch_wait_ms", "plugin_debounce_ms"];
        // Above these the host's own forms end: 16-bit column numbers, 32-bit places in a row, 32-bit
        // WebAssembly memory; times are held in 64 bits of microseconds.
        const MOST: [(&str, u64); 10] = [
            ("table_columns_max", 65_535),
            ("row_bytes_max", 1 << 30),
            ("line_bytes_max", 1 << 30),
            ("request_bytes_max", 1 << 31),
            ("key_bytes_max", 60 << 10),
            ("batch_bytes_max", 1 << 30),
            ("plugin_memory_bytes_max", 1 << 32),
            ("effects_bytes_max", 1 << 32),
            ("log_age_hours_max", 24 * 366 * 100),
            ("idempotency_age_hours_max", 24 * 366 * 100),
        ];
        let values = match serde_json::to_value(limits) {
            Ok(serde_json::Value::Object(values)) => values,
            _ => return Ok(()),
        };
        for (name, value) in &values {
            let value = value.as_u64().unwrap_or(u64::MAX);
            let key = format!("limits.{name}");
            if value == 0 && !MAY_BE_ZERO.contains(&name.as_str()) {
                return Err(self.at(&key, "nothing would get through: expected 1 or more".into()));
            }
            // A count this large is a slip, and sums of it could overflow.
            let most = MOST
                .iter()
                .find(|(other, _)| other == name)
                .map_or(1 << 50, |&(_, most)| most);
            if value > most {
                return Err(self.at(&key, format!("{value} is too much: at most {most}")));
            }
        }
        Ok(())
    }
}
