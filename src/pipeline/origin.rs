//! Where images come from: a registry, or an archive that the user has. The one place where those effects and the store
//! meet.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;

use crate::archive::Archive;
use crate::oci::{Descriptor, Document, Reference};
use crate::plan::Failure;
use crate::registry::{Client, Fetched};
use crate::store::{Source, SourceError, SourceStream, Store};

/// Something that images can be taken from.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// The registry that a reference names.
    Registry(Client),
    /// A file, whatever it is called in there.
    Archive(Arc<Archive>),
}

impl Origin {
    /// The index or manifest that `reference` names.
    pub(super) async fn named(&self, reference: &Reference) -> Result<Fetched, Failure> {
        match self {
            Self::Registry(registry) => registry.document(reference).await.map_err(|e| Failure::new(&e, e.hint())),
            Self::Archive(archive) => {
                let missing = || Failure {
                    host: None,
                    message: format!("{} does not hold {}", archive.name().display(), reference.familiar()),
                    hint: Some(
                        "`k3arm image bundle -f k3arm.yaml -o FILE` makes one that holds all that a cluster needs"
                            .into(),
                    ),
                };
                let held = archive
                    .images()
                    .iter()
                    .find(|image| image.reference.as_ref() == Some(reference))
                    .ok_or_else(missing)?;
                from_archive(archive, reference, &held.root).await
            }
        }
    }

    /// The document that a descriptor points to.
    pub(super) async fn document(&self, reference: &Reference, wanted: &Descriptor) -> Result<Fetched, Failure> {
        match self {
            Self::Registry(registry) => {
                let by_digest = reference.by_digest(&wanted.digest);
                registry.document(&by_digest).await.map_err(|e| Failure::new(&e, e.hint()))
            }
            Self::Archive(archive) => from_archive(archive, reference, wanted).await,
        }
    }

    /// A config: small, and checked against its digest.
    pub(super) async fn config(&self, reference: &Reference, wanted: &Descriptor) -> Result<Bytes, Failure> {
        match self {
            Self::Registry(registry) => {
                registry.small_blob(reference, wanted).await.map_err(|e| Failure::new(&e, e.hint()))
            }
            Self::Archive(archive) => {
                let bytes = archive.document(&wanted.digest).await.map_err(|e| Failure::new(&e, e.hint()))?;
                bytes.ok_or_else(|| lacking(archive, reference, wanted))
            }
        }
    }

    /// Where the layers of `reference` come from.
    pub(super) fn blobs(&self, reference: &Reference) -> Arc<dyn Source> {
        match self {
            Self::Registry(registry) => {
                Arc::new(Upstream { registry: registry.clone(), repository: reference.clone() })
            }
            Self::Archive(archive) => archive.clone(),
        }
    }
}

async fn from_archive(archive: &Archive, reference: &Reference, wanted: &Descriptor) -> Result<Fetched, Failure> {
    let bytes = archive.document(&wanted.digest).await.map_err(|e| Failure::new(&e, e.hint()))?;
    fetched(wanted, bytes.ok_or_else(|| lacking(archive, reference, wanted))?)
}

fn lacking(archive: &Archive, reference: &Reference, wanted: &Descriptor) -> Failure {
    let (file, image) = (archive.name().display(), reference.familiar());
    let (message, hint) = match &wanted.platform {
        Some(platform) => (
            format!("{file} holds {image}, but not for {platform}"),
            format!("make it again for the hosts' platforms: `k3arm image bundle` with `--platform {platform}`, too"),
        ),
        None => (
            format!("{file} lacks {} of {image}", wanted.digest),
            "it was made for other platforms, or is not complete: make it again".into(),
        ),
    };
    Failure { host: None, message, hint: Some(hint) }
}

/// Bytes that are known to have the digest of `wanted`, interpreted.
pub(super) fn fetched(wanted: &Descriptor, bytes: Bytes) -> Result<Fetched, Failure> {
    let document = Document::parse(&wanted.media_type, &bytes).map_err(|e| Failure::new(&e, None))?;
    let (platform, annotations) = Default::default();
    Ok(Fetched { descriptor: Descriptor { platform, annotations, ..wanted.clone() }, bytes, document })
}

/// The document that a descriptor points to, where the store holds it: whatever is asked for by digest need not be asked
/// of anybody again.
pub(super) async fn held(store: Option<&Store>, wanted: &Descriptor) -> Option<Bytes> {
    store?.read(wanted).await.ok()
}

/// One repository of a registry.
#[derive(Debug)]
struct Upstream {
    registry: Client,
    repository: Reference,
}

impl Source for Upstream {
    fn open<'a>(&'a self, descriptor: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<SourceStream, SourceError>> {
        Box::pin(async move {
            let stream = self.registry.blob(&self.repository, descriptor, offset).await?;
            Ok(stream.map(|chunk| chunk.map_err(SourceError::from)).boxed())
        })
    }
}
