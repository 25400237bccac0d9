//! What k3arm looks for before it changes anything: one rule for each code.

use super::HostName;
use super::finding::{Finding, Severity};

/// One thing that must hold, or had better.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable, for scripts and for `--ignore`: `port-taken`.
    pub code: &'static str,
    /// How much it matters, mostly.
    pub severity: Severity,
    /// What should be there.
    pub wanted: &'static str,
    /// What happens to k3s without it.
    pub why: &'static str,
    /// What to do, on any host.
    pub fix: &'static str,
}

impl Rule {
    /// It does not hold on a host: `seen` is there instead.
    pub fn on(&'static self, host: &HostName, seen: impl Into<String>) -> Finding {
        Finding { host: Some(host.clone()), ..self.overall(seen) }
    }

    /// It does not hold for the whole.
    pub fn overall(&'static self, seen: impl Into<String>) -> Finding {
        let Self { code, severity, why, fix, .. } = *self;
        Finding { severity, code, host: None, message: seen.into(), why, hint: (*fix).into() }
    }

    /// The rule of a code.
    pub fn of(code: &str) -> Option<&'static Self> {
        Self::all().find(|rule| rule.code == code)
    }

    /// All of them, in the order of [`GROUPS`].
    pub fn all() -> impl Iterator<Item = &'static Self> {
        GROUPS.iter().flat_map(|(_, rules)| rules.iter().copied())
    }
}

