//! `cluster list`, `cluster delete`, and the kubeconfig of a standing cluster.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;

use crate::cluster::ClusterName;
use crate::cluster::names::{LABEL_CLUSTER, LABEL_NODE, LABEL_RELEASE, LABEL_ROLE};
use crate::host::{Destination, Facts, Host, HostName, NodeFacts, NodeState};
use crate::kube::{self, Kubeconfig};
use crate::plan::{Failure, Plan, Progress, Report};
use crate::provision;

use super::carry::carry_out_bare;
use super::{Environment, Probed, Stop, connect, disconnect};

/// Where k3s writes the administrator's kubeconfig, and the most it may be.
const KUBECONFIG: (&str, u64) = ("/etc/rancher/k3s/k3s.yaml", 64 << 10);

/// One cluster, as its hosts show it.
#[derive(Debug, Clone, Serialize)]
pub struct ClusterStatus {
    /// Its name.
    pub name: String,
    /// k3s' release, as its server's label says.
    pub release: String,
    /// Its nodes.
    pub nodes: Vec<NodeRow>,
}

/// One node of a listed cluster.
#[derive(Debug, Clone, Serialize)]
pub struct NodeRow {
    /// Name in Kubernetes.
    pub node: String,
    /// `server` or `agent`.
    pub role: String,
    /// Its host.
    pub host: HostName,
    /// What its container does.
    pub state: NodeState,
}

