//! The board and the system that a machine has, as far as its script can tell: nothing of it is needed to plan.

use std::collections::BTreeMap;

use serde::Serialize;

use super::said::Said;

/// The board, and how it feels.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Board {
    /// `Raspberry Pi 4 Model B Rev 1.4`.
    pub model: Option<String>,
    /// Cores.
    pub cores: Option<u32>,
    /// Bytes of a page of memory.
    pub page_size: Option<u64>,
    /// A Pi's own word on its power and heat: bits 0 to 3 hold now, 16 to 19 since it was switched on.
    pub throttled: Option<u32>,
    /// Thousandths of a degree Celsius.
    pub millidegrees: Option<i64>,
}

/// The operating system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct System {
    /// `debian`, `ubuntu`, `raspbian`, `alpine`, ….
    pub id: Option<String>,
    /// `13`, `24.04`.
    pub version: Option<String>,
    /// For people.
    pub name: Option<String>,
    /// 32 or 64: the programs', not the kernel's.
    pub bits: Option<u32>,
    /// Modules of the kernel that a node needs.
    pub modules: BTreeMap<String, ModuleState>,
    /// `1.8.9`, and which tables it writes to.
    pub iptables: Option<Iptables>,
    /// The kernel has iptables' legacy tables loaded.
    pub legacy_tables: bool,
    /// The file with the kernel's arguments.
    pub boot_config: Option<String>,
    /// The kernel's arguments about cgroups.
    pub kernel_arguments: Vec<String>,
    /// What `/etc/tmpfiles.d` says is set at every start, as systemd does it.
    pub has_tmpfiles: bool,
    /// There is no `/lib/modules`: a machine in a container, or a kernel with all that it has in one piece.
    pub has_no_modules: bool,
    /// Firewalls that are switched on.
    pub firewalls: Vec<String>,
    /// Docker starts with the machine.
    pub engine_at_boot: Option<bool>,
    /// The clock was set by a time server.
    pub synchronised: Option<bool>,
    /// `fs.inotify.max_user_instances`.
    pub inotify_instances: Option<u32>,
    /// Swap, but for that in compressed memory.
    pub swaps: Vec<Swap>,
}

/// How a module of the kernel can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleState {
    /// It is loaded.
    Loaded,
    /// It is part of the kernel.
    Builtin,
    /// It can be loaded.
    Available,
    /// This kernel has none.
    Missing,
}

/// The host's iptables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Iptables {
    /// Its version.
    pub version: [u32; 3],
    /// It writes to the kernel's nf_tables, and not to its legacy tables.
    pub nft: bool,
}

/// A place that memory is swapped to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Swap {
    /// Bytes.
    pub size: u64,
    /// The device that it is on.
    pub device: String,
    /// That device is an SD card; what is soldered on has a name of the same kind.
    pub is_on_card: bool,
}

impl Board {
    pub(super) fn said(said: &Said<'_>) -> Self {
        let hexadecimal = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        Self {
            model: said.text("board"),
            cores: said.known("cores").filter(|cores| *cores > 0),
            page_size: said.known::<u64>("page_kib").and_then(|kib| kib.checked_mul(1024)),
            throttled: said.get("throttled").and_then(hexadecimal),
            millidegrees: said.known("millidegrees"),
        }
    }
}

impl System {
    pub(super) fn said(said: &Said<'_>) -> Self {
        Self {
            id: said.text("os_id"),
            version: said.text("os_version"),
            name: said.text("os_name"),
            bits: said.known("bits"),
            modules: said.all("module").filter_map(module).collect(),
            iptables: said.get("iptables").and_then(iptables),
            legacy_tables: said.get("legacy_tables") == Some("yes"),
            boot_config: said.text("boot_config").filter(|path| path.starts_with('/')),
            kernel_arguments: said.all("kernel_argument").map(String::from).collect(),
            has_tmpfiles: said.get("tmpfiles") == Some("yes"),
            has_no_modules: said.get("no_modules") == Some("yes"),
            firewalls: said.all("firewall").map(String::from).collect(),
            engine_at_boot: match said.get("at_boot") {
                Some("enabled" | "enabled-runtime" | "alias") => Some(true),
                Some("disabled" | "masked") => Some(false),
                _ => None,
            },
            synchronised: match said.get("synchronised") {
                Some("yes") => Some(true),
                Some("no") => Some(false),
                _ => None,
            },
            inotify_instances: said.known("inotify"),
            swaps: said.all("swap").filter_map(swap).filter(|swap| !swap.device.starts_with("/dev/zram")).collect(),
        }
    }
}

