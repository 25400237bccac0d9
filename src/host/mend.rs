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
    /// Switches huge pages off, now and at every start.
    NoHugePages,
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
const TMPFILES_FILE: &str = "/etc/tmpfiles.d/k3arm.conf";

impl Mend {
    /// The repairs that a machine needs, in order; `denied` is the user who may not use its engine.
    pub fn of(machine: &MachineFacts, denied: Option<&str>) -> Vec<Self> {
        let system = &machine.system;
        let mut mends = Vec::new();
        let is_to_be_told = machine.lacks_memory_controller() && !system.is_told_of_memory();
        if let Some(file) = system.boot_config.clone().filter(|file| is_to_be_told && file.ends_with("/cmdline.txt")) {
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
        if machine.misses_for_huge_pages().is_some() && machine.can_drop_huge_pages() {
            mends.push(Self::NoHugePages);
        }
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
                let words = modules.join(" ");
                format!(
                    "set -e\nmkdir -p /etc/modules-load.d\nfor name in {words}; do\n    grep -qxs \"$name\" {MODULES_FILE} || echo \"$name\" >> {MODULES_FILE}\n    modprobe \"$name\"\ndone\n"
                )
            }
            Self::InotifyInstances => format!(
                "set -e\nmkdir -p /etc/sysctl.d\necho fs.inotify.max_user_instances={INSTANCES} > {SYSCTL_FILE}\necho {INSTANCES} > /proc/sys/fs/inotify/max_user_instances\n"
            ),
            Self::NoHugePages => format!("file={TMPFILES_FILE}\n{}", include_str!("huge_pages.sh")),
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
            Self::NoHugePages => write!(f, "switch huge pages off, and write it into {TMPFILES_FILE}"),
            Self::JoinDockerGroup { user } => write!(f, "add user {user} to group docker"),
            Self::Reboot => f.write_str("reboot, and wait until the host is back"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn run(file: &Path) -> bool {
        let script = Mend::KernelArgument { file: file.display().to_string() }.script();
        Command::new("sh").args(["-c", &script]).status().expect("sh").success()
    }

    fn words(path: &Path) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    #[test]
    fn the_one_line_is_kept_and_what_was_there_stands_beside_it() {
        for (before, after) in [
            ("root=/dev/x rootwait\n", "root=/dev/x rootwait cgroup_enable=memory\n"),
            ("root=/dev/x cgroup_disable=memory quiet", "root=/dev/x quiet cgroup_enable=memory\n"),
            ("root=/dev/x quiet\r\n", "root=/dev/x quiet cgroup_enable=memory\n"),
            ("quiet -- 3 cgroup_disable=memory -- 4\n", "quiet cgroup_enable=memory -- 3 cgroup_disable=memory -- 4\n"),
            ("quiet *$(id)`id`\\n\n", "quiet *$(id)`id`\\n cgroup_enable=memory\n"),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let (file, kept) = (folder.path().join("cmdline.txt"), folder.path().join("cmdline.txt.before-k3arm"));
            fs::write(&file, before).expect("a file");
            for _ in 0..2 {
                assert!(run(&file), "{before}");
                assert_eq!(words(&file).as_deref(), Some(after));
                assert_eq!(words(&kept).as_deref(), Some(before));
            }
            fs::write(&file, "root=/dev/other\n").expect("a file");
            assert!(run(&file));
            assert_eq!(words(&kept).as_deref(), Some("root=/dev/other\n"), "what was there last");
            assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2, "nothing else is left");
        }
    }

    #[test]
    fn what_is_not_one_line_is_left_alone() {
        for before in ["", "\n", "quiet\nsplash\n"] {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("cmdline.txt");
            fs::write(&file, before).expect("a file");
            assert!(!run(&file), "{before:?}");
            assert_eq!(words(&file).as_deref(), Some(before));
            assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
        }
    }

    #[test]
    fn several_at_once_do_the_same() {
        for _ in 0..8 {
            let folder = tempfile::tempdir().expect("a folder");
            let (file, kept) = (folder.path().join("cmdline.txt"), folder.path().join("cmdline.txt.before-k3arm"));
            fs::write(&file, "root=/dev/x\n").expect("a file");
            std::thread::scope(|scope| {
                let runs: Vec<_> = (0..8).map(|_| scope.spawn(|| run(&file))).collect();
                assert!(runs.into_iter().all(|run| run.join().expect("it ends")));
            });
            assert_eq!(words(&file).as_deref(), Some("root=/dev/x cgroup_enable=memory\n"));
            assert_eq!(words(&kept).as_deref(), Some("root=/dev/x\n"), "not what another run made of it");
        }
    }

    #[test]
    fn a_kernel_that_was_told_is_not_told_again() {
        let of = |arguments: &str| {
            let mut machine = parsed();
            machine.controllers = vec!["cpu".into()];
            machine.system.boot_config = Some("/boot/firmware/cmdline.txt".into());
            machine.system.kernel_arguments = arguments.split(' ').map(String::from).collect();
            Mend::of(&machine, None)
        };
        assert_eq!(of("cgroup_disable=memory").len(), 1);
        assert_eq!(of("cgroup_enable=memory"), []);
        assert_eq!(of("cgroup_disable=memory cgroup_enable=memory"), []);
        assert_eq!(of("cgroup_enable=memory cgroup_disable=memory").len(), 1, "the last one holds");
    }

    fn parsed() -> MachineFacts {
        let said = "k3arm-machine-1\nhostname=pi\narch=aarch64\nkernel=6.12\ntime=0\ntotal_kib=1\nfree_kib=1\ncgroup=v2\nsocket=ready /s\nend\n";
        let then = std::time::UNIX_EPOCH;
        crate::host::parse_machine(said, then..=then).expect("a good answer").0
    }
}
