//! Which images this machine's k3arm has brought to which engine: those, and no others, may be pruned there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Error, Records, read, write};
use crate::host::Destination;
use crate::oci::{Digest, Reference};

/// By name on the engine: the ID that it had there.
pub type Placed = BTreeMap<Reference, Digest>;

impl Records {
    /// What was brought to this host.
    ///
    /// # Errors
    /// The file is there, but cannot be read.
    pub fn placed(&self, host: &Destination) -> Result<Placed, Error> {
        Ok(self.all_placed()?.remove(&host.to_string()).unwrap_or_default())
    }

    /// What was brought to any host, by how it is reached.
    ///
    /// # Errors
    /// The file is there, but cannot be read.
    pub fn all_placed(&self) -> Result<BTreeMap<String, Placed>, Error> {
        Ok(read(&self.placed_path())?.unwrap_or_default())
    }

    /// Writes down what a host has of us now, in the place of what it had.
    ///
    /// # Errors
    /// The folder cannot be written, or the file is there and broken.
    pub fn set_placed(&self, host: &Destination, placed: Placed) -> Result<(), Error> {
        let mut all = self.all_placed()?;
        all.insert(host.to_string(), placed);
        all.retain(|_, placed| !placed.is_empty());
        write(&self.placed_path(), &all)
    }

    fn placed_path(&self) -> PathBuf {
        self.beside("images.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_placed_is_known_host_by_host() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path().join("clusters"));
        let hosts: [Destination; 2] = ["pi@pi1", "pi@pi2"].map(|host| host.parse().unwrap());
        let placed: Placed = [("rancher/k3s:v1".parse().unwrap(), Digest::of(b"id"))].into();
        assert!(records.placed(&hosts[0]).unwrap().is_empty());
        records.set_placed(&hosts[0], placed.clone()).unwrap();
        records.set_placed(&hosts[1], placed.clone()).unwrap();
        records.set_placed(&hosts[1], Placed::new()).unwrap();
        assert_eq!((records.placed(&hosts[0]).unwrap(), records.all_placed().unwrap().len()), (placed, 1));
        std::fs::write(folder.path().join("images.json"), "{").unwrap();
        assert!(records.placed(&hosts[0]).is_err());
    }
}
