//! The wanted cluster: names, addresses and containers, chosen before anything is planned.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::json;

use crate::cluster::names::{
    IMAGES_PATH, LABEL_ADDRESS, LABEL_CLUSTER, LABEL_CLUSTER_ID, LABEL_IMAGE, LABEL_NODE, LABEL_RELEASE, LABEL_ROLE,
    LABEL_SPEC, container_name, images_name,
};
use crate::cluster::{
    CONFIG_PATH, Cluster, ClusterName, ContainerSpec, Identity, K3s, Member, NodeFile, NodeName, NodeSettings, Release,
    Role, Secret,
};
use crate::host::{CgroupVersion, Facts, Finding, HostName, rules};
use crate::plan::{ImageOnHost, PlannedNode, spec_hash};

/// The images of every host's node.
pub type Images = BTreeMap<HostName, NodeImages>;

/// What a node is made of, and what it finds inside.
#[derive(Debug, Clone)]
pub struct NodeImages {
    /// k3s itself, as the host's engine holds it.
    pub node: ImageOnHost,
    /// For the node's own containerd: what k3s starts, and what the user wants there.
    pub inside: Vec<ImageOnHost>,
}

/// PID 1 of a node, in the shell of k3s' own image; a file, so that `ps` on the host stays readable.
const INIT: &str = include_str!("init.sh");
const INIT_PATH: &str = "/etc/rancher/k3arm/init";

/// Volumes of a node: suffix of the name, and where it is mounted. k3s' state, and all that must survive its container.
const VOLUMES: [(&str, &str); 5] = [
    ("etc", "/etc/rancher"),
    ("k3s", "/var/lib/rancher/k3s"),
    ("kubelet", "/var/lib/kubelet"),
    ("cni", "/var/lib/cni"),
    ("log", "/var/log"),
];

/// A cluster whose names and addresses are all known.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name.
    pub cluster: ClusterName,
    /// k3s settings.
    pub k3s: K3s,
    /// The release, where the image's tag tells it.
    pub release: Option<Release>,
    /// Nodes, server first.
    pub nodes: Vec<WantedNode>,
    /// Under which the agents reach the server.
    pub server_address: Ipv4Addr,
}

/// A node whose host is known.
#[derive(Debug, Clone)]
pub struct WantedNode {
    /// Its name in Kubernetes.
    pub name: NodeName,
    /// Its host.
    pub host: HostName,
    /// Server or agent.
    pub role: Role,
    /// Under which the others reach it.
    pub address: Ipv4Addr,
    /// Interface of that address.
    pub interface: Option<String>,
    /// The image.
    pub image: ImageOnHost,
    /// What its own containerd is given before its first start.
    pub inside: Vec<ImageOnHost>,
    /// Bytes of memory that it may have.
    pub memory: u64,
    /// Bytes of memory of its host that it may not have.
    withheld: u64,
    legacy_cgroup: bool,
    /// The node can load modules of its host's kernel.
    has_modules: bool,
    labels: Vec<String>,
    taints: Vec<String>,
}

impl Wanted {
    /// Gives every member its name and address.
    ///
    /// # Errors
    /// A finding for every member that can have none, and for names that are equal.
    pub fn new(cluster: &Cluster, images: &Images, fleet: &BTreeMap<HostName, Facts>) -> Result<Self, Vec<Finding>> {
        let (mut nodes, mut findings) = (Vec::new(), Vec::new());
        for member in &cluster.members {
            let (Some(facts), Some(images)) = (fleet.get(&member.host.name), images.get(&member.host.name)) else {
                continue;
            };
            match WantedNode::new(&cluster.name, member, facts, images) {
                Ok(node) => nodes.push(node),
                Err(finding) => findings.push(*finding),
            }
        }
        findings.extend(equal_names(&nodes));
        nodes.sort_by_key(|node| node.role);
        let server_address = nodes.first().map_or(Ipv4Addr::LOCALHOST, |node| node.address);
        let release = nodes.first().and_then(|node| node.image.reference.tag()?.parse().ok());
        let wanted = Self { cluster: cluster.name.clone(), k3s: cluster.k3s.clone(), release, nodes, server_address };
        if findings.is_empty() { Ok(wanted) } else { Err(findings) }
    }

    fn settings<'a>(&'a self, node: &'a WantedNode) -> NodeSettings<'a> {
        NodeSettings {
            k3s: &self.k3s,
            release: self.release.as_ref(),
            role: node.role,
            name: &node.name,
            address: node.address,
            interface: node.interface.as_deref(),
            labels: node.labels.clone(),
            taints: &node.taints,
            memory: node.memory,
            withheld: node.withheld,
            legacy_cgroup: node.legacy_cgroup,
            server: self.server_address,
        }
    }

    /// Hash of what the user can see of a node: flags, environment, image.
    pub fn spec(&self, node: &WantedNode) -> String {
        // The user set what the node may have; what is left of the machine is a little more or less with every kernel.
        let config = NodeSettings { withheld: 0, ..self.settings(node) }.config();
        spec_hash(&json!([config, node.limit(), self.environment(node), node.image.image.manifest.digest]))
    }

