//! Index × the fleet's platforms → what each platform gets.
//!
//! Pure: the registry has answered already, digests are checked already. The choice itself is [`Index::select`], the one
//! matcher of the crate.

use std::collections::{BTreeMap, BTreeSet};

use crate::oci::{Config, Descriptor, Document, Index, Manifest, PinnedImage, Platform, PlatformImage, Reference};

/// An index has nothing for a platform of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reference} has no image for {platform}, only for {offered}")]
pub struct NoSuchPlatform {
    /// Which image.
    pub reference: String,
    /// What was asked for.
    pub platform: Platform,
    /// What there is, for people.
    pub offered: String,
}

impl NoSuchPlatform {
    fn new(reference: &Reference, platform: &Platform, offered: impl Iterator<Item = Platform>) -> Self {
        let offered = offered.map(|platform| platform.to_string()).collect::<Vec<_>>().join(", ");
        Self { reference: reference.to_string(), platform: platform.clone(), offered }
    }
}

/// The manifest that each of `platforms` gets from an index; for none given, every platform of the index.
///
/// # Errors
/// [`NoSuchPlatform`] for the first platform that the index has nothing for.
pub fn choose(
    reference: &Reference,
    index: &Index,
    platforms: &BTreeSet<Platform>,
) -> Result<BTreeMap<Platform, Descriptor>, NoSuchPlatform> {
    let offered = || index.images().map(|(platform, _)| platform.clone());
    let wanted: BTreeSet<Platform> = if platforms.is_empty() { offered().collect() } else { platforms.clone() };
    let choice = |platform: Platform| {
        let entry = index.select(&platform).ok_or_else(|| NoSuchPlatform::new(reference, &platform, offered()))?;
        Ok((platform, entry.clone()))
    };
    wanted.into_iter().map(choice).collect()
}

/// A single image offers the platform that its config says, and nothing else.
///
/// # Errors
/// [`NoSuchPlatform`] when a platform of the fleet is another one.
pub fn check_single(
    reference: &Reference,
    offered: &Platform,
    platforms: &BTreeSet<Platform>,
) -> Result<BTreeSet<Platform>, NoSuchPlatform> {
    match platforms.iter().find(|platform| platform.accepts(offered).is_none()) {
        Some(platform) => Err(NoSuchPlatform::new(reference, platform, std::iter::once(offered.clone()))),
        None if platforms.is_empty() => Ok(BTreeSet::from([offered.clone()])),
        None => Ok(platforms.clone()),
    }
}

/// A config says as many uncompressed layers as its manifest has compressed ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the manifest has {layers} layers, its config {diff_ids}")]
pub struct LayersDiffer {
    layers: usize,
    diff_ids: usize,
}

/// One platform's image, from its manifest and its config.
///
/// # Errors
/// [`LayersDiffer`], for an image that no engine takes.
pub fn platform_image(
    descriptor: Descriptor,
    manifest: Manifest,
    config: Config,
) -> Result<PlatformImage, LayersDiffer> {
    if manifest.layers.len() != config.diff_ids.len() {
        return Err(LayersDiffer { layers: manifest.layers.len(), diff_ids: config.diff_ids.len() });
    }
    Ok(PlatformImage {
        compressed_size: manifest.compressed_size(),
        manifest: descriptor,
        config: manifest.config,
        layers: manifest.layers,
        diff_ids: config.diff_ids,
    })
}

/// The reference with all that was learnt of it.
pub fn pin(
    reference: &Reference,
    top: &Descriptor,
    document: &Document,
    platforms: BTreeMap<Platform, PlatformImage>,
) -> PinnedImage {
    PinnedImage {
        reference: reference.clone(),
        index: matches!(document, Document::Index(_)).then(|| top.clone()),
        platforms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Digest, MediaType};

    fn index() -> Index {
        let entry = |platform: &str| Descriptor {
            media_type: MediaType(MediaType::OCI_MANIFEST.into()),
            digest: Digest::of(platform.as_bytes()),
            size: 1,
            platform: Some(platform.parse().unwrap()),
            annotations: BTreeMap::new(),
        };
        Index { manifests: ["linux/arm64", "linux/arm/v7", "unknown/unknown"].map(entry).to_vec() }
    }

    #[test]
    fn every_platform_of_the_fleet_gets_its_own() {
        let reference: Reference = "rancher/k3s:v1".parse().unwrap();
        let wanted = BTreeSet::from(["linux/arm64/v8".parse().unwrap(), "linux/arm/v7".parse().unwrap()]);
        let chosen = choose(&reference, &index(), &wanted).unwrap();
        assert_eq!(chosen[&"linux/arm64".parse().unwrap()].digest, Digest::of(b"linux/arm64"));
        assert_eq!(choose(&reference, &index(), &BTreeSet::new()).unwrap().len(), 2);
    }

    #[test]
    fn a_platform_that_is_not_there_is_named_with_those_that_are() {
        let reference: Reference = "rancher/k3s:v1".parse().unwrap();
        let error = choose(&reference, &index(), &BTreeSet::from(["linux/riscv64".parse().unwrap()])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "docker.io/rancher/k3s:v1 has no image for linux/riscv64, only for linux/arm64, linux/arm/v7"
        );
        let arm: Platform = "linux/arm/v7".parse().unwrap();
        assert!(check_single(&reference, &arm, &BTreeSet::from(["linux/arm64".parse().unwrap()])).is_err());
    }
}
