//! Keys and index entries: the order of the bytes is the order of the values, nulls first, column by column; leading
//! columns are a prefix that bounds their range; keys are read back; and bytes that are read as a key are the only
//! ones that mean it.

use std::cmp::Ordering;

use rulemill_wire::{ColumnType, Reader, Value, ValueRef, key};

use super::bytes::Bytes;

/// A column of an index.
#[derive(Debug, Clone, Copy)]
struct Column {
    ty: ColumnType,
    nullable: bool,
}

pub(super) fn keys(input: &[u8]) -> bool {
    let mut bytes = Bytes::new(input);
    let columns: Vec<Column> = (0..=bytes.below(4))
        .map(|_| Column {
            ty: bytes.ty(),
            nullable: bytes.flag(),
        })
        .collect();
    let mut values = |like: Option<&[Value]>| -> Vec<Value> {
        let value = |(place, column): (usize, &Column)| match (bytes.below(8), like) {
            (0, _) if column.nullable => Value::Null,
            // Most are equal but for one column.
            (1..=4, Some(like)) => like[place].clone(),
            _ => bytes.value(column.ty),
        };
        columns.iter().enumerate().map(value).collect()
    };
    let a = values(None);
    let b = values(Some(&a));
    let (key_a, key_b) = (entry(&columns, &a), entry(&columns, &b));
    let expected = compare(&a, &b);
    assert_eq!(
        key_a.cmp(&key_b),
        expected,
        "{a:?} {b:?}: {key_a:?} {key_b:?}"
    );
    // What a descending scan meets is the same the other way round.
    assert_eq!(key_b.cmp(&key_a), expected.reverse());
    for (values, bytes) in [(&a, &key_a), (&b, &key_b)] {
        read_back(&columns, values, bytes);
    }
    for leading in 0..=columns.len() {
        let prefix = entry(&columns[..leading], &a[..leading]);
        assert!(key_a.starts_with(&prefix));
        let within = compare(&a[..leading], &b[..leading]) == Ordering::Equal;
        let end = key::prefix_end(&prefix);
        let in_range = key_b >= prefix && end.is_none_or(|end| key_b < end);
        assert_eq!(
            in_range, within,
            "{leading} of {a:?} {b:?}: {prefix:?} {key_b:?}"
        );
    }
    only_meaning(input)
}

fn entry(columns: &[Column], values: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (column, value) in columns.iter().zip(values) {
        key::write_index_column(value.as_ref(), column.nullable, &mut bytes);
    }
    bytes
}

fn compare(a: &[Value], b: &[Value]) -> Ordering {
    let columns = a.iter().zip(b);
    let mut orders = columns.map(|(a, b)| compare_values(a.as_ref(), b.as_ref()));
    orders
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// The documented order of values.
fn compare_values(a: ValueRef<'_>, b: ValueRef<'_>) -> Ordering {
    use ValueRef::*;
    match (a, b) {
        (Null, Null) => Ordering::Equal,
        (Null, _) => Ordering::Less,
        (_, Null) => Ordering::Greater,
        (Bool(a), Bool(b)) => a.cmp(&b),
        (I64(a), I64(b)) => a.cmp(&b),
        (F64(a), F64(b)) => a.total_cmp(&b),
        (Decimal(a), Decimal(b)) => a.cmp(&b),
        (Text(a), Text(b)) | (Json(a), Json(b)) => a.cmp(b),
        (Bytes(a), Bytes(b)) => a.cmp(b),
        (Date(a), Date(b)) => a.days().cmp(&b.days()),
        (Timestamp(a), Timestamp(b)) => a.micros().cmp(&b.micros()),
        (Uuid(a), Uuid(b)) => a.as_bytes().cmp(b.as_bytes()),
        (a, b) => panic!("{a:?} and {b:?} in one column"),
    }
}

fn read_back(columns: &[Column], values: &[Value], bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    for (column, value) in columns.iter().zip(values) {
        if column.nullable && reader.u8() == Ok(0) {
            assert_eq!(*value, Value::Null);
            continue;
        }
        let back = key::read(column.ty, &mut reader).unwrap();
        let order = compare_values(value.as_ref(), back.as_ref());
        assert_eq!(order, Ordering::Equal, "{value:?} is read back as {back:?}");
    }
    assert!(reader.is_empty());
}

/// Were two byte strings the same key, a row could be there twice.
fn only_meaning(input: &[u8]) -> bool {
    let mut is_key = false;
    for ty in ColumnType::ALL {
        let mut reader = Reader::new(input);
        let Ok(value) = key::read(ty, &mut reader) else {
            continue;
        };
        let taken = &input[..input.len() - reader.rest().len()];
        let mut written = Vec::new();
        key::write(value.as_ref(), &mut written);
        assert_eq!(written, taken, "{value:?}");
        is_key = true;
    }
    is_key
}
