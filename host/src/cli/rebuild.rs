//! `rulemill rebuild`: a plugin's tables made again from a snapshot of what they come from.

use std::{thread, time::Duration};

use serde_json::json;

use super::{ConfigArg, Failure, JsonArg, access::Access, client::segment, output};
use crate::http::answers::{PluginNamed, StatusAnswer};

/// How often the daemon is asked how far it is.
const ASK_AGAIN: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    rulemill rebuild shop\n  \
    rulemill rebuild shop --no-wait\n  \
    rulemill rebuild shop --cancel\n\n\
    The tables of the plugin go on as they are while they are made again beside themselves, from the rows that their inputs have now, \
    with the newest code in the plugin directory (also if that was refused because it makes a table otherwise). When the new ones have come \
    to the head they take the place of the old in one transaction. What can't be told from rows, such as an audit of every change, \
    is lost by that; parked changes of the plugin are settled by it. No notifications are sent.")]
pub(super) struct Args {
    /// The plugin
    plugin: String,
    /// Give a rebuild up that is under way
    #[arg(long, conflicts_with = "no_wait")]
    cancel: bool,
    /// Return once it has begun; `rulemill status` shows how far it is
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let client = Access::open_daemon(&args.config, "to rebuild a plugin's tables")?;
    let path = format!("/v1/plugins/{}/rebuild", segment(&args.plugin));
    if args.cancel {
        let answer: PluginNamed = client.post(&format!("{path}/cancel"), &json!({}))?;
        return say(args, &answer, "gave the rebuild up of");
    }
    let answer: PluginNamed = client.post(&path, &json!({}))?;
    if args.no_wait {
        return say(args, &answer, "began to rebuild");
    }
    let mut told = String::new();
    loop {
        let answer_now: StatusAnswer = client.get("/v1/status", &[])?;
        let plugin = answer_now.status.plugins.get(&args.plugin);
        match plugin.and_then(|plugin| plugin.rebuild.as_ref()) {
            Some(how_far) => {
                if *how_far != told {
                    eprintln!("{}: {how_far}", args.plugin);
                    told.clone_from(how_far);
                }
            }
            None => {
                let refused = plugin.and_then(|plugin| plugin.refused.as_ref());
                return match refused {
                    Some(reason) => Err(Failure::Failed(anyhow::anyhow!(
                        "plugin {} was not rebuilt: it {reason}",
                        args.plugin
                    ))),
                    None => say(args, &answer, "rebuilt"),
                };
            }
        }
        thread::sleep(ASK_AGAIN);
    }
}

fn say(args: &Args, answer: &PluginNamed, what: &str) -> Result<(), Failure> {
    if args.json.json {
        output::json(answer)?;
    } else {
        output::line(&format!("{what} {}", answer.plugin))?;
    }
    Ok(())
}
