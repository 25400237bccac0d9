//! Hosts beside each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::machine::{CLOCK_TOLERANCE, SERVER_AHEAD_LIMIT};
use super::uses_vxlan;
use crate::cluster::{API_PORT, Cluster, Role};
use crate::host::{Answer, Facts, Finding, HostName, Reach, Severity, Target, rules};

/// Of every kubelet.
const KUBELET_PORT: u16 = 10250;
/// Of flannel's vxlan.
const VXLAN_PORT: u16 = 8472;

/// In a fleet of so many each host tries every other one.
const ALL_PAIRS: usize = 8;

/// Ports to be tried, by the host that tries them.
pub type Targets = BTreeMap<HostName, Vec<Target>>;

/// What stands against these hosts together, in a cluster or in none.
pub fn fleet_findings(cluster: Option<&Cluster>, fleet: &BTreeMap<HostName, Facts>, reach: &[Reach]) -> Vec<Finding> {
    let engines = twins(fleet, |_, facts| Some(facts.engine.id.clone()).filter(|id| !id.is_empty())).into_iter();
    let mut findings: Vec<Finding> = engines
        .map(|(host, _, twin)| rules::SAME_ENGINE.on(host, format!("it is the same Docker engine as {twin}")))
        .collect();
    if findings.is_empty() {
        let addresses = twins(fleet, |host, facts| address(cluster, host, facts)).into_iter();
        findings.extend(addresses.map(|(host, address, twin)| {
            rules::SAME_ADDRESS.on(host, format!("the others would reach it at {address}, and {twin}, too"))
        }));
        // A cluster's nodes may have names of their own: where they are equal, that is found when they are chosen.
        let names = twins(fleet, |_, facts| cluster.is_none().then(|| facts.machine.hostname.clone())).into_iter();
        findings.extend(names.map(|(host, name, twin)| {
            rules::SAME_HOSTNAME.on(host, format!("its host name is {name:?}, and so is that of {twin}"))
        }));
    }
    findings.extend(clocks(cluster, fleet));
    findings.extend(networks(fleet));
    findings.extend(sizes(fleet));
    findings.extend(unreachable(reach));
    findings
}

/// Hosts that have something in common with an earlier one, where it is known: what it is, and which that one is.
fn twins<T: Ord + Clone>(
    fleet: &BTreeMap<HostName, Facts>,
    of: impl Fn(&HostName, &Facts) -> Option<T>,
) -> Vec<(&HostName, T, &HostName)> {
    let mut first: BTreeMap<T, &HostName> = BTreeMap::new();
    let known = fleet.iter().filter_map(|(host, facts)| Some((host, of(host, facts)?)));
    let with_first = known.map(|(host, value)| (host, value.clone(), *first.entry(value).or_insert(host)));
    with_first.filter(|(host, _, twin)| host != twin).collect()
}

/// Under which address the others reach a host: its node's, where it is known which cluster that is of.
fn address(cluster: Option<&Cluster>, host: &HostName, facts: &Facts) -> Option<Ipv4Addr> {
    let member = cluster.and_then(|cluster| Some((cluster, cluster.member(host)?)));
    match (member, facts.machine.address) {
        (Some((cluster, member)), _) => Some(member.reached_at(&cluster.name, facts)?.0),
        (None, Some(IpAddr::V4(address))) => Some(address),
        _ => None,
    }
}

/// Any two clocks should agree; a server's must not be ahead of any by what its certificates are dated back. Whoever has no role
/// yet may become the server.
fn clocks(cluster: Option<&Cluster>, fleet: &BTreeMap<HostName, Facts>) -> Option<Finding> {
    let by_clock = |(_, facts): &(&HostName, &Facts)| facts.machine.clock_offset;
    let (behind, ahead) = (fleet.iter().min_by_key(by_clock)?, fleet.iter().max_by_key(by_clock)?);
    let server = cluster.map_or(Some(ahead), |cluster| fleet.get_key_value(&cluster.server()?.host.name));
    let apart = |ahead| by_clock(&ahead).saturating_sub(by_clock(&behind));
    let seen =
        |(host, facts)| format!("the clock of {host} is {} s ahead of that of {}", apart((host, facts)), behind.0);
    match server.filter(|server| apart(*server) > SERVER_AHEAD_LIMIT) {
        Some(server) => Some(rules::CLOCKS_APART.overall(seen(server)).at(Severity::Refuse)),
        None => (apart(ahead) > CLOCK_TOLERANCE).then(|| rules::CLOCKS_APART.overall(seen(ahead))),
    }
}

