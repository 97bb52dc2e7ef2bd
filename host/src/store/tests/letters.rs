//! Any dead letter, of a change or of a timer, is read as it was written; one that was cut short is not read as another.

use proptest::prelude::*;
use redb::ReadableTable;

use super::*;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..40)
}

fn subject() -> impl Strategy<Value = Subject> {
    let op = prop_oneof![Just(Op::Insert), Just(Op::Update), Just(Op::Delete)];
    let row = || proptest::option::of(bytes());
    let change = (any::<u32>(), op, bytes(), row(), row());
    let change = change.prop_map(|(table, op, key, before, after)| {
        Subject::Change(ParkedChange {
            table: TableId(table),
            op,
            key,
            before,
            after,
        })
    });
    let timer = ("\\PC{0,20}", any::<i64>());
    let timer = timer.prop_map(|(key, due)| Subject::Timer(ParkedTimer { key, due }));
    prop_oneof![change, timer]
}

fn letter() -> impl Strategy<Value = DeadLetter> {
    let state = prop_oneof![
        Just(LetterState::Faulted),
        Just(LetterState::Waiting),
        Just(LetterState::Skipped)
    ];
    let numbers = (
        1..u64::MAX,
        any::<u32>(),
        any::<u64>(),
        any::<u32>(),
        any::<u64>(),
    );
    let texts = ("\\PC{0,10}", "\\PC{0,10}", "\\PC{0,30}");
    let times = (any::<i64>(), any::<i64>());
    let parts = (numbers, texts, times, state, subject());
    parts.prop_map(|(numbers, texts, times, state, subject)| DeadLetter {
        id: numbers.0,
        plugin: texts.0,
        rule: texts.1,
        version: numbers.1,
        seq: Seq(numbers.2),
        nth: numbers.3,
        cause: Seq(numbers.4),
        state,
        subject,
        time: times.0,
        error: texts.2,
        parked_at: times.1,
    })
}

fn check(letter: DeadLetter, cut: usize) {
    let store = Store::in_memory().unwrap();
    let set = WriteSet {
        dead_letters: vec![letter.clone()],
        ..WriteSet::default()
    };
    store.commit(&mut [set]).unwrap();
    let read = || store.reader().unwrap().dead_letter(letter.id);
    assert_eq!(read().unwrap().as_ref(), Some(&letter));

    let transaction = store.database.begin_write().unwrap();
    {
        let mut letters = transaction.open_table(tables::DEAD_LETTERS).unwrap();
        let key = letter.id.to_be_bytes();
        let mut record = letters.get(&key[..]).unwrap().unwrap().value().to_vec();
        record.truncate(cut % record.len());
        letters.insert(&key[..], &record[..]).unwrap();
    }
    transaction.commit().unwrap();
    assert!(read().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_letter_is_read_as_it_was_written(letter in letter(), cut in any::<usize>()) {
        check(letter, cut);
    }
}
