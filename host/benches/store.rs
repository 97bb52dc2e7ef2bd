//! What a commit and a lookup cost, in microseconds a row.
//!
//! `cargo bench -p rulemill --bench store [-- ROWS]`: a mirror of ROWS rows (1,000,000 unless told) is
//! filled in key order, then updated at random keys and extended at its end, in commits of several sizes, with and
//! without the log, as the committer does it. The directory is made under the system's temporary one.

#![allow(missing_docs)]

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use rulemill::{
    catalog::{Catalog, Column, Origin, Table, TableId},
    change::{Change, Key, Op, Seq},
    limits::Limits,
    row::RowBuilder,
    store::{RowWrite, Store, TableWrites, WriteSet},
};
use rulemill_wire::{ColumnType, ValueRef, key};

/// Changes of one write set, as the engine makes them.
const BATCH: usize = 4_096;
const TABLE: TableId = TableId(0);

/// Time passed, and time in which this thread ran: the first is what users wait for, the second what a busy
/// machine can't blur. On systems without `/proc` the second is 0.
#[derive(Clone, Copy, Default)]
struct Cost {
    wall: f64,
    cpu: f64,
}

struct Clock(Instant, f64);

impl Clock {
    fn start() -> Self {
        Self(Instant::now(), thread_seconds())
    }

    fn stop(&self, cost: &mut Cost) {
        cost.wall += self.0.elapsed().as_secs_f64();
        cost.cpu += thread_seconds() - self.1;
    }
}

fn thread_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat
        .split(' ')
        .next()
        .and_then(|nanos| nanos.parse::<f64>().ok());
    nanos.unwrap_or_default() / 1e9
}

fn print(what: &str, rows: usize, cost: Cost, more: &str) {
    let per_row = |seconds: f64| seconds * 1e6 / rows as f64;
    println!(
        "{what:<55} {:>9.2} us a row, {:>8.2} us of it running{more}",
        per_row(cost.wall),
        per_row(cost.cpu)
    );
}

type Failure = Box<dyn std::error::Error>;

/// A linear congruential generator: the keys need no better.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }
}

fn table() -> Table {
    let columns = ["id", "product_id", "user_id", "amount", "status"];
    Table {
        id: TABLE,
        name: "orders".into(),
        generation: 0,
        origin: Origin::Source,
        columns: columns
            .map(|name| Column {
                name: name.into(),
                ty: (name != "status").then_some(ColumnType::I64),
                nullable: false,
            })
            .into(),
        key: vec![0],
        indexes: Vec::new(),
        mirror: true,
        stage: rulemill::catalog::Stage::default(),
    }
}

/// Makes write sets as the engine does: keys and rows are slices of one buffer a batch.
struct Writer {
    seq: u64,
    builder: RowBuilder,
    random: Random,
}

impl Writer {
    fn row(&mut self, id: u64, state: u64, out: &mut Vec<u8>) -> std::ops::Range<usize> {
        self.builder.clear();
        self.builder.set(0, ValueRef::I64(id as i64));
        self.builder.set(1, ValueRef::I64((state % 1_000) as i64));
        self.builder
            .set(2, ValueRef::I64((state / 7 % 100_000) as i64));
        self.builder
            .set(3, ValueRef::I64((state / 11 % 100_000) as i64));
        let status = ["new", "paid and waiting", "shipped"][(state % 3) as usize];
        self.builder.set(4, ValueRef::Text(status));
        self.builder.finish(out)
    }

    fn batch(&mut self, ids: &[u64], log: bool) -> WriteSet {
        let mut buffer = Vec::with_capacity(ids.len() * 110);
        let mut places = Vec::with_capacity(ids.len());
        for &id in ids {
            let start = buffer.len();
            key::write(ValueRef::I64(id as i64), &mut buffer);
            let key = start..buffer.len();
            let (old, new) = (self.random.below(1 << 30), self.random.below(1 << 30));
            places.push((
                key,
                self.row(id, old, &mut buffer),
                self.row(id, new, &mut buffer),
            ));
        }
        let buffer = Bytes::from(buffer);
        let mut set = WriteSet::default();
        let mut rows = hashbrown::HashMap::<Key, RowWrite>::new();
        for (key, before, after) in places {
            self.seq += 1;
            let (key, after) = (buffer.slice(key), buffer.slice(after));
            rows.insert(
                key.clone(),
                RowWrite {
                    key: key.clone(),
                    before: None,
                    after: Some(after.clone()),
                    seq: Seq(self.seq),
                    version: 0,
                },
            );
            if log {
                set.log.push(Change {
                    seq: Seq(self.seq),
                    cause: Seq(self.seq),
                    table: TABLE,
                    op: Op::Update,
                    key,
                    before: Some(buffer.slice(before)),
                    after: Some(after),
                    time: 1_700_000_000_000_000 + self.seq as i64,
                });
            }
        }
        set.last_seq = Seq(self.seq);
        set.tables = vec![TableWrites {
            table: TABLE,
            generation: 0,
            rows: rows.into_values().collect(),
        }];
        set
    }