/// `10.0.0.0/24`
fn network(facts: &Facts) -> Option<String> {
    let (Some(IpAddr::V4(address)), Some(prefix)) = (facts.machine.address, facts.machine.prefix) else { return None };
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    Some(format!("{}/{prefix}", Ipv4Addr::from(u32::from(address) & mask)))
}

fn networks(fleet: &BTreeMap<HostName, Facts>) -> Option<Finding> {
    let networks: BTreeSet<String> = fleet.values().filter_map(network).collect();
    let list = networks.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    (networks.len() > 1).then(|| rules::NETWORKS.overall(format!("the hosts are in different networks: {list}")))
}

fn sizes(fleet: &BTreeMap<HostName, Facts>) -> Option<Finding> {
    let mut sizes: BTreeMap<u32, &HostName> = BTreeMap::new();
    for (host, facts) in fleet {
        if let Some(mtu) = facts.machine.mtu {
            sizes.entry(mtu).or_insert(host);
        }
    }
    let list = sizes.iter().map(|(size, host)| format!("{size} on {host}")).collect::<Vec<_>>().join(", ");
    (sizes.len() > 1).then(|| rules::MTU.overall(format!("the links take packets of different sizes: {list}")))
}

/// Whether two hosts of a fleet, by their places in it, are to be tried where any pair would tell: in a large fleet those 1, 2, 4,
/// 8 … places on, around its end. A closed port or a cut between two parts of the fleet is met by several, at n log n tries.
fn is_tried(from: usize, to: usize, fleet: usize) -> bool {
    fleet <= ALL_PAIRS || ((to + fleet - from) % fleet).is_power_of_two()
}

/// Which ports each host is to try, to learn whether nodes on these hosts would reach each other: by the cluster's roles, or
/// all that any node may need. Where a node of ours runs already, nothing is tried.
pub fn targets(cluster: Option<&Cluster>, fleet: &BTreeMap<HostName, Facts>) -> Targets {
    let role = |host: &HostName| Some(cluster?.member(host)?.role);
    let has_vxlan = cluster.is_none_or(uses_vxlan);
    // UDP 8472 is the kernel's, for a flannel.1 that some k3s left.
    let is_free = |facts: &Facts| facts.nodes.is_empty() && facts.machine.listeners.iter().all(|listener| listener.udp);
    let from = |(place, (host, facts)): (usize, (&HostName, &Facts))| {
        let others =
            fleet.iter().enumerate().filter(|(_, (other, at))| *other != host && (is_free(facts) || is_free(at)));
        let targets = others.flat_map(|(there, (to, at))| {
            let is_tried = is_tried(place, there, fleet.len());
            let Some(address) = address(cluster, to, at) else { return Vec::new() };
            let target = |port, udp| Target { to: to.clone(), address, port, udp };
            let listens = |port| at.machine.listeners.iter().any(|listener| listener.port == port);
            let mut targets = Vec::new();
            // Whoever is known to be a server is reached by all, and reaches all.
            let is_needed = |server: &HostName| role(server).map_or(is_tried, |role| role != Role::Agent);
            if is_needed(to) {
                targets.push(target(API_PORT, false));
            }
            if is_needed(host) {
                targets.push(target(KUBELET_PORT, false));
            }
            // The kernel's vxlan swallows what it does not know.
            if has_vxlan && is_tried && !listens(VXLAN_PORT) {
                targets.push(target(VXLAN_PORT, true));
            }
            targets
        });
        (host.clone(), targets.collect::<Vec<_>>())
    };
    fleet.iter().enumerate().map(from).filter(|(_, targets)| !targets.is_empty()).collect()
}

/// What was tried between hosts. That nobody listens yet is an answer.
fn unreachable(reach: &[Reach]) -> Vec<Finding> {
    let finding = |tried: &Reach| {
        let Reach { from, to, address, port, udp, answer } = tried;
        let why = match answer {
            Answer::Open | Answer::Refused => return None,
            Answer::Silent if *udp => {
                let seen = format!("{to} ({address}) gives no answer to UDP {port}");
                return Some(rules::UNANSWERED.on(from, seen));
            }
            Answer::Silent => "packets vanish on the way",
            Answer::Unreachable => "there is no way",
        };
        let protocol = if *udp { "UDP" } else { "TCP" };
        let seen = format!("it does not reach {to} ({address}) at {protocol} {port}: {why}");
        // The server has its own connection to every kubelet, too: pods run without this port.
        let severity = if *port == KUBELET_PORT { Severity::Warn } else { rules::UNREACHABLE.severity };
        Some(rules::UNREACHABLE.on(from, seen).at(severity))
    };
    reach.iter().filter_map(finding).collect()
}
