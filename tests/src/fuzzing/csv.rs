//! CSV files, held against a reader that goes letter by letter through what RFC 4180 says.
//!
//! Records end where that reader ends them, whether the file comes whole or in pieces; what is taken is what stands in
//! the fields; a refused record leaves nothing behind; and what the host writes as CSV is read as it was.

use std::sync::Arc;

use rulemill::{
    catalog::SharedCatalog,
    change::RawChange,
    decode::{Decoder, Header, Split, Splitter},
    render, row,
};
use rulemill_wire::{ColumnType, ValueRef};

use super::{reading::text_says, tables};

/// Records of one file, at the most.
const RECORDS_MAX: usize = 12;

pub(super) const WORDS: &[&[u8]] = &[
    b"\"",
    b"\"\"",
    b",",
    b"\n",
    b"\r\n",
    b"\r",
    b"id",
    b"id,amount,note\n",
    b"id,a,b\n",
    b"id,kind,size\n",
    b"\"a,\"\"b\"\"\n\"",
    b"-0.0",
    b" 12.50 ",
    b"NaN",
    b"2026-01-31",
    b"2026-01-31 12:00:00+01:00",
];

/// The first byte says which table the file is of.
pub(super) fn csv(input: &[u8]) -> bool {
    let Some((&which, file)) = input.split_first() else {
        return false;
    };
    let table = ["orders", "plain", "events", "notes", "totals"][usize::from(which) % 5];
    let shared = tables::shared(&tables::catalog());
    let mut decoder = Decoder::new(shared.clone(), &tables::limits());
    let mut splitter = Splitter::default();
    let mut header = None;
    let mut any = false;
    let mut rest = file;
    for _ in 0..RECORDS_MAX {
        if rest.is_empty() {
            break;
        }
        let expected = Expected::of(rest);
        in_pieces(&mut splitter, rest);
        let split = splitter.split(rest, true);
        let (Split::Record { len, .. } | Split::Bad { len, .. }) = split else {
            panic!("a record that the file's end doesn't end");
        };
        let (bytes, behind) = rest.split_at(len);
        rest = behind;
        match (&split, &expected) {
            (Split::Record { len, lines }, Expected::Record { fields, len: end }) => {
                assert_eq!(len, end, "{fields:?}");
                let newlines = bytes.iter().filter(|&&byte| byte == b'\n').count();
                assert_eq!(*lines, newlines as u64);
            }
            (Split::Bad { len, reason }, Expected::Bad) => {
                let line = file.len() - rest.len() - len;
                let end = file[line..].iter().position(|&byte| byte == b'\n');
                assert_eq!(*len, end.map_or(file.len() - line, |end| end + 1));
                assert!(!reason.text.is_empty());
                continue;
            }
            _ => panic!("{split:?}, but {expected:?}"),
        }
        let Expected::Record { fields, .. } = expected else {
            continue;
        };
        let Some(header) = &header else {
            match Header::parse(bytes, &splitter) {
                Ok(parsed) => {
                    let trimmed: Vec<&str> =
                        fields.iter().map(|field| text(field).trim()).collect();
                    assert_eq!(parsed.names(), trimmed);
                    if decoder.csv_fits(table, &parsed).is_err() {
                        return false;
                    }
                    header = Some(parsed);
                    continue;
                }
                Err(_) => return false,
            }
        };
        any |= record(
            &mut decoder,
            &shared,
            (table, header),
            bytes,
            &splitter,
            &fields,
        );
    }
    any
}

fn record(
    decoder: &mut Decoder,
    shared: &Arc<SharedCatalog>,
    (table, header): (&str, &Header),
    bytes: &[u8],
    splitter: &Splitter,
    fields: &[Vec<u8>],
) -> bool {
    let version = shared.version();
    let result = decoder.csv_record(table, header, bytes, splitter);
    if let Err(reason) = result {
        assert!(decoder.is_empty() && decoder.len_bytes() == 0, "{reason}");
        assert_eq!(shared.version(), version, "{reason}");
        return false;
    }
    let changes = decoder.take();
    let [change] = &changes[..] else {
        assert_eq!(fields, [Vec::<u8>::new()], "a record is lost");
        return false;
    };
    says(shared, change, header, fields);
    come_back(shared, change);
    true
}

