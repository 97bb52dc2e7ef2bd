//! Second stage: what another plugin derives, by hour.

use rulemill_sdk::prelude::*;

/// A temperature, from the first stage: to this plugin it is a source.
#[derive(Row)]
#[table(source = "temperatures")]
pub struct Temperature {
    /// Where it was taken.
    #[key]
    pub place: String,
    /// When.
    #[key]
    pub at: Timestamp,
    /// The temperature.
    pub degrees: Decimal,
}

/// The temperatures of one hour at one place.
#[derive(Row, Default, Debug, PartialEq)]
#[table(derived = "hours")]
pub struct Hour {
    /// Where.
    #[key]
    pub place: String,
    /// The hour's beginning.
    #[key]
    pub hour: Timestamp,
    /// How many were taken.
    pub readings: i64,
    /// Their sum, from which the mean is always exact.
    pub sum: Decimal,
    /// Their mean, to a hundredth.
    pub mean: Decimal,
}

/// Keeps the mean of each hour.
#[rule]
pub fn hours(change: Change<Temperature>, hours: &mut Table<Hour>) -> Outcome {
    for Delta { row, sign } in change.deltas() {
        let key = (row.place.clone(), hour_of(row.at)?);
        let hour = hours.entry(key.clone())?;
        hour.readings += sign;
        hour.sum += row.degrees * sign;
        if hour.readings == 0 {
            hours.remove(key)?;
        } else {
            hour.mean = (hour.sum / Decimal::from(hour.readings)).round_dp(2);
        }
    }
    Ok(())
}

fn hour_of(at: Timestamp) -> Result<Timestamp, RuleError> {
    const HOUR_MICROS: i64 = 3_600_000_000;
    let micros = at.micros() - at.micros().rem_euclid(HOUR_MICROS);
    Timestamp::from_micros(micros).ok_or_else(|| "the hour lies outside the calendar".into())
}

rulemill_sdk::plugin!(hours);

#[cfg(test)]
mod tests {
    use super::*;

    fn temperature(at: &str, degrees: i64) -> Result<Temperature, RuleError> {
        Ok(Temperature {
            place: "cold store".into(),
            at: at.parse()?,
            degrees: degrees.into(),
        })
    }

    #[test]
    fn an_hour_has_the_mean_of_its_readings() -> Outcome {
        let mut table = Table::in_memory();
        hours(Change::insert(temperature("2026-01-05T10:05:00Z", 4)?), &mut table)?;
        hours(Change::insert(temperature("2026-01-05T10:55:00Z", 7)?), &mut table)?;
        assert_eq!(table.rows()[0].mean, Decimal::new(55, 1));
        assert_eq!(table.rows()[0].hour, "2026-01-05T10:00:00Z".parse()?);
        hours(Change::delete(temperature("2026-01-05T10:05:00Z", 4)?), &mut table)?;
        assert_eq!(table.rows()[0].mean, Decimal::from(7));
        hours(Change::delete(temperature("2026-01-05T10:55:00Z", 7)?), &mut table)?;
        assert!(table.rows().is_empty());
        Ok(())
    }
}
