//! Two plugins: one owns a table with indexes and scans it, the other looks the same table up.

/// What a query asks for; the numbers in the `queries` table.
pub(crate) mod kind {
    pub(crate) const ALL: i64 = 0;
    pub(crate) const FROM_KEY: i64 = 1;
    pub(crate) const PARTS: i64 = 2;
    pub(crate) const PART: i64 = 3;
    pub(crate) const LEVEL: i64 = 4;
    pub(crate) const LEVELS: i64 = 5;
    pub(crate) const LABEL: i64 = 6;
    pub(crate) const LABELS: i64 = 7;
    pub(crate) const LEVEL_RANK: i64 = 8;
    pub(crate) const LEVEL_RANKS: i64 = 9;
    pub(crate) const LABEL_AMOUNT: i64 = 10;
    pub(crate) const COUNT: i64 = 11;
}

/// The rows of a scan, as text. `$Row` has the columns of an entry; `$table` is its `Table` or `Lookup`.
macro_rules! scan {
    ($table:expr, $Row:ident, $query:expr) => {{
        use crate::plugins::kind;
        let query = $query;
        let (x, y) = (query.x, query.y);
        let label = query.label.clone();
        let mut scan = match query.kind {
            kind::ALL => $table.range(..),
            kind::FROM_KEY => $table.range((x, y)..),
            kind::PARTS => $table.range(x..=y),
            kind::PART => $table.prefix(x),
            kind::LEVEL => $table.by($Row::BY_LEVEL, x),
            kind::LEVELS => $table.by_range($Row::BY_LEVEL, x..y),
            kind::LABEL => $table.by($Row::BY_LABEL, label),
            kind::LABELS => $table.by_range($Row::BY_LABEL, ..=label),
            kind::LEVEL_RANK => $table.by($Row::BY_LEVEL_RANK, (x, Some(y))),
            kind::LEVEL_RANKS => $table.by_range($Row::BY_LEVEL_RANK, (x, None)..(y, Some(x))),
            kind::LABEL_AMOUNT => $table.by_range($Row::BY_LABEL_AMOUNT, (label, Decimal::ZERO)..),
            kind => panic!("no kind {kind}"),
        };
        if query.descending {
            scan = scan.descending();
        }
        if query.most > 0 {
            scan = scan.limit(query.most as usize);
        }
        let mut found = Vec::new();
        for row in scan {
            let row = row?;
            found.push(format!(
                "{}:{}:{}:{:?}:{:?}:{}",
                row.part, row.id, row.level, row.rank, row.label, row.amount
            ));
        }
        found.join(" ")
    }};
}

pub(crate) mod owner {
    use std::sync::atomic::{AtomicI64, Ordering};

    use rulemill_sdk::prelude::*;

    /// The last query that has been answered: how a test knows that the engine has come to a batch which
    /// can't be durable yet.
    pub(crate) static ANSWERED: AtomicI64 = AtomicI64::new(0);

    #[derive(Row)]
    #[table(source = "items")]
    pub struct Item {
        #[key]
        pub id: i64,
        pub part: i64,
        pub level: i64,
        pub rank: Option<i64>,
        pub label: Option<String>,
        pub amount: Decimal,
    }

    #[derive(Row)]
    #[table(derived = "entries", index(level, rank), index(label, amount))]
    pub struct Entry {
        #[key]
        pub part: i64,
        #[key]
        pub id: i64,
        #[index]
        pub level: i64,
        pub rank: Option<i64>,
        #[index]
        pub label: Option<String>,
        pub amount: Decimal,
    }

    #[derive(Row)]
    #[table(source = "queries")]
    pub struct Query {
        #[key]
        pub id: i64,
        pub kind: i64,
        pub x: i64,
        pub y: i64,
        pub label: Option<String>,
        pub descending: bool,
        pub most: i64,
    }

    #[derive(Row)]
    #[table(derived = "owned")]
    pub struct Owned {
        #[key]
        id: i64,
        found: String,
    }

    #[rule]
    pub fn entries(change: Change<Item>, entries: &mut Table<Entry>) -> Outcome {
        if let Some(old) = &change.before {
            entries.remove((old.part, old.id))?;
        }
        if let Some(item) = change.after {
            entries.insert(Entry {
                part: item.part,
                id: item.id,
                level: item.level,
                rank: item.rank,
                label: item.label,
                amount: item.amount,
            });
        }
        Ok(())
    }

    #[rule]
    pub fn ask(
        change: Change<Query>,
        entries: &mut Table<Entry>,
        owned: &mut Table<Owned>,
    ) -> Outcome {
        let Some(query) = &change.after else {
            return Ok(());
        };
        let found = scan!(entries, Entry, query);
        owned.insert(Owned {
            id: query.id,
            found,
        });
        ANSWERED.fetch_max(query.id, Ordering::SeqCst);
        Ok(())
    }

    rulemill_sdk::plugin!(entries, ask);
}

pub(crate) mod reader {
    use rulemill_sdk::prelude::*;

    use super::owner::{Item, Query};

    /// The other plugin's table, as this one reads it.
    #[derive(Row)]
    #[table(source = "entries", index(level, rank), index(label, amount))]
    pub struct Entry {
        #[key]
        part: i64,
        #[key]
        id: i64,
        #[index]
        level: i64,
        rank: Option<i64>,
        #[index]
        label: Option<String>,
        amount: Decimal,
    }

    #[derive(Row)]
    #[table(derived = "looked_up")]
    pub struct LookedUp {
        #[key]
        id: i64,
        found: String,
        items: String,
    }

    #[rule]
    pub fn look(
        change: Change<Query>,
        entries: &Lookup<Entry>,
        items: &Lookup<Item>,
        looked_up: &mut Table<LookedUp>,
    ) -> Outcome {
        let Some(query) = &change.after else {
            return Ok(());
        };
        let found = scan!(entries, Entry, query);
        let mut scan = items.range(query.x..query.y);
        if query.descending {
            scan = scan.descending();
        }
        let mut items = Vec::new();
        for item in scan {
            let item = item?;
            items.push(format!("{}:{}", item.id, item.level));
        }
        let items = items.join(" ");
        looked_up.insert(LookedUp {
            id: query.id,
            found,
            items,
        });
        Ok(())
    }

    rulemill_sdk::plugin!(look);
}

/// Counts each change: whatever is applied twice shows.
pub(crate) mod counting {
    use std::sync::atomic::{AtomicI64, Ordering};

    use rulemill_sdk::prelude::*;

    use super::owner::Item;

    /// The greatest item that has been handled, durable or not.
    pub(crate) static GREATEST: AtomicI64 = AtomicI64::new(0);

    #[derive(Row, Default)]
    #[table(derived = "counts")]
    pub struct Count {
        #[key]
        id: i64,
        changes: i64,
        level: i64,
    }

    #[rule]
    pub fn counts(change: Change<Item>, counts: &mut Table<Count>) -> Outcome {
        let count = counts.entry(change.key())?;
        count.changes += 1;
        GREATEST.fetch_max(change.key(), Ordering::SeqCst);
        count.level = change.after.map_or(-1, |item| item.level);
        Ok(())
    }

    rulemill_sdk::plugin!(counts);
}
