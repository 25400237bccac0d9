//! The text of a lock: JSON, because one spelling of it is enough, laid out for diffs.
//!
//! Only k3arm writes it, but a repository may hold anything: the text is bounded, every digest, name, media type and size is
//! checked, and a key that is there twice (as after a careless merge) or unknown is refused instead of dropped.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};
use std::marker::PhantomData;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::super::{Descriptor, Digest, MAX_MANIFEST_BYTES, MediaType, Platform, Reference};
use super::{PinnedImage, PlatformImage};

/// The most a lock may have, in bytes. A hundred images for three platforms have less than 1 MiB.
pub const MAX_LOCK_BYTES: u64 = 16 << 20;
/// The form that is written, and the only one that is read.
const VERSION: u64 = 1;
/// No image has more layers.
const MOST_LAYERS: usize = 1024;
/// Longer names and media types are none.
const LONGEST_WORD: usize = 512;
/// As much of an error as a person reads; it may quote the file.
const LONGEST_MESSAGE: usize = 400;

/// Why a text is not a lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// More than [`MAX_LOCK_BYTES`].
    #[error("it has more than {MAX_LOCK_BYTES} bytes, no lock is that long")]
    TooLong,
    /// Somebody's merge is not finished.
    #[error("it has a merge conflict in line {0}")]
    Conflict(usize),
    /// Written by another k3arm.
    #[error("it has version {0}, only version {VERSION} can be read")]
    Version(u64),
    /// Not JSON, or not of the form; the message says where.
    #[error("{0}")]
    Malformed(String),
}

impl LockError {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Version(version) if *version > VERSION => {
                "a newer k3arm wrote it: use that one, or remove the lock and pin everything anew"
            }
            Self::Conflict(_) => "resolve the conflict, or remove the lock and pin everything anew",
            _ => "restore it from version control, or remove it and pin everything anew",
        }
    }

    fn malformed(error: &serde_json::Error) -> Self {
        let message: String = error.to_string().chars().filter(|c| !c.is_control()).take(LONGEST_MESSAGE).collect();
        Self::Malformed(message)
    }
}

pub(super) fn parse(text: &str) -> Result<BTreeMap<String, PinnedImage>, LockError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    if text.len() as u64 > MAX_LOCK_BYTES {
        return Err(LockError::TooLong);
    }
    if let Some(line) = text.lines().position(|line| line.starts_with("<<<<<<< ")) {
        return Err(LockError::Conflict(line + 1));
    }
    // The version first: the rest of a newer form would only be called malformed.
    let Versioned { version } = serde_json::from_str(text).map_err(|error| LockError::malformed(&error))?;
    if version != VERSION {
        return Err(LockError::Version(version));
    }
    let document: Document = serde_json::from_str(text).map_err(|error| LockError::malformed(&error))?;
    Ok(document.images.0.into_iter().map(|(Word(source), Checked(image))| (source, image)).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "version")]
    _version: u64,
    images: Unique<Word, Checked>,
}

