//! Registries over HTTPS: indexes and manifests, blobs, k3s' channels and lists of images. The only door to the internet.
//!
//! It uses the `oci` nouns and knows no host, no store and no stage. It refuses
//!
//! - plain HTTP, except to this machine (loopback addresses and `localhost` are asked over plain HTTP **only**; a registry
//!   with TLS there is reached as a mirror with an `https://` address), to hosts allowed by name, and to mirrors with an
//!   `http://` address;
//! - to hand the user's credentials to anybody but the registry they belong to and its own token server (`auth.rs`);
//! - documents whose bytes are not those of the digest asked for or announced. Blobs are streamed: [`Client::small_blob`]
//!   checks them, [`Client::blob`] leaves that to whoever stores them.
//!
//! Everything that arrives is bounded: documents in size and time, blobs by their descriptor's size and by the time
//! without a byte, headers and connections by number. What may pass is tried again ([`Retry`]); what may not is not.
//!
//! Sources: OCI distribution spec 1.1; distribution's token authentication specification; Docker Hub's documentation of
//! its rate limit.

mod asked;
mod auth;
mod blob;
mod challenge;
mod channels;
mod classify;
mod credentials;
mod docker_config;
mod document;
mod endpoint;
mod error;
mod helper;
mod hint;
mod rate_limit;
mod release;
mod retry;
mod said;
mod tls;
mod token;
mod transport;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::oci::Reference;
use auth::{Auth, Grant, Renewal};
use challenge::Challenge;
use endpoint::{Endpoint, PlainHttp};
use tls::Clients;
use transport::{Answer, Request, Transport};

pub use asked::{Asked, Object};
pub use blob::BlobStream;
pub use channels::Channel;
pub use credentials::{Credentials, CredentialsError, Used};
pub use document::Fetched;
pub use endpoint::{Mirror, MirrorError};
pub use error::{ConnectProblem, Error, TlsProblem};
pub use rate_limit::RateLimit;
pub use release::ListError;
pub use retry::Retry;

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Tried in order before the registry that they stand for.
    pub mirrors: Vec<Mirror>,
    /// Registries that may be asked over plain HTTP: `host` (any port) or `host:port`.
    pub plain_http: BTreeSet<String>,
    /// Token servers that may see the user's credentials although their domain is not the registry's: `host` or
    /// `host:port`.
    pub trusted_realms: BTreeSet<String>,
    /// Where the user's credentials are.
    pub credentials: Credentials,
    /// Where k3s' channels are listed.
    pub channels_url: String,
    /// Where k3s' releases are: the address of a release's files is this, the version, and the file's name.
    pub releases_url: String,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How often to try.
    pub retry: Retry,
    /// Blobs that are fetched from one registry at the same time, and documents too; more only make each other slower.
    pub parallel: usize,
}

impl Default for Settings {
    /// No mirrors, HTTPS, the credentials of the user's Docker.
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            plain_http: BTreeSet::new(),
            trusted_realms: BTreeSet::new(),
            credentials: Credentials::docker(),
            channels_url: "https://update.k3s.io/v1-release/channels".into(),
            releases_url: "https://github.com/k3s-io/k3s/releases/download".into(),
            timeouts: Timeouts::default(),
            retry: Retry::default(),
            parallel: 6,
        }
    }
}

/// How long to wait. There is no limit for the whole of a blob: a slow link is no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the next byte.
    pub idle: Duration,
    /// For the whole of an index, a manifest, a token, a list.
    pub document: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), idle: Duration::from_secs(30), document: Duration::from_secs(120) }
    }
}

/// All registries, as one user of this machine sees them. Cheap to clone; clones share connections, tokens and limits.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    transport: Transport,
    auth: Auth,
    retry: Retry,
    mirrors: Vec<Mirror>,
    channels_url: String,
    releases_url: String,
    parallel: usize,
    gates: Mutex<BTreeMap<(String, Kind), Arc<Semaphore>>>,
}

/// Documents have a gate of their own: whoever reads a blob slowly must not keep a manifest waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Document,
    Blob,
}

