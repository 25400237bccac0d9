//! `cluster create`: the whole way from a cluster file to Ready nodes.

use std::time::Duration;

use futures_util::future::join_all;

use crate::apply::{Awaited, AwaitedNode, Journal, Settled, settle};
use crate::cluster::names::{LABEL_CLUSTER_ID, container_name, is_node_of};
use crate::cluster::{CONFIG_PATH, Cluster, ClusterName, Identity, Role};
use crate::host::{Destination, Finding, Host, NodeFacts, Severity};
use crate::kube::{Kubeconfig, NodeStatus};
use crate::plan::{Failure, Plan, Progress, Report};
use crate::probe::{Connection, Fleet};
use crate::provision::{Comparison, Wanted};
use crate::{preflight, prewarm as stage, provision};

use super::carry::{Cargo, carry_out, carry_out_bare};
use super::check::{ignoring, reach, split};
use super::compression::{Compressing, Variants};
use super::needs::Needs;
use super::pinning::{Resolved, pin, tell};
use super::prewarm::{node_images, wanted};
use super::sourcing::{Sourced, Sourcing};
use super::{Environment, Probed, Stop, Travel, check, disconnect, meet};

/// Where the CA's certificate stands on a server.
const CA_PATH: &str = "/var/lib/rancher/k3s/server/tls/server-ca.crt";
/// Files that are read from a server are small.
const FILE_LIMIT: u64 = 64 << 10;

