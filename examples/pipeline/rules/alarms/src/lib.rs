//! Third stage: hours that were too warm, by a limit from the configuration.

use rulemill_sdk::{prelude::*, serde};

/// An hour, from the second stage.
#[derive(Row)]
#[table(source = "hours")]
pub struct Hour {
    /// Where.
    #[key]
    pub place: String,
    /// The hour's beginning.
    #[key]
    pub hour: Timestamp,
    /// The mean temperature.
    pub mean: Decimal,
}

/// An hour that was too warm.
#[derive(Row, Debug, PartialEq)]
#[table(derived = "alarms")]
pub struct Alarm {
    /// Where.
    #[key]
    pub place: String,
    /// The hour's beginning.
    #[key]
    pub hour: Timestamp,
    /// By how much.
    pub above: Decimal,
}

/// The plugin's configuration.
#[derive(serde::Deserialize)]
#[serde(crate = "rulemill_sdk::serde", deny_unknown_fields)]
pub struct Settings {
    /// The warmest that an hour may be, in hundredths of a degree.
    pub warmest_hundredths: i64,
}

/// Keeps the alarms, and sends a notification when an hour becomes one.
#[rule]
pub fn alarms(
    change: Change<Hour>,
    alarms: &mut Table<Alarm>,
    settings: &Config<Settings>,
    notify: &mut Notify,
) -> Outcome {
    let warmest = Decimal::new(settings.warmest_hundredths, 2);
    match &change.after {
        Some(hour) if hour.mean > warmest => {
            if alarms.get(change.key())?.is_none() {
                notify.send("too-warm", &json!({ "place": hour.place, "mean": hour.mean }))?;
            }
            alarms.insert(Alarm {
                place: hour.place.clone(),
                hour: hour.hour,
                above: hour.mean - warmest,
            });
        }
        _ => {
            alarms.remove(change.key())?;
        }
    }
    Ok(())
}

rulemill_sdk::plugin!(alarms);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_comes_and_goes_with_its_hour() -> Outcome {
        let hour = |mean: i64| Hour {
            place: "cold store".into(),
            hour: Timestamp::default(),
            mean: mean.into(),
        };
        let settings = Config::new(Settings {
            warmest_hundredths: 700,
        });
        let (mut table, mut notify) = (Table::in_memory(), Notify::default());
        alarms(Change::insert(hour(8)), &mut table, &settings, &mut notify)?;
        alarms(Change::update(hour(8), hour(9)), &mut table, &settings, &mut notify)?;
        assert_eq!(table.rows()[0].above, Decimal::from(2));
        assert_eq!(notify.sent().len(), 1);
        alarms(Change::update(hour(9), hour(7)), &mut table, &settings, &mut notify)?;
        assert!(table.rows().is_empty());
        Ok(())
    }
}
