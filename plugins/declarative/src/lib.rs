//! Rules given as data: on which event, which action, with which values, into which table.
//!
//! Events come in one table, all in the same shape, for users, products and orders alike:
//! `{"id": 1, "event": "user_info_updated", "action": "update", "value": {"id": 7, "name": "Ada"}}`.
//! The configuration has rules of that shape, and the tables that they write:
//!
//! ```toml
//! [plugin.declarative.config]
//! source = "events"                                # this is the default
//!
//! [[plugin.declarative.config.table]]
//! name = "user_cards"
//! columns = [
//!     { name = "id", type = "i64" },
//!     { name = "name", type = "text" },
//!     { name = "city", type = "text", null = true },
//! ]
//! key = ["id"]
//!
//! [[plugin.declarative.config.rule]]
//! event = "user_info_updated"
//! action = "update"                                # left out: the event's own action
//! into = "user_cards"
//! value = { id = "$.id", name = "$.name", city = "$.address.city" }
//! ```
//!
//! See [`template`] for what a value can be and [`apply`] for what an action does.

pub mod apply;
pub mod config;
pub mod template;

pub use config::{Settings, build};

rulemill_sdk::dynamic_plugin!(build);
