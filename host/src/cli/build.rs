//! `rulemill build`: plugin crates to WebAssembly.

use std::path::PathBuf;

use serde_json::json;

use super::{Failure, JsonArg, output};
use crate::guest_build;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    rulemill build                           the crate in the current directory\n  \
    rulemill build my-rules --out plugins    and put it where a running daemon takes it up")]
pub(super) struct Args {
    /// The plugin crates
    #[arg(value_name = "DIR", default_value = ".")]
    dirs: Vec<PathBuf>,
    /// Where the .wasm files go
    #[arg(long, value_name = "DIR", default_value = "plugins")]
    out: PathBuf,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let built = guest_build::build(&args.dirs, &args.out)?;
    if args.json.json {
        let files: Vec<_> = built.iter().map(|file| file.display().to_string()).collect();
        output::json(&json!({ "files": files }))?;
    } else {
        for file in built {
            output::line(&file.display().to_string())?;
        }
    }
    Ok(())
}
