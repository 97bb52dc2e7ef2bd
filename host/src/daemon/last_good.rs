//! What goes on at a start whose plugin files are broken or don't fit: the version that ran last, from the store.

use crate::{engine::PluginEvent, plugin_dir::PluginDir, store::Store};

/// Gives every plugin that was refused, or is other code than what ran before and may yet be refused, what ran
/// before, where the store has it and it still loads.
///
/// # Errors
/// If the store can't be read.
pub(super) fn recall(
    events: &mut [PluginEvent],
    plugins: &PluginDir,
    store: &Store,
) -> anyhow::Result<()> {
    let reader = store.reader()?;
    let versions = reader.plugin_versions()?;
    for event in events {
        let (name, last_good, now) = match event {
            PluginEvent::Loaded {
                name,
                last_good,
                plugin,
                ..
            } => (name, last_good, Some(plugin.hash().0)),
            PluginEvent::Refused {
                name, last_good, ..
            } => (name, last_good, None),
            PluginEvent::Removed { .. } => continue,
        };
        let Some(version) = versions.iter().rfind(|version| version.plugin == *name) else {
            continue;
        };
        if now == Some(version.hash) {
            continue;
        }
        let Some(code) = reader.plugin_code(&version.hash)? else {
            continue;
        };
        match plugins.load_kept(name, code) {
            Ok(plugin) => *last_good = Some(plugin),
            Err(error) => {
                tracing::error!(plugin = name, %error, "its last good version doesn't load");
            }
        }
    }
    Ok(())
}
