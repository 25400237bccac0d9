//! This machine's cores and memory, and what of it a level may use.

use std::fs::File;
use std::io::Read;

use crate::oci::{Compression, ZstdLevel};

use super::Error;
use super::feed::MAX_WINDOW_LOG;

const MIB: u64 = 1 << 20;

/// More threads gain little, because one alone unpacks and hashes, and each costs memory.
const MAX_WORKERS: u32 = 4;

/// The window below level 19 as a power of two: 32 MiB.
const WINDOW_LOG: u32 = 25;

/// The first level at which several threads are worth what is lost between them: below it, one is done nearly as soon as
/// it has unpacked everything.
const SHARED: ZstdLevel = ZstdLevel::DEFAULT;

/// What is taken for granted where the system does not say how much memory there is.
const ASSUMED_MEMORY: u64 = 512 * MIB;

/// What this machine has to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: usize,
    /// Bytes that programs can get without anything being swapped out.
    pub memory: u64,
}

/// How a layer is compressed on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Effort {
    /// Threads that compress; 0: the one that unpacks does it too.
    pub(super) workers: u32,
    /// The window as a power of two, where it is not the level's own.
    pub(super) window_log: Option<u32>,
    /// What each of several threads works on at once, in bytes.
    pub(super) job: u64,
    /// Bytes of memory, about.
    pub(super) memory: u64,
}

impl Machine {
    /// Looks at this machine now.
    pub fn here() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { cores, memory: available_memory().unwrap_or(ASSUMED_MEMORY) }
    }

    /// How to compress a layer of `size` bytes (as published): the most threads that need at most half of the memory;
    /// where one is already too much, without the long window.
    pub(super) fn effort(self, compression: Compression, size: u64) -> Result<Effort, Error> {
        let Compression::Zstd(level) = compression else {
            return Ok(Effort { workers: 0, window_log: None, job: MIB, memory: MIB });
        };
        let efforts = [Some(long_window(level, size)), None].map(|window_log| self.within(level, window_log));
        let [wanted, least] = efforts;
        let half = self.memory / 2;
        let chosen = if wanted.memory <= half { wanted } else { least };
        if chosen.memory <= self.memory {
            return Ok(chosen);
        }
        Err(Error::Memory { level, needed: chosen.memory, available: self.memory })
    }

    fn within(self, level: ZstdLevel, window_log: Option<u32>) -> Effort {
        let cores = u32::try_from(self.cores).unwrap_or(MAX_WORKERS).min(MAX_WORKERS);
        let candidates = (2..=cores).rev().filter(|_| level >= SHARED).chain([0]);
        let (job, memory) = (job_size(level), |workers| memory(level, window_log, workers));
        let effort = |workers| Effort { workers, window_log, job, memory: memory(workers) };
        let single = effort(0);
        candidates.map(effort).find(|effort| effort.memory <= self.memory / 2).unwrap_or(single)
    }
}

impl Effort {
    /// Threads that share the compressing of so many uncompressed bytes.
    pub(super) fn threads(self, unpacked: f64) -> f64 {
        f64::from(self.workers).min(unpacked / self.job as f64).max(1.0)
    }
}

/// How far back matches are looked for. Programs repeat themselves over megabytes, most of all where several are linked with
/// the same libraries: a long window saves a tenth to a third at any level, for next to no time. But engines set the whole
/// window aside while they unpack, so it is no larger than what the layer can fill, and what engines take at most is left
/// to the levels for which no price is too high.
fn long_window(level: ZstdLevel, size: u64) -> u32 {
    let unpacked = u64::BITS - size.saturating_mul(8).saturating_sub(1).leading_zeros();
    unpacked.clamp(20, if level >= ZstdLevel::SMALLEST { MAX_WINDOW_LOG } else { WINDOW_LOG })
}

