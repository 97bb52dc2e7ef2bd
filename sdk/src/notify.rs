//! Notifications: what a rule tells the world outside the tables.
//!
//! They are effects like rows: they leave the host after the commit, and an undone change sends none.

use std::fmt;

use rulemill_wire::effects::EffectsWriter;
use serde::Serialize;

use crate::runtime::Call;

/// Sends notifications; a rule takes it as `&mut Notify`.
///
/// ```
/// use rulemill_sdk::prelude::*;
///
/// let mut notify = Notify::default();
/// notify.send("low-stock", &json!({ "product": 7, "left": 2 }))?;
/// assert_eq!(notify.sent()[0].topic, "low-stock");
/// assert_eq!(notify.sent()[0].body, r#"{"left":2,"product":7}"#);
/// # Ok::<(), RuleError>(())
/// ```
#[derive(Debug, Default)]
pub struct Notify {
    sent: Vec<Notification>,
    /// The call that sent each.
    calls: Vec<Call>,
    call: Call,
    /// Where the notifications of the current call begin.
    mark: usize,
}

/// A notification that was sent.
///
/// ```
/// # use rulemill_sdk::prelude::*;
/// let mut notify = Notify::default();
/// notify.send("greeting", "hello")?;
/// let notification: &Notification = &notify.sent()[0];
/// assert_eq!(notification.body, "\"hello\"");
/// # Ok::<(), RuleError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Its topic.
    pub topic: String,
    /// Its body, a JSON document.
    pub body: String,
}

/// The body of a notification could not be written as JSON.
///
/// ```
/// # use rulemill_sdk::prelude::*;
/// use std::collections::BTreeMap;
/// let mut notify = Notify::default();
/// // JSON knows only texts as keys.
/// let error = notify.send("topic", &BTreeMap::from([((1, 2), 3)])).unwrap_err();
/// assert!(error.to_string().starts_with("notification topic: "));
/// ```
#[derive(Debug)]
pub struct NotifyError {
    topic: String,
    cause: serde_json::Error,
}

impl fmt::Display for NotifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "notification {}: the body can't be written as JSON: {}",
            self.topic, self.cause
        )
    }
}

impl std::error::Error for NotifyError {}

impl Notify {
    /// Sends a notification once the change is committed. `body` becomes a JSON document.
    ///
    /// # Errors
    /// If the body can't be written as JSON.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// # let mut notify = Notify::default();
    /// notify.send("price-changed", &("pencil", Decimal::new(199, 2)))?;
    /// assert_eq!(notify.sent()[0].body, r#"["pencil","1.99"]"#);
    /// # Ok::<(), RuleError>(())
    /// ```
    pub fn send(
        &mut self,
        topic: impl Into<String>,
        body: &(impl Serialize + ?Sized),
    ) -> Result<(), NotifyError> {
        let topic = topic.into();
        match serde_json::to_string(body) {
            Ok(body) => {
                self.sent.push(Notification { topic, body });
                self.calls.push(self.call);
                Ok(())
            }
            Err(cause) => Err(NotifyError { topic, cause }),
        }
    }

    /// What was sent: for the assertions of a test.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// assert!(Notify::default().sent().is_empty());
    /// ```
    pub fn sent(&self) -> &[Notification] {
        &self.sent
    }

    pub(crate) fn begin(&mut self, call: &Call) {
        self.call = *call;
        self.mark = self.sent.len();
    }

    pub(crate) fn undo(&mut self) {
        self.sent.truncate(self.mark);
        self.calls.truncate(self.mark);
    }

    /// Appends what the call that ended sent.
    pub(crate) fn save(&mut self, effects: &mut EffectsWriter) {
        for (call, notification) in self.calls.iter().zip(&self.sent).skip(self.mark) {
            write(call, notification, effects);
        }
    }

    pub(crate) fn flush(&mut self, effects: &mut EffectsWriter) {
        for (call, notification) in self.calls.drain(..).zip(self.sent.drain(..)) {
            write(&call, &notification, effects);
        }
    }
}

fn write(call: &Call, Notification { topic, body }: &Notification, effects: &mut EffectsWriter) {
    effects.notification(call.rule, call.item, topic, body);
}
