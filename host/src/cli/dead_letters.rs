//! `rulemill dead-letters`: changes and timers that a rule could not handle, and input that a source could not
//! take.

use super::{ConfigArg, Failure, JsonArg, access::Access, output};
use crate::http::{
    answers::{BadInputs, DeadLetters, Dropped, Retried, Selection},
    read::LettersQuery,
};

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
    rulemill dead-letters                              what is parked, of every rule\n  \
    rulemill dead-letters --rule shop.product_totals\n  \
    rulemill dead-letters show 17\n  \
    rulemill dead-letters retry                        all, oldest first, through the rules as they are now\n  \
    rulemill dead-letters drop 17                      give it up\n  \
    rulemill dead-letters --source shop                lines that the source `shop` could not take"
)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List them, oldest first (what the command does without a word)
    List(List),
    /// Show one whole
    Show(Show),
    /// Run what is parked again, oldest first; one by its number with those before it of the same key
    Retry(Pick),
    /// Give up what is parked; it is gone then
    ///
    /// A dropped timer has never fired. Of dropped changes the rows stay as they are, only the rule never sees these changes. The next change of such a row comes to the rule with the row that it
    /// last saw as the row before, so that running totals stay right; until then they are as they were. What only waited behind a
    /// dropped change is handed to the rule.
    Drop(Pick),
}

#[derive(Debug, Clone, clap::Args)]
struct List {
    /// Only those of this rule
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    /// Input that this source could not take, instead of rules' changes
    #[arg(long, value_name = "SOURCE", conflicts_with = "rule")]
    source: Option<String>,
    /// How many at the most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Those behind this number
    #[arg(long, value_name = "ID")]
    after: Option<u64>,
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    json: JsonArg,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// Its number
    id: u64,
    /// The source whose input it is, if it isn't a rule's change
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    #[command(flatten)]
    config: ConfigArg,
    /// What is shown is JSON with or without this
    #[arg(long, hide = true)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Pick {
    /// Only this one
    #[arg(conflicts_with = "rule")]
    id: Option<u64>,
    /// Only those of this rule
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    /// All of them
    #[arg(long, conflicts_with_all = ["id", "rule"])]
    all: bool,
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.action {
        None => list(&args.list),
        Some(Action::List(args)) => list(args),
        Some(Action::Show(args)) => show(args),
        Some(Action::Retry(pick)) => retry(pick),
        Some(Action::Drop(pick)) => drop_letters(pick),
    }
}

fn list(args: &List) -> Result<(), Failure> {
    let access = Access::open(&args.config)?;
    let query = LettersQuery {
        rule: args.rule.clone(),
        id: None,
        after: args.after,
        limit: Some(args.limit),
    };
    if let Some(source) = &args.source {
        let found = access.bad_input(source, &query)?;
        return if args.json.json {
            Ok(output::json(&found)?)
        } else {
            print_bad_input(found)
        };
    }
    let found = access.dead_letters(&query)?;
    if args.json.json {
        Ok(output::json(&found)?)
    } else {
        print(found)
    }
}

fn print(found: DeadLetters) -> Result<(), Failure> {
    let rows = found
        .dead_letters
        .iter()
        .map(|letter| {
            vec![
                letter.id.to_string(),
                letter.rule.clone(),
                letter.seq.to_string(),
                // No table can be called so.
                letter.table.clone().unwrap_or_else(|| "(timer)".into()),
                letter.key.get().to_owned(),
                output::short(&letter.error, 100),
            ]
        })
        .collect();
    output::table(
        &["ID", "RULE", "SEQ", "TABLE", "KEY", "ERROR"],
        rows,
        "nothing is parked",
    )?;
    more(found.next);
    Ok(())
}

fn print_bad_input(found: BadInputs) -> Result<(), Failure> {
    let rows = found
        .dead_letters
        .iter()
        .map(|bad| {
            vec![
                bad.id.to_string(),
                format!("{}:{}", bad.input.origin, bad.input.line),
                output::short(&bad.input.reason, 100),
                output::short(&bad.input.text, 60),
            ]
        })
        .collect();
    let none = format!("source {} has taken all its input", found.source);
    output::table(&["ID", "PLACE", "REASON", "INPUT"], rows, &none)?;
    more(found.next);
    Ok(())
}

fn more(next: Option<u64>) {
    if let Some(next) = next {
        eprintln!("more follow: --after {next}");
    }
}

fn show(args: &Show) -> Result<(), Failure> {
    let access = Access::open(&args.config)?;
    let query = LettersQuery {
        id: Some(args.id),
        ..LettersQuery::default()
    };
    let missing = || {
        Failure::Failed(anyhow::anyhow!(
            "there is no dead letter {}: `rulemill dead-letters` lists them",
            args.id
        ))
    };
    match &args.source {
        Some(source) => {
            let found = access.bad_input(source, &query)?;
            output::json(found.dead_letters.first().ok_or_else(missing)?)?;
        }
        None => {
            let found = access.dead_letters(&query)?;
            output::json(found.dead_letters.first().ok_or_else(missing)?)?;
        }
    }
    Ok(())
}

fn retry(pick: &Pick) -> Result<(), Failure> {
    let client = Access::open_daemon(&pick.config, "to retry them through its rules")?;
    let answer: Retried = client.post("/v1/dead-letters/retry", &pick.selection())?;
    if pick.json.json {
        output::json(&answer)?;
    } else {
        output::line(&format!(
            "{} went through, {} stay parked",
            answer.settled, answer.parked
        ))?;
    }
    Ok(())
}

fn drop_letters(pick: &Pick) -> Result<(), Failure> {
    if pick.id.is_none() && pick.rule.is_none() && !pick.all {
        return Err(Failure::wrong(
            "say which to drop: an ID, --rule RULE or --all; dropped changes are gone",
        ));
    }
    let client = Access::open_daemon(&pick.config, "to drop them")?;
    let answer: Dropped = client.post("/v1/dead-letters/drop", &pick.selection())?;
    if pick.json.json {
        output::json(&answer)?;
    } else {
        output::line(&format!("dropped {}", answer.dropped))?;
    }
    Ok(())
}

impl Pick {
    fn selection(&self) -> Selection {
        Selection {
            rule: self.rule.clone(),
            id: self.id,
            all: self.all,
        }
    }
}