/// A processor for which k3s is published.
pub const PLATFORM: Rule = Rule {
    code: "platform",
    severity: Severity::Refuse,
    wanted: "a processor for which k3s is published",
    why: "k3s is published for amd64, arm64 and arm/v7; an image of another platform does not start.",
    fix: "Leave the host out, or install a 64-bit system on it where the board can run one.",
};
/// A Docker engine that runs.
pub const ENGINE_MISSING: Rule = Rule {
    code: "engine-missing",
    severity: Severity::Refuse,
    wanted: "a Docker engine that runs",
    why: "A node is a container of this engine.",
    fix: "On the host: `sudo systemctl start docker`, or install it first: `sudo apt install docker.io`.",
};
/// An engine that the user may use.
pub const ENGINE_DENIED: Rule = Rule {
    code: "engine-denied",
    severity: Severity::Refuse,
    wanted: "an engine that the user may use",
    why: "Everything on the host is done through the engine's socket, as the user of the SSH login.",
    fix: "On the host: `sudo usermod -aG docker USER`; the next login has the group.",
};
/// An engine that runs as root.
pub const ROOTLESS: Rule = Rule {
    code: "rootless",
    severity: Severity::Refuse,
    wanted: "an engine that runs as root",
    why: "A rootless engine gives its containers a network and cgroups of their own: the kubelet cannot do its work in them.",
    fix: "Run an engine as root on this host, and add the user to group docker.",
};
/// Docker 20.10 or newer.
pub const ENGINE_OLD: Rule = Rule {
    code: "engine-old",
    severity: Severity::Warn,
    wanted: "Docker 20.10 or newer",
    why: "Older engines know no cgroup v2, and k3arm was never tried with them.",
    fix: "Update Docker on the host.",
};
/// An engine that is not a snap.
pub const ENGINE_SNAP: Rule = Rule {
    code: "engine-snap",
    severity: Severity::Warn,
    wanted: "an engine that is not a snap",
    why: "A snap's confinement hides most of the host from its containers: /lib/modules for one, which nodes load modules from.",
    fix: "On the host: `sudo snap remove docker`, then `sudo apt install docker.io`.",
};
/// An engine that starts with the machine.
pub const ENGINE_AT_BOOT: Rule = Rule {
    code: "engine-at-boot",
    severity: Severity::Warn,
    wanted: "an engine that starts with the machine",
    why: "After a power cut the node comes back with the engine, and with nothing else.",
    fix: "On the host: `sudo systemctl enable docker`.",
};
/// A storage driver that shares layers.
pub const STORAGE_DRIVER: Rule = Rule {
    code: "storage-driver",
    severity: Severity::Warn,
    wanted: "a storage driver that shares layers",
    why: "vfs copies every layer in full: an image of 200 MB takes a gigabyte, and an SD card minutes to write it; devicemapper and aufs are gone from current engines.",
    fix: "Use overlay2: move /var/lib/docker to ext4, xfs or btrfs, and leave `storage-driver` out of /etc/docker/daemon.json.",
};
/// A file system that overlayfs works on.
pub const FILESYSTEM: Rule = Rule {
    code: "filesystem",
    severity: Severity::Warn,
    wanted: "a file system that overlayfs works on",
    why: "The node's containerd unpacks images with overlayfs, inside a volume of the engine's. A root that is an overlay itself, as a Pi's can be, also forgets everything at a reboot.",
    fix: "Put /var/lib/docker on ext4, xfs or btrfs; or set `snapshotter: native` under k3s.config, which copies every layer.",
};
/// 2 GB free where the engine keeps its data.
pub const DISK_LOW: Rule = Rule {
    code: "disk-low",
    severity: Severity::Warn,
    wanted: "2 GB free where the engine keeps its data",
    why: "k3s, the images of its parts and their unpacked layers take about that; the kubelet evicts pods when the disk is nearly full.",
    fix: "On the host: `docker system df` shows what the engine holds, `docker system prune` removes what is unused.",
};
/// Room for what is sent.
pub const DISK_FULL: Rule = Rule {
    code: "disk-full",
    severity: Severity::Refuse,
    wanted: "room for what is sent",
    why: "Packed and unpacked, the images would fill the disk in the middle of the transfer.",
    fix: "Free some space there: `docker system df` shows what the engine holds, `docker system prune` removes what is unused.",
};
/// A disk that is written to often.
pub const CARD: Rule = Rule {
    code: "sd-card",
    severity: Severity::Note,
    wanted: "a disk that is written to often",
    why: "An idle server writes about a megabyte a minute; cheap cards wear out and stall for seconds, on which etcd, not SQLite, loses its leader.",
    fix: "Keep the engine's data on an SSD or a stick where there is one; keep to one server, whose SQLite copes.",
};
/// An sshd that forwards ports.
pub const FORWARDING: Rule = Rule {
    code: "forwarding",
    severity: Severity::Note,
    wanted: "an sshd that forwards ports",
    why: "With it engines pull from this machine, layer by layer and resumable; without it images are loaded through the engine's socket.",
    fix: "Nothing has to be done. `AllowTcpForwarding yes` in /etc/ssh/sshd_config lets engines pull.",
};
/// A way for the engine to pull from this machine.
pub const NO_PULL: Rule = Rule {
    code: "no-pull",
    severity: Severity::Refuse,
    wanted: "a way for the engine to pull from this machine",
    why: "`--via pull` was asked for, and needs a port forwarded to the host.",
    fix: "Leave --via pull out: `load` needs nothing but the engine's socket.",
};
/// The cgroup controllers memory, cpu, cpuset and pids.
pub const CGROUP: Rule = Rule {
    code: "cgroup",
    severity: Severity::Refuse,
    wanted: "the cgroup controllers memory, cpu, cpuset and pids",
    why: "The kubelet ends without them. Raspberry Pi OS switches the memory controller off unless it is asked for.",
    fix: "Append `cgroup_enable=memory` to the kernel's arguments, and reboot.",
};
/// Cgroup v2.
pub const LEGACY_CGROUP: Rule = Rule {
    code: "legacy-cgroup",
    severity: Severity::Note,
    wanted: "cgroup v2",
    why: "From 1.35 the kubelet runs on the legacy hierarchy only when it is told to (k3arm tells it), and later releases will not.",
    fix: "A current system has v2; `systemd.unified_cgroup_hierarchy=1` among the kernel's arguments switches to it.",
};
/// The kernel's vxlan.
pub const VXLAN: Rule = Rule {
    code: "vxlan",
    severity: Severity::Refuse,
    wanted: "the kernel's vxlan",
    why: "flannel carries the pods' packets between hosts in it. Ubuntu keeps it in a package of its own on a Pi.",
    fix: "On Ubuntu: `sudo apt install linux-modules-extra-raspi` and reboot; or set `flannel-backend: host-gw` under k3s.config where all hosts are in one network.",
};
/// The modules overlay, br_netfilter and nf_conntrack.
pub const MODULES: Rule = Rule {
    code: "modules",
    severity: Severity::Warn,
    wanted: "the modules overlay, br_netfilter and nf_conntrack",
    why: "Without overlay images are not unpacked, without the others Services are not reached.",
    fix: "Install the distribution's own kernel with all of its modules.",
};
/// An iptables without the mistakes of 1.8.0 to 1.8.4.
pub const IPTABLES: Rule = Rule {
    code: "iptables",
    severity: Severity::Warn,
    wanted: "an iptables without the mistakes of 1.8.0 to 1.8.4",
    why: "Those versions write rules that they do not find again, so that they pile up.",
    fix: "Update iptables on the host.",
};
/// One kind of iptables rules.
pub const IPTABLES_MIXED: Rule = Rule {
    code: "iptables-mixed",
    severity: Severity::Note,
    wanted: "one kind of iptables rules",
    why: "Packets pass the rules of both kinds, and a rule that drops in one is not seen in the other.",
    fix: "On the host: `sudo iptables-legacy -S` shows the rules of the old kind; what is stale can be flushed.",
};
/// Pages of 4 KiB.
pub const PAGE_SIZE: Rule = Rule {
    code: "page-size",
    severity: Severity::Warn,
    wanted: "pages of 4 KiB",
    why: "Many published arm64 programs (all with jemalloc, such as Redis) end at once where pages have 16 KiB, the Pi 5's own choice.",
    fix: "Run a kernel with pages of 4 KiB, where the system has one. On a Pi 5: put `kernel=kernel8.img` into /boot/firmware/config.txt, and reboot.",
};
/// A 64-bit system on a 64-bit processor.
pub const USERLAND: Rule = Rule {
    code: "userland",
    severity: Severity::Note,
    wanted: "a 64-bit system on a 64-bit processor",
    why: "The engine is for 32 bits, so the node is, and so must be every image: few are published for arm/v7.",
    fix: "Install the 64-bit system if your images have no arm/v7.",
};
/// More than 128 inotify instances for a user.
pub const INOTIFY: Rule = Rule {
    code: "inotify",
    severity: Severity::Warn,
    wanted: "more than 128 inotify instances for a user",
    why: "All containers of a node share them: with some 20 pods, `too many open files` is what programs say.",
    fix: "On the host: `echo fs.inotify.max_user_instances=512 | sudo tee /etc/sysctl.d/90-k3arm.conf && sudo sysctl --system`.",
};
/// Memory for k3s: 450 MiB for a server, 250 MiB for an agent.
pub const MEMORY: Rule = Rule {
    code: "memory-low",
    severity: Severity::Warn,
    wanted: "memory for k3s: 450 MiB for a server, 250 MiB for an agent",
    why: "k3s itself takes 230 MiB as a server and 60 MiB as an agent with the tightest profile; what is left is the workloads'.",
    fix: "Make this host an agent, give it a smaller job, or leave it out.",
};
/// No memory kept for huge pages on a machine of less than 1.5 GiB.
pub const HUGE_PAGES: Rule = Rule {
    code: "huge-pages",
    severity: Severity::Note,
    wanted: "no memory kept for huge pages on a machine of less than 1.5 GiB",
    why: "Where huge pages are switched on, the kernel keeps more than 20 MiB free to make some, and one small object of a program may hold 2 MiB. Debian's kernels switch them on from 512 MiB; those of Raspberry Pi OS had none up to 6.12.",
    fix: "`k3arm host prepare` switches them off where systemd and Linux 5.16 or newer are; by hand: `transparent_hugepage=never` among the kernel's arguments, and a reboot.",
};
/// A clock that is right.
pub const CLOCK: Rule = Rule {
    code: "clock",
    severity: Severity::Warn,
    wanted: "a clock that is right",
    why: "Certificates are dated by it: on a host that is a day behind none of them is valid yet, and those of a server that is an hour ahead are valid nowhere else. A Pi has no clock of its own and wakes in the past.",
    fix: "Let it reach a time server first: `sudo timedatectl set-ntp true`, then `timedatectl` shows when it is synchronised.",
};
/// A clock that a time server has set.
pub const UNSYNCHRONISED: Rule = Rule {
    code: "clock-unsynchronised",
    severity: Severity::Warn,
    wanted: "a clock that a time server has set",
    why: "It may be right now and jump when the server answers, with a cluster on it.",
    fix: "On the host: `sudo timedatectl set-ntp true`; on a network without internet, point it at a server there (/etc/systemd/timesyncd.conf).",
};
/// No swap on an SD card.
pub const SWAP_ON_CARD: Rule = Rule {
    code: "swap-on-card",
    severity: Severity::Warn,
    wanted: "no swap on an SD card",
    why: "Swapping makes a slow machine stand still, and wears the card out.",
    fix: "Raspberry Pi OS up to bookworm: `sudo dphys-swapfile swapoff && sudo systemctl disable dphys-swapfile`; from trixie on the mechanism zram in the settings of rpi-swap (`man swap.conf`), and a reboot; elsewhere `sudo swapoff -a`, and its line out of /etc/fstab. zram is swap in compressed memory.",
};
/// Enough power.
pub const POWER: Rule = Rule {
    code: "power",
    severity: Severity::Warn,
    wanted: "enough power",
    why: "The board reports that its voltage is too low or that it runs slower for it: crashes and broken cards follow.",
    fix: "Use the board's own power supply and a short cable; `vcgencmd get_throttled` should print 0x0.",
};
/// Enough power since it was switched on.
pub const POWER_BEFORE: Rule = Rule {
    code: "power-before",
    severity: Severity::Note,
    wanted: "enough power since it was switched on",
    why: "The board has reported it since the start, not now: it may come back under load.",
    fix: "Use the board's own power supply and a short cable.",
};
/// Less than 80 °C.
pub const HEAT: Rule = Rule {
    code: "heat",
    severity: Severity::Warn,
    wanted: "less than 80 °C",
    why: "A hot board slows itself down.",
    fix: "Give it a heat sink or a fan.",
};
/// The ports that a node listens on.
pub const PORTS: Rule = Rule {
    code: "port-taken",
    severity: Severity::Refuse,
    wanted: "the ports that a node listens on",
    why: "A second k3s on one host does not fail: it stays up for ever and talks to the first one.",
    fix: "`sudo ss -lntup` on the host shows who listens; stop it and run the command again.",
};
/// No firewall between the nodes.
pub const FIREWALL: Rule = Rule {
    code: "firewall",
    severity: Severity::Warn,
    wanted: "no firewall between the nodes",
    why: "ufw and firewalld drop what comes from pods, and the ports between nodes.",
    fix: "Allow TCP 6443 and 10250 and UDP 8472 between the hosts, and 10.42.0.0/16 and 10.43.0.0/16; with ufw: `sudo ufw allow from 10.42.0.0/16`, and so on.",
};
/// One engine a host.
pub const SAME_ENGINE: Rule = Rule {
    code: "same-engine",
    severity: Severity::Refuse,
    wanted: "one engine a host",
    why: "Two names that lead to one engine would be two nodes in one place.",
    fix: "Name every machine once; if the SD card was cloned, remove /var/lib/docker/engine-id and /etc/docker/key.json, what there is of them, on one, and restart Docker.",
};
/// Addresses that differ.
pub const SAME_ADDRESS: Rule = Rule {
    code: "same-address",
    severity: Severity::Refuse,
    wanted: "addresses that differ",
    why: "Nodes reach each other by address: two of one address each take themselves for the other. Virtual machines behind their host's NAT often have the same.",
    fix: "Give each one that the others reach in the cluster file: `address: 192.168.1.11`; machines behind one NAT need a network in which they see each other.",
};
/// Host names that differ.
pub const SAME_HOSTNAME: Rule = Rule {
    code: "same-hostname",
    severity: Severity::Warn,
    wanted: "host names that differ",
    why: "A node is called after its host; two of one name refuse each other.",
    fix: "Rename one (`sudo hostnamectl set-hostname pi2`), or name the nodes: `--agent NAME=HOST`, or `name:` in the cluster file.",
};
/// Clocks that agree.
pub const CLOCKS_APART: Rule = Rule {
    code: "clocks-apart",
    severity: Severity::Warn,
    wanted: "clocks that agree",
    why: "Certificates and leases made on one host are read on another: where it is an hour earlier than on the server, none of its certificates is valid yet. Logs cannot be compared.",
    fix: "Let all hosts use the same time server.",
};
/// Hosts in one network.
pub const NETWORKS: Rule = Rule {
    code: "networks",
    severity: Severity::Note,
    wanted: "hosts in one network",
    why: "vxlan works across routers, host-gw does not; a packet takes longer.",
    fix: "Nothing has to be done where the router lets UDP 8472 pass.",
};
/// Links that take packets of one size.
pub const MTU: Rule = Rule {
    code: "mtu",
    severity: Severity::Warn,
    wanted: "links that take packets of one size",
    why: "flannel sets the pods' MTU by one host's link: packets of full size from there vanish on the way to the other.",
    fix: "Set the same MTU on all hosts.",
};
/// Hosts that reach each other.
pub const UNREACHABLE: Rule = Rule {
    code: "unreachable",
    severity: Severity::Refuse,
    wanted: "hosts that reach each other",
    why: "Agents talk to the server at 6443, the server to every kubelet at 10250, and pods to pods in UDP 8472.",
    fix: "Connect the hosts to one network, and open these ports in the firewall between them.",
};
/// An answer to UDP 8472.
pub const UNANSWERED: Rule = Rule {
    code: "unanswered",
    severity: Severity::Note,
    wanted: "an answer to UDP 8472",
    why: "No answer can mean that a firewall drops it: then pods on different hosts do not reach each other.",
    fix: "Open UDP 8472 between the hosts, where there is a firewall.",
};
/// An IPv4 address.
pub const NO_ADDRESS: Rule = Rule {
    code: "no-address",
    severity: Severity::Refuse,
    wanted: "an IPv4 address",
    why: "The other hosts reach the node under it.",
    fix: "Give one in the cluster file: `address: 192.168.1.10`.",
};
/// An address that the host has.
pub const FOREIGN_ADDRESS: Rule = Rule {
    code: "foreign-address",
    severity: Severity::Refuse,
    wanted: "an address that the host has",
    why: "The kubelet takes none that is on no interface of its machine, and flannel finds no interface for it: the pods of such a node reach nobody.",
    fix: "Give one of the host's own in the cluster file, or leave `address:` out.",
};
/// A host name that can be a node's.
pub const BAD_HOSTNAME: Rule = Rule {
    code: "bad-hostname",
    severity: Severity::Refuse,
    wanted: "a host name that can be a node's",
    why: "Kubernetes takes letters, digits, `-` and `.` only.",
    fix: "Name the node: `--agent NAME=HOST`, or `name:` in the cluster file.",
};
/// Node names that differ.
pub const SAME_NAME: Rule = Rule {
    code: "same-name",
    severity: Severity::Refuse,
    wanted: "node names that differ",
    why: "The second node of a name is refused by the server.",
    fix: "Name the nodes: `--agent NAME=HOST`, or `name:` in the cluster file.",
};
/// No volumes of an earlier node.
pub const VOLUMES_LEFT: Rule = Rule {
    code: "volumes-left",
    severity: Severity::Refuse,
    wanted: "no volumes of an earlier node",
    why: "k3s would start with the data of another cluster, and end.",
    fix: "`k3arm cluster delete NAME` removes them with all data in them.",
};
/// Nodes that run as wanted.
pub const NODE_DIFFERS: Rule = Rule {
    code: "node-differs",
    severity: Severity::Refuse,
    wanted: "nodes that run as wanted",
    why: "A standing node is not changed by `create`.",
    fix: "Run the command with the settings it was made with, or `k3arm cluster delete NAME` and create it anew.",
};
/// Nodes that are not paused.
pub const NODE_PAUSED: Rule = Rule {
    code: "node-paused",
    severity: Severity::Refuse,
    wanted: "nodes that are not paused",
    why: "A paused node is not Ready, and stays so.",
    fix: "On the host: `docker unpause CONTAINER`.",
};
/// No node of an earlier cluster of this name.
pub const NODE_OF_ANOTHER: Rule = Rule {
    code: "node-of-another",
    severity: Severity::Refuse,
    wanted: "no node of an earlier cluster of this name",
    why: "Its token and its CA are others.",
    fix: "`k3arm cluster delete NAME` removes what is left of it.",
};
/// No flag that k3arm sets itself.
pub const OWNED_FLAG: Rule = Rule {
    code: "owned-flag",
    severity: Severity::Refuse,
    wanted: "no flag that k3arm sets itself",
    why: "The cluster would be another than k3arm says.",
    fix: "Remove it from k3s.config.",
};
/// Flags that k3s knows.
pub const UNKNOWN_FLAG: Rule = Rule {
    code: "unknown-flag",
    severity: Severity::Warn,
    wanted: "flags that k3s knows",
    why: "A server skips one that it does not know, with a warning in a log that nobody reads.",
    fix: "`k3s server --help` lists the flags.",
};
/// What the memory profile leaves out.
pub const PROFILE: Rule = Rule {
    code: "profile",
    severity: Severity::Note,
    wanted: "what the memory profile leaves out",
    why: "A machine of a gigabyte has no room for all parts of k3s.",
    fix: "`--profile standard` (or full) starts all parts of k3s.",
};
/// The list of the release's images.
pub const IMAGES_UNKNOWN: Rule = Rule {
    code: "images-unknown",
    severity: Severity::Warn,
    wanted: "the list of the release's images",
    why: "Without it nothing can be placed ahead, and nodes pull from the internet themselves.",
    fix: "Let this machine reach github.com, or name the images under images: in the cluster file.",
};
/// The list of this very release's images.
pub const IMAGES_OF_ANOTHER: Rule = Rule {
    code: "images-of-another-release",
    severity: Severity::Warn,
    wanted: "the list of this very release's images",
    why: "Where lists differ, nodes need the internet.",
    fix: "Let this machine reach github.com, or name the images under images: in the cluster file.",
};
/// Flags that name images.
pub const IMAGE_FLAG: Rule = Rule {
    code: "image-flag",
    severity: Severity::Refuse,
    wanted: "flags that name images",
    why: "k3s would ask for an image that does not exist.",
    fix: "Correct the flag: registry.lan:5000 is a registry, registry.lan:5000/me/pause:3.10 an image.",
};
/// Images that belong to no known part.
pub const UNKNOWN_IMAGES: Rule = Rule {
    code: "unknown-images",
    severity: Severity::Note,
    wanted: "images that belong to no known part",
    why: "This profile has no parts besides DNS, so they are left out.",
    fix: "If the cluster needs them, name them under images: in the cluster file.",
};
/// The pause image.
pub const NO_PAUSE: Rule = Rule {
    code: "no-pause-image",
    severity: Severity::Warn,
    wanted: "the pause image",
    why: "Without it no pod starts.",
    fix: "Name it under images: in the cluster file, or let the nodes reach the internet.",
};

