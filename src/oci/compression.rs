//! How the bytes of a layer are compressed as they travel, and the media types that say so.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::MediaType;

/// A level of zstd, 1 (fast) to 22 (small).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZstdLevel(u8);

/// Why something is not a [`Compression`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a compression: gzip, zstd or zstd:LEVEL with a level from 1 to 22 is expected")]
pub struct CompressionError(String);

/// What a layer is to be compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// What every engine takes.
    Gzip,
    /// Smaller and faster to unpack; Docker takes it from 23.0 on.
    Zstd(ZstdLevel),
}

/// What a layer is compressed with, as its media type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerForm {
    /// A bare tar.
    Plain,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// What compressing with one level costs and brings, measured on the machine that would do it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yield {
    /// With what.
    pub level: ZstdLevel,
    /// Bytes of the layer as published (compressed) that are worked through in a second.
    pub rate: f64,
    /// Size of the result divided by the size as published.
    pub ratio: f64,
}

impl ZstdLevel {
    /// The highest.
    pub const MAX: Self = Self(22);
    /// About three quarters of what [`Self::SMALLEST`] saves, for a tenth of its time.
    pub const DEFAULT: Self = Self(10);
    /// The level from which on more time brings next to nothing.
    pub const SMALLEST: Self = Self(19);

    /// `None` unless it is 1 to 22.
    pub const fn new(level: u8) -> Option<Self> {
        if level >= 1 && level <= Self::MAX.0 { Some(Self(level)) } else { None }
    }

    /// 1 to 22.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for ZstdLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Compression {
    /// Whether a result of `self` will do where `wanted` is asked for: the same, or zstd of a higher level.
    pub fn is_as_good_as(self, wanted: Self) -> bool {
        match (self, wanted) {
            (Self::Zstd(made), Self::Zstd(wanted)) => made >= wanted,
            _ => self == wanted,
        }
    }

    /// What comes out.
    pub fn form(self) -> LayerForm {
        match self {
            Self::Gzip => LayerForm::Gzip,
            Self::Zstd(_) => LayerForm::Zstd,
        }
    }
}

impl FromStr for Compression {
    type Err = CompressionError;

    fn from_str(text: &str) -> Result<Self, CompressionError> {
        let error = || CompressionError(text.into());
        match text.split_once(':') {
            None if text == "gzip" => Ok(Self::Gzip),
            None if text == "zstd" => Ok(Self::Zstd(ZstdLevel::DEFAULT)),
            Some(("zstd", level)) if level.bytes().all(|b| b.is_ascii_digit()) => {
                level.parse().ok().and_then(ZstdLevel::new).map(Self::Zstd).ok_or_else(error)
            }
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzip => f.write_str("gzip"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

impl Serialize for Compression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Compression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// OCI's and Docker's names. Layers that may not be distributed, and encrypted ones, are not among them.
const LAYERS: [(&str, LayerForm); 6] = [
    ("application/vnd.oci.image.layer.v1.tar", LayerForm::Plain),
    ("application/vnd.oci.image.layer.v1.tar+gzip", LayerForm::Gzip),
    ("application/vnd.oci.image.layer.v1.tar+zstd", LayerForm::Zstd),
    ("application/vnd.docker.image.rootfs.diff.tar", LayerForm::Plain),
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", LayerForm::Gzip),
    ("application/vnd.docker.image.rootfs.diff.tar.zstd", LayerForm::Zstd),
];

impl MediaType {
    /// OCI image config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Docker image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

    /// How a layer of this type is compressed; `None` for anything that is not a layer or that k3arm should leave alone.
    pub fn layer_form(&self) -> Option<LayerForm> {
        LAYERS.iter().find(|(name, _)| *name == self.0).map(|(_, form)| *form)
    }

    /// OCI's type of a layer.
    pub fn oci_layer(form: LayerForm) -> Self {
        let suffix = match form {
            LayerForm::Plain => "",
            LayerForm::Gzip => "+gzip",
            LayerForm::Zstd => "+zstd",
        };
        Self(format!("application/vnd.oci.image.layer.v1.tar{suffix}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_levels_of_zstd_are_read() {
        for text in ["gzip", "zstd:1", "zstd:22"] {
            assert_eq!(text.parse::<Compression>().unwrap().to_string(), text);
        }
        assert_eq!("zstd".parse(), Ok(Compression::Zstd(ZstdLevel::DEFAULT)));
        for text in ["", "zstd:", "zstd:0", "zstd:23", "zstd:+3", "zstd:-1", "zstd:300", "gzip:6", "zstd:3:4", "Zstd"] {
            assert!(text.parse::<Compression>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_higher_level_will_do_and_another_codec_will_not() {
        let zstd = |level| Compression::Zstd(ZstdLevel::new(level).unwrap());
        assert!(zstd(19).is_as_good_as(zstd(10)) && zstd(10).is_as_good_as(zstd(10)));
        assert!(!zstd(9).is_as_good_as(zstd(10)));
        assert!(!zstd(19).is_as_good_as(Compression::Gzip) && !Compression::Gzip.is_as_good_as(zstd(1)));
    }

    #[test]
    fn layers_are_told_from_what_must_be_left_alone() {
        for form in [LayerForm::Plain, LayerForm::Gzip, LayerForm::Zstd] {
            assert_eq!(MediaType::oci_layer(form).layer_form(), Some(form));
        }
        for text in [
            MediaType::OCI_CONFIG,
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        ] {
            assert_eq!(MediaType(text.into()).layer_form(), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics_and_round_trips(text in "(zstd|gzip)?:?\\PC{0,6}") {
            if let Ok(compression) = text.parse::<Compression>() {
                proptest::prop_assert_eq!(compression.to_string().parse::<Compression>(), Ok(compression));
            }
        }
    }
}
