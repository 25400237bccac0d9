//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::oci::Digest;

use super::SourceError;

/// What went wrong in the store. Clones share their source: one failed download has many readers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("{attempt} {path} failed")]
    Io {
        /// What was tried: "reading", "creating".
        attempt: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: Arc<io::Error>,
    },
    /// The disk or the quota is full. What arrived is kept.
    #[error("no space left for {path}")]
    NoSpace {
        /// The file that could not grow.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: Arc<io::Error>,
    },
    /// The blob is not in the store.
    #[error("{digest} is not in the store")]
    NotHeld {
        /// Which.
        digest: Digest,
    },
    /// Larger than a document may be.
    #[error("{digest} has {size} bytes, at most {limit} are read at once")]
    TooLarge {
        /// Which.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// What arrived is not what was asked for. It has been thrown away.
    #[error("the bytes that arrived as {digest} have the digest {found}")]
    WrongDigest {
        /// The wanted one.
        digest: Digest,
        /// The digest of what arrived.
        found: Digest,
        /// How many of the bytes had been left by an earlier run; damage there is as likely as a bad upstream.
        resumed: u64,
    },
    /// The blob has another size than its descriptor says.
    #[error("{digest} should have {expected} bytes, {found} or more arrived")]
    WrongSize {
        /// Which.
        digest: Digest,
        /// What the descriptor says, in bytes.
        expected: u64,
        /// What arrived, in bytes.
        found: u64,
    },
    /// Upstream ended before the blob did. What arrived is kept.
    #[error("{digest} ended after {received} of {expected} bytes")]
    Short {
        /// Which.
        digest: Digest,
        /// What the descriptor says, in bytes.
        expected: u64,
        /// Bytes on the disk.
        received: u64,
    },
    /// Upstream failed. What arrived is kept.
    #[error("{digest} could not be fetched")]
    Upstream {
        /// Which.
        digest: Digest,
        /// What upstream's client says; see [`Error::upstream`].
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// Upstream sent nothing for too long. What arrived is kept.
    #[error("nothing of {digest} arrived for {} s, {received} bytes are there", waited.as_secs())]
    Stalled {
        /// Which.
        digest: Digest,
        /// How long.
        waited: Duration,
        /// Bytes on the disk.
        received: u64,
    },
    /// Another process holds the lock of the file and makes no progress.
    #[error("another k3arm holds {path} and made no progress for {} s", waited.as_secs())]
    Busy {
        /// The locked file.
        path: PathBuf,
        /// How long.
        waited: Duration,
    },
    /// Another process threw away the download that this one was reading along.
    #[error("another k3arm discarded the download of {digest}")]
    Discarded {
        /// Which.
        digest: Digest,
    },
    /// The work was cut off, because k3arm is ending.
    #[error("the work on {digest} was interrupted")]
    Interrupted {
        /// Which.
        digest: Digest,
    },
    /// `index.json` is not an OCI index.
    #[error("{path} is not an OCI index")]
    Index {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<serde_json::Error>,
    },
}

impl Error {
    pub(super) fn io(attempt: &'static str, path: &Path, error: io::Error) -> Self {
        let (path, source) = (path.to_path_buf(), Arc::new(error));
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path, source },
            _ => Self::Io { attempt, path, source },
        }
    }

    pub(super) fn from_upstream(digest: &Digest, error: SourceError) -> Self {
        Self::Upstream { digest: digest.clone(), source: Arc::from(error) }
    }

    /// What upstream's client said, to be downcast to its type.
    pub fn upstream(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        match self {
            Self::Upstream { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }

    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSpace { path, .. } => Some(format!(
                "free space on the file system of {} and run the command again: it goes on where it stopped",
                path.display()
            )),
            Self::Io { path, source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(format!("give your user write access to {}: ls -ld {0}", path.display()))
            }
            Self::Io { path, source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                Some(format!("{} is on a read-only file system: choose another folder for the store", path.display()))
            }
            Self::WrongDigest { .. } | Self::Discarded { .. } => {
                Some("run the command again: the blob is fetched anew from its first byte".into())
            }
            Self::Short { .. } | Self::Stalled { .. } => {
                Some("run the command again: it goes on where it stopped".into())
            }
            Self::Busy { path, .. } => Some(format!("see which process holds it: fuser -v {}", path.display())),
            Self::Index { path, .. } => Some(format!("move it away, blobs are kept: mv {} {0}.broken", path.display())),
            _ => None,
        }
    }
}
