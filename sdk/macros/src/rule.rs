//! `#[rule]`: leaves the function as it is and writes, beside it, how the host reaches it.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::{
    Error, FnArg, GenericArgument, ItemFn, PathArguments, Result, ReturnType, Type,
    spanned::Spanned,
};

const WHAT_A_RULE_TAKES: &str = "after the first argument a rule takes any of `&mut Table<T>`, \
    `&Lookup<T>`, `&mut Notify`, `&mut Timers`, `&Config<T>` and `Now`";

pub(crate) fn expand(attribute: TokenStream, item: TokenStream) -> TokenStream {
    // The function stays even where the rule is wrong, so that its other uses aren't errors too.
    match check(&attribute, item.clone()) {
        Ok(rule) => quote!(#item #rule),
        Err(error) => {
            let error = error.into_compile_error();
            quote!(#item #error)
        }
    }
}

fn check(attribute: &TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !attribute.is_empty() {
        return Err(Error::new_spanned(
            attribute,
            "`#[rule]` takes nothing: the function's signature says what the rule needs",
        ));
    }
    let function: ItemFn = syn::parse2(item.clone()).map_err(|_| {
        Error::new_spanned(
            &item,
            "`#[rule]` goes on a function: `#[rule] fn name(change: Change<Row>, ..) -> Outcome { .. }`",
        )
    })?;
    check_kind(&function)?;
    check_output(&function)?;

    let mut types = Vec::new();
    for argument in &function.sig.inputs {
        match argument {
            FnArg::Receiver(receiver) => {
                return Err(Error::new_spanned(
                    receiver,
                    "a rule is a function, not a method: write it outside the `impl` block and take \
                     the configuration as `&Config<T>` and state as `&mut Table<T>`",
                ));
            }
            FnArg::Typed(argument) => types.push(&*argument.ty),
        }
    }
    let Some((input, arguments)) = types.split_first() else {
        return Err(Error::new_spanned(
            &function.sig.ident,
            "a rule's first argument says what it is called for: write `change: Change<Row>`, or \
             `timer: Timer` for a rule that is called by timers",
        ));
    };
    check_input(input)?;
    for (place, argument) in arguments.iter().enumerate() {
        check_argument(argument)?;
        let text = argument.to_token_stream().to_string();
        if arguments[..place]
            .iter()
            .any(|other| other.to_token_stream().to_string() == text)
        {
            return Err(Error::new_spanned(
                argument,
                "the rule takes this argument twice; take it once",
            ));
        }
    }
    Ok(write(&function, input, arguments))
}

fn check_kind(function: &ItemFn) -> Result<()> {
    let signature = &function.sig;
    if let Some(asyncness) = &signature.asyncness {
        return Err(Error::new_spanned(
            asyncness,
            "a rule can't be async: it only computes, and reads of tables answer at once; remove `async`",
        ));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &signature.generics,
            "a rule can't be generic: name the row types; put what rules share into a function of \
             its own and call it from each",
        ));
    }
    if let Some(abi) = &signature.abi {
        return Err(Error::new_spanned(
            abi,
            "a rule is an ordinary function; remove `extern`",
        ));
    }
    Ok(())
}

fn check_output(function: &ItemFn) -> Result<()> {
    let message = "a rule returns `Outcome`: write `-> Outcome`, end the function with `Ok(())`, and \
        return an error with `?`, `reject!(..)` or `Err(\"..\".into())`";
    match &function.sig.output {
        ReturnType::Default => Err(Error::new_spanned(&function.sig.ident, message)),
        ReturnType::Type(_, ty) => match name(ty).as_deref() {
            Some("Outcome") => Ok(()),
            Some("Result") if ty.to_token_stream().to_string().contains("RuleError") => Ok(()),
            _ => Err(Error::new_spanned(ty, message)),
        },
    }
}

/// The last word of a path, such as `Table` of `rulemill_sdk::Table<T>`.
fn name(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => Some(path.path.segments.last()?.ident.to_string()),
        Type::Paren(inner) => name(&inner.elem),
        Type::Group(inner) => name(&inner.elem),
        _ => None,
    }
}

/// The type's generic argument as text, to be put into a message; `T` where there is none.
fn parameter(ty: &Type) -> String {
    if let Type::Path(path) = ty
        && let Some(last) = path.path.segments.last()
        && let PathArguments::AngleBracketed(arguments) = &last.arguments
        && let Some(GenericArgument::Type(parameter)) = arguments.args.first()
    {
        return parameter.to_token_stream().to_string();
    }
    "T".to_owned()
}

