//! What decoding a line costs, in nanoseconds.
//!
//! `cargo bench -p rulemill --bench decode [-- LINES]`: LINES (200,000 unless told) changes of a table of orders, 70 %
//! inserts, 20 % updates, 10 % deletes, in each form that input can have, decoded in batches as a source does it; and
//! as a control the Debezium lines read by `serde_json` into a struct made for them.

#![allow(missing_docs)]

use std::{hint::black_box, sync::Arc, time::Instant};

use rulemill::{
    catalog::{Catalog, Column, Origin, SharedCatalog, Table, TableId},
    change::{Receipt, Refused, Seq, SourceBatch},
    config::OnBadInput,
    decode::{Decoder, Format, Header, Split, Splitter},
    engine::SourceStatus,
    limits::Limits,
    source::{Files, Intake, Setting, Stopper},
};
use rulemill_wire::ColumnType;
use serde::Deserialize;

/// Changes of one batch.
const BATCH: usize = 4_096;
/// Each is measured so often; the best counts, since on a busy machine the others say more of the neighbours.
const ROUNDS: usize = 7;

type Failure = Box<dyn std::error::Error>;

fn table(declared: bool) -> Table {
    let columns = [
        ("id", ColumnType::I64),
        ("user_id", ColumnType::I64),
        ("product_id", ColumnType::I64),
        ("amount", ColumnType::Decimal),
        ("status", ColumnType::Text),
    ];
    Table {
        id: TableId(0),
        name: "orders".into(),
        generation: 0,
        origin: Origin::Source,
        columns: columns
            .map(|(name, ty)| Column {
                name: name.into(),
                ty: (declared || name == "id").then_some(ty),
                nullable: !declared && name != "id",
            })
            .into(),
        key: vec![0],
        indexes: Vec::new(),
        mirror: true,
        stage: rulemill::catalog::Stage::default(),
    }
}

/// The lines of each form, one behind the other as in a file.
#[derive(Default)]
struct Lines {
    debezium: String,
    rulemill: String,
    csv: String,
}

fn lines(count: usize) -> Lines {
    let mut lines = Lines::default();
    let mut random = 1u64;
    let mut below = |end: u64| {
        // A linear congruential generator: the rows need no better.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % end
    };
    for id in 0..count {
        let mut row = |id: usize| {
            let (user, product) = (below(100_000), below(1_000));
            let (euros, cents) = (below(1_000), below(100));
            let status = ["new", "paid", "shipped"][below(3) as usize];
            (
                format!(
                    r#"{{"id":{id},"user_id":{user},"product_id":{product},"amount":"{euros}.{cents:02}","status":"{status}"}}"#
                ),
                format!("{id},{user},{product},{euros}.{cents:02},{status}\n"),
            )
        };
        let ((first, csv), (second, _)) = (row(id), row(id));
        let (short, long, before, after) = match id % 10 {
            0..7 => ("c", "insert", "null", &*first),
            7..9 => ("u", "update", &*first, &*second),
            _ => ("d", "delete", &*first, "null"),
        };
        let millis = 1_767_225_600_000 + id;
        lines.debezium += &format!(
            r#"{{"before":{before},"after":{after},"source":{{"table":"orders","lsn":{id}}},"op":"{short}","ts_ms":{millis}}}"#
        );
        lines.rulemill += &format!(
            r#"{{"table":"orders","op":"{long}","before":{before},"after":{after},"ts":"2026-01-31T12:00:00Z"}}"#
        );
        lines.debezium.push('\n');
        lines.rulemill.push('\n');
        lines.csv += &csv;
    }
    lines
}

/// What a hand-written program for this one table would have.
#[derive(Deserialize)]
#[expect(dead_code, reason = "what is read is thrown away")]
struct Envelope<'a> {
    #[serde(borrow)]
    before: Option<Order<'a>>,
    #[serde(borrow)]
    after: Option<Order<'a>>,
    #[serde(borrow)]
    source: Source<'a>,
    op: &'a str,
    ts_ms: i64,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is read is thrown away")]
struct Order<'a> {
    id: i64,
    user_id: i64,
    product_id: i64,
    amount: &'a str,
    status: &'a str,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is read is thrown away")]
struct Source<'a> {
    table: &'a str,
}

/// The best of several rounds, in nanoseconds a line.
fn measure(
    what: &str,
    text: &str,
    count: usize,
    mut round: impl FnMut() -> Result<usize, Failure>,
) -> Result<f64, Failure> {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let changes = round()?;
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / count as f64);
        assert_eq!(changes, count, "{what}: every line is a change");
    }
    let bytes = text.len() / count;
    println!("{what:<48} {best:>6.0} ns a line of {bytes} bytes");
    Ok(best)
}

