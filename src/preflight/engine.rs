//! The engine of one machine, and a node on it.

use super::Purpose;
use crate::cluster::names::{LABEL_CLUSTER, LABEL_NODE, is_node_of};
use crate::cluster::{API_PORT, Role};
use crate::host::{Facts, Finding, HostName, Medium, NodeFacts, NodeState, Rule, rules};

/// On which overlayfs has no upper directory.
const WITHOUT_OVERLAY: [&str; 10] =
    ["overlay", "aufs", "zfs", "nfs", "nfs4", "cifs", "ecryptfs", "fuseblk", "vfat", "exfat"];
/// On which an agent listens, too: its way to the server, the kubelet, and kube-proxy.
const AGENT_PORTS: [u16; 5] = [6444, 10248, 10249, 10250, 10256];

/// Everything that the rules find on one engine, in the order of the rules.
pub(super) fn findings(host: &HostName, facts: &Facts, purpose: Purpose<'_>) -> Vec<Finding> {
    let here = Here { host, facts, purpose };
    [
        here.rootless(),
        here.engine_old(),
        here.engine_snap(),
        here.storage_driver(),
        here.filesystem(),
        here.disk_low(),
        here.card(),
        here.forwarding(),
        here.userland(),
        here.ports(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

struct Here<'a> {
    host: &'a HostName,
    facts: &'a Facts,
    purpose: Purpose<'a>,
}

impl Here<'_> {
    fn found(&self, rule: &'static Rule, seen: impl Into<String>) -> Option<Finding> {
        Some(rule.on(self.host, seen))
    }

    fn rootless(&self) -> Option<Finding> {
        let rule = || self.found(&rules::ROOTLESS, "its Docker engine is rootless");
        self.facts.engine.rootless.then(rule)?
    }

    fn engine_old(&self) -> Option<Finding> {
        let api = self.facts.engine.api_version.split_once('.')?;
        let api = (api.0.parse::<u32>().ok()?, api.1.parse::<u32>().ok()?);
        let seen = || format!("its Docker engine is {}", self.facts.engine.version);
        (api < (1, 41)).then(|| self.found(&rules::ENGINE_OLD, seen()))?
    }

    fn engine_snap(&self) -> Option<Finding> {
        let root = &self.facts.engine.root_dir;
        root.starts_with("/var/snap/")
            .then(|| self.found(&rules::ENGINE_SNAP, format!("its Docker engine is a snap, with its data in {root}")))?
    }

    fn storage_driver(&self) -> Option<Finding> {
        let driver = self.facts.engine.storage_driver.as_str();
        let is_slow = matches!(driver, "vfs" | "devicemapper" | "aufs");
        is_slow.then(|| self.found(&rules::STORAGE_DRIVER, format!("its Docker engine keeps layers with {driver}")))?
    }

    fn filesystem(&self) -> Option<Finding> {
        let filesystem = self.facts.engine.disk.filesystem.as_deref()?;
        let seen = || format!("{} is on {filesystem}", self.facts.engine.root_dir);
        (WITHOUT_OVERLAY.contains(&filesystem) || filesystem.starts_with("fuse."))
            .then(|| self.found(&rules::FILESYSTEM, seen()))?
    }

    fn disk_low(&self) -> Option<Finding> {
        let is_new = self.facts.nodes.is_empty();
        let places = self.facts.engine.places().filter_map(|(dir, disk)| Some((dir, disk.free?)));
        let (dir, free) = places.min_by_key(|(_, free)| *free)?;
        let seen = || format!("{dir} has {:.1} GB free", free as f64 / 1e9);
        (is_new && free < 2_000_000_000).then(|| self.found(&rules::DISK_LOW, seen()))?
    }

    fn card(&self) -> Option<Finding> {
        let (dir, _) = self.facts.engine.places().find(|(_, disk)| disk.medium == Some(Medium::Card))?;
        self.found(&rules::CARD, format!("{dir} is on an SD card"))
    }

    fn forwarding(&self) -> Option<Finding> {
        (self.facts.can_reverse == Some(false)).then(|| self.found(&rules::FORWARDING, "its sshd forwards no ports"))?
    }

    fn userland(&self) -> Option<Finding> {
        let is_32_bit = matches!(self.facts.engine.arch.as_str(), "arm" | "armhf" | "armv7l" | "armv8l");
        let is_mixed = is_32_bit && matches!(self.facts.machine.kernel_arch.as_str(), "aarch64" | "arm64");
        is_mixed.then(|| self.found(&rules::USERLAND, "its kernel has 64 bits, and its Docker engine 32"))?
    }

    fn ports(&self) -> Option<Finding> {
        let facts = self.facts;
        let is_own = |node: &NodeFacts| match self.purpose.cluster {
            Some(cluster) => is_node_of(node, cluster),
            None => true,
        };
        let is_active = |node: &NodeFacts| !matches!(node.state, NodeState::Created | NodeState::Exited(_));
        // A node of ours that is stopped holds no port: who listens then would be in its way.
        if facts.nodes.iter().any(|node| is_own(node) && is_active(node)) {
            return None;
        }
        let other = facts.nodes.iter().find(|node| is_active(node));
        // UDP 8472 is the kernel's own, for a flannel.1 that any earlier k3s left; flannel takes it over.
        let is_needed = |port: u16| self.purpose.role != Some(Role::Agent) || AGENT_PORTS.contains(&port);
        let listeners = facts.machine.listeners.iter().filter(|listener| !listener.udp && is_needed(listener.port));
        let taken: Vec<u16> = listeners.map(|listener| listener.port).collect();
        if taken.is_empty() && other.is_none() && facts.machine.k3s_processes.is_empty() {
            return None;
        }
        let owner = match (other, facts.machine.k3s_processes.first()) {
            (Some(node), _) => {
                format!("node {} of cluster {}", node.labels.get(LABEL_NODE)?, node.labels.get(LABEL_CLUSTER)?)
            }
            (None, Some(process)) => process.clone(),
            (None, None) => "another program".into(),
        };
        let seen = match taken.iter().find(|port| **port == API_PORT).or(taken.first()) {
            Some(port) => format!("port {port} that a node needs is taken by {owner}"),
            None => format!("its network is used by {owner}"),
        };
        let hint = match other.and_then(|node| node.labels.get(LABEL_CLUSTER)) {
            Some(name) => format!("a Docker host runs one node: use another host, or `k3arm cluster delete {name}`"),
            None => "`sudo ss -lntup` on the host shows who listens; stop it (k3s: `sudo systemctl stop k3s k3s-agent`, or `docker stop` its container) and run the command again".into(),
        };
        Some(rules::PORTS.on(self.host, seen).with_hint(hint))
    }
}
