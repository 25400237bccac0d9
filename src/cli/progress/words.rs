//! Progress in words: what is told of an event, of a rate, of the time left. No word of a host reaches the terminal as
//! a command to it.

use std::time::Duration;

use super::flow::Left;
use crate::cli::output::bytes;
use crate::plan::{Event, Progress};

/// What an event says; bytes say nothing by themselves.
pub(super) fn said(event: &Event) -> Option<String> {
    let text = match &event.progress {
        Progress::Started { what } | Progress::Done { what } | Progress::Warning { what } => what.clone(),
        Progress::Failed { why } => format!("failed: {why}"),
        Progress::Bytes { .. } => return None,
    };
    let label = event.host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
    let lines: Vec<String> = format!("{label}{text}").lines().map(clean).collect();
    Some(lines.join("\n  "))
}

/// One line, without what a terminal would obey.
pub(super) fn clean(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(visible).collect::<String>().trim_end().to_string()
}

/// `43.1 MB/s`
pub(super) fn rate(bytes_a_second: f64) -> String {
    format!("{}/s", bytes(bytes_a_second as u64))
}

/// `7 s left`, in steps that grow with the time, so that it can be read; `None` if there is nothing to say.
pub(super) fn left(left: Left) -> Option<String> {
    match left {
        Left::Stalled => Some("stalled".into()),
        Left::Seconds(seconds @ 0..90) => Some(format!("{seconds} s left")),
        Left::Seconds(seconds @ 90..5_400) => Some(format!("{} min left", seconds.div_ceil(60))),
        Left::Seconds(seconds) => Some(format!("{} h left", seconds.div_ceil(3_600))),
        Left::Nothing | Left::Unknown => None,
    }
}

/// `0:35`, `1:02:03`
pub(super) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// `1 host`, `12 hosts`
pub(super) fn hosts(count: usize) -> String {
    if count == 1 { "1 host".into() } else { format!("{count} hosts") }
}

/// Columns of a terminal, rather too many than too few: a line that wraps would break all below it.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(width).sum()
}

/// At most so many columns; `…` where something is cut off.
pub(super) fn fit(text: &str, limit: usize) -> String {
    if columns(text) <= limit {
        return text.to_string();
    }
    let mut used = 0;
    let kept = text.chars().take_while(|c| {
        used += width(*c);
        used < limit
    });
    let kept: String = kept.collect();
    if limit == 0 { kept } else { kept + "…" }
}

/// Exactly so many columns.
pub(super) fn pad(text: &str, limit: usize) -> String {
    let text = fit(text, limit);
    let missing = limit.saturating_sub(columns(&text));
    text + &" ".repeat(missing)
}

/// Letters are narrow up to the Hangul Jamo (U+1100), and so are the punctuation, arrows and lines of U+2000 to
/// U+25FF; all others may be wide.
fn width(c: char) -> usize {
    match c {
        '\0'..'\u{1100}' | '\u{2000}'..'\u{2600}' => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::{done, failed, mega, on, overall, started};
    use super::*;

    #[test]
    fn events_are_sentences_with_their_host() {
        let told = |event| said(&event).unwrap();
        assert_eq!(told(on("h1", started("pulling a:1"))), "h1: pulling a:1");
        assert_eq!(told(on("h1", failed("no space left"))), "h1: failed: no space left");
        assert_eq!(told(overall(done("removed what was made"))), "removed what was made");
        assert_eq!(said(&on("h1", mega(1, 2))), None);
    }

    #[test]
    fn what_a_host_says_commands_no_terminal() {
        let told = said(&on("h1", failed("bad\x1b[2J\x1b]0;mine\x07 end\r\nsecond\u{9b}1A line\n"))).unwrap();
        assert_eq!(told, "h1: failed: bad [2J ]0;mine  end\n  second 1A line");
    }

    #[test]
    fn time_left_is_coarser_the_longer_it_is() {
        let told = [0, 7, 89, 90, 3_600, 5_399, 5_400, 86_400].map(|seconds| left(Left::Seconds(seconds)).unwrap());
        assert_eq!(
            told,
            ["0 s left", "7 s left", "89 s left", "2 min left", "60 min left", "90 min left", "2 h left", "24 h left"]
        );
        assert_eq!([Left::Nothing, Left::Unknown, Left::Stalled].map(left), [None, None, Some("stalled".into())]);
    }

    #[test]
    fn figures_are_for_people() {
        assert_eq!((rate(43_100_000.0), rate(0.0)), ("43.1 MB/s".into(), "0 B/s".into()));
        assert_eq!([35, 3_723].map(Duration::from_secs).map(clock), ["0:35", "1:02:03"]);
        assert_eq!([1, 12].map(hosts), ["1 host", "12 hosts"]);
    }

    #[test]
    fn text_fits_its_columns() {
        assert_eq!([10, 5, 4, 1, 0].map(|limit| fit("hello", limit)), ["hello", "hello", "hel…", "…", ""]);
        assert_eq!((pad("ab", 4), pad("abcdef", 4)), ("ab  ".into(), "abc…".into()));
        assert_eq!((columns("日本"), fit("日本語", 5)), (4, "日本…".into()));
        assert_eq!(columns("━─…"), 3);
    }

    proptest::proptest! {
        #[test]
        fn any_text_fits_any_columns(text in "\\PC*", limit in 0_usize..200) {
            proptest::prop_assert!(columns(&fit(&text, limit)) <= limit);
            proptest::prop_assert_eq!(columns(&pad(&clean(&text), limit)), limit);
        }
    }
}
