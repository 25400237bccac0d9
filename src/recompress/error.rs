//! What can go wrong while a layer is compressed anew.

use std::io;

use crate::oci::{Digest, ZstdLevel};
use crate::store;

/// Why a layer was not compressed anew. Only [`Error::Read`], [`Error::Keep`] and [`Error::Interrupted`] concern more than
/// the wish for fewer bytes: after any other the layer can still travel as it was published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The layer as published could not be had.
    #[error("layer {layer} could not be read to be compressed anew")]
    Read {
        /// The layer as published.
        layer: Digest,
        /// What the store says.
        #[source]
        source: store::Error,
    },
    /// The result, or the record of it, could not be kept.
    #[error("layer {layer}, compressed anew, could not be kept")]
    Keep {
        /// The layer as published.
        layer: Digest,
        /// What the store says.
        #[source]
        source: store::Error,
    },
    /// Its bytes are not what a compressor wrote, or ask for more memory to unpack than an engine would spend.
    #[error("layer {layer} cannot be uncompressed")]
    Corrupt {
        /// The layer as published.
        layer: Digest,
        /// What the decoder says.
        #[source]
        source: io::Error,
    },
    /// It unpacks to something else than the image's config says: no engine would take it.
    #[error("layer {layer} unpacks to {found}, the image's config says {expected}")]
    WrongDiffId {
        /// The layer as published.
        layer: Digest,
        /// From the config.
        expected: Digest,
        /// Of the bytes.
        found: Digest,
    },
    /// It unpacks to more than a layer may have: most likely made to fill disks.
    #[error("layer {layer} unpacks to more than {limit} bytes")]
    TooLarge {
        /// The layer as published.
        layer: Digest,
        /// In bytes.
        limit: u64,
    },
    /// This machine has not the memory that the level needs.
    #[error("zstd level {level} needs about {} MiB of memory, {} MiB are available", needed >> 20, available >> 20)]
    Memory {
        /// The wanted level.
        level: ZstdLevel,
        /// In bytes.
        needed: u64,
        /// In bytes.
        available: u64,
    },
    /// The compressor failed.
    #[error("layer {layer} could not be compressed")]
    Compress {
        /// The layer as published.
        layer: Digest,
        /// What it says.
        #[source]
        source: io::Error,
    },
    /// The work was cut off, because k3arm is ending or the system gives it no thread.
    #[error("compressing layer {layer} anew was interrupted")]
    Interrupted {
        /// The layer as published.
        layer: Digest,
    },
}

impl Error {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } | Self::Keep { source, .. } => source.hint(),
            Self::Memory { .. } => {
                Some("choose a lower level, such as zstd:10, or run k3arm on a larger machine".into())
            }
            Self::Corrupt { .. } | Self::WrongDiffId { .. } | Self::TooLarge { .. } => {
                Some("the image itself is broken: ask whoever published it".into())
            }
            Self::Compress { .. } | Self::Interrupted { .. } => None,
        }
    }

    /// What the store said, if that was the reason.
    pub fn store(&self) -> Option<&store::Error> {
        match self {
            Self::Read { source, .. } | Self::Keep { source, .. } => Some(source),
            _ => None,
        }
    }
}