/// An image whose parts fit together.
#[derive(Deserialize)]
#[serde(try_from = "Image")]
struct Checked(PinnedImage);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    reference: Reference,
    index: Option<Blob>,
    platforms: Unique<Platform, OnPlatform>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OnPlatform {
    manifest: Blob,
    config: Blob,
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Blob {
    digest: Digest,
    media_type: Word,
    size: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Layer {
    diff_id: Digest,
    digest: Digest,
    media_type: Word,
    size: u64,
}

impl TryFrom<Image> for Checked {
    type Error = String;

    fn try_from(Image { reference, index, platforms }: Image) -> Result<Self, String> {
        let index = index.map(Descriptor::from);
        if index.as_ref().is_some_and(|index| !index.media_type.is_index() || index.size > MAX_MANIFEST_BYTES) {
            return Err(format!("the index of {reference} is none"));
        }
        let platforms: BTreeMap<_, _> =
            platforms.0.into_iter().map(|(platform, image)| (platform, PlatformImage::from(image))).collect();
        let Some(first) = platforms.values().next() else { return Err(format!("{reference} has no platform")) };
        for (platform, image) in &platforms {
            let manifest = &image.manifest;
            if !manifest.media_type.is_manifest() || manifest.size > MAX_MANIFEST_BYTES {
                return Err(format!("the manifest of {reference} for {platform} is none"));
            }
            if image.layers.len() > MOST_LAYERS {
                return Err(format!("{reference} has more than {MOST_LAYERS} layers for {platform}"));
            }
            if index.is_none() && image != first {
                return Err(format!("{reference} has no index, but another image for {platform}"));
            }
        }
        Ok(Self(PinnedImage { reference, index, platforms }))
    }
}

impl From<Blob> for Descriptor {
    fn from(Blob { digest, media_type, size }: Blob) -> Self {
        let media_type = MediaType(media_type.0);
        Self { media_type, digest, size, platform: None, annotations: BTreeMap::new() }
    }
}

impl From<OnPlatform> for PlatformImage {
    fn from(image: OnPlatform) -> Self {
        let split = |Layer { diff_id, digest, media_type, size }| (Blob { digest, media_type, size }.into(), diff_id);
        let (layers, diff_ids): (Vec<Descriptor>, Vec<Digest>) = image.layers.into_iter().map(split).unzip();
        let config = Descriptor::from(image.config);
        let compressed_size = layers.iter().fold(config.size, |sum, layer| sum.saturating_add(layer.size));
        Self { manifest: image.manifest.into(), config, layers, diff_ids, compressed_size }
    }
}

/// A source or a media type: what may be shown on a terminal.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Word(String);

impl Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        let is_word = !word.is_empty() && word.len() <= LONGEST_WORD && word.bytes().all(|b| b.is_ascii_graphic());
        if is_word { Ok(Self(word)) } else { Err(D::Error::custom("a name or a media type is expected")) }
    }
}

/// A map that has every key once, whatever its spelling: `linux/arm64` and `linux/arm64/v8` are one.
struct Unique<K, V>(BTreeMap<K, V>);

impl<'de, K: Deserialize<'de> + Ord + Display, V: Deserialize<'de>> Deserialize<'de> for Unique<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor(PhantomData))
    }
}

struct UniqueVisitor<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de> + Ord + Display, V: Deserialize<'de>> Visitor<'de> for UniqueVisitor<K, V> {
    type Value = Unique<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(key) = access.next_key::<K>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("{key} is there twice")));
            }
            map.insert(key, access.next_value()?);
        }
        Ok(Unique(map))
    }
}

pub(super) fn print(images: &BTreeMap<String, PinnedImage>) -> String {
    let images = images.iter().map(|(source, image)| (json!(source).to_string(), printed(image)));
    format!("{{\n  \"version\": {VERSION},\n  \"images\": {}\n}}\n", block(2, ['{', '}'], images))
}

fn printed(image: &PinnedImage) -> String {
    let platforms = image.platforms.iter().map(|(platform, image)| (json!(platform).to_string(), on_platform(image)));
    let mut parts = vec![("\"reference\"".to_string(), json!(image.reference).to_string())];
    parts.extend(image.index.iter().map(|index| ("\"index\"".to_string(), blob(index))));
    parts.push(("\"platforms\"".to_string(), block(6, ['{', '}'], platforms)));
    block(4, ['{', '}'], parts)
}

fn on_platform(image: &PlatformImage) -> String {
    let layer = |(layer, diff_id): (&Descriptor, &Digest)| {
        let layer = json!({
            "digest": layer.digest, "diffId": diff_id, "mediaType": layer.media_type, "size": layer.size
        });
        (String::new(), layer.to_string())
    };
    let layers = image.layers.iter().zip(&image.diff_ids).map(layer);
    let parts = [
        ("\"manifest\"".to_string(), blob(&image.manifest)),
        ("\"config\"".to_string(), blob(&image.config)),
        ("\"layers\"".to_string(), block(10, ['[', ']'], layers)),
    ];
    block(8, ['{', '}'], parts)
}

fn blob(blob: &Descriptor) -> String {
    json!({"digest": blob.digest, "mediaType": blob.media_type, "size": blob.size}).to_string()
}

/// A map, or with empty keys a list, with a line for each of its items; `indent` is that of its own line.
fn block(indent: usize, [open, close]: [char; 2], items: impl IntoIterator<Item = (String, String)>) -> String {
    let mut text = String::from(open);
    let mut separator = "";
    for (key, item) in items {
        let colon = if key.is_empty() { "" } else { ": " };
        let _ = write!(text, "{separator}\n{:1$}{key}{colon}{item}", "", indent + 2);
        separator = ",";
    }
    if !separator.is_empty() {
        let _ = write!(text, "\n{:1$}", "", indent);
    }
    text.push(close);
    text
}
