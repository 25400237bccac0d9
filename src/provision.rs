//! Cluster × Lock × Facts → Plan. Creating and deleting are both differences between what stands and what is wanted.

mod inside;
#[cfg(test)]
mod tests;
mod wanted;

use std::collections::BTreeMap;

use crate::cluster::names::{LABEL_CLUSTER, LABEL_CLUSTER_ID, LABEL_IMAGES_OF, LABEL_SPEC, container_name, is_node_of};
use crate::cluster::{Cluster, ClusterName, Identity, Role};
use crate::host::{Facts, Finding, HostName, NodeFacts, NodeState, rules};
use crate::plan::{Action, Plan, RemovedNode, Step};

use inside::Waiting;

pub use inside::placements;
pub use wanted::{Images, NodeImages, Wanted, WantedNode};

/// How a wanted node stands on its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is there.
    Missing,
    /// A container that was never started: an earlier run was cut.
    Incomplete(RemovedNode),
    /// As wanted, but it does not run.
    Stopped(String),
    /// As wanted, and it runs.
    Running(String),
}

/// A cluster compared with its hosts.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Wanted nodes, server first, and how they stand.
    pub nodes: Vec<(WantedNode, Standing)>,
    /// What waits for each of them, in the same order.
    waiting: Vec<Waiting>,
}

impl Comparison {
    /// Looks up every wanted node on its host.
    ///
    /// # Errors
    /// All findings that forbid going on: containers of other settings, volumes without a container.
    pub fn of(wanted: &Wanted, fleet: &BTreeMap<HostName, Facts>) -> Result<Self, Vec<Finding>> {
        let mut findings = Vec::new();
        let (mut nodes, mut waiting) = (Vec::new(), Vec::new());
        for node in &wanted.nodes {
            let Some(facts) = fleet.get(&node.host) else { continue };
            waiting.push(Waiting::of(&wanted.cluster, &node.name, &node.inside, facts));
            match standing(wanted, node, facts) {
                Ok(standing) => nodes.push((node.clone(), standing)),
                Err(finding) => findings.push(*finding),
            }
        }
        let server_id = server_id(wanted, fleet);
        findings.extend(strangers(wanted, server_id.as_deref(), fleet));
        if findings.is_empty() { Ok(Self { nodes, waiting }) } else { Err(findings) }
    }

    /// The server's container, if it has ever been started: it holds the cluster's identity.
    pub fn started_server(&self) -> Option<(&WantedNode, &str)> {
        self.nodes.iter().find_map(|(node, standing)| match standing {
            Standing::Stopped(id) | Standing::Running(id) if node.role == Role::Server => Some((node, id.as_str())),
            _ => None,
        })
    }

    /// Whether any node has to be made, for which the identity is needed.
    pub fn creates(&self) -> bool {
        self.nodes.iter().any(|(_, standing)| matches!(standing, Standing::Missing | Standing::Incomplete(_)))
    }

    /// The difference, as steps: the server before the agents, because its volume then holds the identity should the
    /// run be cut.
    pub fn plan(&self, wanted: &Wanted, identity: &Identity, prewarm: Vec<Step>) -> Plan {
        let mut plan = Plan::default();
        plan.push("Prewarm", prewarm);
        for (title, role) in [("Server", Role::Server), ("Agents", Role::Agent)] {
            let nodes = self.nodes.iter().zip(&self.waiting).filter(|((node, _), _)| node.role == role);
            let steps =
                nodes.flat_map(|((node, standing), waiting)| steps(wanted, identity, (node, standing), waiting));
            plan.push(title, steps.collect());
        }
        plan
    }

    /// What is left to do when all nodes are Ready: their images are in their containerds by then.
    pub fn finish(&self, wanted: &Wanted) -> Plan {
        let of_node = |((node, standing), waiting): (&(WantedNode, Standing), &Waiting)| {
            let is_new = matches!(standing, Standing::Missing | Standing::Incomplete(_));
            let keep = Action::KeepImages {
                container: container_name(&wanted.cluster, &node.name),
                images: node.inside.iter().map(|image| image.reference.clone()).collect(),
            };
            let keep = Some(keep).filter(|_| is_new && !node.inside.is_empty());
            let actions = keep.into_iter().chain(waiting.release());
            actions.map(|action| Step { host: node.host.clone(), action }).collect::<Vec<_>>()
        };
        let mut plan = Plan::default();
        plan.push("Images", self.nodes.iter().zip(&self.waiting).flat_map(of_node).collect());
        plan
    }
}

