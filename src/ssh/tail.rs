//! The last part of what a program wrote to its standard error, readable while it still writes.

use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Notify;

/// Bytes that are kept; `ssh` needs a few hundred for its worst complaint.
const KEPT: usize = 64 * 1024;

/// A bounded copy of a stream of text.
#[derive(Debug, Default)]
pub(super) struct Tail {
    kept: Mutex<Kept>,
    grown: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    dropped: usize,
}

impl Tail {
    /// Copies from `stream` until it ends.
    pub(super) async fn fill(&self, mut stream: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            self.push(&buffer[..count]);
        }
    }

    fn push(&self, bytes: &[u8]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes.extend_from_slice(bytes);
        let excess = kept.bytes.len().saturating_sub(KEPT);
        kept.bytes.drain(..excess);
        kept.dropped += excess;
        drop(kept);
        self.grown.notify_waiters();
    }

    /// The present end, for [`Self::since`].
    pub(super) fn mark(&self) -> usize {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.dropped + kept.bytes.len()
    }

    /// The text after `mark`, without control characters: it comes from a host and is shown on a terminal.
    pub(super) fn since(&self, mark: usize) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let from = mark.saturating_sub(kept.dropped).min(kept.bytes.len());
        printable(&kept.bytes[from..])
    }

    /// Everything that is kept.
    pub(super) fn text(&self) -> String {
        self.since(0)
    }

    /// Waits until the text after `mark` contains `word`; the caller sets the deadline.
    pub(super) async fn contains(&self, mark: usize, word: &str) -> String {
        loop {
            let grown = self.grown.notified();
            tokio::pin!(grown);
            grown.as_mut().enable();
            let text = self.since(mark);
            if text.contains(word) {
                return text;
            }
            grown.await;
        }
    }
}

/// Text that cannot move a terminal's cursor or change its colours.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_end_is_kept_and_marks_stay_right() {
        let tail = Tail::default();
        tail.fill(&vec![b'a'; KEPT * 3][..]).await;
        let mark = tail.mark();
        tail.fill(&b"\x1b[31mred\r\n"[..]).await;
        assert_eq!(tail.since(mark), "[31mred\n");
        assert_eq!(tail.contains(mark, "red").await, "[31mred\n");
        assert!(tail.text().len() <= KEPT && tail.text().ends_with("red\n"));
        assert_eq!(mark, KEPT * 3);
    }
}
