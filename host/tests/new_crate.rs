//! A newcomer's first minutes: `rulemill new`, and the commands that the new crate's README names.
//!
//! Everything is run as a user would, in an empty directory outside this workspace, by the binary
//! alone: the crate must bring whatever it needs. Only its target directory is kept between runs, and
//! the versions of its dependencies are this workspace's, so that nothing is downloaded twice.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use assert_cmd::Command;

/// Runs the host, or cargo, in a directory.
struct Shell {
    dir: PathBuf,
}

impl Shell {
    /// What a command prints; it has to succeed.
    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let program = match program {
            "rulemill" => env!("CARGO_BIN_EXE_rulemill"),
            _ => env!("CARGO"),
        };
        let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new_crate");
        let assert = Command::new(program)
            .args(arguments)
            .current_dir(&self.dir)
            .env("CARGO_TARGET_DIR", target_dir)
            .assert()
            .success();
        String::from_utf8(assert.get_output().stdout.clone()).unwrap()
    }
}

#[test]
fn a_new_crate_tests_builds_and_runs() {
    let parent = tempfile::tempdir().unwrap();
    // A workspace around the crate must not take it in.
    let around = "[workspace]\nmembers = []\nresolver = \"3\"\n";
    fs::write(parent.path().join("Cargo.toml"), around).unwrap();
    let shell = Shell {
        dir: parent.path().to_owned(),
    };
    shell.run("rulemill", &["new", "order-totals"]);

    let shell = Shell {
        dir: parent.path().join("order-totals"),
    };
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    fs::copy(lock, shell.dir.join("Cargo.lock")).unwrap();

    let tested = shell.run("cargo", &["test"]);
    assert!(tested.contains("test result: ok. 1 passed"), "{tested}");

    shell.run("rulemill", &["build"]);
    let plugin = shell.dir.join("plugins/order_totals.wasm");
    let modified = || fs::metadata(&plugin).unwrap().modified().unwrap();
    let built = modified();
    shell.run("rulemill", &["build"]);
    assert_eq!(
        modified(),
        built,
        "a plugin that didn't change was written again"
    );

    shell.run("rulemill", &["check"]);
    shell.run("rulemill", &["run", "--once"]);
    let rows = shell.run("rulemill", &["query", "product_totals", "--format", "csv"]);
    let rows: Vec<_> = rows.lines().collect();
    assert_eq!(rows, ["product_id,orders,revenue", "7,1,19.90", "8,1,6.00"]);
}
