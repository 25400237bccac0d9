//! Facts × Cluster → Findings: all of them, on all hosts, before anything is changed.
//!
//! `machine` looks at one machine, `engine` at its engine, `fleet` at all of them together, `flags` at what the user wrote. What the
//! rules are and why they matter stands in [`crate::host::rules`].

mod engine;
mod flags;
mod fleet;
mod machine;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::cluster::{self, Cluster, ClusterName, Role};
use crate::host::{Facts, Finding, HostName, MachineFacts, Reach, rules};

pub use fleet::{Targets, fleet_findings, targets};

/// What is to be done with a host, as far as its rules depend on it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Purpose<'a> {
    /// The cluster that it is for; `None` to look at the host as it is.
    pub cluster: Option<&'a ClusterName>,
    /// Server or agent; `None` while nobody has chosen.
    pub role: Option<Role>,
    /// Bytes of memory that the node may have, where it is given a limit.
    pub memory: Option<u64>,
    /// Under which address the others are to reach the node, where the user said.
    pub address: Option<Ipv4Addr>,
    /// Pods on different hosts reach each other without vxlan.
    pub without_vxlan: bool,
}

/// What stands against bringing images to a host.
pub fn image_findings(host: &HostName, facts: &Facts) -> Vec<Finding> {
    let unsupported = facts.platform().err();
    unsupported.map(|unsupported| rules::PLATFORM.on(host, unsupported.to_string())).into_iter().collect()
}

/// What stands against a node on a host.
pub fn node_findings(host: &HostName, facts: &Facts, purpose: Purpose<'_>) -> Vec<Finding> {
    let mut findings = image_findings(host, facts);
    findings.extend(engine::findings(host, facts, purpose));
    findings.extend(machine_findings(host, &facts.machine, purpose));
    findings
}

/// What stands against a node on a host, as far as it can be told without its engine.
pub fn machine_findings(host: &HostName, machine: &MachineFacts, purpose: Purpose<'_>) -> Vec<Finding> {
    machine::findings(host, machine, purpose)
}

/// What stands against a cluster on these hosts; of those that are `closed` the engine cannot be used.
pub fn cluster_findings(
    cluster: &Cluster,
    fleet: &BTreeMap<HostName, Facts>,
    closed: &BTreeMap<HostName, MachineFacts>,
    reach: &[Reach],
) -> Vec<Finding> {
    let mut findings = flags::findings(cluster);
    for member in &cluster.members {
        let host = &member.host.name;
        let purpose = Purpose {
            cluster: Some(&cluster.name),
            role: Some(member.role),
            memory: member.memory.map(|limit| limit.0),
            address: member.address,
            without_vxlan: !uses_vxlan(cluster),
        };
        match (fleet.get(host), closed.get(host)) {
            (Some(facts), _) => findings.extend(node_findings(host, facts, purpose)),
            (None, Some(machine)) => findings.extend(machine_findings(host, machine, purpose)),
            (None, None) => {}
        }
    }
    findings.extend(fleet_findings(Some(cluster), fleet, reach));
    findings
}

/// Pods on different hosts reach each other by vxlan.
fn uses_vxlan(cluster: &Cluster) -> bool {
    let backend = cluster.k3s.config.get("flannel-backend");
    backend.is_none_or(|backend| backend.as_str() == Some("vxlan"))
}

/// What the profile costs the user, for the plan: what it leaves out, unless the user's flags bring it back.
pub fn profile_notes(cluster: &Cluster, memory: u64) -> Vec<Finding> {
    let profile = cluster.k3s.profile.for_memory(memory);
    let missed = cluster::missed(&cluster.k3s, memory);
    if profile.has_parts() || missed.is_empty() {
        return Vec::new();
    }
    let (mib, missed) = (memory >> 20, missed.join(", "));
    vec![rules::PROFILE.overall(format!("profile {profile}, for the server's {mib} MiB: {missed}"))]
}
