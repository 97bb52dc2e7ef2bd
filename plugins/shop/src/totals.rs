//! Running totals for each product and each user.
//!
//! Each change takes the old order off and puts the new one on, so an order that moves to another
//! product is nothing special.

use rulemill_sdk::prelude::*;

use crate::source::Order;

/// What has been sold of a product. A product that was ever ordered keeps its row.
#[derive(Row, Default, Debug, PartialEq)]
#[table(derived = "product_totals")]
pub struct ProductTotal {
    /// The product.
    #[key]
    pub product_id: i64,
    /// Orders for it.
    pub orders: i64,
    /// Pieces in them.
    pub units: i64,
    /// What they cost together.
    pub revenue: Decimal,
}

/// What a user has bought. A user without orders has no row.
#[derive(Row, Default, Debug, PartialEq)]
#[table(derived = "user_totals")]
pub struct UserTotal {
    /// The user.
    #[key]
    pub user_id: i64,
    /// Their orders.
    pub orders: i64,
    /// What they cost together.
    pub spent: Decimal,
}

/// Keeps one running total per product.
#[rule]
pub fn product_totals(change: Change<Order>, totals: &mut Table<ProductTotal>) -> Outcome {
    for Delta { row, sign } in change.deltas() {
        let total = totals.entry(row.product_id)?;
        total.orders += sign;
        total.units += row.quantity * sign;
        total.revenue += row.amount * sign;
    }
    Ok(())
}

/// Keeps one running total per user, and none for a user without orders.
#[rule]
pub fn user_totals(change: Change<Order>, totals: &mut Table<UserTotal>) -> Outcome {
    for Delta { row, sign } in change.deltas() {
        let total = totals.entry(row.user_id)?;
        total.orders += sign;
        total.spent += row.amount * sign;
        if total.orders == 0 {
            totals.remove(row.user_id)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::rows::order;

    fn product_total(product_id: i64, orders: i64, units: i64, revenue: i64) -> ProductTotal {
        ProductTotal {
            product_id,
            orders,
            units,
            revenue: revenue.into(),
        }
    }

    #[test]
    fn an_order_that_moves_is_counted_where_it_is() -> Outcome {
        let mut totals = Table::in_memory();
        product_totals(Change::insert(order(7, 2, 20)), &mut totals)?;
        product_totals(
            Change::update(order(7, 2, 20), order(8, 3, 45)),
            &mut totals,
        )?;
        let expected = [product_total(7, 0, 0, 0), product_total(8, 1, 3, 45)];
        assert_eq!(totals.rows(), expected);
        Ok(())
    }

    #[test]
    fn a_user_without_orders_has_no_row() -> Outcome {
        let mut totals = Table::in_memory();
        user_totals(Change::insert(order(7, 2, 20)), &mut totals)?;
        user_totals(
            Change::update(order(7, 2, 20), order(7, 3, 30)),
            &mut totals,
        )?;
        let spent = UserTotal {
            user_id: 5,
            orders: 1,
            spent: 30.into(),
        };
        assert_eq!(totals.rows(), [spent]);
        user_totals(Change::delete(order(7, 3, 30)), &mut totals)?;
        assert!(totals.rows().is_empty());
        Ok(())
    }
}
