//! `host check` and `host list`: what hosts are, and all that stands against nodes on them.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde::Serialize;

use crate::cluster::Cluster;
use crate::host::{Destination, EngineFacts, Finding, Host, HostName, MachineFacts, NodeFacts, Reach, Severity};
use crate::plan::{Failure, Progress};
use crate::preflight::{self, Purpose};
use crate::probe::{Closed, reach as reach_host, try_ports};

use super::{Environment, Opened, Probed, Stop, disconnect};

/// What `host check` is asked.
#[derive(Debug)]
pub struct CheckRequest {
    /// Which hosts, without a cluster.
    pub hosts: Vec<Host>,
    /// The cluster that its hosts are for.
    pub cluster: Option<Cluster>,
    /// Codes of rules that are not to stop it.
    pub ignore: Vec<&'static str>,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// The hosts that answered.
    pub hosts: Vec<CheckedHost>,
    /// All rules that do not hold, the gravest first.
    pub findings: Vec<Finding>,
    /// What was tried between hosts.
    pub reach: Vec<Reach>,
    /// Hosts that did not answer.
    pub failures: Vec<Failure>,
}

/// A host that answered.
#[derive(Debug, Serialize)]
pub struct CheckedHost {
    /// Its name.
    pub name: HostName,
    /// How it is reached.
    pub destination: Destination,
    /// What it says of itself.
    pub machine: MachineFacts,
    /// Its engine, where it can be used.
    pub engine: Option<EngineFacts>,
    /// k3arm's nodes on it.
    pub nodes: Vec<NodeFacts>,
    /// sshd forwards ports.
    pub can_reverse: Option<bool>,
    /// Milliseconds that the smallest command takes; `None` for this machine.
    pub round_trip: Option<f64>,
}

/// Looks at hosts, and changes nothing.
///
/// # Errors
/// The user interrupted it.
pub async fn check_hosts(request: CheckRequest, environment: &Environment) -> Result<Checked, Stop> {
    let members = request.cluster.iter().flat_map(|cluster| &cluster.members).map(|member| &member.host);
    let hosts: Vec<Host> = request.hosts.iter().chain(members).cloned().collect();
    let (mut checked, probed) = look_at(&hosts, environment).await?;
    checked.reach = reach(request.cluster.as_ref(), &probed, environment).await;
    let Probed { fleet, facts, closed, .. } = probed;
    let (closed, shut) = split(closed);
    let mut found = match &request.cluster {
        Some(cluster) => preflight::cluster_findings(cluster, &facts, &closed, &checked.reach),
        None => {
            let of_host = |(host, facts)| preflight::node_findings(host, facts, Purpose::default());
            let of_machine = |(host, machine)| preflight::machine_findings(host, machine, Purpose::default());
            let together = preflight::fleet_findings(None, &facts, &checked.reach);
            facts.iter().flat_map(of_host).chain(closed.iter().flat_map(of_machine)).chain(together).collect()
        }
    };
    found.extend(shut);
    checked.findings = ignoring(found, &request.ignore);
    checked.findings.sort_by(|a, b| (a.severity, &a.host).cmp(&(b.severity, &b.host)));
    disconnect(fleet).await;
    Ok(checked)
}

/// What the machines are, and what stands in the way of their engines.
pub(super) fn split(
    closed: BTreeMap<HostName, (MachineFacts, Finding)>,
) -> (BTreeMap<HostName, MachineFacts>, Vec<Finding>) {
    closed.into_iter().map(|(host, (machine, finding))| ((host, machine), finding)).unzip()
}

/// Looks at all of them at once; those whose engines can be used are still connected.
async fn look_at(hosts: &[Host], environment: &Environment) -> Result<(Checked, Probed), Stop> {
    let answers = tokio::select! {
        answers = join_all(hosts.iter().map(|host| look(host, environment))) => answers,
        () = environment.interrupt.raised() => return Err(Stop::Interrupted(Vec::new())),
    };
    let mut checked = Checked { hosts: Vec::new(), findings: Vec::new(), reach: Vec::new(), failures: Vec::new() };
    let mut probed = Probed::default();
    for answer in answers {
        match answer {
            Ok((host, opened)) => {
                probed.add(&host.name, opened);
                checked.hosts.push(host);
            }
            Err(failure) => checked.failures.push(failure),
        }
    }
    Ok((checked, probed))
}

/// Only what hosts are.
///
/// # Errors
/// The user interrupted it.
pub async fn list_hosts(hosts: &[Host], environment: &Environment) -> Result<Checked, Stop> {
    let (checked, looked) = look_at(hosts, environment).await?;
    disconnect(looked.fleet).await;
    Ok(checked)
}

async fn look(host: &Host, environment: &Environment) -> Result<(CheckedHost, Opened), Failure> {
    environment.events.on(&host.name, Progress::Started { what: "connecting".into() });
    let reached = reach_host(host, &environment.ssh).await.inspect_err(|failure| {
        environment.events.on(&host.name, Progress::Failed { why: failure.message.clone() });
    })?;
    let session = reached.session.clone();
    let round_trip = session.round_trip_time().await.ok().flatten();
    let (opened, can_reverse) = tokio::join!(reached.open(), session.can_reverse());
    let checked = |machine| CheckedHost {
        name: host.name.clone(),
        destination: host.destination.clone(),
        machine,
        engine: None,
        nodes: Vec::new(),
        can_reverse: None,
        round_trip: round_trip.map(|time| (time.as_secs_f64() * 10_000.0).round() / 10.0),
    };
    match opened {
        Ok((connection, mut facts)) => {
            facts.can_reverse = can_reverse.ok();
            let host = CheckedHost {
                engine: Some(facts.engine.clone()),
                nodes: facts.nodes.clone(),
                can_reverse: facts.can_reverse,
                ..checked(facts.machine.clone())
            };
            Ok((host, Ok((connection, facts))))
        }
        Err(closed) => {
            let Closed { reached, finding } = *closed;
            reached.session.close().await;
            Ok((checked(reached.machine.clone()), Err((reached.machine, finding))))
        }
    }
}

/// What hosts get from each other, where nodes are still to be made; what could not be tried is told, and left out.
pub(super) async fn reach(cluster: Option<&Cluster>, probed: &Probed, environment: &Environment) -> Vec<Reach> {
    let targets = preflight::targets(cluster, &probed.facts);
    let tried = targets.iter().filter_map(|(host, targets)| Some(try_ports(probed.fleet.get(host)?, targets)));
    let told = |failure: &Failure| {
        let what = format!("whether hosts reach each other is not known: {failure}");
        environment.events.overall(Progress::Warning { what });
    };
    join_all(tried).await.into_iter().flat_map(|tried| tried.inspect_err(told).unwrap_or_default()).collect()
}

/// Refusals of these rules are told, and stop nothing.
pub(super) fn ignoring(findings: Vec<Finding>, codes: &[&str]) -> Vec<Finding> {
    let weigh = |finding: Finding| match finding.is_refusal() && codes.contains(&finding.code) {
        true => finding.at(Severity::Warn),
        false => finding,
    };
    findings.into_iter().map(weigh).collect()
}
