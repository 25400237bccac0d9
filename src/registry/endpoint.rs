//! Where a registry is reached: its address, its mirrors, and when plain HTTP is allowed.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use reqwest::Url;
use url::Host;

use super::error::Error;
use crate::oci::Reference;

/// Another address for the images of a registry: `docker.io=http://10.0.0.1:5000`.
///
/// The registry's API is expected under `/v2/` there; an address with a path of its own is taken as it is, as in
/// k3s' `registries.yaml` with a rewritten endpoint (`docker.io=https://harbor.lan/v2/hub-proxy`). An `http://` address
/// allows plain HTTP to exactly this host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    registry: String,
    url: Url,
}

/// Why a string is not a [`Mirror`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// No `=` or an empty side.
    #[error("{0:?} is not a mirror: REGISTRY=URL is expected, for example docker.io=http://10.0.0.1:5000")]
    Form(String),
    /// The part after `=`. The text is not repeated, it may hold a password.
    #[error("the mirror of {registry} is not an http:// or https:// address without user, query and fragment")]
    Url {
        /// The part before `=`.
        registry: String,
    },
}

impl Mirror {
    /// The registry whose images it has, as in a [`Reference`].
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Its address.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

impl FromStr for Mirror {
    type Err = MirrorError;

    fn from_str(text: &str) -> Result<Self, MirrorError> {
        let (registry, address) = text.split_once('=').ok_or_else(|| MirrorError::Form(text.into()))?;
        // A registry is what the first part of a reference can be.
        let registry = match format!("{registry}/x").parse::<Reference>() {
            Ok(reference) if !registry.is_empty() && !registry.contains('/') => reference.registry().to_string(),
            _ => return Err(MirrorError::Form(registry.into())),
        };
        let refused = || MirrorError::Url { registry: registry.clone() };
        let url: Url = address.parse().map_err(|_| refused())?;
        let plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            && matches!(url.scheme(), "http" | "https")
            && url.has_host();
        if plain { Ok(Self { registry, url }) } else { Err(refused()) }
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.registry, self.url)
    }
}

/// One address that is asked for the images of a registry.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// Ends in `/`; repositories come right after it.
    pub(super) base: Url,
    /// The name under which `docker login` keeps credentials for it.
    pub(super) login: String,
    /// For a mirror: the registry that it stands for.
    pub(super) mirrored: Option<String>,
}

impl Endpoint {
    /// The address of `path` (`library/busybox/manifests/1`). Mirrors learn which registry is meant, as containerd
    /// tells them.
    pub(super) fn url(&self, path: &str) -> Result<Url, Error> {
        let mut url = joined(&self.base, path)?;
        if let Some(registry) = &self.mirrored {
            url.query_pairs_mut().append_pair("ns", registry);
        }
        Ok(url)
    }
}

/// Who may be asked over plain HTTP: this machine, and hosts that were allowed by name.
#[derive(Debug, Clone, Default)]
pub(super) struct PlainHttp {
    allowed: BTreeSet<String>,
}

impl PlainHttp {
    /// `names`: `host` (any port) or `host:port`; to them come the `http://` addresses of `mirrors`.
    pub(super) fn new(names: &BTreeSet<String>, mirrors: &[Mirror]) -> Self {
        let named = names.iter().map(|name| name.to_ascii_lowercase());
        let mirrors =
            mirrors.iter().filter(|mirror| mirror.url.scheme() == "http").map(|mirror| authority(&mirror.url));
        Self { allowed: named.chain(mirrors).collect() }
    }

    /// Whether this address may be asked, as far as its scheme goes.
    pub(super) fn allows(&self, url: &Url) -> bool {
        match url.scheme() {
            "https" => true,
            "http" => {
                is_loopback(url)
                    || self.allowed.contains(&authority(url))
                    || self.allowed.contains(url.host_str().unwrap_or_default())
            }
            _ => false,
        }
    }

    /// Whether an answer from `from` may send us to `to`: never from https to http, not even to this machine, whose
    /// other services are none of a registry's business; from http to the same host, or to where one may go anyway.
    pub(super) fn follows(&self, from: &Url, to: &Url) -> bool {
        let same_host = to.scheme() == "http" && from.host() == to.host();
        to.scheme() == "https" || (from.scheme() == "http" && (same_host || self.allows(to)))
    }
}

/// The addresses for the images of `registry`, in the order in which they are tried: mirrors, then the registry.
pub(super) fn endpoints(registry: &str, mirrors: &[Mirror], plain: &PlainHttp) -> Result<Vec<Endpoint>, Error> {
    let mirrors = mirrors.iter().filter(|mirror| mirror.registry == registry).map(mirror_endpoint);
    mirrors.chain(std::iter::once(upstream(registry, plain))).collect()
}

fn mirror_endpoint(mirror: &Mirror) -> Result<Endpoint, Error> {
    let path = mirror.url.path().trim_end_matches('/');
    let path = if path.is_empty() { "/v2/".to_string() } else { format!("{path}/") };
    let base = joined(&mirror.url, &path)?;
    Ok(Endpoint { base, login: authority(&mirror.url), mirrored: Some(mirror.registry.clone()) })
}

