//! Lines of changes, in Rulemill's own form and in Debezium's.
//!
//! Whatever the lines are: a decoder doesn't panic; a line that is refused leaves nothing behind; a line means the same
//! whatever came before it; what is taken says what `serde_json` reads there, no column more and none less; and
//! rendered as JSON it comes back as it was.

use std::fmt;

use rulemill::{
    catalog::{Catalog, SharedCatalog, Table},
    change::RawChange,
    decode::{Decoder, Format, Reason},
    render, row,
};
use rulemill_wire::{ColumnType, ValueRef};

use super::{line::Line, tables};

/// Lines of one input, at the most.
const LINES_MAX: usize = 6;

pub(super) const WORDS: &[&[u8]] = &[
    b"\"before\":",
    b"\"after\":",
    b"\"op\":\"c\"",
    b"\"op\":\"upsert\"",
    b"\"source\":{\"table\":\"orders\"}",
    b"\"table\":\"plain\"",
    b"\"payload\":{",
    b"\"schema\":",
    b"\"id\":1",
    b"\"amount\":\"1.50\"",
    b"null",
    b"1e400",
    b"-0.0",
    b"\\ud800",
    b"\\u0000",
    b"__debezium_unavailable_value",
    b"9223372036854775808",
    b"{\"a\":[1,2]}",
    b"2026-01-31T12:00:00.1234567Z",
    b"\n",
];

/// Lines of Rulemill's own form.
pub(super) fn json(input: &[u8]) -> bool {
    lines(input, Format::Rulemill)
}

/// Debezium's lines.
pub(super) fn debezium(input: &[u8]) -> bool {
    lines(input, Format::Debezium)
}

fn lines(input: &[u8], format: Format) -> bool {
    let mut any = false;
    let shared = tables::shared(&tables::catalog());
    let mut decoder = Decoder::new(shared.clone(), &tables::limits());
    for line in input.split(|&byte| byte == b'\n').take(LINES_MAX) {
        let before = shared.load();
        let taken = decode(&mut decoder, &shared, line, Some(format));
        let again = alone(&before, line, Some(format));
        assert_eq!(taken, again, "a line means something else after others");
        let told = alone(&before, line, None);
        if told.result.is_ok() {
            let other = match format {
                Format::Rulemill => Format::Debezium,
                _ => Format::Rulemill,
            };
            let forms = [again, alone(&before, line, Some(other))];
            assert!(forms.contains(&told), "told by its content: {told:?}");
        }
        if let Ok(Some(change)) = &taken.result {
            let after = shared.load();
            let line = std::str::from_utf8(line).unwrap().trim_ascii();
            Line::of(line, format).check(&after, &change.0);
            come_back(&after, &change.0);
            any = true;
        }
    }
    any
}

/// A change that can be compared.
#[derive(Clone)]
struct Comparable(RawChange);

impl fmt::Debug for Comparable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq for Comparable {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

/// What became of a line, and of the tables.
#[derive(Debug, PartialEq)]
struct Taken {
    result: Result<Option<Comparable>, Reason>,
    tables: Vec<Table>,
}

fn tables_of(catalog: &Catalog) -> Vec<Table> {
    catalog.tables().map(|table| (**table).clone()).collect()
}

fn alone(catalog: &Catalog, line: &[u8], format: Option<Format>) -> Taken {
    let shared = tables::shared(catalog);
    let mut decoder = Decoder::new(shared.clone(), &tables::limits());
    decode(&mut decoder, &shared, line, format)
}

fn decode(
    decoder: &mut Decoder,
    shared: &SharedCatalog,
    line: &[u8],
    format: Option<Format>,
) -> Taken {
    let before = tables_of(&shared.load());
    let result = decoder.json_line(line, format);
    if let Err(reason) = &result {
        assert!(decoder.is_empty() && decoder.len_bytes() == 0, "{reason}");
        assert_eq!(before, tables_of(&shared.load()), "{reason}");
        assert!(!reason.text.is_empty());
    }
    let mut changes = decoder.take();
    assert!(changes.len() <= 1, "{changes:?}");
    Taken {
        result: result.map(|()| changes.pop().map(Comparable)),
        tables: tables_of(&shared.load()),
    }
}

/// Checks that a row's values, rendered, are read as they were.
fn come_back(catalog: &Catalog, change: &RawChange) {
    let Some(row) = &change.after else {
        return;
    };
    let table = catalog.table(change.table);
    let json = render::row_to_json(table, row).unwrap();
    let line = serde_json::json!({"table": table.name, "op": "upsert", "after": json});
    let line = line.to_string();
    if line.len() > tables::limits().line_bytes_max {
        return;
    }
    let back = match alone(catalog, line.as_bytes(), Some(Format::Rulemill)).result {
        Ok(Some(back)) => back.0,
        // A document may become longer than a row may be.
        Err(reason) if reason.text.contains("limits.") => return,
        other => panic!("{line}: {other:?}"),
    };
    let values = |row: &[u8]| {
        let values: Result<Vec<_>, _> = row::values(row)
            .map(|value| value.map(ValueRef::to_owned))
            .collect();
        values.unwrap()
    };
    let (had, has) = (values(row), values(back.after.as_ref().unwrap()));
    for (place, column) in table.columns.iter().enumerate() {
        let (had, has) = (had.get(place), has.get(place));
        // A document comes back as one; a decimal or a float in a column of no type is text in JSON, or a decimal.
        let own_form = column.ty.is_none() || column.ty == Some(ColumnType::Json);
        let same = had.map(|value| format!("{value:?}")) == has.map(|value| format!("{value:?}"));
        let had_value = had.is_some_and(|value| value.as_ref() != ValueRef::Null);
        let has_value = has.is_some_and(|value| value.as_ref() != ValueRef::Null);
        let document_null = own_form && had_value && !has_value;
        assert!(
            same || (own_form && had_value == has_value) || document_null && column.nullable,
            "column {}: {had:?} comes back as {has:?}",
            column.name
        );
    }
}
