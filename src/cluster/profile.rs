//! How much of k3s a machine gets: the packaged parts and the garbage collector's settings.
//!
//! The figures behind the choices are anonymous MiB of k3s 1.36.3 with SQLite.
//!
//! On amd64, some minutes after the start, without pods: all parts and Go's defaults 380, no parts 348, and then with `GOGC` 50: 259,
//! 25: 222, 20: 217; processor time is 3 to 4 % of a core in all of them. On top of 25, each of these gave 0 to 7, which is what
//! runs differ by, so none is set: no priority and fairness, no egress selector, no watch cache, rarer housekeeping. What lives on the
//! heap after a collection is 123 to 128 MB, of it 27 are OpenAPI; the one controller that can be spared keeps 4 to 6. A `GOMEMLIMIT`
//! of 200 MiB gave 9; one of 175 MiB, near what lives on the heap, took 87 % of a core. So there is one on the smallest machines only,
//! as a ceiling well above that, where the kernel would kill k3s otherwise.
//!
//! On emulated arm64 machines, with CoreDNS and one small pod, of 1 GiB: k3s' defaults 444, and 472 to 505 with 287 left for workloads
//! where metrics-server and local-path-provisioner run too (Traefik did not). `small` 281 with 508 left, and without huge pages 253 to
//! 263 with 526 left, and 245 with 616 where the kernel has none at all; a `GOMEMLIMIT` of 240 MiB changes nothing there. `tiny` of 512
//! MiB: 248 with 128 left at `GOGC` 25; 228 with 147 left at 15 and without the spared controller; 226 to 230 with 148 left with small
//! stacks, too (238 with 137 left at 25), and 222 to 226 with 150 to 153 left with one arena. Huge pages do not count there: a kernel
//! gives none below 512 MiB. No watch cache took 7 more, not less. An agent of 512 MiB with `tiny` and a small pod: 56 with 321 left; k3s
//! itself holds 28 of it, its containerd 24, the shim 5. With all parts and their pods, `standard` 382 and k3s' defaults 486 on 2 GiB.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Release, Role};

/// A memory profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// By the memory of the host.
    #[default]
    Auto,
    /// For 512 MiB: as `small`, with a ceiling for the heap.
    Tiny,
    /// For 1 GiB: DNS only.
    Small,
    /// For 2 GiB: all parts, a tighter heap.
    Standard,
    /// k3s' own defaults.
    Full,
}

const MIB: u64 = 1 << 20;

/// No huge pages for the heap, where the kernel gives them unasked, as Debian's does from 512 MiB on: one small object keeps 2 MiB.
const SMALL_PAGES: &str = "disablethp=1";

/// New goroutines start with 2 KiB of stack, and not with what others needed: of a server's five thousand most wait for good.
const SMALL_STACKS: &str = "adaptivestackstart=0";

/// SQLite's memory in one place and not in one for each thread, where k3s was built with glibc; musl knows no such places.
const ONE_ARENA: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

/// Parts of k3s that `small` and `tiny` leave out.
const LEFT_OUT: [&str; 4] = ["traefik", "servicelb", "metrics-server", "local-storage"];

impl Profile {
    /// The profile for a machine with this many bytes of memory; all but [`Profile::Auto`] are themselves.
    pub fn for_memory(self, bytes: u64) -> Self {
        match self {
            Self::Auto if bytes < 768 * MIB => Self::Tiny,
            Self::Auto if bytes < 1536 * MIB => Self::Small,
            Self::Auto if bytes < 3072 * MIB => Self::Standard,
            Self::Auto => Self::Full,
            chosen => chosen,
        }
    }

