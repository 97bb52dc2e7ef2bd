//! Input that can't be taken, over files and over HTTP, through the real daemon.
//!
//! What must never happen: a line that is passed over in silence, one that is taken for something else, a good
//! line that goes down with a bad neighbour, half of a request, or a line that costs its own length many
//! times over in memory. From a file the good lines before and after are taken, and the bad one is kept with file,
//! line and reason, or halts the source. Over HTTP nothing of the request is taken, and the answer names the line.
//!
//! One table of cases serves both. Of a reason the words are checked that a person needs, not the sentence.
#![allow(clippy::unwrap_used, reason = "tests")]

mod files;
mod long_line;
mod posted;

use rulemill_tests::site::Site;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rulemill-under-test");

const CONFIGURATION: &str = r#"
[http]
listen = "127.0.0.1:0"

[[source]]
name = "inbox"
kind = "files"
path = "inbox"

[[table]]
name = "users"
key = ["id"]
columns = { id = "i64", name = "text", paid = "decimal?", born = "date?", active = "bool?" }
"#;

/// A line that can't be taken.
struct Case {
    /// What is wrong, as a file's name.
    name: &'static str,
    line: &'static [u8],
    /// The HTTP status: 400 if it is no change at all, 422 if it doesn't fit its table.
    status: u16,
    /// Words that the reason must have.
    words: &'static [&'static str],
}

/// A change of `users` with these columns besides a name.
macro_rules! user {
    ($columns:literal) => {
        concat!(
            r#"{"table":"users","op":"upsert","after":{"name":"eve","#,
            $columns,
            "}}"
        )
        .as_bytes()
    };
}

const fn case(
    name: &'static str,
    line: &'static [u8],
    status: u16,
    words: &'static [&'static str],
) -> Case {
    Case {
        name,
        line,
        status,
        words,
    }
}

const CASES: &[Case] = &[
    case("half_a_line", br#"{"table":"users","op":"#, 400, &["JSON"]),
    case("no_json", b"id,name", 400, &["JSON"]),
    case("an_array", b"[1,2]", 400, &["JSON object"]),
    case("two_in_a_line", br#"{"table":"users","op":"truncate"} {}"#, 400, &["JSON"]),
    case("not_utf8", b"{\"table\":\"users\",\"op\":\"upsert\",\"after\":{\"id\":1,\"name\":\"\xff\"}}", 400, &["UTF-8"]),
    case("no_table", br#"{"op":"insert","after":{"id":1}}"#, 422, &["\"table\""]),
    case("an_unknown_table", br#"{"table":"usres","op":"insert","after":{"id":1}}"#, 422, &["unknown table", "usres"]),
    case("no_op", br#"{"table":"users","after":{"id":1,"name":"eve"}}"#, 422, &["users", "\"op\""]),
    case("an_unknown_op", br#"{"table":"users","op":"merge","after":{"id":1,"name":"eve"}}"#, 422, &["users", "merge", "upsert"]),
    case("no_row", br#"{"table":"users","op":"insert"}"#, 422, &["users", "\"after\""]),
    case("no_key", user!(r#""active":true"#), 422, &["users", "id"]),
    case("a_null_key", user!(r#""id":null"#), 422, &["users", "id", "null"]),
    case("text_for_a_number", user!(r#""id":"seven""#), 422, &["users", "id", "seven", "i64"]),
    case("a_fraction", user!(r#""id":1.5"#), 422, &["users", "id", "1.5", "i64"]),
    case("out_of_range", user!(r#""id":9223372036854775808"#), 422, &["users", "id", "9223372036854775808", "i64"]),
    case("far_out_of_range", user!(r#""id":1e400"#), 422, &["users", "id", "1e400", "i64"]),
    case("too_many_digits", user!(r#""id":1,"paid":"1.00000000000000000000000000000001""#), 422, &["users", "paid", "decimal"]),
    case("no_decimal", user!(r#""id":1,"paid":"ten""#), 422, &["users", "paid", "ten", "decimal"]),
    case("no_such_day", user!(r#""id":1,"born":"2026-02-30""#), 422, &["users", "born", "2026-02-30", "date"]),
    case("a_number_for_a_bool", user!(r#""id":1,"active":1"#), 422, &["users", "active", "bool"]),
    case("null_where_none_may_be", br#"{"table":"users","op":"upsert","after":{"id":1,"name":null}}"#, 422, &["users", "name", "null"]),
    case("a_column_twice", user!(r#""id":1,"id":2"#), 422, &["users", "id", "twice"]),
    case("no_time", br#"{"table":"users","op":"delete","before":{"id":1},"ts":"yesterday"}"#, 422, &["users", "ts", "yesterday"]),
    case("a_time_out_of_range", br#"{"source":{"table":"users"},"op":"c","after":{"id":1,"name":"eve"},"ts_ms":9223372036854775807}"#, 422, &["users", "ts_ms", "range"]),
];

impl Case {
    /// A good line, the bad one, a good one.
    fn between_good_lines(&self, ids: [i64; 2]) -> Vec<u8> {
        [
            good(ids[0]).as_bytes(),
            self.line,
            b"\n",
            good(ids[1]).as_bytes(),
        ]
        .concat()
    }

    fn check_reason(&self, reason: &str) {
        for word in self.words {
            assert!(
                reason.contains(word),
                "{}: no {word:?} in: {reason}",
                self.name
            );
        }
        assert!(!reason.contains('\n'), "{}: {reason}", self.name);
    }
}

fn good(id: i64) -> String {
    format!(
        "{{\"table\":\"users\",\"op\":\"upsert\",\"after\":{{\"id\":{id},\"name\":\"good\"}}}}\n"
    )
}

/// The keys of `users`.
fn ids(site: &Site) -> Vec<i64> {
    let limit = u32::MAX.to_string();
    let rows = site
        .ok(&["query", "users", "--json", "--limit", &limit])
        .unwrap();
    let id = |row: &str| serde_json::from_str::<Value>(row).unwrap()["id"].as_i64();
    rows.lines().map(|row| id(row).unwrap()).collect()
}
