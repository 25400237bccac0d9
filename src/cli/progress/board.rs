//! What is known of a run, from its events alone: each host, all of them, and what comes from upstream.
//!
//! Pure: time is given, nothing is drawn here.

use std::time::Instant;

use super::flow::{Flow, Left, left};
use crate::host::HostName;
use crate::plan::{Event, Progress};

/// The run so far.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// In the order in which they were first heard of, which is the user's.
    pub(super) members: Vec<Member>,
    /// What is fetched for all.
    pub(super) upstream: Option<Flow>,
    /// What concerns no single host and goes on now.
    pub(super) errand: Option<Task>,
    /// When the first event came.
    pub(super) began: Option<Instant>,
}

/// A host.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: HostName,
    pub(super) state: State,
    pub(super) flow: Option<Flow>,
}

/// What a host is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing was begun yet.
    Waiting,
    /// Something goes on.
    Busy(Task),
    /// The last thing was done, at this time.
    Done(Instant),
    /// The last thing failed, at this time.
    Failed(Instant),
}

/// Something that takes a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) what: String,
    pub(super) since: Instant,
}

/// All hosts that get bytes.
#[derive(Debug)]
pub(super) struct Fleet<'a> {
    pub(super) hosts: usize,
    /// The one host, if it is alone.
    pub(super) only: Option<&'a Member>,
    pub(super) done: u64,
    pub(super) total: u64,
    /// Bytes a second to all of them together.
    pub(super) rate: Option<f64>,
    pub(super) left: Left,
    /// Who will be the last, of those that still get bytes.
    pub(super) slowest: Option<&'a Member>,
}

impl Board {
    /// Something happened.
    pub(super) fn tell(&mut self, event: &Event, now: Instant) {
        self.began.get_or_insert(now);
        match &event.host {
            Some(host) => self.member(host).tell(&event.progress, now),
            None => self.tell_all(&event.progress, now),
        }
    }

    fn tell_all(&mut self, progress: &Progress, now: Instant) {
        match progress {
            Progress::Started { what } => self.errand = Some(Task { what: what.clone(), since: now }),
            Progress::Bytes { done, total } => pour(&mut self.upstream, (*done, *total), now),
            Progress::Done { .. } | Progress::Failed { .. } => self.errand = None,
            Progress::Warning { .. } => {}
        }
    }

    fn member(&mut self, host: &HostName) -> &mut Member {
        let position = self.members.iter().position(|member| member.name == *host).unwrap_or_else(|| {
            self.members.push(Member { name: host.clone(), state: State::Waiting, flow: None });
            self.members.len() - 1
        });
        &mut self.members[position]
    }

    /// All hosts that get bytes; `None` if none does.
    pub(super) fn fleet(&self, now: Instant) -> Option<Fleet<'_>> {
        let flows: Vec<(&Member, &Flow)> =
            self.members.iter().filter_map(|member| Some((member, member.flow.as_ref()?))).collect();
        let sum = |bytes: &dyn Fn(&Flow) -> u64| flows.iter().map(|(_, flow)| bytes(flow)).fold(0, u64::saturating_add);
        // What failed gets no more.
        let total = flows.iter().map(|(member, flow)| match member.state {
            State::Failed(_) => flow.done,
            _ => flow.total,
        });
        let together = |rate: &dyn Fn(&Flow) -> Option<f64>| {
            let rates: Vec<f64> = flows.iter().filter_map(|(_, flow)| rate(flow)).collect();
            (!rates.is_empty()).then(|| rates.iter().sum::<f64>())
        };
        let open: Vec<&Member> = flows.iter().map(|(member, _)| *member).filter(|member| member.is_open()).collect();
        (!flows.is_empty()).then(|| Fleet {
            hosts: flows.len(),
            only: flows.first().filter(|_| flows.len() == 1).map(|(member, _)| *member),
            done: sum(&|flow| flow.done),
            total: total.fold(0, u64::saturating_add),
            rate: together(&|flow| flow.rate(now)),
            left: self.fleet_left(&open, together(&|flow| flow.trend(now)), now),
            slowest: open.iter().copied().rev().max_by_key(|member| slowness(member.left(now))),
        })
    }

    /// By the slowest, but no sooner than all bytes can come at the rate of all, nor than upstream has sent its own.
    fn fleet_left(&self, open: &[&Member], trend: Option<f64>, now: Instant) -> Left {
        let lefts: Vec<Left> = open.iter().map(|member| member.left(now)).collect();
        if lefts.is_empty() {
            return Left::Nothing;
        }
        if lefts.iter().all(|left| *left == Left::Stalled) {
            return Left::Stalled;
        }
        let flows = || open.iter().filter_map(|member| member.flow.as_ref());
        let together = left(flows().map(Flow::remaining).fold(0, u64::saturating_add), trend);
        let upstream = self.upstream.as_ref().map(|flow| flow.left(now));
        let seconds = |left: &Left| if let Left::Seconds(seconds) = left { Some(*seconds) } else { None };
        let longest = lefts.iter().chain([&together]).chain(&upstream).filter_map(seconds).max();
        longest.map_or(Left::Unknown, Left::Seconds)
    }
}

/// Greater is slower: a stall first, then the longest.
pub(super) fn slowness(left: Left) -> (u8, u64) {
    match left {
        Left::Stalled => (3, 0),
        Left::Seconds(seconds) => (2, seconds),
        Left::Unknown => (1, 0),
        Left::Nothing => (0, 0),
    }
}

fn pour(flow: &mut Option<Flow>, (done, total): (u64, u64), now: Instant) {
    match flow {
        Some(flow) => flow.tell(done, total, now),
        None => *flow = Some(Flow::new(done, total, now)),
    }
}