impl System {
    /// The kernel was told, and last, to switch the memory controller on.
    pub fn is_told_of_memory(&self) -> bool {
        let last = self.kernel_arguments.iter().rfind(|argument| argument.ends_with("able=memory"));
        last.is_some_and(|argument| argument == "cgroup_enable=memory")
    }

    /// How the memory controller is switched on here, where it is known how this system is told its kernel's arguments.
    pub fn cgroup_fix(&self) -> Option<String> {
        if self.is_told_of_memory() {
            return Some("its kernel was told `cgroup_enable=memory` and has no such controller: install the system's current kernel, and reboot".into());
        }
        let file = self.boot_config.as_deref()?;
        Some(match file.rsplit('/').next()? {
            "cmdline.txt" => {
                format!(
                    "on the host: append ` cgroup_enable=memory` to the single line of {file}, and reboot (`k3arm host prepare` does it)"
                )
            }
            "armbianEnv.txt" => {
                format!(
                    "on the host: add `cgroup_enable=memory` to the line `extraargs=` in {file}, or that line where there is none, and reboot"
                )
            }
            "extlinux.conf" => {
                format!("on the host: add `cgroup_enable=memory` to the `append` line in {file}, and reboot")
            }
            _ => format!(
                "on the host: add `cgroup_enable=memory` to GRUB_CMDLINE_LINUX in {file}, then `sudo update-grub` and reboot"
            ),
        })
    }
}

/// `vxlan loaded`.
fn module(value: &str) -> Option<(String, ModuleState)> {
    let (name, state) = value.split_once(' ')?;
    let state = match state {
        "loaded" => ModuleState::Loaded,
        "builtin" => ModuleState::Builtin,
        "available" => ModuleState::Available,
        "missing" => ModuleState::Missing,
        _ => return None,
    };
    Some((name.into(), state))
}

/// `iptables v1.8.9 (nf_tables)`; before 1.8 there was one kind only, and no word in brackets.
fn iptables(value: &str) -> Option<Iptables> {
    let mut words = value.split_whitespace().skip(1);
    let mut numbers = words.next()?.strip_prefix('v')?.split('.').map(|number| number.parse().ok());
    let version = [numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)];
    Some(Iptables { version, nft: words.next() == Some("(nf_tables)") })
}

/// `102396 /dev/mmcblk0p2`.
fn swap(value: &str) -> Option<Swap> {
    let mut words = value.split(' ').filter(|word| !word.is_empty());
    let (kib, device, medium) = (words.next()?, words.next()?, words.next());
    Some(Swap {
        size: kib.parse::<u64>().ok()?.checked_mul(1024)?,
        device: device.into(),
        is_on_card: device.contains("mmcblk") && medium.is_none_or(|medium| medium == "SD"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_soldered_on_is_no_card() {
        let is_on_card = |text: &str| swap(text).map(|swap| swap.is_on_card);
        assert_eq!(is_on_card("1024 /dev/mmcblk0p2 SD"), Some(true));
        assert_eq!(is_on_card("1024 /dev/mmcblk0p2"), Some(true));
        assert_eq!(is_on_card("1024 /dev/mmcblk1p2 MMC"), Some(false));
        assert_eq!(is_on_card("1024 /dev/sda2"), Some(false));
        assert_eq!(is_on_card("1024"), None);
    }

    #[test]
    fn versions_of_iptables_are_read() {
        let read = |text: &str| iptables(text).map(|found| (found.version, found.nft));
        assert_eq!(read("iptables v1.8.9 (nf_tables)"), Some(([1, 8, 9], true)));
        assert_eq!(read("iptables v1.8.2 (legacy)"), Some(([1, 8, 2], false)));
        assert_eq!(read("iptables v1.6.1"), Some(([1, 6, 1], false)));
        for strange in ["", "iptables", "iptables 1.8.9", "iptables vx.y", "sh: iptables: not found"] {
            assert_eq!(read(strange), None, "{strange}");
        }
    }
}
