//! Waiting: for a condition, until a deadline.

use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Looks until `condition` gives something. Panics with `what` at the deadline.
pub(crate) fn until<T>(within: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "after {within:?} still not: {what}");
        std::thread::sleep(LOOK);
    }
}
