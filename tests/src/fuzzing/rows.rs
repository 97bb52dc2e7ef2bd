//! Rows in the host's form: any bytes are read or refused; a row of values is read back, column by column and as a
//! whole; and what a plugin is shown of it is what its columns hold.

use rulemill::{
    catalog::{Column, Table},
    engine::fuzzing::RowCut,
    render,
    row::{self, RowBuilder},
    store::fuzzing::read_stored_row,
};
use rulemill_wire::{
    ColumnType, DecodeError, Value, ValueRef, codec,
    manifest::{self, Access, WHOLE_ROW},
};
use serde_json::value::RawValue;

use super::{bytes::Bytes, reading::is_json, tables};

/// Columns of a row, at the most.
const COLUMNS_MAX: usize = 12;

pub(super) fn rows(input: &[u8]) -> bool {
    stored(input);
    let good = as_row(input);
    made(Bytes::new(input));
    good
}

fn all(row: &[u8]) -> Result<Vec<ValueRef<'_>>, DecodeError> {
    row::values(row).collect()
}

/// The same values, though a float may be none that equals itself.
fn same(a: &ValueRef<'_>, b: &ValueRef<'_>) -> bool {
    match (a, b) {
        (ValueRef::F64(a), ValueRef::F64(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}

/// Bytes as they might lie in the store.
fn stored(input: &[u8]) {
    if let Ok(stored) = read_stored_row(input) {
        assert!(input.ends_with(&stored.row));
        let mut bytes = Vec::new();
        codec::write_u64(stored.seq.0, &mut bytes);
        codec::write_u64(stored.version.into(), &mut bytes);
        bytes.extend_from_slice(&stored.row);
        assert_eq!(read_stored_row(&bytes).unwrap(), stored);
    }
}

/// Bytes taken for a row. True if they are one.
fn as_row(input: &[u8]) -> bool {
    let table = untyped();
    let read = all(input);
    for column in 0..COLUMNS_MAX as u16 {
        let alone = row::value(input, column);
        if let Ok(values) = &read {
            let expected = values
                .get(usize::from(column))
                .copied()
                .unwrap_or(ValueRef::Null);
            assert!(same(&alone.unwrap(), &expected));
        }
    }
    let shown = render::row_to_json(&table, input);
    let fields = render::row_to_fields(&table, input);
    let typed = render::row_to_typed_json(&table, input);
    let Ok(values) = read else {
        cut(&table, input, None);
        return false;
    };
    let (shown, fields) = (shown.unwrap(), fields.unwrap());
    let typed = typed.unwrap();
    for (text, value) in [
        (render::row_to_json_text(&table, input), &shown),
        (render::row_to_typed_json_text(&table, input), &typed),
    ] {
        let text = text.unwrap();
        assert!(!text.contains(['\n', '\r', '\t']), "{text}");
        serde_json::from_str::<&RawValue>(&text).unwrap();
        // A document that is as deep as may be is too deep within a row.
        match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(read) => assert!(alike(&read, value), "{text} is not {value}"),
            Err(error) => assert!(error.to_string().contains("recursion"), "{error}: {text}"),
        }
    }
    for (place, column) in table.columns.iter().enumerate() {
        let is_null = values
            .get(place)
            .is_none_or(|value| *value == ValueRef::Null);
        let json = &shown[&column.name];
        let document_null = matches!(values.get(place), Some(ValueRef::Json(_)));
        assert!(json.is_null() == is_null || document_null, "{json}");
        assert!(!is_null || fields[place].is_empty());
    }
    cut(&table, input, Some(&values));
    // Written anew the row is as short as it can be, and means the same.
    let mut builder = RowBuilder::default();
    for (column, value) in (0..).zip(&values) {
        builder.set(column, *value);
    }
    let mut anew = Vec::new();
    builder.finish(&mut anew);
    assert!(anew.len() <= input.len());
    let back = all(&anew).unwrap();
    let left = &values[back.len()..];
    assert!(left.iter().all(|value| *value == ValueRef::Null));
    assert!(values.iter().zip(&back).all(|(a, b)| same(a, b)));
    !values.is_empty()
}

/// Whether these are the same but for the last digit of floats, which `serde_json` doesn't always read.
fn alike(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value as Json;
    match (a, b) {
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
        }
        (Json::Object(a), Json::Object(b)) => {
            let same = |((a_name, a), (b_name, b))| a_name == b_name && alike(a, b);
            a.len() == b.len() && a.iter().zip(b).all(same)
        }
        (Json::Number(a), Json::Number(b)) if a.is_f64() && b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= a.abs() * 1e-14
        }
        _ => a == b,
    }
}

