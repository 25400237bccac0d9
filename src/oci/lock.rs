//! References pinned to digests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Descriptor, Digest, Platform, Reference};

/// A reference and exactly what it stood for when it was resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedImage {
    /// As it was asked for.
    pub reference: Reference,
    /// The index; `None` where the reference names a single image.
    pub index: Option<Descriptor>,
    /// What each platform of the fleet gets.
    pub platforms: BTreeMap<Platform, PlatformImage>,
}

/// One platform's image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformImage {
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its config; the digest is the image's ID on Docker's classic store.
    pub config: Descriptor,
    /// Its layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Digests of the layers' uncompressed bytes, in the same order: how engines name what they hold.
    pub diff_ids: Vec<Digest>,
    /// Bytes of config and layers as they travel.
    pub compressed_size: u64,
}

impl PinnedImage {
    /// The digest by which the reference is known: the index's, or the only manifest's.
    pub fn digest(&self) -> Option<&Digest> {
        let single = || self.platforms.values().next().map(|image| &image.manifest.digest);
        self.index.as_ref().map(|index| &index.digest).or_else(single)
    }
}
