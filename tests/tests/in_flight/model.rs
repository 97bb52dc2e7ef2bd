//! What the scans must find, worked out from plain maps.

use std::collections::BTreeMap;

use rulemill::change::RawOp;
use rulemill_tests::{random::Random, rig::TestChange};
use rulemill_wire::{Decimal, ValueRef};

use crate::plugins::kind;

/// A row of `items`, and of `entries` under (part, id).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) id: i64,
    pub(crate) part: i64,
    pub(crate) level: i64,
    pub(crate) rank: Option<i64>,
    pub(crate) label: Option<String>,
    pub(crate) amount: Decimal,
}

/// A row of `queries`.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) id: i64,
    pub(crate) kind: i64,
    pub(crate) x: i64,
    pub(crate) y: i64,
    pub(crate) label: Option<String>,
    pub(crate) descending: bool,
    pub(crate) most: i64,
}

/// One change of a batch.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Put(Item),
    Delete(i64),
    Ask(Query),
}

fn text(label: Option<&String>) -> ValueRef<'_> {
    label.map_or(ValueRef::Null, |label| ValueRef::Text(label))
}

impl Item {
    pub(crate) fn random(random: &mut Random) -> Self {
        Self {
            id: random.between(-8, 24),
            part: random.between(-2, 2),
            level: random.between(-3, 3),
            rank: (!random.one_in(3)).then(|| random.between(-2, 2)),
            label: label(random),
            amount: Decimal::new(random.between(-300, 300), 2),
        }
    }
}

fn label(random: &mut Random) -> Option<String> {
    // One is empty, one the beginning of another, one has a byte that the key form escapes.
    let labels = ["", "a", "ab", "a\0", "b"];
    (!random.one_in(3)).then(|| labels[random.below(5) as usize].to_owned())
}

impl Query {
    pub(crate) fn random(id: i64, random: &mut Random) -> Self {
        Self {
            id,
            kind: random.between(0, kind::COUNT - 1),
            x: random.between(-3, 3),
            y: random.between(-3, 8),
            label: label(random),
            descending: random.one_in(2),
            most: if random.one_in(3) {
                random.between(1, 7)
            } else {
                0
            },
        }
    }
}

impl Step {
    /// The change as the engine gets it.
    pub(crate) fn change(&self) -> TestChange<'_> {
        let (table, op, row) = match self {
            Self::Put(item) => (
                "items",
                RawOp::Upsert,
                vec![
                    ("id", ValueRef::I64(item.id)),
                    ("part", ValueRef::I64(item.part)),
                    ("level", ValueRef::I64(item.level)),
                    ("rank", item.rank.map_or(ValueRef::Null, ValueRef::I64)),
                    ("label", text(item.label.as_ref())),
                    ("amount", ValueRef::Decimal(item.amount)),
                ],
            ),
            Self::Delete(id) => ("items", RawOp::Delete, vec![("id", ValueRef::I64(*id))]),
            Self::Ask(query) => (
                "queries",
                RawOp::Insert,
                vec![
                    ("id", ValueRef::I64(query.id)),
                    ("kind", ValueRef::I64(query.kind)),
                    ("x", ValueRef::I64(query.x)),
                    ("y", ValueRef::I64(query.y)),
                    ("label", text(query.label.as_ref())),
                    ("descending", ValueRef::Bool(query.descending)),
                    ("most", ValueRef::I64(query.most)),
                ],
            ),
        };
        TestChange {
            table,
            op,
            row,
            time: Some(1),
        }
    }
}

/// What the rules must have found.
#[derive(Debug, Default)]
pub(crate) struct Model {
    items: BTreeMap<i64, Item>,
    /// By query: what the owner finds, as of the query.
    pub(crate) owned: BTreeMap<i64, String>,
    /// By query: what another plugin finds.
    pub(crate) looked_up: BTreeMap<i64, String>,
    /// By query: the rows of the source table, as of the query.
    pub(crate) items_found: BTreeMap<i64, String>,
}

impl Model {
    pub(crate) fn apply(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Put(item) => drop(self.items.insert(item.id, item.clone())),
                Step::Delete(id) => drop(self.items.remove(id)),
                Step::Ask(query) => {
                    self.owned.insert(query.id, self.scan(query));
                    self.looked_up.insert(query.id, self.scan(query));
                    self.items_found.insert(query.id, self.scan_items(query));
                }
            }
        }
    }

    fn scan_items(&self, query: &Query) -> String {
        let range = query.x..query.y.max(query.x);
        let mut found: Vec<String> = self
            .items
            .range(range)
            .map(|(id, item)| format!("{id}:{}", item.level))
            .collect();
        if query.descending {
            found.reverse();
        }
        found.join(" ")
    }

    /// The rows that a query finds: those that fit, sorted by the columns that it goes by and then by key.
    fn scan(&self, query: &Query) -> String {
        let (x, y, label) = (query.x, query.y, &query.label);
        let fits = |row: &Item| match query.kind {
            kind::ALL => true,
            kind::FROM_KEY => (row.part, row.id) >= (x, y),
            kind::PARTS => x <= row.part && row.part <= y,
            kind::PART => row.part == x,
            kind::LEVEL => row.level == x,
            kind::LEVELS => x <= row.level && row.level < y,
            kind::LABEL => row.label == *label,
            kind::LABELS => row.label <= *label,
            kind::LEVEL_RANK => (row.level, row.rank) == (x, Some(y)),
            kind::LEVEL_RANKS => {
                let place = (row.level, row.rank);
                (x, None) <= place && place < (y, Some(x))
            }
            kind::LABEL_AMOUNT => (&row.label, row.amount) >= (label, Decimal::ZERO),
            kind => panic!("no kind {kind}"),
        };
        let mut rows: Vec<&Item> = self.items.values().filter(|row| fits(row)).collect();
        rows.sort_by_key(|row| (row.part, row.id));
        // Stable: rows of the same place stay in the order of their keys.
        match query.kind {
            kind::LEVEL | kind::LEVELS => rows.sort_by_key(|row| row.level),
            kind::LABEL | kind::LABELS => rows.sort_by(|a, b| a.label.cmp(&b.label)),
            kind::LEVEL_RANK | kind::LEVEL_RANKS => rows.sort_by_key(|row| (row.level, row.rank)),
            kind::LABEL_AMOUNT => {
                rows.sort_by(|a, b| (&a.label, a.amount).cmp(&(&b.label, b.amount)));
            }
            _ => {}
        }
        if query.descending {
            rows.reverse();
        }
        if query.most > 0 {
            rows.truncate(query.most as usize);
        }
        let rows: Vec<String> = rows
            .into_iter()
            .map(|row| {
                format!(
                    "{}:{}:{}:{:?}:{:?}:{}",
                    row.part, row.id, row.level, row.rank, row.label, row.amount
                )
            })
            .collect();
        rows.join(" ")
    }
}
