//! Long uploads: a stream of ours as a request's body, and a watch over the engine that takes it.
//!
//! Nothing is collected: the next piece is asked of the stream when the engine has taken the last. There is no limit on
//! the whole; what is limited is how long the engine may neither take nor say anything. The stream's own silence is not
//! the engine's: whoever gives the stream watches that.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use hyper::body::{Body, Frame};
use tokio::time::Instant;

use super::error::{Cause, Failure};

/// While it is sent to: an engine writes to its disk as it reads, and an SD card that syncs takes a minute or two.
const SILENCE: Duration = Duration::from_secs(180);
/// Once it has everything, an engine may unpack all of it without a word (the containerd store does): a slow card takes
/// 1.5 MB of small files a second, and layers are three times as large unpacked.
const BYTES_A_SECOND: u64 = 512 << 10;

/// A request's body.
pub(super) struct Upload {
    source: Pin<Box<dyn Stream<Item = Result<Bytes, Cause>> + Send>>,
    pulse: Pulse,
}

/// What is known of an upload while it goes on.
#[derive(Debug, Clone)]
pub(super) struct Pulse(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    waits_for: Side,
    since: Instant,
    sent: u64,
    failure: Option<Cause>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// The engine, to take what it was given.
    Engine,
    /// Our stream.
    Source,
    /// The engine, to finish.
    End,
    /// Nobody: no more is sent.
    Stopped,
}

impl Upload {
    pub(super) fn new<E>(source: impl Stream<Item = Result<Bytes, E>> + Send + 'static) -> Self
    where
        E: Into<Cause> + 'static,
    {
        let state = State { waits_for: Side::Engine, since: Instant::now(), sent: 0, failure: None };
        Self { source: Box::pin(source.map_err(Into::into)), pulse: Pulse(Arc::new(Mutex::new(state))) }
    }

    pub(super) fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        if self.pulse.state().waits_for == Side::Stopped {
            return Poll::Pending;
        }
        let poll = self.source.poll_next_unpin(cx);
        let mut state = self.pulse.state();
        state.since = Instant::now();
        match poll {
            Poll::Pending => {
                state.waits_for = Side::Source;
                Poll::Pending
            }
            Poll::Ready(None) => {
                state.waits_for = Side::End;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(piece))) => {
                state.waits_for = Side::Engine;
                state.sent = state.sent.saturating_add(piece.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Poll::Ready(Some(Err(cause))) => {
                state.waits_for = Side::Stopped;
                state.failure = Some(cause);
                Poll::Ready(Some(Err("the stream to be sent broke off".into())))
            }
        }
    }
}

impl Pulse {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine has said something.
    pub(super) fn said(&self) {
        self.state().since = Instant::now();
    }

    /// No more is sent.
    pub(super) fn stop(&self) {
        self.state().waits_for = Side::Stopped;
    }

    /// Carries the request out with what is known of it. If our stream broke off, that is the error, whatever the engine
    /// made of it.
    pub(super) async fn watch<T>(&self, request: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let outcome = tokio::select! {
            outcome = request => outcome,
            Err(timeout) = self.too_long() => Err(timeout),
        };
        match self.state().failure.take() {
            Some(cause) => Err(Failure::Source(cause)),
            None => outcome,
        }
    }

    /// Ends when the engine has been silent for too long.
    async fn too_long(&self) -> Result<Infallible, Failure> {
        loop {
            let (now, allowed, since) = {
                let state = self.state();
                (Instant::now(), state.allowed(), state.since)
            };
            let until = allowed.map_or(now + SILENCE, |allowed| since + allowed);
            match allowed {
                Some(allowed) if until <= now => return Err(Failure::Timeout(allowed)),
                _ => tokio::time::sleep_until(until).await,
            }
        }
    }
}

impl State {
    /// How long the engine may be silent from `since` on; `None` while it is not its turn.
    fn allowed(&self) -> Option<Duration> {
        match self.waits_for {
            Side::Source => None,
            Side::Engine | Side::Stopped => Some(SILENCE),
            Side::End => Some(SILENCE + Duration::from_secs(self.sent / BYTES_A_SECOND)),
        }
    }
}
