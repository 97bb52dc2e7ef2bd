//! A wrong configuration never starts a host.
//!
//! A key that is misspelt and passed over, a limit that means nothing or an address that the world can reach is found
//! out on the day on which it matters. So each is refused at the start, by `run` and by `check` alike: with
//! exit code 2, the file, the line and the column, the key, and what was expected; and nothing is made on disk.
#![allow(clippy::unwrap_used, reason = "tests")]

use rulemill_tests::site::Site;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rulemill-under-test");

/// What is wrong, the text, the place of the mistake, and words that the message must have.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

const CASES: &[Case] = &[
    (
        "an unknown key",
        "data_dir = \"data\"\nplugin_dri = \"x\"\n",
        "2:1",
        &["plugin_dri", "did you mean plugin_dir?"],
    ),
    (
        "an unknown section",
        "[htpp]\nlisten = \"127.0.0.1:0\"\n",
        "1:2",
        &["htpp", "did you mean http?"],
    ),
    (
        "a wrong type",
        "data_dir = 5\n",
        "1:12",
        &["data_dir", "string"],
    ),
    (
        "text for a limit",
        "[limits]\nbatch_changes_max = \"many\"\n",
        "2:21",
        &["limits.batch_changes_max", "many"],
    ),
    (
        "a negative limit",
        "[limits]\nbatch_changes_max = -1\n",
        "2:21",
        &["limits.batch_changes_max", "-1"],
    ),
    (
        "a limit of nothing",
        "[limits]\nline_bytes_max = 0\n",
        "2:18",
        &["limits.line_bytes_max", "1 or more"],
    ),
    (
        "a limit past the form's end",
        "[limits]\ntable_columns_max = 70000\n",
        "2:21",
        &["limits.table_columns_max", "at most 65535"],
    ),
    (
        "an unknown limit",
        "[limits]\nline_byte_max = 1\n",
        "2:1",
        &["line_byte_max", "did you mean line_bytes_max?"],
    ),
    (
        "an empty data_dir",
        "data_dir = \"\"\n",
        "1:12",
        &["data_dir", "empty"],
    ),
    (
        "a value that is none of those",
        "[[source]]\nname = \"a\"\nkind = \"files\"\npath = \"x\"\non_bad_input = \"ignore\"\n",
        "5:16",
        &["source[0].on_bad_input", "`park`", "`halt`"],
    ),
    (
        "a kind that there isn't",
        "[[source]]\nname = \"a\"\nkind = \"fils\"\n",
        "3:8",
        &["source[0].kind", "\"files\"", "did you mean files?"],
    ),
    (
        "a source without its path",
        "[[source]]\nname = \"a\"\nkind = \"files\"\n",
        "1:1",
        &["source[0]", "`path`"],
    ),
    (
        "two sources of one name",
        "[[source]]\nname = \"a\"\nkind = \"stdin\"\n\n[[source]]\nname = \"a\"\nkind = \"files\"\npath = \"x\"\n",
        "6:8",
        &["source[1].name", "source[0]"],
    ),
    (
        "two sources of one directory",
        "[[source]]\nname = \"a\"\nkind = \"files\"\npath = \"x\"\n\n[[source]]\nname = \"b\"\nkind = \"files\"\npath = \"./x\"\n",
        "9:8",
        &["source[1].path", "twice"],
    ),
    (
        "two entries for one table",
        "[[table]]\nname = \"t\"\n[[table]]\nname = \"t\"\n",
        "4:8",
        &["table[1].name", "table[0]"],
    ),
    (
        "a column type that there isn't",
        "[[table]]\nname = \"t\"\ncolumns = { a = \"int\" }\n",
        "3:17",
        &["table[0].columns.a", "`i64`"],
    ),
    (
        "a key that may be null",
        "[[table]]\nname = \"t\"\nkey = [\"a\"]\ncolumns = { a = \"i64?\" }\n",
        "4:17",
        &["table[0].columns.a", "null"],
    ),
    (
        "on_error that there isn't",
        "[plugin.shop]\non_error = \"stop\"\n",
        "2:12",
        &["plugin.shop.on_error", "`park`"],
    ),
    ("malformed TOML", "data_dir = \"data\n", "1:17", &["string"]),
    (
        "a key twice",
        "data_dir = \"a\"\ndata_dir = \"b\"\n",
        "2:1",
        &["data_dir", "duplicate key"],
    ),
    (
        "an address that others can reach",
        "[http]\nlisten = \"0.0.0.0:7700\"\n",
        "2:10",
        &["http.listen", "other machines", "127.0.0.1:7700"],
    ),
    (
        "an address that is none",
        "[http]\nlisten = \"here\"\n",
        "2:10",
        &["http.listen", "IP:PORT"],
    ),
    (
        "a log level that there isn't",
        "[log]\nlevel = \"loud\"\n",
        "2:9",
        &["log.level", "loud", "info"],
    ),
    (
        "a log format that there isn't",
        "[log]\nformat = \"xml\"\n",
        "2:10",
        &["log.format", "`json`"],
    ),
];

