//! What is known of a host: read from it once, before anything is planned.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;

use super::{Board, DiskFacts, Finding, HostName, System, rules};
use crate::oci::{Digest, Platform};

/// Everything that planning may use of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Kernel, memory, network, clock.
    pub machine: MachineFacts,
    /// Docker.
    pub engine: EngineFacts,
    /// k3arm's own node containers, whatever cluster they belong to.
    pub nodes: Vec<NodeFacts>,
    /// Containers that only keep images for a node that is not made yet.
    pub holders: Vec<HolderFacts>,
    /// Names of volumes that carry k3arm's labels or names, with their labels.
    pub volumes: BTreeMap<String, BTreeMap<String, String>>,
    /// For each image asked about that the engine holds, by its canonical `registry/repository:tag` name: its ID there.
    pub images: BTreeMap<String, Digest>,
    /// Chain IDs of all layers that the engine holds, of whatever image; empty until it was asked.
    pub layers: BTreeSet<Digest>,
    /// Whether the host's sshd lets a port of ours appear on its loopback; `None` until it was asked.
    pub can_reverse: Option<bool>,
}

/// What one shell script on the host printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineFacts {
    /// `uname -n`, lower case.
    pub hostname: String,
    /// `uname -m` as printed: `aarch64`, `armv7l`, `x86_64`.
    pub kernel_arch: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// Bytes of memory that this host may use: MemTotal, or the limit of its own cgroup where that is less.
    pub memory_total: u64,
    /// Bytes, MemAvailable.
    pub memory_available: u64,
    /// Bytes that the kernel keeps free where huge pages are switched on, so that some can be made; not known of a container's.
    pub kept_for_huge_pages: Option<u64>,
    /// Which cgroup hierarchy.
    pub cgroup: CgroupVersion,
    /// Controllers that are there: `cpu`, `memory`, …; empty if it could not be read.
    pub controllers: Vec<String>,
    /// Seconds since 1970 by the host's clock, less ours.
    pub clock_offset: i64,
    /// The address under which the other hosts reach it, and its interface.
    pub address: Option<IpAddr>,
    /// The interface that has [`Self::address`].
    pub interface: Option<String>,
    /// Bits of the network's part of [`Self::address`].
    pub prefix: Option<u8>,
    /// Bytes of the largest packet that [`Self::interface`] takes.
    pub mtu: Option<u32>,
    /// All of its IPv4 addresses, and the interface of each.
    pub addresses: BTreeMap<Ipv4Addr, String>,
    /// Listening TCP and UDP sockets on ports that k3s needs.
    pub listeners: Vec<Listener>,
    /// The board.
    pub board: Board,
    /// The operating system.
    pub system: System,
    /// Command lines of running k3s programs that are not in a container of ours (first word and sub-command only).
    pub k3s_processes: Vec<String>,
}

/// Where a machine is in its network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Link {
    pub(super) address: Option<Ipv4Addr>,
    pub(super) interface: Option<String>,
    pub(super) prefix: Option<u8>,
    pub(super) mtu: Option<u32>,
}

/// A socket that listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Listener {
    /// The port.
    pub port: u16,
    /// UDP rather than TCP.
    pub udp: bool,
}

/// The cgroup hierarchy of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum CgroupVersion {
    /// Legacy or hybrid.
    #[serde(rename = "v1")]
    V1,
    /// Unified.
    #[serde(rename = "v2")]
    V2,
}

/// What stands where the engine's socket should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineSocket {
    /// The path can be connected to.
    Ready(String),
    /// There is a socket, but this user may not write to it.
    Denied {
        /// Its path.
        path: String,
        /// Who asked.
        user: String,
    },
    /// There is none.
    Missing {
        /// Where it was looked for.
        path: String,
    },
}

impl EngineSocket {
    /// Its path.
    ///
    /// # Errors
    /// The finding, where it cannot be used.
    pub fn usable(&self, host: &HostName) -> Result<&str, Box<Finding>> {
        match self {
            Self::Ready(path) => Ok(path),
            Self::Denied { path, user } => {
                let seen = format!("user {user} may not use Docker: {path} is not writable for it");
                let hint = format!(
                    "on the host: `sudo usermod -aG docker {user}`, then run this again (a new login picks the group up)"
                );
                Err(Box::new(rules::ENGINE_DENIED.on(host, seen).with_hint(hint)))
            }
            Self::Missing { path } => {
                Err(Box::new(rules::ENGINE_MISSING.on(host, format!("no Docker engine: there is no socket {path}"))))
            }
        }
    }
}

