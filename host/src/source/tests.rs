//! Sources against real files, and an engine that only takes notes.

mod stuck;

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    path::PathBuf,
    sync::{Condvar, Mutex},
    time::Duration,
};

use rulemill_wire::ColumnType;

use super::{
    reader::{Next, Outstanding, RecordReader},
    window::Window,
    *,
};
use crate::{
    catalog::{Catalog, Column, Origin, Table, TableId},
    change::{BadInput, Receipt},
    decode::Format,
    render,
};

/// Longer than any of this takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came in.
#[derive(Default)]
struct Notes {
    /// `t 1`: the tables and keys of the changes, in order.
    changes: Vec<String>,
    bad: Vec<BadInput>,
    positions: BTreeMap<String, Vec<u8>>,
    /// After each batch: how many changes and bad inputs there were, and the positions.
    history: Vec<(usize, usize, BTreeMap<String, Vec<u8>>)>,
    status: SourceStatus,
    /// How often something was shown.
    shown: usize,
}

/// An engine that takes notes.
#[derive(Clone)]
struct Engine {
    notes: Arc<(Mutex<Notes>, Condvar)>,
    catalog: Arc<SharedCatalog>,
}

impl Intake for Engine {
    fn submit(&self, batch: SourceBatch) -> Result<(), Refused> {
        let catalog = self.catalog.load();
        let mut notes = self.notes.0.lock().unwrap();
        for change in &batch.changes {
            let table = catalog.table(change.table);
            let key = render::key_to_json(table, &change.key).unwrap();
            notes.changes.push(format!("{} {key}", table.name));
        }
        notes.bad.extend(batch.bad);
        for position in batch.positions {
            notes.positions.insert(position.part, position.bytes);
        }
        let entry = (
            notes.changes.len(),
            notes.bad.len(),
            notes.positions.clone(),
        );
        notes.history.push(entry);
        drop(notes);
        self.notes.1.notify_all();
        if let Some(done) = batch.done {
            done(Ok(Receipt {
                seq: crate::change::Seq(1),
                changes: 0,
                repeated: false,
            }));
        }
        Ok(())
    }

    fn show(&self, _source: &str, change: &dyn Fn(&mut SourceStatus)) {
        let mut notes = self.notes.0.lock().unwrap();
        change(&mut notes.status);
        notes.shown += 1;
        drop(notes);
        self.notes.1.notify_all();
    }
}

/// A directory, and what has been read of it.
struct Rig {
    dir: tempfile::TempDir,
    engine: Engine,
    limits: Limits,
    on_bad_input: OnBadInput,
}

impl Rig {
    fn new() -> Self {
        let table = |id, name: &str| Table {
            id: TableId(id),
            name: name.into(),
            generation: 0,
            origin: Origin::Source,
            columns: vec![Column {
                name: "id".into(),
                ty: Some(ColumnType::I64),
                nullable: false,
            }],
            key: vec![0],
            indexes: Vec::new(),
            mirror: true,
            stage: crate::catalog::Stage::default(),
        };
        let tables = vec![table(0, "t"), table(1, "u")];
        let catalog = Arc::new(SharedCatalog::new(Catalog::from_tables(tables)));
        Self {
            dir: tempfile::tempdir().unwrap(),
            engine: Engine {
                notes: Arc::default(),
                catalog,
            },
            limits: Limits::default(),
            on_bad_input: OnBadInput::Park,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut file = OpenOptions::new()
            .append(true)
            .open(self.path(name))
            .unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    fn setting(&self, once: bool, stop: &Stop) -> Setting {
        Setting {
            name: "inbox".into(),
            intake: Box::new(self.engine.clone()),
            catalog: self.engine.catalog.clone(),
            limits: Arc::new(self.limits.clone()),
            on_bad_input: self.on_bad_input,
            once,
            stop: stop.clone(),
        }
    }

    fn files(&self, path: PathBuf, once: bool, stop: &Stop) -> Files {
        let positions = self.notes(|notes| notes.positions.clone());
        let positions = positions
            .into_iter()
            .map(|(part, bytes)| Position { part, bytes })
            .collect();
        Files::new(self.setting(once, stop), path, None, positions)
    }

    /// Reads what is there, from the stored positions, as `--once` does.
    fn once(&self) -> anyhow::Result<()> {
        let (_stopper, stop) = Stopper::new();
        self.files(self.dir.path().to_owned(), true, &stop).run()
    }

    fn follow(&self) -> Following<'_> {
        self.follow_path(self.dir.path().to_owned())
    }

    fn follow_path(&self, path: PathBuf) -> Following<'_> {
        let (stopper, stop) = Stopper::new();
        let files = self.files(path, false, &stop);
        Following {
            rig: self,
            stopper,
            thread: Some(thread::spawn(move || files.run())),
        }
    }