/// What `cluster delete` is asked.
#[derive(Debug)]
pub struct DeleteRequest {
    /// Which cluster.
    pub name: ClusterName,
    /// Hosts named by the user; those remembered are added.
    pub hosts: Vec<Host>,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Deleted {
    /// What was, or would be, done.
    pub plan: Plan,
    /// What became of it.
    pub report: Report,
}

/// The hosts that the user named and those that are remembered, each once; this machine's engine if there are none.
fn hosts_of(name: &ClusterName, named: &[Host], environment: &Environment) -> Result<Vec<Host>, Failure> {
    let remembered = environment.records.hosts(name).map_err(|e| Failure::new(&e, None))?;
    let mut by_destination: BTreeMap<Destination, Host> = BTreeMap::new();
    for host in named.iter().cloned().chain(remembered) {
        by_destination.entry(host.destination.clone()).or_insert(host);
    }
    if by_destination.is_empty() {
        return Ok(vec![Host::of(Destination::Local)]);
    }
    Ok(by_destination.into_values().collect())
}

/// All clusters on the hosts that are remembered or named, and the hosts that did not answer.
///
/// # Errors
/// A record cannot be read.
pub async fn list(named: &[Host], environment: &Environment) -> Result<(Vec<ClusterStatus>, Vec<Failure>), Stop> {
    let mut hosts: BTreeMap<Destination, Host> = BTreeMap::new();
    let remembered = environment.records.clusters();
    for name in &remembered {
        let found = environment.records.hosts(name).map_err(|e| Failure::new(&e, None))?;
        hosts.extend(found.into_iter().map(|host| (host.destination.clone(), host)));
    }
    hosts.extend(named.iter().map(|host| (host.destination.clone(), host.clone())));
    if hosts.is_empty() {
        hosts.insert(Destination::Local, Host::of(Destination::Local));
    }
    let hosts: Vec<Host> = hosts.into_values().collect();
    let probed = connect(&hosts, environment).await?;
    disconnect(probed.fleet).await;
    Ok((statuses(&probed.facts), probed.failures))
}

fn statuses(fleet: &BTreeMap<HostName, Facts>) -> Vec<ClusterStatus> {
    let mut clusters: BTreeMap<String, ClusterStatus> = BTreeMap::new();
    let label = |node: &NodeFacts, label: &str| node.labels.get(label).cloned().unwrap_or_default();
    for (host, facts) in fleet {
        for node in &facts.nodes {
            let name = label(node, LABEL_CLUSTER);
            let empty = || ClusterStatus { name: name.clone(), release: String::new(), nodes: Vec::new() };
            let cluster = clusters.entry(name.clone()).or_insert_with(empty);
            let role = label(node, LABEL_ROLE);
            if role == "server" || cluster.release.is_empty() {
                cluster.release = label(node, LABEL_RELEASE);
            }
            let node_name = label(node, LABEL_NODE);
            cluster.nodes.push(NodeRow { node: node_name, role, host: host.clone(), state: node.state.clone() });
        }
    }
    let mut clusters: Vec<ClusterStatus> = clusters.into_values().collect();
    clusters.iter_mut().for_each(|cluster| cluster.nodes.sort_by(|a, b| (&b.role, &a.node).cmp(&(&a.role, &b.node))));
    clusters
}

/// Removes a cluster from its hosts. A host that does not answer is told, and what stands on the others goes.
///
/// # Errors
/// A record cannot be read, or the user interrupted.
pub async fn delete(request: DeleteRequest, environment: &Environment) -> Result<Deleted, Stop> {
    let hosts = hosts_of(&request.name, &request.hosts, environment)?;
    let probed = connect(&hosts, environment).await?;
    let fleet = probed.fleet.clone();
    let result = tokio::select! {
        result = Box::pin(delete_on(&request, probed, environment)) => result,
        () = environment.interrupt.raised() => Err(Stop::Interrupted(Vec::new())),
    };
    disconnect(fleet).await;
    result
}

async fn delete_on(request: &DeleteRequest, probed: Probed, environment: &Environment) -> Result<Deleted, Stop> {
    let plan = provision::delete(&request.name, &probed.facts);
    let mut report = Report::default();
    if !request.dry_run {
        report = carry_out_bare(&plan, &probed.fleet, environment).await;
    }
    let unreachable = probed.failures.into_iter().filter_map(|failure| {
        let host = failure.host.clone()?;
        super::prewarm::refused(host, failure)
    });
    report.outcomes.extend(unreachable);
    if !request.dry_run && report.failures().next().is_none() {
        environment.records.forget(&request.name).map_err(|e| Failure::new(&e, None))?;
        remove_kubeconfig(&request.name, environment).await?;
    }
    Ok(Deleted { plan, report })
}

/// Takes a cluster's entries out of the user's kubeconfig.
///
/// # Errors
/// The file is there and cannot be read or written; it is left as it was.
pub async fn remove_kubeconfig(name: &ClusterName, environment: &Environment) -> Result<(), Failure> {
    let fail = |e: kube::Error| Failure::new(&e, e.hint());
    let file = kube::default_file().map_err(fail)?;
    if kube::remove_from(&file, name.as_str()).await.map_err(fail)? {
        let what = format!("removed {} from {}", kube::entry_name(name.as_str()), file.display());
        environment.events.overall(Progress::Done { what });
    }
    Ok(())
}

/// Reads the kubeconfig of a standing cluster from its server.
///
/// # Errors
/// No server answers, or it has written none yet.
pub async fn kubeconfig(name: &ClusterName, named: &[Host], environment: &Environment) -> Result<Kubeconfig, Stop> {
    let hosts = hosts_of(name, named, environment)?;
    let probed = connect(&hosts, environment).await?;
    let result = kubeconfig_on(name, &probed).await;
    disconnect(probed.fleet).await;
    match result {
        Some(result) => Ok(result?),
        None if !probed.failures.is_empty() => Err(Stop::Failures(probed.failures)),
        None => Err(Stop::from(Failure {
            host: None,
            message: format!("no server of a cluster {name} was found"),
            hint: Some("name its host: `--host pi@pi1`; `k3arm cluster list` shows what is known".into()),
        })),
    }
}

async fn kubeconfig_on(name: &ClusterName, probed: &Probed) -> Option<Result<Kubeconfig, Failure>> {
    let is_server = |node: &&NodeFacts| {
        let label = |label, value: &str| node.labels.get(label).is_some_and(|found| found == value);
        label(LABEL_CLUSTER, name.as_str()) && label(LABEL_ROLE, "server")
    };
    let found = probed.facts.iter().find_map(|(host, facts)| Some((host, facts, facts.nodes.iter().find(is_server)?)));
    let (host, facts, node) = found?;
    let connection = probed.fleet.get(host)?;
    let address = match (&connection.host.destination, node_address(connection, node).await, facts.machine.address) {
        (Destination::Local, _, _) => Ipv4Addr::LOCALHOST,
        (_, Some(address), _) => address,
        (_, None, Some(IpAddr::V4(address))) => address,
        _ => Ipv4Addr::LOCALHOST,
    };
    let text = connection.engine.get_file(&node.id, KUBECONFIG.0, KUBECONFIG.1).await;
    Some(read(text, name, address).map_err(|failure| failure.on(host)))
}

/// The address that the node was given, as its settings say.
async fn node_address(connection: &crate::probe::Connection, node: &NodeFacts) -> Option<Ipv4Addr> {
    let config = connection.engine.get_file(&node.id, crate::cluster::CONFIG_PATH, KUBECONFIG.1).await.ok()??;
    let flags: serde_json::Map<String, serde_json::Value> = serde_saphyr::from_str(config.expose()).ok()?;
    flags.get("node-ip")?.as_str()?.parse().ok()
}

fn read(
    text: Result<Option<crate::cluster::Secret>, crate::docker::Error>,
    name: &ClusterName,
    address: Ipv4Addr,
) -> Result<Kubeconfig, Failure> {
    let absent = || Failure {
        host: None,
        message: "the server has written no kubeconfig yet".into(),
        hint: Some("wait until it runs: `k3arm cluster list` shows its state".into()),
    };
    let text = text.map_err(|e| Failure::new(&e, e.hint()))?.ok_or_else(absent)?;
    let kubeconfig = Kubeconfig::parse(text.expose()).map_err(|e| Failure::new(&e, e.hint()))?;
    Ok(addressed(&kubeconfig, name, address))
}

/// A kubeconfig under the cluster's name, to an address that this machine can reach.
pub(super) fn addressed(kubeconfig: &Kubeconfig, name: &ClusterName, address: Ipv4Addr) -> Kubeconfig {
    let url = format!("https://{address}:{}", crate::cluster::API_PORT);
    kubeconfig.clone().rename(name.as_str()).with_server(&url)
}
