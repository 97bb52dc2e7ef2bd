//! Plugins for a host that this one isn't: imports that no rule may have, and other versions of the interface.

use crate::{
    check_load,
    guests::{self, assemble, load},
    limits,
};

#[test]
fn imports_that_no_rule_may_have() {
    let check = |case, text: &str, expected: &str| check_load(case, assemble(text), expected);
    let only = "but a rule can only compute: it has no files, network, clock or randomness";
    let component = |import: &str| format!("(component (import \"{import}\" (instance)))");
    check(
        "WASI clock",
        &component("wasi:clocks/wall-clock@0.2.0"),
        &format!(
            "imports wasi:clocks/wall-clock@0.2.0 (from std::time or a crate that reads the clock: \
             take `Now` in the rule instead), {only}"
        ),
    );
    check(
        "WASI files",
        &component("wasi:filesystem/types@0.2.0"),
        &format!("imports wasi:filesystem/types@0.2.0 (from std::fs), {only}"),
    );
    check(
        "WASI randomness",
        &component("wasi:random/random@0.2.0"),
        "imports wasi:random/random@0.2.0 (from rand, ..",
    );
    check(
        "WASI preview 1",
        "(module (import \"wasi_snapshot_preview1\" \"path_open\" (func)))",
        &format!("imports wasi_snapshot_preview1#path_open (from std::fs), {only}"),
    );
    check(
        "an extern function",
        "(module (import \"env\" \"launch\" (func)))",
        &format!("imports env#launch (from an extern function that nothing defines), {only}"),
    );
    check(
        "JavaScript",
        "(module (import \"__wbindgen_placeholder__\" \"now\" (func)))",
        "imports __wbindgen_placeholder__#now (from a crate that expects JavaScript: ..",
    );
    check(
        "something unknown",
        &component("acme:rockets/launch@1.0.0"),
        &format!("imports acme:rockets/launch@1.0.0, {only}"),
    );
    check(
        "an unknown part of the interface",
        &component("rulemill:plugin/files@1.0.0"),
        &format!("imports rulemill:plugin/files@1.0.0, {only}"),
    );
    check(
        "an unknown function",
        "(component (import \"launch\" (func)))",
        &format!("imports launch, {only}"),
    );
}

#[test]
fn other_versions_of_the_interface() {
    let newer = |version: &str| {
        let text = guests::V1.replace("state@1.0.0", &format!("state@{version}"));
        assemble(&text)
    };
    let speaks = "and this host speaks 1.1";
    let rebuild = "build it with the rulemill-sdk that came with this host";
    check_load(
        "imports another major",
        newer("2.0.0"),
        &format!("was built for plugin interface 2.0, {speaks}: {rebuild}"),
    );
    check_load(
        "imports an old major",
        newer("0.3.0"),
        &format!("was built for plugin interface 0.3, {speaks}: {rebuild}"),
    );
    check_load(
        "imports a later minor",
        newer("1.4.0"),
        &format!("was built for plugin interface 1.4, {speaks}: update the host"),
    );
    check_load(
        "exports another major",
        assemble(
            "(component (instance $rules) (export \"rulemill:plugin/rules@3.1.0\" (instance $rules)))",
        ),
        &format!("was built for plugin interface 3.1, {speaks}: {rebuild}"),
    );
    load(&limits(), newer("1.0.7")).unwrap_or_else(|e| panic!("a later patch version: {e}"));
}
