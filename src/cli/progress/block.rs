//! What a terminal shows below the lines that stay: a row a host, what does not fit in one sentence, all together.
//!
//! Pure: the terminal's size and the time are given.

use std::time::{Duration, Instant};

use super::board::{Board, Fleet, Member, State, slowness};
use super::flow::{Left, percent};
use super::row::{Ink, Layout};
use super::words;
use crate::cli::output::bytes_of;
use crate::host::HostName;

/// Rows change places no more often than this.
const STEADY: Duration = Duration::from_secs(3);

/// What has ended is still shown for so long, because the next thing often begins at once.
const LINGER: Duration = Duration::from_secs(1);

/// A terminal's columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// Who is shown where not all can be, and since when.
#[derive(Debug, Default)]
pub(super) struct Block {
    shown: Vec<HostName>,
    chosen: Option<Instant>,
}

impl Block {
    /// The lines to show now; none if nothing goes on.
    pub(super) fn lines(&mut self, board: &Board, (size, ink): (Size, Ink), now: Instant) -> Vec<String> {
        // The last column stays free: some terminals wrap as soon as it is written.
        let width = size.columns.saturating_sub(1);
        let present: Vec<&Member> = board.members.iter().filter(|member| is_present(member, now)).collect();
        // A third is left to the lines that stay.
        let slots = (size.rows * 2 / 3).max(1);
        let (shown, hidden) = if present.len() <= slots {
            (present, Vec::new())
        } else {
            self.choose(&present, slots, now);
            let is_shown = |member: &&Member| self.shown.contains(&member.name);
            board.members.iter().partition(is_shown)
        };
        let layout = Layout::new(&shown, width);
        let mut lines: Vec<String> = shown.iter().map(|member| layout.row(member, ink, now)).collect();
        if !hidden.is_empty() {
            lines.push(ink.faint(&words::fit(&summary(&hidden), width)));
        }
        if !lines.is_empty() || board.errand.is_some() || board.upstream.as_ref().is_some_and(|flow| flow.is_open()) {
            lines.extend(overall(board, width, now).map(|line| ink.bold(&line)));
        }
        lines
    }

    /// The slowest of those that get bytes, then the others that are at something. Once chosen they stay, unless one
    /// of them ended or some time has passed: rows that change places cannot be read.
    fn choose(&mut self, present: &[&Member], slots: usize, now: Instant) {
        let stays = |name: &HostName| present.iter().any(|member| member.name == *name);
        let fresh = self.chosen.is_some_and(|chosen| now.saturating_duration_since(chosen) < STEADY);
        if fresh && self.shown.len() == slots && self.shown.iter().all(stays) {
            return;
        }
        let mut ranked = present.to_vec();
        ranked.sort_by_key(|member| std::cmp::Reverse((rank(member), slowness(member.left(now)))));
        self.shown = ranked.into_iter().take(slots).map(|member| member.name.clone()).collect();
        self.chosen = Some(now);
    }
}

fn rank(member: &Member) -> u8 {
    match member.state {
        _ if member.is_flowing() => 3,
        State::Busy(_) if !is_queued(member) => 2,
        State::Busy(_) | State::Waiting => 1,
        State::Done(_) | State::Failed(_) => 0,
    }
}

fn is_present(member: &Member, now: Instant) -> bool {
    match member.state {
        State::Done(at) | State::Failed(at) => now.saturating_duration_since(at) < LINGER,
        State::Busy(_) => true,
        State::Waiting => member.flow.is_some(),
    }
}

/// Bytes will come, none has.
fn is_queued(member: &Member) -> bool {
    member.is_open() && !member.is_flowing()
}

/// `+34 more: 20 done, 14 waiting`
fn summary(hidden: &[&Member]) -> String {
    let kind = |member: &&Member| match member.state {
        State::Failed(_) => "failed",
        State::Done(_) => "done",
        State::Waiting => "waiting",
        State::Busy(_) if is_queued(member) => "waiting",
        State::Busy(_) => "at work",
    };
    let counted = |name: &str| Some(hidden.iter().filter(|member| kind(member) == name).count()).filter(|n| *n > 0);
    let parts = ["failed", "done", "at work", "waiting"].into_iter().filter_map(|name| Some((counted(name)?, name)));
    let parts: Vec<String> = parts.map(|(count, name)| format!("{count} {name}")).collect();
    format!("+{} more: {}", hidden.len(), parts.join(", "))
}

