//! Indexes and image manifests, OCI's and Docker's, read by media type.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Digest, Platform};

/// The annotation that names an image in an image layout (OCI image spec, "Pre-Defined Annotation Keys").
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The same for containerd and Docker; always a full name.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The most a registry may send as an index or a manifest, in bytes: 4 MiB, the limit that the distribution spec
/// recommends to registries.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// A media type of a document or a blob. Unknown ones are kept as they came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(pub String);

impl MediaType {
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// All that a registry may answer with, for the `Accept` header.
    pub const DOCUMENTS: [&str; 4] = [Self::OCI_INDEX, Self::OCI_MANIFEST, Self::DOCKER_LIST, Self::DOCKER_MANIFEST];

    /// An index or a manifest list.
    pub fn is_index(&self) -> bool {
        matches!(self.0.as_str(), Self::OCI_INDEX | Self::DOCKER_LIST)
    }

    /// An image manifest.
    pub fn is_manifest(&self) -> bool {
        matches!(self.0.as_str(), Self::OCI_MANIFEST | Self::DOCKER_MANIFEST)
    }
}

/// Points to a blob or a document: what it is, its digest, its size in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: MediaType,
    /// Its name.
    pub digest: Digest,
    /// Its size in bytes, as it travels (compressed).
    pub size: u64,
    /// In an index: what the manifest runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free-form; attestation entries are marked here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An OCI index or a Docker manifest list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// All entries as they came, attestations too.
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// The entries that an engine can run: those with a platform that is not `unknown/unknown` (the place where
    /// BuildKit keeps attestations).
    pub fn images(&self) -> impl Iterator<Item = (&Platform, &Descriptor)> {
        self.manifests.iter().filter_map(|entry| {
            let platform = entry.platform.as_ref().filter(|platform| platform.os() != "unknown")?;
            entry.media_type.is_manifest().then_some((platform, entry))
        })
    }

    /// The entry for a host of this platform.
    pub fn select(&self, host: &Platform) -> Option<&Descriptor> {
        host.select(self.images())
    }
}

/// An OCI image manifest or a Docker schema 2 manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The image's config; on Docker's classic image store its digest is the image's ID.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// Bytes of config and layers as they travel.
    pub fn compressed_size(&self) -> u64 {
        self.blobs().fold(0, |sum, blob| sum.saturating_add(blob.size))
    }

    /// The config and the layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

/// Names of the file systems that result from stacking layers, lowest first (OCI image spec, "Layer ChainID"): two images
/// share a layer on an engine exactly where their chain IDs are equal.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Option<Digest> = None;
    let next = |diff_id: &Digest| {
        let id =
            chain.as_ref().map_or_else(|| diff_id.clone(), |below| Digest::of(format!("{below} {diff_id}").as_bytes()));
        chain.insert(id).clone()
    };
    diff_ids.iter().map(next).collect()
}

/// What the image's config says that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What the image says it runs on.
    pub platform: Platform,
    /// Digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
}

/// A document from a registry, interpreted by its media type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// An index or a manifest list.
    Index(Index),
    /// A single image.
    Manifest(Manifest),
}

/// Why bytes are not the document they claim to be.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or without a required field.
    #[error("the document is malformed")]
    Json(#[from] serde_json::Error),
    /// A media type that k3arm cannot use, such as Docker's schema 1.
    #[error(
        "media type {0:?} is not an image: an OCI index or manifest or a Docker manifest list or schema 2 manifest is expected"
    )]
    MediaType(String),
    /// The field `mediaType` and the header `Content-Type` disagree.
    #[error("the document says it is {field:?}, but was sent as {header:?}")]
    Confused {
        /// From the document.
        field: String,
        /// From the header.
        header: String,
    },
    /// More entries than any image has.
    #[error("{0} entries are more than any image has")]
    Entries(usize),
}

/// No image has more entries or layers (Docker's limit is 127 layers).
const MAX_ENTRIES: usize = 1024;

/// The union of all four wire forms.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    media_type: Option<MediaType>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

