//! What `docker save` writes that is no image layout: `manifest.json`, configs and layers, from which manifests are
//! made.
//!
//! Such an archive names its layers by path. Their digests are the diff IDs of the config, which whoever fetches them
//! checks; only a layer file that is compressed has to be hashed here, because no document in the archive says its
//! digest. Everything here blocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::oci::{Config, Descriptor, Digest, Hasher, MAX_MANIFEST_BYTES, MediaType, Reference};

use super::entries::{Entries, Span, Tar};
use super::place::Place;
use super::spool::Compression;
use super::{Error, Flaw, NamedImage, name};

/// The most images, and layers of all of them, that are read.
const MAX_IMAGES: usize = 1024;
const MAX_LAYERS: usize = 16_384;

/// Pieces in which a compressed layer is hashed.
const PIECE: usize = 256 << 10;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'static str,
    config: &'a Descriptor,
    layers: &'a [Descriptor],
}

/// The images of a tar with a `manifest.json`, as if it were an image layout.
pub(super) fn read(tar: Tar, entries: &Entries) -> Result<(Vec<NamedImage>, Place), Error> {
    let saved = images(&tar, entries)?;
    let mut reading = Reading { tar, entries, blobs: BTreeMap::new(), made: BTreeMap::new() };
    let mut found = Vec::new();
    for image in &saved {
        let root = reading.image(image)?;
        let tags: Vec<Reference> = image.repo_tags.iter().flatten().filter_map(|name| name.parse().ok()).collect();
        if tags.is_empty() {
            found.push(NamedImage { reference: None, tag: None, root: root.clone() });
        }
        let named = |reference| NamedImage { reference: Some(reference), tag: None, root: root.clone() };
        found.extend(tags.into_iter().map(named));
    }
    let Reading { tar, blobs, made, .. } = reading;
    Ok((found, Place::Tar { tar, blobs, made }))
}

fn images(tar: &Tar, entries: &Entries) -> Result<Vec<Saved>, Error> {
    let name = "manifest.json";
    let span = entries.find(name).ok_or_else(|| tar.invalid(Flaw::NoImages))?;
    let bytes = tar.read(name, span, MAX_MANIFEST_BYTES)?;
    let images: Vec<Saved> = serde_json::from_slice(&bytes).map_err(|error| tar.invalid(malformed(name, error)))?;
    let layers: usize = images.iter().map(|image| image.layers.as_ref().map_or(0, Vec::len)).sum();
    for (what, count, limit) in [("images", images.len(), MAX_IMAGES), ("layers", layers, MAX_LAYERS)] {
        if count > limit {
            return Err(tar.invalid(Flaw::TooMany { what, limit }));
        }
    }
    Ok(images)
}

fn malformed(name: &str, error: impl std::error::Error + Send + Sync + 'static) -> Flaw {
    Flaw::Document { name: name.into(), source: Arc::new(error) }
}

struct Reading<'a> {
    tar: Tar,
    entries: &'a Entries,
    blobs: BTreeMap<Digest, Span>,
    made: BTreeMap<Digest, Bytes>,
}

impl Reading<'_> {
    /// Makes the manifest of an image.
    fn image(&mut self, image: &Saved) -> Result<Descriptor, Error> {
        let span = self.find(&image.config)?;
        let bytes = self.tar.read(&image.config, span, MAX_MANIFEST_BYTES)?;
        let diff_ids =
            Config::parse(&bytes).map_err(|error| self.tar.invalid(malformed(&image.config, error)))?.diff_ids;
        let config = self.keep(descriptor(CONFIG.into(), Digest::of(&bytes), span.size), span)?;
        let paths = image.layers.as_deref().unwrap_or_default();
        if paths.len() != diff_ids.len() {
            let source = format!("{} layers for {} diff IDs", paths.len(), diff_ids.len());
            let source = Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(source));
            return Err(self.tar.invalid(Flaw::Document { name: "manifest.json".into(), source }));
        }
        let layers = paths.iter().zip(&diff_ids).map(|(path, diff_id)| self.layer(path, diff_id));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        self.make(&Manifest {
            schema_version: 2,
            media_type: MediaType::OCI_MANIFEST,
            config: &config,
            layers: &layers,
        })
    }

    fn layer(&mut self, path: &str, diff_id: &Digest) -> Result<Descriptor, Error> {
        let span = self.find(path)?;
        let kind = Compression::of(&self.tar.read(path, Span { size: span.size.min(4), ..span }, 4)?);
        let (suffix, digest) = match kind {
            Compression::None => ("", diff_id.clone()),
            Compression::Gzip => ("+gzip", self.hash(span)?),
            Compression::Zstd => ("+zstd", self.hash(span)?),
        };
        self.keep(descriptor(format!("{LAYER}{suffix}"), digest, span.size), span)
    }

    fn find(&self, path: &str) -> Result<Span, Error> {
        let name = name::plain(path.as_bytes()).map_err(|flaw| self.tar.invalid(flaw))?;
        self.entries.find(&name).ok_or_else(|| self.tar.invalid(Flaw::Missing { name }))
    }

    /// One digest is one blob: a second file of it has the same size.
    fn keep(&mut self, descriptor: Descriptor, span: Span) -> Result<Descriptor, Error> {
        let known = *self.blobs.entry(descriptor.digest.clone()).or_insert(span);
        if known.size != span.size {
            let (digest, expected, found) = (descriptor.digest, known.size, span.size);
            return Err(self.tar.invalid(Flaw::WrongSize { digest, expected, found }));
        }
        Ok(descriptor)
    }

    fn make(&mut self, manifest: &Manifest) -> Result<Descriptor, Error> {
        let bytes = serde_json::to_vec(manifest).map_err(|error| self.tar.invalid(malformed("manifest", error)))?;
        let digest = Digest::of(&bytes);
        let root = descriptor(MediaType::OCI_MANIFEST.into(), digest.clone(), bytes.len() as u64);
        self.made.insert(digest, bytes.into());
        Ok(root)
    }

    fn hash(&self, span: Span) -> Result<Digest, Error> {
        let mut hasher = Hasher::new();
        let mut piece = vec![0; PIECE];
        let mut done = 0;
        while done < span.size {
            let length = usize::try_from(span.size - done).unwrap_or(PIECE).min(PIECE);
            self.tar.fill(&mut piece[..length], span.start + done)?;
            hasher.update(&piece[..length]);
            done += length as u64;
        }
        Ok(hasher.finish())
    }
}

fn descriptor(media_type: String, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: MediaType(media_type), digest, size, platform: None, annotations: BTreeMap::new() }
}
