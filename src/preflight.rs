//! Facts × Cluster → Findings: all of them, on all hosts, before anything is changed.

use std::collections::BTreeMap;

use crate::cluster::names::{LABEL_CLUSTER, LABEL_NODE};
use crate::cluster::{API_PORT, Cluster, LEFT_OUT, OWNED_FLAGS, flags};
use crate::host::{Facts, Finding, HostName, NodeFacts, NodeState, Severity};

/// Seconds that a host's clock may be off before certificates become a matter of luck.
const CLOCK_TOLERANCE: i64 = 60;
/// Seconds after which no certificate of the cluster would be valid: the CA is dated back by a day.
const CLOCK_LIMIT: i64 = 23 * 3600;

/// What is wrong with a host whatever is to be done with it.
pub fn host_findings(host: &HostName, facts: &Facts) -> Vec<Finding> {
    let finding = |severity, code, message: String, hint: &str| Finding {
        severity,
        code,
        host: Some(host.clone()),
        message,
        hint: hint.into(),
    };
    let mut findings = Vec::new();
    if let Err(unsupported) = facts.platform() {
        let hint = "leave this host out, or install a 64-bit system on it where the board can run one";
        findings.push(finding(Severity::Refuse, "platform", unsupported.to_string(), hint));
    }
    findings
}

/// What stands against a cluster on these hosts.
pub fn cluster_findings(cluster: &Cluster, fleet: &BTreeMap<HostName, Facts>) -> Vec<Finding> {
    let mut findings = flag_findings(cluster);
    for (host, facts) in fleet {
        findings.extend(host_findings(host, facts));
        findings.extend(node_findings(cluster, host, facts));
    }
    findings.extend(same_engine(fleet));
    findings
}

/// What stands against a node on this host.
fn node_findings(cluster: &Cluster, host: &HostName, facts: &Facts) -> Vec<Finding> {
    let refuse = |code, message: String, hint: &str| Finding {
        severity: Severity::Refuse,
        code,
        host: Some(host.clone()),
        message,
        hint: hint.into(),
    };
    let mut findings = Vec::new();
    if facts.engine.rootless {
        let message = "its Docker engine is rootless: a node needs the host's own network and cgroups".into();
        findings.push(refuse(
            "rootless",
            message,
            "run an engine as root on this host, and add the user to group docker",
        ));
    }
    if facts.machine.controllers.iter().all(|name| name != "memory") && !facts.machine.controllers.is_empty() {
        let hint = "append cgroup_enable=memory to the single line of /boot/firmware/cmdline.txt (before Debian 12: /boot/cmdline.txt) and reboot";
        findings.push(refuse(
            "no-memory-cgroup",
            "the kernel's memory cgroup is off, and the kubelet needs it".into(),
            hint,
        ));
    }
    findings.extend(clock_finding(host, facts));
    findings.extend(port_finding(cluster, host, facts));
    findings
}

fn clock_finding(host: &HostName, facts: &Facts) -> Option<Finding> {
    let offset = facts.machine.clock_offset;
    let severity = match offset.unsigned_abs() {
        seconds if seconds > CLOCK_LIMIT.unsigned_abs() => Severity::Refuse,
        seconds if seconds > CLOCK_TOLERANCE.unsigned_abs() => Severity::Warn,
        _ => return None,
    };
    let direction = if offset < 0 { "behind" } else { "ahead of" };
    Some(Finding {
        severity,
        code: "clock",
        host: Some(host.clone()),
        message: format!("its clock is {} s {direction} this machine's: certificates are dated by it", offset.unsigned_abs()),
        hint: "let it reach a time server first: `timedatectl set-ntp true`, then `timedatectl` shows when it is synchronised".into(),
    })
}

