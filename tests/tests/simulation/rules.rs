//! The plugins of the simulated world: what the engine runs, as users write it.
//!
//! Each plugin comes in two versions. The first fails on rows with a certain `flaw`: it returns an error after half of its
//! work, panics, writes a row that the host refuses, or can't read a row without `amount`. The second is mended. Every rule has its own flaws,
//! so that a fault of one shows where it touches another.
#![allow(
    clippy::unwrap_used,
    reason = "a macro's expansion: the same rules once for each version"
)]

/// What is wrong with a row of `orders` or `items`, for the first versions.
pub(crate) mod flaw {
    pub(crate) const NONE: i64 = 0;
    /// `shop.totals` returns an error when half done.
    pub(crate) const TOTALS_ERROR: i64 = 1;
    /// `shop.totals` panics.
    pub(crate) const TOTALS_PANIC: i64 = 2;
    /// `shop.flags` writes a row that is too large.
    pub(crate) const FLAGS_REFUSED: i64 = 3;
    /// `shop.notices` returns an error after it has sent.
    pub(crate) const NOTICES_ERROR: i64 = 4;
    /// `ledger.counts`, which halts, returns an error.
    pub(crate) const COUNTS_ERROR: i64 = 5;
    /// `ledger.counts` panics.
    pub(crate) const COUNTS_PANIC: i64 = 6;
    /// `enrich.shaky` panics.
    pub(crate) const SHAKY_PANIC: i64 = 7;
    /// `stock.entries` returns an error when half done.
    pub(crate) const ENTRIES_ERROR: i64 = 8;
    /// `stock.entries` panics when half done.
    pub(crate) const ENTRIES_PANIC: i64 = 9;
    pub(crate) const ALL: i64 = 10;
}

/// The limit that `shop.flags` breaks.
pub(crate) const ROW_BYTES_MAX: usize = 256;

/// A panic that prints nothing: there are many, and they are meant.
pub(crate) fn quiet_panic(what: &str) -> ! {
    std::panic::resume_unwind(Box::new(what.to_owned()))
}

/// A column that the first versions need and the second can do without.
pub(crate) trait Amount {
    fn amount(&self) -> i64;
}

impl Amount for i64 {
    fn amount(&self) -> i64 {
        *self
    }
}

impl Amount for Option<i64> {
    fn amount(&self) -> i64 {
        self.unwrap_or_default()
    }
}

macro_rules! orders {
    ($($amount:tt)+) => {
        #[derive(Row)]
        #[table(source = "orders")]
        pub struct Order {
            #[key]
            pub id: i64,
            pub user: i64,
            pub amount: $($amount)+,
            pub flaw: i64,
        }

        /// Whether a version that has flaws stumbles over this one.
        #[allow(dead_code, reason = "not in every plugin")]
        fn has(change: &Change<Order>, faulty: bool, flaw: i64) -> bool {
            let rows = [&change.before, &change.after];
            faulty && rows.into_iter().flatten().any(|row| row.flaw == flaw)
        }
    };
}

macro_rules! shop {
    ($module:ident, $faulty:expr, $derived_faulty:expr, $($amount:tt)+) => {
        pub(crate) mod $module {
            use rulemill_sdk::prelude::*;

            use crate::rules::{Amount, flaw, quiet_panic};

            orders!($($amount)+);

            #[derive(Row, Default)]
            #[table(derived = "totals")]
            pub struct Total {
                #[key]
                user: i64,
                orders: i64,
                amount: i64,
            }

            #[derive(Row, Default)]
            #[table(derived = "buckets")]
            pub struct Bucket {
                #[key]
                bucket: i64,
                users: i64,
                amount: i64,
            }

            #[derive(Row)]
            #[table(derived = "flags")]
            pub struct Flag {
                #[key]
                id: i64,
                text: String,
            }

            #[rule]
            pub fn totals(change: Change<Order>, totals: &mut Table<Total>) -> Outcome {
                for Delta { row, sign } in change.deltas() {
                    let total = totals.entry(row.user)?;
                    total.orders += sign;
                    total.amount += row.amount.amount() * sign;
                    if total.orders == 0 {
                        totals.remove(row.user)?;
                    }
                    if has(&change, $faulty, flaw::TOTALS_ERROR) {
                        return Err("a flaw in totals".into());
                    }
                }
                if has(&change, $faulty, flaw::TOTALS_PANIC) {
                    quiet_panic("a flaw in totals");
                }
                Ok(())
            }

            #[rule]
            pub fn buckets(change: Change<Total>, buckets: &mut Table<Bucket>) -> Outcome {
                for Delta { row, sign } in change.deltas() {
                    let place = row.amount.div_euclid(64);
                    let bucket = buckets.entry(place)?;
                    bucket.users += sign;
                    bucket.amount += row.amount * sign;
                    // Between the two halves of a change a bucket may hold fewer than none.
                    if bucket.users == 0 {
                        buckets.remove(place)?;
                    }
                    if $derived_faulty && row.amount % 16 == 3 {
                        return Err("a flaw in buckets".into());
                    }
                }
                Ok(())
            }

            /// What the host refuses. No later change of a batch may put right what an earlier one wrote, so it has a table
            /// of its own, from which nothing is removed.
            #[derive(Row)]
            #[table(derived = "refused")]
            pub struct Refused {
                #[key]
                id: i64,
                text: String,
            }

            #[rule]
            pub fn flags(
                change: Change<Order>,
                flags: &mut Table<Flag>,
                refused: &mut Table<Refused>,
            ) -> Outcome {
                flags.remove(change.key())?;
                if let Some(order) = &change.after {
                    let text = format!("{}/{}", order.user, order.amount.amount());
                    flags.insert(Flag { id: order.id, text });
                }
                if has(&change, $faulty, flaw::FLAGS_REFUSED) {
                    let text = "x".repeat(crate::rules::ROW_BYTES_MAX);
                    let id = change.key();
                    refused.insert(Refused { id, text });
                }
                Ok(())
            }

            #[rule]
            pub fn notices(change: Change<Order>, notify: &mut Notify) -> Outcome {
                if let Some(order) = &change.after
                    && order.amount.amount() >= 60
                {
                    notify.send("large", &(order.id, order.amount.amount()))?;
                }
                if change.after.is_none() {
                    notify.send("gone", &change.key())?;
                }
                if has(&change, $faulty, flaw::NOTICES_ERROR) {
                    return Err("a flaw in notices".into());
                }
                Ok(())
            }

            rulemill_sdk::plugin!(totals, buckets, flags, notices);
        }
    };
}

