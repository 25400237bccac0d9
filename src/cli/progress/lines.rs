//! Plain lines, where nothing can be drawn: a line for everything that begins or ends, and one for the bytes of all
//! hosts together now and then.

use std::time::{Duration, Instant};

use super::board::{Board, Fleet, Member};
use super::flow::{Flow, Left};
use super::words;
use crate::cli::output::bytes_of;
use crate::plan::{Event, Progress};

/// Bytes are told no more often than this.
const QUIET: Duration = Duration::from_secs(5);

/// What was told so far. Pure: the caller prints.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) board: Board,
    /// When bytes were told last, or came first.
    told: Option<Instant>,
    /// How many had come then, and whether it was a stall.
    then: (u64, bool),
}

impl Lines {
    /// The line that an event deserves.
    pub(super) fn tell(&mut self, event: &Event, now: Instant) -> Option<String> {
        self.board.tell(event, now);
        match event.progress {
            Progress::Bytes { .. } => self.bytes(now),
            _ => words::said(event),
        }
    }

    fn bytes(&mut self, now: Instant) -> Option<String> {
        let told = *self.told.get_or_insert(now);
        if now.saturating_duration_since(told) < QUIET {
            return None;
        }
        let fleet = self.board.fleet(now);
        let open = self.board.upstream.as_ref().is_some_and(Flow::is_open);
        if !open && fleet.as_ref().is_some_and(|fleet| fleet.slowest.is_none()) {
            // Every end has told its own.
            return None;
        }
        let stalled = fleet.as_ref().is_some_and(|fleet| fleet.left == Left::Stalled);
        let fetched = self.board.upstream.as_ref().map_or(0, |flow| flow.done);
        let bytes = fleet.as_ref().map_or(0, |fleet| fleet.done).saturating_add(fetched);
        // Senders say so at every tick, whether bytes came or not.
        if (bytes, stalled) == self.then || (bytes == self.then.0 && !stalled) {
            return None;
        }
        let line = match &fleet {
            Some(fleet) => sent(fleet, self.board.upstream.as_ref(), now),
            None => self.board.upstream.as_ref().map(|flow| fetched_alone(flow, now)),
        };
        (self.told, self.then) = (Some(now), (bytes, stalled));
        line
    }
}

/// `12 hosts: 1.21 of 1.49 GB sent, 43.1 MB/s, 7 s left; slowest h7: 45 %`
fn sent(fleet: &Fleet<'_>, upstream: Option<&Flow>, now: Instant) -> Option<String> {
    let who = match fleet.only {
        Some(member) => member.name.to_string(),
        None => words::hosts(fleet.hosts),
    };
    let mut line = format!("{who}: {} sent", bytes_of(fleet.done, fleet.total));
    line += &pace(fleet.rate, fleet.left);
    if let (None, Some(slowest), true) = (fleet.only, fleet.slowest, fleet.left != Left::Stalled) {
        line += &format!("; slowest {}: {}", slowest.name, percent(slowest, now)?);
    }
    if let Some(flow) = upstream.filter(|flow| flow.is_open()) {
        line += &format!("; fetched {}", bytes_of(flow.done, flow.total));
    }
    Some(line)
}

fn percent(member: &Member, now: Instant) -> Option<String> {
    let stalled = if member.left(now) == Left::Stalled { ", stalled" } else { "" };
    Some(format!("{} %{stalled}", member.flow.as_ref()?.percent()))
}

fn fetched_alone(flow: &Flow, now: Instant) -> String {
    format!("fetched {} from the registry{}", bytes_of(flow.done, flow.total), pace(flow.rate(now), flow.left(now)))
}

/// `, 43.1 MB/s, 7 s left`, or `, stalled`
fn pace(rate: Option<f64>, left: Left) -> String {
    let rate = rate.filter(|_| !matches!(left, Left::Stalled | Left::Nothing)).map(words::rate);
    [rate, words::left(left)].into_iter().flatten().map(|word| format!(", {word}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::{done, failed, mega, on, overall, started};
    use super::*;

    /// What is told in a run of so many seconds, and when; every host is told of twice a second.
    fn run(hosts: u64, seconds: u64, megabytes: impl Fn(u64, u64) -> u64) -> Vec<(u64, String)> {
        let (mut lines, began) = (Lines::default(), Instant::now());
        let mut told = Vec::new();
        for half in 0..=seconds * 2 {
            let now = began + Duration::from_millis(half * 500);
            for host in 1..=hosts {
                let event = on(&format!("h{host}"), mega(megabytes(host, half), 400));
                told.extend(lines.tell(&event, now).map(|line| (half / 2, line)));
            }
        }
        told
    }

    #[test]
    fn sixteen_hosts_are_one_line_each_five_seconds() {
        let told = run(16, 21, |host, half| half * if host == 7 { 1 } else { 3 });
        assert_eq!(told.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [5, 10, 15, 20]);
        assert_eq!(told[3].1, "16 hosts: 1.80 of 6.40 GB sent, 92.0 MB/s, 4 min left; slowest h7: 9 %");
    }

    #[test]
    fn a_host_alone_has_its_own_line() {
        let told = run(1, 11, |_, half| half * 10);
        assert_eq!(told[1], (10, "h1: 200.0 of 400.0 MB sent, 20.0 MB/s, 10 s left".into()));
    }

    #[test]
    fn what_does_not_move_is_told_once_as_a_stall() {
        let told = run(2, 60, |_, half| half.min(19));
        let lines: Vec<&str> = told.iter().map(|(_, line)| line.as_str()).collect();
        assert_eq!(told.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [5, 10, 19], "{lines:?}");
        assert_eq!(lines[2], "2 hosts: 38.0 of 800.0 MB sent, stalled");
    }

    #[test]
    fn what_comes_from_upstream_is_told_until_all_is_there() {
        let (mut lines, began) = (Lines::default(), Instant::now());
        let mut at = |seconds, event: Event| lines.tell(&event, began + Duration::from_secs(seconds));
        assert_eq!(at(0, overall(mega(0, 300))), None);
        assert_eq!(
            at(5, overall(mega(50, 300))).unwrap(),
            "fetched 50.0 of 300.0 MB from the registry, 10.0 MB/s, 25 s left"
        );
        assert_eq!(at(6, on("h1", mega(0, 300))), None);
        assert!(at(10, on("h1", mega(40, 300))).unwrap().ends_with("; fetched 50.0 of 300.0 MB"));
        assert_eq!(at(15, overall(mega(300, 300))).unwrap().matches("fetched").count(), 0);
        assert_eq!(at(20, on("h1", mega(300, 300))), None, "what has all its bytes tells its end");
    }

    #[test]
    fn beginnings_and_ends_are_told_at_once_and_always() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let mut tell = |event: Event| lines.tell(&event, now).unwrap();
        assert_eq!(tell(on("h1", started("pulling a:1"))), "h1: pulling a:1");
        assert_eq!(tell(on("h1", done("a:1 pulled"))), "h1: a:1 pulled");
        assert_eq!(tell(on("h2", failed("no route"))), "h2: failed: no route");
        assert_eq!(tell(overall(Progress::Warning { what: "slow".into() })), "slow");
    }
}
