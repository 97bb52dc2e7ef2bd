//! Waiting for a state instead of for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long anything may take. Far more than it does, as machines that test are busy.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// How long to leave whatever is asked alone between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks again and again until `look` finds something.
///
/// # Panics
/// If nothing is found before the deadline.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited for {what} for {DEADLINE:?}"
        );
        thread::sleep(PAUSE);
    }
}
