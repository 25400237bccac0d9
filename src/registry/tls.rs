//! The HTTP clients: whom they trust, how they find addresses, what they refuse.
//!
//! Trusted are Mozilla's roots, built in so that an empty container works, and those of the system where they can be
//! read (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured). The TLS provider is ring, handed over as a value: no global
//! state is installed or needed.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::{ClientConfig, RootCertStore};

use super::Timeouts;
use super::error::Error;

/// Two clients with the same trust: one that honours the proxy variables, and one that asks directly, for this machine.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    pub(super) outside: reqwest::Client,
    pub(super) loopback: reqwest::Client,
}

/// A name without an address; found again in the sources of an error to tell this problem apart.
#[derive(Debug, thiserror::Error)]
#[error("{name:?} has no address")]
pub(super) struct LookupFailed {
    name: String,
    #[source]
    source: Option<io::Error>,
}

impl Clients {
    pub(super) fn new(timeouts: &Timeouts, parallel: usize) -> Result<Self, Error> {
        let tls = trust().map_err(|source| settings("TLS", source))?;
        let build = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .dns_resolver(Lookup)
                // Redirects are followed by transport.rs, which knows what may not be sent on.
                .redirect(reqwest::redirect::Policy::none())
                // Retries are counted in one place only.
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(timeouts.connect)
                .pool_max_idle_per_host(parallel)
                .http2_max_header_list_size(64 << 10)
                .user_agent(concat!("k3arm/", env!("CARGO_PKG_VERSION")))
        };
        let outside = build().build().map_err(|source| settings("HTTP", source))?;
        let loopback = build().no_proxy().build().map_err(|source| settings("HTTP", source))?;
        Ok(Self { outside, loopback })
    }
}

fn settings(what: &str, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Settings { what: format!("no {what} client can be made"), source: Some(Box::new(source)) }
}

fn trust() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn roots() -> RootCertStore {
    let mut roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "a certificate bundle of the system cannot be read");
    }
    let (added, ignored) = roots.add_parsable_certificates(system.certs);
    tracing::trace!(added, ignored, "certificates of the system");
    roots
}

/// The system's resolver, except that `localhost` is this machine whatever DNS says (RFC 6761, 6.3): plain HTTP is
/// allowed to it.
#[derive(Debug, Clone, Copy)]
struct Lookup;

impl Resolve for Lookup {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_string();
        Box::pin(async move { Ok(addresses(name).await?) })
    }
}

async fn addresses(name: String) -> Result<Addrs, LookupFailed> {
    if name == "localhost" {
        let both = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
        return Ok(Box::new(both.into_iter()));
    }
    let found = tokio::net::lookup_host((name.as_str(), 0)).await.map(|found| found.collect::<Vec<_>>());
    match found {
        Ok(found) if found.is_empty() => Err(LookupFailed { name, source: None }),
        Ok(found) => Ok(Box::new(found.into_iter())),
        Err(source) => Err(LookupFailed { name, source: Some(source) }),
    }
}
