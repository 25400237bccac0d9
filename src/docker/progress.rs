//! The engine's progress: JSON objects, one a line, bounded line by line as they arrive.

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::error::Failure;

/// An engine's line is some 250 bytes; one with an error that quotes a path may have a few thousand.
const LINE_LIMIT: usize = 64 << 10;

/// Lines that are still coming.
#[derive(Debug)]
pub(super) struct Lines {
    body: Incoming,
    read: BytesMut,
    /// No line ends before here.
    looked_at: usize,
    ended: bool,
}

impl Lines {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, read: BytesMut::new(), looked_at: 0, ended: false }
    }

    /// The next line that is not empty; `None` at the end.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        loop {
            while let Some(line) = self.take_line() {
                if !line.trim_ascii().is_empty() {
                    return serde_json::from_slice(&line).map(Some).map_err(|e| Failure::Malformed(e.into()));
                }
            }
            if self.ended {
                return Ok(None);
            }
            if self.read.len() > LINE_LIMIT {
                return Err(Failure::Malformed(format!("a line of more than {LINE_LIMIT} bytes").into()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.read.extend(frame.into_data().ok()),
                Some(Err(error)) => return Err(Failure::Http(error)),
                None => self.ended = true,
            }
        }
    }

    /// A line that is there, or, at the end, what is left.
    fn take_line(&mut self) -> Option<BytesMut> {
        let found = self.read.iter().skip(self.looked_at).position(|byte| *byte == b'\n');
        let Some(length) = found.map(|place| self.looked_at + place) else {
            self.looked_at = self.read.len();
            return (self.ended && !self.read.is_empty()).then(|| {
                self.looked_at = 0;
                self.read.split()
            });
        };
        self.looked_at = 0;
        let line = self.read.split_to(length);
        self.read.advance(1);
        Some(line)
    }
}
