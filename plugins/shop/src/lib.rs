//! A shop's derived tables: orders with the names of who bought what, totals for each product and
//! user, and a warning when a product runs low.
//!
//! | table | holds |
//! | --- | --- |
//! | `order_details` | each order with its user's name and its product's name and price today |
//! | `product_totals` | orders, units and revenue of each product |
//! | `user_totals` | orders and spending of each user who has any |
//! | `low_stock` | the products that are low now, and since when |

mod details;
mod source;
mod stock;
mod totals;

pub use details::{OrderDetail, order_details, product_in_details, user_in_details};
pub use source::{Order, Product, User};
pub use stock::{LowStock, low_stock};
pub use totals::{ProductTotal, UserTotal, product_totals, user_totals};

rulemill_sdk::plugin!(
    order_details,
    user_in_details,
    product_in_details,
    product_totals,
    user_totals,
    low_stock,
);
