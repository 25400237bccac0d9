//! Impatient settings, a small image, and the client that the tests use.

use std::time::Duration;

use futures_util::StreamExt;
use k3arm::oci::{Descriptor, Digest, MediaType, Reference};
use k3arm::registry::{BlobStream, Client, Credentials, Error, Retry, Settings, Timeouts};

/// Three attempts with short pauses. The limits leave room for a machine that is busy with other tests.
pub(crate) fn settings() -> Settings {
    Settings {
        credentials: Credentials::none(),
        timeouts: Timeouts {
            connect: Duration::from_millis(1500),
            idle: Duration::from_secs(1),
            document: Duration::from_secs(3),
        },
        retry: Retry {
            attempts: 3,
            first_pause: Duration::from_millis(5),
            longest_pause: Duration::from_millis(20),
            patience: Duration::from_secs(2),
        },
        ..Settings::default()
    }
}

pub(crate) fn client() -> Client {
    Client::new(settings()).unwrap()
}

pub(crate) fn reference(address: &str, rest: &str) -> Reference {
    format!("{address}/{rest}").parse().unwrap()
}

/// An image manifest without layers.
pub(crate) fn manifest() -> Vec<u8> {
    let config = Digest::of(b"{}");
    let media_type = MediaType::OCI_MANIFEST;
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},"layers":[]}}"#
    )
    .into_bytes()
}

pub(crate) const MANIFEST_TYPE: (&str, &str) = ("content-type", MediaType::OCI_MANIFEST);

/// Bytes in which no part is like another.
pub(crate) fn content(size: usize) -> Vec<u8> {
    (0u32..).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(size).collect()
}

pub(crate) fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: MediaType("application/vnd.oci.image.layer.v1.tar+gzip".into()),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        platform: None,
        annotations: Default::default(),
    }
}

/// All that a stream yields, and its error if it has one.
pub(crate) async fn drain(mut stream: BlobStream) -> (Vec<u8>, Option<Error>) {
    let mut all = Vec::new();
    while let Some(next) = stream.next().await {
        match next {
            Ok(bytes) => all.extend_from_slice(&bytes),
            Err(error) => {
                assert!(stream.next().await.is_none(), "a stream ends with its error");
                return (all, Some(error));
            }
        }
    }
    (all, None)
}
