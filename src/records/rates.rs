//! How fast links were when they were last measured: what later decisions go by.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Error, Records};
use crate::host::Destination;

/// A fleet has tens of hosts; a longer file is none of ours.
const LIMIT: u64 = 1 << 20;

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
        let path = self.rates_path();
        let is_small = fs::metadata(&path).is_ok_and(|found| found.len() <= LIMIT);
        let text = is_small.then(|| fs::read_to_string(&path).ok()).flatten();
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Remembers what was measured, besides what is known of other links.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn remember_rates(&self, measured: Rates) -> Result<(), Error> {
        let mut rates = self.rates();
        rates.uplink = measured.uplink.or(rates.uplink);
        rates.hosts.extend(measured.hosts);
        let path = self.rates_path();
        let write = || -> std::io::Result<()> {
            let folder = path.parent().unwrap_or(self.folder());
            fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&serde_json::to_vec(&rates)?)?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|source| Error { action: "written", path: path.clone(), source })
    }

    /// Beside the folder of the clusters' records.
    fn rates_path(&self) -> PathBuf {
        self.folder().with_file_name("rates.json")
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
        fs::write(folder.path().join("rates.json"), "{").unwrap();
        assert_eq!(records.rates(), Rates::default());
    }
}
