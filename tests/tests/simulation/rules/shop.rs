//! Totals by user and what follows from them, flags and notices: most of what a plugin can do wrong.

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
