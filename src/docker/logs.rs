//! A container's log as lines: the two streams taken apart, partial lines joined, long ones cut.
//!
//! The engine frames what the container wrote: a byte for the stream, three zeros, the length (big endian), then that
//! many bytes, which may be several lines or a part of one. (bollard's own reader collects a whole frame first, however
//! long it claims to be.)

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use hyper::Method;
use hyper::body::{Body, Incoming};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::Failure;
use super::{Engine, Error, segment};

/// The longest line that is passed on, in bytes; the rest of a longer one is left out.
pub const LINE_LIMIT: usize = 8 << 10;

/// From where on a log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// All that the engine has kept.
    Start,
    /// The container's present or, if it has ended, last run.
    LastStart,
    /// This time, by the host's clock.
    Timestamp(SystemTime),
}

/// Whether to go on reading while the container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Until the container is removed or, where it is not restarted, ends.
    Yes,
    /// What there is now.
    No,
}

/// Lines of a log, without their ends, control characters included; what is not UTF-8 is replaced.
pub struct Logs {
    body: Incoming,
    frames: Frames,
    container: String,
    ended: bool,
}

impl Engine {
    /// The log of the container `id` (or its name). The stream has no deadline of its own.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none. The stream's items are errors when the connection ends or the framing is
    /// not what the API promises; nothing comes after an error.
    pub async fn logs(&self, id: &str, since: Since, follow: Follow) -> Result<Logs, Error> {
        let since = match since {
            Since::Start => Duration::ZERO,
            Since::LastStart => self.last_start(id).await?,
            Since::Timestamp(time) => time.duration_since(UNIX_EPOCH).unwrap_or_default(),
        };
        let path = format!(
            "/containers/{}/logs?stdout=1&stderr=1&follow={}&since={}.{:09}",
            segment(id),
            u8::from(follow == Follow::Yes),
            since.as_secs(),
            since.subsec_nanos()
        );
        let request = tokio::time::timeout(Self::ANSWER, self.transport.open(Method::GET, &path)).await;
        let answer = request.unwrap_or(Err(Failure::Timeout(Self::ANSWER)));
        let response = answer.map_err(|failure| failure.during(format!("read the log of container {id}")))?;
        Ok(Logs::new(response.into_body(), id))
    }

    /// The last `count` lines of the log of container `id`, oldest first.
    ///
    /// # Errors
    /// As [`Self::logs`]; [`Error::Timeout`] after a minute.
    pub async fn tail(&self, id: &str, since: Since, count: usize) -> Result<Vec<String>, Error> {
        let read = async {
            let mut logs = self.logs(id, since, Follow::No).await?;
            let mut last = VecDeque::new();
            while let Some(line) = logs.next().await {
                last.push_back(line?);
                if last.len() > count {
                    last.pop_front();
                }
            }
            Ok(last.into())
        };
        let timeout = || Failure::Timeout(Self::ANSWER).during(format!("read the log of container {id}"));
        tokio::time::timeout(Self::ANSWER, read).await.unwrap_or_else(|_| Err(timeout()))
    }

    /// The engine notes the start a moment after it: half a second earlier, but not in the run before.
    async fn last_start(&self, id: &str) -> Result<Duration, Error> {
        let status = self.status(id).await?;
        let started = since_epoch(&status.started_at).unwrap_or_default();
        let finished = since_epoch(&status.finished_at).unwrap_or_default();
        let early = started.saturating_sub(Duration::from_millis(500));
        Ok(if finished < started { early.max(finished) } else { early })
    }
}

impl Logs {
    pub(super) fn new(body: Incoming, container: &str) -> Self {
        Self { body, frames: Frames::default(), container: container.into(), ended: false }
    }
}

impl Stream for Logs {
    type Item = Result<String, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(line) = self.frames.lines.pop_front() {
                return Poll::Ready(Some(Ok(line)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let failure = match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data().map(|data| self.frames.add(data)) {
                    Ok(Err(malformed)) => Failure::Malformed(malformed.into()),
                    Ok(Ok(())) | Err(_) => continue,
                },
                Some(Err(error)) => Failure::Http(error),
                None => {
                    self.ended = true;
                    self.frames.finish();
                    continue;
                }
            };
            self.ended = true;
            return Poll::Ready(Some(Err(failure.during(format!("read the log of container {}", self.container)))));
        }
    }
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").field("container", &self.container).finish_non_exhaustive()
    }
}

/// Takes the engine's framing apart, piece by piece as it arrives.
#[derive(Debug, Default)]
struct Frames {
    header: Vec<u8>,
    stream: usize,
    left: usize,
    partial: [Partial; STREAMS],
    lines: VecDeque<String>,
}

/// stdin (which is never sent), stdout, stderr, the engine's own errors.
const STREAMS: usize = 4;
const HEADER: usize = 8;

/// The beginning of a line that has no end yet.
#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    begun: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("a frame of an unknown stream ({0})")]
struct UnknownStream(u8);

impl Frames {
    fn add(&mut self, mut data: Bytes) -> Result<(), UnknownStream> {
        while !data.is_empty() {
            if self.left == 0 {
                let missing = (HEADER - self.header.len()).min(data.len());
                self.header.extend_from_slice(&data[..missing]);
                data.advance(missing);
                self.begin_frame()?;
            } else {
                let here = self.left.min(data.len());
                self.left -= here;
                let payload = data.split_to(here);
                self.write(&payload);
            }
        }
        Ok(())
    }

    fn begin_frame(&mut self) -> Result<(), UnknownStream> {
        let &[stream, _, _, _, a, b, c, d] = self.header.as_slice() else { return Ok(()) };
        self.header.clear();
        self.stream = usize::from(stream);
        self.left = u32::from_be_bytes([a, b, c, d]) as usize;
        if self.stream < STREAMS { Ok(()) } else { Err(UnknownStream(stream)) }
    }

    fn write(&mut self, payload: &[u8]) {
        let Some(partial) = self.partial.get_mut(self.stream) else { return };
        for piece in payload.split_inclusive(|byte| *byte == b'\n') {
            partial.begun = true;
            let text = piece.strip_suffix(b"\n");
            let room = LINE_LIMIT - partial.bytes.len();
            let text_bytes = text.unwrap_or(piece);
            partial.bytes.extend_from_slice(&text_bytes[..room.min(text_bytes.len())]);
            if text.is_some() {
                self.lines.push_back(partial.take());
            }
        }
    }

    /// A last line without an end is a line.
    fn finish(&mut self) {
        for partial in self.partial.iter_mut().filter(|partial| partial.begun) {
            self.lines.push_back(partial.take());
        }
    }
}

impl Partial {
    fn take(&mut self) -> String {
        self.begun = false;
        let bytes = std::mem::take(&mut self.bytes);
        let text = bytes.strip_suffix(b"\r").unwrap_or(&bytes);
        String::from_utf8_lossy(text).into_owned()
    }
}

/// Reads the engine's times, RFC 3339: `2026-11-23T22:10:36.123456789Z`. `None` also for one before 1970.
pub(super) fn since_epoch(text: &str) -> Option<Duration> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let seconds = u64::try_from(time.unix_timestamp()).ok()?;
    Some(Duration::new(seconds, time.nanosecond()))
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