fn check_input(ty: &Type) -> Result<()> {
    let message = match ty {
        Type::Reference(reference) => match name(&reference.elem).as_deref() {
            Some("Change") => format!(
                "the change is the rule's own: write `Change<{}>` without `&`",
                parameter(&reference.elem)
            ),
            Some("Timer") => "the timer is the rule's own: write `Timer` without `&`".to_owned(),
            _ => "a rule's first argument says what it is called for: write `change: Change<Row>` \
                  (or `timer: Timer`) before this one"
                .to_owned(),
        },
        ty => match name(ty).as_deref() {
            Some("Change") if parameter(ty) == "T" && !has_parameter(ty) => {
                "say whose changes: write `Change<Row>` with your row type".to_owned()
            }
            Some("Change" | "Timer") => return Ok(()),
            _ => "a rule's first argument says what it is called for: write `Change<Row>`, where Row \
                  derives `Row`, or `Timer`"
                .to_owned(),
        },
    };
    Err(Error::new_spanned(ty, message))
}

fn has_parameter(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| !last.arguments.is_empty()))
}

fn check_argument(ty: &Type) -> Result<()> {
    let (inner, reference) = match ty {
        Type::Reference(reference) => {
            if let Some(lifetime) = &reference.lifetime {
                return Err(Error::new_spanned(
                    lifetime,
                    "a rule's arguments need no lifetime; remove it",
                ));
            }
            let form = if reference.mutability.is_some() {
                "&mut "
            } else {
                "&"
            };
            (&*reference.elem, form)
        }
        ty => (ty, ""),
    };
    let Some(name) = name(inner) else {
        return Err(Error::new_spanned(ty, WHAT_A_RULE_TAKES));
    };
    let right = match name.as_str() {
        "Table" => "&mut ",
        "Lookup" | "Config" => "&",
        "Notify" | "Timers" => "&mut ",
        "Now" => "",
        "Change" | "Timer" => {
            return Err(Error::new_spanned(
                ty,
                "a rule is called for one thing, its first argument; write a second rule for this one, \
                 or look the table up with `&Lookup<T>`",
            ));
        }
        // An alias, or nothing a rule can take: the trait tells.
        _ => return Ok(()),
    };
    let generic = matches!(name.as_str(), "Table" | "Lookup" | "Config");
    let full = if generic {
        format!("{right}{name}<{}>", parameter(inner))
    } else {
        format!("{right}{name}")
    };
    if generic && !has_parameter(inner) {
        let what = if name == "Config" { "type" } else { "row type" };
        return Err(Error::new_spanned(
            ty,
            format!("say of which {what}: write `{full}` with your {what}"),
        ));
    }
    if reference == right {
        return Ok(());
    }
    let why = match name.as_str() {
        "Table" => "a rule writes its table",
        "Lookup" => "a lookup is only read",
        "Config" => "the configuration is only read",
        "Now" => "the time is a plain value",
        _ => "a rule changes it",
    };
    Err(Error::new_spanned(ty, format!("{why}: write `{full}`")))
}

fn write(function: &ItemFn, input: &Type, arguments: &[&Type]) -> TokenStream {
    let ident = &function.sig.ident;
    let visibility = &function.vis;
    let name = ident.to_string();
    let name = name.strip_prefix("r#").unwrap_or(&name);
    let declares = arguments.iter().map(
        |ty| quote_spanned!(ty.span()=> <#ty as ::rulemill_sdk::__private::Argument<'_>>::declare),
    );
    let slots: Vec<_> = (0..arguments.len())
        .map(|place| quote::format_ident!("__argument_{place}"))
        .collect();
    let takes = slots.iter().zip(arguments).map(|(slot, ty)| {
        quote_spanned!(ty.span()=> ::rulemill_sdk::__private::Argument::take(&mut **#slot, __call))
    });
    // Spans of the author's code, so that the compiler's own messages point there.
    let bind =
        quote_spanned!(input.span()=> ::rulemill_sdk::__private::Bound::<_, #input, _>::bind);
    let call = quote!(#ident(__input, #(#takes),*));
    quote! {
        #[doc(hidden)]
        #[allow(non_camel_case_types, unreachable_pub)]
        #visibility struct #ident {}

        impl ::rulemill_sdk::__private::Rule for #ident {
            fn bind(
                __plan: &mut ::rulemill_sdk::__private::Plan,
            ) -> ::core::result::Result<
                ::std::boxed::Box<dyn ::rulemill_sdk::__private::RuleCall>,
                ::std::string::String,
            > {
                #bind(
                    __plan,
                    #name,
                    [#(#declares),*],
                    |__input: #input, [#(#slots),*], __call| -> ::rulemill_sdk::Outcome {
                        #call
                    },
                )
            }
        }
    }
}
