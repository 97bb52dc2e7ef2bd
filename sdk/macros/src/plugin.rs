//! `plugin!(rule, rule)`: names the plugin's rules and makes the module's exports.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Error, Path, Result, Token,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
};

/// Rules in one plugin at the most: each has a bit in a batch item's mask.
const RULES_MAX: usize = 64;

pub(crate) struct Rules {
    paths: Punctuated<Path, Token![,]>,
}

impl Parse for Rules {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.is_empty() {
            return Err(input.error("name the plugin's rules: `plugin!(first_rule, second_rule)`"));
        }
        Ok(Self {
            paths: Punctuated::parse_terminated_with(input, Path::parse_mod_style)?,
        })
    }
}

pub(crate) fn expand(rules: &Rules) -> Result<TokenStream> {
    let mut names: Vec<String> = Vec::new();
    for path in &rules.paths {
        let Some(last) = path.segments.last() else {
            continue;
        };
        let name = last.ident.to_string();
        if names.contains(&name) {
            return Err(Error::new_spanned(
                path,
                format!("two rules are named `{name}`; rename one of the functions"),
            ));
        }
        names.push(name);
    }
    if names.len() > RULES_MAX {
        return Err(Error::new_spanned(
            &rules.paths,
            format!(
                "{} rules are too many for one plugin: at most {RULES_MAX}; make two plugins of it",
                names.len()
            ),
        ));
    }
    let paths = rules.paths.iter();
    Ok(quote! {
        /// The plugin, to be run natively.
        pub fn plugin() -> ::rulemill_sdk::runtime::PluginRuntime {
            ::rulemill_sdk::runtime::PluginRuntime::of_rules(
                ::core::env!("CARGO_PKG_NAME"),
                ::core::env!("CARGO_PKG_VERSION"),
                &[#(<#paths as ::rulemill_sdk::__private::Rule>::bind),*],
            )
        }

        ::rulemill_sdk::__export!(plugin);
    })
}
