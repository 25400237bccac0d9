//! Progress on stderr: a row a host on a terminal, plain lines elsewhere, JSON events beside JSON data.
//!
//! Events become a [`board::Board`], all that is known of a run; what is told of it is computed from that, the time and
//! the terminal's size alone. Only [`screen`] and the sinks here look at a clock and write. It refuses to know what a
//! command does: an event is all it gets.

mod block;
mod board;
mod flow;
mod frame;
mod json;
mod lines;
mod rate;
#[cfg(test)]
mod replay;
mod row;
mod screen;
mod words;

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anstream::ColorChoice;

use super::settings::Format;
use crate::plan::{Event, Events};
use row::Ink;
pub(super) use screen::end;

/// The sink for this terminal, or the lack of one.
pub(super) fn events(format: Format) -> Events {
    if format == Format::Json {
        let json = Mutex::new(json::Json::default());
        return lines_of(move |event, now| json.lock().unwrap_or_else(PoisonError::into_inner).tell(event, now));
    }
    if let Some(Ok(screen)) = can_draw().then(|| screen::Owner::start(ink())) {
        return Events::to(move |event| screen.tell(&event, Instant::now()));
    }
    let lines = Mutex::new(lines::Lines::default());
    lines_of(move |event, now| {
        lines.lock().unwrap_or_else(PoisonError::into_inner).tell(event, now).into_iter().collect()
    })
}

fn lines_of(tell: impl Fn(&Event, Instant) -> Vec<String> + Send + Sync + 'static) -> Events {
    Events::to(move |event| {
        let text: String = tell(&event, Instant::now()).into_iter().map(|line| line + "\n").collect();
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    })
}

/// A terminal that can move its cursor.
fn can_draw() -> bool {
    let moves = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    moves && std::io::stderr().is_terminal()
}

/// `NO_COLOR` and its kin are obeyed.
fn ink() -> Ink {
    match anstream::AutoStream::choice(&std::io::stderr()) {
        ColorChoice::Never => Ink::Plain,
        _ => Ink::Colours,
    }
}
