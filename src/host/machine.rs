//! A machine's own words about itself: the script that asks, and the strict reading of what it prints.
//!
//! What planning needs must be there; what is only good to know is not known where it cannot be read.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::time::{SystemTime, UNIX_EPOCH};

use super::said::{ParseError, Said, strange};
use super::{Board, CgroupVersion, EngineSocket, Link, Listener, MachineFacts, System};

/// The line after which the script's own output begins; start-up files of the login may print before.
const BEGIN: &str = "k3arm-machine-1";

/// Interfaces that are for a machine's own containers, besides the `br-` and 12 digits of Docker's networks.
const FOR_CONTAINERS: &[&str] = &["docker", "cni", "flannel", "veth", "kube"];
/// Interfaces that are for a machine's own virtual machines.
const FOR_MACHINES: &[&str] = &["virbr", "lxc"];

/// The script for the host's `sh`; it reads, changes nothing, and works as any user.
pub fn machine_script() -> &'static str {
    include_str!("probe.sh")
}

/// Reads what [`machine_script`] printed; `ours` is our clock when it was asked, and when the answer was there.
///
/// # Errors
/// [`ParseError`] for output that was cut, lacks what every Linux has, or was not printed by the script.
pub fn parse_machine(
    output: &str,
    ours: RangeInclusive<SystemTime>,
) -> Result<(MachineFacts, EngineSocket), ParseError> {
    let said = Said::read(BEGIN, output)?;
    let kib = |key| said.get(key).map(|_| said.number(key)?.checked_mul(1024).ok_or_else(|| said.strange(key)));
    let total = kib("total_kib").ok_or(ParseError::Missing("memory"))??;
    let free = kib("available_kib").or_else(|| kib("free_kib")).ok_or(ParseError::Missing("free memory"))??;
    let limit = said.all("limit").filter_map(|value| limit(value).transpose()).try_fold(u64::MAX, least)?;
    let links: Vec<Link> = said.all("address").filter_map(interface_address).collect();
    let link = said.link(&links);
    let machine = MachineFacts {
        hostname: said.text("hostname").ok_or(ParseError::Missing("host name"))?.to_ascii_lowercase(),
        kernel_arch: said.word("arch")?.into(),
        kernel_release: said.word("kernel")?.into(),
        memory_total: total.min(limit),
        memory_available: free.min(limit),
        kept_for_huge_pages: said
            .kept_for_huge_pages()
            .filter(|kept| total <= limit && *kept <= total / MOST_FOR_HUGE_PAGES),
        cgroup: said.cgroup()?,
        controllers: said.controllers()?,
        clock_offset: said.clock_offset(&ours)?,
        address: link.address.map(IpAddr::V4),
        interface: link.interface,
        prefix: link.prefix,
        mtu: link.mtu,
        // Of an address on two interfaces the first one counts, as for the machine's own.
        addresses: links.into_iter().rev().filter_map(|link| Some((link.address?, link.interface?))).collect(),
        listeners: said.all("listener").map(listener).collect::<Result<BTreeSet<_>, _>>()?.into_iter().collect(),
        board: Board::said(&said),
        system: System::said(&said),
        k3s_processes: said.all("k3s").map(process).collect::<Result<BTreeSet<_>, _>>()?.into_iter().collect(),
    };
    Ok((machine, said.socket()?))
}

/// A machine with less is a small one: what its kernel keeps for huge pages is missed there.
const SMALL_MACHINE: u64 = 1536 << 20;
/// What a kernel keeps for huge pages is at least this; less was set by somebody, for another reason.
const LEAST_FOR_HUGE_PAGES: u64 = 20 << 20;
/// It is a 20th of the memory at most: more is kept by the machine around a container.
const MOST_FOR_HUGE_PAGES: u64 = 20;
/// From then on a kernel gives back what it kept for huge pages, when they are switched off.
const GIVES_BACK: (u32, u32) = (5, 16);

impl MachineFacts {
    /// What is kept free for huge pages on a machine that is too small for it, bytes.
    pub fn misses_for_huge_pages(&self) -> Option<u64> {
        self.kept_for_huge_pages.filter(|kept| *kept >= LEAST_FOR_HUGE_PAGES && self.memory_total < SMALL_MACHINE)
    }

    /// Huge pages can be switched off here while it runs, and stay off.
    pub fn can_drop_huge_pages(&self) -> bool {
        let mut numbers =
            self.kernel_release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
        let version = numbers.next().zip(numbers.next());
        self.system.has_tmpfiles && version.is_some_and(|version| version >= GIVES_BACK)
    }

    /// Its kernel keeps no account of memory.
    pub fn lacks_memory_controller(&self) -> bool {
        !self.controllers.is_empty() && self.controllers.iter().all(|name| name != "memory")
    }

    /// Takes the k3s processes in these containers (full IDs) off the list: they are ours.
    pub fn forget_k3s_in<'a>(&mut self, containers: impl IntoIterator<Item = &'a str>) {
        let ours: Vec<&str> = containers.into_iter().filter_map(|id| id.get(..12)).collect();
        self.k3s_processes.retain(|process| !ours.iter().any(|id| process.ends_with(&format!("(container {id})"))));
    }
}

