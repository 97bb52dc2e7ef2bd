//! `#[derive(Row)]`: a struct's fields as a table's columns.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Attribute, Data, DeriveInput, Error, Field, Fields, LitStr, Result, Token, Type, parenthesized,
    punctuated::Punctuated, spanned::Spanned,
};

/// The column name that stands for the whole row.
const WHOLE_ROW: &str = "*";
/// Columns in a key at the most: keys are tuples.
const KEY_COLUMNS_MAX: usize = 6;

/// What `#[table(..)]` says.
struct TableAttribute {
    name: LitStr,
    derived: bool,
    indexes: Vec<Vec<Ident>>,
}

struct Column<'a> {
    ident: &'a Ident,
    ty: &'a Type,
    name: String,
    key: bool,
    index: bool,
}

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "a row type can't be generic: it stands for one table; write a struct for each table",
        ));
    }
    let fields = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => &fields.named,
            _ => {
                return Err(Error::new_spanned(
                    &input.ident,
                    "a row's columns have names: write `struct Name { #[key] id: i64, .. }`",
                ));
            }
        },
        _ => {
            return Err(Error::new_spanned(
                &input.ident,
                "a row type is a struct with a field for each column",
            ));
        }
    };
    let table = table_attribute(input)?;
    let columns = fields
        .iter()
        .map(|field| column(field, &table))
        .collect::<Result<Vec<_>>>()?;
    check_columns(input, &columns)?;
    write(input, &table, &columns)
}

fn table_attribute(input: &DeriveInput) -> Result<TableAttribute> {
    let how = "say which table the rows are of: `#[table(source = \"orders\")]` for a table that the \
        plugin reads, `#[table(derived = \"totals\")]` for one that it owns";
    let mut name: Option<(LitStr, bool)> = None;
    let mut indexes = Vec::new();
    for attribute in &input.attrs {
        if !attribute.path().is_ident("table") {
            continue;
        }
        attribute.parse_nested_meta(|meta| {
            let derived = meta.path.is_ident("derived");
            if derived || meta.path.is_ident("source") {
                let value: LitStr = meta.value()?.parse()?;
                if name.is_some() {
                    return Err(meta.error("a row type is of one table: name it once"));
                }
                if value.value().is_empty() {
                    return Err(Error::new(value.span(), "the table's name is empty"));
                }
                name = Some((value, derived));
                Ok(())
            } else if meta.path.is_ident("index") {
                let content;
                parenthesized!(content in meta.input);
                let columns = Punctuated::<Ident, Token![,]>::parse_terminated(&content)?;
                if columns.len() < 2 {
                    return Err(meta.error(
                        "an index over one column is `#[index]` on its field; this one names several: \
                         `index(a, b)`",
                    ));
                }
                indexes.push(columns.into_iter().collect());
                Ok(())
            } else {
                Err(meta.error(
                    "unknown option; `#[table(..)]` takes `source = \"..\"` or `derived = \"..\"`, and \
                     `index(a, b)`",
                ))
            }
        })?;
    }
    match name {
        Some((name, derived)) => Ok(TableAttribute {
            name,
            derived,
            indexes,
        }),
        None => Err(Error::new_spanned(&input.ident, how)),
    }
}

fn column<'a>(field: &'a Field, table: &TableAttribute) -> Result<Column<'a>> {
    let Some(ident) = &field.ident else {
        return Err(Error::new_spanned(field, "a row's columns have names"));
    };
    let text = ident.to_string();
    let mut column = Column {
        ident,
        ty: &field.ty,
        name: text.strip_prefix("r#").unwrap_or(&text).to_owned(),
        key: false,
        index: false,
    };
    for attribute in &field.attrs {
        let path = attribute.path();
        if path.is_ident("key") {
            bare(attribute)?;
            column.key = true;
        } else if path.is_ident("index") {
            bare(attribute)?;
            column.index = true;
        } else if path.is_ident("whole_row") {
            bare(attribute)?;
            if table.derived {
                return Err(Error::new_spanned(
                    attribute,
                    "`#[whole_row]` is for tables that the plugin reads; the columns of its own table \
                     are the fields of this struct",
                ));
            }
            column.name = WHOLE_ROW.to_owned();
        } else if path.is_ident("column") {
            attribute.parse_nested_meta(|meta| {
                if !meta.path.is_ident("name") {
                    return Err(meta.error("unknown option; write `#[column(name = \"..\")]`"));
                }
                let name: LitStr = meta.value()?.parse()?;
                if matches!(name.value().as_str(), "" | WHOLE_ROW) {
                    return Err(Error::new(
                        name.span(),
                        "not a column's name; for the whole row as JSON write `#[whole_row]`",
                    ));
                }
                column.name = name.value();
                Ok(())
            })?;
        } else if path.is_ident("table") {
            return Err(Error::new_spanned(
                attribute,
                "`#[table(..)]` goes on the struct",
            ));
        }
    }
    if column.name == WHOLE_ROW && (column.key || column.index) {
        return Err(Error::new_spanned(
            ident,
            "the whole row can't be a key or an index",
        ));
    }
    Ok(column)
}