/// Checks that a row is what stands in the fields.
fn says(shared: &SharedCatalog, change: &RawChange, header: &Header, fields: &[Vec<u8>]) {
    let catalog = shared.load();
    let table = catalog.table(change.table);
    let mut values = row::values(change.after.as_ref().unwrap());
    for column in &table.columns {
        let value = values.next().transpose().unwrap().unwrap_or(ValueRef::Null);
        let place = header.names().iter().position(|name| *name == column.name);
        let field = place.map_or("", |place| text(&fields[place]));
        let says = match (value, field) {
            (ValueRef::Null, field) => field.is_empty() && column.nullable,
            (ValueRef::Text(value), field) => value == field,
            (value, field) => text_says(field.trim_ascii(), value),
        };
        assert!(
            says,
            "column {}: {field:?} is taken for {value:?}",
            column.name
        );
        if let Some(found) = value.column_type() {
            assert_eq!(column.ty.unwrap_or(ColumnType::Text), found);
        }
    }
    assert!(values.next().is_none());
    assert_eq!(fields.len(), header.names().len());
}

/// Checks that a row, rendered, is read as it was.
fn come_back(shared: &Arc<SharedCatalog>, change: &RawChange) {
    let catalog = shared.load();
    let table = catalog.table(change.table);
    let row = change.after.as_ref().unwrap();
    let quoted = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
    let fields = render::row_to_fields(table, row).unwrap();
    let names = table.columns.iter().map(|column| column.name.clone());
    let header = Header::from_names(names.collect());
    let line = fields.iter().map(quoted).collect::<Vec<_>>().join(",") + "\r\n";
    if line.len() > tables::limits().line_bytes_max {
        return;
    }
    let mut splitter = Splitter::default();
    let split = splitter.split(line.as_bytes(), false);
    assert!(
        matches!(split, Split::Record { len, .. } if len == line.len()),
        "{split:?}"
    );
    let mut decoder = Decoder::new(shared.clone(), &tables::limits());
    decoder
        .csv_record(&table.name, &header, line.as_bytes(), &splitter)
        .unwrap_or_else(|reason| panic!("{line:?}: {reason}"));
    let back = decoder.take().pop().unwrap();
    assert_eq!(back.key, change.key);
    assert_eq!(back.after, change.after, "{line:?}");
}

/// Checks that a file that comes in two pieces is cut as one that comes whole.
fn in_pieces(splitter: &mut Splitter, bytes: &[u8]) {
    let whole = splitter.split(bytes, false);
    // Places where something changes; each byte would take the square of them.
    let marks = (1..bytes.len()).filter(|&at| matches!(bytes[at - 1], b'"' | b',' | b'\r' | b'\n'));
    for at in marks.take(12) {
        let first = splitter.split(&bytes[..at], false);
        match (&first, &whole) {
            (Split::Incomplete, _) => {}
            (Split::Record { .. }, whole) => assert_eq!(first, *whole),
            // A line without its end yet is shorter.
            (Split::Bad { .. }, Split::Bad { .. }) => {}
            (first, whole) => panic!("{first:?}, then {whole:?}"),
        }
    }
}

fn text(field: &[u8]) -> &str {
    std::str::from_utf8(field).expect("taken, but no UTF-8")
}

/// What stands at the front of a file.
#[derive(Debug)]
enum Expected {
    Record { fields: Vec<Vec<u8>>, len: usize },
    Bad,
}

/// Where the reader is.
enum At {
    FieldStart,
    Plain,
    Quoted,
    /// Behind a quote in a quoted field, which ends it or is one of two.
    Quote,
}

impl Expected {
    fn of(bytes: &[u8]) -> Self {
        let mut fields = vec![Vec::new()];
        let mut at = At::FieldStart;
        let mut input = bytes.iter().copied().enumerate().peekable();
        while let Some((place, byte)) = input.next() {
            let field = fields.last_mut().unwrap();
            let ends_line = byte == b'\r' && matches!(input.peek(), None | Some((_, b'\n')));
            match (&at, byte) {
                (At::FieldStart, b'"') => at = At::Quoted,
                (At::Quoted, b'"') => at = At::Quote,
                (At::Quoted, _) => field.push(byte),
                (At::Quote, b'"') => {
                    field.push(byte);
                    at = At::Quoted;
                }
                (_, b',') => {
                    fields.push(Vec::new());
                    at = At::FieldStart;
                }
                (_, b'\n') => {
                    let len = place + 1;
                    return Self::Record { fields, len };
                }
                (_, b'\r') if ends_line => {}
                (At::Quote, _) => return Self::Bad,
                (At::FieldStart | At::Plain, _) => {
                    field.push(byte);
                    at = At::Plain;
                }
            }
        }
        match at {
            At::Quoted => Self::Bad,
            _ => Self::Record {
                fields,
                len: bytes.len(),
            },
        }
    }
}
