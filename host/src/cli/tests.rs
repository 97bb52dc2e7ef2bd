//! The command line as it is declared: names, defaults and help of every command, without running one.

use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("rulemill").chain(line.split_whitespace()))
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_contracts_lines_parse() {
    for line in [
        "demo",
        "run -c shop.toml",
        "run -c shop.toml --once",
        "new my-rules",
        "build",
        "build a b --out plugins",
        "check -c shop.toml",
        "tables --json",
        "query orders",
        "query orders --key 17 --format json",
        "query orders --from 1 --to 5 --limit 3 --format csv -c shop.toml",
        "rules",
        "rules -c shop.toml --json",
        "rules pause shop.low_stock -c shop.toml",
        "rules resume low_stock",
        "dead-letters",
        "dead-letters --source shop -c shop.toml",
        "dead-letters list --rule shop.low_stock --json",
        "dead-letters show 17",
        "dead-letters retry",
        "dead-letters retry 17",
        "dead-letters retry --rule shop.low_stock",
        "dead-letters drop --all",
        "status --json",
        "tail",
        "tail product_totals --since 0",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn wrong_use_is_told_with_code_2() {
    for line in [
        "",
        "fly",
        "query",
        "query orders --limit few",
        "query orders --limit 0",
        "query orders --key 1 --from 2",
        "query orders --format xml",
        "query orders --format csv --json",
        "rules pause",
        "dead-letters show",
        "dead-letters drop 1 --all",
        "dead-letters --rule a --source b",
        "run --twice",
    ] {
        match parse(line) {
            Ok(_) => panic!("{line:?} must not parse"),
            Err(error) => assert_eq!(error.exit_code(), 2, "{line}"),
        }
    }
}

#[test]
fn the_configuration_is_rulemill_toml_unless_told() {
    let path = |line: &str| match parse(line).unwrap().command {
        Command::Tables(args) => args.config.path,
        other => panic!("{other:?}"),
    };
    assert_eq!(path("tables"), PathBuf::from("rulemill.toml"));
    assert_eq!(path("tables -c x/y.toml"), PathBuf::from("x/y.toml"));
}

#[test]
fn every_command_has_help_of_its_own() {
    for command in Cli::command().get_subcommands() {
        assert!(command.get_about().is_some(), "{}", command.get_name());
    }
}
