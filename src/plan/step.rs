//! Plans: phases that follow each other; inside a phase, hosts work side by side.

use std::fmt;

use serde::Serialize;

use crate::cluster::{ContainerSpec, NodeFile, NodeName, Role};
use crate::host::{HostName, ImageStore};
use crate::oci::{Digest, Platform, PlatformImage, Reference};

/// All that will be done, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Plan {
    /// Each begins when the one before it is done on all hosts.
    pub phases: Vec<Phase>,
}

/// Steps that belong together; those of one host run in order, hosts run side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Phase {
    /// What it is for, as a heading.
    pub title: &'static str,
    /// Its steps.
    pub steps: Vec<Step>,
}

/// One thing done on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Where.
    pub host: HostName,
    /// What.
    #[serde(flatten)]
    pub action: Action,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Brings an image to the host.
    Prewarm(Box<ImageOnHost>),
    /// Removes a container of ours and its volumes.
    RemoveNode(RemovedNode),
    /// Makes a node's container, puts its files into it and starts it.
    CreateNode(Box<PlannedNode>),
    /// Starts a container that is there.
    StartNode {
        /// Its ID.
        container: String,
        /// The node.
        node: NodeName,
    },
    /// Stops a container that will be removed.
    StopNode {
        /// Its ID.
        container: String,
        /// Its name.
        name: String,
    },
    /// Removes interfaces and iptables rules that k3s left on the host.
    ClearNetwork {
        /// Image to run the clearing in, by ID.
        image: String,
    },
}

/// An image as one host gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageOnHost {
    /// The canonical name it will have.
    pub reference: Reference,
    /// The index it was chosen from.
    pub index: Option<Digest>,
    /// For which platform.
    pub platform: Platform,
    /// The image.
    pub image: PlatformImage,
    /// Decides by which digest the engine knows it.
    pub store: ImageStore,
}

impl ImageOnHost {
    /// The ID that the engine will give it: config digest on the classic store, else the digest it is pulled by.
    pub fn id(&self) -> &Digest {
        match self.store {
            ImageStore::Classic => &self.image.config.digest,
            ImageStore::Containerd => self.pull_digest(),
        }
    }

    /// The digest to pull by. The classic store is given the manifest, so that it cannot choose another platform;
    /// containerd's keeps the index, by which the image is then known.
    pub fn pull_digest(&self) -> &Digest {
        match (&self.index, self.store) {
            (Some(index), ImageStore::Containerd) => index,
            _ => &self.image.manifest.digest,
        }
    }
}

/// A node that will be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedNode {
    /// Its name in Kubernetes.
    pub node: NodeName,
    /// Server or agent.
    pub role: Role,
    /// The container.
    pub container: ContainerSpec,
    /// Files inside its volumes.
    pub files: Vec<NodeFile>,
}

/// A node that will be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemovedNode {
    /// Container's name.
    pub name: String,
    /// Container's ID; `None` where only volumes are left.
    pub container: Option<String>,
    /// Names of its volumes.
    pub volumes: Vec<String>,
}

impl Plan {
    /// Nothing will be done.
    pub fn is_empty(&self) -> bool {
        self.phases.iter().all(|phase| phase.steps.is_empty())
    }

    /// Adds a phase, unless it has no steps.
    pub fn push(&mut self, title: &'static str, steps: Vec<Step>) {
        if !steps.is_empty() {
            self.phases.push(Phase { title, steps });
        }
    }

    /// All steps in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.phases.iter().flat_map(|phase| &phase.steps)
    }
}

/// A short hash over what a container was asked to be, for the label that tells whether a node is still what is
/// wanted. Over public settings only: no secret goes into it.
pub fn spec_hash(parts: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(parts).unwrap_or_default();
    Digest::of(&bytes).hex().chars().take(16).collect()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.steps().map(|step| step.host.as_str().len()).max().unwrap_or(0);
        for phase in &self.phases {
            writeln!(f, "{}", phase.title)?;
            for step in &phase.steps {
                writeln!(f, "  {:width$}  {}", step.host, step.action)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prewarm(image) => write!(
                f,
                "pull {} for {} ({}, {:.1} MB)",
                image.reference.familiar(),
                image.platform,
                image.image.manifest.digest.short(),
                image.image.compressed_size as f64 / 1e6
            ),
            Self::RemoveNode(node) if node.container.is_none() => {
                write!(f, "remove volumes {}", node.volumes.join(", "))
            }
            Self::RemoveNode(node) => {
                write!(f, "remove container {} and its {} volumes", node.name, node.volumes.len())
            }
            Self::CreateNode(node) => {
                writeln!(f, "create container {} ({} {})", node.container.name, node.role, node.node)?;
                let files = node.files.iter().map(|file| file.path.as_str());
                write!(f, "{:8}with {}", "", files.collect::<Vec<_>>().join(", "))
            }
            Self::StartNode { node, .. } => write!(f, "start the container of node {node}"),
            Self::StopNode { name, .. } => write!(f, "stop container {name}"),
            Self::ClearNetwork { .. } => f.write_str("remove cni0, flannel.1 and k3s' iptables rules"),
        }
    }
}