fn steps(
    wanted: &Wanted,
    identity: &Identity,
    (node, standing): (&WantedNode, &Standing),
    waiting: &Waiting,
) -> Vec<Step> {
    let step = |action| Step { host: node.host.clone(), action };
    let create = || {
        let mut planned = wanted.planned(node, identity);
        if matches!(waiting, Waiting::Complete(_)) {
            planned.images.clear();
        }
        waiting.sweep().into_iter().chain([Action::CreateNode(Box::new(planned))]).map(step).collect::<Vec<_>>()
    };
    match standing {
        Standing::Missing => create(),
        Standing::Incomplete(removed) => [vec![step(Action::RemoveNode(removed.clone()))], create()].concat(),
        Standing::Stopped(id) => {
            vec![step(Action::StartNode { container: id.clone(), node: node.name.clone() })]
        }
        Standing::Running(_) => Vec::new(),
    }
}

fn standing(wanted: &Wanted, node: &WantedNode, facts: &Facts) -> Result<Standing, Box<Finding>> {
    let name = container_name(&wanted.cluster, &node.name);
    let Some(found) = facts.nodes.iter().find(|found| found.name == name) else {
        let left: Vec<&str> = facts
            .volumes
            .keys()
            .filter(|volume| volume.starts_with(&format!("{name}-")) && !is_held(volume, facts))
            .map(String::as_str)
            .collect();
        return if left.is_empty() { Ok(Standing::Missing) } else { Err(left_volumes(wanted, node, &left)) };
    };
    if found.state == NodeState::Created {
        return Ok(Standing::Incomplete(removed(found, facts)));
    }
    if found.labels.get(LABEL_SPEC) != Some(&wanted.spec(node)) {
        return Err(differs(wanted, node));
    }
    match &found.state {
        NodeState::Running => Ok(Standing::Running(found.id.clone())),
        NodeState::Other(state) if state == "paused" => Err(paused(node, found)),
        _ => Ok(Standing::Stopped(found.id.clone())),
    }
}

fn left_volumes(wanted: &Wanted, node: &WantedNode, left: &[&str]) -> Box<Finding> {
    let left = left.join(", ");
    let seen = format!("volumes of an earlier node {} are there, but not its container: {left}", node.name);
    let hint = format!("`k3arm cluster delete {}` removes them with all data in them", wanted.cluster);
    Box::new(rules::VOLUMES_LEFT.on(&node.host, seen).with_hint(hint))
}

fn differs(wanted: &Wanted, node: &WantedNode) -> Box<Finding> {
    let cluster = &wanted.cluster;
    let seen = format!("node {} of cluster {cluster} runs with other settings than asked for now", node.name);
    let hint = format!(
        "run the command with the settings it was made with, or `k3arm cluster delete {cluster}` and create it anew"
    );
    Box::new(rules::NODE_DIFFERS.on(&node.host, seen).with_hint(hint))
}

fn paused(node: &WantedNode, found: &NodeFacts) -> Box<Finding> {
    let finding = rules::NODE_PAUSED.on(&node.host, format!("the container of node {} is paused", node.name));
    Box::new(finding.with_hint(format!("on the host: `docker unpause {}`", found.name)))
}

/// The ID in the label of the server, if it was ever started.
fn server_id(wanted: &Wanted, fleet: &BTreeMap<HostName, Facts>) -> Option<String> {
    let server = wanted.nodes.iter().find(|node| node.role == Role::Server)?;
    let name = container_name(&wanted.cluster, &server.name);
    let found = fleet.get(&server.host)?.nodes.iter().find(|found| found.name == name)?;
    (found.state != NodeState::Created).then(|| found.labels.get(LABEL_CLUSTER_ID).cloned())?
}

