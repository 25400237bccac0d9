//! Which hosts a cluster was made on, remembered on this machine so that `delete NAME` need not be told them.
//!
//! A cache: what stands on the hosts is the truth, and a lost record loses nothing (`--host` names them again).

mod placed;
mod rates;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cluster::ClusterName;
use crate::host::{Destination, Host, HostName};

pub use placed::Placed;
pub use rates::Rates;

/// A folder with one small file a cluster.
#[derive(Debug, Clone)]
pub struct Records {
    folder: PathBuf,
}

/// A record could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the record {path} could not be {action}")]
pub struct Error {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    hosts: BTreeMap<HostName, Destination>,
}

impl Records {
    /// Records in `folder`, which is made when something is written.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The hosts of a cluster; none where nothing is known.
    ///
    /// # Errors
    /// The file is there, but cannot be read.
    pub fn hosts(&self, cluster: &ClusterName) -> Result<Vec<Host>, Error> {
        let record: Record = read(&self.path(cluster))?.unwrap_or_default();
        Ok(record.hosts.into_iter().map(|(name, destination)| Host { name, destination }).collect())
    }

    /// All clusters with a record.
    pub fn clusters(&self) -> Vec<ClusterName> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut names: Vec<ClusterName> =
            entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok()).collect();
        names.sort();
        names
    }

    /// Remembers hosts of a cluster, besides those that it is known to have.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn add<'a>(&self, cluster: &ClusterName, hosts: impl Iterator<Item = &'a Host>) -> Result<(), Error> {
        let known = self.hosts(cluster).unwrap_or_default();
        let hosts = known.into_iter().chain(hosts.cloned()).map(|host| (host.name, host.destination)).collect();
        write(&self.path(cluster), &Record { hosts })
    }

    /// Forgets a cluster.
    ///
    /// # Errors
    /// The file is there, but cannot be removed.
    pub fn forget(&self, cluster: &ClusterName) -> Result<(), Error> {
        let path = self.path(cluster);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(Error { action: "removed", path, source }),
            _ => Ok(()),
        }
    }

    /// The folder of all records.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, cluster: &ClusterName) -> PathBuf {
        self.folder.join(format!("{cluster}.json"))
    }

    /// What is not about one cluster stands beside their folder.
    fn beside(&self, name: &str) -> PathBuf {
        self.folder.with_file_name(name)
    }
}

/// The most that a record may be: it is about tens of hosts.
const LIMIT: u64 = 1 << 20;

/// `None` where there is no such file.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let fail = |source| Error { action: "read", path: path.into(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(fail(source)),
    };
    serde_json::from_reader(BufReader::new(file.take(LIMIT))).map(Some).map_err(|error| fail(error.into()))
}

/// Writes the file, and its folder, whole or not at all.
fn write(path: &Path, record: &impl Serialize) -> Result<(), Error> {
    let attempt = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        file.persist(path)?;
        Ok(())
    };
    attempt().map_err(|source| Error { action: "written", path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path().join("clusters"));
        let name: ClusterName = "home".parse().unwrap();
        assert!(records.hosts(&name).unwrap().is_empty());
        let host: Host = "pi@pi1".parse().unwrap();
        let other: Host = "pi@pi2".parse().unwrap();
        records.add(&name, [&host, &other].into_iter()).unwrap();
        records.add(&name, std::iter::once(&host)).unwrap();
        assert_eq!((records.hosts(&name).unwrap(), records.clusters()), (vec![host, other], vec![name.clone()]));
        records.forget(&name).unwrap();
        records.forget(&name).unwrap();
        assert!(records.clusters().is_empty());
    }

    #[test]
    fn a_broken_record_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("home.json"), "{").unwrap();
        let records = Records::new(folder.path().into());
        assert!(records.hosts(&"home".parse().unwrap()).unwrap_err().to_string().contains("home.json"));
    }
}