fn check(&(case, text, place, words): &Case) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(PROGRAM, dir.path(), text).unwrap();
    // A daemon last: one that takes the file would run on.
    for arguments in [&["check"][..], &["tables"], &["run", "--once"], &["run"]] {
        let ran = site.run(arguments).unwrap();
        let says = ran.stderr();
        assert_eq!(ran.code(), 2, "{case}: {arguments:?}: {says}");
        assert_eq!(ran.stdout(), "", "{case}: {arguments:?}");
        let first = says.lines().next().unwrap_or_default();
        assert!(
            first.contains(&format!("rulemill.toml:{place}: ")),
            "{case}: {arguments:?}: {says}"
        );
        for word in words {
            assert!(says.contains(word), "{case}: no {word:?} in {says}");
        }
    }
    assert!(!site.path("data").exists(), "{case}: made its data_dir");
}

#[test]
fn a_mistake_is_named_with_its_place() {
    CASES.iter().for_each(check);
}

#[test]
fn a_plugin_dir_that_is_named_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let named = "[http]\nlisten = \"127.0.0.1:0\"\n";
    let site = Site::new(PROGRAM, dir.path(), named).unwrap();
    std::fs::remove_dir(site.path("plugins")).unwrap();
    // Not named: the default directory may come later.
    site.ok(&["run", "--once"]).unwrap();
    std::fs::remove_dir_all(site.path("data")).unwrap();

    for (text, says) in [
        (
            "plugin_dir = \"plugin\"\n",
            "there is no directory plugin: mend the path",
        ),
        ("plugin_dir = \"rulemill.toml\"\n", "is no directory"),
    ] {
        site.write("rulemill.toml", format!("# a comment\n{text}{named}"))
            .unwrap();
        for arguments in [&["check"][..], &["run", "--once"], &["run"]] {
            let ran = site.run(arguments).unwrap();
            let log = ran.stderr();
            assert_eq!(ran.code(), 2, "{arguments:?}: {log}");
            assert!(log.contains("rulemill.toml:2:14: plugin_dir: "), "{log}");
            assert!(log.contains(says), "{log}");
        }
        assert!(!site.path("data").exists(), "made its data_dir");
    }
}

#[test]
fn options_for_a_plugin_that_is_not_there_are_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[plugin.flet]\nbackfill = \"log\"\n[plugin.other]\n[plugin.flet.config]\na = 1\n";
    let site = Site::new(PROGRAM, dir.path(), text).unwrap();
    site.write("plugins/fleet.wasm", "no wasm at all").unwrap();
    let checked = site.run(&["check"]).unwrap().stdout();
    let ran = site.run(&["run", "--once"]).unwrap().stderr();
    for says in [checked, ran] {
        assert!(says.contains("[plugin.flet] in rulemill.toml"), "{says}");
        assert!(
            says.contains("plugins/flet.wasm; did you mean fleet?"),
            "{says}"
        );
        assert!(says.contains("plugins/other.wasm\n"), "{says}");
    }
    let report: serde_json::Value =
        serde_json::from_str(&site.run(&["check", "--json"]).unwrap().stdout()).unwrap();
    assert_eq!(report["warnings"].as_array().unwrap().len(), 2, "{report}");
}

#[test]
fn a_file_that_is_not_there_or_is_no_text_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(PROGRAM, dir.path(), "").unwrap();
    site.write("latin.toml", b"data_dir = \"\xe9t\xe9\"\n")
        .unwrap();
    for file in ["missing.toml", "latin.toml", "plugins"] {
        let ran = site.run(&["run", "-c", file]).unwrap();
        assert_eq!(ran.code(), 2, "{file}: {}", ran.stderr());
        assert!(ran.stderr().contains(file), "{}", ran.stderr());
    }
}
