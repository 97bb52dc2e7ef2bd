//! Everything that has a record.

use super::*;

#[test]
fn plugins_and_rules() {
    let hash = Sha256::digest(CODE);
    let code = "0x5694d08a2e53ffcae0c3103e5ad6f6076abd960eb1f8a56577040bc1028f702b";
    check(
        |t| put(t, "plugin_code", &hash, b"other"),
        &[&format!("plugin_code {code}: its code has another SHA-256")],
    );
    check(
        |t| remove(t, "plugin_code", &hash),
        &[
            &format!("plugin_versions 1: its code {code} isn't there"),
            &format!("plugin_versions 2: its code {code} isn't there"),
        ],
    );
    check(
        |t| put(t, "plugin_code", &Sha256::digest(b"x"), b"x"),
        &[
            "plugin_code 0x2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881: no plugin version has this code",
        ],
    );
    check(
        |t| {
            let late = PluginVersion {
                from_seq: Seq(5),
                ..version(3, "shop")
            };
            put_record(t, "plugin_versions", &4u32.to_be_bytes(), &late);
        },
        &[
            "plugin_versions 4: its record says that it is version 3",
            "plugin_versions 4: it begins with change 5, and the last is 3",
        ],
    );
    let at = text_key(&["shop", "totals"]);
    check(
        |t| put(t, "rules", &at, &[1]),
        &[
            "rules shop totals: its record can't be read: Hit the end of buffer, expected more data",
            "timers shop totals a: there is no rule shop.totals",
            "dead_letters 1: there is no rule shop.totals",
            "dead_letters 2: there is no rule shop.totals",
        ],
    );
    check(
        |t| {
            let rule = RuleRecord {
                cursor: Seq(4),
                version: 2,
                ..rule()
            };
            put_record(t, "rules", &at, &rule);
        },
        &[
            "rules shop totals: it stands at change 4, and the last is 3",
            "rules shop totals: it ran with version 2, which is one of plugin other",
        ],
    );
    check(
        |t| {
            put_record(
                t,
                "rules",
                &text_key(&["a", "b"]),
                &RuleRecord {
                    version: 8,
                    ..rule()
                },
            )
        },
        &[
            "rules a b: its record is of rule shop.totals",
            "rules a b: there is no plugin version 8",
        ],
    );
}

#[test]
fn timers_notifications_and_dead_letters() {
    let at = text_key(&["shop", "totals", "b"]);
    check(
        |t| put_record(t, "timers", &at, &timer("a", "gone")),
        &[
            "timers shop totals b: its record is of another timer",
            "timers shop totals b: there is no rule shop.gone",
        ],
    );
    check(
        |t| {
            put_record(
                t,
                "timers",
                &at,
                &TimerWrite {
                    due: None,
                    ..timer("b", "totals")
                },
            )
        },
        &["timers shop totals b: it is due never"],
    );
    check(
        |t| {
            put_record(
                t,
                "outbox",
                &2u64.to_be_bytes(),
                &Notification {
                    id: 2,
                    ..notification(4)
                },
            )
        },
        &[
            "outbox 2: the last number given is 1",
            "outbox 2: it is about change 4, and the last is 3",
        ],
    );
    check(
        |t| put_record(t, "outbox", &1u64.to_be_bytes(), &notification(1)),
        &["outbox 1: its record has number 0"],
    );
    check(
        |t| {
            let letter = DeadLetter {
                version: 5,
                subject: Subject::Change(order(TableId(9), Vec::new())),
                ..letter(3, 4)
            };
            put_record(t, "dead_letters", &4u64.to_be_bytes(), &letter);
        },
        &[
            "dead_letters 4: its record has number 3",
            "dead_letters 4: the last number given is 2",
            "dead_letters 4: it is change 4, and the last is 3",
            "dead_letters 4: there is no plugin version 5",
            "dead_letters 4: there is no table 9",
        ],
    );
    // A timer's letter is checked like any other, but for the rows that it has none of.
    check(
        |t| {
            let letter = DeadLetter {
                version: 5,
                rule: "gone".into(),
                cause: Seq(9),
                ..timer_letter(3, 4)
            };
            put_record(t, "dead_letters", &4u64.to_be_bytes(), &letter);
        },
        &[
            "dead_letters 4: its record has number 3",
            "dead_letters 4: the last number given is 2",
            "dead_letters 4: change 4 comes before its cause, 9",
            "dead_letters 4: it is change 4, and the last is 3",
            "dead_letters 4: there is no rule shop.gone",
            "dead_letters 4: there is no plugin version 5",
        ],
    );
    check(
        |t| {
            let letter = DeadLetter {
                subject: Subject::Change(order(ORDERS, vec![77])),
                ..letter(1, 3)
            };
            put_record(t, "dead_letters", &1u64.to_be_bytes(), &letter);
        },
        &["dead_letters 1: table orders, key 2: the row can't be read: unknown tag 77"],
    );
    check(
        |t| {
            let mut bytes = postcard::to_allocvec(&letter(1, 3)).unwrap();
            bytes.push(0);
            put(t, "dead_letters", &1u64.to_be_bytes(), &bytes);
        },
        &["dead_letters 1: 1 bytes stand behind its record"],
    );
    check(
        |t| {
            let bytes = postcard::to_allocvec(&timer_letter(2, 3)).unwrap();
            // The subject's kind stands behind id, names, version, seq, nth, cause and state.
            let place = 1 + 5 + 7 + 5;
            assert_eq!(bytes[place..place + 4], [1, 1, b'2', 4], "{bytes:?}");
            let mut none = bytes.clone();
            none[place] = 2;
            put(t, "dead_letters", &2u64.to_be_bytes(), &none);
        },
        &["dead_letters 2: its record can't be read: Serde Deserialization Error"],
    );
}

#[test]
fn input() {
    check(
        |t| put(t, "positions", &[7], &[]),
        &["positions 0x07: its key is no source and part"],
    );
    let bad = |number: u64| [&text_key(&["inbox"])[..], &number.to_be_bytes()].concat();
    check(
        |t| {
            let value = {
                let table = t.open_table(tables::BAD_INPUT).unwrap();
                let value = table.get(&bad(2)[..]).unwrap().unwrap();
                value.value().to_vec()
            };
            put(t, "bad_input", &bad(4), &value);
        },
        &["bad_input inbox 4: the one before it is number 2"],
    );
    check(
        |t| put(t, "bad_input", &bad(2), &[1]),
        &["bad_input inbox 2: its record can't be read: Hit the end of buffer, expected more data"],
    );
}

#[test]
fn requests() {
    check(
        |t| remove(t, "idempotency", b"r"),
        &["idempotency_by_age 7 r: there is no such request"],
    );
    check(
        |t| remove(t, "idempotency_by_age", &age_key(7, b"r")),
        &["idempotency r: it isn't listed by age, so it would never be forgotten"],
    );
    check(
        |t| put(t, "idempotency_by_age", &age_key(9, b"r"), &[]),
        &["idempotency_by_age 9 r: the request was taken at 7"],
    );
    check(
        |t| put(t, "idempotency_by_age", &[1], &[]),
        &["idempotency_by_age 0x01: its key is no time and request"],
    );
    check(
        |t| {
            put_record(
                t,
                "idempotency",
                b"s",
                &IdempotencyRecord {
                    seq: Seq(9),
                    ..request("r")
                },
            );
            put(t, "idempotency_by_age", &age_key(7, b"s"), &[]);
        },
        &[
            "idempotency s: its record is of request r",
            "idempotency s: it was answered 9, and the last is 3",
        ],
    );
}
