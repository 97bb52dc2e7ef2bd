//! The plugin directory: what is there at start, and what comes, changes and goes while it is
//! watched.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

#[path = "../guests/mod.rs"]
mod guests;

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    time::Duration,
};

use guests::{Guest, manifest};
use rulemill::{
    engine::PluginEvent,
    limits::Limits,
    plugin_dir::{PluginDir, Watching},
    rule::Runtime,
};
use serde_json::json;

/// A guest that says that it is of this version.
fn guest(version: &str) -> Vec<u8> {
    let mut manifest = manifest();
    manifest.version = version.into();
    Guest {
        manifest: manifest.to_bytes(),
        ..Guest::default()
    }
    .assemble()
}

/// An event as a line.
fn line(event: PluginEvent) -> String {
    match event {
        PluginEvent::Loaded { name, plugin, .. } => {
            format!("{name} loaded {}", plugin.manifest().version)
        }
        PluginEvent::Refused { name, reason, .. } => format!("{name} refused: {reason}"),
        PluginEvent::Removed { name } => format!("{name} removed"),
    }
}

fn open(dir: &Path) -> PluginDir {
    let limits = Limits {
        plugin_debounce_ms: 50,
        plugin_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let runtime = Arc::new(Runtime::new(&limits, None).unwrap());
    PluginDir::new(dir.to_owned(), runtime, &limits, HashMap::new())
}

fn scan(dir: &mut PluginDir) -> Vec<String> {
    dir.scan().unwrap().into_iter().map(line).collect()
}

/// A directory that is being watched.
struct Watched {
    temporary: tempfile::TempDir,
    events: Receiver<String>,
    watching: Watching,
}

impl Watched {
    fn new() -> Self {
        Self::start(|dir| fs::create_dir(dir).unwrap())
    }

    fn start(prepare: impl FnOnce(&Path)) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        prepare(&temporary.path().join("plugins"));
        let (send, events) = mpsc::channel();
        let watching = open(&temporary.path().join("plugins"))
            .watch(move |event| send.send(line(event)).unwrap())
            .unwrap();
        Self {
            temporary,
            events,
            watching,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temporary.path().join("plugins").join(name)
    }

    /// Writes a file at once.
    fn write(&self, name: &str, code: &[u8]) {
        fs::write(self.path(name), code).unwrap();
    }

    #[track_caller]
    fn expect(&self, expected: &str) {
        let event = self.events.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(
            event.starts_with(expected),
            "expected {expected}, found {event}"
        );
    }

    /// Checks that nothing has been reported up to a plugin that comes now.
    #[track_caller]
    fn expect_nothing(&self) {
        let mark = guest("mark");
        self.write("mark.wasm", &mark);
        self.expect("mark loaded mark");
        fs::remove_file(self.path("mark.wasm")).unwrap();
        self.expect("mark removed");
    }
}

#[test]
fn a_scan_reports_all_files_and_then_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, code: &[u8]| fs::write(dir.path().join(name), code).unwrap();
    write("b.wasm", &guest("1"));
    write("a.wasm", &guest("2"));
    write("text.wasm", b"fn main() {}");
    write("large.wasm", &vec![0; (1 << 20) + 1]);
    write("my shop!.wasm", &guest("3"));
    write(".hidden.wasm", b"half of");
    write("README.md", b"text");
    fs::create_dir(dir.path().join("folder.wasm")).unwrap();
    let mut plugins = open(dir.path());
    assert_eq!(
        scan(&mut plugins),
        [
            "a loaded 2",
            "b loaded 1",
            "large refused: can't be read: it has 1048577 bytes, and limits.plugin_bytes_max is \
             1048576",
            "my shop! refused: has the name \"my shop!\": rename the file so that it has only \
             letters a to z, digits, _ and - before .wasm",
            "text refused: is no valid WebAssembly: it doesn't begin with the bytes `\\0asm`",
        ]
    );
    assert_eq!(scan(&mut plugins), [""; 0]);
    write("a.wasm", &guest("4"));
    fs::remove_file(dir.path().join("b.wasm")).unwrap();
    fs::remove_file(dir.path().join("text.wasm")).unwrap();
    assert_eq!(
        scan(&mut plugins),
        ["b removed", "text removed", "a loaded 4"]
    );
}

#[test]
fn each_plugin_gets_its_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let says_config = Guest {
        describe: "(call $return (i32.const 1) (local.get $config) (local.get $len))",
        ..Guest::default()
    };
    for name in ["shop.wasm", "audit.wasm"] {
        fs::write(dir.path().join(name), says_config.assemble()).unwrap();
    }
    let limits = Limits::default();
    let runtime = Arc::new(Runtime::new(&limits, None).unwrap());
    let configs = HashMap::from([("shop".to_owned(), json!({"currency": "EUR"}))]);
    let mut plugins = PluginDir::new(dir.path().to_owned(), runtime, &limits, configs);
    assert_eq!(
        scan(&mut plugins),
        [
            "audit refused: refused its configuration: null",
            "shop refused: refused its configuration: {\"currency\":\"EUR\"}",
        ]
    );
}

