//! A stream as a file in a tar: how an archive gets into a container.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};

use super::Error;
use super::pack::{Packing, exactly, until_error};

/// A tar around one stream of known size, with small files in front of it. Parents of all of them are in it as
/// directories (mode 0755), each before what is in it.
#[derive(Debug)]
pub struct Wrapping {
    packing: Packing,
    directories: BTreeSet<String>,
}

/// A tar that is laid out, but for the one file that comes as a stream.
#[derive(Debug, Clone)]
pub struct Wrapped {
    head: Bytes,
    tail: Bytes,
    path: String,
    size: u64,
}

impl Wrapping {
    /// A tar with nothing in it.
    pub fn new() -> Self {
        Self { packing: Packing::default(), directories: BTreeSet::new() }
    }

    /// Puts a small file in front: an empty one, a note beside the archive.
    ///
    /// # Errors
    /// [`Error::Path`] where `path` is not relative and plain, or has more than 100 bytes.
    pub fn file(mut self, path: &str, mode: u32, content: &[u8]) -> Result<Self, Error> {
        self.parents(path)?;
        self.packing.file(path, mode, content)?;
        Ok(self)
    }

    /// Says where the stream goes, and how many bytes it will have.
    ///
    /// # Errors
    /// As [`Wrapping::file`].
    pub fn around(mut self, path: &str, mode: u32, size: u64) -> Result<Wrapped, Error> {
        self.parents(path)?;
        self.packing.begin(path, mode, size)?;
        let head = self.packing.take();
        self.packing.pad(size);
        self.packing.end();
        Ok(Wrapped { head, tail: self.packing.take(), path: path.into(), size })
    }

    fn parents(&mut self, path: &str) -> Result<(), Error> {
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            if self.directories.insert(parent.into()) {
                self.packing.directory(parent)?;
            }
        }
        Ok(())
    }
}

impl Wrapped {
    /// The number of bytes of the whole tar.
    pub fn size(&self) -> u64 {
        self.size + self.head.len() as u64 + self.tail.len() as u64
    }

    /// The tar's bytes, with those of `inner` in their place.
    ///
    /// Yields an error at most once, as its last item, and then not the tar's end: that of `inner`, or
    /// [`Error::Length`] where it has another size than was said.
    pub fn stream<S>(&self, inner: S) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static + use<S>
    where
        S: Stream<Item = Result<Bytes, Error>> + Send + 'static,
    {
        let whole = |bytes: &Bytes| stream::iter([Ok(bytes.clone())]);
        let inner = exactly(inner, self.path.clone(), self.size);
        until_error(whole(&self.head).chain(inner).chain(whole(&self.tail)))
    }
}

impl Default for Wrapping {
    fn default() -> Self {
        Self::new()
    }
}