impl Document {
    /// Interprets `bytes` as `media_type` says.
    ///
    /// # Errors
    /// [`ManifestError`] when they are something else; nothing is guessed.
    pub fn parse(media_type: &MediaType, bytes: &[u8]) -> Result<Self, ManifestError> {
        let wire: Wire = serde_json::from_slice(bytes)?;
        if let Some(field) = wire.media_type.filter(|field| field != media_type) {
            return Err(ManifestError::Confused { field: field.0, header: media_type.0.clone() });
        }
        match (media_type.is_index(), wire.manifests, wire.config, wire.layers) {
            (true, Some(manifests), None, None) => Ok(Self::Index(Index { manifests: bounded(manifests)? })),
            (false, None, Some(config), Some(layers)) if media_type.is_manifest() => {
                Ok(Self::Manifest(Manifest { config, layers: bounded(layers)? }))
            }
            _ => Err(ManifestError::MediaType(media_type.0.clone())),
        }
    }
}

fn bounded(entries: Vec<Descriptor>) -> Result<Vec<Descriptor>, ManifestError> {
    if entries.len() > MAX_ENTRIES {
        return Err(ManifestError::Entries(entries.len()));
    }
    Ok(entries)
}

impl Config {
    /// Reads an image config.
    ///
    /// # Errors
    /// [`ManifestError::Json`] when `bytes` are not one.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Wire {
            os: String,
            architecture: String,
            variant: Option<String>,
            rootfs: RootFs,
        }
        #[derive(Deserialize)]
        struct RootFs {
            diff_ids: Vec<Digest>,
        }
        let wire: Wire = serde_json::from_slice(bytes)?;
        let platform = Platform::new(&wire.os, &wire.architecture, wire.variant.as_deref());
        Ok(Self { platform, diff_ids: wire.rootfs.diff_ids })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(media_type: &str) -> String {
        let digest = Digest::of(b"");
        let manifest = MediaType::OCI_MANIFEST;
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[
            {{"mediaType":"{manifest}","digest":"{digest}","size":1,"platform":{{"os":"linux","architecture":"arm64","variant":"v8"}}}},
            {{"mediaType":"{manifest}","digest":"{digest}","size":2,"platform":{{"os":"linux","architecture":"arm","variant":"v7"}}}},
            {{"mediaType":"{manifest}","digest":"{digest}","size":3,"platform":{{"os":"unknown","architecture":"unknown"}},
              "annotations":{{"vnd.docker.reference.type":"attestation-manifest"}}}}]}}"#
        )
    }

    #[test]
    fn both_forms_of_an_index_are_read_and_attestations_are_left_out() {
        for media_type in [MediaType::OCI_INDEX, MediaType::DOCKER_LIST] {
            let document = Document::parse(&MediaType(media_type.into()), index(media_type).as_bytes());
            let Ok(Document::Index(index)) = document else { panic!("{document:?}") };
            assert_eq!((index.manifests.len(), index.images().count()), (3, 2));
            let size = |host: Platform| index.select(&host).map(|entry| entry.size);
            assert_eq!(size(Platform::new("linux", "arm64", None)), Some(1));
            assert_eq!(size(Platform::new("linux", "arm", None)), Some(2));
            assert_eq!(size(Platform::new("linux", "amd64", None)), None);
        }
    }

    #[test]
    fn chain_ids_are_those_of_the_spec() {
        let [a, b] = [b"a", b"b"].map(|bytes| Digest::of(bytes));
        let top = Digest::of(format!("{a} {b}").as_bytes());
        assert_eq!(chain_ids(&[a.clone(), b]), [a, top]);
        assert!(chain_ids(&[]).is_empty());
    }

    #[test]
    fn a_document_of_another_type_is_refused() {
        let bytes = index(MediaType::OCI_INDEX);
        let as_list = Document::parse(&MediaType(MediaType::DOCKER_LIST.into()), bytes.as_bytes());
        assert!(matches!(as_list, Err(ManifestError::Confused { .. })), "{as_list:?}");
        let schema1 = MediaType("application/vnd.docker.distribution.manifest.v1+prettyjws".into());
        assert!(Document::parse(&schema1, b"{}").is_err());
        assert!(Document::parse(&MediaType(MediaType::OCI_MANIFEST.into()), b"{}").is_err());
    }

    proptest::proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = Document::parse(&MediaType(MediaType::OCI_INDEX.into()), &bytes);
            let _ = Config::parse(&bytes);
        }
    }
}