/// What `cluster create` is asked.
#[derive(Debug)]
pub struct CreateRequest {
    /// The wanted cluster.
    pub cluster: Cluster,
    /// Where images come from.
    pub sourcing: Sourcing,
    /// How they go.
    pub travel: Travel,
    /// Codes of rules that are not to stop it.
    pub ignore: Vec<&'static str>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Leave what was made when it fails.
    pub keep: bool,
    /// How long nodes may take to be Ready.
    pub timeout: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Created {
    /// What was, or would be, done; empty if all stood already.
    pub plan: Plan,
    /// What followed, or would follow, when all nodes were Ready.
    pub finish: Plan,
    /// The cluster's kubeconfig and nodes; `None` after a dry run.
    pub cluster: Option<(Kubeconfig, Vec<NodeStatus>)>,
}

/// All that was found out and decided before anything is changed.
struct Prepared {
    probed: Probed,
    sourced: Sourced,
    resolved: Resolved,
    variants: Variants,
    wanted: Wanted,
    plan: Plan,
    /// What follows when all nodes are Ready.
    finish: Plan,
}

/// Makes a cluster, or what is missing of it.
///
/// # Errors
/// [`Stop`]; what this run made is removed again, unless it was asked to keep it.
pub async fn create(request: CreateRequest, environment: &Environment) -> Result<Created, Stop> {
    let hosts: Vec<Host> = request.cluster.members.iter().map(|member| member.host.clone()).collect();
    let probed = meet(&hosts, environment).await?;
    let fleet = probed.fleet.clone();
    let journal = Journal::default();
    let result = tokio::select! {
        result = Box::pin(create_on(&request, probed, &journal, environment)) => result,
        () = environment.interrupt.raised() => Err(Stop::Interrupted(Vec::new())),
    };
    let result = match result {
        Err(stop) if !journal.is_empty() => Err(undo(stop, &request, &journal, &fleet, environment).await),
        other => other,
    };
    if result.is_err() {
        forget_unless_it_stands(&request.cluster.name, &fleet, environment).await;
    }
    disconnect(fleet).await;
    result
}

/// Forgets a cluster of which nothing is left: not another run's node either, and no host that could not be asked.
async fn forget_unless_it_stands(name: &ClusterName, fleet: &Fleet, environment: &Environment) {
    let known = environment.records.hosts(name).unwrap_or_default();
    let is_ours = |node: &NodeFacts| is_node_of(node, name);
    let on_host =
        async |connection: &Connection| connection.engine.nodes().await.map_or(true, |nodes| nodes.iter().any(is_ours));
    let all_asked = known.iter().all(|host| fleet.contains_key(&host.name));
    if all_asked && !join_all(fleet.values().map(on_host)).await.contains(&true) {
        let _ = environment.records.forget(name);
    }
}

/// Takes back what was made, or says how to.
async fn undo(
    stop: Stop,
    request: &CreateRequest,
    journal: &Journal,
    fleet: &Fleet,
    environment: &Environment,
) -> Stop {
    let name = &request.cluster.name;
    if request.keep {
        let what = format!("kept as it is; `k3arm cluster delete {name}` removes it");
        environment.events.overall(Progress::Warning { what });
        return stop;
    }
    environment.events.overall(Progress::Started { what: "removing what was made (--keep leaves it)".into() });
    let left = journal.roll_back(fleet).await;
    environment.events.overall(match left.is_empty() {
        true => Progress::Done { what: "removed what was made".into() },
        false => Progress::Warning {
            what: format!("not all could be removed: `k3arm cluster delete {name}` does it when the hosts answer"),
        },
    });
    match stop {
        Stop::Failures(failures) => Stop::Failures(failures.into_iter().chain(left).collect()),
        Stop::Interrupted(failures) => Stop::Interrupted(failures.into_iter().chain(left).collect()),
        findings @ Stop::Findings(_) => findings,
    }
}

async fn create_on(
    request: &CreateRequest,
    probed: Probed,
    journal: &Journal,
    environment: &Environment,
) -> Result<Created, Stop> {
    let prepared = Box::pin(prepare(request, probed, environment)).await?;
    if request.dry_run {
        return Ok(Created { plan: prepared.plan, finish: prepared.finish, cluster: None });
    }
    let members = request.cluster.members.iter().map(|member| &member.host);
    prepared.sourced.keep(&prepared.resolved, environment)?;
    environment.records.add(&request.cluster.name, members).map_err(|e| Failure::new(&e, None))?;
    if !prepared.plan.is_empty() {
        let Prepared { plan, probed, resolved, variants, .. } = &prepared;
        let cargo = Cargo { resolved, variants };
        let report = carry_out(plan, &probed.fleet, cargo, journal, environment).await?;
        let failures: Vec<Failure> = report.failures().cloned().collect();
        if !failures.is_empty() {
            return Err(Stop::Failures(failures));
        }
    }
    let awaited = awaited(&prepared.wanted, request.timeout);
    let settled = settle(&awaited, &prepared.probed.fleet, &environment.events).await?;
    finish(&prepared, environment).await;
    let kubeconfig = kubeconfig(&request.cluster, &prepared.wanted, &settled);
    Ok(Created { plan: prepared.plan, finish: prepared.finish, cluster: Some((kubeconfig, settled.nodes)) })
}

/// What a standing cluster does better with, and runs without: a failure is told, and the cluster stays.
async fn finish(prepared: &Prepared, environment: &Environment) {
    let report = carry_out_bare(&prepared.finish, &prepared.probed.fleet, environment).await;
    for failure in report.failures() {
        environment.events.overall(Progress::Warning { what: failure.to_string() });
    }
}

/// Everything that is found on the hosts, told at once.
async fn look(request: &CreateRequest, probed: &mut Probed, environment: &Environment) -> Result<(), Stop> {
    let reach = reach(Some(&request.cluster), probed, environment).await;
    let (closed, mut findings) = split(std::mem::take(&mut probed.closed));
    let mut found = preflight::cluster_findings(&request.cluster, &probed.facts, &closed, &reach);
    found.retain(|finding| finding.severity != Severity::Note);
    // Nobody can do without an engine.
    findings.extend(ignoring(found, &request.ignore));
    if probed.failures.is_empty() {
        return check(findings, &environment.events);
    }
    // A cluster with a host missing is not what was asked for.
    let mut failures = std::mem::take(&mut probed.failures);
    failures.extend(findings.into_iter().filter(Finding::is_refusal).map(Failure::from));
    Err(Stop::Failures(failures))
}

/// Everything up to the plan. Nothing is changed.
async fn prepare(request: &CreateRequest, mut probed: Probed, environment: &Environment) -> Result<Prepared, Stop> {
    let cluster = &request.cluster;
    look(request, &mut probed, environment).await?;
    let platforms = probed.facts.values().filter_map(|facts| facts.platform().ok()).collect();
    let sourced = Sourced::open(&request.sourcing, environment).await?;
    let needs = Needs::of(cluster, probed.server_memory(cluster), &sourced, environment).await?;
    let resolved = pin(&needs.wishes(), &platforms, sourced.lock(), environment).await?;
    tell(&resolved.images, environment);
    let mut report = Report::default();
    let on_hosts = wanted(&resolved.images[..1], &mut probed, &mut report).await;
    if let Some(failure) = report.failures().next() {
        return Err(failure.clone().into());
    }
    let images = node_images(cluster, &on_hosts, (&needs, &resolved), &probed);
    let wanted = provision::want(cluster, &images, &probed.facts).map_err(Stop::Findings)?;
    let comparison = Comparison::of(&wanted, &probed.facts).map_err(Stop::Findings)?;
    let mut prewarm = stage::steps(&on_hosts, &probed.facts, request.travel.ways).map_err(Stop::Findings)?;
    let compressing = Compressing {
        wish: request.travel.recompress,
        resolved: &resolved,
        probed: &probed,
        dry_run: request.dry_run,
        environment,
    };
    let variants = compressing.settle(&mut prewarm).await?;
    let mut findings = stage::findings(&prewarm, &probed.facts);
    let memory = wanted.nodes.first().map_or(0, |server| server.memory);
    findings.extend(preflight::profile_notes(cluster, memory));
    check(ignoring(findings, &request.ignore), &environment.events)?;
    let identity = identity(&comparison, &probed).await?;
    let plan = comparison.plan(&wanted, &identity, prewarm);
    let finish = comparison.finish(&wanted);
    Ok(Prepared { probed, sourced, resolved, variants, wanted, plan, finish })
}

/// The standing cluster's identity where nodes have to be added to it, else a new one.
async fn identity(comparison: &Comparison, probed: &Probed) -> Result<Identity, Failure> {
    let new = || Identity::generate().map_err(|e| Failure::new(&e, None));
    let Some((server, container)) = comparison.started_server().filter(|_| comparison.creates()) else { return new() };
    let Some(connection) = probed.fleet.get(&server.host) else { return new() };
    let fail = |e: crate::docker::Error| Failure::new(&e, e.hint()).on(&server.host);
    let config = connection.engine.get_file(container, CONFIG_PATH, FILE_LIMIT).await.map_err(fail)?;
    let authority = connection.engine.get_file(container, CA_PATH, FILE_LIMIT).await.map_err(fail)?;
    let facts = probed.facts.get(&server.host);
    let found = facts.and_then(|facts| facts.nodes.iter().find(|node| node.id == container));
    let id = found.and_then(|node| node.labels.get(LABEL_CLUSTER_ID));
    let (Some(config), Some(authority), Some(id)) = (config, authority, id) else {
        return Err(Failure {
            host: Some(server.host.clone()),
            message: "the server's volumes lack config.yaml or the cluster's CA, without which no agent can be added"
                .into(),
            hint: Some("`k3arm cluster delete` it and create it anew".into()),
        });
    };
    Identity::of_server(id, &config, authority.expose()).map_err(|e| Failure::new(&e, None).on(&server.host))
}

fn awaited(wanted: &Wanted, timeout: Duration) -> Awaited {
    let nodes = wanted.nodes.iter().map(|node| AwaitedNode {
        name: node.name.clone(),
        host: node.host.clone(),
        role: node.role,
        container: container_name(&wanted.cluster, &node.name),
    });
    Awaited { cluster: wanted.cluster.clone(), nodes: nodes.collect(), timeout }
}

/// The kubeconfig for this machine: under the cluster's name, to the server's own address.
fn kubeconfig(cluster: &Cluster, wanted: &Wanted, settled: &Settled) -> Kubeconfig {
    let is_local = cluster
        .members
        .iter()
        .any(|member| member.role == Role::Server && member.host.destination == Destination::Local);
    let address = if is_local { std::net::Ipv4Addr::LOCALHOST } else { wanted.server_address };
    super::cluster::addressed(&settled.kubeconfig, &cluster.name, address)
}
