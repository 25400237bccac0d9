//! Readers of a blob, each at its own pace.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream};

use crate::oci::Digest;

use super::download::Download;
use super::{Error, blocking};

/// The most that a reader gets, and holds in memory, at once.
const CHUNK: u64 = 128 << 10;

/// A stream of a blob's bytes, in chunks of at most 128 KiB, read from the disk as they are asked for.
///
/// Yields [`Error`] at most once, as its last item; a blob's last bytes come only after its digest was checked. While a
/// reader lives, so does the download that it reads.
pub struct BlobReader {
    download: Arc<Download>,
    range: Range<u64>,
    chunks: Option<BoxStream<'static, Result<Bytes, Error>>>,
}

impl BlobReader {
    pub(super) fn new(download: Arc<Download>) -> Self {
        let range = 0..download.descriptor.size;
        Self { download, range, chunks: None }
    }

    /// The same blob from `range.start` to before `range.end`, cut to its size. Also restarts the reader.
    #[must_use]
    pub fn range(self, range: Range<u64>) -> Self {
        let end = range.end.min(self.size());
        Self { range: range.start.min(end)..end, chunks: None, ..self }
    }

    /// The size of the whole blob in bytes.
    pub fn size(&self) -> u64 {
        self.download.descriptor.size
    }
}

impl Stream for BlobReader {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let (download, range) = (&this.download, &this.range);
        let chunks = this.chunks.get_or_insert_with(|| chunks(download.clone(), range.clone()));
        chunks.as_mut().poll_next(context)
    }
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = &self.download.descriptor.digest;
        f.debug_struct("BlobReader").field("digest", digest).field("range", &self.range).finish_non_exhaustive()
    }
}

fn chunks(download: Arc<Download>, range: Range<u64>) -> BoxStream<'static, Result<Bytes, Error>> {
    let next = |(download, range): (Arc<Download>, Range<u64>)| async move {
        if range.is_empty() {
            // Also an empty blob, or an empty range of one, is what it claims to be only when the download says so.
            return if range.end == download.descriptor.size {
                ended(&download).await.map(|()| None)
            } else {
                Ok(None)
            };
        }
        let (file, readable) = readable_after(&download, range.start).await?;
        let until = range.end.min(readable).min(range.start.saturating_add(CHUNK));
        let bytes = read(&download.descriptor.digest, file, range.start..until).await?;
        Ok(Some((bytes, (download, until..range.end))))
    };
    Box::pin(stream::try_unfold((download, range), next))
}

/// Waits until there is something to read after `position`; the download's own deadlines bound the wait.
async fn readable_after(download: &Download, position: u64) -> Result<(Arc<File>, u64), Error> {
    let interrupted = || Error::Interrupted { digest: download.descriptor.digest.clone() };
    let mut state = download.state.clone();
    let state = state.wait_for(|state| state.readable > position || state.end.is_some()).await;
    let state = state.map_err(|_| interrupted())?.clone();
    if let Some(Err(error)) = state.end {
        return Err(error);
    }
    Ok((state.file.ok_or_else(interrupted)?, state.readable))
}

async fn ended(download: &Download) -> Result<(), Error> {
    let mut state = download.state.clone();
    let state = state.wait_for(|state| state.end.is_some()).await.map(|state| state.end.clone());
    state.ok().flatten().unwrap_or_else(|| Err(Error::Interrupted { digest: download.descriptor.digest.clone() }))
}

async fn read(digest: &Digest, file: Arc<File>, range: Range<u64>) -> Result<Bytes, Error> {
    let read = move || -> io::Result<Bytes> {
        let size = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut bytes = vec![0; size];
        file.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes.into())
    };
    let name = std::path::Path::new(digest.hex());
    blocking(digest, read).await?.map_err(|error| Error::io("reading", name, error))
}
