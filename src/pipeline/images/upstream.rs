//! A registry as the source of the store's blobs: the one place where the two effects meet.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;

use crate::oci::{Descriptor, Reference};
use crate::plan::Failure;
use crate::registry::{Client, Fetched};
use crate::store::{Source, SourceError, SourceStream};

/// One repository of a registry.
#[derive(Debug)]
pub(super) struct Upstream {
    registry: Client,
    repository: Reference,
}

impl Upstream {
    pub(super) fn of(registry: &Client, repository: &Reference) -> Arc<dyn Source> {
        Arc::new(Self { registry: registry.clone(), repository: repository.clone() })
    }
}

impl Source for Upstream {
    fn open<'a>(&'a self, descriptor: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<SourceStream, SourceError>> {
        Box::pin(async move {
            let stream = self.registry.blob(&self.repository, descriptor, offset).await?;
            Ok(stream.map(|chunk| chunk.map_err(SourceError::from)).boxed())
        })
    }
}

/// A document by tag or digest.
pub(super) async fn fetch(registry: &Client, reference: &Reference) -> Result<Fetched, Failure> {
    registry.document(reference).await.map_err(|e| Failure::new(&e, e.hint()))
}
