//! What is put into an archive.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::oci::{CONTAINERD_NAME, Descriptor, Digest, MediaType, REF_NAME, Reference};
use crate::store::Source;

use super::Error;
use super::pack::{Packed, Packing};

/// Images for one archive.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// In any order: the archive has them by name.
    pub images: Vec<Entry>,
    /// Layers that the receiver has: they are named in manifests, but their bytes are not sent.
    pub left_out: BTreeSet<Digest>,
}

/// An image by one name, for one platform or more.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The name it gets, spelled in full. For [`Form::Hybrid`] without its digest, as [`Reference::on_engine`] says.
    pub reference: Reference,
    /// Its index, or its only manifest.
    pub root: Blob,
    /// The platforms, and whatever else of the index (attestations, say) is to be in the archive.
    pub images: Vec<Image>,
}

/// A manifest and what it names.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest; may be the entry's root.
    pub manifest: Blob,
    /// The config that it names.
    pub config: Blob,
    /// The layers that it names, lowest first.
    pub layers: Vec<Layer>,
}

/// A layer, and where the store gets it from if it is not held.
#[derive(Clone)]
pub struct Layer {
    /// What it is.
    pub descriptor: Descriptor,
    /// Upstream.
    pub source: Arc<dyn Source>,
}

/// A document in memory, whose bytes are those of its descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    descriptor: Descriptor,
    bytes: Bytes,
}

/// What the archive is to be read by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Whatever reads OCI image layouts: skopeo, oras, containerd and so k3s.
    Layout,
    /// `docker load` too, on both image stores: one platform of each image.
    Hybrid,
}

impl Blob {
    /// Checks `bytes` against `descriptor`.
    ///
    /// # Errors
    /// [`Error::Described`] when they are others.
    pub fn new(descriptor: Descriptor, bytes: Bytes) -> Result<Self, Error> {
        let (found, size) = (Digest::of(&bytes), bytes.len() as u64);
        if found != descriptor.digest || size != descriptor.size {
            return Err(Error::Described { digest: descriptor.digest, found, size });
        }
        Ok(Self { descriptor, bytes })
    }

    /// What it is.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Layer").field(&self.descriptor.digest).finish()
    }
}

/// An entry of Docker's `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Loadable {
    config: String,
    repo_tags: [String; 1],
    layers: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexFile {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

impl Contents {
    /// Lays out the archive. Nothing is fetched yet.
    ///
    /// # Errors
    /// [`Error::SameName`], [`Error::Platforms`], [`Error::Described`] for a digest of two sizes.
    pub fn pack(&self, form: Form) -> Result<Packed, Error> {
        let entries = self.by_name(form)?;
        let mut packing = Packing::default();
        packing.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#.as_slice())?;
        packing.file("index.json", 0o644, json(&index(&entries)))?;
        if form == Form::Hybrid {
            let loadable = entries.iter().map(|(name, entry)| loadable(name, entry)).collect::<Result<Vec<_>, _>>()?;
            packing.file("manifest.json", 0o644, json(&loadable))?;
        }
        packing.directory("blobs")?;
        packing.directory("blobs/sha256")?;
        let mut sizes = BTreeMap::new();
        for document in documents(&entries) {
            if is_new(&mut sizes, &document.descriptor)? {
                packing.file(&path(&document.descriptor), 0o644, document.bytes.clone())?;
            }
        }
        for layer in entries.values().flat_map(|entry| &entry.images).flat_map(|image| &image.layers) {
            if is_new(&mut sizes, &layer.descriptor)? && !self.left_out.contains(&layer.descriptor.digest) {
                packing.blob(&path(&layer.descriptor), layer)?;
            }
        }
        Ok(packing.finish())
    }

    /// Engines keep images by tag only, so that is what they are given.
    fn by_name(&self, form: Form) -> Result<ByName<'_>, Error> {
        let mut entries = BTreeMap::new();
        for entry in &self.images {
            let name = match form {
                Form::Layout => entry.reference.clone(),
                Form::Hybrid => entry.reference.on_engine(),
            };
            if entries.insert(name, entry).is_some() {
                return Err(Error::SameName { reference: Box::new(entry.reference.clone()) });
            }
        }
        Ok(entries)
    }
}

type ByName<'a> = BTreeMap<Reference, &'a Entry>;

fn documents<'a>(entries: &'a ByName<'_>) -> impl Iterator<Item = &'a Blob> {
    entries.values().flat_map(|entry| {
        let images = entry.images.iter().flat_map(|image| [&image.manifest, &image.config]);
        std::iter::once(&entry.root).chain(images)
    })
}

/// Whether the blob was not seen before.
fn is_new(sizes: &mut BTreeMap<Digest, u64>, blob: &Descriptor) -> Result<bool, Error> {
    match sizes.insert(blob.digest.clone(), blob.size) {
        Some(size) if size != blob.size => {
            let digest = blob.digest.clone();
            Err(Error::Described { found: digest.clone(), digest, size })
        }
        known => Ok(known.is_none()),
    }
}

/// The platform belongs into the image's own index.
fn index(entries: &ByName<'_>) -> IndexFile {
    let root = |(reference, entry): (&Reference, &&Entry)| {
        let annotations = [REF_NAME, CONTAINERD_NAME].map(|key| (key.to_string(), reference.to_string()));
        Descriptor { platform: None, annotations: annotations.into(), ..entry.root.descriptor.clone() }
    };
    IndexFile { schema_version: 2, media_type: MediaType::OCI_INDEX, manifests: entries.iter().map(root).collect() }
}

fn loadable(name: &Reference, entry: &Entry) -> Result<Loadable, Error> {
    let [image] = &entry.images[..] else {
        let (reference, images) = (Box::new(entry.reference.clone()), entry.images.len());
        return Err(Error::Platforms { reference, images });
    };
    Ok(Loadable {
        config: path(&image.config.descriptor),
        repo_tags: [name.familiar()],
        layers: image.layers.iter().map(|layer| path(&layer.descriptor)).collect(),
    })
}

fn path(blob: &Descriptor) -> String {
    format!("blobs/sha256/{}", blob.digest.hex())
}

/// Of values that are made of strings and numbers only: there is nothing that could fail.
fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}
