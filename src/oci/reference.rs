//! Image references, with Docker's defaults: `rancher/k3s` is `docker.io/rancher/k3s:latest`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Digest, DigestError};

/// A parsed image reference: `registry/repository[:tag][@digest]`.
///
/// Parsed by the grammar of the distribution project's `reference` package; the registry is always present
/// (`docker.io` by default), and a reference without tag and digest has the tag `latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a string is not a [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The repository has characters or a length that no registry accepts.
    #[error("{0:?} is not an image reference: lower-case letters, digits and . _ - / are expected in the name")]
    Name(String),
    /// A tag is at most 128 letters, digits, `_`, `.` and `-`.
    #[error("{0:?} is not a tag: at most 128 letters, digits and _ . - are expected")]
    Tag(String),
    /// The part after `@`.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Reference {
    /// Host and port of the registry, `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The name inside the registry: `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was named (or `latest`, if neither a tag nor a digest was).
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was named.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What a registry is asked for: the digest if there is one, else the tag.
    pub fn target(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".into(),
        }
    }

    /// The same repository by another digest, without a tag.
    pub fn by_digest(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// The name under which an engine keeps the image: by tag only. A reference that names a digest alone gets the tag
    /// `sha256-<12 digits>`, because an engine forgets an image that has no tag.
    pub fn on_engine(&self) -> Self {
        let of_digest = || self.digest.as_ref().map(|digest| format!("sha256-{}", digest.short()));
        Self { digest: None, tag: self.tag.clone().or_else(of_digest), ..self.clone() }
    }

    /// `registry/repository` without tag or digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The short spelling that Docker prints: without `docker.io/` and `library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        let official = short.strip_prefix("library/").filter(|rest| !rest.contains('/'));
        official.unwrap_or(short).to_string()
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(tag.into()));
        }
        let (registry, repository) = split_registry(name);
        let is_well_formed = is_registry(&registry)
            && registry.len() + repository.len() < 255
            && repository.split('/').all(is_component);
        if !is_well_formed {
            return Err(ReferenceError::Name(text.into()));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_string()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_string()),
        };
        Ok(Self { registry, repository, tag, digest })
    }
}

/// The first component is a registry if it could be a host: it has a dot or a port, or is `localhost`.
fn split_registry(name: &str) -> (String, String) {
    match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            let registry = if first == "index.docker.io" { "docker.io" } else { first };
            let official = registry == "docker.io" && !rest.contains('/');
            (registry.into(), if official { format!("library/{rest}") } else { rest.into() })
        }
        Some(_) => ("docker.io".into(), name.into()),
        None => ("docker.io".into(), format!("library/{name}")),
    }
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !registry.ends_with(']') => (host, Some(port)),
        _ => (registry, None),
    };
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host_ok = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')),
    };
    host_ok && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Lower-case letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends_ok =
        component.as_bytes().first().is_some_and(alphanumeric) && component.as_bytes().last().is_some_and(alphanumeric);
    let bytes_ok = component.bytes().all(|b| alphanumeric(&b) || matches!(b, b'.' | b'_' | b'-'));
    let separators_ok = ["..", "___", "._", "_.", ".-", "-.", "_-", "-_"].iter().all(|bad| !component.contains(bad));
    ends_ok && bytes_ok && separators_ok
}

fn is_tag(tag: &str) -> bool {
    let first_ok = tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    first_ok && tag.len() <= 128 && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        text.parse::<Reference>().map_or_else(|error| panic!("{text}: {error}"), |reference| reference.to_string())
    }

    #[test]
    fn dockers_defaults_apply() {
        assert_eq!(parsed("busybox"), "docker.io/library/busybox:latest");
        assert_eq!(parsed("rancher/k3s"), "docker.io/rancher/k3s:latest");
        assert_eq!(parsed("docker.io/busybox:1"), "docker.io/library/busybox:1");
        assert_eq!(parsed("localhost/a:1"), "localhost/a:1");
        assert_eq!(parsed("ghcr.io/k3s-io/k3s:v1.36.2-k3s1"), "ghcr.io/k3s-io/k3s:v1.36.2-k3s1");
        assert_eq!(parsed("127.0.0.1:5000/a/b"), "127.0.0.1:5000/a/b:latest");
        assert_eq!(parsed("[::1]:5000/a"), "[::1]:5000/a:latest");
    }

    #[test]
    fn a_digest_alone_has_no_tag() {
        let digest = Digest::of(b"");
        let reference: Reference = format!("a/b@{digest}").parse().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((reference.tag(), reference.target()), (None, digest.to_string()));
        assert_eq!(reference.on_engine().to_string(), "docker.io/a/b:sha256-e3b0c44298fc");
    }

    #[test]
    fn familiar_names_are_dockers() {
        for text in ["busybox:1", "rancher/k3s:v1", "ghcr.io/a/b:2"] {
            assert_eq!(text.parse::<Reference>().map(|r| r.familiar()), Ok(text.to_string()));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "A/b", "a//b", "a:", "a/b:t/x:", "a b", "-a", "a@sha256:12", "x.y:99999/a", "a/../b", "a/b:ü"]
        {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics_and_round_trips(text in "\\PC{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                proptest::prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference));
            }
        }
    }
}
