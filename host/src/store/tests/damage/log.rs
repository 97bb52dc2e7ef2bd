//! The log, by itself and against the rows.

use super::*;

#[test]
fn the_log_by_itself() {
    let bytes = healthy().reader().unwrap().log_bytes().unwrap();
    check(
        |t| meta(t, b"log_bytes", 1),
        &[&format!(
            "meta log_bytes: says that the log has 1 bytes, and it has {bytes}"
        )],
    );
    check(
        |t| {
            put(t, "log", &log_key(3), &[9, 0, 1]);
            settle_log(t);
        },
        &[
            "log 3 0: a log block says 9 bytes and has 0",
            "orders 2: change 3 wrote it, and the log, which begins with 1, doesn't have that",
        ],
    );
    check(
        |t| meta(t, b"log_from", 2),
        &["log 1 0: the log begins with change 2"],
    );
    check(
        |t| put_log(t, 9, &[change(4, ORDERS, 2, Some("Oslo"), Some("Oslo"))]),
        &[
            "log 9 0: the last change is 3",
            "orders 2: change 3 wrote its row, and its last change in the log is 4",
        ],
    );
    check(
        |t| put_log(t, 3, &[change(5, ORDERS, 2, None, Some("Oslo"))]),
        &[
            "log change 5: table orders, key 2: it is in the write set that ends with 3",
            "orders 2: change 3 wrote its row, and its last change in the log is 5",
        ],
    );
    check(
        |t| {
            let mut wrong = change(3, ORDERS, 2, None, Some("Oslo"));
            wrong.op = Op::Delete;
            put_log(t, 3, &[wrong]);
        },
        &["log change 3: table orders, key 2: its Delete doesn't fit the row after it"],
    );
    check(
        |t| {
            let twice = change(3, ORDERS, 2, None, Some("Oslo"));
            let again = change(3, ORDERS, 2, Some("Oslo"), Some("Oslo"));
            put_log(t, 3, &[twice, again]);
        },
        &["log change 3: table orders, key 2: change 3 comes before it"],
    );
    check(
        |t| {
            let unknown = change(3, TableId(7), 2, None, Some("Oslo"));
            put_log(t, 3, &[change(3, ORDERS, 2, None, Some("Oslo")), unknown]);
        },
        &["log change 3: there is no table 7"],
    );
    check(
        |t| {
            let mut value = {
                let table = t.open_table(tables::LOG).unwrap();
                let value = table.get(&log_key(3)[..]).unwrap().unwrap();
                value.value().to_vec()
            };
            remove(t, "log", &log_key(3));
            // The newest time stands behind the length.
            value[1] += 2;
            put(t, "log", &crate::store::log::block_key(Seq(3), 1), &value);
        },
        &[
            "log 3 1: block 0 of its write set is missing",
            "log 3 1: its newest change has another time than it says",
        ],
    );
}

#[test]
fn the_log_against_the_rows() {
    check(
        |t| remove(t, "rows/0/0", &key(2)),
        &["orders 2: it isn't there, and its last change in the log, 3, left a row"],
    );
    check(
        |t| put(t, "rows/0/0", &key(1), &stored(1, 0, &row(1, "Bern"))),
        &["orders 1: change 1 wrote its row, and its last change in the log is 2"],
    );
    check(
        |t| put(t, "rows/0/0", &key(5), &stored(2, 0, &row(5, "Bern"))),
        &["orders 5: change 2 wrote it, and the log, which begins with 1, doesn't have that"],
    );
    check(
        |t| {
            put_log(
                t,
                2,
                &[
                    change(2, ORDERS, 1, Some("Wien"), Some("Bern")),
                    change(2, TOTALS, 1, Some("Rome"), Some("Bern")),
                ],
            );
        },
        &["orders 1: change 1 leaves another row than the next one, 2, found"],
    );
    check(
        |t| {
            put_log(t, 2, &[change(2, ORDERS, 1, Some("Rome"), Some("Bern"))]);
        },
        &["totals 1: its row isn't what its last change in the log, 1, left"],
    );
}
