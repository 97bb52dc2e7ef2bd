//! `sdk/src/bindings.rs` is what wit-bindgen makes of `sdk/wit/v1`; nobody edits it by hand.
//!
//! After a wanted change of the WIT package or of wit-bindgen's version: run this test with
//! `BINDINGS=overwrite`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use wit_bindgen_core::{Files, WorldGenerator, wit_parser::Resolve};

fn generate(wit: &Path) -> String {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit).unwrap();
    let world = resolve.select_world(&[package], Some("plugin")).unwrap();
    let options = wit_bindgen_rust::Opts {
        format: true,
        pub_export_macro: true,
        export_macro_name: Some("export_plugin".to_owned()),
        default_bindings_module: Some("$crate::bindings".to_owned()),
        ..Default::default()
    };
    let mut files = Files::default();
    options
        .build()
        .generate(&mut resolve, world, &mut files)
        .unwrap();
    let (_, contents) = files.iter().next().unwrap();
    String::from_utf8(contents.to_vec()).unwrap()
}

#[test]
fn the_bindings_are_generated_from_the_wit_package() {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk");
    let expected = generate(&sdk.join("wit/v1"));
    let file = sdk.join("src/bindings.rs");
    if std::env::var_os("BINDINGS").is_some_and(|value| value == "overwrite") {
        std::fs::write(&file, &expected).unwrap();
    }
    let checked_in = std::fs::read_to_string(&file).unwrap();
    assert!(
        checked_in == expected,
        "sdk/src/bindings.rs is not what wit-bindgen makes of sdk/wit/v1; \
         run `BINDINGS=overwrite cargo test -p compile-fail --test bindings`"
    );
}
