//! The two JSON forms.
//!
//! `rulemill`: `{"table":..,"op":"insert|update|upsert|delete|truncate","before":{..},"after":{..},"ts":..}`.
//! `debezium`: [the envelope](https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-change-events-value),
//! bare or under `payload`; its table is `source.table`, its time `source.ts_ms`, else `ts_ms`.
//!
//! A line is looked at once. Its rows stand before the name of their table, as Debezium writes it; so the table is
//! guessed from the text that follows, the rows are read as that table's, and if it turns out to be another's, or
//! anything is wrong with them, they are read again.

use std::{ops::Range, sync::Arc};

use rulemill_wire::Timestamp;

use crate::change::RawOp;

use super::{
    Decoder, Dialect, Format, Pending, Reason,
    connect::Schema,
    row::{Fault, Held, RowReader},
    scan::{Kind, Malformed, Quoted, Scanner, Value},
    text::{self, Finer},
    value::shown,
};

/// The keys of the rulemill form.
const KEYS: &str = "table, op, before, after, ts";

/// A line's parts, as they stand in the text. Nulls are left out.
#[derive(Default)]
struct Line<'t> {
    table: Option<Value<'t>>,
    op: Option<Value<'t>>,
    before: Option<Value<'t>>,
    after: Option<Value<'t>>,
    source: Option<Source<'t>>,
    ts: Option<Value<'t>>,
    ts_ms: Option<Value<'t>>,
    schema: Option<&'t str>,
    payload: Option<Payload<'t>>,
    /// The first key that the rulemill form doesn't have.
    unknown: Option<Quoted<'t>>,
    /// The keys met so far, one bit each.
    met: u16,
    /// The first key that stands there twice.
    twice: Option<&'static str>,
    early: Option<Early>,
}

#[derive(Default)]
struct Source<'t> {
    table: Option<Value<'t>>,
    ts_ms: Option<Value<'t>>,
    /// A key that counts stands there twice.
    twice: bool,
}

enum Payload<'t> {
    Null,
    Envelope(Box<Line<'t>>),
}

/// The rows of a line, read before its end was.
struct Early {
    table: usize,
    dialect: Dialect,
    /// The schema that stood before them: one that stands behind them counts as well.
    schema: Option<Arc<Schema>>,
    old: Option<OldRow>,
    new: Option<NewRow>,
}

/// What a change says of the row before.
#[derive(Clone)]
struct OldRow {
    key: Range<usize>,
    /// The row, if it is whole and wanted.
    row: Option<Range<usize>>,
}

/// What a change says of the row after.
#[derive(Clone)]
struct NewRow {
    key: Range<usize>,
    row: Range<usize>,
    lacks: bool,
}

/// Which rows a line is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Old,
    New,
}

fn text_of<'t>(value: &Value<'t>, key: &str) -> Result<std::borrow::Cow<'t, str>, Reason> {
    match value.quoted() {
        Some(quoted) => quoted.text().ok_or_else(|| {
            Reason::malformed(format!(
                "\"{key}\" has an escape that stands for no character"
            ))
        }),
        None => Err(Reason::unfit(format!(
            "\"{key}\" is {}, which is no text",
            shown(value.raw)
        ))),
    }
}

impl<'t> Line<'t> {
    fn op(&self, table: &str) -> Result<std::borrow::Cow<'t, str>, Reason> {
        let op = self
            .op
            .as_ref()
            .ok_or_else(|| Reason::unfit(format!("table {table}: the change has no \"op\"")))?;
        text_of(op, "op")
    }

    /// The place of one of its rows.
    fn row(&mut self, which: Which) -> &mut Option<Value<'t>> {
        match which {
            Which::Old => &mut self.before,
            Which::New => &mut self.after,
        }
    }

    /// Notes that a key has been met.
    fn meet(&mut self, bit: u16, key: &'static str) {
        if self.met & bit != 0 {
            self.twice.get_or_insert(key);
        }
        self.met |= bit;
    }
}

