//! `rulemill build`: plugin crates to WebAssembly.

use std::path::PathBuf;

use serde_json::json;

use super::{Failure, JsonArg, output};
use crate::guest_build::{self, BuildRequest, DEFAULT_OUT};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    rulemill build                           the crate in the current directory\n  \
    rulemill build my-rules --out plugins    and put it where a running daemon takes it up")]
pub(super) struct Args {
    /// The plugin crates, or workspaces of plugin crates
    #[arg(value_name = "DIR", default_value = ".")]
    dirs: Vec<PathBuf>,
    /// The directory that gets each plugin as NAME.wasm
    #[arg(long, value_name = "DIR", default_value = DEFAULT_OUT)]
    out: PathBuf,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let built = guest_build::build(&BuildRequest {
        crates: args.dirs,
        out: args.out,
        quiet: false,
    })?;
    if args.json.json {
        let plugins: Vec<_> = built
            .iter()
            .map(|plugin| {
                json!({
                    "name": plugin.name,
                    "path": plugin.path,
                    "bytes": plugin.bytes,
                    "changed": plugin.changed,
                })
            })
            .collect();
        output::json(&json!({ "plugins": plugins }))?;
    } else {
        for plugin in built {
            output::line(&format!(
                "{} ({} KiB{})",
                plugin.path.display(),
                plugin.bytes.div_ceil(1024),
                if plugin.changed { "" } else { ", unchanged" }
            ))?;
        }
    }
    Ok(())
}
