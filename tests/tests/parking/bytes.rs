//! The bytes that parked changes are counted with are those that they have: a host that goes on and one that is started anew, which
//! counts what lies on the disk, keep as many of them.

use super::*;

/// Refuses orders of thirteen, with these words.
macro_rules! refuses {
    ($name:ident, $words:expr) => {
        mod $name {
            use rulemill_sdk::prelude::*;

            #[derive(Row)]
            #[table(source = "notes")]
            pub struct Note {
                #[key]
                id: i64,
                amount: i64,
                text: String,
            }

            #[derive(Row, Default)]
            #[table(derived = "sums")]
            pub struct Sum {
                #[key]
                id: i64,
                amount: i64,
                text_bytes: i64,
            }

            #[rule]
            pub fn sums(change: Change<Note>, sums: &mut Table<Sum>) -> Outcome {
                for Delta { row, sign } in change.deltas() {
                    if row.amount == super::REFUSED {
                        let words: String = $words;
                        return Err(words.into());
                    }
                    let sum = sums.entry(0)?;
                    sum.amount += row.amount * sign;
                    sum.text_bytes += row.text.len() as i64 * sign;
                }
                Ok(())
            }

            rulemill_sdk::plugin!(sums);
        }
    };
}

refuses!(brief, "no".into());
refuses!(wordy, "by no means, ".repeat(20));

const BRIEF: (&str, Make, &str) = ("shop", brief::plugin, "1");
const WORDY: (&str, Make, &str) = ("shop", wordy::plugin, "2");

fn note<'a>(id: i64, amount: i64, text: &'a str) -> TestChange<'a> {
    TestChange {
        table: "notes",
        op: RawOp::Upsert,
        row: vec![
            ("id", ValueRef::I64(id)),
            ("amount", ValueRef::I64(amount)),
            ("text", ValueRef::Text(text)),
        ],
        time: Some(1_000_000 + id),
    }
}

/// How many changes are parked in all once there is room for no more, after what `before` did.
fn kept(
    first: (&str, Make, &str),
    last: (&str, Make, &str),
    restarts: bool,
    before: fn(&Rig),
) -> u64 {
    let mut options = options(OnError::Park);
    options.limits.dead_letters_bytes_max = 10_000;
    // What stops the rule is that there is no room.
    options.limits.breaker_changes_min = 1_000_000;
    let store = Arc::new(Store::in_memory().unwrap());
    let mut rig = Rig::start(store, &options, &[first]).unwrap();
    for id in 1..=9 {
        let long = "long ".repeat(20);
        for (amount, text) in [(1, ""), (REFUSED, &long), (REFUSED, ""), (REFUSED, "last")] {
            rig.apply(&[note(id, amount, text)]).unwrap();
        }
    }
    assert_eq!(letters(&rig).len(), 27);
    rig.load(last.0, last.1, last.2).unwrap();
    before(&rig);
    if restarts {
        let store = rig.stop().unwrap();
        rig = Rig::start(store, &options, &[last]).unwrap();
    }
    let is_full = |rig: &Rig| {
        let status = &rig.handle.board.load().rules["shop.sums"].status;
        status.contains("limits.dead_letters_bytes_max")
    };
    for id in 10..1_000 {
        if is_full(&rig) {
            return parked(&rig, "shop.sums");
        }
        let receipt = rig.apply(&[note(id, REFUSED, "")]).unwrap();
        rig.wait_for(|status| status.durable_seq >= receipt.seq.0);
    }
    panic!("never full: {:#?}", rig.handle.board.load());
}

#[test]
fn what_fails_again_with_other_words_is_counted_with_them() {
    fn retried(rig: &Rig) {
        assert_eq!(rig.retry(None, None).unwrap(), (0, 27));
    }
    for (first, last) in [(BRIEF, WORDY), (WORDY, BRIEF)] {
        let (goes_on, anew) = (
            kept(first, last, false, retried),
            kept(first, last, true, retried),
        );
        assert_eq!(goes_on, anew, "from {} to {}", first.2, last.2);
    }
}

/// The last of a row's changes is told from the row before the one in the middle, which is longer.
#[test]
fn what_is_told_otherwise_after_one_is_dropped_is_counted_as_it_is_told() {
    fn dropped(rig: &Rig) {
        let all = letters(rig);
        let middle = all.iter().map(|(id, _)| *id).skip(1).step_by(3);
        for id in middle {
            assert_eq!(rig.drop_letters(None, Some(id)).unwrap(), 1);
        }
    }
    let (goes_on, anew) = (
        kept(BRIEF, BRIEF, false, dropped),
        kept(BRIEF, BRIEF, true, dropped),
    );
    assert_eq!(goes_on, anew);
}