/// What the engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EngineFacts {
    /// `26.1.5`.
    pub version: String,
    /// Highest API version it speaks, `1.45`.
    pub api_version: String,
    /// `linux`.
    pub os: String,
    /// As the daemon prints it: `amd64`, `aarch64`, `armv7l`, `arm`.
    pub arch: String,
    /// Which image store.
    pub store: ImageStore,
    /// `overlay2`.
    pub storage_driver: String,
    /// DockerRootDir.
    pub root_dir: String,
    /// Where `root_dir` is.
    pub disk: DiskFacts,
    /// Where images are, if on another disk: a containerd of the system's keeps them in a place of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<ImagePlace>,
    /// Rootless engines cannot run nodes.
    pub rootless: bool,
    /// Its unique ID, to notice that two names are one engine.
    pub id: String,
}

/// A folder for images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImagePlace {
    /// Its path.
    pub dir: String,
    /// Where that is.
    pub disk: DiskFacts,
}

impl EngineFacts {
    /// Where images go that the engine itself is given: the folder and its disk.
    pub fn images_at(&self) -> (&str, &DiskFacts) {
        self.images.as_ref().map_or((&self.root_dir, &self.disk), |images| (&images.dir, &images.disk))
    }

    /// The folders that it writes to.
    pub fn places(&self) -> impl Iterator<Item = (&str, &DiskFacts)> {
        let elsewhere = self.images.as_ref().map(|images| (images.dir.as_str(), &images.disk));
        [(self.root_dir.as_str(), &self.disk)].into_iter().chain(elsewhere)
    }
}

/// Docker's two image stores, which give images different IDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageStore {
    /// Graph drivers: an image's ID is the digest of its config.
    Classic,
    /// containerd's content store: an image's ID is the digest of the index (or manifest) it was pulled by.
    Containerd,
}

/// A node container that k3arm made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeFacts {
    /// The container's ID.
    pub id: String,
    /// Its name, without a leading slash.
    pub name: String,
    /// All of its labels.
    pub labels: BTreeMap<String, String>,
    /// Created, running, ended.
    pub state: NodeState,
    /// The image's ID.
    pub image: String,
    /// Names of its volumes.
    pub volumes: Vec<String>,
}

/// A container that is never started and keeps a volume with a node's images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HolderFacts {
    /// The container's ID.
    pub id: String,
    /// Its name, without a leading slash.
    pub name: String,
    /// All of its labels.
    pub labels: BTreeMap<String, String>,
    /// Names of its volumes.
    pub volumes: Vec<String>,
}

/// What a node container is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Never started: an earlier run was cut before it was complete.
    Created,
    /// Runs, or is being restarted by the engine.
    Running,
    /// Ended with this exit code.
    Exited(i64),
    /// Another state of the engine, as it names it.
    Other(String),
}

/// Why a host can get no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the engine runs on {os}/{arch} ({kernel}), for which there is no k3s: {why}")]
pub struct Unsupported {
    os: String,
    arch: String,
    kernel: String,
    why: &'static str,
}

impl Facts {
    /// The platform whose image this host's engine needs.
    ///
    /// The daemon's architecture decides, not the kernel's: a 32-bit userland on a 64-bit kernel runs 32-bit
    /// images. There the daemon calls itself `arm` and would ask for `arm/v8`, which no index has: it gets `arm/v7`.
    ///
    /// # Errors
    /// [`Unsupported`] for ARMv6 (Pi 1 and Zero), for which k3s was never built, and for systems other than Linux.
    pub fn platform(&self) -> Result<Platform, Unsupported> {
        let refuse = |why| {
            Err(Unsupported {
                os: self.engine.os.clone(),
                arch: self.engine.arch.clone(),
                kernel: self.machine.kernel_arch.clone(),
                why,
            })
        };
        if self.engine.os != "linux" {
            return refuse("an engine in Linux mode is needed");
        }
        match (self.engine.arch.as_str(), self.machine.kernel_arch.as_str()) {
            ("x86_64" | "amd64", _) => Ok(Platform::new("linux", "amd64", None)),
            ("aarch64" | "arm64", _) => Ok(Platform::new("linux", "arm64", None)),
            ("armv6l" | "armel", _) | ("arm", "armv6l") => {
                refuse("an ARMv6 board (Pi 1, Pi Zero) cannot run it, a Pi 2 or newer can")
            }
            ("armv7l" | "armv8l" | "armhf" | "arm", _) => Ok(Platform::new("linux", "arm", Some("v7"))),
            _ => refuse("only amd64, arm64 and arm/v7 are published"),
        }
    }
}
