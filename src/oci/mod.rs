//! Images as the OCI specifications name them: references, digests, descriptors, indexes, manifests, platforms.
//!
//! Everything here is plain data that is parsed once, at the edge, and then trusted: a [`Reference`] or a [`Digest`]
//! that exists is well-formed. Nothing here does I/O.
//!
//! Sources: OCI image spec 1.1, OCI distribution spec 1.1, Docker's "Image Manifest V 2, Schema 2".

mod compression;
mod digest;
mod lock;
mod manifest;
mod platform;
mod reference;

pub use compression::{Compression, CompressionError, LayerForm, Yield, ZstdLevel};
pub use digest::{Digest, DigestError, Hasher};
pub use lock::{Lock, LockError, MAX_LOCK_BYTES, Moved, Pin, PinnedImage, PlatformImage};
pub use manifest::{
    CONTAINERD_NAME, Config, Descriptor, Document, Index, MAX_MANIFEST_BYTES, Manifest, ManifestError, MediaType,
    REF_NAME, chain_ids,
};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
