//! Images as the contents of one archive: for an engine that loads them, for a node's own containerd.

use std::collections::BTreeSet;

use super::Goods;
use crate::archive::{Blob, Contents, Entry, Image, Layer};
use crate::mirror::Published;
use crate::oci::{Descriptor, Digest, PlatformImage};
use crate::plan::{Failure, ImageOnHost};
use crate::store::Store;

/// These images, but for the layers that the receiver has.
pub(super) async fn contents<'a>(
    images: impl IntoIterator<Item = &'a ImageOnHost>,
    left_out: BTreeSet<Digest>,
    goods: &Goods<'_>,
) -> Result<Contents, Failure> {
    let mut contents = Contents { images: Vec::new(), left_out };
    for image in images {
        contents.images.push(entry(image, goods).await?);
    }
    Ok(contents)
}

async fn entry(image: &ImageOnHost, goods: &Goods<'_>) -> Result<Entry, Failure> {
    let root = image.index.as_ref().unwrap_or(&image.image.manifest.digest);
    pack(goods.supply(image)?, root, [&image.image], goods.store).await
}

/// An image for an archive: its root document, and these of its platforms.
///
/// # Errors
/// A document that is not at hand, or a store that cannot be read.
pub async fn pack<'a>(
    supply: &Published,
    root: &Digest,
    platforms: impl IntoIterator<Item = &'a PlatformImage>,
    store: &Store,
) -> Result<Entry, Failure> {
    let layer = |descriptor: &Descriptor| Layer { descriptor: descriptor.clone(), source: supply.source.clone() };
    let mut images = Vec::new();
    for platform in platforms {
        images.push(Image {
            manifest: document(supply, &platform.manifest.digest)?,
            config: config(store, &platform.config).await?,
            layers: platform.layers.iter().map(layer).collect(),
        });
    }
    Ok(Entry { reference: supply.reference.on_engine(), root: document(supply, root)?, images })
}

fn document(supply: &Published, digest: &Digest) -> Result<Blob, Failure> {
    let found = supply.documents.iter().find(|(descriptor, _)| descriptor.digest == *digest);
    let missing =
        || Failure { host: None, message: format!("{digest} of {} is not at hand", supply.reference), hint: None };
    let (descriptor, bytes) = found.ok_or_else(missing)?;
    Blob::new(descriptor.clone(), bytes.clone()).map_err(|e| Failure::new(&e, e.hint()))
}

async fn config(store: &Store, descriptor: &Descriptor) -> Result<Blob, Failure> {
    let bytes = store.read(descriptor).await.map_err(|e| Failure::new(&e, e.hint()))?;
    Blob::new(descriptor.clone(), bytes).map_err(|e| Failure::new(&e, e.hint()))
}
