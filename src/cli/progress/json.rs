//! JSON events: one object a line, bytes no more than twice a second for each host, with their rate and the time left.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::flow::{Flow, Left};
use crate::host::HostName;
use crate::plan::{Event, Progress};

/// Bytes of one host are told this often at most. What was held back is told when the thing ends, so that a reader's
/// bar reaches its end: that makes two a second.
const PACE: Duration = Duration::from_secs(1);

/// What was told so far. Pure: the caller prints.
#[derive(Debug, Default)]
pub(super) struct Json {
    streams: BTreeMap<Option<HostName>, Stream>,
}

/// The bytes of one host, or from upstream.
#[derive(Debug)]
struct Stream {
    flow: Flow,
    /// When bytes were told last, and the time before that.
    told: [Option<Instant>; 2],
    held: Option<Event>,
}

#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    event: &'a Event,
    /// Bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<u64>,
}

impl Json {
    /// The lines that an event deserves.
    pub(super) fn tell(&mut self, event: &Event, now: Instant) -> Vec<String> {
        match event.progress {
            Progress::Bytes { done, total } => self.bytes(event, (done, total), now).into_iter().collect(),
            Progress::Done { .. } | Progress::Failed { .. } => {
                let held = self.streams.get_mut(&event.host).and_then(|stream| stream.last(now));
                held.into_iter().chain([line(event, None, None)]).collect()
            }
            _ => vec![line(event, None, None)],
        }
    }

    fn bytes(&mut self, event: &Event, (done, total): (u64, u64), now: Instant) -> Option<String> {
        let stream = self.streams.entry(event.host.clone()).or_insert_with(|| Stream {
            flow: Flow::new(done, total, now),
            told: [None; 2],
            held: None,
        });
        stream.flow.tell(done, total, now);
        stream.held = Some(event.clone());
        let due = stream.told[0].is_none_or(|told| now.saturating_duration_since(told) >= PACE);
        due.then(|| stream.release(now)).flatten()
    }
}

impl Stream {
    fn release(&mut self, now: Instant) -> Option<String> {
        let held = self.held.take()?;
        self.told = [Some(now), self.told[0]];
        let rate = self.flow.rate(now).map(|rate| rate as u64);
        let seconds = match self.flow.left(now) {
            Left::Seconds(seconds) => Some(seconds),
            Left::Nothing => Some(0),
            Left::Stalled | Left::Unknown => None,
        };
        Some(line(&held, rate, seconds))
    }

    /// What is held back, if a second line is allowed in this second.
    fn last(&mut self, now: Instant) -> Option<String> {
        let allowed = self.told[1].is_none_or(|told| now.saturating_duration_since(told) >= PACE);
        allowed.then(|| self.release(now)).flatten()
    }
}

fn line(event: &Event, rate: Option<u64>, seconds_left: Option<u64>) -> String {
    serde_json::to_string(&Told { event, rate, seconds_left }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::{done, mega, on, overall, started};
    use super::*;

    #[test]
    fn bytes_have_their_rate_and_the_time_left_once_they_are_known() {
        let (mut json, began) = (Json::default(), Instant::now());
        let mut at = |seconds, event: Event| json.tell(&event, began + Duration::from_secs(seconds));
        assert_eq!(
            at(0, on("h1", started("pulling a:1"))),
            [r#"{"host":"h1","event":"started","what":"pulling a:1"}"#]
        );
        assert_eq!(at(0, on("h1", mega(0, 100))), [r#"{"host":"h1","event":"bytes","done":0,"total":100000000}"#]);
        assert_eq!(
            at(2, on("h1", mega(20, 100))),
            [r#"{"host":"h1","event":"bytes","done":20000000,"total":100000000,"rate":10000000,"seconds_left":8}"#]
        );
        let stalled = at(60, on("h1", mega(20, 100)));
        assert!(!stalled[0].contains("seconds_left"), "{stalled:?}");
        assert_eq!(at(60, overall(mega(1, 2))), [r#"{"event":"bytes","done":1000000,"total":2000000}"#]);
    }

    #[test]
    fn no_host_is_told_of_more_than_twice_a_second_and_its_last_bytes_are_told() {
        let (mut json, began) = (Json::default(), Instant::now());
        let mut told: Vec<(u64, String)> = Vec::new();
        for tick in 0..100_u64 {
            let now = began + Duration::from_millis(tick * 70);
            let mut tell = |event| told.extend(json.tell(&event, now).into_iter().map(|line| (tick * 70, line)));
            tell(on("h1", mega(tick, 100)));
            if tick % 10 == 3 {
                tell(on("h1", done("one of them pulled")));
            }
        }
        let bytes: Vec<&(u64, String)> = told.iter().filter(|(_, line)| line.contains("bytes")).collect();
        assert!(bytes.windows(3).all(|three| three[2].0 - three[0].0 >= 1_000), "{bytes:?}");
        assert!(bytes.len() > 7, "{bytes:?}");
        let ends: Vec<usize> = (0..told.len()).filter(|n| told[*n].1.contains("done\",\"what")).collect();
        assert_eq!(ends.len(), 10);
        assert!(told[ends[0] - 1].1.contains("\"done\":3000000,"), "the last bytes before the end: {told:?}");
    }
}
