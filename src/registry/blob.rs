//! Blobs: a stream of bytes that survives cuts.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, Stream, StreamExt, try_unfold};
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use tokio::sync::OwnedSemaphorePermit;

use super::endpoint::Endpoint;
use super::transport::{Answer, Body};
use super::{Asked, Client, Error, Kind, Object, Wish};
use crate::oci::{Descriptor, Digest, MAX_MANIFEST_BYTES, Reference};

/// Less than this between two cuts is no progress: a server that gives one byte a connection is not waited for.
const PROGRESS: u64 = 64 << 10;

/// The bytes of a blob from an offset to its end, as they arrive.
///
/// It never yields more bytes than the descriptor's size leaves, and ends with `None` only when it has yielded all of
/// them; everything else is an error, after which it ends. **The bytes are not hashed here**: whoever stores them must. A
/// stream that is not polled keeps its place among the few that a registry allows at a time: drop it when it is not wanted.
pub struct BlobStream {
    inner: BoxStream<'static, Result<Bytes, Error>>,
    digest: Digest,
}

impl Stream for BlobStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_next_unpin(context)
    }
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobStream").field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl Client {
    /// A small blob, such as an image's config: at most 4 MiB, checked against its digest.
    ///
    /// # Errors
    /// [`Error::Oversized`] without asking when the descriptor says more; [`Error::WrongDigest`]; else as
    /// [`Client::blob`].
    pub async fn small_blob(&self, repository: &Reference, descriptor: &Descriptor) -> Result<Bytes, Error> {
        let wanted = Wanted::new(repository, descriptor);
        if descriptor.size > MAX_MANIFEST_BYTES {
            let asked = wanted.asked(self.endpoints(repository)?.first());
            return Err(Error::Oversized { asked: Box::new(asked), limit: MAX_MANIFEST_BYTES });
        }
        let mut stream = self.blob(repository, descriptor, 0).await?;
        let mut all = BytesMut::new();
        while let Some(bytes) = stream.next().await {
            all.extend_from_slice(&bytes?);
        }
        let computed = Digest::of(&all);
        if computed != descriptor.digest {
            let asked = Box::new(wanted.asked(self.endpoints(repository)?.first()));
            return Err(Error::WrongDigest { asked, expected: descriptor.digest.clone(), computed });
        }
        Ok(all.freeze())
    }

    /// The blob `descriptor` of `repository` (its tag and digest do not matter) from byte `offset` to its end.
    ///
    /// Returns when the first answer has begun. A connection that is cut or silent later is replaced inside the stream,
    /// at the byte where it ended; after as many cuts in a row as [`super::Retry`] allows without progress the next
    /// address is tried, and in the end the stream fails.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Range`] when `offset` is beyond the end, or when another part is sent than was asked for.
    pub async fn blob(
        &self,
        repository: &Reference,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<BlobStream, Error> {
        let digest = descriptor.digest.clone();
        let wanted = Wanted::new(repository, descriptor);
        let mut transfer = Transfer::new(self.clone(), wanted, offset, self.endpoints(repository)?)?;
        if offset < descriptor.size {
            transfer.begin().await?;
        }
        let inner =
            try_unfold(
                transfer,
                |mut transfer| async move { Ok(transfer.next().await?.map(|bytes| (bytes, transfer))) },
            );
        Ok(BlobStream { inner: inner.boxed(), digest })
    }
}

/// Which blob.
#[derive(Debug, Clone)]
struct Wanted {
    object: Object,
    repository: String,
    digest: Digest,
    size: u64,
}

impl Wanted {
    fn new(repository: &Reference, descriptor: &Descriptor) -> Self {
        Self {
            object: Object::Blob { repository: repository.name(), digest: descriptor.digest.clone() },
            repository: repository.repository().into(),
            digest: descriptor.digest.clone(),
            size: descriptor.size,
        }
    }

    fn asked(&self, endpoint: Option<&Endpoint>) -> Asked {
        match endpoint {
            Some(endpoint) => Asked::new(self.object.clone(), &endpoint.base),
            None => Asked { object: self.object.clone(), at: String::new() },
        }
    }

    fn wish(&self, position: u64) -> Wish {
        let last = self.size.saturating_sub(1);
        let range = (position > 0).then(|| HeaderValue::from_str(&format!("bytes={position}-{last}")).ok()).flatten();
        Wish {
            object: self.object.clone(),
            repository: self.repository.clone(),
            path: format!("blobs/{}", self.digest),
            accept: HeaderValue::from_static("*/*"),
            range,
        }
    }
}

/// A blob on its way.
struct Transfer {
    client: Client,
    wanted: Wanted,
    /// The next byte to yield.
    position: u64,
    /// Not yet given up, the present one first; never empty.
    endpoints: Vec<Endpoint>,
    /// Why the others were given up.
    failed: Vec<Error>,
    current: Option<Part>,
    /// Pauses left before this endpoint is given up.
    pauses: Box<dyn Iterator<Item = Duration> + Send>,
    /// Where the last cut was.
    cut_at: u64,
}

