//! Sizes of memory as Kubernetes writes them: `512Mi`, `1Gi`, `800M`, or plain bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(pub u64);

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size of memory: 512Mi or 1Gi is expected")]
pub struct QuantityError(String);

const UNITS: [(&str, u64); 6] =
    [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let factor = match unit {
            "" => Some(1),
            _ => UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor),
        };
        let bytes = factor.and_then(|factor| number.parse::<u64>().ok()?.checked_mul(factor));
        bytes.filter(|bytes| *bytes > 0).map(Self).ok_or_else(|| QuantityError(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes % (1 << 20) == 0 => write!(f, "{}Mi", bytes >> 20),
            bytes => write!(f, "{bytes}"),
        }
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_printed_back() {
        for (text, bytes) in [("512Mi", 512 << 20), ("1Gi", 1 << 30), ("800M", 800_000_000), ("1048577", 1_048_577)] {
            let quantity: Quantity = text.parse().unwrap();
            assert_eq!(quantity.0, bytes);
            assert_eq!(quantity.to_string().parse::<Quantity>(), Ok(quantity));
        }
        for text in ["", "Mi", "0", "0Mi", "-1", "1.5Gi", "512 Mi", "512mi", "99999999999Gi", "18446744073709551616"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }
}
