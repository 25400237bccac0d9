//! One host as one row: name, what, bar, bytes, rate, time left, in columns that are the same for all rows of a frame.

use std::time::Instant;

use super::board::{Member, State};
use super::flow::{Flow, Left};
use super::words;
use crate::cli::output::bytes_of;

/// Between two columns.
const GAP: usize = 2;
/// Names are cut off beyond this.
const LONGEST_NAME: usize = 20;
const BYTES: usize = "999.9 of 999.9 MB".len();
const PERCENT: usize = "100 %".len();
const RATE: usize = "999.9 kB/s".len();
const LEFT: usize = "90 min left".len();

/// Whether a terminal shows colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    Plain,
    Colours,
}

impl Ink {
    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_string(),
            Self::Colours => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(super) fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn lively(self, text: &str) -> String {
        self.paint("36", text)
    }

    fn alarming(self, text: &str) -> String {
        self.paint("33", text)
    }
}

/// Which columns there is room for; 0 is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    width: usize,
    name: usize,
    what: usize,
    bar: usize,
    bytes: usize,
    rate: usize,
    left: usize,
}

/// Bar, at least so much of what is done, bytes, rate: the first that fits is taken.
const CHOICES: [(usize, usize, usize, usize); 7] = [
    (24, 24, BYTES, RATE),
    (14, 12, BYTES, RATE),
    (14, 0, BYTES, RATE),
    (0, 0, BYTES, RATE),
    (0, 0, BYTES, 0),
    (8, 0, PERCENT, 0),
    (0, 0, PERCENT, 0),
];

impl Layout {
    /// For these rows in a terminal of this width.
    pub(super) fn new(members: &[&Member], width: usize) -> Self {
        let names = members.iter().map(|member| words::columns(member.name.as_str()));
        let name = names.max().unwrap_or(0).min(LONGEST_NAME);
        let whats = members.iter().filter(|member| member.flow.is_some()).map(|member| words::columns(&what(member)));
        let longest = whats.max().unwrap_or(0);
        let fixed = |(bar, _, bytes, rate): &(usize, usize, usize, usize)| {
            name + [*bar, *bytes, *rate, LEFT].iter().filter(|cell| **cell > 0).map(|cell| cell + GAP).sum::<usize>()
        };
        let wanted = |least: usize| if least.min(longest) > 0 { GAP + least.min(longest) } else { 0 };
        let fits = |choice: &&(usize, usize, usize, usize)| fixed(choice) + wanted(choice.1) <= width;
        let choice = CHOICES.iter().find(fits).unwrap_or(&CHOICES[CHOICES.len() - 1]);
        let (bar, least, bytes, rate) = *choice;
        let room = width.saturating_sub(fixed(choice) + GAP);
        Self { width, name, what: if least > 0 { room.min(longest) } else { 0 }, bar, bytes, rate, left: LEFT }
    }

    /// A row, no wider than the terminal.
    pub(super) fn row(&self, member: &Member, ink: Ink, now: Instant) -> String {
        let name = words::pad(&words::clean(member.name.as_str()), self.name);
        let Some(flow) = &member.flow else { return self.without_bytes(&name, member, ink, now) };
        let (left, bar) = (Self::left(member, flow, now), bar(flow, self.bar));
        let rate = flow.rate(now).filter(|_| member.is_flowing() && left != "stalled").map(words::rate);
        let left = match left.as_str() {
            "stalled" => ink.alarming(&left),
            _ => left,
        };
        let amount =
            if self.bytes == BYTES { bytes_of(flow.done, flow.total) } else { format!("{} %", flow.percent()) };
        let cells = [
            (self.what, words::pad(&what(member), self.what)),
            (self.bar, ink.lively(&bar)),
            (self.bytes, format!("{amount:>0$}", self.bytes)),
            (self.rate, format!("{:>1$}", rate.unwrap_or_default(), self.rate)),
            (self.left, left),
        ];
        // Bytes beyond what their column was made for (a terabyte), or a name in a very narrow terminal.
        let plain = self.name + cells.iter().filter(|(room, _)| *room > 0).map(|(room, _)| room + GAP).sum::<usize>();
        if plain > self.width || amount.len() > self.bytes {
            return words::fit(&format!("{name}  {} %", flow.percent()), self.width);
        }
        let cells = cells.into_iter().filter(|(room, _)| *room > 0).map(|(_, cell)| cell);
        [ink.bold(&name)].into_iter().chain(cells).collect::<Vec<_>>().join("  ").trim_end().to_string()
    }

    fn without_bytes(&self, name: &str, member: &Member, ink: Ink, now: Instant) -> String {
        let time = match &member.state {
            State::Busy(task) => words::clock(now.saturating_duration_since(task.since)),
            _ => String::new(),
        };
        let room = self.width.saturating_sub(self.name + 2 * GAP + time.len());
        if room < 4 {
            return words::fit(name, self.width);
        }
        format!("{}  {}  {}", ink.bold(name), words::fit(&what(member), room), ink.faint(&time)).trim_end().to_string()
    }

