//! The tables that input is fuzzed against.

use std::sync::Arc;

use rulemill::{
    catalog::{Catalog, Column, Origin, SharedCatalog, Stage, Table, TableId},
    limits::Limits,
};
use rulemill_wire::ColumnType;

/// A column.
pub(super) fn column(name: &str, ty: ColumnType, nullable: bool) -> Column {
    Column {
        name: name.into(),
        ty: Some(ty),
        nullable,
    }
}

/// A table whose key is its first columns.
pub(super) fn table(id: u32, name: &str, columns: Vec<Column>, key: u16) -> Table {
    Table {
        id: TableId(id),
        name: name.into(),
        generation: 0,
        origin: Origin::Source,
        columns,
        key: (0..key).collect(),
        indexes: Vec::new(),
        mirror: true,
        stage: Stage::default(),
    }
}

/// `orders`, with every type; `plain`, of which only the key is known; `events`, for which no rows are kept, and which
/// has a key of two columns; `notes`, all text; `totals`, which belongs to a plugin.
pub(super) fn catalog() -> Catalog {
    use ColumnType::*;
    let orders = vec![
        column("id", I64, false),
        column("amount", Decimal, false),
        column("note", Text, true),
        column("paid", Bool, true),
        column("weight", F64, true),
        column("day", Date, true),
        column("at", Timestamp, true),
        column("token", Uuid, true),
        column("blob", Bytes, true),
        column("doc", Json, true),
    ];
    let events = vec![
        column("id", Decimal, false),
        column("kind", Text, false),
        column("size", I64, true),
    ];
    let mut plain = vec![column("id", I64, false)];
    plain[0].ty = None;
    let notes = vec![
        column("id", Text, false),
        column("a", Text, false),
        column("b", Text, true),
    ];
    let mut totals = table(4, "totals", vec![column("id", I64, false)], 1);
    totals.origin = Origin::Derived {
        plugin: "shop".into(),
    };
    let mut events = table(2, "events", events, 2);
    events.mirror = false;
    Catalog::from_tables(vec![
        table(0, "orders", orders, 1),
        table(1, "plain", plain, 1),
        events,
        table(3, "notes", notes, 1),
        totals,
    ])
}

/// A catalog to decode with.
pub(super) fn shared(catalog: &Catalog) -> Arc<SharedCatalog> {
    Arc::new(SharedCatalog::new(catalog.clone()))
}

/// Small enough to be reached.
pub(super) fn limits() -> Limits {
    Limits {
        line_bytes_max: 4_096,
        row_bytes_max: 1_024,
        key_bytes_max: 48,
        table_columns_max: 12,
        ..Limits::default()
    }
}
