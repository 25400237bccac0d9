//! Indexes and manifests.

use bytes::Bytes;
use reqwest::header::HeaderValue;

use super::endpoint::Endpoint;
use super::transport::Answer;
use super::{Asked, Client, Error, Kind, Object, Wish};
use crate::oci::{Descriptor, Digest, DigestError, Document, MAX_MANIFEST_BYTES, MediaType, Reference};

/// An index or a manifest as it came from a registry, checked against its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its media type, the digest computed from its bytes, its size. Without platform and annotations.
    pub descriptor: Descriptor,
    /// Exactly as it came: its digest is that of these bytes.
    pub bytes: Bytes,
    /// The same, interpreted.
    pub document: Document,
}

impl Client {
    /// The index or manifest that `reference` names, by digest if it has one, else by tag. Mirrors are asked first; what
    /// they lack or spoil is asked of the next, at last of the registry itself.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Mirrors`] only where there are mirrors ([`Error::root`] is the registry's own answer).
    pub async fn document(&self, reference: &Reference) -> Result<Fetched, Error> {
        let mut failed = Vec::new();
        let mut endpoints = self.endpoints(reference)?.into_iter().peekable();
        while let Some(endpoint) = endpoints.next() {
            match self.inner.retry.run(|| self.document_at(&endpoint, reference)).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) if endpoints.peek().is_none() => return Err(Error::of_all(failed, error)),
                Err(error) => {
                    tracing::debug!(%error, "the next address is tried");
                    failed.push(error);
                }
            }
        }
        Err(Error::Settings { what: format!("{} has no address", reference.registry()), source: None })
    }

    async fn document_at(&self, endpoint: &Endpoint, reference: &Reference) -> Result<Fetched, Error> {
        let _turn = self.gate(endpoint, Kind::Document).await;
        let answer = self.ask(endpoint, &wish(reference)).await?;
        let asked = answer.asked.clone();
        let announced = announced(&answer)?;
        let media_type = media_type(&answer);
        let bytes = answer.body.whole(MAX_MANIFEST_BYTES, self.inner.transport.timeouts.document).await?;
        let digest = Digest::of(&bytes);
        for expected in reference.digest().cloned().into_iter().chain(announced) {
            if expected != digest {
                return Err(Error::WrongDigest { asked: Box::new(asked), expected, computed: digest });
            }
        }
        let document = Document::parse(&media_type, &bytes).map_err(|source| malformed(&asked, source))?;
        let size = bytes.len() as u64;
        let descriptor = Descriptor { media_type, digest, size, platform: None, annotations: Default::default() };
        Ok(Fetched { descriptor, bytes, document })
    }
}

fn wish(reference: &Reference) -> Wish {
    let accept = HeaderValue::from_str(&MediaType::DOCUMENTS.join(", "));
    Wish {
        object: Object::Document(reference.clone()),
        repository: reference.repository().into(),
        path: format!("manifests/{}", reference.target()),
        accept: accept.unwrap_or_else(|_| HeaderValue::from_static("*/*")),
        range: None,
    }
}

/// The digest in `Docker-Content-Digest`. One of another algorithm says nothing that could be checked here.
fn announced(answer: &Answer) -> Result<Option<Digest>, Error> {
    match answer.header("docker-content-digest").map(str::parse::<Digest>) {
        None | Some(Err(DigestError::Algorithm(_))) => Ok(None),
        Some(Ok(digest)) => Ok(Some(digest)),
        Some(Err(source)) => Err(malformed(&answer.asked, source)),
    }
}

/// `Content-Type` without parameters, in lower case as media types are compared (RFC 9110, 8.3.1).
fn media_type(answer: &Answer) -> MediaType {
    let text = answer.header("content-type").unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default();
    MediaType(essence.trim().to_ascii_lowercase())
}

fn malformed(asked: &Asked, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Malformed { asked: Box::new(asked.clone()), source: Box::new(source) }
}
