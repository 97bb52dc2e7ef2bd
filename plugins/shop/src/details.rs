//! Each order with the names of who bought what, as they are today.
//!
//! Three rules keep one table: an order looks its user and product up; a user or product that changes
//! later is carried into the orders that are there already, found through the table's own indexes.

use rulemill_sdk::prelude::*;

use crate::source::{Order, Product, User};

/// An order with its user and product. What is not known (yet, or any more) is null.
#[derive(Row, Debug, PartialEq)]
#[table(derived = "order_details")]
pub struct OrderDetail {
    /// The order's number.
    #[key]
    pub order_id: i64,
    /// Who ordered.
    #[index]
    pub user_id: i64,
    /// Their name today.
    pub user_name: Option<String>,
    /// Where they live today.
    pub city: Option<String>,
    /// What was ordered.
    #[index]
    pub product_id: i64,
    /// Its name today.
    pub product_name: Option<String>,
    /// What one costs today.
    pub price_today: Option<Decimal>,
    /// How many were ordered.
    pub quantity: i64,
    /// What the order cost.
    pub amount: Decimal,
    /// Where the order stands.
    pub status: String,
}

/// Enriches an order that comes, changes or goes.
#[rule]
pub fn order_details(
    change: Change<Order>,
    users: &Lookup<User>,
    products: &Lookup<Product>,
    details: &mut Table<OrderDetail>,
) -> Outcome {
    let Some(order) = change.after else {
        details.remove(change.key())?;
        return Ok(());
    };
    let user = users.get(order.user_id)?;
    let product = products.get(order.product_id)?;
    details.insert(OrderDetail {
        order_id: order.id,
        user_id: order.user_id,
        user_name: user.as_ref().map(|user| user.name.clone()),
        city: user.as_ref().and_then(|user| user.city.clone()),
        product_id: order.product_id,
        product_name: product.as_ref().map(|product| product.name.clone()),
        price_today: product.as_ref().map(|product| product.price),
        quantity: order.quantity,
        amount: order.amount,
        status: order.status,
    });
    Ok(())
}

/// Carries a user's new name and city into the orders that they have placed.
#[rule]
pub fn user_in_details(change: Change<User>, details: &mut Table<OrderDetail>) -> Outcome {
    let orders = order_ids(details.by(OrderDetail::BY_USER_ID, change.key()))?;
    for id in orders {
        if let Some(detail) = details.get_mut(id)? {
            detail.user_name = change.after.as_ref().map(|user| user.name.clone());
            detail.city = change.after.as_ref().and_then(|user| user.city.clone());
        }
    }
    Ok(())
}

/// Carries a product's new name and price into its orders.
#[rule]
pub fn product_in_details(change: Change<Product>, details: &mut Table<OrderDetail>) -> Outcome {
    // Most changes of a product are of its stock, which orders don't show.
    if let (Some(before), Some(after)) = (&change.before, &change.after)
        && (&before.name, before.price) == (&after.name, after.price)
    {
        return Ok(());
    }
    let orders = order_ids(details.by(OrderDetail::BY_PRODUCT_ID, change.key()))?;
    for id in orders {
        if let Some(detail) = details.get_mut(id)? {
            detail.product_name = change.after.as_ref().map(|product| product.name.clone());
            detail.price_today = change.after.as_ref().map(|product| product.price);
        }
    }
    Ok(())
}

/// The keys first: a table can't be changed while it is being walked over.
fn order_ids(details: Scan<'_, OrderDetail>) -> Result<Vec<i64>, RuleError> {
    details.map(|detail| Ok(detail?.order_id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::rows::{order, product, user};

    #[test]
    fn an_order_is_shown_with_its_user_and_product() -> Outcome {
        let users = Lookup::from_rows([user("Ada")]);
        let products = Lookup::from_rows([product(15, 9)]);
        let mut details = Table::in_memory();
        order_details(
            Change::insert(order(7, 2, 30)),
            &users,
            &products,
            &mut details,
        )?;
        let unknown = Order {
            id: 2,
            ..order(8, 2, 30)
        };
        order_details(Change::insert(unknown), &users, &products, &mut details)?;
        let rows = details.rows();
        assert_eq!(rows[0].user_name.as_deref(), Some("Ada"));
        assert_eq!(rows[0].city.as_deref(), Some("Bergen"));
        assert_eq!(rows[0].price_today, Some(15.into()));
        assert_eq!(rows[1].product_name, None);
        order_details(
            Change::delete(order(7, 2, 30)),
            &users,
            &products,
            &mut details,
        )?;
        assert_eq!(details.rows().len(), 1);
        Ok(())
    }

    #[test]
    fn a_renamed_user_is_renamed_in_the_orders_that_are_there() -> Outcome {
        let users = Lookup::from_rows([user("Ada")]);
        let products = Lookup::from_rows([]);
        let mut details = Table::in_memory();
        order_details(
            Change::insert(order(7, 2, 30)),
            &users,
            &products,
            &mut details,
        )?;
        user_in_details(Change::update(user("Ada"), user("Ada King")), &mut details)?;
        assert_eq!(details.rows()[0].user_name.as_deref(), Some("Ada King"));
        user_in_details(Change::delete(user("Ada King")), &mut details)?;
        assert_eq!(details.rows()[0].user_name, None);
        Ok(())
    }

    #[test]
    fn a_changed_price_shows_in_the_orders_that_are_there() -> Outcome {
        let users = Lookup::from_rows([]);
        let products = Lookup::from_rows([product(15, 9)]);
        let mut details = Table::in_memory();
        order_details(
            Change::insert(order(7, 2, 30)),
            &users,
            &products,
            &mut details,
        )?;
        product_in_details(Change::update(product(15, 9), product(12, 9)), &mut details)?;
        let detail = &details.rows()[0];
        assert_eq!(detail.price_today, Some(12.into()));
        assert_eq!(detail.amount, 30.into(), "what was paid stays");
        Ok(())
    }
}
