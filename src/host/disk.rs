//! The disk that holds the engine's data.

use serde::Serialize;

use super::said::{ParseError, Said, strange};

/// The line after which the script's own output begins.
const BEGIN: &str = "k3arm-disk-1";

/// A disk, as far as a host's script can tell.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct DiskFacts {
    /// Bytes that are free for the user; `None` if there is no such place.
    pub free: Option<u64>,
    /// The file system: `ext4`, `btrfs`, `zfs`, ….
    pub filesystem: Option<String>,
    /// What it is on.
    pub medium: Option<Medium>,
    /// Major and minor number of its device, as `8:1`.
    pub device: Option<String>,
}

/// What a disk is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Medium {
    /// An SD card.
    Card,
    /// Flash on the board.
    Emmc,
    /// A stick or disk on USB.
    Usb,
    /// NVMe.
    Nvme,
    /// Other flash.
    Flash,
    /// A disk that turns, or one that says so, as virtual ones do.
    Disk,
}

/// A script for [`parse_disk`], about the disk that holds `path`.
pub fn disk_script(path: &str) -> String {
    format!("place='{}'\n{}", path.replace('\'', r"'\''"), include_str!("disk.sh"))
}

/// Reads what [`disk_script`] printed.
///
/// # Errors
/// [`ParseError`] for output that was cut or that is not `df`'s.
pub fn parse_disk(output: &str) -> Result<DiskFacts, ParseError> {
    let said = Said::read(BEGIN, output)?;
    let medium = match said.get("medium") {
        Some("card") => Some(Medium::Card),
        Some("emmc") => Some(Medium::Emmc),
        Some("usb") => Some(Medium::Usb),
        Some("nvme") => Some(Medium::Nvme),
        Some("flash") => Some(Medium::Flash),
        Some("disk") => Some(Medium::Disk),
        _ => None,
    };
    Ok(DiskFacts {
        free: said.get("df").map(available).transpose()?,
        filesystem: said.text("filesystem"),
        medium,
        device: said.text("device"),
    })
}

/// Of `df`'s line: file system, size, used, available, capacity, mount point; the first and the last may hold spaces.
fn available(line: &str) -> Result<u64, ParseError> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let percent = words.iter().position(|word| word.ends_with('%') || *word == "-");
    let available = percent.and_then(|at| at.checked_sub(1)).and_then(|at| words.get(at)?.parse::<u64>().ok());
    available.and_then(|kib| kib.checked_mul(1024)).ok_or_else(|| strange(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Result<DiskFacts, ParseError> {
        parse_disk(&format!("{BEGIN}\n{lines}end\n"))
    }

    #[test]
    fn free_space_is_dfs_fourth_number() {
        let free = |line: &str| read(&format!("df={line}\n")).map(|disk| disk.free);
        assert_eq!(free("/dev/mmcblk0p2 30000 10000 19000 35% /"), Ok(Some(19_000 * 1024)));
        assert_eq!(free("//nas/my share 9 1 8 12% /mnt/with space"), Ok(Some(8 * 1024)));
        assert_eq!(read(""), Ok(DiskFacts::default()), "there is no such place");
        for bad in ["Filesystem", "/dev/x 1 2 99999999999999999999 3% /", "%", "18446744073709551615 9% /", "x - /"] {
            assert!(free(bad).is_err(), "{bad:?}");
        }
        for cut in ["", "x", BEGIN, "k3arm-disk-1\ndf=/dev/x 1 2 3 4% /\n"] {
            assert!(parse_disk(cut).is_err(), "{cut:?}");
        }
    }

    #[test]
    fn a_card_is_told_from_other_disks() {
        let card =
            read("df=/dev/root 9 1 8 12% /\nfilesystem=ext4\ndevice=179:2\nmedium=card\n").expect("a good answer");
        assert_eq!((card.medium, card.filesystem.as_deref()), (Some(Medium::Card), Some("ext4")));
        assert_eq!(read("medium=tape\n").expect("a good answer").medium, None);
    }

    #[test]
    fn a_path_is_only_a_path() {
        assert!(disk_script("/a'b").starts_with("place='/a'\\''b'\n"));
    }
}
