//! Keeps one running total per product.

use rulemill_sdk::prelude::*;

/// The columns of the source table `orders` that the rule reads.
#[derive(Row)]
#[table(source = "orders")]
struct Order {
    #[key]
    id: i64,
    product_id: i64,
    amount: Decimal,
}

/// A row of the table that this plugin owns.
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
    // The old row with -1 and the new row with +1, so an order that moves leaves its old product.
    for Delta { row, sign } in change.deltas() {
        let total = totals.entry(row.product_id)?;
        total.orders += sign;
        total.revenue += row.amount * sign;
    }
    Ok(())
}

rulemill_sdk::plugin!(product_totals); // the plugin's rules, by name

#[cfg(test)]
mod tests;
