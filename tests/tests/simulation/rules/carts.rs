//! Timers that set timers: reminded of a cart once, then again after as long.

use rulemill_sdk::prelude::*;

#[derive(Row)]
#[table(source = "carts")]
pub struct Cart {
    #[key]
    id: i64,
    wait: i64,
}

#[derive(Row, Default)]
#[table(derived = "reminded")]
pub struct Reminded {
    #[key]
    id: i64,
    times: i64,
    last: i64,
}

#[rule]
pub fn watch(change: Change<Cart>, timers: &mut Timers, now: Now) -> Outcome {
    let id = change.key().to_string();
    match &change.after {
        Some(cart) => {
            let due = now.timestamp().micros() + cart.wait;
            let due = Timestamp::from_micros(due).ok_or("too late")?;
            timers.set("remind", id, due)?;
        }
        None => timers.clear("remind", id)?,
    }
    Ok(())
}

#[rule]
pub fn remind(
    timer: Timer,
    reminded: &mut Table<Reminded>,
    timers: &mut Timers,
    notify: &mut Notify,
) -> Outcome {
    let due = timer.due.micros();
    let row = reminded.entry(timer.key.parse::<i64>()?)?;
    row.times += 1;
    row.last = due;
    if row.times % 2 == 1 {
        let again = Timestamp::from_micros(due + AGAIN).ok_or("too late")?;
        timers.set("remind", timer.key.clone(), again)?;
    }
    notify.send("reminded", &(&timer.key, due))?;
    Ok(())
}

rulemill_sdk::plugin!(watch, remind);

/// After how many microseconds a cart is remembered again.
pub(crate) const AGAIN: i64 = 50;