shop!(shop_1, true, false, i64);
shop!(shop_2, false, false, Option<i64>);
// Where what a later rule faults on depends on the batches.
shop!(shop_3, true, true, i64);

macro_rules! enrich {
    ($module:ident, $faulty:expr, $($amount:tt)+) => {
        pub(crate) mod $module {
            use rulemill_sdk::prelude::*;

            use crate::rules::{flaw, quiet_panic};

            orders!($($amount)+);

            #[derive(Row)]
            #[table(source = "users")]
            pub struct User {
                #[key]
                id: i64,
                tier: i64,
            }

            #[derive(Row)]
            #[table(derived = "names")]
            pub struct Name {
                #[key]
                id: i64,
                tier: Option<i64>,
                near: String,
            }

            #[derive(Row)]
            #[table(derived = "shaky")]
            pub struct Shaky {
                #[key]
                id: i64,
                user: i64,
            }

            #[rule]
            pub fn names(
                change: Change<Order>,
                users: &Lookup<User>,
                names: &mut Table<Name>,
            ) -> Outcome {
                let Some(order) = &change.after else {
                    names.remove(change.key())?;
                    return Ok(());
                };
                let tier = users.get(order.user)?.map(|user| user.tier);
                let mut near = Vec::new();
                for user in users.range(order.user - 1..order.user + 2) {
                    let user = user?;
                    near.push(format!("{}:{}", user.id, user.tier));
                }
                let near = near.join(",");
                names.insert(Name { id: order.id, tier, near });
                Ok(())
            }

            #[rule]
            pub fn shaky(change: Change<Order>, rows: &mut Table<Shaky>) -> Outcome {
                if has(&change, $faulty, flaw::SHAKY_PANIC) {
                    quiet_panic("a flaw in shaky");
                }
                match change.after {
                    Some(Order { id, user, .. }) => rows.insert(Shaky { id, user }),
                    None => {
                        rows.remove(change.key())?;
                    }
                }
                Ok(())
            }

            rulemill_sdk::plugin!(names, shaky);
        }
    };
}

enrich!(enrich_1, true, Option<i64>);
enrich!(enrich_2, false, Option<i64>);

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

macro_rules! ledger {
    ($module:ident, $faulty:expr) => {
        pub(crate) mod $module {
            use rulemill_sdk::prelude::*;

            use crate::rules::{Amount, flaw, quiet_panic};

            orders!(Option<i64>);

            #[derive(Row, Default)]
            #[table(derived = "counts")]
            pub struct Count {
                #[key]
                slot: i64,
                handled: i64,
                amount: i64,
            }

            #[rule]
            pub fn counts(change: Change<Order>, counts: &mut Table<Count>) -> Outcome {
                let count = counts.entry(change.key().rem_euclid(4))?;
                count.handled += 1;
                for Delta { row, sign } in change.deltas() {
                    count.amount += row.amount.amount() * sign;
                }
                if has(&change, $faulty, flaw::COUNTS_ERROR) {
                    return Err("a flaw in counts".into());
                }
                if has(&change, $faulty, flaw::COUNTS_PANIC) {
                    quiet_panic("a flaw in counts");
                }
                Ok(())
            }

            rulemill_sdk::plugin!(counts);
        }
    };
}

ledger!(ledger_1, true);
ledger!(ledger_2, false);

