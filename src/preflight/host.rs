//! One machine, and a node on it.

use super::Purpose;
use crate::cluster::names::{LABEL_CLUSTER, LABEL_NODE, is_node_of};
use crate::cluster::{API_PORT, Role};
use crate::host::{
    CgroupVersion, Facts, Finding, HostName, Medium, ModuleState, NodeFacts, NodeState, Rule, Severity, rules,
};

/// Seconds that a clock may be off.
pub(super) const CLOCK_TOLERANCE: i64 = 5;
/// Seconds after which no certificate of the cluster would be valid: the CA is dated back by a day.
const CLOCK_LIMIT: u64 = 23 * 3600;
/// What the kubelet cannot do without.
const CONTROLLERS: [&str; 4] = ["memory", "cpu", "cpuset", "pids"];
/// Modules besides vxlan.
const MODULES: [&str; 3] = ["overlay", "br_netfilter", "nf_conntrack"];
/// On which overlayfs has no upper directory.
const WITHOUT_OVERLAY: [&str; 8] = ["zfs", "nfs", "nfs4", "cifs", "ecryptfs", "fuseblk", "vfat", "exfat"];
/// On which an agent listens, too: its way to the server, the kubelet, and kube-proxy.
const AGENT_PORTS: [u16; 5] = [6444, 10248, 10249, 10250, 10256];
const MIB: u64 = 1 << 20;

