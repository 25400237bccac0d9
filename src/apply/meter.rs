//! How much of all that a host will be sent has been sent, and how fast its link is.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use crate::host::HostName;
use crate::plan::{Events, Progress, Step};

/// How often progress is told.
const TICK: Duration = Duration::from_millis(250);
/// What fills buffers on the way before the link has its own pace.
const RUN_UP: Duration = Duration::from_secs(2);
/// What is shorter says nothing about a link.
const LEAST: Duration = Duration::from_secs(1);
/// So is what is smaller.
const LEAST_BYTES: u64 = 2 << 20;

/// One host's count over all the steps of a plan, so that its progress does not begin anew with every image.
pub(super) struct Meter<'a> {
    events: &'a Events,
    host: &'a HostName,
    total: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bytes of the steps that are done.
    before: u64,
    pace: Pace,
    /// The fastest step's, in bytes per second.
    rate: Option<f64>,
}

/// One step's bytes over time.
#[derive(Default)]
struct Pace {
    first: Option<Instant>,
    /// When the run-up was over, and how many bytes had been sent by then.
    from: Option<(Instant, u64)>,
    /// When bytes were last sent, and how many in all.
    last: Option<(Instant, u64)>,
}

impl Pace {
    fn seen(&mut self, now: Instant, bytes: u64) {
        if bytes == 0 || self.last.is_some_and(|(_, last)| last == bytes) {
            return;
        }
        let first = *self.first.get_or_insert(now);
        if self.from.is_none() && now.duration_since(first) >= RUN_UP {
            self.from = Some((now, bytes));
        }
        self.last = Some((now, bytes));
    }

    fn rate(&self) -> Option<f64> {
        let ((began, from), (ended, to)) = (self.from?, self.last?);
        let (time, bytes) = (ended.duration_since(began), to.saturating_sub(from));
        (time >= LEAST && bytes >= LEAST_BYTES).then(|| bytes as f64 / time.as_secs_f64())
    }
}

impl<'a> Meter<'a> {
    pub(super) fn new(events: &'a Events, host: &'a HostName, steps: &[&Step]) -> Self {
        let total = steps.iter().fold(0_u64, |sum, step| sum.saturating_add(step.action.travelling_bytes()));
        let meter = Self { events, host, total, state: Mutex::default() };
        if total > 0 {
            meter.show(0);
        }
        meter
    }

    /// Waits for what sends bytes of the present step, telling meanwhile how many they are.
    pub(super) async fn during<T>(&self, bytes: impl Fn() -> u64, sending: impl Future<Output = T>) -> T {
        let mut sending = std::pin::pin!(sending);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                done = &mut sending => return done,
                _ = ticks.tick() => self.show(bytes()),
            }
        }
    }

    /// Tells how much of the present step has been sent.
    fn show(&self, of_step: u64) {
        let mut state = self.state();
        state.pace.seen(Instant::now(), of_step);
        let done = state.before.saturating_add(of_step).min(self.total);
        self.events.on(self.host, Progress::Bytes { done, total: self.total });
    }

    /// A step is done: what was planned for it counts, whatever had to be repeated or was not asked for.
    pub(super) fn step_done(&self, step: &Step) {
        let bytes = step.action.travelling_bytes();
        let mut state = self.state();
        state.before = state.before.saturating_add(bytes);
        let pace = std::mem::take(&mut state.pace);
        state.rate = [state.rate, pace.rate()].into_iter().flatten().reduce(f64::max);
        drop(state);
        if bytes > 0 {
            self.show(0);
        }
    }

    /// Bytes per second to this host, if enough was sent to tell.
    pub(super) fn rate(&self) -> Option<f64> {
        self.state().rate
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_measured_after_its_run_up() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut pace = Pace::default();
        // 4 MB at once into buffers, then 1 MB a second; the engine unpacks for ten seconds at the end.
        for (seconds, megabytes) in [(0.0, 4.0), (1.0, 5.0), (2.0, 6.0), (4.0, 8.0), (6.0, 10.0), (16.0, 10.0)] {
            pace.seen(at(seconds), (megabytes * 1e6) as u64);
        }
        assert_eq!(pace.rate(), Some(1e6));
    }

    #[test]
    fn what_is_over_in_no_time_says_nothing() {
        let start = Instant::now();
        let mut pace = Pace::default();
        for (seconds, bytes) in [(0.0, 1), (2.0, 2), (2.5, 3)] {
            pace.seen(start + Duration::from_secs_f64(seconds), bytes);
        }
        assert_eq!(pace.rate(), None);
    }
}
