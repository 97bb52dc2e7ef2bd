//! The demo's host: the same parts in the same order as `rulemill run`.

use std::{path::Path, time::Duration};

use anyhow::{Result, bail};

use super::recompute::Tables;

/// What came of a run.
pub(super) struct Ran {
    /// The derived tables at its end.
    pub(super) tables: Tables,
    /// From the host's start to the last change being durable.
    pub(super) elapsed: Duration,
}

/// Runs a host over what its sources hold. `progress` hears how many changes are durable.
pub(super) fn run_once(config: &Path, _progress: &dyn Fn(u64)) -> Result<Ran> {
    bail!("{}: this build has no daemon", config.display());
}

/// Serves the directory's tables until Ctrl-C.
pub(super) fn serve(config: &Path) -> Result<()> {
    bail!("{}: this build has no daemon", config.display());
}
