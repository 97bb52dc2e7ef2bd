//! Keeps one running total per product.
use rulemill_sdk::prelude::*;

#[derive(Row)]
#[table(source = "orders")]
struct Order {
    #[key]
    id: i64,
    product_id: i64,
    amount: Decimal,
}

#[derive(Row, Default)]
#[table(derived = "product_totals")]
struct ProductTotal {
    #[key]
    product_id: i64,
    orders: i64,
    revenue: Decimal,
}

#[rule]
fn product_totals(change: Change<Order>, totals: &mut Table<ProductTotal>) -> Outcome {
    for Delta { row, sign } in change.deltas() {
        // the old row with -1, the new row with +1
        let total = totals.entry(row.product_id)?;
        total.orders += sign;
        total.revenue += row.amount * sign;
    }
    Ok(())
}

rulemill_sdk::plugin!(product_totals); // the plugin's rules, by name

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_follow_orders() {
        let order = |id, product_id, amount: i64| Order {
            id,
            product_id,
            amount: amount.into(),
        };
        let mut totals = Table::in_memory();
        product_totals(Change::insert(order(1, 7, 10)), &mut totals).unwrap();
        product_totals(
            Change::update(order(1, 7, 10), order(1, 8, 12)),
            &mut totals,
        )
        .unwrap();
        product_totals(Change::insert(order(2, 8, 5)), &mut totals).unwrap();
        let rows: Vec<_> = totals
            .rows()
            .iter()
            .map(|row| (row.product_id, row.orders, row.revenue))
            .collect();
        assert_eq!(rows, [(7, 0, 0.into()), (8, 2, 17.into())]);
    }
}