    fn group(&mut self, ids: &[u64], log: bool) -> Vec<WriteSet> {
        ids.chunks(BATCH).map(|ids| self.batch(ids, log)).collect()
    }
}

/// Commits these ids in groups of `size`; prints the mean time a row, of the commits alone.
fn run(
    store: &Store,
    writer: &mut Writer,
    what: &str,
    ids: &[u64],
    size: usize,
    log: bool,
) -> Result<(), Failure> {
    let (mut cost, mut log_bytes) = (Cost::default(), 0);
    for ids in ids.chunks(size) {
        let mut group = writer.group(ids, log);
        let clock = Clock::start();
        log_bytes += store.commit(&mut group)?.log_bytes;
        clock.stop(&mut cost);
    }
    let (log, more) = match log {
        false => ("off", String::new()),
        true => {
            let bytes = log_bytes as f64 / ids.len() as f64;
            ("on", format!("; {bytes:.0} bytes of log a change"))
        }
    };
    let what = format!("{what}, {size} a commit, log {log}");
    print(&what, ids.len(), cost, &more);
    Ok(())
}

fn lookups(store: &Store, random: &mut Random, rows: u64) -> Result<(), Failure> {
    let (reader, table) = (store.reader()?, table());
    let mut keys: Vec<Vec<u8>> = Vec::new();
    for _ in 0..500_000 {
        let mut out = Vec::new();
        key::write(ValueRef::I64(random.below(rows) as i64), &mut out);
        keys.push(out);
    }
    for what in ["lookups of random keys", "the same, sorted batches"] {
        let (clock, mut cost) = (Clock::start(), Cost::default());
        for key in &keys {
            assert!(reader.row(&table, key)?.is_some());
        }
        clock.stop(&mut cost);
        print(what, keys.len(), cost, "");
        keys.chunks_mut(BATCH).for_each(<[_]>::sort_unstable);
    }
    let (clock, mut cost) = (Clock::start(), Cost::default());
    let mut count = 0;
    for entry in reader.rows(&table, &[], None, false)? {
        entry?;
        count += 1;
    }
    clock.stop(&mut cost);
    print("scan", count, cost, "");
    Ok(())
}

fn main() -> Result<(), Failure> {
    // `cargo bench` hands its own `--bench` on.
    let rows: u64 = match std::env::args().skip(1).find(|arg| !arg.starts_with('-')) {
        Some(rows) => rows.parse()?,
        None => 1_000_000,
    };
    let dir = tempfile::tempdir()?;
    let limits = Limits::default();
    let store = Store::open(dir.path(), &limits)?;
    store.commit(&mut [WriteSet {
        catalog: Some(Arc::new(Catalog::from_tables(vec![table()]))),
        ..WriteSet::default()
    }])?;
    let mut writer = Writer {
        seq: 0,
        builder: RowBuilder::default(),
        random: Random(1),
    };
    let all: Vec<u64> = (0..rows).collect();
    run(
        &store,
        &mut writer,
        "fill in key order",
        &all,
        250_000,
        false,
    )?;
    lookups(&store, &mut Random(3), rows)?;
    let mut end = rows;
    for (size, count) in [
        (250_000, 1_000_000),
        (50_000, 500_000),
        (10_000, 100_000),
        (1_000, 20_000),
        (1, 200),
    ] {
        for log in [false, true] {
            let mut random = Random(size as u64);
            let ids: Vec<u64> = (0..count).map(|_| random.below(rows)).collect();
            run(&store, &mut writer, "update random keys", &ids, size, log)?;
        }
        let ids: Vec<u64> = (end..end + count).collect();
        end += count;
        run(
            &store,
            &mut writer,
            "insert behind the last",
            &ids,
            size,
            true,
        )?;
    }
    lookups(&store, &mut Random(5), rows)?;
    println!("file: {} MB", store.file_bytes()? >> 20);
    let start = Instant::now();
    drop(store);
    println!("close: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    let start = Instant::now();
    drop(Store::open(dir.path(), &limits)?);
    println!(
        "open and close: {:.1} ms",
        start.elapsed().as_secs_f64() * 1e3
    );
    Ok(())
}