/// An answer that is being read.
struct Part {
    body: Body,
    /// Bytes to throw away: a 200 starts at 0.
    skip: u64,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Transfer {
    fn new(client: Client, wanted: Wanted, position: u64, endpoints: Vec<Endpoint>) -> Result<Self, Error> {
        if position > wanted.size {
            let asked = Box::new(wanted.asked(endpoints.first()));
            return Err(Error::Range { asked, wanted: format!("{position}-/{}", wanted.size), got: String::new() });
        }
        let pauses = Box::new(client.inner.retry.pauses());
        Ok(Self { client, wanted, position, endpoints, failed: Vec::new(), current: None, pauses, cut_at: position })
    }

    /// Opens the first answer.
    async fn begin(&mut self) -> Result<(), Error> {
        while self.current.is_none() {
            if let Err(error) = self.open().await {
                self.recover(error).await?;
            }
        }
        Ok(())
    }

    /// The next bytes, whatever it takes; `None` when all are yielded.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while self.position < self.wanted.size {
            match self.step().await {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => {
                    self.position += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Err(error) => self.recover(error).await?,
            }
        }
        self.finish().await
    }

    /// One piece of the present answer, after opening one if there is none.
    async fn step(&mut self) -> Result<Bytes, Error> {
        let Some(part) = &mut self.current else {
            self.open().await?;
            return Ok(Bytes::new());
        };
        let received = part.body.received;
        let Some(mut bytes) = part.body.chunk().await? else {
            let asked = Box::new(part.body.asked.clone());
            return Err(Error::Truncated { asked, received, expected: Some(self.wanted.size), source: None });
        };
        let skipped = part.skip.min(bytes.len() as u64);
        part.skip -= skipped;
        // Never more than the chunk has, so it fits.
        let bytes = bytes.split_off(usize::try_from(skipped).unwrap_or(bytes.len()));
        if bytes.len() as u64 > self.wanted.size - self.position {
            let asked = Box::new(part.body.asked.clone());
            return Err(Error::Oversized { asked, limit: self.wanted.size });
        }
        Ok(bytes)
    }

    /// After the last byte: an answer of unannounced length may go on, and then it is not this blob.
    async fn finish(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(mut part) = self.current.take() else { return Ok(None) };
        if part.body.announced.is_some() {
            return Ok(None);
        }
        match part.body.chunk().await {
            Ok(Some(more)) if !more.is_empty() => {
                Err(Error::Oversized { asked: Box::new(part.body.asked), limit: self.wanted.size })
            }
            // All bytes are here; how the connection ended does not matter.
            _ => Ok(None),
        }
    }

    async fn open(&mut self) -> Result<(), Error> {
        let Some(endpoint) = self.endpoints.first() else { return Ok(()) };
        let turn = self.client.gate(endpoint, Kind::Blob).await;
        let answer = self.client.ask(endpoint, &self.wanted.wish(self.position)).await?;
        let skip = self.skip(&answer)?;
        self.current = Some(Part { body: answer.body, skip, _turn: turn });
        Ok(())
    }

    /// Checks that `answer` is the part that was asked for; how many of its bytes come before it.
    fn skip(&self, answer: &Answer) -> Result<u64, Error> {
        let asked = || Box::new(answer.asked.clone());
        let (position, size) = (self.position, self.wanted.size);
        let partial = answer.status == StatusCode::PARTIAL_CONTENT;
        if partial {
            let got = answer.header("content-range").unwrap_or_default();
            let wanted = format!("{position}-{}/{size}", size.saturating_sub(1));
            if !is_range(got, position, size) {
                return Err(Error::Range { asked: asked(), wanted, got: got.chars().take(80).collect() });
            }
        }
        let expected = if partial { size - position } else { size };
        match answer.body.announced {
            Some(length) if length > expected => Err(Error::Oversized { asked: asked(), limit: expected }),
            Some(length) if length < expected => {
                Err(Error::Truncated { asked: asked(), received: length, expected: Some(expected), source: None })
            }
            _ => Ok(if partial { 0 } else { position }),
        }
    }

    /// After a failure: pauses and leaves the rest to the next try at the same address; or goes on to the next address;
    /// or gives up.
    async fn recover(&mut self, error: Error) -> Result<(), Error> {
        self.current = None;
        let retry = self.client.inner.retry;
        if self.position - self.cut_at >= PROGRESS {
            self.cut_at = self.position;
            self.pauses = Box::new(retry.pauses());
        }
        let near = retry.near(&error);
        let passing = error.is_transient() || near.is_some();
        if let Some(pause) = self.pauses.next().filter(|_| passing) {
            tracing::debug!(%error, position = self.position, "resuming");
            tokio::time::sleep(near.unwrap_or(pause)).await;
            return Ok(());
        }
        if self.endpoints.len() <= 1 {
            return Err(Error::of_all(std::mem::take(&mut self.failed), error));
        }
        tracing::debug!(%error, "the next address is tried");
        self.endpoints.remove(0);
        self.failed.push(error);
        self.pauses = Box::new(retry.pauses());
        Ok(())
    }
}

/// Whether a `Content-Range` says `bytes POSITION-LAST/SIZE`; the size may be `*`.
fn is_range(text: &str, position: u64, size: u64) -> bool {
    let Some((range, total)) = text.strip_prefix("bytes ").and_then(|rest| rest.split_once('/')) else { return false };
    let Some((first, last)) = range.split_once('-') else { return false };
    let is = |text: &str, number: u64| text.trim().parse() == Ok(number);
    is(first, position) && size > 0 && is(last, size - 1) && (total.trim() == "*" || is(total, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_range_that_was_asked_for_is_one() {
        assert!(is_range("bytes 10-99/100", 10, 100));
        assert!(is_range("bytes 10-99/*", 10, 100));
        for wrong in
            ["bytes 0-99/100", "bytes 10-98/100", "bytes 10-99/101", "bytes */100", "10-99/100", "", "bytes -/"]
        {
            assert!(!is_range(wrong, 10, 100), "{wrong}");
        }
        assert!(!is_range("bytes 0-0/0", 0, 0));
    }
}