/// Everything that the rules find on one host, in the order of the rules.
pub(super) fn findings(host: &HostName, facts: &Facts, purpose: Purpose<'_>) -> Vec<Finding> {
    let here = Here { host, facts, purpose };
    [
        here.rootless(),
        here.engine_old(),
        here.engine_snap(),
        here.engine_at_boot(),
        here.storage_driver(),
        here.filesystem(),
        here.disk_low(),
        here.card(),
        here.forwarding(),
        here.cgroup(),
        here.legacy_cgroup(),
        here.vxlan(),
        here.modules(),
        here.iptables(),
        here.iptables_mixed(),
        here.page_size(),
        here.userland(),
        here.inotify(),
        here.memory(),
        here.huge_pages(),
        here.clock(),
        here.unsynchronised(),
        here.swap_on_card(),
        here.power(),
        here.heat(),
        here.ports(),
        here.firewall(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

struct Here<'a> {
    host: &'a HostName,
    facts: &'a Facts,
    purpose: Purpose<'a>,
}

impl Here<'_> {
    fn found(&self, rule: &'static Rule, seen: impl Into<String>) -> Option<Finding> {
        Some(rule.on(self.host, seen))
    }

    fn rootless(&self) -> Option<Finding> {
        let rule = || self.found(&rules::ROOTLESS, "its Docker engine is rootless");
        self.facts.engine.rootless.then(rule)?
    }

    fn engine_old(&self) -> Option<Finding> {
        let api = self.facts.engine.api_version.split_once('.')?;
        let api = (api.0.parse::<u32>().ok()?, api.1.parse::<u32>().ok()?);
        let seen = || format!("its Docker engine is {}", self.facts.engine.version);
        (api < (1, 41)).then(|| self.found(&rules::ENGINE_OLD, seen()))?
    }

    fn engine_snap(&self) -> Option<Finding> {
        let root = &self.facts.engine.root_dir;
        root.starts_with("/var/snap/")
            .then(|| self.found(&rules::ENGINE_SNAP, format!("its Docker engine is a snap, with its data in {root}")))?
    }

    fn engine_at_boot(&self) -> Option<Finding> {
        let seen = "its Docker engine does not start with the machine";
        (self.facts.machine.system.engine_at_boot == Some(false)).then(|| self.found(&rules::ENGINE_AT_BOOT, seen))?
    }

    fn storage_driver(&self) -> Option<Finding> {
        let driver = self.facts.engine.storage_driver.as_str();
        let is_slow = matches!(driver, "vfs" | "devicemapper" | "aufs");
        is_slow.then(|| self.found(&rules::STORAGE_DRIVER, format!("its Docker engine keeps layers with {driver}")))?
    }

    fn filesystem(&self) -> Option<Finding> {
        let filesystem = self.facts.engine.disk.filesystem.as_deref()?;
        let seen = || format!("{} is on {filesystem}", self.facts.engine.root_dir);
        WITHOUT_OVERLAY.contains(&filesystem).then(|| self.found(&rules::FILESYSTEM, seen()))?
    }

    fn disk_low(&self) -> Option<Finding> {
        let free = self.facts.engine.disk.free?;
        let is_new = self.facts.nodes.is_empty();
        let seen = || format!("{} has {:.1} GB free", self.facts.engine.root_dir, free as f64 / 1e9);
        (is_new && free < 2_000_000_000).then(|| self.found(&rules::DISK_LOW, seen()))?
    }

    fn card(&self) -> Option<Finding> {
        let is_card = self.facts.engine.disk.medium == Some(Medium::Card);
        let seen = || format!("{} is on an SD card", self.facts.engine.root_dir);
        is_card.then(|| self.found(&rules::CARD, seen()))?
    }

    fn forwarding(&self) -> Option<Finding> {
        (self.facts.can_reverse == Some(false)).then(|| self.found(&rules::FORWARDING, "its sshd forwards no ports"))?
    }

    fn cgroup(&self) -> Option<Finding> {
        let machine = &self.facts.machine;
        let missing: Vec<&str> =
            CONTROLLERS.into_iter().filter(|wanted| machine.controllers.iter().all(|name| name != wanted)).collect();
        if machine.controllers.is_empty() || missing.is_empty() {
            return None;
        }
        let mut seen = format!("its kernel has these cgroup controllers switched off: {}", missing.join(", "));
        if !machine.system.kernel_arguments.is_empty() {
            seen += &format!(" (its arguments: {})", machine.system.kernel_arguments.join(" "));
        }
        let finding = rules::CGROUP.on(self.host, seen);
        if !machine.lacks_memory_controller() {
            let fix = "install the system's current kernel, and reboot: this one was made without them";
            return Some(finding.with_hint(fix));
        }
        Some(match machine.system.cgroup_fix() {
            Some(fix) => finding.with_hint(fix),
            None => finding,
        })
    }

    fn legacy_cgroup(&self) -> Option<Finding> {
        let is_legacy = self.facts.machine.cgroup == CgroupVersion::V1;
        is_legacy.then(|| self.found(&rules::LEGACY_CGROUP, "it has the legacy cgroup hierarchy"))?
    }

    fn lacks(&self, module: &str) -> bool {
        self.facts.machine.system.modules.get(module) == Some(&ModuleState::Missing)
    }

    fn vxlan(&self) -> Option<Finding> {
        let seen = || format!("its kernel {} has no vxlan", self.facts.machine.kernel_release);
        (!self.purpose.without_vxlan && self.lacks("vxlan")).then(|| self.found(&rules::VXLAN, seen()))?
    }

    fn modules(&self) -> Option<Finding> {
        let missing: Vec<&str> = MODULES.into_iter().filter(|name| self.lacks(name)).collect();
        let seen = || format!("its kernel {} has no {}", self.facts.machine.kernel_release, missing.join(", "));
        (!missing.is_empty()).then(|| self.found(&rules::MODULES, seen()))?
    }

    fn iptables(&self) -> Option<Finding> {
        let [major, minor, patch] = self.facts.machine.system.iptables.as_ref()?.version;
        let is_bad = (major, minor) == (1, 8) && patch <= 4;
        is_bad.then(|| self.found(&rules::IPTABLES, format!("its iptables is {major}.{minor}.{patch}")))?
    }

    fn iptables_mixed(&self) -> Option<Finding> {
        let system = &self.facts.machine.system;
        let is_mixed = system.legacy_tables && system.iptables.as_ref()?.nft;
        let seen = "its iptables writes to nf_tables, and the kernel has legacy tables loaded, too";
        is_mixed.then(|| self.found(&rules::IPTABLES_MIXED, seen))?
    }

    fn page_size(&self) -> Option<Finding> {
        let size = self.facts.machine.board.page_size.filter(|size| *size > 4096)?;
        self.found(&rules::PAGE_SIZE, format!("its kernel has pages of {} KiB", size >> 10))
    }

    fn userland(&self) -> Option<Finding> {
        let is_32_bit = matches!(self.facts.engine.arch.as_str(), "arm" | "armhf" | "armv7l" | "armv8l");
        let is_mixed = is_32_bit && matches!(self.facts.machine.kernel_arch.as_str(), "aarch64" | "arm64");
        is_mixed.then(|| self.found(&rules::USERLAND, "its kernel has 64 bits, and its Docker engine 32"))?
    }

    fn inotify(&self) -> Option<Finding> {
        let instances = self.facts.machine.system.inotify_instances.filter(|instances| *instances <= 128)?;
        self.found(&rules::INOTIFY, format!("a user may have {instances} inotify instances"))
    }

    fn memory(&self) -> Option<Finding> {
        let all = self.facts.machine.memory_total;
        let total = self.purpose.memory.unwrap_or(all).min(all);
        let whose = if total < all { "its node may have" } else { "it has" };
        let least = if self.purpose.role == Some(Role::Server) { 450 * MIB } else { 250 * MIB };
        (total < least).then(|| self.found(&rules::MEMORY, format!("{whose} {} MiB of memory", total / MIB)))?
    }

    fn huge_pages(&self) -> Option<Finding> {
        let kept = self.facts.machine.misses_for_huge_pages()?;
        self.found(&rules::HUGE_PAGES, format!("its kernel keeps {} MiB of memory free for huge pages", kept / MIB))
    }

    fn clock(&self) -> Option<Finding> {
        let offset = self.facts.machine.clock_offset;
        let direction = if offset < 0 { "behind" } else { "ahead of" };
        let seen = format!("its clock is {} s {direction} this machine's", offset.unsigned_abs());
        match offset.unsigned_abs() {
            seconds if seconds > CLOCK_LIMIT => Some(rules::CLOCK.on(self.host, seen).at(Severity::Refuse)),
            seconds if seconds > CLOCK_TOLERANCE.unsigned_abs() => self.found(&rules::CLOCK, seen),
            _ => None,
        }
    }

    fn unsynchronised(&self) -> Option<Finding> {
        let is_not = self.facts.machine.system.synchronised == Some(false);
        is_not.then(|| self.found(&rules::UNSYNCHRONISED, "no time server has set its clock yet"))?
    }

    fn swap_on_card(&self) -> Option<Finding> {
        let swap = self.facts.machine.system.swaps.iter().find(|swap| swap.is_on_card)?;
        self.found(&rules::SWAP_ON_CARD, format!("it swaps to {}, {} MiB", swap.device, swap.size / MIB))
    }

    /// Bit 0 is too little voltage, 1 and 2 that the board runs slower for it or for its heat, 3 its own limit for heat; 16 to 19
    /// that this was so.
    fn power(&self) -> Option<Finding> {
        let bits = self.facts.machine.board.throttled?;
        let seen = |when| format!("the board reports too little power {when} (throttled={bits:#x})");
        match (bits & 1, bits >> 16 & 1) {
            (0, 0) => None,
            (0, _) => self.found(&rules::POWER_BEFORE, seen("since its start")),
            _ => self.found(&rules::POWER, seen("now")),
        }
    }

    fn heat(&self) -> Option<Finding> {
        let board = &self.facts.machine.board;
        let at = board.millidegrees.map(|degrees| format!(" at {} °C", degrees / 1000)).unwrap_or_default();
        let bits = board.throttled.unwrap_or(0);
        // Some boards have a limit of 60 °C, from which on they are a little slower.
        let is_slower = bits & 0b1000 != 0 || bits & 0b110 != 0 && bits & 1 == 0;
        match board.millidegrees {
            Some(degrees) if degrees > 80_000 => {
                self.found(&rules::HEAT, format!("the board has {} °C", degrees / 1000))
            }
            _ if is_slower => {
                Some(rules::HEAT.on(self.host, format!("the board slows itself down{at}")).at(Severity::Note))
            }
            _ => None,
        }
    }

    fn firewall(&self) -> Option<Finding> {
        let names = &self.facts.machine.system.firewalls;
        (!names.is_empty()).then(|| self.found(&rules::FIREWALL, format!("{} is switched on", names.join(", "))))?
    }

    /// The API server's port is taken by something that is not this cluster's node.
    fn ports(&self) -> Option<Finding> {
        let facts = self.facts;
        let is_own = |node: &NodeFacts| match self.purpose.cluster {
            Some(cluster) => is_node_of(node, cluster),
            None => true,
        };
        let is_active = |node: &NodeFacts| !matches!(node.state, NodeState::Created | NodeState::Exited(_));
        // A node of ours that is stopped holds no port: who listens then would be in its way.
        if facts.nodes.iter().any(|node| is_own(node) && is_active(node)) {
            return None;
        }
        let other = facts.nodes.iter().find(|node| is_active(node));
        // UDP 8472 is the kernel's own, for a flannel.1 that any earlier k3s left; flannel takes it over.
        let is_needed = |port: u16| self.purpose.role != Some(Role::Agent) || AGENT_PORTS.contains(&port);
        let listeners = facts.machine.listeners.iter().filter(|listener| !listener.udp && is_needed(listener.port));
        let taken: Vec<u16> = listeners.map(|listener| listener.port).collect();
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
        let seen = match taken.iter().find(|port| **port == API_PORT).or(taken.first()) {
            Some(port) => format!("port {port} that a node needs is taken by {owner}"),
            None => format!("its network is used by {owner}"),
        };
        let hint = match other.and_then(|node| node.labels.get(LABEL_CLUSTER)) {
            Some(name) => format!("a Docker host runs one node: use another host, or `k3arm cluster delete {name}`"),
            None => "`sudo ss -lntup` on the host shows who listens; stop it (k3s: `sudo systemctl stop k3s k3s-agent`, or `docker stop` its container) and run the command again".into(),
        };
        Some(rules::PORTS.on(self.host, seen).with_hint(hint))
    }
}
