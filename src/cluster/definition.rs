//! A cluster as the user wants it, whoever said so: a file or arguments.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::names::{LABEL_ADDRESS, is_node_of};
use super::{ClusterName, NodeName, Profile, Quantity, Source};
use crate::host::{Facts, Host, HostName, NodeFacts, NodeState};
use crate::oci::Reference;

/// A cluster as the user wants it, from the file or from arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// What it is called.
    pub name: ClusterName,
    /// Which k3s.
    pub k3s: K3s,
    /// Its machines: one server, any number of agents.
    pub members: Vec<Member>,
    /// What its pods will run, placed into the nodes beforehand; every name is there once.
    pub images: Vec<Reference>,
}

/// Which k3s, and how it is set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct K3s {
    /// The image.
    pub source: Source,
    /// How much of it runs.
    pub profile: Profile,
    /// The user's own flags, by k3s' names, over what k3arm sets.
    pub config: Map<String, Value>,
    /// Variables of k3s' environment, over those of the profile; never a secret.
    pub environment: BTreeMap<String, String>,
}

/// One machine of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// How it is reached.
    pub host: Host,
    /// Its name in Kubernetes, if the user chose one; else its host name.
    pub node_name: Option<NodeName>,
    /// Server or agent.
    pub role: Role,
    /// Under which address the other machines reach it, if the user said.
    pub address: Option<Ipv4Addr>,
    /// Kubernetes labels.
    pub labels: BTreeMap<String, String>,
    /// Kubernetes taints, `key=value:Effect`.
    pub taints: Vec<String>,
    /// How much memory the node may have with all of its pods, if not all that there is.
    pub memory: Option<Quantity>,
}

impl Member {
    /// Bytes of memory that the node may have on a host with so many.
    pub fn memory_of(&self, total: u64) -> u64 {
        self.memory.map_or(total, |limit| limit.0.min(total))
    }

    /// Under which address, and on which interface of its host, the others reach its node: what the user said, else where the
    /// cluster's node stands already if the host still has that address, else where the host was reached. A host with two networks
    /// is reached by one today, and by the other tomorrow.
    pub fn reached_at(&self, cluster: &ClusterName, facts: &Facts) -> Option<(Ipv4Addr, Option<String>)> {
        let machine = &facts.machine;
        let given = self.address.map(|address| (address, machine.addresses.get(&address).cloned()));
        let standing = || {
            let is_ours = |node: &&NodeFacts| node.state != NodeState::Created && is_node_of(node, cluster);
            let address = facts.nodes.iter().find(is_ours)?.labels.get(LABEL_ADDRESS)?.parse().ok()?;
            Some((address, Some(machine.addresses.get(&address)?.clone())))
        };
        let found = || match machine.address {
            Some(IpAddr::V4(address)) => Some((address, machine.interface.clone())),
            _ => None,
        };
        given.or_else(standing).or_else(found)
    }
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Control plane, and workloads too.
    Server,
    /// Workloads only.
    Agent,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Server => "server",
            Self::Agent => "agent",
        })
    }
}

/// Why a set of machines is no cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// Exactly one is needed.
    #[error("a cluster has one server, {0} were given")]
    Servers(usize),
    /// Two entries for one machine.
    #[error("{0} is named twice: a Docker host runs one node")]
    Twice(String),
}

impl Cluster {
    /// The member that is the server.
    pub fn server(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.role == Role::Server)
    }

    /// Whose node is on a host.
    pub fn member(&self, host: &HostName) -> Option<&Member> {
        self.members.iter().find(|member| member.host.name == *host)
    }

    /// The rules that hold for files and arguments alike.
    ///
    /// # Errors
    /// [`MembersError`].
    pub fn check(&self) -> Result<(), MembersError> {
        let servers = self.members.iter().filter(|member| member.role == Role::Server).count();
        if servers != 1 {
            return Err(MembersError::Servers(servers));
        }
        for (position, member) in self.members.iter().enumerate() {
            let twice = self.members[..position].iter().any(|earlier| {
                earlier.host.destination == member.host.destination || earlier.host.name == member.host.name
            });
            if twice {
                return Err(MembersError::Twice(member.host.name.to_string()));
            }
        }
        Ok(())
    }
}
