//! The macros of `rulemill-sdk`: `#[derive(Row)]`, `#[rule]` and `plugin!`.
//!
//! They write code against the SDK's hidden traits and check what they can see in the syntax, so
//! that a mistake is answered with what to write instead. What needs types is left to the traits'
//! own messages. Use them through `rulemill_sdk`, which documents them.

mod plugin;
mod row;
mod rule;

use proc_macro::TokenStream;
use syn::parse_macro_input;

/// Makes a struct stand for the rows of a table: its fields are the columns, by name and type.
///
/// ```ignore (needs rulemill-sdk)
/// #[derive(Row, Default)]
/// #[table(derived = "user_days", index(orders, day))]
/// struct UserDay {
///     #[key]
///     user_id: i64,
///     #[key]
///     day: Date,
///     #[index]
///     orders: i64,
///     note: Option<String>,
/// }
/// ```
///
/// On the struct:
///
/// | attribute | says |
/// | --- | --- |
/// | `#[table(source = "..")]` | the plugin reads the table; the struct names only the columns that it needs |
/// | `#[table(derived = "..")]` | the plugin owns the table; the fields are its columns; needs `Default` where `entry` is used |
/// | `#[table(.., index(a, b))]` | an index of an own table over several columns: the constant `BY_A_B` |
///
/// On a field:
///
/// | attribute | says |
/// | --- | --- |
/// | `#[key]` | it is the key, or part of it: one to six fields, never an `Option`, `f64` or `Json` |
/// | `#[index]` | an index of an own table over this column: the constant `BY_` and its name |
/// | `#[column(name = "..")]` | the column's name, where it isn't the field's |
/// | `#[whole_row]` | the whole row as a JSON object, with the columns that nobody names; the field is a `Json`, the table one that is read |
///
/// A column's type is one of `bool`, `i64`, `f64`, `Decimal`, `String`, `Vec<u8>`, `Date`, `Timestamp`, `Uuid` and `Json`, or an
/// `Option` of one if it may be null. The trait of the same name has an example that runs, the [crate's page](index.html) a whole plugin.
#[proc_macro_derive(Row, attributes(table, key, index, column, whole_row))]
pub fn derive_row(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as syn::DeriveInput);
    row::derive(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a function a rule. The function stays as it is, so a test can call it; its signature says what the rule needs.
///
/// ```ignore (needs rulemill-sdk)
/// #[rule]
/// fn product_totals(change: Change<Order>, totals: &mut Table<ProductTotal>) -> Outcome {
///     for Delta { row, sign } in change.deltas() {
///         totals.entry(row.product_id)?.revenue += row.amount * sign;
///     }
///     Ok(())
/// }
/// ```
///
/// The first argument says what the rule is called for: `Change<T>`, once for each change of the table of `T`, or `Timer`. Behind it
/// it takes any of these, each once, in any order:
///
/// | argument | gives |
/// | --- | --- |
/// | `&mut Table<T>` | a table that the plugin owns |
/// | `&Lookup<T>` | a table of others |
/// | `&mut Notify` | notifications |
/// | `&mut Timers` | timers |
/// | `&Config<T>` | the plugin's configuration |
/// | `Now` | the change's commit time |
///
/// It returns `Outcome`. With an error (`?`, `reject!(..)`, `Err("..".into())`) all that it wrote for this change is undone, and the host
/// does what the plugin's `on_error` says. The rule's name is the function's; `plugin!` puts it into the plugin. The
/// [crate's page](index.html) has an example that runs.
#[proc_macro_attribute]
pub fn rule(attribute: TokenStream, item: TokenStream) -> TokenStream {
    rule::expand(attribute.into(), item.into()).into()
}

/// Names the rules of the plugin that this crate is, once, where the crate begins (`lib.rs`).
///
/// ```ignore (needs rulemill-sdk)
/// rulemill_sdk::plugin!(product_totals, reports::by_month);
/// ```
///
/// Each is the path of a function with `#[rule]`; one to 64, no name twice. It makes what the WebAssembly module exports, and a function
/// `plugin()`, from which `rulemill_sdk::testing::Harness` runs the whole plugin in a test. The [crate's page](index.html) has
/// an example that runs. A plugin whose rules come from its configuration uses `rulemill_sdk::dynamic_plugin!` instead.
#[proc_macro]
pub fn plugin(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as plugin::Rules);
    plugin::expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