fn json(text: &str, declared: bool, format: Option<Format>) -> Result<usize, Failure> {
    let catalog = SharedCatalog::new(Catalog::from_tables(vec![table(declared)]));
    let mut decoder = Decoder::new(Arc::new(catalog), &Limits::default());
    let (mut changes, mut start) = (0, 0);
    for end in memchr::memchr_iter(b'\n', text.as_bytes()) {
        decoder
            .json_line(&text.as_bytes()[start..end], format)
            .map_err(|reason| reason.text)?;
        start = end + 1;
        if decoder.len() >= BATCH {
            changes += black_box(decoder.take()).len();
        }
    }
    Ok(changes + decoder.take().len())
}

/// Takes batches and forgets them.
struct Sink(Arc<std::sync::atomic::AtomicUsize>);

impl Intake for Sink {
    fn submit(&self, batch: SourceBatch) -> Result<(), Refused> {
        let changes = black_box(batch.changes).len();
        self.0
            .fetch_add(changes, std::sync::atomic::Ordering::Relaxed);
        if let Some(done) = batch.done {
            done(Ok(Receipt {
                seq: Seq(0),
                changes: 0,
                repeated: false,
            }));
        }
        Ok(())
    }

    fn show(&self, _source: &str, _change: &dyn Fn(&mut SourceStatus)) {}
}

/// The same from a file, as `run --once` reads it.
fn file(path: &std::path::Path) -> Result<usize, Failure> {
    let catalog = SharedCatalog::new(Catalog::from_tables(vec![table(true)]));
    let taken = Arc::default();
    let (_stopper, stop) = Stopper::new();
    let setting = Setting {
        name: "bench".into(),
        intake: Box::new(Sink(Arc::clone(&taken))),
        catalog: Arc::new(catalog),
        limits: Arc::default(),
        on_bad_input: OnBadInput::Halt,
        once: true,
        stop,
    };
    Files::new(setting, path.to_owned(), None, Vec::new()).run()?;
    Ok(taken.load(std::sync::atomic::Ordering::Relaxed))
}

fn csv(text: &str) -> Result<usize, Failure> {
    let catalog = SharedCatalog::new(Catalog::from_tables(vec![table(true)]));
    let mut decoder = Decoder::new(Arc::new(catalog), &Limits::default());
    let names = ["id", "user_id", "product_id", "amount", "status"];
    let header = Header::from_names(names.map(str::to_owned).into());
    let mut splitter = Splitter::default();
    let (mut changes, mut rest) = (0, text.as_bytes());
    while let Split::Record { len, .. } = splitter.split(rest, false) {
        decoder
            .csv_record("orders", &header, &rest[..len], &splitter)
            .map_err(|reason| reason.text)?;
        rest = &rest[len..];
        if decoder.len() >= BATCH {
            changes += black_box(decoder.take()).len();
        }
    }
    Ok(changes + decoder.take().len())
}

fn main() -> Result<(), Failure> {
    // `cargo bench` hands its own `--bench` on.
    let count: usize = match std::env::args().skip(1).find(|arg| !arg.starts_with('-')) {
        Some(count) => count.parse()?,
        None => 200_000,
    };
    let lines = lines(count);
    let control = measure(
        "control: serde_json, a struct",
        &lines.debezium,
        count,
        || {
            let mut changes = 0;
            for line in lines.debezium.lines() {
                black_box(serde_json::from_str::<Envelope<'_>>(line)?);
                changes += 1;
            }
            Ok(changes)
        },
    )?;
    let ours = measure("debezium", &lines.debezium, count, || {
        json(&lines.debezium, true, None)
    })?;
    println!("    {:.2} times the control", ours / control);
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("orders.jsonl");
    std::fs::write(&path, &lines.debezium)?;
    let whole = measure("debezium, from a file", &lines.debezium, count, || {
        file(&path)
    })?;
    println!("    {:.0} ns more than decoding alone", whole - ours);
    measure(
        "debezium, columns without types",
        &lines.debezium,
        count,
        || json(&lines.debezium, false, Some(Format::Debezium)),
    )?;
    measure("rulemill", &lines.rulemill, count, || {
        json(&lines.rulemill, true, None)
    })?;
    measure("csv", &lines.csv, count, || csv(&lines.csv))?;
    Ok(())
}
