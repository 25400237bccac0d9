//! Repairs of a host that are safe to automate, on explicit request only.

use std::fmt;

use serde::Serialize;

use super::{MachineFacts, ModuleState};

/// A repair.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "mend", rename_all = "kebab-case")]
pub enum Mend {
    /// Switches the memory controller on, in the one line of a Pi's `cmdline.txt`; what was there is kept beside it.
    KernelArgument {
        /// The file.
        file: String,
    },
    /// Loads modules, now and at every start.
    LoadModules {
        /// Their names.
        modules: Vec<String>,
    },
    /// Allows more inotify instances, now and at every start.
    InotifyInstances,
    /// Lets the user use Docker, from the next login on.
    JoinDockerGroup {
        /// Who.
        user: String,
    },
    /// Starts the host anew.
    Reboot,
}

/// What `fs.inotify.max_user_instances` is set to.
const INSTANCES: u32 = 512;
/// Where our own settings are, so that they are found again.
const MODULES_FILE: &str = "/etc/modules-load.d/k3arm.conf";
const SYSCTL_FILE: &str = "/etc/sysctl.d/90-k3arm.conf";

impl Mend {
    /// The repairs that a machine needs, in order; `denied` is the user who may not use its engine.
    pub fn of(machine: &MachineFacts, denied: Option<&str>) -> Vec<Self> {
        let system = &machine.system;
        let mut mends = Vec::new();
        let lacks_memory = !machine.controllers.is_empty() && machine.controllers.iter().all(|name| name != "memory");
        if let Some(file) = system.boot_config.clone().filter(|file| lacks_memory && file.ends_with("/cmdline.txt")) {
            mends.push(Self::KernelArgument { file });
        }
        let loadable = system.modules.iter().filter(|(_, state)| **state == ModuleState::Available);
        let modules: Vec<String> = loadable.map(|(name, _)| name.clone()).collect();
        if !modules.is_empty() {
            mends.push(Self::LoadModules { modules });
        }
        if system.inotify_instances.is_some_and(|instances| instances <= 128) {
            mends.push(Self::InotifyInstances);
        }
        mends.extend(denied.map(|user| Self::JoinDockerGroup { user: user.into() }));
        mends
    }

    /// It takes effect with the next start only.
    pub fn needs_reboot(&self) -> bool {
        matches!(self, Self::KernelArgument { .. })
    }

    /// What root runs for it, by `sh`; running it twice does no more than once.
    pub fn script(&self) -> String {
        match self {
            Self::KernelArgument { file } => format!("file={}\n{}", quoted(file), include_str!("cmdline.sh")),
            Self::LoadModules { modules } => {
                let (lines, words) = (modules.join("\n"), modules.join(" "));
                format!(
                    "set -e\nmkdir -p /etc/modules-load.d\ncat > {MODULES_FILE} <<'E'\n{lines}\nE\nfor name in {words}; do modprobe \"$name\"; done\n"
                )
            }
            Self::InotifyInstances => format!(
                "set -e\nmkdir -p /etc/sysctl.d\necho fs.inotify.max_user_instances={INSTANCES} > {SYSCTL_FILE}\necho {INSTANCES} > /proc/sys/fs/inotify/max_user_instances\n"
            ),
            Self::JoinDockerGroup { user } => {
                let user = quoted(user);
                format!(
                    "set -e\nif command -v usermod >/dev/null; then usermod -aG docker {user}; else addgroup {user} docker; fi\n"
                )
            }
            // The connection has to end in good order first.
            Self::Reboot => "(sleep 1; systemctl reboot || reboot) >/dev/null 2>&1 </dev/null &\n".into(),
        }
    }
}

/// A word for `sh`.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl fmt::Display for Mend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KernelArgument { file } => {
                write!(f, "append cgroup_enable=memory to {file}, and keep what was there as {file}.before-k3arm")
            }
            Self::LoadModules { modules } => write!(f, "load {}, and name them in {MODULES_FILE}", modules.join(", ")),
            Self::InotifyInstances => {
                write!(f, "set fs.inotify.max_user_instances={INSTANCES}, and write it into {SYSCTL_FILE}")
            }
            Self::JoinDockerGroup { user } => write!(f, "add user {user} to group docker"),
            Self::Reboot => f.write_str("reboot, and wait until the host is back"),
        }
    }
}