/// Containers of a cluster of this name that belong to another one: other ID, or a node that is not wanted.
fn strangers(wanted: &Wanted, id: Option<&str>, fleet: &BTreeMap<HostName, Facts>) -> Vec<Finding> {
    let is_ours = |found: &NodeFacts| {
        let wanted_name = wanted.nodes.iter().any(|node| container_name(&wanted.cluster, &node.name) == found.name);
        let same_id = found.labels.get(LABEL_CLUSTER_ID).map(String::as_str) == id;
        wanted_name && (same_id || found.state == NodeState::Created)
    };
    let of_cluster = |found: &&NodeFacts| is_node_of(found, &wanted.cluster);
    let finding = |host: &HostName, found: &NodeFacts| {
        let seen = format!("container {} belongs to an earlier cluster {}", found.name, wanted.cluster);
        let hint = format!("`k3arm cluster delete {}` removes what is left of it", wanted.cluster);
        rules::NODE_OF_ANOTHER.on(host, seen).with_hint(hint)
    };
    let on_host = |(host, facts): (&HostName, &Facts)| {
        let found = facts.nodes.iter().filter(of_cluster).filter(|found| !is_ours(found));
        found.map(|found| finding(host, found)).collect::<Vec<_>>()
    };
    fleet.iter().flat_map(on_host).collect()
}

/// Whether a holder of images has the volume.
fn is_held(volume: &str, facts: &Facts) -> bool {
    facts.holders.iter().any(|holder| holder.volumes.iter().any(|held| held == volume))
}

/// The node without what a holder has, which cannot go as long as the holder is there.
fn removed(found: &NodeFacts, facts: &Facts) -> RemovedNode {
    let volumes = found.volumes.iter().filter(|volume| !is_held(volume, facts)).cloned().collect();
    RemovedNode { name: found.name.clone(), container: Some(found.id.clone()), volumes }
}

/// Everything of a cluster on these hosts goes: containers, what k3s left in the network, volumes.
pub fn delete(cluster: &ClusterName, fleet: &BTreeMap<HostName, Facts>) -> Plan {
    let mut plan = Plan::default();
    plan.push("Remove", removals(cluster, fleet));
    plan.push("Left volumes", left(cluster, fleet));
    plan
}

fn of_cluster<'a>(cluster: &'a ClusterName, facts: &'a Facts) -> impl Iterator<Item = &'a NodeFacts> {
    facts.nodes.iter().filter(move |found| is_node_of(found, cluster))
}

fn removals(cluster: &ClusterName, fleet: &BTreeMap<HostName, Facts>) -> Vec<Step> {
    let on_host = |(host, facts): (&HostName, &Facts)| {
        let steps = of_cluster(cluster, facts).flat_map(|found| {
            let stop = Action::StopNode { container: found.id.clone(), name: found.name.clone() };
            let clear = Action::ClearNetwork { image: found.image.clone() };
            let remove = Action::RemoveNode(removed(found, facts));
            if found.state == NodeState::Created { vec![remove] } else { vec![stop, clear, remove] }
        });
        let actions = steps.chain(inside::holders(cluster, facts));
        actions.map(|action| Step { host: host.clone(), action }).collect::<Vec<_>>()
    };
    fleet.iter().flat_map(on_host).collect()
}

/// Volumes that carry the cluster's label, but belong to no container.
fn left(cluster: &ClusterName, fleet: &BTreeMap<HostName, Facts>) -> Vec<Step> {
    let on_host = |(host, facts): (&HostName, &Facts)| {
        let is_removed = |volume: &&String| !is_held(volume, facts);
        let owned: Vec<&String> = facts.nodes.iter().flat_map(|found| &found.volumes).filter(is_removed).collect();
        let of_cluster = |labels: &BTreeMap<String, String>| {
            [LABEL_CLUSTER, LABEL_IMAGES_OF]
                .iter()
                .any(|label| labels.get(*label).is_some_and(|n| n == cluster.as_str()))
        };
        let left: Vec<String> = facts
            .volumes
            .iter()
            .filter(|(name, labels)| of_cluster(labels) && !owned.contains(name))
            .map(|(name, _)| name.clone())
            .collect();
        let node = RemovedNode { name: format!("k3arm-{cluster}"), container: None, volumes: left };
        (!node.volumes.is_empty()).then(|| Step { host: host.clone(), action: Action::RemoveNode(node) })
    };
    fleet.iter().filter_map(on_host).collect()
}

/// What `cluster` needs of its hosts; see [`Wanted`].
///
/// # Errors
/// All findings that make it impossible: no address, equal names.
pub fn want(cluster: &Cluster, images: &Images, fleet: &BTreeMap<HostName, Facts>) -> Result<Wanted, Vec<Finding>> {
    Wanted::new(cluster, images, fleet)
}