#[test]
fn a_missing_directory_is_an_error_of_the_scan() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("plugins");
    let error = open(&missing).scan().err().unwrap();
    assert_eq!(
        format!("{error:#}"),
        format!(
            "can't read plugin_dir {}: No such file or directory (os error 2)",
            missing.display()
        )
    );
}

#[test]
fn files_that_come_change_and_go_are_reported() {
    let dir = Watched::new();
    dir.write("a.wasm", &guest("1"));
    dir.expect("a loaded 1");
    dir.write("a.wasm", &guest("2"));
    dir.expect("a loaded 2");
    // By renaming, as installers do.
    fs::write(dir.path(".a.tmp"), guest("3")).unwrap();
    fs::rename(dir.path(".a.tmp"), dir.path("a.wasm")).unwrap();
    dir.expect("a loaded 3");
    dir.write("a.wasm", b"broken");
    dir.expect("a refused: is no valid WebAssembly");
    dir.write("a.wasm", &guest("3"));
    dir.expect("a loaded 3");
    fs::rename(dir.path("a.wasm"), dir.path("b.wasm")).unwrap();
    let mut both = [(); 2].map(|()| {
        let event = dir.events.recv_timeout(Duration::from_secs(20));
        event.unwrap()
    });
    both.sort();
    assert_eq!(both, ["a removed", "b loaded 3"]);
    fs::remove_file(dir.path("b.wasm")).unwrap();
    dir.expect("b removed");
    drop(dir.watching);
    assert!(
        dir.events.recv().is_err(),
        "nothing is reported after the end"
    );
}

#[test]
fn the_same_bytes_are_not_reported_twice() {
    let dir = Watched::new();
    dir.write("a.wasm", &guest("1"));
    dir.expect("a loaded 1");
    dir.write("a.wasm", &guest("1"));
    dir.expect_nothing();
    // Removed and written again within the time in which nothing is read, as cargo does.
    fs::remove_file(dir.path("a.wasm")).unwrap();
    dir.write("a.wasm", &guest("1"));
    dir.expect_nothing();
    dir.write("b.wasm", b"broken");
    dir.expect("b refused");
    dir.write("b.wasm", b"broken");
    dir.expect_nothing();
}

#[test]
fn a_file_written_piece_by_piece_ends_up_loaded() {
    let dir = Watched::new();
    let whole = guest("1");
    let mut file = fs::File::create(dir.path("a.wasm")).unwrap();
    for piece in whole.chunks(whole.len() / 10 + 1) {
        file.write_all(piece).unwrap();
        file.flush().unwrap();
        // A writer's pace, below the debounce time: nothing waits for it.
        std::thread::sleep(Duration::from_millis(5));
    }
    // A slow machine may have seen half of it; the whole comes last.
    loop {
        let event = dir.events.recv_timeout(Duration::from_secs(20)).unwrap();
        if event == "a loaded 1" {
            break;
        }
        assert!(event.starts_with("a refused: is no valid"), "{event}");
    }
}

#[test]
fn a_directory_that_is_replaced_is_followed() {
    let dir = Watched::new();
    dir.write("a.wasm", &guest("1"));
    dir.expect("a loaded 1");
    let (plugins, aside) = (dir.path(""), dir.temporary.path().join("aside"));
    fs::create_dir(dir.temporary.path().join("new")).unwrap();
    fs::write(dir.temporary.path().join("new/b.wasm"), guest("2")).unwrap();
    fs::rename(&plugins, &aside).unwrap();
    fs::rename(dir.temporary.path().join("new"), &plugins).unwrap();
    let mut both = [(); 2].map(|()| {
        let event = dir.events.recv_timeout(Duration::from_secs(20));
        event.unwrap()
    });
    both.sort();
    assert_eq!(both, ["a removed", "b loaded 2"]);
    dir.write("b.wasm", &guest("3"));
    dir.expect("b loaded 3");
}

#[test]
fn a_directory_that_goes_takes_nothing_with_it_and_is_waited_for() {
    let dir = Watched::new();
    dir.write("a.wasm", &guest("1"));
    dir.expect("a loaded 1");
    let (plugins, aside) = (dir.path(""), dir.temporary.path().join("aside"));
    fs::rename(&plugins, &aside).unwrap();
    let event = dir.events.recv_timeout(Duration::from_millis(1_200));
    assert!(event.is_err(), "{event:?}");
    fs::rename(&aside, &plugins).unwrap();
    dir.write("b.wasm", &guest("2"));
    dir.expect("b loaded 2");
}

#[test]
fn a_directory_that_comes_late_is_found() {
    let dir = Watched::start(|_| {});
    fs::create_dir(dir.path("")).unwrap();
    dir.write("a.wasm", &guest("1"));
    dir.expect("a loaded 1");
    dir.write("a.wasm", &guest("2"));
    dir.expect("a loaded 2");
}
