//! Loyalty points: one for each whole euro, and twice as many above fifty.

use rulemill_sdk::prelude::*;

/// An order, as far as points go.
#[derive(Row)]
#[table(source = "orders")]
pub struct Order {
    /// The order's number.
    #[key]
    pub id: i64,
    /// Who ordered.
    pub customer: String,
    /// What it cost.
    pub amount: Decimal,
}

/// What a customer has collected.
#[derive(Row, Default, Debug, PartialEq)]
#[table(derived = "points")]
pub struct Points {
    /// The customer.
    #[key]
    pub customer: String,
    /// Points.
    pub points: i64,
}

/// Gives points for each order as it is placed.
#[rule]
pub fn points(change: Change<Order>, points: &mut Table<Points>) -> Outcome {
    // Points that were given stay, whatever becomes of the order.
    if let (None, Some(order)) = (&change.before, &change.after) {
        points.entry(order.customer.clone())?.points += worth(order.amount)?;
    }
    Ok(())
}

/// One point for each whole euro, and another for each above fifty.
fn worth(amount: Decimal) -> Result<i64, RuleError> {
    let euros: i64 = amount.trunc().try_into()?;
    Ok(euros + (euros - 50).max(0))
}

rulemill_sdk::plugin!(points);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_worth_points() -> Outcome {
        let mut table = Table::in_memory();
        let order = Order {
            id: 1,
            customer: "Ada".into(),
            amount: Decimal::new(6075, 2),
        };
        points(Change::insert(order), &mut table)?;
        assert_eq!(table.rows()[0].points, 70);
        Ok(())
    }
}