    /// For k3s, the containerd it starts and its shims: the pages of Go's heap, how hard the garbage collector works, and from where on
    /// it does all it can. `limit` is how many bytes of memory the node may have, where it is given a limit.
    pub fn environment(self, limit: Option<u64>) -> BTreeMap<String, String> {
        // Below a lower limit than usual the kernel must not be the first to notice.
        let ceiling = format!("{}MiB", limit.map_or(280, |limit| (limit / 8 * 5 / MIB).min(280)));
        let variables: &[(&str, &str)] = match self {
            Self::Tiny => &[("GODEBUG", SMALL_STACKS), ("GOGC", "15"), ("GOMEMLIMIT", &ceiling), ONE_ARENA],
            Self::Small => &[("GODEBUG", SMALL_PAGES), ("GOGC", "25"), ONE_ARENA],
            Self::Standard => &[("GODEBUG", SMALL_PAGES), ("GOGC", "50")],
            Self::Auto | Self::Full => &[],
        };
        variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    /// Whether all parts of k3s run.
    pub fn has_parts(self) -> bool {
        !matches!(self, Self::Tiny | Self::Small)
    }

    /// The server's flags.
    pub fn server_config(self) -> Map<String, Value> {
        let mut config = Map::new();
        if !self.has_parts() {
            config.insert("disable".into(), json!(LEFT_OUT));
            config.insert("disable-helm-controller".into(), json!(true));
            config.insert("disable-cloud-controller".into(), json!(true));
            config.insert("disable-network-policy".into(), json!(true));
        }
        config
    }

    /// Settings of the server's controller manager, in a release that knows all of their names: an unknown one would end k3s.
    ///
    /// They are those that k3s has beside its cloud controller, less the controller that checks the types in
    /// ValidatingAdmissionPolicies and tells of them in their status; the policies hold without it. It keeps a second copy of all
    /// schemas.
    pub fn controller_manager_args(self, release: Option<&Release>) -> Vec<String> {
        let is_known = release.is_some_and(|release| ((1, 30)..=(1, 36)).contains(&release.minor()));
        let controllers =
            "*,tokencleaner,-service,-route,-cloud-node-lifecycle,-validatingadmissionpolicy-status-controller";
        (!self.has_parts() && is_known).then(|| format!("controllers={controllers}")).into_iter().collect()
    }

    /// About how many bytes of memory k3s itself and its containerd take, without any pod.
    pub fn taken_by_k3s(self, role: Role) -> u64 {
        let mib = match (role, self) {
            (Role::Agent, _) => 60,
            (Role::Server, Self::Tiny) => 200,
            (Role::Server, Self::Small) => 240,
            (Role::Server, Self::Standard) => 320,
            (Role::Server, Self::Auto | Self::Full) => 420,
        };
        mib * MIB
    }

    /// Whether pods are not given what k3s itself takes; by itself it reserves nothing.
    pub fn reserves(self) -> bool {
        !matches!(self, Self::Auto | Self::Full)
    }

    /// kubelet settings of every node; k3s drops the kubelet's own memory threshold, so it is set again.
    pub fn kubelet_args(self) -> Vec<String> {
        match self {
            Self::Auto | Self::Full => Vec::new(),
            _ => vec!["eviction-hard=memory.available<100Mi,nodefs.available<5%,imagefs.available<5%".into()],
        }
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        serde_json::from_value(json!(text))
            .map_err(|_| format!("{text:?} is not a profile: auto, tiny, small, standard or full is expected"))
    }
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Auto => "auto",
            Self::Tiny => "tiny",
            Self::Small => "small",
            Self::Standard => "standard",
            Self::Full => "full",
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_get_the_profile_of_their_size() {
        for (mib, profile) in
            [(466, Profile::Tiny), (920, Profile::Small), (1848, Profile::Standard), (7800, Profile::Full)]
        {
            assert_eq!(Profile::Auto.for_memory(mib * MIB), profile);
        }
        assert_eq!(Profile::Full.for_memory(0), Profile::Full);
    }

    #[test]
    fn the_heaps_ceiling_is_below_the_nodes_limit() {
        let ceiling = |limit: Option<u64>| Profile::Tiny.environment(limit)["GOMEMLIMIT"].clone();
        assert_eq!([None, Some(512 * MIB), Some(320 * MIB)].map(ceiling), ["280MiB", "280MiB", "200MiB"]);
    }

    #[test]
    fn names_are_read_and_printed_back() {
        for name in ["auto", "tiny", "small", "standard", "full"] {
            assert_eq!(name.parse::<Profile>().map(|profile| profile.to_string()), Ok(name.to_string()));
        }
        assert!("big".parse::<Profile>().is_err());
    }
}
