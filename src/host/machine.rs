//! A machine's own words about itself: the script that asks, and the strict reading of what it prints.
//!
//! The output comes from a host and is taken for hostile: bounded, every value checked, an error and never a panic.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{CgroupVersion, EngineSocket, Listener, MachineFacts};

/// The line after which the script's own output begins; start-up files of the login may print before.
const BEGIN: &str = "k3arm-machine-1";

/// More than any machine has to say.
const MAX_LINES: usize = 4096;

/// A longer value is nonsense.
const MAX_VALUE: usize = 512;

/// Interfaces that the other hosts do not see.
const INNER: &[&str] = &["docker", "br-", "cni", "flannel", "veth", "virbr", "kube", "lxc"];

/// Why the script's output is not what the script prints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The first or the last line is missing.
    #[error("the host's answer was cut: {0} is missing")]
    Cut(&'static str),
    /// Something that must be there is not.
    #[error("the host did not say its {0}")]
    Missing(&'static str),
    /// A line or a value that the script does not print.
    #[error("the host's answer has an impossible line {0:?}")]
    Strange(String),
    /// More lines than a machine has to say.
    #[error("the host's answer has more than {MAX_LINES} lines")]
    TooLong,
}

/// The script for the host's `sh`; it reads, changes nothing, and works as any user.
pub fn machine_script() -> &'static str {
    include_str!("probe.sh")
}

/// A script that prints the free bytes where `path` is, for [`parse_disk`].
pub fn disk_script(path: &str) -> String {
    format!("df -Pk -- '{}' 2>/dev/null; echo end", path.replace('\'', r"'\''"))
}

/// Reads what [`machine_script`] printed; `ours` is our clock half-way between asking and the answer.
///
/// # Errors
/// [`ParseError`] for output that was cut, lacks what every Linux has, or was not printed by the script.
pub fn parse_machine(output: &str, ours: SystemTime) -> Result<(MachineFacts, EngineSocket), ParseError> {
    let said = Said::read(output)?;
    let kib = |key| said.get(key).map(|_| said.number(key)?.checked_mul(1024).ok_or_else(|| said.strange(key)));
    let total = kib("total_kib").ok_or(ParseError::Missing("memory"))??;
    let free = kib("available_kib").or_else(|| kib("free_kib")).ok_or(ParseError::Missing("free memory"))??;
    let limit = said.all("limit").filter_map(|value| limit(value).transpose()).try_fold(u64::MAX, least)?;
    let (address, interface) = said.address()?;
    let machine = MachineFacts {
        hostname: said.word("hostname")?.to_ascii_lowercase(),
        kernel_arch: said.word("arch")?.into(),
        kernel_release: said.word("kernel")?.into(),
        memory_total: total.min(limit),
        memory_available: free.min(limit),
        cgroup: said.cgroup()?,
        controllers: said.controllers()?,
        clock_offset: said.clock_offset(ours)?,
        address: address.map(IpAddr::V4),
        interface,
        listeners: said.all("listener").map(listener).collect::<Result<BTreeSet<_>, _>>()?.into_iter().collect(),
        k3s_processes: said.all("k3s").map(process).collect::<Result<BTreeSet<_>, _>>()?.into_iter().collect(),
    };
    Ok((machine, said.socket()?))
}

/// Reads what [`disk_script`] printed: bytes free for its user, `None` if there is no such place.
///
/// # Errors
/// [`ParseError`] for output that was cut or that is not `df`'s.
pub fn parse_disk(output: &str) -> Result<Option<u64>, ParseError> {
    let lines: Vec<&str> = output.lines().rev().take(2).collect();
    let [last, rest @ ..] = &lines[..] else { return Err(ParseError::Cut("the end")) };
    if *last != "end" {
        return Err(ParseError::Cut("the end"));
    }
    let Some(line) = rest.first() else { return Ok(None) };
    // Filesystem, size, used, available, capacity, mount point; the first and the last may hold spaces.
    let words: Vec<&str> = line.split_whitespace().collect();
    let percent = words.iter().position(|word| word.ends_with('%') || *word == "-");
    let available = percent.and_then(|at| at.checked_sub(1)).and_then(|at| words[at].parse::<u64>().ok());
    let bytes = available.and_then(|kib| kib.checked_mul(1024));
    bytes.map(Some).ok_or_else(|| strange(line))
}

impl MachineFacts {
    /// Takes the k3s processes in these containers (full IDs) off the list: they are ours.
    pub fn forget_k3s_in<'a>(&mut self, containers: impl IntoIterator<Item = &'a str>) {
        let ours: Vec<&str> = containers.into_iter().filter_map(|id| id.get(..12)).collect();
        self.k3s_processes.retain(|process| !ours.iter().any(|id| process.ends_with(&format!("(container {id})"))));
    }
}

