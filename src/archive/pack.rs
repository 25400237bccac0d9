//! A tar as a list of parts whose size is known, and as a stream.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use tokio_tar::{EntryType, Header};

use crate::store::Store;

use super::{BLOCK, Error, Layer, name, padding};

/// The longest path that a header has room for.
const LONGEST: usize = 100;

/// A piece of a tar.
#[derive(Debug, Clone)]
enum Part {
    Bytes(Bytes),
    Blob(Layer),
}

/// A tar that is laid out, but not yet read. Clones share its documents.
#[derive(Debug, Clone)]
pub struct Packed {
    parts: Arc<[Part]>,
    size: u64,
}

/// A tar in the making. Same calls, same bytes: owner 0, time 0.
#[derive(Debug, Default)]
pub(super) struct Packing {
    parts: Vec<Part>,
    /// What is in memory since the last blob.
    bytes: BytesMut,
    size: u64,
}

impl Packing {
    pub(super) fn directory(&mut self, path: &str) -> Result<(), Error> {
        self.append(&header(EntryType::Directory, path, 0o755, 0)?);
        Ok(())
    }

    pub(super) fn file(&mut self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Result<(), Error> {
        let content = content.as_ref();
        self.begin(path, mode, content.len() as u64)?;
        self.append(content);
        self.pad(content.len() as u64);
        Ok(())
    }

    pub(super) fn blob(&mut self, path: &str, layer: &Layer) -> Result<(), Error> {
        self.begin(path, 0o644, layer.descriptor.size)?;
        self.flush();
        self.parts.push(Part::Blob(layer.clone()));
        self.size += layer.descriptor.size;
        self.pad(layer.descriptor.size);
        Ok(())
    }

    /// The header of a file whose content comes next.
    pub(super) fn begin(&mut self, path: &str, mode: u32, size: u64) -> Result<(), Error> {
        self.append(&header(EntryType::Regular, path, mode, size)?);
        Ok(())
    }

    /// What is behind the content of a file.
    pub(super) fn pad(&mut self, size: u64) {
        self.append(&[0; BLOCK as usize][..padding(size) as usize]);
    }

    pub(super) fn end(&mut self) {
        self.append(&[0; 2 * BLOCK as usize]);
    }

    /// What was put into memory since the beginning or the last call.
    pub(super) fn take(&mut self) -> Bytes {
        self.bytes.split().freeze()
    }

    pub(super) fn finish(mut self) -> Packed {
        self.end();
        self.flush();
        Packed { parts: self.parts.into(), size: self.size }
    }

    fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.size += bytes.len() as u64;
    }

    fn flush(&mut self) {
        let bytes = self.take();
        self.parts.push(Part::Bytes(bytes));
    }
}

fn header(kind: EntryType, path: &str, mode: u32, size: u64) -> Result<[u8; BLOCK as usize], Error> {
    let refused = || Error::Path { path: path.into() };
    let is_plain = name::plain(path.as_bytes()).is_ok_and(|plain| plain == path && !plain.is_empty());
    if !is_plain || path.len() > LONGEST {
        return Err(refused());
    }
    let mut header = Header::new_gnu();
    header.set_path(path).map_err(|_| refused())?;
    header.set_entry_type(kind);
    header.set_mode(mode & 0o7777);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(*header.as_bytes())
}

impl Packed {
    /// The number of bytes that [`Packed::stream`] yields.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The tar's bytes; may be called again. Each layer is read from `store`, which fetches it if it is not held.
    ///
    /// Yields [`Error::Blob`] at most once, as its last item, and then not the tar's end.
    pub fn stream(&self, store: &Store) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static + use<> {
        let (store, parts) = (store.clone(), self.parts.clone());
        let parts = (0..parts.len()).filter_map(move |index| parts.get(index).cloned());
        let streams = stream::iter(parts).then(move |part| {
            let store = store.clone();
            async move { part.open(&store).await }
        });
        until_error(streams.try_flatten())
    }
}

impl Part {
    async fn open(self, store: &Store) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let Layer { descriptor, source } = match self {
            Self::Bytes(bytes) => return Ok(stream::iter([Ok(bytes)]).boxed()),
            Self::Blob(layer) => layer,
        };
        let digest = descriptor.digest.clone();
        let failed = move |source| Error::Blob { digest: digest.clone(), source };
        let reader = store.open_blob(&descriptor, source).await.map_err(&failed)?;
        Ok(exactly(reader.map_err(failed), descriptor.digest.to_string(), descriptor.size).boxed())
    }
}

/// `stream`, which fails where it gives another number of bytes than `size`.
pub(super) fn exactly<S>(stream: S, name: String, size: u64) -> impl Stream<Item = Result<Bytes, Error>> + Send
where
    S: Stream<Item = Result<Bytes, Error>> + Send,
{
    stream::try_unfold((Box::pin(stream), name, 0), move |(mut stream, name, given)| async move {
        let next = stream.try_next().await?;
        let given = next.as_ref().map_or(0, |bytes| bytes.len() as u64).saturating_add(given);
        match next {
            Some(bytes) if given <= size => Ok(Some((bytes, (stream, name, given)))),
            None if given == size => Ok(None),
            _ => Err(Error::Length { name, expected: size, given }),
        }
    })
}

/// `stream` up to its first error: what is behind a failed part would make the rest look whole.
pub(super) fn until_error<S>(stream: S) -> impl Stream<Item = Result<Bytes, Error>> + Send
where
    S: Stream<Item = Result<Bytes, Error>> + Send,
{
    let next =
        |mut stream: std::pin::Pin<Box<S>>| async move { Ok(stream.try_next().await?.map(|bytes| (bytes, stream))) };
    stream::try_unfold(Box::pin(stream), next)
}