    fn environment(&self, node: &WantedNode) -> BTreeMap<String, String> {
        let profile = self.k3s.profile.for_memory(node.memory);
        let mut environment = profile.environment(node.limit());
        environment.extend(self.k3s.environment.clone());
        environment
    }

    fn labels(&self, node: &WantedNode, identity: &Identity) -> BTreeMap<String, String> {
        let release = self.release.as_ref().map_or_else(|| node.image.reference.familiar(), Release::to_string);
        let labels = [
            (LABEL_CLUSTER, self.cluster.to_string()),
            (LABEL_CLUSTER_ID, identity.id.clone()),
            (LABEL_NODE, node.name.to_string()),
            (LABEL_ROLE, node.role.to_string()),
            (LABEL_RELEASE, release),
            (LABEL_IMAGE, node.image.pull_digest().to_string()),
            (LABEL_ADDRESS, node.address.to_string()),
            (LABEL_SPEC, self.spec(node)),
        ];
        labels.into_iter().map(|(label, value)| (label.to_string(), value)).collect()
    }

    /// The container and the files of a node.
    pub fn planned(&self, node: &WantedNode, identity: &Identity) -> PlannedNode {
        let name = container_name(&self.cluster, &node.name);
        let volumes = VOLUMES.map(|(suffix, path)| (path.to_string(), format!("{name}-{suffix}")));
        let images = (IMAGES_PATH.to_string(), images_name(&self.cluster, &node.name));
        let container = ContainerSpec {
            image: node.image.id().to_string(),
            entrypoint: ["/bin/sh", INIT_PATH].map(String::from).to_vec(),
            command: vec![node.role.to_string()],
            environment: self.environment(node),
            labels: self.labels(node, identity),
            volumes: volumes.into_iter().chain([images]).collect(),
            memory: node.limit(),
            read_only_binds: node.has_modules.then(|| "/lib/modules".into()).into_iter().collect(),
            name,
        };
        let config = NodeFile {
            path: CONFIG_PATH.into(),
            mode: 0o600,
            content: Secret::new(self.settings(node).file(identity)),
        };
        let init = NodeFile { path: INIT_PATH.into(), mode: 0o755, content: Secret::new(INIT) };
        let mut files = vec![init, config];
        if node.role == Role::Server {
            files.extend(authority(identity));
        }
        PlannedNode { node: node.name.clone(), role: node.role, container, files, images: node.inside.clone() }
    }
}

/// The CA that the agents' token pins, where k3s looks for one before it makes its own.
fn authority(identity: &Identity) -> Vec<NodeFile> {
    let file = |name: &str, content| NodeFile {
        path: format!("/var/lib/rancher/k3s/server/tls/{name}"),
        mode: 0o600,
        content,
    };
    let certificate = file("server-ca.crt", Secret::new(identity.ca_certificate.clone()));
    let key = identity.ca_key.clone().map(|key| file("server-ca.key", key));
    [certificate].into_iter().chain(key).collect()
}

impl WantedNode {
    /// Bytes of memory that its container is limited to.
    fn limit(&self) -> Option<u64> {
        (self.withheld > 0).then_some(self.memory)
    }

    fn new(cluster: &ClusterName, member: &Member, facts: &Facts, images: &NodeImages) -> Result<Self, Box<Finding>> {
        let (address, interface) = member.reached_at(cluster, facts).ok_or_else(|| no_address(member))?;
        let name = match &member.node_name {
            Some(name) => Ok(name.clone()),
            None => facts.machine.hostname.parse().map_err(|_| bad_hostname(member, facts)),
        };
        let memory = member.memory_of(facts.machine.memory_total);
        let labels = member.labels.iter().map(|(key, value)| format!("{key}={value}"));
        Ok(Self {
            name: name?,
            host: member.host.name.clone(),
            role: member.role,
            address,
            interface,
            image: images.node.clone(),
            inside: images.inside.clone(),
            memory,
            withheld: facts.machine.memory_total.saturating_sub(memory),
            legacy_cgroup: facts.machine.cgroup == CgroupVersion::V1,
            has_modules: !facts.machine.system.has_no_modules,
            labels: labels.collect(),
            taints: member.taints.clone(),
        })
    }
}

fn no_address(member: &Member) -> Box<Finding> {
    let seen = "no IPv4 address was found under which the other hosts reach it";
    Box::new(rules::NO_ADDRESS.on(&member.host.name, seen))
}

fn bad_hostname(member: &Member, facts: &Facts) -> Box<Finding> {
    let seen = format!("its host name {:?} cannot be a node's name", facts.machine.hostname);
    Box::new(rules::BAD_HOSTNAME.on(&member.host.name, seen))
}

fn equal_names(nodes: &[WantedNode]) -> Vec<Finding> {
    let twins = nodes.iter().enumerate().filter_map(|(position, node)| {
        let twin = nodes[..position].iter().find(|earlier| earlier.name == node.name)?;
        Some((twin, node))
    });
    let finding = |(twin, node): (&WantedNode, &WantedNode)| {
        rules::SAME_NAME.on(&node.host, format!("it would be node {}, and so would {}", node.name, twin.host))
    };
    twins.map(finding).collect()
}
