//! The items of a call: which changes a plugin gets, and their batch.

use std::sync::Arc;

use rulemill_wire::{
    batch::{BatchWriter, ItemHeader, Kind},
    codec,
};

use crate::{
    catalog::Catalog,
    change::{Change, Key, Op, Seq},
    row::{Row, RowError},
    store::{ParkedChange, ParkedTimer, Subject},
};

use super::{
    link::LinkedTable,
    state::{Line, Order},
};

/// The bits of a rule mask, as rule numbers.
pub(super) fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let bit = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        Some(bit)
    })
}

/// One thing that a plugin is told.
#[derive(Debug, Clone)]
pub(super) struct Item<'a> {
    /// Its place in the order of all.
    pub(super) seq: Seq,
    /// Which change of its table with that seq it is.
    pub(super) nth: u32,
    /// The source change behind it, as of which other tables are seen.
    pub(super) cause: Seq,
    /// Its commit time.
    pub(super) time: i64,
    /// The rules that get it, as bits.
    pub(super) rules: u64,
    pub(super) body: Body<'a>,
}

/// What it is told.
#[derive(Debug, Clone)]
pub(super) enum Body<'a> {
    /// A row changed.
    Change {
        change: ChangeRef<'a>,
        /// The manifest's table.
        table: u16,
        /// The row was there before the rule was.
        read: bool,
    },
    /// A timer is due.
    Timer { rule: u16, key: String, due: i64 },
    /// Time has moved on.
    Tick,
}

/// A change as it was made, or as one rule is told it because it missed an earlier one.
#[derive(Debug, Clone)]
pub(super) enum ChangeRef<'a> {
    /// As it was made.
    Made(&'a Change),
    /// With another row before.
    Told(Arc<Change>),
}

impl std::ops::Deref for ChangeRef<'_> {
    type Target = Change;

    #[inline]
    fn deref(&self) -> &Change {
        match self {
            Self::Made(change) => change,
            Self::Told(change) => change,
        }
    }
}

impl<'a> Item<'a> {
    /// The item of a change, which is the `nth` of its table with its seq.
    pub(super) fn of_change(change: &'a Change, nth: u32, table: u16, rules: u64) -> Self {
        Self {
            seq: change.seq,
            nth,
            cause: change.cause,
            time: change.time,
            rules,
            body: Body::Change {
                change: ChangeRef::Made(change),
                table,
                read: false,
            },
        }
    }

    /// A moment at which time has moved on.
    pub(super) fn tick(seq: Seq, time: i64) -> Self {
        Self {
            seq,
            nth: 0,
            cause: seq,
            time,
            rules: 0,
            body: Body::Tick,
        }
    }

    /// The same for these rules.
    pub(super) fn for_rules(&self, rules: u64) -> Self {
        Self {
            rules,
            ..self.clone()
        }
    }

    /// Its rules that are called before these, and its other ones that aren't among them.
    pub(super) fn rules_around(&self, rules: u64) -> (u64, u64) {
        let first = rules & rules.wrapping_neg();
        let others = self.rules & !rules;
        let earlier = others & first.saturating_sub(1);
        (earlier, others & !earlier)
    }

    /// Where it stood, once nothing is left to be told of it: time has moved on all the same.
    pub(super) fn passed(&self) -> Self {
        Self {
            rules: 0,
            body: Body::Tick,
            ..self.clone()
        }
    }

    /// Its place in what its rules are told.
    pub(super) fn order(&self) -> Order {
        Order {
            seq: self.seq,
            nth: self.nth,
        }
    }

    /// Whether both are of one change, for whatever rules.
    pub(super) fn is_same_change(&self, other: &Self) -> bool {
        self.order() == other.order() && self.key().is_some() && self.key() == other.key()
    }

    /// The same change for some of its rules only, with another row before; `None` if nothing is left to tell.
    pub(super) fn told(&self, rules: u64, before: Option<Row>) -> Option<Self> {
        let Body::Change {
            change,
            table,
            read,
        } = &self.body
        else {
            return None;
        };
        if before.is_none() && change.after.is_none() {
            return None;
        }
        let told = Change {
            op: Op::between(&before, &change.after),
            before,
            ..Change::clone(change)
        };
        Some(Self {
            rules,
            body: Body::Change {
                change: ChangeRef::Told(Arc::new(told)),
                table: *table,
                read: *read,
            },
            ..self.clone()
        })
    }

