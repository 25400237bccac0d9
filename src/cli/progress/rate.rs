//! How fast bytes flow, smoothed so that people can read it. Time is given, never asked for.

use std::time::{Duration, Instant};

/// How long bytes count: those of so many seconds ago weigh a third (1/e) of those of now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Memory(pub(super) f64);

/// A rate of less time than this is a guess.
const SETTLED: Duration = Duration::from_secs(1);

/// Senders tell bytes in steps. Only a silence longer than a step is one, or the rate would sag between any two of them.
const STEP: Duration = Duration::from_secs(1);

/// A decaying average of bytes a second: recent bytes over recent seconds, both fading alike. Dividing by the seconds
/// that were really seen makes it right from the start instead of creeping up from zero.
#[derive(Debug, Clone)]
pub(super) struct Rate {
    memory: Memory,
    began: Instant,
    at: Instant,
    done: u64,
    bytes: f64,
    seconds: f64,
}

impl Rate {
    /// Begins to watch; the bytes that are `done` already do not count.
    pub(super) fn new(memory: Memory, done: u64, now: Instant) -> Self {
        Self { memory, began: now, at: now, done, bytes: 0.0, seconds: 0.0 }
    }

    /// So many bytes are done in all. Fewer than before is a new beginning, not a negative rate.
    pub(super) fn observe(&mut self, done: u64, now: Instant) {
        let new = done.saturating_sub(self.done) as f64;
        let passed = now.saturating_duration_since(self.at);
        let (faded, gained) = self.memory.fade(passed);
        // They came evenly since the last time, and have faded evenly.
        let kept = if passed.is_zero() { 1.0 } else { gained / passed.as_secs_f64() };
        self.bytes = self.bytes * faded + new * kept;
        self.seconds = self.seconds * faded + gained;
        (self.done, self.at) = (done, self.at.max(now));
    }

    /// Bytes a second; `None` while too little was seen.
    pub(super) fn per_second(&self, now: Instant) -> Option<f64> {
        if now.saturating_duration_since(self.began) < SETTLED {
            return None;
        }
        let silence = now.saturating_duration_since(self.at).saturating_sub(STEP);
        let (faded, gained) = self.memory.fade(silence);
        let seconds = self.seconds * faded + gained;
        (seconds > 0.0).then(|| self.bytes * faded / seconds)
    }
}

impl Memory {
    /// What is left of the old after `passed`, and how many seconds the new ones weigh.
    fn fade(self, passed: Duration) -> (f64, f64) {
        let faded = (-passed.as_secs_f64() / self.0).exp();
        (faded, self.0 * (1.0 - faded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: Memory = Memory(5.0);

    /// Bytes for each step of `milliseconds`, from the beginning; the rate after each.
    fn rates(milliseconds: u64, steps: &[u64]) -> Vec<Option<f64>> {
        let (mut now, mut done) = (Instant::now(), 0);
        let mut rate = Rate::new(FIVE, 0, now);
        let step = |bytes: &u64| {
            (now, done) = (now + Duration::from_millis(milliseconds), done + bytes);
            rate.observe(done, now);
            rate.per_second(now)
        };
        steps.iter().map(step).collect()
    }

    fn close(rate: Option<f64>, to: f64) -> bool {
        rate.is_some_and(|rate| (rate - to).abs() < to * 0.01)
    }

    #[test]
    fn a_steady_flow_has_its_rate_after_a_second_and_keeps_it() {
        let steady = rates(250, &[250_000; 80]);
        assert_eq!(steady[..3], [None; 3]);
        assert!(steady[3..].iter().all(|rate| close(*rate, 1e6)), "{steady:?}");
    }

    #[test]
    fn bursts_are_smoothed() {
        let bursts: Vec<u64> = (0..100).map(|n| if n % 2 == 0 { 2_000_000 } else { 0 }).collect();
        let told: Vec<f64> = rates(500, &bursts).into_iter().flatten().skip(40).collect();
        assert!(told.iter().all(|rate| (1.75e6..2.25e6).contains(rate)), "{told:?}");
    }

    #[test]
    fn a_new_rate_is_most_of_the_truth_after_five_seconds() {
        let told = rates(1_000, &[[1_000_000; 30], [9_000_000; 30]].concat());
        let after = |seconds: usize| told[29 + seconds].unwrap();
        assert!((2e6..3e6).contains(&after(1)), "{}", after(1));
        assert!((5.5e6..7e6).contains(&after(5)), "{}", after(5));
        assert!(after(20) > 8.7e6);
    }

    #[test]
    fn silence_counts_once_it_is_longer_than_a_step() {
        let began = Instant::now();
        let mut rate = Rate::new(FIVE, 0, began);
        let at = |milliseconds| began + Duration::from_millis(milliseconds);
        (1..=20).for_each(|n| rate.observe(n * 1_000_000, at(n * 1_000)));
        assert!(close(rate.per_second(at(20_900)), 1e6), "it does not sag between two steps");
        assert!(rate.per_second(at(26_000)).unwrap() < 0.4e6);
        assert!(rate.per_second(at(60_000)).unwrap() < 1e3);
    }

    #[test]
    fn what_was_there_before_and_a_new_beginning_are_no_rate() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut rate = Rate::new(FIVE, 1 << 40, began);
        rate.observe(1 << 40, at(2));
        assert_eq!(rate.per_second(at(2)), Some(0.0));
        rate.observe(5, at(3));
        assert_eq!(rate.per_second(at(3)), Some(0.0));
    }

    #[test]
    fn bytes_of_the_same_instant_count() {
        let began = Instant::now();
        let mut rate = Rate::new(FIVE, 0, began);
        rate.observe(1_000_000, began);
        rate.observe(1_000_000, began + Duration::from_secs(1));
        assert!(rate.per_second(began + Duration::from_secs(1)).is_some_and(|rate| rate > 0.8e6));
        assert_eq!(Rate::new(FIVE, 0, began).per_second(began), None);
    }
}
