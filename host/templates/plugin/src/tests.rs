//! The rule is an ordinary function: tests call it with tables in memory.

use super::*;

fn order(id: i64, product_id: i64, amount: i64) -> Order {
    Order {
        id,
        product_id,
        amount: amount.into(),
    }
}

fn rows(totals: &Table<ProductTotal>) -> Vec<(i64, i64, Decimal)> {
    totals
        .rows()
        .iter()
        .map(|total| (total.product_id, total.orders, total.revenue))
        .collect()
}

#[test]
fn totals_follow_an_order_from_product_to_product() -> Outcome {
    let mut totals = Table::in_memory();

    product_totals(Change::insert(order(1, 7, 20)), &mut totals)?;
    product_totals(Change::insert(order(2, 7, 5)), &mut totals)?;
    assert_eq!(rows(&totals), [(7, 2, 25.into())]);

    product_totals(Change::update(order(2, 7, 5), order(2, 8, 6)), &mut totals)?;
    assert_eq!(rows(&totals), [(7, 1, 20.into()), (8, 1, 6.into())]);

    product_totals(Change::delete(order(2, 8, 6)), &mut totals)?;
    assert_eq!(rows(&totals), [(7, 1, 20.into()), (8, 0, 0.into())]);
    Ok(())
}
