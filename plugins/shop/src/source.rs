//! The tables that the shop's database sends, with the columns that the rules read.

use rulemill_sdk::prelude::*;

/// A user.
#[derive(Row)]
#[table(source = "users")]
pub struct User {
    /// The user's number.
    #[key]
    pub id: i64,
    /// Their name.
    pub name: String,
    /// Where they live.
    pub city: Option<String>,
}

/// A product.
#[derive(Row)]
#[table(source = "products")]
pub struct Product {
    /// The product's number.
    #[key]
    pub id: i64,
    /// Its name.
    pub name: String,
    /// What one costs today.
    pub price: Decimal,
    /// Pieces in stock.
    pub stock: i64,
    /// Below so many the product is low; null where nobody cares.
    pub reorder_below: Option<i64>,
}

/// An order.
#[derive(Row)]
#[table(source = "orders")]
pub struct Order {
    /// The order's number.
    #[key]
    pub id: i64,
    /// Who ordered.
    pub user_id: i64,
    /// What was ordered.
    pub product_id: i64,
    /// How many of it.
    pub quantity: i64,
    /// What it cost altogether.
    pub amount: Decimal,
    /// Where it stands: `placed`, `paid`, `shipped`.
    pub status: String,
}

/// Rows for the tests of the rules.
#[cfg(test)]
pub(crate) mod rows {
    use super::*;

    pub(crate) fn user(name: &str) -> User {
        User {
            id: 5,
            name: name.into(),
            city: Some("Bergen".into()),
        }
    }

    pub(crate) fn product(price: i64, stock: i64) -> Product {
        Product {
            id: 7,
            name: "Kettle".into(),
            price: price.into(),
            stock,
            reorder_below: Some(5),
        }
    }

    pub(crate) fn order(product_id: i64, quantity: i64, amount: i64) -> Order {
        Order {
            id: 1,
            user_id: 5,
            product_id,
            quantity,
            amount: amount.into(),
            status: "placed".into(),
        }
    }
}