impl Member {
    fn tell(&mut self, progress: &Progress, now: Instant) {
        match progress {
            Progress::Started { what } => self.state = State::Busy(Task { what: what.clone(), since: now }),
            Progress::Bytes { done, total } => pour(&mut self.flow, (*done, *total), now),
            Progress::Done { .. } => self.state = State::Done(now),
            Progress::Failed { .. } => self.state = State::Failed(now),
            Progress::Warning { .. } => {}
        }
    }

    /// Bytes are still to come, as far as is known: what has ended may begin again, and says so then.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Waiting | State::Busy(_)) && self.flow.as_ref().is_some_and(Flow::is_open)
    }

    pub(super) fn left(&self, now: Instant) -> Left {
        self.flow.as_ref().map_or(Left::Unknown, |flow| flow.left(now))
    }

    /// Bytes have come, and more will.
    pub(super) fn is_flowing(&self) -> bool {
        self.is_open() && self.flow.as_ref().is_some_and(|flow| flow.done > 0)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    pub(in super::super) fn on(host: &str, progress: Progress) -> Event {
        Event { host: Some(HostName::new(host)), progress }
    }

    pub(in super::super) fn overall(progress: Progress) -> Event {
        Event { host: None, progress }
    }

    pub(in super::super) fn started(what: &str) -> Progress {
        Progress::Started { what: what.into() }
    }

    pub(in super::super) fn done(what: &str) -> Progress {
        Progress::Done { what: what.into() }
    }

    pub(in super::super) fn failed(why: &str) -> Progress {
        Progress::Failed { why: why.into() }
    }

    pub(in super::super) fn mega(done: u64, total: u64) -> Progress {
        Progress::Bytes { done: done * 1_000_000, total: total * 1_000_000 }
    }

    /// Hosts that got so many megabytes a second for ten seconds, each of 100 in all.
    pub(in super::super) fn running(speeds: &[u64]) -> (Board, Instant) {
        let (mut board, mut now) = (Board::default(), Instant::now());
        let name = |n: usize| format!("h{}", n + 1);
        (0..speeds.len()).for_each(|n| board.tell(&on(&name(n), started("pulling rancher/k3s:v1.36.2-k3s1")), now));
        for second in 0..=10 {
            now += Duration::from_secs(u64::from(second > 0));
            for (n, speed) in speeds.iter().enumerate() {
                board.tell(&on(&name(n), mega(second * speed, 100)), now);
            }
        }
        (board, now)
    }

    #[test]
    fn the_fleet_is_the_sum_of_its_hosts_and_ends_with_its_slowest() {
        let (board, now) = running(&[8, 2, 5]);
        let fleet = board.fleet(now).unwrap();
        assert_eq!((fleet.hosts, fleet.done, fleet.total), (3, 150_000_000, 300_000_000));
        assert_eq!(fleet.rate.map(|rate| (rate / 1e5).round()), Some(150.0));
        assert_eq!(fleet.left, Left::Seconds(40), "h2: 80 MB at 2 MB/s");
        assert_eq!(fleet.slowest.unwrap().name.as_str(), "h2");
    }

    #[test]
    fn hosts_that_wait_for_their_turn_are_in_the_estimate() {
        let (mut board, now) = running(&[8]);
        for host in ["h2", "h3"] {
            board.tell(&on(host, mega(0, 100)), now);
        }
        assert_eq!(board.fleet(now).unwrap().left, Left::Seconds(28), "220 MB at 8 MB/s");
    }

    #[test]
    fn nobody_is_sooner_than_upstream() {
        let (mut board, mut now) = running(&[9]);
        for second in 0..=5 {
            now += Duration::from_secs(u64::from(second > 0));
            board.tell(&overall(mega(second, 100)), now);
            board.tell(&on("h1", mega(90 + second / 5, 100)), now);
        }
        assert!(
            matches!(board.fleet(now).unwrap().left, Left::Seconds(95..=96)),
            "9 MB at a fifth of a MB/s take less"
        );
    }

    #[test]
    fn a_stalled_host_is_the_slowest_and_all_of_them_stall_the_fleet() {
        let (mut board, now) = running(&[8, 2]);
        let later = now + Duration::from_secs(11);
        board.tell(&on("h2", mega(21, 100)), later);
        let fleet = board.fleet(later).unwrap();
        assert_eq!(fleet.slowest.unwrap().name.as_str(), "h1");
        assert!(matches!(fleet.left, Left::Seconds(_)), "{:?}", fleet.left);
        assert_eq!(board.fleet(later + Duration::from_secs(11)).unwrap().left, Left::Stalled);
    }

    #[test]
    fn what_ended_takes_no_more_time_and_what_failed_gets_no_more_bytes() {
        let (mut board, now) = running(&[8, 2]);
        board.tell(&on("h2", failed("the disk is full")), now);
        let fleet = board.fleet(now).unwrap();
        assert_eq!((fleet.total, fleet.slowest.unwrap().name.as_str()), (120_000_000, "h1"));
        board.tell(&on("h1", done("pulled")), now);
        let fleet = board.fleet(now).unwrap();
        assert_eq!((fleet.left, fleet.slowest.is_none()), (Left::Nothing, true));
        board.tell(&on("h1", started("pulling the next")), now);
        assert!(board.fleet(now).unwrap().slowest.is_some(), "another one may follow");
    }

    #[test]
    fn without_bytes_there_is_no_fleet() {
        let mut board = Board::default();
        board.tell(&on("h1", started("connecting")), Instant::now());
        assert!(board.fleet(Instant::now()).is_none());
    }
}
