//! Plans: phases that follow each other; inside a phase, hosts work side by side.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::cluster::{ContainerSpec, NodeFile, NodeName, Role};
use crate::host::{HostName, ImageStore, Mend};
use crate::oci::{Descriptor, Digest, Platform, PlatformImage, Reference};

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
    Prewarm(Box<Delivery>),
    /// Puts the images of a node that is still to be made where it will find them.
    PlaceImages(Box<Placement>),
    /// Lets a node's own containerd keep its images for good, and takes away the archive they came in.
    KeepImages {
        /// Its container's ID or name.
        container: String,
        /// The images, by their full names.
        images: Vec<Reference>,
    },
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
    /// Repairs the host itself.
    Mend(Mend),
    /// Removes interfaces and iptables rules that k3s left on the host.
    ClearNetwork {
        /// Image to run the clearing in, by ID.
        image: String,
    },
}

impl Action {
    /// Layers of images that this sends to its host, in the form in which they travel.
    pub fn travelling_layers(&self) -> Vec<&Descriptor> {
        match self {
            Self::Prewarm(delivery) => delivery.missing_layers().iter().collect(),
            Self::CreateNode(node) => archived_layers(&node.images).collect(),
            Self::PlaceImages(placement) => archived_layers(&placement.images).collect(),
            _ => Vec::new(),
        }
    }

    /// Bytes of images that this sends to its host.
    pub fn travelling_bytes(&self) -> u64 {
        match self {
            Self::Prewarm(delivery) => delivery.missing().bytes,
            Self::CreateNode(node) => archived_bytes(&node.images),
            Self::PlaceImages(placement) => archived_bytes(&placement.images),
            _ => 0,
        }
    }
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

/// An image on its way to a host's engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// What the engine will hold.
    #[serde(flatten)]
    pub image: ImageOnHost,
    /// By which way.
    pub via: Via,
    /// How many of the image's layers, from the lowest, the engine holds already: they do not travel.
    pub held_layers: usize,
    /// The same image with layers in fewer bytes, under a manifest of our own; `None` if it goes as it was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub travels_as: Option<PlatformImage>,
}

/// The two ways into an engine. Both end with the same image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// The engine pulls from our own registry, through a port that the session forwards.
    Pull,
    /// The engine is given one archive with what it lacks, through its socket.
    Load,
}

/// Which way the user wants images to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ways {
    /// Pull where it is possible, else load.
    #[default]
    Auto,
    /// This one only.
    Only(Via),
}

/// Layers of an image, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Share {
    /// How many.
    pub layers: usize,
    /// Their bytes as they travel; the image's config is counted with what is missing.
    pub bytes: u64,
}

impl Delivery {
    /// The image in the form in which it travels.
    pub fn travelling(&self) -> &PlatformImage {
        self.travels_as.as_ref().unwrap_or(&self.image.image)
    }

    /// Layers that the engine lacks, lowest first.
    pub fn missing_layers(&self) -> &[Descriptor] {
        self.travelling().layers.get(self.held_layers..).unwrap_or_default()
    }

    /// What has to travel.
    pub fn missing(&self) -> Share {
        let missing = self.missing_layers();
        Share { layers: missing.len(), bytes: total(missing).saturating_add(self.image.image.config.size) }
    }

    /// What does not.
    pub fn held(&self) -> Share {
        let held = self.travelling().layers.get(..self.held_layers).unwrap_or_default();
        Share { layers: held.len(), bytes: total(held) }
    }
}

fn total(blobs: &[Descriptor]) -> u64 {
    blobs.iter().fold(0, |sum, blob| sum.saturating_add(blob.size))
}

/// Images for a node's own containerd, and the holder that keeps them until the node is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// The name of the holder and of its volume.
    pub name: String,
    /// The image of the holder's container, by ID: any will do, it is never started.
    pub holder_image: Digest,
    /// The labels of both.
    pub labels: BTreeMap<String, String>,
    /// The images.
    pub images: Vec<ImageOnHost>,
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
    /// Images that its own containerd finds in one archive and imports before the kubelet starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageOnHost>,
}

/// Layers of images in one archive.
fn archived_layers(images: &[ImageOnHost]) -> impl Iterator<Item = &Descriptor> {
    images.iter().flat_map(|image| &image.image.layers)
}

/// Bytes of images in one archive: each blob once.
fn archived_bytes(images: &[ImageOnHost]) -> u64 {
    let blobs = images.iter().map(|image| &image.image.config).chain(archived_layers(images));
    let by_digest: BTreeMap<&Digest, u64> = blobs.map(|blob| (&blob.digest, blob.size)).collect();
    by_digest.values().fold(0, |sum, size| sum.saturating_add(*size))
}

/// `3 images (21.3 MB): rancher/mirrored-pause:3.10.2, …`
fn archived(images: &[ImageOnHost]) -> String {
    let names: Vec<String> = images.iter().map(|image| image.reference.familiar()).collect();
    format!("{} images ({:.1} MB): {}", names.len(), archived_bytes(images) as f64 / 1e6, names.join(", "))
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

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { image, via, .. } = self;
        let (missing, held) = (self.missing(), self.held());
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        write!(
            f,
            "{via} {} for {} ({}): ",
            image.reference.familiar(),
            image.platform,
            image.image.manifest.digest.short()
        )?;
        if self.travels_as.is_some() {
            let published = total(image.image.layers.get(self.held_layers..).unwrap_or_default());
            write!(f, "recompressed from {:.1} MB to ", megabytes(published))?;
        }
        match (missing.layers, held.layers) {
            (_, 0) => write!(f, "{:.1} MB", megabytes(missing.bytes)),
            (0, _) => f.write_str("all layers are there"),
            (layers, _) => write!(
                f,
                "{layers} of {} layers, {:.1} of {:.1} MB",
                image.image.layers.len(),
                megabytes(missing.bytes),
                megabytes(missing.bytes.saturating_add(held.bytes))
            ),
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pull => "pull",
            Self::Load => "load",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prewarm(delivery) => fmt::Display::fmt(delivery, f),
            Self::RemoveNode(node) if node.container.is_none() => {
                write!(f, "remove volumes {}", node.volumes.join(", "))
            }
            Self::RemoveNode(node) if node.volumes.is_empty() => write!(f, "remove container {}", node.name),
            Self::RemoveNode(node) => {
                write!(f, "remove container {} and its {} volumes", node.name, node.volumes.len())
            }
            Self::CreateNode(node) => {
                writeln!(f, "create container {} ({} {})", node.container.name, node.role, node.node)?;
                let files = node.files.iter().map(|file| file.path.as_str());
                write!(f, "{:8}with {}", "", files.collect::<Vec<_>>().join(", "))?;
                if node.images.is_empty() {
                    return Ok(());
                }
                write!(f, "\n{:8}and {}", "", archived(&node.images))
            }
            Self::PlaceImages(placement) => write!(f, "place in {} {}", placement.name, archived(&placement.images)),
            Self::KeepImages { images, .. } => {
                write!(f, "pin {} images in the node, remove their archive", images.len())
            }
            Self::StartNode { node, .. } => write!(f, "start the container of node {node}"),
            Self::StopNode { name, .. } => write!(f, "stop container {name}"),
            Self::Mend(mend) => fmt::Display::fmt(mend, f),
            Self::ClearNetwork { .. } => f.write_str("remove cni0, flannel.1 and k3s' iptables rules"),
        }
    }
}
