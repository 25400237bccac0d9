//! Whose turn it is, of the blobs that one host is being sent: the lower layers of an image go first.
//!
//! Engines ask for a few layers at a time, unpack them from the lowest upwards, and unpack one only when they have all of
//! it. Sent side by side all of them come late, and the engine stands idle until then. So a blob waits while another one,
//! that comes before it in its image, keeps the link busy; it does not wait for one that waits itself, be it for upstream
//! or for a reader that takes nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

/// A piece that is not taken within this time waits for the link: buffers take theirs at once.
const FULL: Duration = Duration::from_millis(2);
/// A link is busy for so long after a piece has waited for it: sockets and ssh make room in larger steps than a piece.
const BUSY: Duration = Duration::from_millis(300);
/// So long it counts as busy when a blob begins that is at hand: buffers have to fill, and the file may be read once before.
const START: Duration = Duration::from_millis(500);
/// Nobody waits for a reader that has taken nothing for so long.
const STUCK: Duration = Duration::from_secs(2);
/// How often it is looked whether the turn has come.
const LOOK: Duration = Duration::from_millis(20);

/// The blobs that are being sent through one door.
#[derive(Debug, Default)]
pub(super) struct Turns {
    sending: Mutex<BTreeMap<(usize, u64), Pace>>,
    begun: AtomicU64,
    ended: Notify,
}

/// How one of them gets on.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    /// When it began, if nothing has to come from upstream for it.
    begun: Option<Instant>,
    /// When the piece was handed over that has not been taken yet.
    handed: Option<Instant>,
    /// When a piece was last taken that had waited for the link.
    waited: Option<Instant>,
}

impl Pace {
    fn is_busy(&self, now: Instant) -> bool {
        let since = |then: Option<Instant>| then.map(|then| now.duration_since(then));
        let is_recent = |then, limit| since(then).is_some_and(|time| time < limit);
        match since(self.handed) {
            Some(handed) if handed > FULL => handed < STUCK,
            _ => is_recent(self.waited, BUSY) || is_recent(self.begun, START),
        }
    }

    fn taken(&mut self, now: Instant) {
        if self.handed.take().is_some_and(|handed| now.duration_since(handed) > FULL) {
            self.waited = Some(now);
        }
    }
}

/// One blob's place among them, until it is sent.
pub(super) struct Turn {
    turns: Arc<Turns>,
    place: (usize, u64),
}

impl Turns {
    /// `place` is the blob's in its image, from 0; `is_at_hand` if nothing has to come from upstream for it.
    pub(super) fn begin(self: &Arc<Self>, place: usize, is_at_hand: bool) -> Turn {
        let place = (place, self.begun.fetch_add(1, Ordering::Relaxed));
        self.sending().insert(place, Pace { begun: is_at_hand.then(Instant::now), ..Pace::default() });
        Turn { turns: self.clone(), place }
    }

    fn sending(&self) -> MutexGuard<'_, BTreeMap<(usize, u64), Pace>> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The receiver asks for more: it has taken the piece before.
    pub(super) fn taken(&self) {
        self.with(|pace| pace.taken(Instant::now()));
    }

    /// Waits until nothing that comes before keeps the link busy, telling `activity` of every look.
    pub(super) async fn come(&self, activity: &Notify) {
        while self.is_to_wait() {
            activity.notify_one();
            let _ = timeout(LOOK, self.turns.ended.notified()).await;
        }
        self.with(|pace| pace.handed = Some(Instant::now()));
    }

    fn is_to_wait(&self) -> bool {
        let (now, (place, _)) = (Instant::now(), self.place);
        self.turns.sending().range(..(place, 0)).any(|(_, pace)| pace.is_busy(now))
    }

    fn with(&self, change: impl FnOnce(&mut Pace)) {
        if let Some(pace) = self.turns.sending().get_mut(&self.place) {
            change(pace);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.sending().remove(&self.place);
        self.turns.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ago(milliseconds: u64) -> Option<Instant> {
        Instant::now().checked_sub(Duration::from_millis(milliseconds))
    }

    #[test]
    fn a_link_is_busy_while_pieces_wait_for_it() {
        let now = Instant::now();
        let is_busy = |handed, waited| Pace { begun: None, handed, waited }.is_busy(now);
        assert!(!is_busy(None, None), "nothing was sent yet");
        assert!(!is_busy(Some(now), None), "taken at once, for all that is known");
        assert!(is_busy(ago(100), None));
        assert!(!is_busy(ago(3000), ago(3100)), "nobody takes it");
        assert!(is_busy(None, ago(100)), "between two pieces");
        assert!(!is_busy(None, ago(1000)), "it waits for upstream");
        let begun = |begun| Pace { begun, ..Pace::default() }.is_busy(now);
        assert!(begun(ago(100)) && !begun(ago(1000)) && !begun(None));
    }

    #[tokio::test]
    async fn later_blobs_wait_for_earlier_ones_and_those_for_nobody() {
        let turns = Arc::<Turns>::default();
        let [first, second] = [3, 5].map(|place| turns.begin(place, false));
        assert!(!second.is_to_wait(), "the first has sent nothing yet");
        for turn in [&first, &second] {
            turn.with(|pace| pace.waited = Some(Instant::now()));
        }
        assert!(second.is_to_wait() && !first.is_to_wait() && !turns.begin(3, false).is_to_wait());
        let activity = Notify::new();
        let waiting = async {
            second.come(&activity).await;
            Instant::now()
        };
        let (came, ()) = tokio::join!(waiting, async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            drop(first);
        });
        assert!(came.elapsed() < BUSY, "the end of the first is told");
        assert!(turns.sending()[&second.place].handed.is_some());
    }
}
