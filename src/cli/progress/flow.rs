//! Bytes on their way: how far, how fast, how much longer. Time is given, never asked for.

use std::time::{Duration, Instant};

use super::rate::{Memory, Rate};

/// The rate that is shown.
const SHOWN: Memory = Memory(5.0);

/// The rate that estimates are made of: a pause of some seconds must not double the time left.
const TREND: Memory = Memory(15.0);

/// No byte for so long is worth saying.
const STALLED: Duration = Duration::from_secs(10);

/// Beyond this an estimate says nothing.
const LONGEST: f64 = 100.0 * 3600.0;

/// How much longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// All bytes are there.
    Nothing,
    /// So many seconds, by the rate of now.
    Seconds(u64),
    /// It has begun, and no byte came for ten seconds.
    Stalled,
    /// Too early to tell.
    Unknown,
}

/// So many bytes at this rate.
pub(super) fn left(bytes: u64, rate: Option<f64>) -> Left {
    // Rounded up, but for what is no more than the error of a sum.
    match rate.map(|rate| (bytes as f64 / rate - 0.01).ceil().max(1.0)) {
        _ if bytes == 0 => Left::Nothing,
        Some(seconds) if seconds <= LONGEST => Left::Seconds(seconds as u64),
        _ => Left::Unknown,
    }
}

/// 0 to 100; 100 only if all bytes are there.
pub(super) fn percent(done: u64, total: u64) -> u64 {
    if done >= total { 100 } else { (u128::from(done) * 100 / u128::from(total)) as u64 }
}

/// Bytes of one host, or from upstream.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pub(super) done: u64,
    pub(super) total: u64,
    shown: Rate,
    trend: Rate,
    moved: Instant,
}

impl Flow {
    pub(super) fn new(done: u64, total: u64, now: Instant) -> Self {
        let [shown, trend] = [SHOWN, TREND].map(|memory| Rate::new(memory, done, now));
        Self { done, total, shown, trend, moved: now }
    }

    /// So many are done now; the total may have changed too.
    pub(super) fn tell(&mut self, done: u64, total: u64, now: Instant) {
        if done > self.done {
            self.moved = now;
        }
        self.shown.observe(done, now);
        self.trend.observe(done, now);
        (self.done, self.total) = (done, total);
    }

    /// Not all bytes are there.
    pub(super) fn is_open(&self) -> bool {
        self.done < self.total
    }

    pub(super) fn remaining(&self) -> u64 {
        self.total.saturating_sub(self.done)
    }

    /// See [`percent`].
    pub(super) fn percent(&self) -> u64 {
        percent(self.done, self.total)
    }

    /// Bytes a second.
    pub(super) fn rate(&self, now: Instant) -> Option<f64> {
        self.shown.per_second(now)
    }

    /// Bytes a second, for estimates.
    pub(super) fn trend(&self, now: Instant) -> Option<f64> {
        self.trend.per_second(now)
    }

    pub(super) fn left(&self, now: Instant) -> Left {
        // What has not begun waits for its turn: it is not stalled.
        if self.is_open() && self.done > 0 && now.saturating_duration_since(self.moved) >= STALLED {
            return Left::Stalled;
        }
        left(self.remaining(), self.trend(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flow that got `each` bytes every half second, for `seconds`.
    fn flowing(each: u64, seconds: u64, total: u64) -> (Flow, Instant) {
        let mut now = Instant::now();
        let mut flow = Flow::new(0, total, now);
        for n in 1..=seconds * 2 {
            now += Duration::from_millis(500);
            flow.tell(each * n, total, now);
        }
        (flow, now)
    }

    #[test]
    fn the_estimate_is_what_remains_at_the_rate_of_now() {
        let (flow, now) = flowing(5_000_000, 10, 200_000_000);
        assert_eq!((flow.remaining(), flow.percent(), flow.left(now)), (100_000_000, 50, Left::Seconds(10)));
    }

    #[test]
    fn the_estimate_does_not_jump_when_bytes_come_in_lumps() {
        let mut now = Instant::now();
        let (mut flow, mut done, mut told) = (Flow::new(0, 1_000_000_000, now), 0, Vec::new());
        for n in 0..100_u64 {
            now += Duration::from_millis(500);
            done += [9, 1, 4, 0, 11, 5][n as usize % 6] * 1_000_000;
            flow.tell(done, 1_000_000_000, now);
            if let (Left::Seconds(seconds), true) = (flow.left(now), n > 10) {
                told.push(seconds);
            }
        }
        let jump = told.windows(2).map(|pair| pair[0].abs_diff(pair[1]) as f64 / pair[0] as f64).fold(0.0, f64::max);
        assert!(told.len() == 89 && jump < 0.2, "{jump}: {told:?}");
    }

    #[test]
    fn a_pause_does_not_double_the_estimate() {
        let (flow, now) = flowing(5_000_000, 30, 600_000_000);
        let Left::Seconds(seconds) = flow.left(now + Duration::from_secs(9)) else { panic!("it has not stalled yet") };
        assert!((30..60).contains(&seconds), "{seconds}");
    }

    #[test]
    fn ten_seconds_without_a_byte_are_a_stall_and_one_byte_ends_it() {
        let (mut flow, now) = flowing(5_000_000, 10, 200_000_000);
        let after = |seconds| now + Duration::from_secs(seconds);
        flow.tell(flow.done, 200_000_000, after(9));
        assert!(matches!(flow.left(after(9)), Left::Seconds(_)));
        assert_eq!(flow.left(after(10)), Left::Stalled);
        flow.tell(flow.done + 1, 200_000_000, after(12));
        assert_ne!(flow.left(after(12)), Left::Stalled);
    }

    #[test]
    fn what_has_not_begun_or_has_all_its_bytes_is_not_stalled() {
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        assert_eq!(Flow::new(0, 100, now).left(later), Left::Unknown);
        assert_eq!(Flow::new(100, 100, now).left(later), Left::Nothing);
        assert_eq!(Flow::new(100, 90, now).left(later), Left::Nothing, "a total may shrink");
    }

    #[test]
    fn figures_at_their_ends_are_harmless() {
        let now = Instant::now();
        let later = now + Duration::from_secs(2);
        let mut flow = Flow::new(0, u64::MAX, now);
        flow.tell(u64::MAX - 1, u64::MAX, later);
        assert_eq!((flow.percent(), flow.left(later)), (99, Left::Seconds(1)));
        flow.tell(0, 0, later);
        assert_eq!((flow.percent(), flow.left(later)), (100, Left::Nothing));
        assert_eq!(left(1, Some(0.0)), Left::Unknown);
        assert_eq!(left(u64::MAX, Some(1.0)), Left::Unknown);
    }
}
