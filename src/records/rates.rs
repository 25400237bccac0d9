//! How fast links were when they were last measured: what later decisions go by.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Error, Records, read, write};
use crate::host::Destination;

/// Bytes per second.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Rates {
    /// From upstream.
    #[serde(default)]
    pub uplink: Option<f64>,
    /// To hosts, by how they are reached.
    #[serde(default)]
    pub hosts: BTreeMap<String, f64>,
}

impl Rates {
    /// The rate to a host.
    pub fn of(&self, destination: &Destination) -> Option<f64> {
        self.hosts.get(&destination.to_string()).copied().filter(|rate| rate.is_finite() && *rate > 0.0)
    }
}

impl Records {
    /// What was measured earlier; nothing where the file is missing or broken, which only costs time.
    pub fn rates(&self) -> Rates {
        read(&self.rates_path()).ok().flatten().unwrap_or_default()
    }

    /// Remembers what was measured, besides what is known of other links.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn remember_rates(&self, measured: Rates) -> Result<(), Error> {
        let mut rates = self.rates();
        rates.uplink = measured.uplink.or(rates.uplink);
        rates.hosts.extend(measured.hosts);
        write(&self.rates_path(), &rates)
    }

    fn rates_path(&self) -> PathBuf {
        self.beside("rates.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_kept_link_by_link_and_a_broken_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path().join("clusters"));
        assert_eq!(records.rates(), Rates::default());
        let host = |name: &str, rate| Rates { uplink: None, hosts: BTreeMap::from([(name.to_string(), rate)]) };
        records.remember_rates(host("ssh://pi1", 1e6)).unwrap();
        records.remember_rates(Rates { uplink: Some(5e6), ..host("ssh://pi2", 2e6) }).unwrap();
        let rates = records.rates();
        assert_eq!((rates.uplink, rates.hosts.len()), (Some(5e6), 2));
        std::fs::write(folder.path().join("rates.json"), "{").unwrap();
        assert_eq!(records.rates(), Rates::default());
    }
}