impl Said<'_> {
    fn cgroup(&self) -> Result<CgroupVersion, ParseError> {
        match self.get("cgroup") {
            Some("v1") => Ok(CgroupVersion::V1),
            Some("v2") => Ok(CgroupVersion::V2),
            Some(_) => Err(self.strange("cgroup")),
            None => Err(ParseError::Missing("cgroup")),
        }
    }

    /// `[always] madvise never`, or `madvise` chosen: the kernel is ready for them. Other kernels know no such thing.
    fn kept_for_huge_pages(&self) -> Option<u64> {
        let is_on =
            self.get("huge_pages").is_some_and(|modes| modes.contains("[always]") || modes.contains("[madvise]"));
        self.known::<u64>("kept_kib").filter(|_| is_on)?.checked_mul(1024)
    }

    fn controllers(&self) -> Result<Vec<String>, ParseError> {
        let names: BTreeSet<&str> = self.all("controllers").flat_map(str::split_whitespace).collect();
        let plain = |name: &&str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        match names.iter().find(|name| !plain(name)) {
            Some(name) => Err(strange(name)),
            None => Ok(names.into_iter().map(String::from).collect()),
        }
    }

    /// Whole seconds, 0 for any moment between asking and the answer: a busy machine takes its time.
    fn clock_offset(&self, ours: &RangeInclusive<SystemTime>) -> Result<i64, ParseError> {
        let milliseconds =
            |time: &SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i128);
        // The script cuts its time to whole seconds.
        let earliest = i128::from(self.number("time")?) * 1000;
        let latest = earliest + 999;
        let [asked, answered] = [milliseconds(ours.start()), milliseconds(ours.end())];
        let offset = if latest < asked { latest - asked } else { (earliest - answered).max(0) };
        i64::try_from(offset / 1000).map_err(|_| self.strange("time"))
    }

    /// The address SSH came in on, if it is the machine's own and not one for its containers; else that of the default route; else the first.
    fn link(&self, own: &[Link]) -> Link {
        let on = |wanted: Ipv4Addr| own.iter().find(|link| link.address == Some(wanted));
        let parse = |key| self.get(key).and_then(|text| text.parse::<Ipv4Addr>().ok());
        // Without `ip` on the host nothing can be compared.
        let came_in = parse("ssh_address").filter(|address| !address.is_loopback());
        if own.is_empty() {
            return Link { address: came_in, ..Link::default() };
        }
        let name = |link: &Link| link.interface.clone().unwrap_or_default();
        let is_outer = |link: &&Link| {
            let name = name(link);
            !is_for_containers(&name) && !FOR_MACHINES.iter().any(|inner| name.starts_with(inner))
        };
        let came_in = came_in.and_then(on).filter(|link| !is_for_containers(&name(link)));
        let found = came_in.or_else(|| parse("route_address").and_then(on));
        found.or_else(|| own.iter().find(is_outer)).cloned().unwrap_or_default()
    }

    fn socket(&self) -> Result<EngineSocket, ParseError> {
        let value = self.get("socket").ok_or(ParseError::Missing("engine's socket"))?;
        let (state, path) = value.split_once(' ').ok_or_else(|| self.strange("socket"))?;
        let path = Some(path).filter(|path| path.starts_with('/')).ok_or_else(|| self.strange("socket"))?.to_string();
        match state {
            "ready" => Ok(EngineSocket::Ready(path)),
            "denied" => Ok(EngineSocket::Denied { path, user: self.get("user").unwrap_or("this user").into() }),
            "missing" => Ok(EngineSocket::Missing { path }),
            _ => Err(self.strange("socket")),
        }
    }
}

fn is_for_containers(interface: &str) -> bool {
    let number = interface.strip_prefix("br-").unwrap_or_default();
    let is_docker_network = number.len() == 12 && number.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_docker_network || FOR_CONTAINERS.iter().any(|inner| interface.starts_with(inner))
}

fn least(so_far: u64, next: Result<u64, ParseError>) -> Result<u64, ParseError> {
    next.map(|next| so_far.min(next))
}

/// A cgroup's limit; `max` (v2), the page-rounded 2^63 (v1) and 0 are none.
fn limit(value: &str) -> Result<Option<u64>, ParseError> {
    match value {
        "max" => Ok(None),
        number => match number.parse::<u64>() {
            Ok(limit) => Ok(Some(limit).filter(|limit| *limit > 0)),
            Err(_) => Err(strange(number)),
        },
    }
}

/// `eth0 10.0.0.11/24 1500`, of which the last two may be missing; a VLAN or veth is printed as `eth0.5@eth0`.
fn interface_address(value: &str) -> Option<Link> {
    let mut words = value.split(' ');
    let (name, address) = (words.next()?, words.next()?);
    let name = name.split('@').next().unwrap_or(name);
    let (address, prefix) =
        address.split_once('/').map_or((address, None), |(address, prefix)| (address, Some(prefix)));
    let plain = |c: char| c.is_ascii_graphic() && c != '/';
    if name.is_empty() || name.len() > 15 || !name.chars().all(plain) {
        return None;
    }
    Some(Link {
        address: Some(address.parse().ok()?),
        interface: Some(name.into()),
        prefix: prefix.and_then(|prefix| prefix.parse().ok()).filter(|prefix| *prefix <= 32),
        mtu: words.next().and_then(|mtu| mtu.parse().ok()),
    })
}

/// `tcp 192B`.
fn listener(value: &str) -> Result<Listener, ParseError> {
    let (protocol, port) = value.split_once(' ').ok_or_else(|| strange(value))?;
    let port = u16::from_str_radix(port, 16).map_err(|_| strange(value))?;
    match protocol {
        "tcp" => Ok(Listener { port, udp: false }),
        "udp" => Ok(Listener { port, udp: true }),
        _ => Err(strange(value)),
    }
}

/// `server` or `server CONTAINER`.
fn process(value: &str) -> Result<String, ParseError> {
    let (role, container) = value.split_once(' ').unwrap_or((value, ""));
    if !matches!(role, "server" | "agent") || !container.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(strange(value));
    }
    Ok(match container.get(..12) {
        Some(id) => format!("k3s {role} (container {id})"),
        None => format!("k3s {role}"),
    })
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
