//! A frame as the bytes that draw it. The cursor rests at the start of an empty line above the block, not below it:
//! what anyone else writes to the terminal (a warning, `^C`, a log line) stays as a line of its own, and a terminal
//! that breaks lines anew when it is resized takes the cursor along, so there is never a count of rows to be wrong.

/// Draws the lines that stay and the block below them, over the block that is there. Written at once, it does not
/// flicker: nothing is erased before it is written again.
pub(super) fn frame(stay: &[String], block: &[String]) -> String {
    let mut drawn = String::from("\r");
    if !stay.is_empty() || block.is_empty() {
        // Lines that stay may wrap, so the old block goes first.
        drawn += "\x1b[J";
    }
    for line in stay {
        drawn += &line.replace('\n', "\r\n");
        drawn += "\r\n";
    }
    if block.is_empty() {
        return drawn;
    }
    drawn += "\x1b[K";
    for line in block {
        drawn += &format!("\r\n{line}\x1b[K");
    }
    drawn + &format!("\x1b[J\r\x1b[{}A", block.len())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use indicatif::{InMemoryTerm, TermLike};

    use super::super::block::{Block, Size};
    use super::super::board::Board;
    use super::super::board::tests::{done, mega, on, running};
    use super::super::row::Ink;
    use super::*;

    struct Screen(InMemoryTerm);

    impl Screen {
        fn new(rows: u16) -> Self {
            Self(InMemoryTerm::new(rows, 30))
        }

        fn draw(&self, stay: &[&str], block: &[&str]) -> String {
            let own = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
            self.write(&frame(&own(stay), &own(block)))
        }

        fn write(&self, text: &str) -> String {
            self.0.write_str(text).unwrap();
            self.0.contents()
        }
    }

    #[test]
    fn a_block_is_drawn_over_itself() {
        let screen = Screen::new(10);
        assert_eq!(screen.draw(&[], &["h1 a long row", "h2 a row", "overall"]), "\nh1 a long row\nh2 a row\noverall");
        assert_eq!(screen.draw(&[], &["h1 short", "h2"]), "\nh1 short\nh2");
        assert_eq!(screen.draw(&[], &[]), "");
    }

    #[test]
    fn lines_stay_above_it_also_where_they_wrap_or_are_several() {
        let screen = Screen::new(12);
        screen.draw(&[], &["h1 a long row", "h2 a row"]);
        screen.draw(&["h3: done with a line that is longer than the screen"], &["h1 a long row", "h2 a row"]);
        assert_eq!(
            screen.draw(&["h2: failed: a\n  hint"], &["h1 a row"]),
            "h3: done with a line that is l\nonger than the screen\nh2: failed: a\n  hint\n\nh1 a row"
        );
        assert_eq!(screen.draw(&["end"], &[]).lines().last(), Some("end"));
    }

    #[test]
    fn what_others_write_is_kept_whole() {
        let screen = Screen::new(10);
        screen.draw(&[], &["h1 a long row that was here", "h2 a row"]);
        screen.write("^Cinterrupted: cleaning up    \r\n");
        assert_eq!(screen.draw(&[], &["h1 x", "h2 y"]), "^Cinterrupted: cleaning up\n\nh1 x\nh2 y");
    }

    #[test]
    fn at_the_bottom_the_screen_scrolls() {
        let screen = Screen::new(5);
        for n in 0..8 {
            screen.draw(&[&format!("line {n}")], &["h1", "h2"]);
        }
        assert_eq!(screen.draw(&[], &["h1", "h2"]), "line 6\nline 7\n\nh1\nh2");
    }

    #[test]
    fn nothing_is_erased_that_is_written_again() {
        let drawn = frame(&[], &["h1".into(), "h2".into()]);
        assert_eq!(drawn.find("\x1b[J"), drawn.rfind("\x1b[J"));
        assert!(drawn.find("\x1b[J") > drawn.find("h2"), "{drawn:?}");
    }

    #[test]
    fn a_run_of_fifty_hosts_on_a_small_screen_leaves_its_sentences_and_nothing_else() {
        let screen = InMemoryTerm::new(24, 100);
        let (mut board, mut now) = running(&(1..=50).map(|n| n % 9 + 1).collect::<Vec<_>>());
        let mut block = Block::default();
        let mut draw = |board: &Board, stay: &[String], now| {
            let lines = block.lines(board, (Size { columns: 100, rows: 24 }, Ink::Colours), now);
            screen.write_str(&frame(stay, &lines)).unwrap();
            screen.contents()
        };
        assert_eq!(draw(&board, &[], now).lines().filter(|line| line.ends_with(" left")).count(), 16);
        for n in 1..=50 {
            now += Duration::from_millis(700);
            let (host, line) = (format!("h{n}"), format!("h{n}: pulled"));
            board.tell(&on(&host, mega(100, 100)), now);
            board.tell(&on(&host, done("pulled")), now);
            let seen = draw(&board, std::slice::from_ref(&line), now);
            let (above, below) = seen.split_once("\n\n").unwrap();
            assert!(above.lines().all(|line| line.starts_with('h') && line.ends_with(": pulled")), "{seen}");
            assert_eq!(above.lines().last(), Some(line.as_str()));
            assert!(below.contains(" of 5.00 GB to 50 hosts"), "{seen}");
        }
        let told = draw(&board, &[], now + Duration::from_secs(2));
        assert!(told.lines().all(|line| line.ends_with(": pulled")) && told.ends_with("h50: pulled"), "{told}");
    }
}