impl Decoder {
    pub(super) fn json(&mut self, text: &str, format: Option<Format>) -> Result<(), Reason> {
        if text == "null" {
            return Ok(());
        }
        if !text.starts_with('{') {
            return Err(Reason::malformed(
                "a change is a JSON object on a line of its own",
            ));
        }
        let dialect = match format {
            Some(Format::Debezium) => Some(Dialect::Debezium),
            Some(Format::Rulemill) => Some(Dialect::Rulemill),
            Some(Format::Csv) => {
                return Err(Reason::malformed("a JSON line where CSV was expected"));
            }
            None => None,
        };
        let mut scan = Scanner::new(text);
        let mut line = Line::default();
        match self.line(&mut scan, &mut line, dialect, None, true) {
            Ok(()) if scan.is_at_end() => {}
            Ok(()) => return Err(malformed(text, Malformed::Syntax)),
            Err(fault) => return Err(malformed(text, fault)),
        }
        let mut enveloped = false;
        if line.op.is_none() && dialect != Some(Dialect::Rulemill) {
            match line.payload.take() {
                None => {}
                Some(Payload::Null) => return Ok(()),
                Some(Payload::Envelope(inner)) => {
                    let (schema, twice) = (line.schema, line.twice);
                    line = *inner;
                    line.schema = schema;
                    line.twice = twice.or(line.twice);
                    enveloped = true;
                }
            }
        }
        if let Some(key) = line.twice {
            return Err(Reason::unfit(format!("the change has \"{key}\" twice")));
        }
        let told = || match enveloped || (line.table.is_none() && line.source.is_some()) {
            true => Dialect::Debezium,
            false => Dialect::Rulemill,
        };
        match dialect.unwrap_or_else(told) {
            Dialect::Debezium => self.debezium(&line),
            Dialect::Rulemill => self.rulemill(&line),
        }
    }

