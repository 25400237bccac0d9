//! k3s releases and channels, in both spellings of a version.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A k3s release: `v1.36.2+k3s1`, or as an image tag `v1.36.2-k3s1`. Ordered as releases follow each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    minor: (u32, u32),
    patch: u32,
    /// `None` sorts last: a release comes after its candidates.
    candidate: Candidate,
    build: u32,
}

/// `rc1`, or the release itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Candidate {
    Rc(u32),
    Final,
}

/// What a user may ask for: a release, or a channel that names one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// `v1.36.2+k3s1`.
    Release(Release),
    /// `stable`, `latest`, `testing`, `v1.35`.
    Channel(String),
}

/// Why a string is not a [`Release`] or a [`Selector`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a k3s release: v1.36.2+k3s1, v1.36.2-k3s1, or a channel such as stable or v1.36 is expected")]
pub struct ReleaseError(String);

impl Release {
    /// The image tag: `v1.36.2-k3s1`.
    pub fn tag(&self) -> String {
        self.spell('-')
    }

    /// Major and minor version, `(1, 36)`.
    pub fn minor(&self) -> (u32, u32) {
        self.minor
    }

    fn spell(&self, separator: char) -> String {
        let (major, minor) = self.minor;
        let candidate = match self.candidate {
            Candidate::Rc(number) => format!("-rc{number}"),
            Candidate::Final => String::new(),
        };
        format!("v{major}.{minor}.{}{candidate}{separator}k3s{}", self.patch, self.build)
    }

    fn parse(text: &str) -> Option<Self> {
        let (version, build) = text.strip_prefix('v')?.rsplit_once(['+', '-'])?;
        let build = number(build.strip_prefix("k3s")?)?;
        let (version, candidate) = match version.split_once("-rc") {
            Some((version, candidate)) => (version, Candidate::Rc(number(candidate)?)),
            None => (version, Candidate::Final),
        };
        let mut parts = version.splitn(3, '.').map(number);
        let (major, minor, patch) = (parts.next()??, parts.next()??, parts.next()??);
        Some(Self { minor: (major, minor), patch, candidate, build })
    }
}

/// A number without sign, leading zeros or more than six digits.
fn number(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit());
    (plain && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok()).flatten()
}

impl FromStr for Release {
    type Err = ReleaseError;

    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        Self::parse(text).ok_or_else(|| ReleaseError(text.into()))
    }
}

impl FromStr for Selector {
    type Err = ReleaseError;

    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        let is_line = || {
            let (major, minor) = text.strip_prefix('v')?.split_once('.')?;
            number(major).and(number(minor))
        };
        match text {
            "stable" | "latest" | "testing" => Ok(Self::Channel(text.into())),
            _ if is_line().is_some() => Ok(Self::Channel(text.into())),
            _ => text.parse().map(Self::Release),
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spell('+'))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release(release) => fmt::Display::fmt(release, f),
            Self::Channel(channel) => f.write_str(channel),
        }
    }
}

impl Serialize for Release {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Release {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_one_release() {
        let version: Release = "v1.36.2+k3s1".parse().unwrap();
        assert_eq!("v1.36.2-k3s1".parse(), Ok(version.clone()));
        assert_eq!((version.tag().as_str(), version.to_string().as_str()), ("v1.36.2-k3s1", "v1.36.2+k3s1"));
        assert_eq!("v1.36.0-rc2+k3s1".parse::<Release>().unwrap().tag(), "v1.36.0-rc2-k3s1");
    }

    #[test]
    fn releases_are_ordered_as_they_follow_each_other() {
        let ordered =
            ["v1.9.9+k3s1", "v1.36.0-rc1+k3s1", "v1.36.0-rc2+k3s1", "v1.36.0+k3s1", "v1.36.0+k3s2", "v1.36.10+k3s1"];
        let releases: Vec<Release> = ordered.iter().map(|text| text.parse().unwrap()).collect();
        assert!(releases.is_sorted(), "{releases:?}");
    }

    #[test]
    fn channels_are_told_from_releases() {
        for text in ["stable", "latest", "testing", "v1.35"] {
            assert_eq!(text.parse(), Ok(Selector::Channel(text.into())));
        }
        for text in ["", "1.36.2+k3s1", "v1.36.2", "v1.36.2+rke2r1", "v1.036.2+k3s1", "v1", "edge", "v1.36.2+k3s"] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }
}
