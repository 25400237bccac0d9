//! The terminal: a thread that draws. Who tells events only leaves them here, so a terminal that does not take bytes
//! (Ctrl-S) stops nothing but the drawing.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::block::{Block, Size};
use super::frame::frame;
use super::lines::Lines;
use super::row::Ink;
use crate::plan::{Event, Progress};

/// Faster than this, figures cannot be read.
const TICK: Duration = Duration::from_millis(200);

/// Where a terminal does not say how large it is.
const USUAL: Size = Size { columns: 80, rows: 24 };

/// The screen of this process.
static SCREEN: Mutex<Weak<Screen>> = Mutex::new(Weak::new());

pub(super) struct Screen {
    state: Mutex<State>,
    changed: Condvar,
    /// What was drawn last; held while drawing.
    drawn: Mutex<Drawn>,
    ink: Ink,
}

#[derive(Default)]
struct State {
    lines: Lines,
    /// Lines that were not written yet.
    stay: Vec<String>,
    /// Nothing is drawn any more, but lines are told.
    ended: bool,
}

#[derive(Default)]
struct Drawn {
    block: Block,
    lines: Vec<String>,
    size: Option<Size>,
}

/// Ends the screen with the last of the events' senders.
pub(super) struct Owner(Arc<Screen>);

impl Owner {
    /// Begins to draw on stderr.
    pub(super) fn start(ink: Ink) -> std::io::Result<Self> {
        let (state, changed, drawn) = Default::default();
        let screen = Arc::new(Screen { state, changed, drawn, ink });
        let drawing = Arc::clone(&screen);
        std::thread::Builder::new().name("progress".into()).spawn(move || drawing.draw_until_end())?;
        *lock(&SCREEN) = Arc::downgrade(&screen);
        leave_on_signal();
        Ok(Self(screen))
    }

    /// Something happened.
    pub(super) fn tell(&self, event: &Event, now: Instant) {
        let mut state = lock(&self.0.state);
        let line = state.lines.tell(event, now);
        // What begins is shown in the block, and so are bytes.
        let shown = matches!(event.progress, Progress::Started { .. } | Progress::Bytes { .. });
        if state.ended {
            line.iter().for_each(|line| write(&format!("{line}\n")));
            return;
        }
        if !shown {
            state.stay.extend(line);
        }
        // Bytes wait for the next tick.
        if !matches!(event.progress, Progress::Bytes { .. }) {
            self.0.changed.notify_one();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Takes the block off the terminal; from now on there are plain lines. Nothing, if none is drawn.
pub(in crate::cli) fn end() {
    let screen = lock(&SCREEN).upgrade();
    if let Some(screen) = screen {
        screen.end();
    }
}

/// The second signal ends the program where it stands, so the block goes at the first one.
fn leave_on_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(async {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else { return };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        // A terminal that is stopped (Ctrl-S) takes its time.
        let _ = tokio::task::spawn_blocking(end).await;
    });
}

impl Screen {
    fn draw_until_end(&self) {
        let mut state = lock(&self.state);
        while !state.ended {
            drop(state);
            let idle = self.draw(Instant::now());
            state = lock(&self.state);
            if state.ended || !state.stay.is_empty() {
                continue;
            }
            // Nothing goes on: the next event wakes it.
            state = match idle {
                true => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                false => self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// Returns whether there is nothing to draw.
    fn draw(&self, now: Instant) -> bool {
        let mut drawn = lock(&self.drawn);
        let size = size();
        let mut state = lock(&self.state);
        if state.ended {
            return true;
        }
        let stay = std::mem::take(&mut state.stay);
        let lines = drawn.block.lines(&state.lines.board, (size, self.ink), now);
        drop(state);
        let idle = lines.is_empty();
        if !stay.is_empty() || lines != drawn.lines || drawn.size != Some(size) {
            write(&frame(&stay, &lines));
        }
        (drawn.lines, drawn.size) = (lines, Some(size));
        idle
    }

    fn end(&self) {
        // Waits until the frame that is being drawn is complete.
        let mut drawn = lock(&self.drawn);
        let mut state = lock(&self.state);
        let stay = std::mem::take(&mut state.stay);
        let was_ended = std::mem::replace(&mut state.ended, true);
        if !was_ended && (!stay.is_empty() || !drawn.lines.is_empty()) {
            write(&frame(&stay, &[]));
        }
        drawn.lines.clear();
        self.changed.notify_one();
    }
}

/// All at once, and never in the middle of another's line. A terminal that has gone is no error.
fn write(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

fn size() -> Size {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: size.ws_col.into(), rows: size.ws_row.into() }
        }
        _ => USUAL,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
