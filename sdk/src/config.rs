//! A plugin's configuration, as a type of the author's.

use std::ops::Deref;

use serde::de::DeserializeOwned;

/// The plugin's configuration; a rule takes it as `&Config<T>`. It is what stands under
/// `[plugin.NAME] config` in `rulemill.toml`, read once. A configuration that is no `T` refuses the
/// plugin and says why. Where the user gave none, `T` is read from `null`, or else from `{}`.
///
/// The type needs `serde::Deserialize`: add serde to the plugin, or use the one of the SDK as here.
///
/// ```
/// use rulemill_sdk::prelude::*;
///
/// #[derive(serde::Deserialize)]
/// struct Settings { currency: String }
///
/// let config = Config::new(Settings { currency: "EUR".into() });
/// assert_eq!(config.currency, "EUR");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config<T> {
    value: T,
}

impl<T> Config<T> {
    /// A configuration for a test.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// assert_eq!(*Config::new(5), 5);
    /// ```
    pub fn new(value: T) -> Self {
        Self { value }
    }
}

impl<T: DeserializeOwned> Config<T> {
    pub(crate) fn into_inner(self) -> T {
        self.value
    }

    pub(crate) fn from_json(json: &str) -> Result<Self, String> {
        let json = match json.trim() {
            "" => "null",
            json => json,
        };
        let value = match serde_json::from_str(json) {
            Ok(value) => value,
            Err(_) if json == "null" => serde_json::from_str("{}")
                .map_err(|error| format!("the plugin needs a configuration: {error}"))?,
            Err(error) => return Err(format!("wrong configuration: {error}")),
        };
        Ok(Self { value })
    }
}

impl<T> Deref for Config<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug)]
    struct Settings {
        #[serde(default)]
        step: i64,
    }

    #[test]
    fn a_configuration_is_read_or_refused() {
        let step = |json| Config::<Settings>::from_json(json).map(|config| config.step);
        assert_eq!(step(r#"{"step":2}"#), Ok(2));
        assert_eq!(step("null"), Ok(0));
        let error = step(r#"{"step":"two"}"#).unwrap_err();
        assert!(
            error.contains("invalid type: string \"two\", expected i64"),
            "{error}"
        );
    }
}