/// The script's lines by key.
struct Said<'a>(BTreeMap<&'a str, Vec<&'a str>>);

impl<'a> Said<'a> {
    fn read(output: &'a str) -> Result<Self, ParseError> {
        let mut lines = output.lines().skip_while(|line| *line != BEGIN);
        lines.next().ok_or(ParseError::Cut("its beginning"))?;
        let mut said: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (count, line) in lines.enumerate() {
            if line == "end" {
                return Ok(Self(said));
            }
            if count >= MAX_LINES {
                return Err(ParseError::TooLong);
            }
            let (key, value) = line.split_once('=').ok_or_else(|| strange(line))?;
            if value.len() > MAX_VALUE || value.chars().any(char::is_control) {
                return Err(strange(line));
            }
            said.entry(key).or_default().push(value);
        }
        Err(ParseError::Cut("its end"))
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).and_then(|values| values.first().copied())
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.0.get(key).into_iter().flatten().copied()
    }

    fn strange(&self, key: &str) -> ParseError {
        strange(&format!("{key}={}", self.get(key).unwrap_or_default()))
    }

    fn number(&self, key: &'static str) -> Result<u64, ParseError> {
        let value = self.get(key).ok_or(ParseError::Missing(key))?;
        value.parse().map_err(|_| self.strange(key))
    }

    /// A value that is one plain word.
    fn word(&self, key: &'static str) -> Result<&'a str, ParseError> {
        let value = self.get(key).ok_or(ParseError::Missing(key))?;
        let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "._+~-".contains(c));
        if plain && !value.is_empty() { Ok(value) } else { Err(self.strange(key)) }
    }

    fn cgroup(&self) -> Result<CgroupVersion, ParseError> {
        match self.get("cgroup") {
            Some("v1") => Ok(CgroupVersion::V1),
            Some("v2") => Ok(CgroupVersion::V2),
            Some(_) => Err(self.strange("cgroup")),
            None => Err(ParseError::Missing("cgroup")),
        }
    }

    fn controllers(&self) -> Result<Vec<String>, ParseError> {
        let names: BTreeSet<&str> = self.all("controllers").flat_map(str::split_whitespace).collect();
        let plain = |name: &&str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        match names.iter().find(|name| !plain(name)) {
            Some(name) => Err(strange(name)),
            None => Ok(names.into_iter().map(String::from).collect()),
        }
    }

    fn clock_offset(&self, ours: SystemTime) -> Result<i64, ParseError> {
        let theirs = i64::try_from(self.number("time")?).map_err(|_| self.strange("time"))?;
        // The script prints whole seconds, cut: half a second is the fair guess for the rest.
        let ours = ours.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let offset = i128::from(theirs) * 1000 + 500 - i128::try_from(ours).unwrap_or(i128::MAX);
        i64::try_from(offset / 1000).map_err(|_| self.strange("time"))
    }

    /// The address SSH came in on, if it is the machine's own; else that of the default route; else the first.
    fn address(&self) -> Result<(Option<Ipv4Addr>, Option<String>), ParseError> {
        let own = self.all("address").map(interface_address).collect::<Result<Vec<_>, _>>()?;
        let on = |wanted: Ipv4Addr| own.iter().find(|(_, address)| *address == wanted);
        let parse = |key| self.get(key).and_then(|text| text.parse::<Ipv4Addr>().ok());
        // Without `ip` on the host nothing can be compared.
        let came_in = parse("ssh_address").filter(|address| !address.is_loopback());
        if let Some(address) = came_in.filter(|_| own.is_empty()) {
            return Ok((Some(address), None));
        }
        let outer = |(name, _): &&(&str, Ipv4Addr)| !INNER.iter().any(|inner| name.starts_with(inner));
        let found = came_in.and_then(on).or_else(|| parse("route_address").and_then(on));
        let found = found.or_else(|| own.iter().find(outer));
        Ok((found.map(|(_, address)| *address), found.map(|(name, _)| name.to_string())))
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

fn strange(line: &str) -> ParseError {
    ParseError::Strange(line.chars().take(120).collect())
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

/// `eth0 10.0.0.11`; a VLAN or veth is printed as `eth0.5@eth0`.
fn interface_address(value: &str) -> Result<(&str, Ipv4Addr), ParseError> {
    let (name, address) = value.split_once(' ').ok_or_else(|| strange(value))?;
    let name = name.split('@').next().unwrap_or(name);
    let address = address.parse().map_err(|_| strange(value))?;
    let plain = |c: char| c.is_ascii_graphic() && c != '/';
    if name.is_empty() || name.len() > 15 || !name.chars().all(plain) {
        Err(strange(value))
    } else {
        Ok((name, address))
    }
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