    /// Reads an envelope's keys, and its rows if their table can be guessed.
    fn line<'t>(
        &mut self,
        scan: &mut Scanner<'t>,
        line: &mut Line<'t>,
        dialect: Option<Dialect>,
        schema: Option<&Arc<Schema>>,
        outer: bool,
    ) -> Result<(), Malformed> {
        let mut schema = schema.cloned();
        let mut guess = None;
        let mut first = true;
        scan.enter()?;
        while let Some(name) = scan.name(&mut first)? {
            match name.text().as_deref() {
                Some(key @ ("before" | "after")) => {
                    let (which, bit, key) = match key {
                        "before" => (Which::Old, 1, "before"),
                        _ => (Which::New, 2, "after"),
                    };
                    line.meet(bit, key);
                    if scan.next_byte()? == b'{' {
                        let guess = *guess.get_or_insert_with(|| self.guess(line, scan, dialect));
                        self.early(scan, which, guess, schema.as_ref(), line)?;
                    } else {
                        scan.envelope(line.row(which))?;
                    }
                }
                Some("op") => {
                    line.meet(4, "op");
                    scan.envelope(&mut line.op)?;
                }
                Some("table") => {
                    line.meet(8, "table");
                    scan.envelope(&mut line.table)?;
                }
                Some("ts") => {
                    line.meet(16, "ts");
                    scan.envelope(&mut line.ts)?;
                }
                Some("source") => {
                    line.meet(32, "source");
                    line.unknown.get_or_insert(name);
                    if scan.next_byte()? == b'{' {
                        let source = source(scan)?;
                        if source.twice {
                            line.twice.get_or_insert("source.table or source.ts_ms");
                        }
                        line.source = Some(source);
                    } else {
                        let mut other = None;
                        scan.envelope(&mut other)?;
                        line.source = other.map(|_| Source::default());
                    }
                }
                Some("ts_ms") => {
                    line.meet(64, "ts_ms");
                    line.unknown.get_or_insert(name);
                    scan.envelope(&mut line.ts_ms)?;
                }
                Some("schema") => {
                    line.unknown.get_or_insert(name);
                    let known = self.connect.text();
                    scan.next_byte()?;
                    let rest = scan.rest();
                    // Mostly the schema of the line before, which needs no second look.
                    if !(known.starts_with('{') && scan.pass(known)) {
                        scan.skip()?;
                    }
                    let text = &rest[..rest.len() - scan.rest().len()];
                    line.schema = Some(text);
                    // What is wrong with it is said once it is known to count.
                    schema = self.connect.of(text).ok().flatten();
                }
                Some("payload") if outer => {
                    line.meet(128, "payload");
                    line.unknown.get_or_insert(name);
                    let dialect = dialect.or(Some(Dialect::Debezium));
                    line.payload = if scan.next_byte()? == b'{' {
                        let mut inner = Box::<Line<'_>>::default();
                        self.line(scan, &mut inner, dialect, schema.as_ref(), false)?;
                        Some(Payload::Envelope(inner))
                    } else {
                        let mut other = None;
                        scan.envelope(&mut other)?;
                        other.is_none().then_some(Payload::Null)
                    };
                }
                _ => {
                    line.unknown.get_or_insert(name);
                    scan.skip()?;
                }
            }
        }
        Ok(())
    }

    /// The table that the rows probably are of, and the form.
    fn guess(
        &mut self,
        line: &Line<'_>,
        scan: &Scanner<'_>,
        dialect: Option<Dialect>,
    ) -> Option<(usize, Dialect)> {
        let source = line
            .source
            .as_ref()
            .and_then(|source| source.table.as_ref());
        if let Some(value) = line.table.as_ref().or(source) {
            let name = value.quoted()?;
            let told = match line.table {
                Some(_) => Dialect::Rulemill,
                None => Dialect::Debezium,
            };
            return Some((self.table(&name.text()?).ok()?, dialect.unwrap_or(told)));
        }
        let rest = scan.rest();
        let behind = &rest[self.find_table.find(rest.as_bytes())? + TABLE.len()..];
        let name = behind.trim_start().strip_prefix(':')?.trim_start();
        let name = name.strip_prefix('"')?;
        let name = &name[..memchr::memchr(b'"', name.as_bytes())?];
        Some((self.table(name).ok()?, dialect.unwrap_or(self.last_dialect)))
    }

    /// Reads a row as the guessed table's. Whatever goes wrong is left for later.
    fn early<'t>(
        &mut self,
        scan: &mut Scanner<'t>,
        which: Which,
        guess: Option<(usize, Dialect)>,
        schema: Option<&Arc<Schema>>,
        line: &mut Line<'t>,
    ) -> Result<(), Malformed> {
        let Some((table, dialect)) = guess else {
            return scan.envelope(line.row(which));
        };
        let start = scan.clone();
        let rows = line.early.get_or_insert_with(|| Early {
            table,
            dialect,
            schema: schema.cloned(),
            old: None,
            new: None,
        });
        if !same_schema(rows.schema.as_ref(), schema) {
            self.forget_rows();
            line.early = None;
            return scan.envelope(line.row(which));
        }
        let schema = schema.map(|schema| &**schema);
        let read = match which {
            Which::Old => self
                .old_row(table, scan, dialect, schema)
                .map(|row| rows.old = Some(row)),
            Which::New => self
                .new_row(table, scan, dialect, schema)
                .map(|row| rows.new = Some(row)),
        };
        // Columns are added to a table that is known to be the line's.
        if read.is_ok() && self.learnt.is_empty() {
            *line.row(which) = Some(Value {
                raw: start.until(scan),
                kind: Kind::Object,
            });
            return Ok(());
        }
        self.forget_rows();
        line.early = None;
        *scan = start;
        scan.envelope(line.row(which))
    }

    fn rulemill(&mut self, line: &Line<'_>) -> Result<(), Reason> {
        if let Some(unknown) = &line.unknown {
            let name = unknown.text().unwrap_or_default();
            let hint = match line.table {
                Some(_) => "",
                None => " (a Debezium change has its table in \"source\")",
            };
            return Err(Reason::unfit(format!(
                "the change has an unknown key {:?}: the keys are {KEYS}{hint}",
                shown(&name)
            )));
        }
        let name = line.table.as_ref().ok_or_else(|| {
            Reason::unfit("the change has no \"table\" (nor, as Debezium's would, a \"source\")")
        })?;
        let name = text_of(name, "table")?;
        let op = match &*line.op(&name)? {
            "insert" => RawOp::Insert,
            "update" => RawOp::Update,
            "upsert" => RawOp::Upsert,
            "delete" => RawOp::Delete,
            "truncate" => RawOp::Truncate,
            other => {
                return Err(Reason::unfit(format!(
                    "table {name}: unknown op {:?}: insert, update, upsert, delete or truncate",
                    shown(other)
                )));
            }
        };
        let time = line.ts.as_ref().map(|ts| {
            let ts = text_of(ts, "ts")?;
            let time = text::timestamp(&ts, Finer::Cut).ok_or_else(|| {
                Reason::unfit(format!(
                    "table {name}: \"ts\" is {:?}: expected a timestamp as YYYY-MM-DDTHH:MM:SSZ",
                    shown(&ts)
                ))
            })?;
            Ok(time.micros())
        });
        let time = time.transpose()?;
        let table = self.table(&name)?;
        self.change(table, op, line, Dialect::Rulemill, time, None)
    }

    fn debezium(&mut self, line: &Line<'_>) -> Result<(), Reason> {
        let source = line.source.as_ref();
        let name = source
            .and_then(|source| source.table.as_ref())
            .ok_or_else(|| {
                Reason::unfit("the Debezium change has no \"source\" with a \"table\"")
            })?;
        let name = text_of(name, "source.table")?;
        let op = match &*line.op(&name)? {
            "c" => RawOp::Insert,
            "u" => RawOp::Update,
            "d" => RawOp::Delete,
            "r" => RawOp::Read,
            "t" => RawOp::Truncate,
            // A message that the source's application put into its log is no row.
            "m" => return Ok(()),
            other => {
                return Err(Reason::unfit(format!(
                    "table {name}: unknown Debezium op {:?}: c, u, d, r or t",
                    shown(other)
                )));
            }
        };
        let millis = source.and_then(|source| source.ts_ms).or(line.ts_ms);
        let time = millis.map(|millis| {
            millis
                .raw
                .parse::<i64>()
                .ok()
                .and_then(|millis| millis.checked_mul(1_000))
                .and_then(Timestamp::from_micros)
                .map(Timestamp::micros)
                .ok_or_else(|| {
                    Reason::unfit(format!(
                        "table {name}: \"ts_ms\" is {}: expected a time in milliseconds, in range",
                        shown(millis.raw)
                    ))
                })
        });
        let time = time.transpose()?;
        let table = self.table(&name)?;
        let schema = match line.schema {
            Some(schema) if schema != "null" => self.connect.of(schema)?,
            _ => None,
        };
        self.change(table, op, line, Dialect::Debezium, time, schema.as_ref())
    }

    fn change(
        &mut self,
        table: usize,
        op: RawOp,
        line: &Line<'_>,
        dialect: Dialect,
        time: Option<i64>,
        schema: Option<&Arc<Schema>>,
    ) -> Result<(), Reason> {
        let mut pending = Pending {
            table: self.tables[table].table.id,
            op,
            key: 0..0,
            old_key: None,
            before: None,
            after: None,
            lacks: false,
            time,
        };
        if op == RawOp::Truncate {
            let known = &self.tables[table].table;
            if !known.mirror {
                return Err(Reason::unfit(format!(
                    "table {}: a truncate can't be taken: the table keeps no rows (mirror = false), so nobody knows which go",
                    known.name
                )));
            }
            self.pending.push(pending);
            return Ok(());
        }
        self.last_dialect = dialect;
        let (early_old, early_new) = match &line.early {
            Some(early)
                if early.table == table
                    && early.dialect == dialect
                    && same_schema(early.schema.as_ref(), schema) =>
            {
                (early.old.clone(), early.new.clone())
            }
            Some(_) => {
                self.forget_rows();
                (None, None)
            }
            None => (None, None),
        };
        let schema = schema.map(|schema| &**schema);
        let missing = |decoder: &Self, what: &str| {
            let table = &decoder.tables[table].table.name;
            Reason::unfit(format!("table {table}: the change has no \"{what}\""))
        };
        let old = match (op, early_old, &line.before) {
            (RawOp::Insert | RawOp::Read, _, _) => None,
            (_, Some(old), _) => Some(old),
            (_, None, Some(before)) => {
                Some(self.late(table, before, "before", |decoder, scan| {
                    decoder.old_row(table, scan, dialect, schema)
                })?)
            }
            // What a delete of our own form brings in `after` will do to name the row.
            (RawOp::Delete, None, None) => {
                let after = line.after.as_ref().ok_or_else(|| missing(self, "before"))?;
                Some(self.late(table, after, "after", |decoder, scan| {
                    decoder.old_row(table, scan, dialect, schema)
                })?)
            }
            (_, None, None) => None,
        };
        let new = match (op, early_new, &line.after) {
            (RawOp::Delete, _, _) => None,
            (_, Some(new), _) => Some(new),
            (_, None, Some(after)) => Some(self.late(table, after, "after", |decoder, scan| {
                decoder.new_row(table, scan, dialect, schema)
            })?),
            (_, None, None) => return Err(missing(self, "after")),
        };
        if let Some(old) = old {
            pending.before = old.row;
            pending.key = old.key;
        }
        let known = &self.tables[table].table;
        if !known.mirror && pending.before.is_none() && matches!(op, RawOp::Update | RawOp::Delete)
        {
            return Err(Reason::unfit(format!(
                "table {}: the change has no whole \"before\" (only the key is known), and the table keeps no rows \
                 to take it from (mirror = false)",
                known.name
            )));
        }
        if let Some(new) = new {
            let old_key = std::mem::replace(&mut pending.key, new.key.clone());
            let moved = !old_key.is_empty() && self.buffer[old_key.clone()] != self.buffer[new.key];
            pending.old_key = moved.then_some(old_key);
            pending.after = Some(new.row);
            pending.lacks = new.lacks;
        }
        self.pending.push(pending);
        Ok(())
    }

    /// Reads a row again that the line has been stepped over.
    fn late<T>(
        &mut self,
        table: usize,
        value: &Value<'_>,
        what: &str,
        read: impl FnOnce(&mut Self, &mut Scanner<'_>) -> Result<T, Fault>,
    ) -> Result<T, Reason> {
        if !matches!(value.kind, Kind::Object) {
            return Err(Reason::unfit(format!(
                "table {}: \"{what}\" is {}, which is no row as a JSON object",
                self.tables[table].table.name,
                shown(value.raw)
            )));
        }
        read(self, &mut Scanner::new(value.raw)).map_err(|fault| match fault {
            Fault::Unfit(reason) => reason,
            Fault::Malformed(fault) => malformed(value.raw, fault),
        })
    }

    /// Reads the row before. Only its key is needed where the host keeps the rows itself.
    fn old_row(
        &mut self,
        table: usize,
        scan: &mut Scanner<'_>,
        dialect: Dialect,
        schema: Option<&Schema>,
    ) -> Result<OldRow, Fault> {
        let key_only = self.tables[table].table.mirror;
        let held = self.row(table, scan, dialect, schema, key_only)?;
        let key = self.finish_key(table).map_err(Fault::Unfit)?;
        // Under replica identity DEFAULT only the key comes, the other columns left out or null.
        let row = if held.more_than_key || (!key_only && self.tables[table].is_all_key()) {
            Some(self.whole_row(table, held).map_err(Fault::Unfit)?)
        } else {
            None
        };
        Ok(OldRow { key, row })
    }

    fn new_row(
        &mut self,
        table: usize,
        scan: &mut Scanner<'_>,
        dialect: Dialect,
        schema: Option<&Schema>,
    ) -> Result<NewRow, Fault> {
        let held = self.row(table, scan, dialect, schema, false)?;
        let key = self.finish_key(table).map_err(Fault::Unfit)?;
        let row = self.whole_row(table, held).map_err(Fault::Unfit)?;
        let lacks = held.retyped || self.tables[table].lacks_declared(&self.builder, held.columns);
        Ok(NewRow { key, row, lacks })
    }

    fn row(
        &mut self,
        table: usize,
        scan: &mut Scanner<'_>,
        dialect: Dialect,
        schema: Option<&Schema>,
        key_only: bool,
    ) -> Result<Held, Fault> {
        RowReader {
            known: &mut self.tables[table],
            builder: &mut self.builder,
            dialect,
            schema,
            key_only,
            new_columns: &mut self.learnt.columns,
        }
        .read(scan)
    }
}

