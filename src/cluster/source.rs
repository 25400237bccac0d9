//! Which k3s image nodes are made of.

use std::fmt;
use std::str::FromStr;

use super::Selector;
use crate::oci::Reference;

/// Where the node image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The published image of a release.
    Release(Selector),
    /// An image that the user names.
    Image(Reference),
}

impl Default for Source {
    fn default() -> Self {
        Self::Release(Selector::Channel("stable".into()))
    }
}

impl FromStr for Source {
    type Err = crate::oci::ReferenceError;

    /// A release in either spelling, a channel, or an image; an image's tag may be spelled like the release, with `+`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(selector) => Ok(Self::Release(selector)),
            Err(_) => text.replace('+', "-").parse().map(Self::Image),
        }
    }
}

impl fmt::Display for Source {
    /// As people write it, and as it can be read back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release(selector) => fmt::Display::fmt(selector, f),
            Self::Image(reference) => f.write_str(&reference.familiar()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_printed_as_they_are_written() {
        for text in ["stable", "v1.36", "v1.36.2+k3s1", "ghcr.io/me/k3s:mine", "me/k3s:mine"] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
    }
}