    fn left(member: &Member, flow: &Flow, now: Instant) -> String {
        match (&member.state, flow.left(now)) {
            (State::Done(_), _) => "done".into(),
            (State::Failed(_), _) => "failed".into(),
            (_, Left::Nothing) => "all sent".into(),
            (_, _) if flow.done == 0 => "waiting".into(),
            (_, left) => words::left(left).unwrap_or_default(),
        }
    }
}

fn what(member: &Member) -> String {
    match &member.state {
        State::Waiting => "waiting".into(),
        State::Busy(task) => words::clean(&task.what),
        State::Done(_) => "done".into(),
        State::Failed(_) => "failed".into(),
    }
}

/// Heavy and light, so that it can be read without colours.
fn bar(flow: &Flow, length: usize) -> String {
    let filled = length * flow.percent() as usize / 100;
    "━".repeat(filled) + &"─".repeat(length - filled)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::board::Board;
    use super::super::board::tests::{done, mega, on, running, started};
    use super::*;

    fn rows(board: &Board, width: usize, now: Instant) -> Vec<String> {
        let members: Vec<&Member> = board.members.iter().collect();
        let layout = Layout::new(&members, width);
        members.iter().map(|member| layout.row(member, Ink::Plain, now)).collect()
    }

    #[test]
    fn a_wide_terminal_shows_all() {
        let (board, now) = running(&[8, 2]);
        assert_eq!(
            rows(&board, 120, now),
            [
                "h1  pulling rancher/k3s:v1.36.2-k3s1  ━━━━━━━━━━━━━━━━━━━─────   80.0 of 100.0 MB    8.0 MB/s  3 s left",
                "h2  pulling rancher/k3s:v1.36.2-k3s1  ━━━━────────────────────   20.0 of 100.0 MB    2.0 MB/s  40 s left",
            ]
        );
    }

    #[test]
    fn a_narrow_terminal_shows_what_matters_most() {
        let (board, now) = running(&[8]);
        assert_eq!(
            [80, 64, 47, 36, 32, 24, 20, 6].map(|width| rows(&board, width, now).remove(0)),
            [
                "h1  pulling rancher…  ━━━━━━━━━━━───   80.0 of 100.0 MB    8.0 MB/s  3 s left",
                "h1  ━━━━━━━━━━━───   80.0 of 100.0 MB    8.0 MB/s  3 s left",
                "h1   80.0 of 100.0 MB    8.0 MB/s  3 s left",
                "h1   80.0 of 100.0 MB  3 s left",
                "h1  ━━━━━━──   80 %  3 s left",
                "h1   80 %  3 s left",
                "h1  80 %",
                "h1  8…",
            ]
        );
    }

    #[test]
    fn a_stall_a_wait_and_the_engine_at_work_are_told() {
        let (mut board, now) = running(&[8]);
        let later = now + Duration::from_secs(11);
        board.tell(&on("h2", started("pulling b:1")), now);
        board.tell(&on("h2", mega(0, 100)), now);
        board.tell(&on("h3", mega(100, 100)), now);
        board.tell(&on("h4", started("connecting\x1b[2J")), now);
        let told = rows(&board, 80, later);
        assert!(told[0].ends_with(" MB              stalled"), "{told:?}");
        assert!(told[1].ends_with("0.0 of 100.0 MB              waiting"), "{told:?}");
        assert!(told[2].ends_with("100.0 of 100.0 MB              all sent"), "{told:?}");
        assert_eq!(told[3], "h4  connecting [2J  0:11");
        board.tell(&on("h1", done("pulled")), later);
        assert!(rows(&board, 80, later)[0].ends_with("done"));
    }

    #[test]
    fn colours_change_no_letter() {
        let (board, now) = running(&[8]);
        let members: Vec<&Member> = board.members.iter().collect();
        let layout = Layout::new(&members, 100);
        let painted = layout.row(members[0], Ink::Colours, now);
        let bare = painted.replace("\x1b[0m", "").replace("\x1b[1m", "").replace("\x1b[36m", "");
        assert!(painted.starts_with("\x1b[1mh1\x1b[0m"));
        assert_eq!(bare, layout.row(members[0], Ink::Plain, now));
    }

    proptest::proptest! {
        #[test]
        fn no_row_is_wider_than_the_terminal(
            name in "\\PC{0,40}", what in "(?s).{0,60}", done: u64, total: u64, bytes: bool, width in 1_usize..200
        ) {
            let (mut board, now) = (Board::default(), Instant::now());
            board.tell(&on(&name, started(&what)), now);
            if bytes {
                board.tell(&on(&name, crate::plan::Progress::Bytes { done, total }), now);
            }
            for row in rows(&board, width, now + Duration::from_secs(3)) {
                proptest::prop_assert!(words::columns(&row) <= width, "{row:?} in {width}");
            }
        }
    }
}
