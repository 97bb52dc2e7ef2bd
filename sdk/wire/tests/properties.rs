//! What must hold for any values: they come back from every form as they went in, no part of a form is a whole one, and
//! in key form they keep their order.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::cmp::Ordering;

use proptest::{collection::vec, option, prelude::*};
use rulemill_wire::{
    ColumnType, Date, Decimal, Json, Reader, Timestamp, Uuid, Value, ValueRef,
    batch::{BatchReader, BatchWriter, ItemHeader, Kind},
    codec,
    effects::{Effect, EffectsReader, EffectsWriter},
    key,
};

fn value(ty: ColumnType) -> BoxedStrategy<Value> {
    // What is small or at an end collides and borders more often.
    let number = || prop_oneof![-3..3i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)];
    let micros = || prop_oneof![-3..3i64, -8_000_000_000_000_000..8_000_000_000_000_000i64];
    let byte = prop_oneof![Just(0), Just(1), Just(255), any::<u8>()];
    match ty {
        ColumnType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        ColumnType::I64 => number().prop_map(Value::I64).boxed(),
        ColumnType::F64 => any::<f64>().prop_map(Value::F64).boxed(),
        ColumnType::Decimal => (number(), any::<bool>(), 0..=28u32)
            .prop_map(|(number, wide, scale)| {
                let mantissa = i128::from(number) << (31 * u32::from(wide));
                Value::Decimal(Decimal::from_i128_with_scale(mantissa, scale))
            })
            .boxed(),
        ColumnType::Text => "[a\u{0}\u{1}ä\u{10ffff}]{0,5}"
            .prop_map(Value::Text)
            .boxed(),
        ColumnType::Bytes => vec(byte, 0..5).prop_map(Value::Bytes).boxed(),
        ColumnType::Date => (-90_000_000..90_000_000i32)
            .prop_map(|days| Value::Date(Date::from_days(days).unwrap()))
            .boxed(),
        ColumnType::Timestamp => micros()
            .prop_map(|at| Value::Timestamp(Timestamp::from_micros(at).unwrap()))
            .boxed(),
        ColumnType::Uuid => any::<u128>()
            .prop_map(|id| Value::Uuid(Uuid::from_u128(id)))
            .boxed(),
        ColumnType::Json => (-9..9i32)
            .prop_map(|n| Value::Json(Json::from_text(format!("[{n}]"))))
            .boxed(),
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop::sample::select(ColumnType::ALL.to_vec()).prop_flat_map(value)
}

/// Columns of an index, whether they may be null, and two entries' values.
fn columns() -> impl Strategy<Value = Vec<(bool, (Value, Value))>> {
    let types = prop::sample::select(ColumnType::ALL.to_vec());
    let column = (types, any::<bool>()).prop_flat_map(|(ty, nullable)| {
        let value = move || match nullable {
            true => option::of(value(ty))
                .prop_map(Option::unwrap_or_default)
                .boxed(),
            false => value(ty),
        };
        // Equal ones let the columns behind them decide.
        let equal = value().prop_map(|value| (value.clone(), value));
        let pair = prop_oneof![equal, (value(), value())];
        pair.prop_map(move |pair| (nullable, pair))
    });
    vec(column, 1..5)
}

/// The documented order.
fn compare(a: ValueRef<'_>, b: ValueRef<'_>) -> Ordering {
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
        (Date(a), Date(b)) => a.cmp(&b),
        (Timestamp(a), Timestamp(b)) => a.cmp(&b),
        (Uuid(a), Uuid(b)) => a.cmp(&b),
        (a, b) => panic!("{a:?} and {b:?} in one column"),
    }
}

