//! Which layers an engine has, by chain ID: what two images share on it, see [`chain_ids`].

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use super::{Engine, Error, Expected, ImageId, image_path};
use crate::oci::{Digest, chain_ids};

/// More images than any host has; of more, the newest count.
const MAX_IMAGES: usize = 512;
/// No image has more layers (Docker's limit is 127).
const MAX_LAYERS: usize = 1024;
/// Each is a connection through the forward. 8 at once are as fast as more: the engine's processor is the limit.
const AT_ONCE: usize = 8;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: Digest,
    #[serde(default)]
    created: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(rename = "RootFS")]
    root_fs: Option<RootFs>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    layers: Option<Vec<Digest>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HistoryItem {
    #[serde(default)]
    size: i64,
}

impl Engine {
    /// Chain IDs of all layers of all images that are complete here, for whatever platform. It costs a request for each
    /// image: ask once, and look up in the answer.
    ///
    /// Classic store: these need not be sent again, in any compression. containerd store: the engine has their blobs in
    /// the compression in which they came, and most likely no other.
    ///
    /// # Errors
    /// [`Error`], when the engine does not answer or not with what the API promises. An image that it cannot describe
    /// counts as none.
    pub async fn chains(&self) -> Result<BTreeSet<Digest>, Error> {
        // Without intermediate images of builds: what is built on one has all of its layers.
        let mut images: Vec<Listed> = self.listed_images().await?;
        images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        images.dedup_by(|a, b| a.id == b.id);
        images.truncate(MAX_IMAGES);
        let layers = stream::iter(images).map(|image| async move { self.layers(&image.id).await });
        let layers: Vec<Vec<Digest>> = layers.buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(layers.iter().flat_map(|layers| chain_ids(layers)).collect())
    }

    /// Diff IDs of an image that is complete. (On the containerd store one that is not has no `RootFS`.)
    async fn layers(&self, id: &ImageId) -> Result<Vec<Digest>, Error> {
        let path = format!("/images/{}/json", image_path(&id.to_string()));
        match self.get::<Inspected>(&path, &format!("look at image {id}")).await {
            Ok(image) => {
                let layers = image.root_fs.and_then(|root| root.layers).unwrap_or_default();
                Ok(if layers.len() > MAX_LAYERS { Vec::new() } else { layers })
            }
            Err(error @ (Error::NotFound { .. } | Error::Api { .. })) => {
                tracing::debug!(%error, "an image without layers that can be used");
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// For the containerd store, where [`Self::holds`] says no: the engine's ID for exactly this image of `layers`
    /// layers, if it can run although its blobs are not all there. That is what a pull or a load leaves that found the
    /// layers unpacked from blobs in another compression: the engine calls the image incomplete, but makes containers
    /// of it. `None` also where that cannot be told: an image whose config has no history, a layer without any bytes on
    /// some file systems.
    ///
    /// # Errors
    /// [`Error`], when the engine does not answer or not with what the API promises.
    pub async fn unpacked(&self, image: &Expected, layers: usize) -> Result<Option<ImageId>, Error> {
        for id in image.index.iter().chain([&image.manifest]) {
            if self.has_unpacked(id, layers).await? {
                return Ok(Some(id.clone()));
            }
        }
        Ok(None)
    }

    /// Sizes in the history are those of unpacked layers, 0 for steps without a layer and for layers that are not there.
    async fn has_unpacked(&self, id: &ImageId, layers: usize) -> Result<bool, Error> {
        let path = format!("/images/{}/history", image_path(&id.to_string()));
        match self.get::<Option<Vec<HistoryItem>>>(&path, &format!("look at the layers of image {id}")).await {
            Ok(history) => {
                Ok(layers > 0 && history.into_iter().flatten().filter(|item| item.size > 0).count() >= layers)
            }
            Err(Error::NotFound { .. } | Error::Api { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
#[path = "chains_tests.rs"]
mod tests;