/// The API server's port is taken by something that is not this cluster's node.
fn port_finding(cluster: &Cluster, host: &HostName, facts: &Facts) -> Option<Finding> {
    let is_own = |node: &NodeFacts| node.labels.get(LABEL_CLUSTER).is_some_and(|name| name == cluster.name.as_str());
    let is_active = |node: &NodeFacts| !matches!(node.state, NodeState::Created | NodeState::Exited(_));
    // A node of ours that is stopped holds no port: who listens then would be in its way.
    if facts.nodes.iter().any(|node| is_own(node) && is_active(node)) {
        return None;
    }
    let other = facts.nodes.iter().find(|node| is_active(node));
    // UDP 8472 is the kernel's own, for a flannel.1 that any earlier k3s left; flannel takes it over.
    let taken: Vec<u16> = facts.machine.listeners.iter().filter(|l| !l.udp).map(|listener| listener.port).collect();
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
    let hint = match other.and_then(|node| node.labels.get(LABEL_CLUSTER)) {
        Some(name) => format!("a Docker host runs one node: use another host, or `k3arm cluster delete {name}`"),
        None => "`sudo ss -lntup` on the host shows who listens; stop it (k3s: `sudo systemctl stop k3s k3s-agent`, or `docker stop` its container) and run the command again".into(),
    };
    let ports = match taken.iter().find(|port| **port == API_PORT).or(taken.first()) {
        Some(port) => format!("port {port} that a node needs is taken by {owner}"),
        None => format!("its network is used by {owner}"),
    };
    Some(Finding { severity: Severity::Refuse, code: "port-taken", host: Some(host.clone()), message: ports, hint })
}

/// Two names that lead to one engine would be two nodes in one place.
fn same_engine(fleet: &BTreeMap<HostName, Facts>) -> Vec<Finding> {
    let mut first: BTreeMap<&str, &HostName> = BTreeMap::new();
    let mut findings = Vec::new();
    for (host, facts) in fleet.iter().filter(|(_, facts)| !facts.engine.id.is_empty()) {
        if let Some(twin) = first.insert(&facts.engine.id, host) {
            findings.push(Finding {
                severity: Severity::Refuse,
                code: "same-engine",
                host: Some(host.clone()),
                message: format!("it is the same Docker engine as {twin}"),
                hint: "name every machine once; if the SD card was cloned, remove /var/lib/docker/engine-id on one of them and restart Docker".into(),
            });
        }
    }
    findings
}

/// The user's flags, looked at before k3s silently skips them.
fn flag_findings(cluster: &Cluster) -> Vec<Finding> {
    let finding = |severity, code, message, hint| Finding { severity, code, host: None, message, hint };
    let of_flag = |flag: &String| {
        if OWNED_FLAGS.contains(&flag.trim_end_matches('+')) {
            let message = format!("k3s.config sets {flag}, which k3arm sets itself");
            return Some(finding(Severity::Refuse, "owned-flag", message, format!("remove {flag} from k3s.config")));
        }
        if flags::is_known(flag) {
            return None;
        }
        let hint = match flags::closest(flag) {
            Some(known) => format!("did you mean {known}?"),
            None => "`k3s server --help` lists the flags".to_string(),
        };
        Some(finding(Severity::Warn, "unknown-flag", format!("k3s knows no flag {flag} and will skip it"), hint))
    };
    cluster.k3s.config.keys().filter_map(of_flag).collect()
}

/// What the profile costs the user, for the plan.
pub fn profile_notes(cluster: &Cluster, memory: u64) -> Vec<Finding> {
    let profile = cluster.k3s.profile.for_memory(memory);
    if profile.has_parts() {
        return Vec::new();
    }
    let costs: Vec<&str> = LEFT_OUT.iter().map(|(_, cost)| *cost).collect();
    vec![Finding {
        severity: Severity::Note,
        code: "profile",
        host: None,
        message: format!(
            "profile {profile}, for the server's {} MiB: {}, NetworkPolicy is not enforced",
            memory >> 20,
            costs.join(", ")
        ),
        hint: "`--profile standard` (or full) starts all parts of k3s".into(),
    }]
}