/// What is wanted from an endpoint.
#[derive(Debug, Clone)]
struct Wish {
    object: Object,
    repository: String,
    /// After the repository: `manifests/1`.
    path: String,
    accept: HeaderValue,
    range: Option<HeaderValue>,
}

impl Client {
    /// A client for `settings`. Nothing is asked yet, and no credentials are read.
    ///
    /// # Errors
    /// [`Error::Settings`] when the TLS or the HTTP client cannot be made.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let parallel = settings.parallel.clamp(1, Semaphore::MAX_PERMITS);
        let clients = Clients::new(&settings.timeouts, parallel)?;
        let plain = PlainHttp::new(&settings.plain_http, &settings.mirrors);
        let inner = Inner {
            transport: Transport { clients, timeouts: settings.timeouts, plain },
            auth: Auth::new(settings.credentials, settings.trusted_realms),
            retry: settings.retry,
            mirrors: settings.mirrors,
            channels_url: settings.channels_url,
            releases_url: settings.releases_url,
            parallel,
            gates: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where the images of `reference`'s registry are, in the order in which they are tried.
    fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, Error> {
        endpoint::endpoints(reference.registry(), &self.inner.mirrors, &self.inner.transport.plain)
    }

    /// Asks `endpoint` once, twice if it wants another token. The answer has status 200 or 206.
    async fn ask(&self, endpoint: &Endpoint, wish: &Wish) -> Result<Answer, Error> {
        let inner = &self.inner;
        let url = endpoint.url(&format!("{}/{}", wish.repository, wish.path))?;
        let asked = Asked::new(wish.object.clone(), &url);
        let slot = inner.auth.slot(endpoint, &wish.repository);
        let grant = Auth::current(&slot).await.unwrap_or_else(Grant::anonymous);
        let request = Request {
            accept: wish.accept.clone(),
            range: wish.range.clone(),
            authorization: grant.authorization.clone(),
            ..Request::get(asked.clone(), url)
        };
        let answer = inner.transport.send(request.clone()).await?;
        let challenge = Challenge::of(&answer.headers).filter(|_| answer.status == 401 && !answer.redirected);
        let Some(challenge) = challenge else { return grant.judge(answer, &endpoint.login).await };
        let renewal = Renewal {
            transport: &inner.transport,
            endpoint,
            repository: &wish.repository,
            slot: &slot,
            challenge,
            stale: grant.authorization,
            asked: &asked,
        };
        let grant = inner.auth.renew(renewal).await?;
        if grant.authorization.is_none() {
            return grant.judge(answer, &endpoint.login).await;
        }
        let request = Request { authorization: grant.authorization.clone(), ..request };
        grant.judge(inner.transport.send(request).await?, &endpoint.login).await
    }

    /// Waits until fewer than the allowed number of requests of this kind are under way at `endpoint`.
    async fn gate(&self, endpoint: &Endpoint, kind: Kind) -> Option<OwnedSemaphorePermit> {
        let gate = {
            let mut gates = self.inner.gates.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (endpoint.base.origin().ascii_serialization(), kind);
            gates.entry(key).or_insert_with(|| Arc::new(Semaphore::new(self.inner.parallel))).clone()
        };
        // The gate is never closed.
        gate.acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_send<T: Send>(_: T) {}

    #[test]
    fn futures_and_streams_can_move_between_threads() {
        let client = Client::new(Settings { credentials: Credentials::none(), ..Settings::default() }).unwrap();
        let reference: Reference = "a/b".parse().unwrap();
        let digest = crate::oci::Digest::of(b"");
        let media_type = crate::oci::MediaType(String::new());
        let descriptor =
            crate::oci::Descriptor { media_type, digest, size: 0, platform: None, annotations: BTreeMap::new() };
        is_send(client.document(&reference));
        is_send(client.channels());
        is_send(client.release_images("v1.36.3+k3s1"));
        is_send(client.small_blob(&reference, &descriptor));
        is_send(async { client.blob(&reference, &descriptor, 0).await });
        fn stream_is_send(stream: BlobStream) {
            is_send(stream);
        }
        let _ = stream_is_send;
    }
}
