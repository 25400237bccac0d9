//! Platforms, and the one matcher that decides which entry of an index a host gets.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an image runs on, as in an index's `platform` field: `os/architecture[/variant]`.
///
/// Always in normal form: `aarch64` is `arm64`, `arm64/v8` has no variant, `arm` without a variant is `arm/v7`
/// (the normal form of containerd's `platforms` package).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// Why a string is not a [`Platform`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform: os/architecture[/variant] is expected, for example linux/arm64 or linux/arm/v7")]
pub struct PlatformError(String);

impl Platform {
    /// The platform of these parts, brought into normal form.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let variant = variant.filter(|v| !v.is_empty()).map(|v| v.trim_start_matches('v'));
        let (architecture, variant) = match (architecture, variant) {
            ("aarch64" | "arm64", None | Some("8")) => ("arm64", None),
            ("aarch64", other) => ("arm64", other),
            ("x86_64" | "x86-64" | "amd64", None | Some("1")) => ("amd64", None),
            ("x86_64" | "x86-64", other) => ("amd64", other),
            ("armhf", None) | ("arm", None) => ("arm", Some("7")),
            ("armel", None) => ("arm", Some("6")),
            (other, variant) => (other, variant),
        };
        Self { os: os.into(), architecture: architecture.into(), variant: variant.map(|v| format!("v{v}")) }
    }

    /// `linux` everywhere k3s runs; `unknown` in attestation entries.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// GOARCH: `amd64`, `arm64`, `arm`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// For `arm` always present: `v6`, `v7`.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// How well a machine of this platform runs an image made for `offered`: `None` if it cannot, else a rank where
    /// 0 is best. A later ARM variant runs earlier ones; a 64-bit engine is never given a 32-bit image.
    pub fn accepts(&self, offered: &Platform) -> Option<u8> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        if self.variant == offered.variant {
            return Some(0);
        }
        let (ours, theirs) = (self.level()?, offered.level()?);
        ours.checked_sub(theirs)
    }

    /// The best of `offered` for a machine of this platform.
    pub fn select<'a, T>(&self, offered: impl IntoIterator<Item = (&'a Platform, T)>) -> Option<T> {
        let ranked = offered.into_iter().filter_map(|(platform, item)| Some((self.accepts(platform)?, item)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, item)| item)
    }

    /// The variant as a number; the architecture's baseline where none is named.
    fn level(&self) -> Option<u8> {
        match &self.variant {
            Some(variant) => variant.trim_start_matches('v').parse().ok(),
            None if self.architecture == "arm64" => Some(8),
            None => Some(1),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let malformed = || PlatformError(text.into());
        let well_formed = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| well_formed(part)) {
            return Err(malformed());
        }
        match parts[..] {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(malformed()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// The wire form of an index.
#[derive(Serialize, Deserialize)]
struct Wire {
    os: String,
    architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
}

impl Serialize for Platform {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Platform {
    /// Accepts the wire form of an index (a map) as well as `os/architecture[/variant]`.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Map(Wire),
        }
        match Either::deserialize(deserializer)? {
            Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
            Either::Map(wire) => Ok(Self::new(&wire.os, &wire.architecture, wire.variant.as_deref())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn spellings_of_one_platform_are_equal() {
        for (one, other) in [
            ("linux/arm64", "linux/arm64/v8"),
            ("linux/arm64", "linux/aarch64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/7"),
            ("linux/amd64", "linux/x86_64"),
        ] {
            assert_eq!(platform(one), platform(other));
        }
        assert_eq!(platform("linux/arm/7").to_string(), "linux/arm/v7");
    }

    #[test]
    fn a_host_gets_the_best_entry_it_can_run() {
        let offered = [platform("linux/arm/v6"), platform("linux/arm/v7"), platform("linux/arm64")];
        let select = |host: &str| platform(host).select(offered.iter().map(|p| (p, p.to_string())));
        assert_eq!(select("linux/arm/v7").as_deref(), Some("linux/arm/v7"));
        assert_eq!(select("linux/arm/v6").as_deref(), Some("linux/arm/v6"));
        assert_eq!(select("linux/arm64").as_deref(), Some("linux/arm64"));
        assert_eq!(select("linux/arm/v5"), None);
        assert_eq!(select("linux/amd64"), None);
    }

    #[test]
    fn attestations_match_no_host() {
        let unknown = platform("unknown/unknown");
        assert_eq!(platform("linux/amd64").accepts(&unknown), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "linux", "linux/", "a/b/c/d", "linux/arm 64"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
