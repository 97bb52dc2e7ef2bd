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

/// See `rulemill_sdk::Row`.
#[proc_macro_derive(Row, attributes(table, key, index, column, whole_row))]
pub fn derive_row(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as syn::DeriveInput);
    row::derive(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// See `rulemill_sdk::rule`.
#[proc_macro_attribute]
pub fn rule(attribute: TokenStream, item: TokenStream) -> TokenStream {
    rule::expand(attribute.into(), item.into()).into()
}

/// See `rulemill_sdk::plugin`.
#[proc_macro]
pub fn plugin(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as plugin::Rules);
    plugin::expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
