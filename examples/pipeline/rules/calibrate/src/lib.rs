//! First stage: readings as the sensors meant them.

use rulemill_sdk::prelude::*;

/// A reading as it comes in.
#[derive(Row)]
#[table(source = "readings")]
pub struct Reading {
    /// The sensor.
    #[key]
    pub sensor: i64,
    /// When it was taken.
    #[key]
    pub at: Timestamp,
    /// What it showed.
    pub degrees: Decimal,
}

/// Where a sensor stands and by how much it is wrong.
#[derive(Row)]
#[table(source = "sensors")]
pub struct Sensor {
    /// The sensor.
    #[key]
    pub id: i64,
    /// Where it stands.
    pub place: String,
    /// What it shows too much.
    pub offset: Decimal,
}

/// A reading that can be trusted.
#[derive(Row, Debug, PartialEq)]
#[table(derived = "temperatures")]
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

/// Corrects a reading by what was known of its sensor at that time. A reading of a sensor that nobody
/// knows is an error: it waits among the dead letters until somebody does.
#[rule]
pub fn calibrate(
    change: Change<Reading>,
    sensors: &Lookup<Sensor>,
    temperatures: &mut Table<Temperature>,
) -> Outcome {
    let reading = change.row();
    let Some(sensor) = sensors.get(reading.sensor)? else {
        reject!("nobody knows sensor {}", reading.sensor);
    };
    match &change.after {
        Some(reading) => temperatures.insert(Temperature {
            place: sensor.place.clone(),
            at: reading.at,
            degrees: reading.degrees - sensor.offset,
        }),
        None => {
            temperatures.remove((sensor.place.clone(), reading.at))?;
        }
    }
    Ok(())
}

rulemill_sdk::plugin!(calibrate);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_corrected_or_refused() -> Outcome {
        let sensors = Lookup::from_rows([Sensor {
            id: 1,
            place: "cold store".into(),
            offset: Decimal::new(5, 1),
        }]);
        let reading = |sensor| Reading {
            sensor,
            at: Timestamp::default(),
            degrees: Decimal::new(45, 1),
        };
        let mut temperatures = Table::in_memory();
        calibrate(Change::insert(reading(1)), &sensors, &mut temperatures)?;
        assert_eq!(temperatures.rows()[0].degrees, Decimal::from(4));
        assert!(calibrate(Change::insert(reading(2)), &sensors, &mut temperatures).is_err());
        calibrate(Change::delete(reading(1)), &sensors, &mut temperatures)?;
        assert!(temperatures.rows().is_empty());
        Ok(())
    }
}
