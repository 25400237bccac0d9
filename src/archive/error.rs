//! What can go wrong with archives.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::oci::{Digest, Reference};
use crate::store;

/// The reason below an [`Error`].
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// What went wrong with an archive.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("{attempt} {path} failed")]
    Io {
        /// What was tried: "reading", "opening".
        attempt: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: Arc<io::Error>,
    },
    /// The disk or the quota is full: an archive that is compressed, or comes as a stream, needs its full size there.
    #[error("no space left in {folder} to unpack {archive}")]
    NoSpace {
        /// Where the unnamed temporary file is.
        folder: PathBuf,
        /// What was being unpacked.
        archive: PathBuf,
        /// The system's answer.
        #[source]
        source: Arc<io::Error>,
    },
    /// The archive cannot be used as it is.
    #[error("{archive} cannot be used")]
    Invalid {
        /// Which.
        archive: PathBuf,
        /// Why.
        #[source]
        flaw: Flaw,
    },
    /// The stream that an archive is read from failed.
    #[error("{archive} could not be read to its end")]
    Stream {
        /// Which.
        archive: PathBuf,
        /// What its sender says.
        #[source]
        source: Cause,
    },
    /// A blob that belongs into the archive could not be had.
    #[error("{digest} could not be put into the archive")]
    Blob {
        /// Which.
        digest: Digest,
        /// What the store says.
        #[source]
        source: store::Error,
    },
    /// A stream gave fewer bytes than it was to, or more.
    #[error("{name} should have {expected} bytes, but {given} or more came")]
    Length {
        /// The file in the archive.
        name: String,
        /// In bytes.
        expected: u64,
        /// In bytes.
        given: u64,
    },
    /// A document is not the one that its descriptor names, or two descriptors of one blob differ.
    #[error("{digest} is described wrongly: the bytes have the digest {found}, {size} bytes")]
    Described {
        /// What the descriptor says.
        digest: Digest,
        /// What it is.
        found: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// Two images of one name, and one archive.
    #[error("the archive would have two images named {reference}")]
    SameName {
        /// The name.
        reference: Box<Reference>,
    },
    /// Docker's `manifest.json` has one platform only.
    #[error("{images} platforms of {reference} do not fit into an archive for docker load: it takes one")]
    Platforms {
        /// The image.
        reference: Box<Reference>,
        /// How many there are.
        images: usize,
    },
    /// A path that cannot be written into a tar.
    #[error("{path:?} cannot be a path in an archive")]
    Path {
        /// The path.
        path: String,
    },
    /// The work was cut off, because k3arm is ending.
    #[error("the work on {archive} was interrupted")]
    Interrupted {
        /// Which.
        archive: PathBuf,
    },
}

/// Why an archive cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Flaw {
    /// Another kind of file.
    #[error("it holds no images: neither an OCI image layout nor what docker save writes")]
    NoImages,
    /// It ends too early.
    #[error("it is cut off: after {size} bytes something is missing")]
    CutOff {
        /// How many bytes there are.
        size: u64,
    },
    /// Not a tar, or a damaged one.
    #[error("it is damaged at byte {at}: {what}")]
    Damaged {
        /// Where the entry begins.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// Compressed, and damaged.
    #[error("its compressed data is damaged or cut off")]
    Compression {
        /// What the decompressor says.
        #[source]
        source: Arc<io::Error>,
    },
    /// A name that is none in an archive of images.
    #[error("its entry {name:?} is refused: names are relative, plain and short")]
    Name {
        /// What of it can be shown.
        name: String,
    },
    /// The same name twice: which of the two is meant would be a guess.
    #[error("it has two entries {name:?}")]
    Twice {
        /// The name.
        name: String,
    },
    /// More than any archive of images has.
    #[error("it has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are read.
        limit: usize,
    },
    /// Larger than a document may be.
    #[error("{name} has {size} bytes, at most {limit} are read at once")]
    TooLarge {
        /// Which.
        name: String,
        /// In bytes.
        size: u64,
        /// In bytes.
        limit: u64,
    },
    /// Something that it names itself is not there.
    #[error("it lacks {name}")]
    Missing {
        /// A file, or a digest.
        name: String,
    },
    /// A document that cannot be read.
    #[error("its {name} makes no sense")]
    Document {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The bytes are not those that the digest names.
    #[error("what it has as {digest} has the digest {found}")]
    WrongDigest {
        /// The wanted one.
        digest: Digest,
        /// What it is.
        found: Digest,
    },
    /// A blob of another size than its descriptor says.
    #[error("it has {found} bytes as {digest}, which should be {expected}")]
    WrongSize {
        /// Which.
        digest: Digest,
        /// What the descriptor says, in bytes.
        expected: u64,
        /// What is there, in bytes.
        found: u64,
    },
}

impl Error {
    pub(super) fn io(attempt: &'static str, path: &Path, error: io::Error) -> Self {
        Self::Io { attempt, path: path.to_path_buf(), source: Arc::new(error) }
    }

    /// What writing to the temporary file of `archive` in `folder` came to.
    pub(super) fn spool(folder: &Path, archive: &Path, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let (folder, archive) = (folder.to_path_buf(), archive.to_path_buf());
                Self::NoSpace { folder, archive, source: Arc::new(error) }
            }
            _ => Self::io("writing a temporary file in", folder, error),
        }
    }

    /// What is wrong with the archive, if that is what failed.
    pub fn flaw(&self) -> Option<&Flaw> {
        match self {
            Self::Invalid { flaw, .. } => Some(flaw),
            _ => None,
        }
    }

    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSpace { folder, .. } => Some(format!(
                "free space on the file system of {} (df -h {0}), or unpack the archive yourself where there is space",
                folder.display()
            )),
            Self::Io { path, source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(format!("see who may read and write it: ls -ld {}", path.display()))
            }
            Self::Io { path, source, .. } if source.kind() == io::ErrorKind::NotFound => Some(format!(
                "nothing is there: is {} the right name? An image of this machine's engine is docker:NAME",
                path.display()
            )),
            Self::Blob { source, .. } => source.hint(),
            Self::Invalid { archive, flaw } => flaw.hint(archive),
            Self::Length { .. } | Self::Stream { .. } => Some("run the command again".into()),
            _ => None,
        }
    }
}

impl Flaw {
    fn hint(&self, archive: &Path) -> Option<String> {
        match self {
            Self::NoImages => {
                Some("make one with k3arm image bundle, docker save or skopeo copy … oci-archive:FILE:NAME".into())
            }
            Self::CutOff { .. } | Self::Compression { .. } | Self::WrongDigest { .. } | Self::Damaged { .. } => {
                Some(format!("copy or make {} again, and compare sha256sum on both sides", archive.display()))
            }
            _ => None,
        }
    }
}
