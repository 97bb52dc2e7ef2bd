//! What the configuration says of plugins, held against what is there.
//!
//! For commands that run plugins; those that only read state do without.

use super::{
    Config, Error,
    load::{Document, suggest},
};

impl Config {
    /// Whether `plugin_dir` is there, if the file names it. The default directory may come later.
    ///
    /// # Errors
    /// If it isn't, at its place in the file.
    pub fn check_plugin_dir(&self) -> Result<(), Error> {
        if !self.plugin_dir_named || self.plugin_dir.is_dir() {
            return Ok(());
        }
        let text = std::fs::read_to_string(&self.file).map_err(|error| Error::Read {
            file: self.file.clone(),
            error,
        })?;
        let dir = self.plugin_dir.display();
        let message = if self.plugin_dir.exists() {
            format!("{dir} is no directory: name the one that holds the plugins' .wasm files")
        } else {
            format!(
                "there is no directory {dir}: mend the path, or make the directory, as \
                 `rulemill build CRATE --out {dir}` does"
            )
        };
        Err(Document::new(&self.file, &text).at("plugin_dir", message))
    }

    /// A warning for each `[plugin.NAME]` without a plugin of that name among `found`.
    pub fn plugins_not_found<'a>(&self, found: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let found: Vec<&str> = found.into_iter().collect();
        self.plugins
            .keys()
            .filter(|name| !found.contains(&name.as_str()))
            .map(|name| {
                format!(
                    "[plugin.{name}] in {} counts for nothing now: there is no {}{}",
                    self.file.display(),
                    self.plugin_dir.join(format!("{name}.wasm")).display(),
                    suggest(name, found.iter().copied())
                )
            })
            .collect()
    }
}