/// All rules, under headings.
pub const GROUPS: [(&str, &[&Rule]); 5] = [
    (
        "Hosts: the engine",
        &[
            &PLATFORM,
            &ENGINE_MISSING,
            &ENGINE_DENIED,
            &ROOTLESS,
            &ENGINE_OLD,
            &ENGINE_SNAP,
            &ENGINE_AT_BOOT,
            &STORAGE_DRIVER,
            &FILESYSTEM,
            &DISK_LOW,
            &DISK_FULL,
            &CARD,
            &FORWARDING,
            &NO_PULL,
        ],
    ),
    (
        "Hosts: the kernel",
        &[&CGROUP, &LEGACY_CGROUP, &VXLAN, &MODULES, &IPTABLES, &IPTABLES_MIXED, &PAGE_SIZE, &USERLAND, &INOTIFY],
    ),
    (
        "Hosts: the machine",
        &[
            &MEMORY,
            &HUGE_PAGES,
            &CLOCK,
            &UNSYNCHRONISED,
            &SWAP_ON_CARD,
            &POWER,
            &POWER_BEFORE,
            &HEAT,
            &PORTS,
            &FIREWALL,
        ],
    ),
    (
        "Hosts together",
        &[&SAME_ENGINE, &SAME_ADDRESS, &SAME_HOSTNAME, &CLOCKS_APART, &NETWORKS, &MTU, &UNREACHABLE, &UNANSWERED],
    ),
    (
        "A cluster on its hosts",
        &[
            &NO_ADDRESS,
            &FOREIGN_ADDRESS,
            &BAD_HOSTNAME,
            &SAME_NAME,
            &VOLUMES_LEFT,
            &NODE_DIFFERS,
            &NODE_PAUSED,
            &NODE_OF_ANOTHER,
            &OWNED_FLAG,
            &UNKNOWN_FLAG,
            &PROFILE,
            &IMAGES_UNKNOWN,
            &IMAGES_OF_ANOTHER,
            &IMAGE_FLAG,
            &UNKNOWN_IMAGES,
            &NO_PAUSE,
        ],
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rule_is_listed_once() {
        let codes: BTreeSet<&str> = Rule::all().map(|rule| rule.code).collect();
        let written = include_str!("rules.rs").matches(": Rule = Rule {").count() - 1;
        assert_eq!((codes.len(), Rule::all().count()), (written, written));
        assert!(codes.iter().all(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
        assert_eq!(Rule::of("clock"), Some(&CLOCK));
    }
}
