//! Images: which the engine holds and by what names.
//!
//! The two image stores give one image different IDs, see [`crate::host::ImageStore`]. On the containerd store a name
//! can exist while its blobs do not, so an inspection is not enough there: since API 1.48 the engine says per platform
//! what is available; before, the store was an experiment and its word is taken.

use bollard::query_parameters::{RemoveImageOptionsBuilder, TagImageOptionsBuilder};
use serde::Deserialize;

use super::{Engine, Error, gone, image_path};
use crate::oci::{Digest, Reference};

/// An image's ID on one engine: what containers are created from.
pub type ImageId = Digest;

/// An image as it was resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its name.
    pub reference: Reference,
    /// The index, if the registry has one.
    pub index: Option<Digest>,
    /// The manifest for the host's platform.
    pub manifest: Digest,
    /// That manifest's config.
    pub config: Digest,
}

/// What the engine says of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// Its ID there.
    pub id: ImageId,
    /// The digest of its config, where the store tells it: the classic one, by the ID.
    pub config: Option<Digest>,
    /// `name:tag`, in the short spelling that Docker prints.
    pub repo_tags: Vec<String>,
    /// `name@digest`, in the short spelling.
    pub repo_digests: Vec<String>,
    /// `linux`.
    pub os: String,
    /// `arm64`.
    pub architecture: String,
    /// `v7`.
    pub variant: Option<String>,
    /// Containerd store from API 1.48: the manifests of this image that can run here, their content or their unpacked
    /// file system being there. `None`: the engine does not say.
    pub usable_manifests: Option<Vec<Digest>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    id: Digest,
    repo_tags: Option<Vec<String>>,
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
    descriptor: Option<serde::de::IgnoredAny>,
    manifests: Option<Vec<WireManifest>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireManifest {
    descriptor: WireDescriptor,
    #[serde(default)]
    available: bool,
    image_data: Option<WireImageData>,
}

#[derive(Debug, Deserialize)]
struct WireDescriptor {
    digest: Digest,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireImageData {
    size: Option<WireSize>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireSize {
    #[serde(default)]
    unpacked: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    repo_tags: Option<Vec<String>>,
    repo_digests: Option<Vec<String>>,
}

impl Engine {
    /// The image of this name: by its tag if it has one, else by its digest. `None` if the engine has none.
    ///
    /// # Errors
    /// [`Error`], when the engine does not answer or not with what the API promises.
    pub async fn image(&self, name: &Reference) -> Result<Option<ImageFacts>, Error> {
        self.image_named(&name.on_engine().to_string()).await
    }

    /// The image of this name or ID.
    pub(super) async fn image_named(&self, name: &str) -> Result<Option<ImageFacts>, Error> {
        let path = format!("/images/{}/json?manifests=1", image_path(name));
        match self.get::<Wire>(&path, &format!("look at image {name}")).await {
            Ok(wire) => Ok(Some(wire.into_facts())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The engine's ID for exactly this image, whatever names it has there; `None` if it is not held, or not all of it.
    ///
    /// # Errors
    /// [`Error`], when the engine does not answer or not with what the API promises.
    pub async fn holds(&self, image: &Expected) -> Result<Option<ImageId>, Error> {
        for id in image.index.iter().chain([&image.manifest, &image.config]) {
            if let Some(facts) = self.image_named(&id.to_string()).await?
                && facts.is(image)
            {
                return Ok(Some(facts.id));
            }
        }
        Ok(None)
    }

    /// Gives the image `source` (a name or an ID) another name, taking it from the image that had it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such image.
    pub async fn tag(&self, source: &str, target: &Reference) -> Result<(), Error> {
        let attempt = format!("tag {source} as {target}");
        let options =
            TagImageOptionsBuilder::default().repo(&target.name()).tag(target.tag().unwrap_or("latest")).build();
        let source = image_path(source);
        self.carry_out(&attempt, Self::ANSWER, self.docker.tag_image(&source, Some(options))).await
    }

    /// Takes one name (with tag or digest) from an image; with its last name an image goes, too. A name that is not
    /// there is taken already.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is the last name of an image that a container uses, running or not: nothing is forced.
    /// (Tried on both stores: it does not matter by what name or ID the container was made; other names than the last
    /// can be taken.)
    pub async fn untag(&self, name: &str) -> Result<(), Error> {
        let attempt = format!("remove the name {name}");
        let options = RemoveImageOptionsBuilder::default().force(false).build();
        let path = image_path(name);
        gone(self.carry_out(&attempt, Self::DISK, self.docker.remove_image(&path, Some(options), None)).await.map(drop))
    }

    /// Names under which k3arm has images pulled, left by runs that were killed:
    /// `127.0.0.1:PORT/k3arm-<32 hexadecimal digits>/…`.
    ///
    /// # Errors
    /// [`Error`], when the engine does not answer or not with what the API promises.
    pub async fn temporary_names(&self) -> Result<Vec<String>, Error> {
        let images: Vec<Listed> = self.listed_images().await?;
        let names = images.into_iter().flat_map(|image| [image.repo_tags, image.repo_digests]).flatten().flatten();
        let mut names: Vec<String> = names.filter(|name| is_temporary(name)).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }
}

/// By form alone; the port and the digits differ in each run.
fn is_temporary(name: &str) -> bool {
    let parts = name.strip_prefix("127.0.0.1:").and_then(|rest| rest.split_once("/k3arm-"));
    let Some((port, rest)) = parts else { return false };
    let Some((secret, image)) = rest.split_once('/') else { return false };
    let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    !port.is_empty()
        && port.bytes().all(|b| b.is_ascii_digit())
        && secret.len() == 32
        && secret.bytes().all(is_hex)
        && !image.is_empty()
}

impl ImageFacts {
    /// Whether this is `image`, complete.
    fn is(&self, image: &Expected) -> bool {
        if self.config.as_ref() == Some(&image.config) {
            return true;
        }
        let is_target = self.id == image.manifest || image.index.as_ref() == Some(&self.id);
        let usable = self.usable_manifests.as_ref();
        is_target && usable.is_none_or(|usable| usable.contains(&image.manifest))
    }
}

impl Wire {
    fn into_facts(self) -> ImageFacts {
        let repo_digests = self.repo_digests.unwrap_or_default();
        // On the containerd store the ID is what the names by digest say.
        let id_text = self.id.to_string();
        let is_target = self.descriptor.is_some()
            || self.manifests.is_some()
            || repo_digests.iter().any(|name| name.rsplit_once('@').is_some_and(|(_, digest)| digest == id_text));
        let usable = self.manifests.map(|manifests| {
            manifests.into_iter().filter(WireManifest::is_usable).map(|manifest| manifest.descriptor.digest).collect()
        });
        ImageFacts {
            config: (!is_target).then(|| self.id.clone()),
            id: self.id,
            repo_tags: self.repo_tags.unwrap_or_default(),
            repo_digests,
            os: self.os,
            architecture: self.architecture,
            variant: self.variant.filter(|variant| !variant.is_empty()),
            usable_manifests: usable,
        }
    }
}

impl WireManifest {
    /// Content that is there can be unpacked; what is unpacked runs, also when its compressed layers are not kept
    /// (layers that were pulled in another compression leave none under this manifest).
    fn is_usable(&self) -> bool {
        let unpacked = self.image_data.as_ref().and_then(|data| data.size.as_ref()).map_or(0, |size| size.unpacked);
        self.available || unpacked > 0
    }
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
