//! The same changes in batches of any size, and what is left of each run.

use rulemill::{
    change::Seq,
    limits::Limits,
    store::{LetterState, RuleStatus},
};
use rulemill_tests::random::{Random, from_environment};

use super::*;

/// What a run leaves: the table `levels`, what was set aside and why, where the rules stand.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) levels: Vec<String>,
    pub(super) letters: Vec<(String, u64, LetterState, String)>,
    rules: Vec<(String, Option<(Seq, RuleStatus)>)>,
}

/// What is left now.
pub(super) fn left(rig: &Rig) -> Left {
    let reader = rig.store.reader().unwrap();
    let letters = reader.dead_letters().unwrap().map(|letter| letter.unwrap());
    let mut letters: Vec<_> = letters
        .map(|letter| (letter.rule, letter.seq.0, letter.state, letter.error))
        .collect();
    letters.sort_by_key(|(rule, seq, ..)| (*seq, rule.clone()));
    let rules = reader.rules().unwrap().into_iter().map(|rule| {
        let stands = (rule.status != RuleStatus::Running).then_some((rule.cursor, rule.status));
        (rule.rule, stands)
    });
    Left {
        levels: rig.rows("levels").unwrap(),
        letters,
        rules: rules.collect(),
    }
}

/// The engine with this plugin.
pub(super) fn start(plugin: Make, on_error: OnError, limits: impl FnOnce(&mut Limits)) -> Rig {
    let mut options = options(on_error);
    // Where the breaker trips is another matter.
    options.limits.breaker_changes_min = 1_000_000;
    limits(&mut options.limits);
    let store = Arc::new(Store::in_memory().unwrap());
    Rig::start(store, &options, &[("shop", plugin, "1")]).unwrap()
}

/// Runs changes in batches of this size.
pub(super) fn run(
    plugin: Make,
    changes: &[TestChange<'_>],
    on_error: OnError,
    batch: usize,
) -> Left {
    let rig = start(plugin, on_error, |limits| limits.batch_changes_max = batch);
    for part in changes.chunks(batch) {
        rig.apply(part).unwrap();
    }
    left(&rig)
}

/// Runs random changes in batches of 1 and of more: what is left must be the same.
pub(super) fn compare(plugin: Make, make: impl Fn(&mut Random) -> Vec<TestChange<'static>>) {
    let first = from_environment("RULEMILL_SEED", 0);
    let seeds = if first == 0 { 1..=30 } else { first..=first };
    for seed in seeds {
        let changes = make(&mut Random::new(seed));
        for on_error in [OnError::Park, OnError::Skip, OnError::Halt] {
            let alone = run(plugin, &changes, on_error, 1);
            for batch in [3, 17, 4_096] {
                assert_eq!(
                    run(plugin, &changes, on_error, batch),
                    alone,
                    "{on_error:?}, batches of {batch}: repeat with \
                     RULEMILL_SEED={seed} cargo test --workspace --test parking batches_do_not_show"
                );
            }
        }
    }
}
