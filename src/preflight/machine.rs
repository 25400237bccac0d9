//! One machine, whatever its engine does.

use super::Purpose;
use crate::cluster::Role;
use crate::host::{CgroupVersion, Finding, HostName, MachineFacts, ModuleState, Rule, Severity, rules};

/// Seconds that a clock may be off.
pub(super) const CLOCK_TOLERANCE: i64 = 5;
/// Seconds after which no certificate of the cluster would be valid: the CA is dated back by a day.
const CLOCK_LIMIT: i64 = 23 * 3600;
/// Seconds that a server's clock may be ahead of another: k3s dates its certificates back by an hour.
pub(super) const SERVER_AHEAD_LIMIT: i64 = 3500;
/// What the kubelet cannot do without.
const CONTROLLERS: [&str; 4] = ["memory", "cpu", "cpuset", "pids"];
/// Modules besides vxlan.
const MODULES: [&str; 3] = ["overlay", "br_netfilter", "nf_conntrack"];
const MIB: u64 = 1 << 20;

/// Everything that the rules find on one machine, in the order of the rules.
pub(super) fn findings(host: &HostName, machine: &MachineFacts, purpose: Purpose<'_>) -> Vec<Finding> {
    let here = Here { host, machine, purpose };
    [
        here.engine_at_boot(),
        here.cgroup(),
        here.legacy_cgroup(),
        here.vxlan(),
        here.modules(),
        here.iptables(),
        here.iptables_mixed(),
        here.page_size(),
        here.inotify(),
        here.memory(),
        here.huge_pages(),
        here.address(),
        here.clock(),
        here.unsynchronised(),
        here.swap_on_card(),
        here.power(),
        here.heat(),
        here.firewall(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

struct Here<'a> {
    host: &'a HostName,
    machine: &'a MachineFacts,
    purpose: Purpose<'a>,
}

impl Here<'_> {
    fn found(&self, rule: &'static Rule, seen: impl Into<String>) -> Option<Finding> {
        Some(rule.on(self.host, seen))
    }

    fn engine_at_boot(&self) -> Option<Finding> {
        let seen = "its Docker engine does not start with the machine";
        (self.machine.system.engine_at_boot == Some(false)).then(|| self.found(&rules::ENGINE_AT_BOOT, seen))?
    }

    fn cgroup(&self) -> Option<Finding> {
        let machine = &self.machine;
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
        let is_legacy = self.machine.cgroup == CgroupVersion::V1;
        is_legacy.then(|| self.found(&rules::LEGACY_CGROUP, "it has the legacy cgroup hierarchy"))?
    }

    fn lacks(&self, module: &str) -> bool {
        self.machine.system.modules.get(module) == Some(&ModuleState::Missing)
    }

    fn vxlan(&self) -> Option<Finding> {
        let seen = || format!("its kernel {} has no vxlan", self.machine.kernel_release);
        (!self.purpose.without_vxlan && self.lacks("vxlan")).then(|| self.found(&rules::VXLAN, seen()))?
    }

    fn modules(&self) -> Option<Finding> {
        let missing: Vec<&str> = MODULES.into_iter().filter(|name| self.lacks(name)).collect();
        let seen = || format!("its kernel {} has no {}", self.machine.kernel_release, missing.join(", "));
        (!missing.is_empty()).then(|| self.found(&rules::MODULES, seen()))?
    }

    fn iptables(&self) -> Option<Finding> {
        let [major, minor, patch] = self.machine.system.iptables.as_ref()?.version;
        let is_bad = (major, minor) == (1, 8) && patch <= 4;
        is_bad.then(|| self.found(&rules::IPTABLES, format!("its iptables is {major}.{minor}.{patch}")))?
    }

    fn iptables_mixed(&self) -> Option<Finding> {
        let system = &self.machine.system;
        let is_mixed = system.legacy_tables && system.iptables.as_ref()?.nft;
        let seen = "its iptables writes to nf_tables, and the kernel has legacy tables loaded, too";
        is_mixed.then(|| self.found(&rules::IPTABLES_MIXED, seen))?
    }

    fn page_size(&self) -> Option<Finding> {
        let size = self.machine.board.page_size.filter(|size| *size > 4096)?;
        self.found(&rules::PAGE_SIZE, format!("its kernel has pages of {} KiB", size >> 10))
    }

    fn inotify(&self) -> Option<Finding> {
        let instances = self.machine.system.inotify_instances.filter(|instances| *instances <= 128)?;
        self.found(&rules::INOTIFY, format!("a user may have {instances} inotify instances"))
    }

    fn memory(&self) -> Option<Finding> {
        let all = self.machine.memory_total;
        let total = self.purpose.memory.unwrap_or(all).min(all);
        let whose = if total < all { "its node may have" } else { "it has" };
        let least = if self.purpose.role == Some(Role::Server) { 450 * MIB } else { 250 * MIB };
        (total < least).then(|| self.found(&rules::MEMORY, format!("{whose} {} MiB of memory", total / MIB)))?
    }

    fn huge_pages(&self) -> Option<Finding> {
        let kept = self.machine.misses_for_huge_pages()?;
        self.found(&rules::HUGE_PAGES, format!("its kernel keeps {} MiB of memory free for huge pages", kept / MIB))
    }

    fn clock(&self) -> Option<Finding> {
        let offset = self.machine.clock_offset;
        let direction = if offset < 0 { "behind" } else { "ahead of" };
        let seen = format!("its clock is {} s {direction} this machine's", offset.unsigned_abs());
        let ahead_limit = if self.purpose.role == Some(Role::Agent) { CLOCK_LIMIT } else { SERVER_AHEAD_LIMIT };
        if offset > ahead_limit || offset < -CLOCK_LIMIT {
            return Some(rules::CLOCK.on(self.host, seen).at(Severity::Refuse));
        }
        (offset.unsigned_abs() > CLOCK_TOLERANCE.unsigned_abs()).then(|| self.found(&rules::CLOCK, seen))?
    }

    fn address(&self) -> Option<Finding> {
        let address = self.purpose.address?;
        let own = &self.machine.addresses;
        let list = own.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let is_foreign = !own.is_empty() && !own.contains_key(&address);
        is_foreign
            .then(|| self.found(&rules::FOREIGN_ADDRESS, format!("{address} is none of its addresses: {list}")))?
    }

    fn unsynchronised(&self) -> Option<Finding> {
        let is_not = self.machine.system.synchronised == Some(false);
        is_not.then(|| self.found(&rules::UNSYNCHRONISED, "no time server has set its clock yet"))?
    }

    fn swap_on_card(&self) -> Option<Finding> {
        let swap = self.machine.system.swaps.iter().find(|swap| swap.is_on_card)?;
        self.found(&rules::SWAP_ON_CARD, format!("it swaps to {}, {} MiB", swap.device, swap.size / MIB))
    }

    fn power(&self) -> Option<Finding> {
        let bits = self.machine.board.throttled?;
        let seen = |when| format!("the board reports too little power {when} (throttled={bits:#x})");
        match (bits & 1, bits >> 16 & 1) {
            (0, 0) => None,
            (0, _) => self.found(&rules::POWER_BEFORE, seen("since its start")),
            _ => self.found(&rules::POWER, seen("now")),
        }
    }

    fn heat(&self) -> Option<Finding> {
        let board = &self.machine.board;
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
        let names = &self.machine.system.firewalls;
        (!names.is_empty()).then(|| self.found(&rules::FIREWALL, format!("{} is switched on", names.join(", "))))?
    }
}