fn upstream(registry: &str, plain: &PlainHttp) -> Result<Endpoint, Error> {
    // The one registry whose name is not its address.
    let address = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    let parse = |scheme| parsed(&format!("{scheme}://{address}/v2/"));
    let over_http = parse("http")?;
    let base = if plain.allows(&over_http) { over_http } else { parse("https")? };
    Ok(Endpoint { base, login: registry.into(), mirrored: None })
}

fn parsed(text: &str) -> Result<Url, Error> {
    text.parse().map_err(|source| Error::Settings {
        what: format!("{text:?} is not an address"),
        source: Some(Box::new(source)),
    })
}

fn joined(base: &Url, path: &str) -> Result<Url, Error> {
    base.join(path).map_err(|source| Error::Settings {
        what: format!("{path:?} is not a path under {base}"),
        source: Some(Box::new(source)),
    })
}

/// `host` or `host:port`, as in a reference; no port where it is the scheme's own.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"))
}

/// This machine itself: `localhost` (which [`super::tls`]' resolver never asks DNS for), `127.0.0.0/8`, `::1`.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn bases(registry: &str, mirrors: &[&str], allowed: &[&str]) -> Vec<String> {
        let mirrors: Vec<Mirror> = mirrors.iter().map(|text| text.parse().unwrap()).collect();
        let names = allowed.iter().map(ToString::to_string).collect();
        let plain = PlainHttp::new(&names, &mirrors);
        endpoints(registry, &mirrors, &plain).unwrap().into_iter().map(|endpoint| endpoint.base.to_string()).collect()
    }

    #[test]
    fn registries_have_their_addresses() {
        assert_eq!(bases("docker.io", &[], &[]), ["https://registry-1.docker.io/v2/"]);
        assert_eq!(bases("ghcr.io", &[], &[]), ["https://ghcr.io/v2/"]);
        assert_eq!(bases("localhost:5000", &[], &[]), ["http://localhost:5000/v2/"]);
        assert_eq!(bases("127.9.9.9", &[], &[]), ["http://127.9.9.9/v2/"]);
        assert_eq!(bases("[::1]:5000", &[], &[]), ["http://[::1]:5000/v2/"]);
        assert_eq!(bases("10.0.0.1:5000", &[], &[]), ["https://10.0.0.1:5000/v2/"]);
        assert_eq!(bases("10.0.0.1:5000", &[], &["10.0.0.1:5000"]), ["http://10.0.0.1:5000/v2/"]);
        assert_eq!(bases("10.0.0.1:5000", &[], &["10.0.0.1"]), ["http://10.0.0.1:5000/v2/"]);
        assert_eq!(bases("10.0.0.1:5000", &[], &["10.0.0.1:5001"]), ["https://10.0.0.1:5000/v2/"]);
        assert_eq!(bases("localhost.evil.example", &[], &[]), ["https://localhost.evil.example/v2/"]);
    }

    #[test]
    fn mirrors_come_first_and_in_order() {
        let mirrors = ["docker.io=http://10.0.0.1:5000", "ghcr.io=https://x.y", "docker.io=https://h.lan/v2/hub/"];
        let expected = ["http://10.0.0.1:5000/v2/", "https://h.lan/v2/hub/", "https://registry-1.docker.io/v2/"];
        assert_eq!(bases("docker.io", &mirrors, &[]), expected);
        let endpoints = endpoints("docker.io", &[mirrors[0].parse().unwrap()], &PlainHttp::default()).unwrap();
        assert_eq!(
            endpoints[0].url("library/a/manifests/1").unwrap().as_str(),
            "http://10.0.0.1:5000/v2/library/a/manifests/1?ns=docker.io"
        );
    }

    #[test]
    fn what_is_not_a_mirror_is_refused_without_its_password() {
        for text in
            ["", "docker.io", "=http://x", "a/b=http://x", "docker.io=ftp://x", "docker.io=x", "docker.io=http://"]
        {
            assert!(text.parse::<Mirror>().is_err(), "{text}");
        }
        let error = "docker.io=http://user:geheim@x".parse::<Mirror>().unwrap_err();
        assert!(!error.to_string().contains("geheim"), "{error}");
        assert_eq!("index.docker.io=http://x".parse::<Mirror>().unwrap().registry(), "docker.io");
    }

    #[test]
    fn no_way_leads_from_https_to_http() {
        let plain = PlainHttp::new(&["lan".to_string()].into(), &[]);
        let follows = |from, to| plain.follows(&url(from), &url(to));
        assert!(follows("https://a", "https://b"));
        assert!(follows("http://lan", "https://b"));
        assert!(follows("http://lan", "http://lan:81"));
        assert!(follows("http://127.0.0.1:1", "http://127.0.0.1:2"));
        assert!(!follows("https://a", "http://127.0.0.1"));
        assert!(!follows("https://a", "http://lan"));
        assert!(!follows("http://lan", "http://b"));
        assert!(!follows("https://a", "ftp://a"));
    }
}