/// The longest form that fits; `None` if there is nothing to say of all.
fn overall(board: &Board, width: usize, now: Instant) -> Option<String> {
    let forms = forms(board, now);
    let fitting = forms.iter().find(|form| words::columns(form) <= width);
    fitting.cloned().or_else(|| forms.last().map(|form| words::fit(form, width)))
}

/// `fetched 312.0 of 374.9 MB from the registry, sent 1.21 of 1.49 GB to 12 hosts, 43.1 MB/s, 7 s left, 0:35 so far`,
/// then shorter ones.
fn forms(board: &Board, now: Instant) -> Vec<String> {
    let time = board.began.map(|began| words::clock(now.saturating_duration_since(began)));
    let so_far = time.as_ref().map(|time| format!("{time} so far"));
    let errand = board.errand.as_ref().map(|task| words::clean(&task.what));
    let fetched = board.upstream.as_ref().map(|flow| format!("fetched {}", bytes_of(flow.done, flow.total)));
    let part = board.upstream.as_ref().map(|flow| format!("fetched {} %", flow.percent()));
    let from = fetched.as_ref().map(|fetched| format!("{fetched} from the registry"));
    let upstream = board.upstream.as_ref();
    let fleet = board.fleet(now);
    let flows = upstream.is_some_and(|flow| flow.is_open()) || fleet.as_ref().is_some_and(|all| all.slowest.is_some());
    if let (Some(_), false) = (&errand, flows) {
        return vec![joined([errand.clone(), so_far]), joined([errand])];
    }
    let Some(fleet) = fleet else {
        let rate = upstream.and_then(|flow| flow.rate(now)).map(words::rate);
        let left = upstream.and_then(|flow| words::left(flow.left(now)));
        let forms = [joined([from, rate.clone(), left.clone(), so_far]), joined([fetched.clone(), rate, left])];
        return forms.into_iter().filter(|_| fetched.is_some()).collect();
    };
    let sent = format!("sent {}", bytes_of(fleet.done, fleet.total));
    let to = Some(format!("{sent} to {}", words::hosts(fleet.hosts)));
    let (rate, left) = (pace(&fleet), words::left(fleet.left));
    vec![
        joined([from, to.clone(), rate.clone(), left.clone(), so_far.clone()]),
        joined([fetched.clone(), to.clone(), rate.clone(), left.clone(), so_far]),
        joined([part.clone(), to.clone(), rate.clone(), left.clone(), time]),
        joined([part, to.clone(), rate.clone(), left.clone()]),
        joined([to, rate.clone(), left.clone()]),
        joined([Some(sent), left.clone()]),
        joined([Some(format!("{} %", percent(fleet.done, fleet.total))), left]),
    ]
}

/// A rate only while something flows.
fn pace(fleet: &Fleet<'_>) -> Option<String> {
    let flows = fleet.slowest.is_some() && fleet.left != Left::Stalled;
    fleet.rate.filter(|_| flows).map(words::rate)
}