/// What stands before a table's name in what follows a row.
pub(super) const TABLE: &str = "\"table\"";

/// Whether rows read with one schema are those that another would give.
fn same_schema(a: Option<&Arc<Schema>>, b: Option<&Arc<Schema>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// Reads a Debezium `source`.
fn source<'t>(scan: &mut Scanner<'t>) -> Result<Source<'t>, Malformed> {
    let mut source = Source::default();
    let mut first = true;
    scan.enter()?;
    while let Some(name) = scan.name(&mut first)? {
        let place = match name.text().as_deref() {
            Some("table") => &mut source.table,
            Some("ts_ms") => &mut source.ts_ms,
            _ => {
                scan.skip()?;
                continue;
            }
        };
        source.twice |= place.is_some();
        scan.envelope(place)?;
    }
    Ok(source)
}

/// What is wrong with text that is no JSON: where, `serde_json` says.
#[cold]
fn malformed(text: &str, fault: Malformed) -> Reason {
    match (fault, serde_json::from_str::<serde::de::IgnoredAny>(text)) {
        (Malformed::Syntax, Err(error)) => Reason::malformed(format!("malformed JSON: {error}")),
        (Malformed::Syntax, Ok(_)) => Reason::malformed("malformed JSON"),
        (Malformed::TooDeep, _) => Reason::malformed(format!(
            "the JSON has brackets in brackets more than {} deep",
            super::scan::DEPTH_MAX
        )),
    }
}