/// Timers that set timers: reminded of a cart once, then again after as long.
pub(crate) mod carts {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "carts")]
    pub struct Cart {
        #[key]
        id: i64,
        wait: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "reminded")]
    pub struct Reminded {
        #[key]
        id: i64,
        times: i64,
        last: i64,
    }

    #[rule]
    pub fn watch(change: Change<Cart>, timers: &mut Timers, now: Now) -> Outcome {
        let id = change.key().to_string();
        match &change.after {
            Some(cart) => {
                let due = now.timestamp().micros() + cart.wait;
                let due = Timestamp::from_micros(due).ok_or("too late")?;
                timers.set("remind", id, due)?;
            }
            None => timers.clear("remind", id)?,
        }
        Ok(())
    }

    #[rule]
    pub fn remind(
        timer: Timer,
        reminded: &mut Table<Reminded>,
        timers: &mut Timers,
        notify: &mut Notify,
    ) -> Outcome {
        let due = timer.due.micros();
        let row = reminded.entry(timer.key.parse::<i64>()?)?;
        row.times += 1;
        row.last = due;
        if row.times % 2 == 1 {
            let again = Timestamp::from_micros(due + super::AGAIN).ok_or("too late")?;
            timers.set("remind", timer.key.clone(), again)?;
        }
        notify.send("reminded", &(&timer.key, due))?;
        Ok(())
    }

    rulemill_sdk::plugin!(watch, remind);
}

/// After how many microseconds a cart is remembered again.
pub(crate) const AGAIN: i64 = 50;

macro_rules! sums {
    ($module:ident, $table:literal) => {
        pub(crate) mod $module {
            use rulemill_sdk::prelude::*;

            use crate::rules::Amount;

            orders!(Option<i64>);

            #[derive(Row, Default)]
            #[table(derived = $table)]
            pub struct Sum {
                #[key]
                slot: i64,
                orders: i64,
                amount: i64,
            }

            #[rule]
            pub fn sums(change: Change<Order>, sums: &mut Table<Sum>) -> Outcome {
                for Delta { row, sign } in change.deltas() {
                    let slot = row.user.rem_euclid(3);
                    let sum = sums.entry(slot)?;
                    sum.orders += sign;
                    sum.amount += row.amount.amount() * sign;
                    if sum.orders == 0 {
                        sums.remove(slot)?;
                    }
                }
                Ok(())
            }

            rulemill_sdk::plugin!(sums);
        }
    };
}

// New to a store that has rows: one takes over the rows, the other reads the log.
sums!(late, "late_sums");
sums!(tardy, "tardy_sums");

macro_rules! lenient {
    ($module:ident, $faulty:expr) => {
        pub(crate) mod $module {
            use rulemill_sdk::prelude::*;

            use crate::rules::{Amount, flaw, quiet_panic};

            orders!(Option<i64>);

            #[derive(Row, Default)]
            #[table(derived = "lenient_sums")]
            pub struct Sum {
                #[key]
                slot: i64,
                orders: i64,
                amount: i64,
            }

            #[rule]
            pub fn sums(change: Change<Order>, sums: &mut Table<Sum>) -> Outcome {
                for Delta { row, sign } in change.deltas() {
                    let slot = row.user.rem_euclid(3);
                    let sum = sums.entry(slot)?;
                    sum.orders += sign;
                    sum.amount += row.amount.amount() * sign;
                    if sum.orders == 0 {
                        sums.remove(slot)?;
                    }
                    if has(&change, $faulty, flaw::TOTALS_ERROR) {
                        return Err("a flaw in sums".into());
                    }
                }
                if has(&change, $faulty, flaw::TOTALS_PANIC) {
                    quiet_panic("a flaw in sums");
                }
                Ok(())
            }

            rulemill_sdk::plugin!(sums);
        }
    };
}

// What these stumble over is skipped.
lenient!(lenient_1, true);
lenient!(lenient_2, false);

/// Looks up a table that another plugin derives.
pub(crate) mod reader {
    use rulemill_sdk::prelude::*;

    orders!(Option<i64>);

    #[derive(Row)]
    #[table(source = "totals")]
    pub struct Total {
        #[key]
        user: i64,
        orders: i64,
        amount: i64,
    }

    #[derive(Row)]
    #[table(derived = "standings")]
    pub struct Standing {
        #[key]
        id: i64,
        orders: Option<i64>,
        amount: Option<i64>,
    }

    #[rule]
    pub fn standings(
        change: Change<Order>,
        totals: &Lookup<Total>,
        standings: &mut Table<Standing>,
    ) -> Outcome {
        let Some(order) = &change.after else {
            standings.remove(change.key())?;
            return Ok(());
        };
        let total = totals.get(order.user)?;
        standings.insert(Standing {
            id: order.id,
            orders: total.as_ref().map(|total| total.orders),
            amount: total.as_ref().map(|total| total.amount),
        });
        Ok(())
    }

    rulemill_sdk::plugin!(standings);
}

/// Owns a table that another plugin owns: it must be refused.
pub(crate) mod thief {
    use rulemill_sdk::prelude::*;

    orders!(Option<i64>);

    #[derive(Row)]
    #[table(derived = "totals")]
    pub struct Total {
        #[key]
        user: i64,
    }

    #[rule]
    pub fn steal(change: Change<Order>, totals: &mut Table<Total>) -> Outcome {
        totals.insert(Total {
            user: change.row().user,
        });
        Ok(())
    }

    rulemill_sdk::plugin!(steal);
}