fn joined<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::{done, failed, mega, on, overall as all, running, started};
    use super::*;

    fn lines(board: &Board, columns: usize, rows: usize, now: Instant) -> Vec<String> {
        Block::default().lines(board, (Size { columns, rows }, Ink::Plain), now)
    }

    /// Fifty hosts of which some are done, some get bytes and the others wait.
    fn fifty() -> (Board, Instant) {
        let speeds: Vec<u64> = (1..=16).map(|n| n % 9 + 1).collect();
        let (mut board, now) = running(&speeds);
        for n in 17..=50 {
            board.tell(&on(&format!("h{n}"), started("pulling rancher/k3s:v1.36.2-k3s1")), now);
            board.tell(&on(&format!("h{n}"), mega(0, 100)), now);
        }
        (17..=36).for_each(|n| board.tell(&on(&format!("h{n}"), done("pulled")), now));
        (board, now + Duration::from_secs(1))
    }

    #[test]
    fn fifty_hosts_fit_on_a_small_screen() {
        let (board, now) = fifty();
        let told = lines(&board, 100, 24, now);
        assert_eq!(told.len(), 18, "{told:#?}");
        assert_eq!(told[16], "+34 more: 20 done, 14 waiting");
        assert!(told[..16].iter().all(|line| line.contains("MB/s")), "those that get bytes: {told:#?}");
        assert!(told[17].contains(" of 5.00 GB to 50 hosts, ") && told[17].ends_with(" so far"), "{}", told[17]);
    }

    #[test]
    fn of_too_many_the_slowest_are_shown_and_keep_their_places() {
        let (mut board, now) = running(&[9, 1, 8, 2, 7, 3]);
        let mut block = Block::default();
        let names = |block: &mut Block, board: &Board, now| -> Vec<String> {
            let lines = block.lines(board, (Size { columns: 100, rows: 5 }, Ink::Plain), now);
            lines[..3].iter().map(|line| line[..2].to_string()).collect()
        };
        assert_eq!(names(&mut block, &board, now), ["h2", "h4", "h6"]);
        let later = now + Duration::from_secs(2);
        board.tell(&on("h2", mega(95, 100)), later);
        assert_eq!(names(&mut block, &board, later), ["h2", "h4", "h6"], "not yet");
        let later = now + Duration::from_secs(3);
        assert_eq!(names(&mut block, &board, later), ["h4", "h5", "h6"]);
        board.tell(&on("h4", failed("no space left")), later);
        let gone = later + LINGER;
        assert!(!names(&mut block, &board, gone).contains(&"h4".to_string()), "who ended makes room at once");
    }

    #[test]
    fn the_overall_line_is_as_long_as_there_is_room_for() {
        let (mut board, now) = running(&[8, 2]);
        board.tell(&all(mega(90, 100)), now);
        let last = |columns| lines(&board, columns, 24, now).pop().unwrap();
        assert_eq!(
            [120, 101, 90, 80, 72, 60, 40, 24, 10].map(last),
            [
                "fetched 90.0 of 100.0 MB from the registry, sent 100.0 of 200.0 MB to 2 hosts, 10.0 MB/s, 40 s left, 0:10 so far",
                "fetched 90.0 of 100.0 MB, sent 100.0 of 200.0 MB to 2 hosts, 10.0 MB/s, 40 s left, 0:10 so far",
                "fetched 90 %, sent 100.0 of 200.0 MB to 2 hosts, 10.0 MB/s, 40 s left, 0:10",
                "fetched 90 %, sent 100.0 of 200.0 MB to 2 hosts, 10.0 MB/s, 40 s left, 0:10",
                "fetched 90 %, sent 100.0 of 200.0 MB to 2 hosts, 10.0 MB/s, 40 s left",
                "sent 100.0 of 200.0 MB to 2 hosts, 10.0 MB/s, 40 s left",
                "sent 100.0 of 200.0 MB, 40 s left",
                "50 %, 40 s left",
                "50 %, 40…",
            ]
        );
    }

    #[test]
    fn what_is_fetched_before_anything_is_sent_is_told() {
        let (mut board, mut now) = (Board::default(), Instant::now());
        board.tell(&all(started("asking registries")), now);
        assert_eq!(lines(&board, 80, 24, now), ["asking registries, 0:00 so far"]);
        for second in 1..=3 {
            now += Duration::from_secs(1);
            board.tell(&all(mega(second * 10, 100)), now);
        }
        assert_eq!(
            lines(&board, 80, 24, now),
            ["fetched 30.0 of 100.0 MB from the registry, 10.0 MB/s, 7 s left, 0:03 so far"]
        );
    }

    #[test]
    fn what_is_done_for_all_is_told_when_nothing_is_sent() {
        let (mut board, now) = running(&[8]);
        board.tell(&on("h1", failed("no space left")), now);
        board.tell(&all(started("removing what was made")), now);
        assert_eq!(lines(&board, 80, 24, now + LINGER), ["removing what was made, 0:11 so far"]);
        board.tell(&all(done("removed what was made")), now);
        assert_eq!(lines(&board, 80, 24, now + LINGER), [""; 0]);
    }

    #[test]
    fn what_ended_lingers_shortly_and_nothing_is_left_then() {
        let (mut board, now) = running(&[8]);
        board.tell(&on("h1", done("pulled")), now);
        assert_eq!(lines(&board, 80, 24, now).len(), 2);
        assert_eq!(lines(&board, 80, 24, now + LINGER), [""; 0]);
    }

    proptest::proptest! {
        #[test]
        fn any_terminal_is_big_enough(columns in 0_usize..150, rows in 0_usize..60, seconds in 0_u64..30) {
            let (board, now) = fifty();
            let told = lines(&board, columns, rows, now + Duration::from_secs(seconds));
            proptest::prop_assert!(told.len() <= rows.max(4), "{} lines in {rows}", told.len());
            for line in told {
                proptest::prop_assert!(words::columns(&line) < columns.max(1) + usize::from(columns == 0), "{line:?}");
            }
        }
    }
}
