//! `rulemill demo`: a whole shop, kept right before one's eyes.

use super::Failure;
use crate::demo;

pub(super) use crate::demo::Args;

pub(super) fn run(args: Args) -> Result<(), Failure> {
    Ok(demo::run(args)?)
}
