//! Keeps what is complete and there once; says what was dropped, and why.
//!
//! Of several rows with the same receipt and product the one with the smallest number counts. If it
//! goes, or turns out wrong, the next takes its place: it is read again from the raw table.

use rulemill_sdk::prelude::*;

use crate::parse::{Parsed, RawSale, parse};

/// The reason given for a row that says what another one says already.
const DUPLICATE: &str = "duplicate";

/// A sale that counts.
#[derive(Row, Clone, Debug, PartialEq)]
#[table(derived = "sales_clean", index(receipt, product))]
pub struct Sale {
    /// The raw row's number.
    #[key]
    pub id: i64,
    /// The receipt.
    pub receipt: String,
    /// The day.
    pub day: Date,
    /// What was sold.
    pub product: String,
    /// How many.
    pub quantity: i64,
    /// What one cost.
    pub price: Decimal,
    /// What they cost together.
    pub total: Decimal,
}

/// A raw row that doesn't count.
#[derive(Row, Debug, PartialEq)]
#[table(derived = "sales_dropped", index(receipt, product))]
pub struct DroppedSale {
    /// The raw row's number.
    #[key]
    pub id: i64,
    /// Why it was dropped.
    pub reason: String,
    /// Of a duplicate: the receipt, by which it is found when it is needed after all.
    pub receipt: Option<String>,
    /// Of a duplicate: what was sold.
    pub product: Option<String>,
}

/// How many rows are dropped for a reason.
#[derive(Row, Default, Debug, PartialEq)]
#[table(derived = "sales_dropped_reasons")]
pub struct DroppedReason {
    /// The reason.
    #[key]
    pub reason: String,
    /// Rows.
    pub rows: i64,
}

/// Takes the row as it was out and puts the row as it is in.
#[rule]
pub fn sales_clean(
    change: Change<RawSale>,
    raw: &Lookup<RawSale>,
    clean: &mut Table<Sale>,
    dropped: &mut Table<DroppedSale>,
    reasons: &mut Table<DroppedReason>,
) -> Outcome {
    // The same line once more changes nothing.
    if change.before == change.after {
        return Ok(());
    }
    let mut tables = Tables {
        clean,
        dropped,
        reasons,
    };
    if change.before.is_some() {
        tables.take_out(change.key(), raw)?;
    }
    match &change.after {
        Some(row) => tables.put_in(row),
        None => Ok(()),
    }
}

struct Tables<'a> {
    clean: &'a mut Table<Sale>,
    dropped: &'a mut Table<DroppedSale>,
    reasons: &'a mut Table<DroppedReason>,
}

impl Tables<'_> {
    fn put_in(&mut self, raw: &RawSale) -> Outcome {
        let parsed = match parse(raw) {
            Ok(parsed) => parsed,
            Err(reason) => return self.drop_row(raw.id, reason, None),
        };
        let same = (parsed.receipt.clone(), parsed.product.clone());
        let sale = sale(raw.id, parsed);
        if let Some(first) = self.clean.by(Sale::BY_RECEIPT_PRODUCT, same).next() {
            let first = first?;
            if first.id < sale.id {
                return self.drop_row(sale.id, DUPLICATE, Some(sale));
            }
            self.clean.remove(first.id)?;
            self.drop_row(first.id, DUPLICATE, Some(first))?;
        }
        self.clean.insert(sale);
        Ok(())
    }

    fn take_out(&mut self, id: i64, raw: &Lookup<RawSale>) -> Outcome {
        let Some(sale) = self.clean.remove(id)? else {
            return self.take_from_dropped(id);
        };
        let same = (Some(sale.receipt), Some(sale.product));
        let next = self
            .dropped
            .by(DroppedSale::BY_RECEIPT_PRODUCT, same)
            .next();
        if let Some(duplicate) = next {
            let id = duplicate?.id;
            self.take_from_dropped(id)?;
            if let Some(row) = raw.get(id)? {
                self.put_in(&row)?;
            }
        }
        Ok(())
    }

    fn drop_row(&mut self, id: i64, reason: &str, duplicate: Option<Sale>) -> Outcome {
        self.reasons.entry(reason.to_owned())?.rows += 1;
        let (receipt, product) = duplicate.map(|sale| (sale.receipt, sale.product)).unzip();
        self.dropped.insert(DroppedSale {
            id,
            reason: reason.into(),
            receipt,
            product,
        });
        Ok(())
    }

    fn take_from_dropped(&mut self, id: i64) -> Outcome {
        if let Some(row) = self.dropped.remove(id)? {
            let reason = self.reasons.entry(row.reason.clone())?;
            reason.rows -= 1;
            if reason.rows == 0 {
                self.reasons.remove(row.reason)?;
            }
        }
        Ok(())
    }
}

fn sale(id: i64, parsed: Parsed) -> Sale {
    Sale {
        id,
        total: parsed.price * Decimal::from(parsed.quantity),
        receipt: parsed.receipt,
        day: parsed.day,
        product: parsed.product,
        quantity: parsed.quantity,
        price: parsed.price,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::tests::raw;
    use rulemill_sdk::testing::Harness;

    fn row(id: i64, receipt: &str) -> RawSale {
        raw(id, receipt, "2026-01-31", "2", "1.50")
    }

    fn clean_ids(harness: &Harness) -> Vec<i64> {
        harness.rows::<Sale>().iter().map(|sale| sale.id).collect()
    }

    #[test]
    fn the_smallest_number_counts_in_whatever_order_rows_come() -> Result<(), String> {
        for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
            let mut harness = Harness::new(crate::plugin())?.batches_of(2);
            for id in order {
                harness.push(Change::insert(row(id, "R1")));
            }
            harness.run();
            assert_eq!(clean_ids(&harness), [1], "{order:?}");
            let reasons = harness.rows::<DroppedReason>();
            assert_eq!((&*reasons[0].reason, reasons[0].rows), ("duplicate", 2));
        }
        Ok(())
    }

    #[test]
    fn a_duplicate_takes_the_place_of_a_row_that_goes_or_breaks() -> Result<(), String> {
        let mut harness = Harness::new(crate::plugin())?;
        for id in 1..=3 {
            harness.push(Change::insert(row(id, "R1")));
        }
        harness.push(Change::delete(row(1, "R1"))).run();
        assert_eq!(clean_ids(&harness), [2]);
        let broken = raw(2, "R1", "2026-01-31", "none", "1.50");
        harness.push(Change::update(row(2, "R1"), broken)).run();
        assert_eq!(clean_ids(&harness), [3]);
        let dropped = harness.rows::<DroppedSale>();
        assert_eq!(dropped[0].reason, "quantity is no positive whole number");
        assert_eq!(harness.rows::<DroppedReason>().len(), 1);
        Ok(())
    }

    #[test]
    fn a_row_that_is_mended_counts() -> Result<(), String> {
        let mut harness = Harness::new(crate::plugin())?;
        let broken = raw(1, "R1", "", "2", "1.50");
        harness.push(Change::insert(broken.clone())).run();
        assert_eq!(harness.rows::<DroppedSale>()[0].reason, "day is missing");
        harness.push(Change::update(broken, row(1, "R1"))).run();
        assert!(harness.rows::<DroppedSale>().is_empty());
        assert!(harness.rows::<DroppedReason>().is_empty());
        assert_eq!(harness.rows::<Sale>()[0].total, Decimal::from(3));
        Ok(())
    }
}
