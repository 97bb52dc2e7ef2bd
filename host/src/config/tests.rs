//! Configuration as text: what it comes to, and what each mistake is told with.

use super::*;
use crate::{
    config::{Backfill, ColumnSpec, OnBadInput, OnError, SourceKind, check::LISTEN},
    decode::Format,
};
use rulemill_wire::ColumnType;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("dir/rulemill.toml"), text).map_err(|error| error.to_string())
}

/// The text is refused with a message that starts with `place` and holds each of `parts`.
#[track_caller]
fn check(text: &str, place: &str, parts: &[&str]) {
    let message = parse(text).unwrap_err();
    assert!(
        message.starts_with(&format!("dir/rulemill.toml:{place}: ")),
        "{message}"
    );
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    assert_eq!(message.lines().count(), 1, "{message}");
}

#[test]
fn a_whole_file_is_read() {
    let config = parse(
        r#"
data_dir = "state"
plugin_dir = "/plugins"

[http]
listen = "localhost:7701"

[[source]]
name = "shop"
kind = "files"
path = "inbox"
format = "debezium"
on_bad_input = "halt"

[[source]]
name = "pipe"
kind = "stdin"
format = "csv"
table = "sales"

[[table]]
name = "orders"
key = ["id"]
mirror = false
columns = { id = "i64", amount = "decimal", note = "text?" }

[plugin.shop]
on_error = "skip"
backfill = "log"
config = { currency = "EUR", since = 2026-01-31, rates = [1.5, 2] }

[limits]
batch_changes_max = 17

[log]
format = "json"
"#,
    )
    .unwrap();
    assert_eq!(config.data_dir, Path::new("dir/state"));
    assert_eq!(config.plugin_dir, Path::new("/plugins"));
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:7701");
    assert_eq!(
        config.sources[0].kind,
        SourceKind::Files {
            path: "dir/inbox".into(),
            format: Some(Format::Debezium)
        }
    );
    assert_eq!(config.sources[0].on_bad_input, OnBadInput::Halt);
    assert_eq!(config.sources[1].kind.name(), "stdin");
    assert!(!config.tables[0].mirror);
    assert_eq!(
        config.tables[0].columns["note"],
        ColumnSpec {
            ty: ColumnType::Text,
            nullable: true
        }
    );
    let plugin = &config.plugins["shop"];
    assert_eq!(
        (plugin.on_error, plugin.backfill),
        (OnError::Skip, Backfill::Log)
    );
    assert_eq!(
        plugin.config,
        serde_json::json!({"currency": "EUR", "since": "2026-01-31", "rates": [1.5, 2]})
    );
    assert_eq!(config.limits.batch_changes_max, 17);
    assert_eq!(config.limits.batch_bytes_max, 8 << 20);
}

#[test]
fn an_empty_file_means_the_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config.data_dir, Path::new("dir/data"));
    assert_eq!(config.http.listen, LISTEN);
    assert_eq!(config.log.level, "info");
}

#[test]
fn mistakes_are_named_with_their_place() {
    let source = |keys: &str| format!("[[source]]\nname = \"a\"\n{keys}");
    check(
        "data_dri = \"x\"",
        "1:1",
        &["data_dri", "did you mean data_dir?"],
    );
    check("data_dir = 5", "1:12", &["data_dir: ", "expected"]);
    check("data_dir = \"x", "1:14", &[]);
    check(
        "\n[http]\nlisten = \"0.0.0.0:7700\"",
        "3:10",
        &["http.listen: ", "proxy"],
    );
    check(
        "[http]\nlisten = \"here\"",
        "2:10",
        &["http.listen: ", "IP:PORT"],
    );
    check(
        &source("kind = \"fils\""),
        "3:8",
        &["source[0].kind: ", "\"stdin\"", "did you mean files?"],
    );
    check(
        &source("kind = \"files\""),
        "1:1",
        &["source[0]: ", "needs `path`"],
    );
    check(
        &source("kind = \"stdin\"\npath = \"x\""),
        "4:8",
        &["source[0].path: ", "no path"],
    );
    check(
        &source("kind = \"stdin\"\nformat = \"csv\""),
        "4:10",
        &["source[0].format: ", "table"],
    );
    check(
        &source("kind = \"stdin\"\nformat = \"cvs\""),
        "4:10",
        &["source[0].format: ", "did you mean csv?"],
    );
    check(
        &(source("kind = \"files\"\npath = \"x\"\n")
            + "[[source]]\nname = \"a\"\nkind = \"stdin\""),
        "6:8",
        &["source[1].name: ", "source[0]"],
    );
    check(
        &(source("kind = \"files\"\npath = \"x\"\n")
            + "[[source]]\nname = \"b\"\nkind = \"files\"\npath = \"./x/\""),
        "8:8",
        &["source[1].path: ", "twice"],
    );
    check(
        "[[source]]\nname = \"http\"\nkind = \"stdin\"",
        "2:8",
        &["source[0].name: "],
    );
    check(
        "[[source]]\nkind = \"stdin\"",
        "1:1",
        &["source[0]: ", "name"],
    );
    check(
        "[[table]]\nname = \"t\"\ncolumns = { a = \"int\" }",
        "3:17",
        &["table[0].columns.a: ", "`i64`"],
    );
    check(
        "[[table]]\nname = \"t\"\nkey = [\"a\"]\ncolumns = { a = \"f64\" }",
        "3:8",
        &["table[0].key[0]: ", "f64"],
    );
    check(
        "[[table]]\nname = \"t\"\nkey = []",
        "3:7",
        &["table[0].key: "],
    );
    check(
        "[plugin.shop]\non_error = \"stop\"",
        "2:12",
        &["plugin.shop.on_error: ", "`park`"],
    );
    check(
        "[limits]\nbatch_changes_max = 0",
        "2:21",
        &["limits.batch_changes_max: ", "1 or more"],
    );
    check(
        "[limits]\nbatch_changes_mx = 1",
        "2:1",
        &["limits", "did you mean batch_changes_max?"],
    );
    check(
        "[limits]\ntable_columns_max = 70000",
        "2:21",
        &["at most 65535"],
    );
}

#[test]
fn a_terminal_sees_the_line_with_a_mark() {
    let error = Config::parse(Path::new("r.toml"), "[http]\nlisten = \"here\"\n").unwrap_err();
    let shown = format!("{error:#}");
    assert!(
        shown.ends_with("\n2 | listen = \"here\"\n  |          ^^^^^^"),
        "{shown}"
    );
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load("no/such/rulemill.toml").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("no/such/rulemill.toml: can't read")
    );
}
