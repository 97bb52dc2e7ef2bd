//! Warns once when a product's stock falls below its threshold, and again only after it was restocked.
//!
//! The table holds what is low now: a product without a row that is low has just become so.

use rulemill_sdk::prelude::*;

use crate::source::Product;

/// A product that is low.
#[derive(Row, Debug, PartialEq)]
#[table(derived = "low_stock")]
pub struct LowStock {
    /// The product.
    #[key]
    pub product_id: i64,
    /// Its name.
    pub name: String,
    /// Pieces left.
    pub stock: i64,
    /// When it fell below its threshold.
    pub since: Timestamp,
}

/// Keeps the list of what is low and sends `low-stock` for each product that joins it.
#[rule]
pub fn low_stock(
    change: Change<Product>,
    low: &mut Table<LowStock>,
    notify: &mut Notify,
    now: Now,
) -> Outcome {
    let is_low = |product: &Product| {
        let threshold = product.reorder_below;
        threshold.is_some_and(|threshold| product.stock < threshold)
    };
    let Some(product) = change.after.as_ref().filter(|product| is_low(product)) else {
        low.remove(change.key())?;
        return Ok(());
    };
    if let Some(row) = low.get_mut(product.id)? {
        row.name.clone_from(&product.name);
        row.stock = product.stock;
        return Ok(());
    }
    low.insert(LowStock {
        product_id: product.id,
        name: product.name.clone(),
        stock: product.stock,
        since: now.timestamp(),
    });
    notify.send(
        "low-stock",
        &json!({ "product_id": product.id, "name": product.name, "stock": product.stock }),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::rows::product;

    #[test]
    fn a_product_is_reported_once_until_it_was_restocked() -> Outcome {
        let mut low = Table::in_memory();
        let mut notify = Notify::default();
        let mut sent = Vec::new();
        for (hour, (before, after)) in [(9, 4), (4, 3), (3, 20), (20, 5), (5, 1)]
            .iter()
            .enumerate()
        {
            let now = Now::at(format!("2026-01-31T{hour:02}:00:00Z").parse()?);
            let change = Change::update(product(15, *before), product(15, *after));
            low_stock(change, &mut low, &mut notify, now)?;
            sent.push(notify.sent().len());
        }
        assert_eq!(sent, [1, 1, 1, 1, 2], "5 is not below 5");
        assert_eq!(
            notify.sent()[0].body,
            r#"{"name":"Kettle","product_id":7,"stock":4}"#
        );
        assert_eq!(low.rows()[0].since.to_string(), "2026-01-31T04:00:00Z");
        assert_eq!(low.rows()[0].stock, 1);
        Ok(())
    }

    #[test]
    fn a_product_that_goes_leaves_the_list() -> Outcome {
        let mut low = Table::in_memory();
        let mut notify = Notify::default();
        let now = Now::at(Timestamp::default());
        low_stock(Change::read(product(15, 1)), &mut low, &mut notify, now)?;
        assert_eq!(low.rows().len(), 1);
        low_stock(Change::delete(product(15, 1)), &mut low, &mut notify, now)?;
        assert!(low.rows().is_empty());
        Ok(())
    }
}
