//! `rulemill new`: a plugin crate to start from.

use std::path::PathBuf;

use anyhow::Context;

use super::{Failure, output};
use crate::scaffold;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
    rulemill new my-rules && cd my-rules && cargo test && rulemill build")]
pub(super) struct Args {
    /// The new directory; its name is the crate's
    dir: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let created = scaffold::create(&args.dir)
        .with_context(|| format!("can't make a plugin crate in {}", args.dir.display()))?;
    Ok(output::line(&created.to_string())?)
}
