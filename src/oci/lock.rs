//! References pinned to digests, and the lock: what every source stood for when it was resolved.
//!
//! A lock is kept beside the cluster file and committed with it, so that the same file gives the same bytes next year. Its
//! text is in `lock/text.rs`. It keeps what makes an image and nothing else: annotations and the platform fields of
//! descriptors are not in it.

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Descriptor, Digest, Platform, Reference};

pub use text::{LockError, MAX_LOCK_BYTES};

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

/// What each source, as the user wrote it (`stable`, `v1.36.3+k3s1`, `ghcr.io/me/app:1.2`), was resolved to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lock {
    images: BTreeMap<String, PinnedImage>,
}

/// What a source is pinned to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pin {
    /// The reference that the source stood for.
    pub reference: Reference,
    /// The digest of its index, or of its only manifest.
    pub digest: Digest,
}

/// A source that two locks pin differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// As the user wrote it.
    pub source: String,
    /// Before; `None` where it is new.
    pub from: Option<Pin>,
    /// Now; `None` where it is gone.
    pub to: Option<Pin>,
}

impl Lock {
    /// Reads a lock's text.
    ///
    /// # Errors
    /// [`LockError`]: too long, not of this form, or of another version.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        text::parse(text).map(|images| Self { images })
    }

    /// The lock as text: sorted, a line for every layer, so that a diff shows what changed.
    pub fn to_text(&self) -> String {
        text::print(&self.images)
    }

    /// What the source is pinned to.
    pub fn get(&self, source: &str) -> Option<&PinnedImage> {
        self.images.get(source)
    }

    /// All sources, sorted, with what they are pinned to.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &PinnedImage)> {
        self.images.iter().map(|(source, image)| (source.as_str(), image))
    }

    /// Whether the source is pinned for each of these platforms; for none given, whether it is pinned at all.
    pub fn covers(&self, source: &str, platforms: &BTreeSet<Platform>) -> bool {
        let has_all = |image: &PinnedImage| platforms.iter().all(|platform| image.platforms.contains_key(platform));
        self.get(source).is_some_and(has_all)
    }

    /// Pins a source, whatever it was pinned to. An image without platforms pins nothing and is not taken.
    pub fn insert(&mut self, source: &str, image: PinnedImage) {
        if !image.platforms.is_empty() {
            self.images.insert(source.into(), kept(image));
        }
    }

    /// Adds the platforms of `image` to a source that is pinned to the same digest, or pins one that is not yet. What is
    /// pinned already stays as it is.
    ///
    /// # Errors
    /// The source is pinned to something else; nothing is changed.
    pub fn merge(&mut self, source: &str, image: PinnedImage) -> Result<(), Box<Moved>> {
        if let Some(moved) = self.get(source).and_then(|pinned| Moved::between(source, Some(pinned), Some(&image))) {
            return Err(Box::new(moved));
        }
        match self.images.get_mut(source) {
            Some(pinned) => {
                let added = kept(image).platforms;
                let held = std::mem::take(&mut pinned.platforms);
                pinned.platforms = added.into_iter().chain(held).collect();
            }
            None => self.insert(source, image),
        }
        Ok(())
    }

    /// Forgets the sources that nobody asks for any more.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.images.retain(|source, _| wanted(source));
    }

    /// The sources that `newer` pins to something else, has besides, or has no more. More platforms of the same digest are
    /// no difference.
    pub fn differences(&self, newer: &Self) -> Vec<Moved> {
        let sources: BTreeSet<&String> = self.images.keys().chain(newer.images.keys()).collect();
        sources.into_iter().filter_map(|source| Moved::between(source, self.get(source), newer.get(source))).collect()
    }
}

impl Moved {
    fn between(source: &str, from: Option<&PinnedImage>, to: Option<&PinnedImage>) -> Option<Self> {
        let pin =
            |image: &PinnedImage| Some(Pin { reference: image.reference.clone(), digest: image.digest()?.clone() });
        let (from, to) = (from.and_then(pin), to.and_then(pin));
        (from != to).then(|| Self { source: source.into(), from, to })
    }
}

/// What a lock keeps of an image.
fn kept(image: PinnedImage) -> PinnedImage {
    let of_platform = |(platform, image): (Platform, PlatformImage)| {
        let layers = image.layers.into_iter().map(bare).collect();
        (platform, PlatformImage { manifest: bare(image.manifest), config: bare(image.config), layers, ..image })
    };
    PinnedImage {
        index: image.index.map(bare),
        platforms: image.platforms.into_iter().map(of_platform).collect(),
        ..image
    }
}

fn bare(descriptor: Descriptor) -> Descriptor {
    Descriptor { platform: None, annotations: BTreeMap::new(), ..descriptor }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reference.familiar(), self.digest.short())
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = &self.source;
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{source} moved from {from} to {to}"),
            (None, Some(to)) => write!(f, "{source} is new: {to}"),
            (Some(from), None) => write!(f, "{source} is gone, it was {from}"),
            (None, None) => write!(f, "{source} is pinned nowhere"),
        }
    }
}

#[cfg(test)]
#[path = "lock/tests.rs"]
mod tests;