    fn notes<T>(&self, look: impl FnOnce(&Notes) -> T) -> T {
        look(&self.engine.notes.0.lock().unwrap())
    }

    fn changes(&self) -> Vec<String> {
        self.notes(|notes| notes.changes.clone())
    }

    /// `file:line: reason` of what was parked.
    fn bad(&self) -> Vec<String> {
        self.notes(|notes| {
            let bad = notes.bad.iter();
            bad.map(|bad| format!("{}:{}: {}", bad.origin, bad.line, bad.reason))
                .collect()
        })
    }

    #[track_caller]
    fn wait(&self, what: &str, until: impl Fn(&Notes) -> bool) {
        let (notes, changed) = &*self.engine.notes;
        let (notes, wait) = changed
            .wait_timeout_while(notes.lock().unwrap(), PATIENCE, |notes| !until(notes))
            .unwrap();
        assert!(
            !wait.timed_out(),
            "{what}: {:?} {:?} {:?}",
            notes.changes,
            notes.bad,
            notes.status
        );
    }

    #[track_caller]
    fn wait_for(&self, changes: &[i64]) {
        let changes = rows(changes);
        self.wait(&format!("{changes:?}"), |notes| notes.changes == changes);
    }
}

struct Following<'r> {
    rig: &'r Rig,
    stopper: Stopper,
    thread: Option<thread::JoinHandle<anyhow::Result<()>>>,
}

impl Following<'_> {
    fn stop(mut self) {
        self.stopper.stop();
        self.thread.take().unwrap().join().unwrap().unwrap();
    }

    /// Waits until all that is there has been looked at.
    fn idle(&self) {
        self.rig.wait("following", |notes| {
            notes.status.state.starts_with("following")
        });
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.stopper.stop();
    }
}

fn line(id: i64) -> String {
    format!("{{\"table\":\"t\",\"op\":\"upsert\",\"after\":{{\"id\":{id}}}}}\n")
}

fn lines(ids: impl IntoIterator<Item = i64>) -> String {
    ids.into_iter().map(line).collect()
}

fn rows(ids: &[i64]) -> Vec<String> {
    ids.iter().map(|id| format!("t {id}")).collect()
}

#[test]
fn files_are_read_in_the_order_of_their_names() {
    let rig = Rig::new();
    rig.write("b.jsonl", lines([3, 4]));
    rig.write("a.ndjson", format!("\u{feff}{}\r\n", lines([1]).trim_end()));
    rig.write("t.csv", "\u{feff}id\r\n5\r\n\r\n6");
    // The end of a file ends its last line.
    rig.write("aa.jsonl", line(2).trim_end());
    rig.write("notes.txt", "no input");
    rig.once().unwrap();
    assert_eq!(rig.changes(), rows(&[1, 2, 3, 4, 5, 6]));
    assert_eq!(rig.bad(), [""; 0]);
    rig.once().unwrap();
    assert_eq!(rig.changes().len(), 6, "nothing is read twice");
}

#[test]
fn half_a_line_waits_for_its_end() {
    let rig = Rig::new();
    let text = line(2);
    let (first, second) = text.split_at(20);
    rig.write("a.jsonl", line(1) + first);
    let following = rig.follow();
    rig.wait_for(&[1]);
    following.idle();
    rig.append("a.jsonl", second);
    rig.wait_for(&[1, 2]);
    // New files are found, and half a record of CSV waits too.
    rig.write("t.csv", "id,note\n3,\"two\n");
    rig.write("b.jsonl", line(4));
    rig.wait_for(&[1, 2, 4]);
    rig.append("t.csv", "lines\"\n");
    rig.wait_for(&[1, 2, 4, 3]);
    following.stop();
    assert_eq!(rig.bad(), [""; 0]);
}

