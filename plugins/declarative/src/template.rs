//! What a rule's value for a column can be.
//!
//! | written | stands for |
//! | --- | --- |
//! | `"$.name"`, `"$.address.city"` | that field of the event's value |
//! | `"$"` | the event's whole value |
//! | `"@event"`, `"@action"` | the event's name, its action |
//! | `"@time"` | when the event was committed |
//! | anything else | itself: `"new"`, `0`, `true` |

use rulemill_sdk::prelude::Timestamp;
use serde_json::Value as Json;

/// A value that may depend on the event.
#[derive(Debug, Clone, PartialEq)]
pub enum Template {
    /// A field of the event's value, by the names on the way to it.
    Field(Vec<String>),
    /// The event's name.
    Event,
    /// The event's action.
    Action,
    /// The event's commit time.
    Time,
    /// Always the same.
    Constant(Json),
}

/// An event, as templates see it.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// What it says was done.
    pub action: String,
    /// What it was done to.
    pub value: Json,
    /// When it was committed.
    pub time: Timestamp,
}

impl Template {
    /// Reads a template as the configuration has it.
    ///
    /// # Errors
    /// If a text begins like a template and is none.
    pub fn read(json: &Json) -> Result<Self, String> {
        let Json::String(text) = json else {
            return Ok(Self::Constant(json.clone()));
        };
        match &**text {
            "$" => Ok(Self::Field(Vec::new())),
            "@event" => Ok(Self::Event),
            "@action" => Ok(Self::Action),
            "@time" => Ok(Self::Time),
            text if text.starts_with('$') => {
                let path = text.strip_prefix("$.").unwrap_or_default();
                let names: Vec<String> = path.split('.').map(str::to_owned).collect();
                if names.iter().any(String::is_empty) {
                    return Err(format!(
                        "{text:?} is no path: write \"$.field\", \"$.field.field\" or \"$\""
                    ));
                }
                Ok(Self::Field(names))
            }
            text if text.starts_with('@') => Err(format!(
                "{text:?} is unknown: there are \"@event\", \"@action\" and \"@time\""
            )),
            _ => Ok(Self::Constant(json.clone())),
        }
    }

    /// The value for an event; `None` if the event's value has no such field.
    pub fn fill(&self, event: &Event) -> Option<Json> {
        match self {
            Self::Field(names) => {
                let mut value = &event.value;
                for name in names {
                    value = value.get(name)?;
                }
                Some(value.clone())
            }
            Self::Event => Some(event.name.as_str().into()),
            Self::Action => Some(event.action.as_str().into()),
            Self::Time => Some(event.time.to_string().into()),
            Self::Constant(value) => Some(value.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rulemill_sdk::prelude::json;

    #[test]
    fn templates_are_read_and_filled() {
        let event = Event {
            name: "user_info_updated".into(),
            action: "update".into(),
            value: json!({ "id": 7, "address": { "city": "Bergen" } }),
            time: Timestamp::default(),
        };
        let fill = |template: Json| Template::read(&template).unwrap().fill(&event);
        assert_eq!(fill(json!("$.id")), Some(json!(7)));
        assert_eq!(fill(json!("$.address.city")), Some(json!("Bergen")));
        assert_eq!(fill(json!("$.address.street")), None);
        assert_eq!(fill(json!("$")), Some(event.value.clone()));
        assert_eq!(fill(json!("@event")), Some(json!("user_info_updated")));
        assert_eq!(fill(json!("@action")), Some(json!("update")));
        assert_eq!(fill(json!("@time")), Some(json!("1970-01-01T00:00:00Z")));
        assert_eq!(fill(json!("new")), Some(json!("new")));
        assert_eq!(fill(json!(0)), Some(json!(0)));
    }

    #[test]
    fn what_looks_like_a_template_and_is_none_is_refused() {
        for text in ["$name", "$.", "$.a..b", "@tiem"] {
            assert!(Template::read(&json!(text)).is_err(), "{text}");
        }
    }
}