/// An attribute that takes nothing.
fn bare(attribute: &Attribute) -> Result<()> {
    attribute.meta.require_path_only().map(|_| ()).map_err(|_| {
        Error::new_spanned(
            attribute,
            "this attribute takes nothing; a composite key is `#[key]` on several fields, a composite \
             index `#[table(.., index(a, b))]` on the struct",
        )
    })
}

fn check_columns(input: &DeriveInput, columns: &[Column<'_>]) -> Result<()> {
    let keys = columns.iter().filter(|column| column.key).count();
    if keys == 0 {
        return Err(Error::new_spanned(
            &input.ident,
            "which column is the key? put `#[key]` on its field, or on each field of a composite key",
        ));
    }
    if keys > KEY_COLUMNS_MAX {
        return Err(Error::new_spanned(
            &input.ident,
            format!("a key has at most {KEY_COLUMNS_MAX} columns"),
        ));
    }
    for (place, column) in columns.iter().enumerate() {
        if columns[..place]
            .iter()
            .any(|other| other.name == column.name)
        {
            return Err(Error::new_spanned(
                column.ident,
                format!("two fields stand for the column `{}`", column.name),
            ));
        }
        check_type(column)?;
    }
    Ok(())
}

/// Types that are likely to be tried and are no column's, and what to write instead.
fn check_type(column: &Column<'_>) -> Result<()> {
    let (option, ty) = match option_of(column.ty) {
        Some(inner) => (true, inner),
        None => (false, column.ty),
    };
    let Type::Path(path) = ty else {
        return match ty {
            Type::Reference(_) => Err(Error::new_spanned(
                column.ty,
                "a row owns its columns: write `String` for text and `Vec<u8>` for bytes",
            )),
            _ => Ok(()),
        };
    };
    let Some(name) = path.path.segments.last().map(|last| last.ident.to_string()) else {
        return Ok(());
    };
    if column.name == WHOLE_ROW && (option || name != "Json") {
        return Err(Error::new_spanned(
            column.ty,
            "the whole row is a JSON object: write `#[whole_row] row: Json`",
        ));
    }
    let wrong = |message: &str| Err(Error::new_spanned(column.ty, message));
    match name.as_str() {
        "i8" | "i16" | "i32" | "u8" | "u16" | "u32" | "isize" => {
            return wrong("integers are `i64` in every table: write `i64`");
        }
        "u64" | "usize" | "i128" | "u128" => {
            return wrong(
                "integers are `i64` in every table: write `i64`, or `Decimal` for larger numbers",
            );
        }
        "f32" => return wrong("write `f64`, or `Decimal` for amounts of money"),
        "str" | "char" => return wrong("text is `String`"),
        "Option" => {
            return wrong("an Option of an Option has no meaning in a table: write one `Option`");
        }
        "Value" => return wrong("a JSON document is `Json`"),
        _ => {}
    }
    if column.key {
        if option {
            return wrong(
                "a key column can't be null: take the `Option` away; rows without it need a value that \
                 says so, such as 0 or an empty text",
            );
        }
        match name.as_str() {
            "f64" => {
                return wrong(
                    "a floating-point number can't be a key, as equal ones may differ in their bytes: \
                     write `Decimal` or `i64`",
                );
            }
            "Json" => {
                return wrong(
                    "a JSON document can't be a key, as equal ones may be written differently: write \
                     `String` or a column for each part",
                );
            }
            _ => {}
        }
    }
    Ok(())
}

fn option_of(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else {
        return None;
    };
    let last = path.path.segments.last()?;
    if last.ident != "Option" {
        return None;
    }
    match &last.arguments {
        syn::PathArguments::AngleBracketed(arguments) => match arguments.args.first()? {
            syn::GenericArgument::Type(ty) => Some(ty),
            _ => None,
        },
        _ => None,
    }
}

/// An index: the columns' places, and the name of its constant.
struct Index {
    places: Vec<u16>,
    constant: Ident,
}

fn indexes(table: &TableAttribute, columns: &[Column<'_>]) -> Result<Vec<Index>> {
    let single = columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.index)
        .map(|(place, _)| Ok(vec![place as u16]));
    let composite = table.indexes.iter().map(|names| {
        names
            .iter()
            .map(|name| {
                let place = columns.iter().position(|column| column.ident == name);
                place.map(|place| place as u16).ok_or_else(|| {
                    Error::new_spanned(name, format!("this struct has no field `{name}` to index"))
                })
            })
            .collect()
    });
    single
        .chain(composite)
        .map(|places| {
            let places: Vec<u16> = places?;
            let names: Vec<String> = places
                .iter()
                .map(|&place| {
                    let name = columns[usize::from(place)].ident.to_string();
                    name.strip_prefix("r#").unwrap_or(&name).to_uppercase()
                })
                .collect();
            let constant = format_ident!("BY_{}", names.join("_"), span = Span::call_site());
            Ok(Index { places, constant })
        })
        .collect()
}

fn write(
    input: &DeriveInput,
    table: &TableAttribute,
    columns: &[Column<'_>],
) -> Result<TokenStream> {
    let ident = &input.ident;
    let visibility = &input.vis;
    let p = quote!(::rulemill_sdk::__private);
    let (name, access, marker) = if table.derived {
        (&table.name, quote!(Own), quote!(DerivedRow))
    } else {
        (&table.name, quote!(Read), quote!(SourceRow))
    };

    let specs = columns.iter().map(|column| {
        let (ty, name) = (column.ty, &column.name);
        quote_spanned!(ty.span()=> (
            #name,
            <#ty as #p::ColumnValue>::TYPE,
            <#ty as #p::ColumnValue>::NULLABLE,
        ))
    });
    let keys: Vec<_> = columns.iter().filter(|column| column.key).collect();
    let key_places = (0u16..)
        .zip(columns)
        .filter(|(_, column)| column.key)
        .map(|(place, _)| place);
    let key_types: Vec<_> = keys.iter().map(|column| column.ty).collect();
    let key_idents: Vec<_> = keys.iter().map(|column| column.ident).collect();
    let (key_type, key_value, has_key, set_key) = match (&key_types[..], &key_idents[..]) {
        ([ty], [ident]) => (
            quote!(#ty),
            quote!(::core::clone::Clone::clone(&self.#ident)),
            quote!(self.#ident == *key),
            quote!(self.#ident = ::core::clone::Clone::clone(key);),
        ),
        _ => {
            let places: Vec<_> = (0..key_types.len()).map(syn::Index::from).collect();
            (
                quote!((#(#key_types),*)),
                quote!((#(::core::clone::Clone::clone(&self.#key_idents)),*)),
                quote!(#(self.#key_idents == key.#places)&&*),
                quote!(#(self.#key_idents = ::core::clone::Clone::clone(&key.#places);)*),
            )
        }
    };

    let idents: Vec<_> = columns.iter().map(|column| column.ident).collect();
    let types: Vec<_> = columns.iter().map(|column| column.ty).collect();

    let indexes = indexes(table, columns)?;
    let index_places = indexes.iter().map(|index| {
        let places = &index.places;
        quote!(&[#(#places),*])
    });
    let index_writes = indexes.iter().enumerate().map(|(number, index)| {
        let fields = index
            .places
            .iter()
            .map(|&place| columns[usize::from(place)].ident);
        quote!(#number => { #(#p::write_index_column(&self.#fields, out);)* })
    });
    let constants = indexes.iter().enumerate().map(|(number, index)| {
        let types: Vec<_> = index.places.iter().map(|&place| columns[usize::from(place)].ty).collect();
        let key = match &types[..] {
            [ty] => quote!(#ty),
            types => quote!((#(#types),*)),
        };
        let constant = &index.constant;
        let number = number as u32;
        let doc = format!("The index over {}.", index.places.iter().map(|&place| format!("`{}`", columns[usize::from(place)].name)).collect::<Vec<_>>().join(", "));
        quote! {
            #[doc = #doc]
            #[allow(dead_code)]
            #visibility const #constant: ::rulemill_sdk::Index<Self, #key> = ::rulemill_sdk::Index::new(#number);
        }
    });
    let constants = if indexes.is_empty() {
        TokenStream::new()
    } else {
        quote!(impl #ident { #(#constants)* })
    };

    Ok(quote! {
        #[automatically_derived]
        impl ::rulemill_sdk::Row for #ident {
            type Key = #key_type;

            const SPEC: #p::RowSpec = #p::RowSpec {
                table: #name,
                access: #p::Access::#access,
                columns: &[#(#specs),*],
                key: &[#(#key_places),*],
                indexes: &[#(#index_places),*],
            };

            #[inline]
            fn key(&self) -> Self::Key {
                #key_value
            }

            #[inline]
            fn has_key(&self, key: &Self::Key) -> bool {
                #has_key
            }

            #[inline]
            fn set_key(&mut self, key: &Self::Key) {
                #set_key
            }

            #[inline]
            fn read_row(
                reader: &mut #p::Reader<'_>,
            ) -> ::core::result::Result<Self, #p::DecodeError> {
                ::core::result::Result::Ok(Self {
                    #(#idents: <#types as #p::ColumnValue>::read(reader)?,)*
                })
            }

            #[inline]
            fn write_row(&self, out: &mut ::std::vec::Vec<u8>) {
                #(#p::ColumnValue::write(&self.#idents, out);)*
            }

            #[allow(unused_variables)]
            fn write_index(&self, index: usize, out: &mut ::std::vec::Vec<u8>) {
                match index {
                    #(#index_writes)*
                    _ => {}
                }
            }

            #[inline]
            fn duplicate(&self) -> Self {
                Self {
                    #(#idents: ::core::clone::Clone::clone(&self.#idents),)*
                }
            }
        }

        #[automatically_derived]
        impl ::rulemill_sdk::#marker for #ident {}

        #constants
    })
}