#[test]
fn a_file_that_was_cut_or_replaced_is_read_from_its_start() {
    let rig = Rig::new();
    rig.write("a.jsonl", lines([1, 2, 3]));
    let following = rig.follow();
    rig.wait_for(&[1, 2, 3]);
    rig.write("a.jsonl", lines([4]));
    rig.wait_for(&[1, 2, 3, 4]);
    rig.write("new", lines([5, 6, 7]));
    fs::rename(rig.path("new"), rig.path("a.jsonl")).unwrap();
    rig.wait_for(&[1, 2, 3, 4, 5, 6, 7]);
    following.stop();
    // Also while nobody looked.
    rig.write("a.jsonl", lines([8]));
    rig.once().unwrap();
    // A copy that only grew is the same file.
    rig.write("new", lines([8, 9]));
    fs::rename(rig.path("new"), rig.path("a.jsonl")).unwrap();
    rig.once().unwrap();
    assert_eq!(rig.changes(), rows(&[1, 2, 3, 4, 5, 6, 7, 8, 9]));
}

/// The host can be killed after any commit: what follows from the positions of that commit must be what is left.
#[test]
fn from_every_stored_position_the_rest_follows() {
    let mut whole = Rig::new();
    whole.limits.batch_changes_max = 1;
    whole.limits.line_bytes_max = 1_000;
    // Its end comes some reads later, and has something that looks like a line of its own.
    let long = format!("{{\"x\":\"{}\"}} {}", "x".repeat(700_000), line(99));
    whole.write("a.jsonl", lines([1, 2]) + "bad\n" + &long + &line(3));
    whole.write("b.jsonl", long.clone() + &line(4));
    whole.write(
        "t.csv",
        "id,note\n5,\"a\nb\"\n6,c,c\n7,\"open\n8,\n".to_owned() + &long + "9,\n",
    );
    whole.once().unwrap();
    assert_eq!(whole.changes(), rows(&[1, 2, 3, 4, 5, 8, 9]));
    let bad: Vec<u64> = whole.notes(|notes| notes.bad.iter().map(|bad| bad.line).collect());
    assert_eq!(bad, [3, 4, 1, 4, 5, 7], "{:?}", whole.bad());
    let history = whole.notes(|notes| notes.history.clone());
    assert!(history.len() > 12, "{}", history.len());
    for (changes, bad, positions) in history {
        let mut rest = Rig::new();
        rest.limits = whole.limits.clone();
        for name in ["a.jsonl", "b.jsonl", "t.csv"] {
            fs::copy(whole.path(name), rest.path(name)).unwrap();
        }
        rest.engine.notes.0.lock().unwrap().positions = positions;
        rest.once().unwrap();
        assert_eq!(
            rest.changes(),
            whole.changes()[changes..],
            "after {changes}, {bad}"
        );
        assert_eq!(rest.bad(), whole.bad()[bad..], "after {changes}, {bad}");
    }
}

/// The memory that is needed depends on the limit, not on the line or the file.
#[test]
fn memory_is_bounded_by_the_limit() {
    let mut rig = Rig::new();
    rig.limits.line_bytes_max = 1 << 20;
    let (_stopper, stop) = Stopper::new();
    let setting = rig.setting(true, &stop);
    let read = |format, start: &str, long: u64, end: String| {
        let mut records = RecordReader::new(&setting, "x".into(), format, Some("t".into()));
        let mut input = start
            .as_bytes()
            .chain(io::repeat(b'x').take(long))
            .chain(end.as_bytes());
        let (mut window, mut most, mut ended) = (Window::default(), 0, false);
        loop {
            let mut used = 0;
            let next = records
                .take(&setting, window.unused(), ended, &mut used)
                .unwrap();
            window.take(used);
            most = most.max(window.capacity());
            match next {
                Next::More if ended => break,
                Next::More => ended = window.fill(&mut input).unwrap() == 0,
                Next::HandOver => drop(records.batch(&setting, Vec::new(), None)),
                Next::Stuck => panic!("{:?}", records.stuck),
            }
        }
        let batch = records.batch(&setting, Vec::new(), None);
        (most, batch.changes.len(), batch.bad.len())
    };
    let (most, changes, bad) = read(None, &line(1), 80 << 20, "\n".to_owned() + &line(2));
    assert!(most < 4 << 20, "{most}");
    assert_eq!((changes, bad), (2, 1));
    let (most, changes, bad) = read(Some(Format::Csv), "id,note\n1,", 80 << 20, "\n2,\n".into());
    assert!(most < 4 << 20, "{most}");
    assert_eq!((changes, bad), (1, 1));
    let (most, ..) = read(None, &lines(0..100_000), 0, String::new());
    assert!(most < 4 << 20, "{most}");
}