/// Bytes that compressing takes, measured on x86-64 with zstd 1.5.7 and rounded up.
fn memory(level: ZstdLevel, window_log: Option<u32>, workers: u32) -> u64 {
    // The tables and the window of one thread.
    let alone = match level.get() {
        1..=5 => 8,
        6..=9 => 18,
        10..=12 => 48,
        13..=18 => 96,
        19 => 100,
        20 => 210,
        21 => 420,
        _ => 800,
    } * MIB;
    let (window, job) = (window_log.map_or(0, |log| 1 << log), job_size(level));
    match workers {
        0 => alone + window,
        // Each has a job's result in hand, and three more jobs of input are on their way.
        _ => u64::from(workers) * (alone + job) + 3 * job + window,
    }
}

/// What each of several threads works on at once, in bytes. Where one ends and the next begins a match is lost now and then:
/// pieces of 16 MiB cost a tenth of what was gained, these a twentieth.
fn job_size(level: ZstdLevel) -> u64 {
    if level < ZstdLevel::SMALLEST { 32 * MIB } else { 64 * MIB }
}

/// The smaller of what the kernel can give and what this process's cgroup (v2) still may have.
fn available_memory() -> Option<u64> {
    let of_machine = number_after(&read("/proc/meminfo")?, "MemAvailable:")?.checked_mul(1024)?;
    let path = read("/proc/self/cgroup").and_then(|text| Some(text.lines().last()?.strip_prefix("0::")?.to_string()));
    let of_cgroup = path.and_then(|path| {
        let number = |name: &str| read(&format!("/sys/fs/cgroup{path}/{name}"))?.trim().parse::<u64>().ok();
        number("memory.max")?.checked_sub(number("memory.current")?)
    });
    Some(of_cgroup.map_or(of_machine, |limit| limit.min(of_machine)))
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

fn read(path: &str) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(64 << 10).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PI: Machine = Machine { cores: 4, memory: 600 * MIB };
    const DESKTOP: Machine = Machine { cores: 16, memory: 16 << 30 };
    const IMAGE: u64 = 83_000_000;

    fn effort(machine: Machine, level: u8, size: u64) -> Result<Effort, Error> {
        machine.effort(Compression::Zstd(ZstdLevel::new(level).unwrap()), size)
    }

    fn chosen(machine: Machine, level: u8, size: u64) -> (u32, Option<u32>) {
        let effort = effort(machine, level, size).unwrap();
        (effort.workers, effort.window_log)
    }

    #[test]
    fn threads_are_taken_where_there_are_cores_and_memory() {
        assert_eq!(chosen(DESKTOP, 3, IMAGE), (0, Some(25)));
        assert_eq!(chosen(DESKTOP, 19, IMAGE), (4, Some(27)));
        assert_eq!(chosen(Machine { cores: 1, ..DESKTOP }, 19, IMAGE), (0, Some(27)));
        assert_eq!((chosen(PI, 3, IMAGE), chosen(PI, 10, IMAGE)), ((0, Some(25)), (2, Some(25))));
        assert_eq!(chosen(PI, 19, IMAGE), (0, Some(27)));
    }

    #[test]
    fn the_long_window_is_the_first_thing_to_go_and_then_the_level_is_refused() {
        let small = Machine { cores: 4, memory: 300 * MIB };
        assert_eq!(chosen(small, 19, IMAGE), (0, None));
        assert_eq!(effort(small, 19, IMAGE).unwrap().memory, 100 * MIB);
        let refused = effort(small, 22, IMAGE).unwrap_err();
        assert!(matches!(refused, Error::Memory { needed, available, .. } if needed > available), "{refused}");
        assert!(refused.hint().is_some());
    }

    #[test]
    fn the_window_is_no_larger_than_what_a_layer_unpacks_to() {
        assert_eq!((chosen(PI, 18, IMAGE).1, chosen(PI, 18, 1 << 20).1), (Some(25), Some(23)));
        assert_eq!(chosen(PI, 19, 1 << 20).1, Some(23));
        assert_eq!((chosen(PI, 19, 0).1, chosen(DESKTOP, 19, u64::MAX).1), (Some(20), Some(27)));
    }

    #[test]
    fn this_machine_has_some_memory() {
        let here = Machine::here();
        assert!(here.cores >= 1 && here.memory > MIB, "{here:?}");
    }
}
