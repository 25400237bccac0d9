//! Images inside nodes: placed before a node is made, found by it, kept by it.

use std::collections::BTreeMap;

use crate::cluster::names::{LABEL_IMAGES, LABEL_IMAGES_OF, container_name, images_name, is_holder_of, volumes_of};
use crate::cluster::{Cluster, ClusterName, NodeName};
use crate::host::{Facts, HolderFacts, HostName};
use crate::plan::{Action, ImageOnHost, Placement, RemovedNode, Step, spec_hash};

use super::Images;

/// What waits on a host for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Nothing.
    Nothing,
    /// All of its images, in this holder.
    Complete(HolderFacts),
    /// Something else: other images, or an upload that was cut.
    Useless(Vec<HolderFacts>),
}

impl Waiting {
    /// What is there for this node, compared with what it is to find.
    pub(super) fn of(cluster: &ClusterName, node: &NodeName, images: &[ImageOnHost], facts: &Facts) -> Self {
        let name = images_name(cluster, node);
        let found: Vec<HolderFacts> = facts.holders.iter().filter(|holder| has(holder, &name)).cloned().collect();
        match &found[..] {
            [] => Self::Nothing,
            [holder] if holder.name == name && holder.labels.get(LABEL_IMAGES) == Some(&set(images)) => {
                Self::Complete(holder.clone())
            }
            _ => Self::Useless(found),
        }
    }

    /// Takes away what is of no use, with its images.
    pub(super) fn sweep(&self) -> Vec<Action> {
        match self {
            Self::Useless(holders) => holders.iter().map(|holder| removal(holder, volumes_of(holder))).collect(),
            _ => Vec::new(),
        }
    }

    /// Takes away the holder of images that a node has by now.
    pub(super) fn release(&self) -> Vec<Action> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Complete(holder) => vec![removal(holder, Vec::new())],
            Self::Useless(holders) => holders.iter().map(|holder| removal(holder, Vec::new())).collect(),
        }
    }
}

fn has(holder: &HolderFacts, name: &str) -> bool {
    holder.name == name || holder.volumes.iter().any(|volume| volume == name)
}

fn removal(holder: &HolderFacts, volumes: Vec<String>) -> Action {
    Action::RemoveNode(RemovedNode { name: holder.name.clone(), container: Some(holder.id.clone()), volumes })
}

/// Holders of a cluster; with their containers gone, their volumes are left ones.
pub(super) fn holders<'a>(cluster: &'a ClusterName, facts: &'a Facts) -> impl Iterator<Item = Action> + 'a {
    facts.holders.iter().filter(|holder| is_holder_of(holder, cluster)).map(|holder| removal(holder, Vec::new()))
}

/// A short name for exactly these images.
fn set(images: &[ImageOnHost]) -> String {
    let names: BTreeMap<String, _> =
        images.iter().map(|image| (image.reference.to_string(), [image.id(), &image.image.manifest.digest])).collect();
    spec_hash(&names)
}

/// What has to be placed on the hosts of a cluster whose nodes are not made yet.
pub fn placements(cluster: &Cluster, images: &Images, fleet: &BTreeMap<HostName, Facts>) -> Vec<Step> {
    let mut steps = Vec::new();
    for member in &cluster.members {
        let host = &member.host.name;
        let (Some(facts), Some(images)) = (fleet.get(host), images.get(host)) else { continue };
        let Some(node) = member.node_name.clone().or_else(|| facts.machine.hostname.parse().ok()) else { continue };
        let actions = placement(&cluster.name, &node, images, facts).into_iter();
        steps.extend(actions.map(|action| Step { host: host.clone(), action }));
    }
    steps
}

fn placement(cluster: &ClusterName, node: &NodeName, images: &super::NodeImages, facts: &Facts) -> Vec<Action> {
    let stands = facts.nodes.iter().any(|found| found.name == container_name(cluster, node));
    let waiting = Waiting::of(cluster, node, &images.inside, facts);
    if stands || images.inside.is_empty() || matches!(waiting, Waiting::Complete(_)) {
        return Vec::new();
    }
    let labels = [(LABEL_IMAGES, set(&images.inside)), (LABEL_IMAGES_OF, cluster.to_string())];
    let place = Placement {
        name: images_name(cluster, node),
        holder_image: images.node.id().clone(),
        labels: labels.map(|(label, value)| (label.to_string(), value)).into(),
        images: images.inside.clone(),
    };
    waiting.sweep().into_iter().chain([Action::PlaceImages(Box::new(place))]).collect()
}
