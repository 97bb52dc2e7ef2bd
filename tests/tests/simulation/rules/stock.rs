//! A rule that reads its own table by an index.

macro_rules! stock {
    ($module:ident, $faulty:expr) => {
        pub(crate) mod $module {
            use rulemill_sdk::prelude::*;

            use crate::rules::{flaw, quiet_panic};

            #[derive(Row)]
            #[table(source = "items")]
            pub struct Item {
                #[key]
                id: i64,
                level: i64,
                flaw: i64,
            }

            #[derive(Row)]
            #[table(derived = "entries")]
            pub struct Entry {
                #[key]
                id: i64,
                #[index]
                level: i64,
            }

            #[derive(Row)]
            #[table(derived = "levels")]
            pub struct Level {
                #[key]
                level: i64,
                ids: String,
            }

            #[rule]
            pub fn entries(
                change: Change<Item>,
                entries: &mut Table<Entry>,
                levels: &mut Table<Level>,
            ) -> Outcome {
                let has = |flaw: i64| {
                    let rows = [&change.before, &change.after];
                    $faulty && rows.into_iter().flatten().any(|row| row.flaw == flaw)
                };
                entries.remove(change.key())?;
                if let Some(Item { id, level, .. }) = change.after {
                    entries.insert(Entry { id, level });
                }
                if has(flaw::ENTRIES_PANIC) {
                    quiet_panic("a flaw in entries");
                }
                let rows = [&change.before, &change.after];
                for level in rows.into_iter().flatten().map(|item| item.level) {
                    let mut ids = Vec::new();
                    for entry in entries.by(Entry::BY_LEVEL, level) {
                        ids.push(entry?.id.to_string());
                    }
                    let ids = ids.join(",");
                    if ids.is_empty() {
                        levels.remove(level)?;
                    } else {
                        levels.insert(Level { level, ids });
                    }
                    if has(flaw::ENTRIES_ERROR) {
                        return Err("a flaw in entries".into());
                    }
                }
                Ok(())
            }

            rulemill_sdk::plugin!(entries);
        }
    };
}

stock!(stock_1, true);
stock!(stock_2, false);
