//! The file that a blob's bytes arrive in, and the lock that says who writes it. Everything here blocks.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use crate::oci::{Descriptor, Digest, Hasher};

use super::Error;
use super::layout::{self, Identity, Layout};

/// A partial file, opened twice: the lock belongs to the writer's handle alone and ends with it, while readers keep
/// theirs for as long as they read, also when the file has been renamed or removed.
#[derive(Debug)]
pub(super) struct Partial {
    reader: Arc<File>,
    writer: File,
}

/// What is true once the lock is ours.
#[derive(Debug)]
pub(super) enum Settled {
    /// The blob is incomplete, and it is ours to complete.
    Ours,
    /// The blob is held, in this file.
    Held(File),
    /// The file was removed or renamed while we waited for its lock: look again.
    Gone,
}

impl Partial {
    /// Opens the partial file, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        // Between the two opens another process may rename the file away; then the handles differ.
        for _ in 0..100 {
            let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
            let pair = open().and_then(|writer| Ok((writer, open()?)));
            let (writer, reader) = pair.map_err(|error| Error::io("opening", path, error))?;
            if same_file(&writer, &reader).map_err(|error| Error::io("reading", path, error))? {
                return Ok(Self { reader: Arc::new(reader), writer });
            }
        }
        Err(Error::io("opening", path, io::Error::from(io::ErrorKind::ResourceBusy)))
    }

    pub(super) fn reader(&self) -> Arc<File> {
        self.reader.clone()
    }

    /// Bytes in it, by whomever.
    pub(super) fn size(&self) -> io::Result<u64> {
        Ok(self.reader.metadata()?.len())
    }

    /// Whether the lock is ours now. It ends when this value is dropped, and with the process.
    pub(super) fn try_lock(&self) -> io::Result<bool> {
        match self.writer.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether readers of this file have read what is in `other`.
    pub(super) fn is(&self, other: &File) -> bool {
        same_file(&self.reader, other).unwrap_or(false)
    }

    /// With the lock held: what has happened to the blob in the meantime. A damaged file in the blob's place is removed
    /// here, under the lock, so that nobody removes the good one that follows it.
    pub(super) fn settle(&self, layout: &Layout, wanted: &Descriptor) -> Result<Settled, Error> {
        let path = layout.partial(&wanted.digest);
        if let Some(blob) = held(layout, wanted)? {
            if self.is_at(&path) {
                layout::remove(&path)?;
            }
            return Ok(Settled::Held(blob));
        }
        if !self.is_at(&path) {
            return Ok(Settled::Gone);
        }
        let size = self.size().map_err(|error| Error::io("reading", &path, error))?;
        if size <= wanted.size {
            return Ok(Settled::Ours);
        }
        // Never truncated: another process may be reading along.
        layout::remove(&path)?;
        Ok(Settled::Gone)
    }

    fn is_at(&self, path: &Path) -> bool {
        File::open(path).is_ok_and(|there| self.is(&there))
    }
}

/// The blob in its place, hashed; a damaged one is removed.
fn held(layout: &Layout, wanted: &Descriptor) -> Result<Option<File>, Error> {
    let path = layout.blob(&wanted.digest);
    let failed = |error| Error::io("reading", &path, error);
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    if layout::hash(&mut file).map_err(failed)? != wanted.digest {
        tracing::debug!(digest = %wanted.digest, "held blob is damaged: thrown away");
        layout::remove(&path)?;
        return Ok(None);
    }
    let found = file.metadata().map_err(failed)?.len();
    if found != wanted.size {
        // The blob is right, so the descriptor is not.
        return Err(Error::WrongSize { digest: wanted.digest.clone(), expected: wanted.size, found });
    }
    Ok(Some(file))
}

fn same_file(one: &File, other: &File) -> io::Result<bool> {
    Ok(Identity::of(one)?.is_same_file(&Identity::of(other)?))
}

/// A locked partial file together with the hash of what is in it.
#[derive(Debug)]
pub(super) struct Ingest {
    partial: Partial,
    wanted: Descriptor,
    hasher: Hasher,
    written: u64,
    resumed: u64,
    layout: Layout,
}

impl Ingest {
    /// Hashes what an earlier run left.
    pub(super) fn resume(partial: Partial, layout: &Layout, wanted: &Descriptor) -> Result<Self, Error> {
        let mut hasher = Hasher::new();
        let resumed = layout::hash_into(&mut hasher, &mut &partial.writer)
            .map_err(|error| Error::io("reading", &layout.partial(&wanted.digest), error))?;
        Ok(Self { partial, wanted: wanted.clone(), hasher, written: resumed, resumed, layout: layout.clone() })
    }

    /// Bytes in the file.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Adds the next bytes.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = self.partial.writer.write_all_at(bytes, self.written);
        written.map_err(|error| Error::io("writing", &self.layout.partial(&self.wanted.digest), error))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Checks the digest and gives the blob its name; the lock ends. Wrong bytes are thrown away.
    pub(super) fn finish(self) -> Result<Identity, Error> {
        let digest = self.wanted.digest;
        let (from, to) = (self.layout.partial(&digest), self.layout.blob(&digest));
        let found: Digest = self.hasher.finish();
        if found != digest {
            layout::remove(&from)?;
            return Err(Error::WrongDigest { digest, found, resumed: self.resumed });
        }
        let keep = || {
            self.partial.writer.sync_all()?;
            fs::rename(&from, &to)?;
            to.parent().map_or(Ok(()), layout::sync_folder)?;
            Identity::of(&self.partial.writer)
        };
        keep().map_err(|error| Error::io("writing", &to, error))
    }
}
