//! Where the blobs of an archive are. Everything here blocks.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::oci::{Digest, MAX_MANIFEST_BYTES};

use super::entries::{Entries, Span, Tar};
use super::{Error, Flaw};

/// Where blobs are.
#[derive(Debug)]
pub(super) enum Place {
    /// In a tar.
    Tar {
        tar: Tar,
        blobs: BTreeMap<Digest, Span>,
        /// Manifests that no file has: an archive of `docker save` knows none.
        made: BTreeMap<Digest, Bytes>,
    },
    /// In a folder that is an image layout.
    Folder(PathBuf),
}

/// A blob's bytes.
#[derive(Debug, Clone)]
pub(super) enum Located {
    File(Arc<File>, Span),
    Made(Bytes),
}

impl Place {
    /// Of a tar that is an image layout.
    pub(super) fn of_layout(tar: Tar, entries: &Entries) -> Self {
        let blobs = entries.below("blobs/sha256/");
        // What has no digest for a name is nobody's blob.
        let blobs = blobs.filter_map(|(hex, span)| Some((format!("sha256:{hex}").parse().ok()?, span)));
        Self::Tar { blobs: blobs.collect(), tar, made: BTreeMap::new() }
    }

    /// The blob's size in bytes, if it is here.
    pub(super) fn size(&self, digest: &Digest) -> Option<u64> {
        match self {
            Self::Tar { blobs, made, .. } => {
                let made = made.get(digest).map(|bytes| bytes.len() as u64);
                made.or_else(|| blobs.get(digest).map(|span| span.size))
            }
            Self::Folder(folder) => {
                let found = fs::metadata(blob(folder.clone(), digest)).ok();
                found.filter(|found| found.is_file()).map(|found| found.len())
            }
        }
    }

    pub(super) fn locate(&self, digest: &Digest) -> io::Result<Option<Located>> {
        let Some(size) = self.size(digest) else { return Ok(None) };
        match self {
            Self::Tar { tar, blobs, made } => {
                let made = made.get(digest).map(|bytes| Located::Made(bytes.clone()));
                Ok(made.or_else(|| blobs.get(digest).map(|span| Located::File(tar.file.clone(), *span))))
            }
            Self::Folder(folder) => {
                let file = File::open(blob(folder.clone(), digest))?;
                Ok(Some(Located::File(Arc::new(file), Span { start: 0, size })))
            }
        }
    }

    /// A document, believed only with the right digest; `None` if it is not here.
    pub(super) fn document(&self, archive: &std::path::Path, digest: &Digest) -> Result<Option<Bytes>, Error> {
        let failed = |error| Error::io("reading", archive, error);
        let invalid = |flaw| Error::Invalid { archive: archive.to_path_buf(), flaw };
        let Some(located) = self.locate(digest).map_err(failed)? else { return Ok(None) };
        let (size, limit) = (located.size(), MAX_MANIFEST_BYTES);
        if size > limit {
            return Err(invalid(Flaw::TooLarge { name: digest.to_string(), size, limit }));
        }
        let bytes = located.read(0, size).map_err(failed)?;
        match Digest::of(&bytes) {
            found if found == *digest => Ok(Some(bytes)),
            found => Err(invalid(Flaw::WrongDigest { digest: digest.clone(), found })),
        }
    }
}

fn blob(folder: PathBuf, digest: &Digest) -> PathBuf {
    folder.join("blobs/sha256").join(digest.hex())
}

impl Located {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::File(_, span) => span.size,
            Self::Made(bytes) => bytes.len() as u64,
        }
    }

    /// Up to `most` bytes from `offset` on, all of them if there are as many.
    pub(super) fn read(&self, offset: u64, most: u64) -> io::Result<Bytes> {
        let length = usize::try_from(self.size().saturating_sub(offset).min(most)).map_err(io::Error::other)?;
        match self {
            Self::File(file, span) => {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, span.start + offset.min(span.size))?;
                Ok(bytes.into())
            }
            Self::Made(bytes) => {
                let offset = usize::try_from(offset).unwrap_or(bytes.len()).min(bytes.len());
                Ok(bytes.slice(offset..offset + length))
            }
        }
    }
}
