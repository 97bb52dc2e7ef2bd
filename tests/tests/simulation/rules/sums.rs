//! Sums of orders: by plugins that halt, skip, or come when there are rows already.

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

macro_rules! sums {
    ($module:ident, $table:literal, $faulty:expr) => {
        pub(crate) mod $module {
            use rulemill_sdk::prelude::*;

            use crate::rules::{Amount, flaw, quiet_panic};

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

// New to a store that has rows: one takes over the rows, the other reads the log.
sums!(late, "late_sums", false);
sums!(tardy, "tardy_sums", false);
// What these stumble over is skipped.
sums!(lenient_1, "lenient_sums", true);
sums!(lenient_2, "lenient_sums", false);