/// Looking at a file must not count as something that has happened to it, or one look wakes the next for ever.
#[test]
fn a_source_at_rest_makes_no_pass() {
    let rig = Rig::new();
    rig.write("a.jsonl", lines([1, 2]));
    let following = rig.follow();
    rig.wait_for(&[1, 2]);
    following.idle();
    let before = rig.notes(|notes| notes.shown);
    // Each pass shows its end. Some may be due to what was written; the next is due in seconds.
    let (notes, changed) = &*rig.engine.notes;
    let (notes, wait) = changed
        .wait_timeout_while(notes.lock().unwrap(), Duration::from_secs(1), |notes| {
            notes.shown < before + 20
        })
        .unwrap();
    drop(notes);
    assert!(wait.timed_out(), "it goes on looking");
    rig.append("a.jsonl", line(3));
    rig.wait_for(&[1, 2, 3]);
    following.stop();
}

#[test]
fn a_source_that_is_to_halt_stops_before_bad_input() {
    let mut rig = Rig::new();
    rig.on_bad_input = OnBadInput::Halt;
    rig.write("a.jsonl", lines([1, 2]) + "bad\n" + &line(3));
    rig.once().unwrap();
    assert_eq!(rig.changes(), rows(&[1, 2]));
    rig.notes(|notes| {
        assert_eq!(notes.status.state, "halted");
        let error = notes.status.last_error.as_deref().unwrap();
        assert!(error.starts_with("a.jsonl:3: "), "{error}");
        assert!(notes.bad.is_empty());
    });
    // Mended behind what was read, it goes on there.
    rig.write("a.jsonl", lines([1, 2]) + &lines([7, 3]));
    rig.once().unwrap();
    assert_eq!(rig.changes(), rows(&[1, 2, 7, 3]));
}

#[test]
fn a_file_that_is_not_there_yet_is_waited_for() {
    let rig = Rig::new();
    let path = rig.path("sub").join("changes.jsonl");
    let following = rig.follow_path(path.clone());
    following.idle();
    assert!(!path.exists());
    rig.write("sub/other.jsonl", line(9));
    rig.write("sub/changes.jsonl", line(1));
    rig.wait_for(&[1]);
    following.stop();
    let (_stopper, stop) = Stopper::new();
    let error = rig.files(rig.path("no.jsonl"), true, &stop).run();
    assert!(error.unwrap_err().to_string().contains("is not there"));
}

#[test]
fn a_batch_that_is_dropped_is_not_waited_for() {
    let outstanding = Outstanding::default();
    let (sender, result) = bounded(1);
    drop(outstanding.one());
    let waiting = outstanding.clone();
    thread::spawn(move || sender.send(waiting.wait()));
    let result = result.recv_timeout(PATIENCE).expect("it ends");
    assert!(
        result
            .unwrap_err()
            .to_string()
            .contains("without an answer")
    );
    let outstanding = Outstanding::default();
    (outstanding.one())(Err(Refused::Stopped("disk full".into())));
    let refused = outstanding.wait().unwrap_err().to_string();
    assert!(refused.contains("disk full"), "{refused}");
}

#[test]
fn standard_input_ends_with_its_last_line() {
    let run = |rig: &Rig, format, text: &str| {
        let (_stopper, stop) = Stopper::new();
        let table = (format == Some(Format::Csv)).then(|| "t".to_owned());
        let stdin = Stdin::new(rig.setting(true, &stop), format, table);
        // Bytes come as they come.
        let (start, end) = text.split_at(text.len() / 3);
        stdin.run(start.as_bytes().chain(end.as_bytes())).unwrap();
    };
    let rig = Rig::new();
    run(
        &rig,
        None,
        &format!("\u{feff}{}x\n{}", lines([1, 2]), line(3).trim_end()),
    );
    assert_eq!(rig.changes(), rows(&[1, 2, 3]));
    assert_eq!(rig.bad().len(), 1);
    run(&rig, Some(Format::Csv), "id\n4\n5");
    assert_eq!(rig.changes(), rows(&[1, 2, 3, 4, 5]));
    assert_eq!(rig.notes(|notes| notes.status.state.clone()), "ended");
    // A header that makes no sense can't be mended in a pipe.
    run(&rig, Some(Format::Csv), "id,id\n4,5\n");
    assert_eq!(rig.changes().len(), 5);
    assert_eq!(rig.bad().len(), 2);
    assert_eq!(rig.notes(|notes| notes.status.state.clone()), "halted");
}