proptest! {
    #[test]
    fn values_come_back_from_the_wire(value in any_value(), behind: Vec<u8>) {
        let ty = value.as_ref().column_type().unwrap();
        let mut bytes = Vec::new();
        value.as_ref().write_payload(&mut bytes);
        for len in 0..bytes.len() {
            let part = ValueRef::read_payload(ty, &mut Reader::new(&bytes[..len]));
            prop_assert!(part.is_err(), "{value:?}: {len} of {bytes:?}");
        }
        let len = bytes.len();
        bytes.extend(behind);
        let mut reader = Reader::new(&bytes);
        let back = ValueRef::read_payload(ty, &mut reader).unwrap();
        prop_assert!(compare(value.as_ref(), back).is_eq(), "{value:?} {back:?}");
        prop_assert_eq!(reader.rest(), &bytes[len..]);
        let stepped = ValueRef::skip_payload(ty, &mut Reader::new(&bytes));
        prop_assert_eq!(stepped, Ok(&bytes[..len]));
    }

    #[test]
    fn values_come_back_from_keys(value in any_value(), behind: Vec<u8>) {
        let ty = value.as_ref().column_type().unwrap();
        let mut bytes = Vec::new();
        key::write(value.as_ref(), &mut bytes);
        for len in 0..bytes.len() {
            prop_assert!(key::read(ty, &mut Reader::new(&bytes[..len])).is_err());
        }
        let len = bytes.len();
        bytes.extend(behind);
        let mut reader = Reader::new(&bytes);
        let back = key::read(ty, &mut reader).unwrap();
        prop_assert!(compare(value.as_ref(), back.as_ref()).is_eq(), "{value:?} {back:?}");
        prop_assert_eq!(reader.rest(), &bytes[len..]);
    }

    /// Also where columns may be null: then null is the first, and the last of a descending scan.
    #[test]
    fn entries_of_an_index_keep_their_order(columns in columns()) {
        let entry = |which: fn(&(Value, Value)) -> &Value| {
            let mut bytes = Vec::new();
            for (nullable, pair) in &columns {
                key::write_index_column(which(pair).as_ref(), *nullable, &mut bytes);
            }
            bytes
        };
        let mut orders = columns.iter().map(|(_, (a, b))| compare(a.as_ref(), b.as_ref()));
        let expected = orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal);
        let (a, b) = (entry(|pair| &pair.0), entry(|pair| &pair.1));
        prop_assert_eq!(a.cmp(&b), expected);
        // What begins as an entry does lies before its end, and nothing else.
        let end = key::prefix_end(&a);
        let within = b >= a && end.is_none_or(|end| b < end);
        prop_assert_eq!(within, expected.is_eq());
    }

    #[test]
    fn batches_come_back(
        items in vec((0..1u64 << 40, any::<i64>(), any::<u64>(), 0..6usize, any::<i64>()), 0..20),
        base: u64,
        watermark: i64,
        given_up in 0..4usize,
    ) {
        let kinds = [Kind::Insert, Kind::Update, Kind::Delete, Kind::Read, Kind::Timer, Kind::Tick];
        let headers = items.iter().map(|&(seq, time, rules, kind, body)| {
            (ItemHeader { seq, time, rules, kind: kinds[kind] }, body)
        });
        let mut writer = BatchWriter::new(base, watermark, 0);
        for (header, body) in headers.clone() {
            // What is taken back leaves nothing behind.
            let mark = writer.mark();
            for _ in 0..given_up {
                codec::write_i64(7, writer.item(ItemHeader { seq: 3, time: 3, ..header }));
            }
            writer.reset(mark);
            codec::write_i64(body, writer.item(header));
        }
        prop_assert_eq!(writer.count(), items.len() as u64);
        let bytes = writer.finish();
        let mut reader = BatchReader::new(&bytes).unwrap();
        prop_assert_eq!(reader.watermark(), watermark);
        for (header, body) in headers {
            prop_assert_eq!(reader.next_header(), Ok(Some(header)));
            prop_assert_eq!(reader.body().i64(), Ok(body));
        }
        prop_assert_eq!(reader.next_header(), Ok(None));
    }

    #[test]
    fn effects_come_back(
        writes in vec((any::<u16>(), any::<u32>(), any::<bool>(), any::<i64>()), 0..9),
        timers in vec((any::<u16>(), any::<u32>(), ".{0,9}", option::of(any::<i64>())), 0..5),
        texts in vec((any::<u16>(), any::<u32>(), ".{0,9}", ".{0,9}"), 0..5),
    ) {
        let mut writer = EffectsWriter::new();
        // Sections stand in their order, whatever came first.
        for (rule, item, topic, body) in &texts {
            writer.fault(*rule, *item, topic);
            writer.notification(*rule, *item, topic, body);
        }
        for (rule, item, key, due) in &timers {
            writer.timer(*rule, *item, key, *due);
        }
        for &(table, item, puts, value) in &writes {
            let body = if puts { writer.put(table, item) } else { writer.delete(table, item) };
            codec::write_i64(value, body);
        }
        let bytes = writer.finish();
        let mut reader = EffectsReader::new(&bytes).unwrap();
        for &(table, item, puts, value) in &writes {
            let write = if puts { Effect::Put { table, item } } else { Effect::Delete { table, item } };
            prop_assert_eq!(reader.next_effect(), Ok(Some(write)));
            prop_assert_eq!(reader.body().i64(), Ok(value));
        }
        for &(rule, item, ref key, due) in &timers {
            let timer = Effect::Timer { rule, item, key, due };
            prop_assert_eq!(reader.next_effect(), Ok(Some(timer)));
        }
        for &(rule, item, ref topic, ref body) in &texts {
            let notification = Effect::Notification { rule, item, topic, body };
            prop_assert_eq!(reader.next_effect(), Ok(Some(notification)));
        }
        for &(rule, item, ref message, _) in &texts {
            let fault = Effect::Fault { rule, item, message };
            prop_assert_eq!(reader.next_effect(), Ok(Some(fault)));
        }
        prop_assert_eq!(reader.next_effect(), Ok(None));
        for len in 0..bytes.len() {
            let mut reader = EffectsReader::new(&bytes[..len]);
            let mut whole = true;
            while let (Ok(reader), true) = (&mut reader, whole) {
                match reader.next_effect() {
                    Ok(Some(Effect::Put { .. } | Effect::Delete { .. })) => {
                        whole = reader.body().i64().is_ok();
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{len} of {} bytes are taken for all", bytes.len()),
                    Err(_) => whole = false,
                }
            }
        }
    }
}
