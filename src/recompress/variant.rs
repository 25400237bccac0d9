//! The manifest of an image whose layers are compressed otherwise: a document of our own, for the way to the host only.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use crate::oci::{Descriptor, Digest, MediaType, PlatformImage};

/// An image as it travels to a host. Its config, its diff IDs and so what it is are those of the image as published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// The manifest, byte for byte; the same layers always give the same.
    pub manifest: Bytes,
    /// The image by that manifest.
    pub image: PlatformImage,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    schema_version: u32,
    media_type: &'a MediaType,
    config: &'a Descriptor,
    layers: &'a [Descriptor],
}

/// The image with each layer that is in `made` (by its digest as published) replaced; the others stay as they are.
///
/// The manifest is OCI's also where Docker's schema 2 was published, which has no zstd: every engine that we support takes
/// it, and only the names of the media types differ. `None` where nothing is replaced, or where something in the image
/// has no such name.
pub fn variant(image: &PlatformImage, made: &BTreeMap<Digest, Descriptor>) -> Option<Variant> {
    if !image.layers.iter().any(|layer| made.contains_key(&layer.digest)) {
        return None;
    }
    let layer =
        |layer: &Descriptor| made.get(&layer.digest).map_or_else(|| as_published(layer), |made| Some(made.clone()));
    let layers = image.layers.iter().map(layer).collect::<Option<Vec<_>>>()?;
    let is_config = matches!(image.config.media_type.0.as_str(), MediaType::OCI_CONFIG | MediaType::DOCKER_CONFIG);
    let config = is_config
        .then(|| Descriptor { media_type: MediaType(MediaType::OCI_CONFIG.into()), ..image.config.clone() })?;
    let media_type = MediaType(MediaType::OCI_MANIFEST.into());
    let wire = Wire { schema_version: 2, media_type: &media_type, config: &config, layers: &layers };
    let manifest = Bytes::from(serde_json::to_vec(&wire).ok()?);
    let descriptor = Descriptor {
        digest: Digest::of(&manifest),
        size: manifest.len() as u64,
        platform: image.manifest.platform.clone(),
        annotations: BTreeMap::new(),
        media_type,
    };
    let sizes = layers.iter().chain([&config]).map(|blob| blob.size);
    let compressed_size = sizes.fold(0, u64::saturating_add);
    let image =
        PlatformImage { manifest: descriptor, config, layers, compressed_size, diff_ids: image.diff_ids.clone() };
    Some(Variant { manifest, image })
}

fn as_published(layer: &Descriptor) -> Option<Descriptor> {
    let media_type = MediaType::oci_layer(layer.media_type.layer_form()?);
    Some(Descriptor { media_type, ..layer.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Document, LayerForm, Manifest};

    const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

    fn blob(media_type: &str, name: &str, size: u64) -> Descriptor {
        let digest = Digest::of(name.as_bytes());
        Descriptor { media_type: MediaType(media_type.into()), digest, size, platform: None, annotations: [].into() }
    }

    fn docker_image() -> PlatformImage {
        PlatformImage {
            manifest: blob(MediaType::DOCKER_MANIFEST, "manifest", 700),
            config: blob(MediaType::DOCKER_CONFIG, "config", 10),
            layers: vec![blob(DOCKER_LAYER, "large", 1000), blob(DOCKER_LAYER, "small", 100)],
            diff_ids: vec![Digest::of(b"a"), Digest::of(b"b")],
            compressed_size: 1110,
        }
    }

    fn made() -> BTreeMap<Digest, Descriptor> {
        let zstd = MediaType::oci_layer(LayerForm::Zstd);
        BTreeMap::from([(Digest::of(b"large"), blob(&zstd.0, "zstd", 600))])
    }

    #[test]
    fn a_docker_image_becomes_an_oci_one_with_the_same_config() {
        let image = docker_image();
        let variant = variant(&image, &made()).unwrap();
        let Ok(Document::Manifest(Manifest { config, layers })) =
            Document::parse(&variant.image.manifest.media_type, &variant.manifest)
        else {
            panic!("{:?}", variant.manifest)
        };
        assert_eq!((&config.digest, config.media_type.0.as_str()), (&image.config.digest, MediaType::OCI_CONFIG));
        let forms: Vec<_> = layers.iter().map(|layer| (layer.media_type.layer_form(), layer.size)).collect();
        assert_eq!(forms, [(Some(LayerForm::Zstd), 600), (Some(LayerForm::Gzip), 100)]);
        assert!(layers.iter().all(|layer| layer.media_type.0.starts_with("application/vnd.oci.")));
        assert_eq!((&variant.image.layers, &variant.image.config), (&layers, &config));
        assert_eq!((variant.image.compressed_size, &variant.image.diff_ids), (710, &image.diff_ids));
    }

    #[test]
    fn the_same_layers_give_the_same_bytes() {
        let manifest = variant(&docker_image(), &made()).unwrap().manifest;
        insta::assert_snapshot!(String::from_utf8_lossy(&manifest));
        assert_eq!(variant(&docker_image(), &made()).unwrap().image.manifest.digest, Digest::of(&manifest));
    }

    #[test]
    fn there_is_none_where_nothing_changes_or_something_is_strange() {
        assert_eq!(variant(&docker_image(), &BTreeMap::new()), None);
        let mut foreign = docker_image();
        foreign.layers[1].media_type.0 = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
        assert_eq!(variant(&foreign, &made()), None);
        let mut strange = docker_image();
        strange.config.media_type.0 = "application/vnd.cncf.helm.config.v1+json".into();
        assert_eq!(variant(&strange, &made()), None);
    }
}