/// Values set in any order, some twice.
fn made(mut bytes: Bytes<'_>) {
    let mut builder = RowBuilder::default();
    let mut values = vec![Value::Null; COLUMNS_MAX];
    for _ in 0..16 {
        if bytes.is_empty() {
            break;
        }
        let column = bytes.below(COLUMNS_MAX as u8);
        let value = match bytes.below(6) {
            0 => Value::Null,
            _ => {
                let ty = bytes.ty();
                bytes.value(ty)
            }
        };
        builder.set(column.into(), value.as_ref());
        values[usize::from(column)] = value;
    }
    let mut out = b"other rows".to_vec();
    let range = builder.finish(&mut out);
    assert_eq!(range, 10..out.len());
    let row = &out[range];
    let back = all(row).unwrap();
    assert!(back.last() != Some(&ValueRef::Null), "{back:?}");
    for (column, value) in (0..).zip(&values) {
        let found = row::value(row, column).unwrap();
        assert!(same(&found, &value.as_ref()), "{found:?} for {value:?}");
        assert!(same(&builder.get(column).unwrap(), &value.as_ref()));
        assert_eq!(builder.is_null(column), *value == Value::Null);
    }
    assert!(as_row(row) || back.is_empty());
}

/// A table whose columns have no types, so that their values may be any.
fn untyped() -> Table {
    let column = |place| Column {
        name: format!("c{place}"),
        ty: None,
        nullable: true,
    };
    tables::table(0, "any", (0..COLUMNS_MAX).map(column).collect(), 1)
}

/// Shows the row to plugins with other ideas of its columns; with `values` it is whole.
fn cut(table: &Table, row: &[u8], values: Option<&[ValueRef<'_>]>) {
    let value = |place: usize| {
        let value = values.and_then(|values| values.get(place));
        value.copied().unwrap_or(ValueRef::Null)
    };
    let own: Vec<(usize, ColumnType)> = (0..COLUMNS_MAX)
        .filter_map(|place| Some((place, value(place).column_type()?)))
        .collect();
    let other = |turn: usize| {
        move |&(place, ty): &(usize, ColumnType)| {
            (place, ColumnType::ALL[(ty as usize + turn) % 10])
        }
    };
    let reversed = own.iter().rev().copied().collect::<Vec<_>>();
    let guesses = [1, 3, 7].map(|turn| own.iter().map(other(turn)).collect());
    for columns in [own, reversed].into_iter().chain(guesses) {
        let declared = |nullable| manifest::Table {
            name: table.name.clone(),
            access: Access::Read,
            columns: columns
                .iter()
                .map(|(place, ty)| manifest::Column {
                    name: format!("c{place}"),
                    ty: *ty,
                    nullable,
                })
                .collect(),
            key: vec![0],
            indexes: Vec::new(),
        };
        for nullable in [false, true] {
            let cut = RowCut::new(&declared(nullable), table.clone()).unwrap();
            let Ok(wire) = cut.to_wire(row) else {
                let own = columns
                    .iter()
                    .all(|(place, ty)| value(*place).column_type() == Some(*ty));
                assert!(values.is_none() || !own, "a whole row is refused");
                continue;
            };
            if values.is_none() {
                continue;
            }
            let Ok((back, len)) = cut.read_wire(&wire) else {
                // Documents are checked when they come in, not when they go out.
                let documents = columns.iter().any(
                    |(place, _)| matches!(value(*place), ValueRef::Json(text) if !is_json(text)),
                );
                assert!(documents, "the host can't read what it shows a plugin");
                continue;
            };
            assert_eq!(len, wire.len());
            for (place, ty) in &columns {
                let (had, has) = (value(*place), row::value(&back, *place as u16).unwrap());
                assert_eq!(has.column_type(), Some(*ty));
                assert!(had.column_type() != Some(*ty) || same(&had, &has));
            }
        }
    }
    let whole = manifest::Table {
        name: table.name.clone(),
        access: Access::Read,
        columns: vec![manifest::Column {
            name: WHOLE_ROW.into(),
            ty: ColumnType::Json,
            nullable: false,
        }],
        key: vec![0],
        indexes: Vec::new(),
    };
    let shown = RowCut::new(&whole, table.clone()).unwrap().to_wire(row);
    assert_eq!(
        shown.is_ok(),
        values.is_some() || render::row_to_json(table, row).is_ok()
    );
}
