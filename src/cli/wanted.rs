//! The cluster that a user wants: from arguments, or from a file.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use crate::cluster::{Cluster, ClusterName, FileError, K3s, Member, NodeName, Profile, Role, Source};
use crate::host::{Destination, Host, HostName};
use crate::plan::Failure;

#[derive(Debug, Clone, Args)]
pub(super) struct WantedArguments {
    /// The server's host: [NODE=]user@host, ssh://user@host:port, an alias, or local (the default)
    #[arg(long, value_name = "HOST")]
    pub(super) server: Option<Named>,
    /// An agent's host; repeat it for more
    #[arg(long, value_name = "HOST")]
    pub(super) agent: Vec<Named>,
    /// Release (v1.36.2+k3s1), channel (stable, v1.36) or image
    #[arg(long, value_name = "REF", default_value = "stable")]
    pub(super) k3s: Source,
    /// How much of k3s runs: auto (by memory), tiny, small, standard, full
    #[arg(long, value_name = "PROFILE", default_value = "auto")]
    pub(super) profile: Profile,
}

impl WantedArguments {
    pub(super) fn cluster(&self, name: &ClusterName) -> Cluster {
        let server = self.server.clone().unwrap_or(Named { node: None, destination: Destination::Local });
        let agents = self.agent.iter().map(|agent| agent.member(Role::Agent));
        Cluster {
            name: name.clone(),
            k3s: K3s { source: self.k3s.clone(), profile: self.profile, ..K3s::default() },
            members: std::iter::once(server.member(Role::Server)).chain(agents).collect(),
            images: Vec::new(),
        }
    }
}

/// A host, and perhaps the name its node shall have.
#[derive(Debug, Clone)]
pub(super) struct Named {
    node: Option<NodeName>,
    destination: Destination,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (node, destination) = match text.split_once('=') {
            Some((node, destination)) => (Some(node.parse::<NodeName>().map_err(|e| e.to_string())?), destination),
            None => (None, text),
        };
        Ok(Self { node, destination: destination.parse::<Destination>().map_err(|e| e.to_string())? })
    }
}

impl Named {
    fn member(&self, role: Role) -> Member {
        let mut host = Host::of(self.destination.clone());
        if let Some(node) = &self.node {
            host.name = HostName::new(node.as_str());
        }
        let (labels, taints) = Default::default();
        Member { host, node_name: self.node.clone(), role, address: None, labels, taints, memory: None }
    }
}

/// The hosts that a command is about.
#[derive(Debug, Clone, Args)]
pub(super) struct HostArguments {
    /// Which host: user@host, ssh://user@host:port, an alias, or local; repeat it for more
    #[arg(long, value_name = "HOST", conflicts_with = "file")]
    host: Vec<Host>,
    /// The hosts of a cluster file
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl HostArguments {
    /// Each once; of none at all, none.
    pub(super) fn hosts(self) -> Result<Vec<Host>, Failure> {
        let cluster = self.cluster()?;
        let members = cluster.into_iter().flat_map(|cluster| cluster.members).map(|member| member.host);
        Ok(each_once(self.host.into_iter().chain(members).collect()))
    }

    /// This machine, where no host is named.
    pub(super) fn hosts_or_local(self) -> Result<Vec<Host>, Failure> {
        let hosts = self.hosts()?;
        Ok(if hosts.is_empty() { vec![Host::of(Destination::Local)] } else { hosts })
    }

    /// The cluster that the file describes.
    pub(super) fn cluster(&self) -> Result<Option<Cluster>, Failure> {
        self.file.as_deref().map(read_file).transpose()
    }
}

/// Hosts that are named twice count once.
pub(super) fn each_once(hosts: Vec<Host>) -> Vec<Host> {
    let mut once: Vec<Host> = Vec::new();
    for host in hosts {
        if !once.contains(&host) {
            once.push(host);
        }
    }
    once
}

/// A cluster file of a hundred hosts has some 20 KiB; what is longer is not one.
const FILE_LIMIT: u64 = 1 << 20;

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(FILE_LIMIT + 1).read_to_string(&mut text)?;
    match u64::try_from(read) {
        Ok(read) if read <= FILE_LIMIT => Ok(text),
        _ => Err(std::io::Error::other("longer than 1 MiB: that is no cluster file")),
    }
}

/// The cluster that a file describes.
pub(super) fn read_file(path: &Path) -> Result<Cluster, Failure> {
    let name = path.display();
    let failure = |message: String, hint: Option<String>| Failure { host: None, message, hint };
    let hint = || format!("`k3arm config init -f {name}` writes one");
    let text = read(path).map_err(|e| {
        let is_missing = e.kind() == std::io::ErrorKind::NotFound;
        failure(format!("{name}: {e}"), is_missing.then(hint))
    })?;
    Cluster::parse(&text).map_err(|error| match error {
        FileError::Text(fault) => {
            let place = fault.place.map(|(line, column)| format!("{line}:{column}:")).unwrap_or_default();
            let excerpt = fault.excerpt().map(|excerpt| format!("\n{excerpt}")).unwrap_or_default();
            failure(format!("{name}:{place} {}{excerpt}", fault.message), None)
        }
        other => failure(format!("{name}: {other}"), None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_may_be_named() {
        let named: Named = "one=ssh://pi@10.0.0.1:22".parse().unwrap();
        assert_eq!(named.member(Role::Agent).host.name.as_str(), "one");
        assert!("One=pi@x".parse::<Named>().is_err());
    }
}
