//! Keeps one running count and sum per product: the rule that the benchmark measures.

use rulemill_sdk::prelude::*;

/// An order, as far as the totals need it.
#[derive(Row)]
#[table(source = "orders")]
pub struct Order {
    /// The order's number.
    #[key]
    pub id: i64,
    /// What was ordered.
    pub product_id: i64,
    /// What it cost.
    pub amount: Decimal,
}

/// What has been sold of a product.
#[derive(Row, Default, Debug, PartialEq)]
#[table(derived = "order_totals")]
pub struct OrderTotal {
    /// The product.
    #[key]
    pub product_id: i64,
    /// Orders for it.
    pub orders: i64,
    /// What they cost together.
    pub amount: Decimal,
}

/// Takes the old order off its product's total and adds the new one to its product's. An order must be for a product.
#[rule]
pub fn order_totals(change: Change<Order>, totals: &mut Table<OrderTotal>) -> Outcome {
    for Delta { row, sign } in change.deltas() {
        if row.product_id <= 0 {
            return Err(format!("order {} is for no product", row.id).into());
        }
        let total = totals.entry(row.product_id)?;
        total.orders += sign;
        total.amount += row.amount * sign;
    }
    Ok(())
}

rulemill_sdk::plugin!(order_totals);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_moves_leaves_one_total_and_joins_another() -> Outcome {
        let order = |product_id, amount: i64| Order {
            id: 1,
            product_id,
            amount: amount.into(),
        };
        let mut totals = Table::in_memory();
        order_totals(Change::insert(order(7, 20)), &mut totals)?;
        order_totals(Change::update(order(7, 20), order(8, 25)), &mut totals)?;
        assert_eq!(
            totals.rows(),
            [(7, 0, 0), (8, 1, 25)].map(|(product_id, orders, amount)| OrderTotal {
                product_id,
                orders,
                amount: Decimal::from(amount),
            })
        );
        order_totals(Change::delete(order(8, 25)), &mut totals)?;
        assert_eq!(totals.rows()[1].orders, 0);
        Ok(())
    }
}
