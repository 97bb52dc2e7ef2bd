//! What comes in: source transactions from a seed.
//!
//! Few keys, so that changes meet rows that are there and rows that aren't, and every op, whether or not it makes sense.

use std::fmt;

use rulemill::change::RawOp;
use rulemill_tests::random::Random;

use crate::rules::flaw;

/// A column of `orders` that no rule names: it comes and goes.
pub(crate) const NOTE: &str = "note";
/// The place of `flaw` in a row of `orders`.
pub(crate) const ORDERS_FLAW: usize = 2;

/// A source table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Orders,
    Users,
    Items,
    Carts,
}

impl Source {
    pub(crate) const ALL: [Self; 4] = [Self::Orders, Self::Users, Self::Items, Self::Carts];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Users => "users",
            Self::Items => "items",
            Self::Carts => "carts",
        }
    }

    /// Its columns, the key first; of orders also the one that nobody has named.
    pub(crate) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Orders => &["id", "user", "amount", "flaw", NOTE],
            Self::Users => &["id", "tier"],
            Self::Items => &["id", "level", "flaw"],
            Self::Carts => &["id", "wait"],
        }
    }
}

/// A row: a number for each column but the key.
pub(crate) type Row = Vec<Option<i64>>;

/// A change as the source says it.
#[derive(Clone, PartialEq)]
pub(crate) struct Said {
    pub(crate) table: Source,
    pub(crate) op: RawOp,
    pub(crate) key: i64,
    pub(crate) old_key: Option<i64>,
    pub(crate) row: Option<Row>,
    pub(crate) time: Option<i64>,
    /// The row leaves out a column that a rule names.
    pub(crate) lacks: bool,
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.op, self.table)?;
        match self.old_key {
            Some(old) => write!(f, " {old} now {}", self.key)?,
            None => write!(f, " {}", self.key)?,
        }
        for value in self.row.iter().flatten() {
            match value {
                Some(value) => write!(f, " {value}")?,
                None => f.write_str(" null")?,
            }
        }
        if self.lacks {
            f.write_str(" without an amount")?;
        }
        match self.time {
            Some(time) => write!(f, " @{time}"),
            None => Ok(()),
        }
    }
}

/// How much of what comes in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mix {
    /// One order in so many has a flaw; 0 for none.
    pub(crate) flaw_in: u64,
    /// Changes in one transaction, at the most.
    pub(crate) changes_max: u64,
    /// Keys of each table.
    pub(crate) keys: u64,
    /// One transaction in so many comes behind a change of the columns of `orders`; 0 for none.
    pub(crate) schema_in: u64,
}

/// The columns that `orders` has at the moment.
#[derive(Debug, Clone, Copy)]
struct Shape {
    has_note: bool,
    has_amount: bool,
}

/// Makes transactions.
pub(crate) struct Feed {
    random: Random,
    mix: Mix,
    time: i64,
    shape: Shape,
    /// Columns that came, and columns that went that no rule names, or that one does.
    pub(crate) added: u64,
    pub(crate) dropped: u64,
    pub(crate) dropped_named: u64,
}

impl Feed {
    pub(crate) fn new(seed: u64, mix: Mix) -> Self {
        Self {
            random: Random::new(seed ^ 0xfeed),
            mix,
            time: 1_000,
            shape: Shape {
                has_note: false,
                has_amount: true,
            },
            added: 0,
            dropped: 0,
            dropped_named: 0,
        }
    }

    /// The time of the last change.
    pub(crate) fn now(&self) -> i64 {
        self.time
    }

    /// The next transaction.
    pub(crate) fn transaction(&mut self) -> Vec<Said> {
        if self.mix.schema_in > 0 {
            self.reshape();
        }
        let changes = match self.random.below(8) {
            0..4 => 1,
            4..7 => 1 + self.random.below(5),
            _ => 1 + self.random.below(self.mix.changes_max),
        };
        (0..changes).map(|_| self.change()).collect()
    }

    /// Somebody alters the table, or not.
    fn reshape(&mut self) {
        let shape = &mut self.shape;
        if self.random.one_in(self.mix.schema_in) {
            shape.has_note ^= true;
            match shape.has_note {
                true => self.added += 1,
                false => self.dropped += 1,
            }
        }
        // Where rows have flaws the rules that need it may stand still. It comes back soon.
        if !shape.has_amount {
            shape.has_amount = self.random.one_in(15);
        } else if self.mix.flaw_in > 0 && self.random.one_in(4 * self.mix.schema_in) {
            shape.has_amount = false;
            self.dropped_named += 1;
        }
    }

    fn change(&mut self) -> Said {
        let random = &mut self.random;
        let table = match random.below(10) {
            0..6 => Source::Orders,
            6 => Source::Users,
            7 => Source::Items,
            _ => Source::Carts,
        };
        let op = match random.below(100) {
            0..30 => RawOp::Insert,
            30..55 => RawOp::Update,
            55..72 => RawOp::Upsert,
            72..98 => RawOp::Delete,
            98 => RawOp::Read,
            _ => RawOp::Truncate,
        };
        // A truncate of orders now and then is enough.
        let op = match op {
            RawOp::Truncate if random.one_in(2) => RawOp::Upsert,
            op => op,
        };
        let key = random.below(self.mix.keys) as i64 - 2;
        let old_key = (op == RawOp::Update && random.one_in(8))
            .then(|| random.below(self.mix.keys) as i64 - 2);
        let has_row = !matches!(op, RawOp::Delete | RawOp::Truncate);
        let row = has_row.then(|| row(random, table, self.mix, self.shape));
        let lacks = has_row && table == Source::Orders && !self.shape.has_amount;
        // Mostly onwards, now and then a little back, and sometimes without a time at all.
        self.time += [0, 1, 3, 20][random.below(4) as usize];
        let time = match random.below(40) {
            0 => None,
            1 | 2 => Some(self.time - random.below(60) as i64),
            _ => Some(self.time),
        };
        Said {
            table,
            op,
            key,
            old_key,
            row,
            time,
            lacks,
        }
    }
}

fn row(random: &mut Random, table: Source, mix: Mix, shape: Shape) -> Row {
    let has_flaw = mix.flaw_in > 0 && random.one_in(mix.flaw_in);
    let flaw = match has_flaw {
        true => random.between(flaw::NONE, flaw::ALL - 1),
        false => flaw::NONE,
    };
    match table {
        Source::Orders => {
            // A flaw of no number: no amount.
            let amount = (!(has_flaw && flaw == flaw::NONE)).then(|| random.below(100) as i64 - 10);
            let amount = amount.filter(|_| shape.has_amount);
            let note = shape.has_note.then(|| random.below(3) as i64);
            vec![Some(random.below(6) as i64), amount, Some(flaw), note]
        }
        Source::Users => vec![Some(random.below(5) as i64)],
        Source::Items => {
            let flaw = match has_flaw {
                true => random.between(flaw::ENTRIES_ERROR, flaw::ENTRIES_PANIC),
                false => flaw::NONE,
            };
            vec![Some(random.below(4) as i64), Some(flaw)]
        }
        Source::Carts => vec![Some(1 + random.below(120) as i64)],
    }
}
