//! Every fuzzer over its committed corpus, and over changed copies of it for a few seconds.
//!
//! What fuzzing with libFuzzer finds (see `tests/fuzz/README.md`) is put into the corpus, so that this ordinary test keeps
//! it found. Files whose names begin with `refused` are refused, all others are taken: a corpus that no longer gets past
//! a reader's first bytes tries nothing.
//!
//! `RULEMILL_FUZZ_SECONDS=60` gives each fuzzer a minute; `RULEMILL_FUZZ=NAME` runs one; `RULEMILL_SEED=N` begins at the
//! input that a failure names.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rulemill_tests::{
    fuzzing::{TARGETS, Target, mutate},
    random::from_environment,
};

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = dir.join("fuzz/corpus").join(target.name);
    let mut files: Vec<_> = fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let read = files.into_iter().map(|file| {
        let bytes = fs::read(&file).unwrap();
        (file, bytes)
    });
    read.collect()
}

#[test]
fn the_corpus_is_taken_or_refused_as_it_should_be() {
    for target in &TARGETS {
        let corpus = corpus(target);
        assert!(corpus.len() >= 3, "{} has no corpus", target.name);
        for (file, bytes) in corpus {
            let name = file.file_name().unwrap().to_str().unwrap();
            println!("{}/{name}", target.name);
            let refused = name.starts_with("refused");
            assert_eq!((target.run)(&bytes), !refused, "{}", file.display());
        }
    }
}

#[test]
fn changed_copies_of_the_corpus_find_nothing() {
    let first = from_environment("RULEMILL_SEED", 1);
    let seconds = from_environment("RULEMILL_FUZZ_SECONDS", 2);
    let only = std::env::var("RULEMILL_FUZZ").ok();
    let chosen = |target: &&Target| only.as_deref().is_none_or(|name| name == target.name);
    for target in TARGETS.iter().filter(chosen) {
        let corpus: Vec<_> = corpus(target).into_iter().map(|(_, bytes)| bytes).collect();
        let end = Instant::now() + Duration::from_secs(seconds);
        let (mut seed, mut taken) = (first, 0u64);
        // The first one also where there is no time.
        while seed == first || Instant::now() < end {
            let input = mutate::input(&corpus, target.words, seed);
            match catch_unwind(|| (target.run)(&input)) {
                Ok(was_taken) => taken += u64::from(was_taken),
                Err(_) => panic!(
                    "{name} fails over \"{}\": repeat it with RULEMILL_FUZZ={name} RULEMILL_SEED={seed} \
                     cargo test --workspace --test fuzz_corpus",
                    input.escape_ascii(),
                    name = target.name
                ),
            }
            seed += 1;
        }
        println!("{}: {} inputs, {taken} taken", target.name, seed - first);
    }
}

/// Each has its file in `tests/fuzz/fuzz_targets`, and nothing else lies there.
#[test]
fn every_fuzzer_can_be_run_by_libfuzzer() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
    let files = fs::read_dir(dir.join("fuzz_targets")).unwrap();
    assert_eq!(files.count(), TARGETS.len());
    for target in &TARGETS {
        let path = format!("fuzz_targets/{}.rs", target.name);
        let source = fs::read_to_string(dir.join(&path)).unwrap();
        assert!(
            source.contains(&format!("run(\"{}\", input)", target.name)),
            "{path}"
        );
        assert!(manifest.contains(&format!("path = \"{path}\"")), "{path}");
    }
}
