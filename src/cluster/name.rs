//! Names of clusters and nodes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a name is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: lower-case letters, digits and - are expected, at most {max}, not first or last -")]
pub struct NameError {
    what: &'static str,
    text: String,
    max: usize,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $extra:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || $extra.contains(b as char);
                let ends_ok = !text.starts_with(['-', '.']) && !text.ends_with(['-', '.']);
                if text.is_empty() || text.len() > $max || !ends_ok || !text.bytes().all(allowed) {
                    return Err(NameError { what: $what, text: text.into(), max: $max });
                }
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// A cluster's name: part of names of containers, volumes and kubeconfig contexts.
    ClusterName, "cluster name", 40, "-"
);
name!(
    /// A node's name in Kubernetes (RFC 1123 subdomain).
    NodeName, "node name", 63, "-."
);

impl NodeName {
    /// `node1`, where a machine has no name that could be one.
    pub(super) fn numbered(number: usize) -> Self {
        Self(format!("node{number}"))
    }
}
