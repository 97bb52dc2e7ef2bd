//! `rulemill rules`: what runs, and how it does.

use serde::Serialize;
use serde_json::json;

use super::{ConfigArg, Failure, JsonArg, access::Access, client::segment, output};
use crate::{
    engine::Turned,
    http::answers::{Resumption, Rules},
};

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
    rulemill rules\n  \
    rulemill rules pause shop.low_stock\n  \
    rulemill rules resume low_stock          the plugin may be left out where the rule's name is unique"
)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    json: JsonArg,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Stop calling a rule; it goes on from where it was when it is resumed
    Pause(Named),
    /// Let a paused or halted rule go on
    Resume(Resumed),
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The rule, as plugin.rule
    rule: String,
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    json: JsonArg,
}

#[derive(Debug, clap::Args)]
struct Resumed {
    #[command(flatten)]
    named: Named,
    /// Where the log no longer reaches back to the rule's place: go on from where it begins, without what is gone
    #[arg(long)]
    skip_gap: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.action {
        None => list(args),
        Some(Action::Pause(named)) => tell(named, "pause", &json!({}), paused),
        Some(Action::Resume(args)) => {
            let body = Resumption {
                skip_gap: args.skip_gap,
            };
            tell(&args.named, "resume", &body, resumed)
        }
    }
}

fn tell(
    named: &Named,
    action: &str,
    body: &impl Serialize,
    done: fn(&Turned) -> String,
) -> Result<(), Failure> {
    let client = Access::open_daemon(&named.config, "to pause or resume a rule")?;
    let path = format!("/v1/rules/{}/{action}", segment(&named.rule));
    let answer: Turned = client.post(&path, body)?;
    if named.json.json {
        output::json(&answer)?;
    } else {
        output::line(&done(&answer))?;
    }
    Ok(())
}

fn paused(answer: &Turned) -> String {
    let (rule, status) = (&answer.rule, &answer.status);
    match (answer.changed, &**status) {
        (true, _) => format!("paused {rule}"),
        (false, "paused") => format!("{rule} is paused already"),
        (false, _) => format!("{rule} doesn't run as it is: {status}"),
    }
}

fn resumed(answer: &Turned) -> String {
    let rule = &answer.rule;
    match answer.changed {
        true => format!("resumed {rule}"),
        false => format!("{rule} runs already"),
    }
}

fn list(args: &Args) -> Result<(), Failure> {
    let rules = Access::open(&args.config)?.rules()?;
    if args.json.json {
        return Ok(output::json(&rules)?);
    }
    print(&rules)
}

/// Prints rules for people, and what was refused.
pub(super) fn print(rules: &Rules) -> Result<(), Failure> {
    let rows = rules
        .rules
        .iter()
        .map(|rule| {
            let hash = rules
                .plugins
                .get(&rule.plugin)
                .and_then(|plugin| plugin.hash.as_deref())
                .map(output::hash);
            vec![
                rule.name.clone(),
                output::or_dash(hash),
                rule.line.status.clone(),
                rule.line.cursor.to_string(),
                rule.line.lag_changes.to_string(),
                rule.line.changes.to_string(),
                rule.line.faults.to_string(),
                rule.line.parked.to_string(),
                output::short(&output::or_dash(rule.line.last_error.as_deref()), 80),
            ]
        })
        .collect();
    output::table(
        &[
            "RULE",
            "PLUGIN",
            "STATUS",
            "CURSOR",
            "LAG",
            "CHANGES",
            "FAULTS",
            "PARKED",
            "LAST ERROR",
        ],
        rows,
        "no rules: put a plugin into the plugin directory",
    )?;
    for (name, plugin) in &rules.plugins {
        if let Some(reason) = &plugin.refused {
            output::line(&format!("plugin {name} refused: {reason}"))?;
        }
    }
    Ok(())
}
