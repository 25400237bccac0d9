//! What was asked of whom: the part that every error of a registry has in common.

use std::fmt;

use reqwest::Url;

use crate::oci::{Digest, Reference};

/// What was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// An index or a manifest, by tag or digest.
    Document(Reference),
    /// A blob of a repository (`registry/name`).
    Blob {
        /// `registry/repository`.
        repository: String,
        /// The blob's name.
        digest: Digest,
    },
    /// The right to read from a registry, from its token server.
    Token {
        /// The registry that named the token server.
        registry: String,
    },
    /// The list of k3s' channels.
    Channels,
    /// The list of the images that a release of k3s starts.
    ReleaseImages {
        /// As k3s spells it: `v1.36.3+k3s1`.
        version: String,
    },
}

/// What was wanted and from which address.
///
/// The address never has credentials or a query (signed addresses of content networks are secrets too).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What was wanted.
    pub object: Object,
    /// From where: the registry's address, or the whole path where there was a redirect.
    pub at: String,
}

impl Asked {
    pub(super) fn new(object: Object, url: &Url) -> Self {
        Self { object, at: url.origin().ascii_serialization() }
    }

    /// Whether it is something of k3s' that no registry has.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.object, Object::Channels | Object::ReleaseImages { .. })
    }

    /// The same, from where the registry sent us.
    pub(super) fn redirected(&self, url: &Url) -> Self {
        Self { object: self.object.clone(), at: format!("{} (redirected from {})", shown(url), self.at) }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object {
            Object::Document(reference) => write!(f, "manifest {reference}")?,
            Object::Blob { repository, digest } => write!(f, "blob {digest} of {repository}")?,
            Object::Token { registry } => write!(f, "a token for {registry}")?,
            Object::Channels => write!(f, "the list of k3s channels")?,
            Object::ReleaseImages { version } => write!(f, "the list of images of k3s {version}")?,
        }
        write!(f, " at {}", self.at)
    }
}

/// An address as it may be shown and logged: without user, password, query and fragment.
pub(super) fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_an_address_are_not_shown() {
        let url: Url = "https://user:secret@cdn.example/blob/1?sig=secret#secret".parse().unwrap();
        assert_eq!(shown(&url), "https://cdn.example/blob/1");
        assert!(!Asked::new(Object::Channels, &url).redirected(&url).to_string().contains("secret"));
    }
}