    /// The changed row's key; all items of one rule are of one table.
    pub(super) fn key(&self) -> Option<&Key> {
        match &self.body {
            Body::Change { change, .. } => Some(&change.key),
            _ => None,
        }
    }

    /// What it would be parked as.
    pub(super) fn subject(&self) -> Option<Subject> {
        match &self.body {
            Body::Change { change, .. } => Some(Subject::Change(ParkedChange {
                table: change.table,
                op: change.op,
                key: change.key.to_vec(),
                before: change.before.as_ref().map(|row| row.to_vec()),
                after: change.after.as_ref().map(|row| row.to_vec()),
            })),
            Body::Timer { key, due, .. } => Some(Subject::Timer(ParkedTimer {
                key: key.clone(),
                due: *due,
            })),
            Body::Tick => None,
        }
    }

    /// The line that it would stand in.
    pub(super) fn line(&self) -> Option<Line> {
        match &self.body {
            Body::Change { change, .. } => Some(Line::Row(change.key.clone())),
            Body::Timer { key, .. } => Some(Line::Timer(key.clone())),
            Body::Tick => None,
        }
    }
}

/// As people are told of it.
impl std::fmt::Display for Item<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.body {
            Body::Timer { key, .. } => {
                write!(f, "timer {key}, which came due before change {}", self.seq)
            }
            _ => write!(f, "change {}", self.seq),
        }
    }
}

/// A batch's bytes, with what had to be left out.
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// For each item of the batch its place among the items it was made from.
    pub(super) places: Vec<u32>,
    /// Items whose rows don't fit what the plugin declared.
    pub(super) unfit: Vec<(usize, RowError)>,
}

/// Writes the batch of these items. The timers of the rules `held` don't fire in it by themselves.
pub(super) fn write_batch(
    items: &[Item<'_>],
    watermark: i64,
    held: u64,
    tables: &[LinkedTable],
    catalog: &Catalog,
) -> Batch {
    let base = items.first().map_or(0, |item| item.cause.0);
    let mut writer = BatchWriter::new(base, watermark, items.len() * 48);
    let mut places = Vec::with_capacity(items.len() + 1);
    if held != 0 {
        // Nothing has an effect there.
        places.push(0);
        writer.item(ItemHeader {
            seq: base,
            time: watermark,
            rules: held,
            kind: Kind::Tick,
        });
    }
    let mut unfit = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let mark = writer.mark();
        match write_item(item, held, &mut writer, tables, catalog) {
            Ok(()) => places.push(place as u32),
            Err(error) => {
                writer.reset(mark);
                unfit.push((place, error));
            }
        }
    }
    Batch {
        bytes: writer.finish(),
        places,
        unfit,
    }
}

fn write_item(
    item: &Item<'_>,
    held: u64,
    writer: &mut BatchWriter,
    tables: &[LinkedTable],
    catalog: &Catalog,
) -> Result<(), RowError> {
    let header = |kind| ItemHeader {
        // What a rule sees of the order of things is that of the sources.
        seq: item.cause.0,
        time: item.time,
        rules: item.rules,
        kind,
    };
    match &item.body {
        Body::Tick => {
            writer.item(ItemHeader {
                rules: held,
                ..header(Kind::Tick)
            });
        }
        Body::Timer { key, due, .. } => {
            let out = writer.item(header(Kind::Timer));
            codec::write_bytes(key.as_bytes(), out);
            codec::write_i64(*due, out);
        }
        Body::Change {
            change,
            table,
            read,
        } => {
            let linked = &tables[usize::from(*table)];
            let table = catalog.table(linked.id);
            // Where there is no mirror the source may not have told the row before.
            let kind = match (change.op, &change.before, &change.after) {
                (_, None, Some(_)) if *read => Kind::Read,
                (_, None, Some(_)) => Kind::Insert,
                (Op::Update | Op::Insert, Some(_), Some(_)) => Kind::Update,
                (_, Some(_), _) => Kind::Delete,
                (_, None, None) => {
                    writer.item(ItemHeader {
                        rules: held,
                        ..header(Kind::Tick)
                    });
                    return Ok(());
                }
            };
            let out = writer.item(header(kind));
            if matches!(kind, Kind::Update | Kind::Delete)
                && let Some(row) = &change.before
            {
                linked.projection.to_wire(table, row, out)?;
            }
            if matches!(kind, Kind::Update | Kind::Insert | Kind::Read)
                && let Some(row) = &change.after
            {
                linked.projection.to_wire(table, row, out)?;
            }
        }
    }
    Ok(())
}
