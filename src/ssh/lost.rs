//! Sessions that a host still holds although their connection is gone.
//!
//! Where a cable was pulled or a laptop has slept, the host's sshd does not learn of the end, for minutes or for hours. As
//! long it keeps our forwards open: an engine that waits for bytes from there goes on waiting, and lets every later pull
//! of the same layer wait along. So each session writes down, here, which process of the host serves it; the note goes
//! with a proper end, and the next session to the same destination ends the processes of those that had none.
//!
//! A process is known by the machine's boot, its number and its start together, and must be an sshd of this user: no
//! other can be meant, whatever has become of the number since. Nothing is written on the host, and no program is needed
//! there.

use std::fmt;
use std::time::Duration;

use super::control::ControlDir;
use super::run::Limits;
use super::session::Session;

/// Before what [`SCRIPT`] prints.
const MARK: &str = "k3arm-served ";

/// Prints which process serves the session that it runs in. Its start is the 22nd field of its stat, the 20th behind
/// its name, which may have blanks in it. On a host where this cannot be read nothing is printed.
pub(super) const SCRIPT: &str = r#"
boot=; stat=
if [ -r /proc/sys/kernel/random/boot_id ]; then read -r boot < /proc/sys/kernel/random/boot_id; fi
if [ -r "/proc/$PPID/stat" ]; then read -r stat < "/proc/$PPID/stat"; fi
case $stat in *'(sshd'*) set -f; set -- ${stat##*') '}; echo "k3arm-served $boot $PPID ${20}" ;; esac
"#;

/// Ends process `$1` if it is an sshd that began at `$2`.
const END: &str = r#"
end() {
    id=$1 start=$2 stat=
    if [ -r "/proc/$id/stat" ]; then read -r stat < "/proc/$id/stat"; fi
    case $stat in *'(sshd'*) ;; *) return 0 ;; esac
    set -f; set -- ${stat##*') '}
    if [ "${20}" = "$start" ]; then kill "$id" || true; fi
}
read -r boot < /proc/sys/kernel/random/boot_id || exit 0
"#;

/// For the whole of it; the session is good without.
const LIMITS: Limits = Limits { output: 4096, time: Duration::from_secs(10) };

/// The process of a host that serves a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Served {
    /// The kernel's name for the time since the host was started.
    boot: String,
    id: u32,
    /// In the kernel's ticks since then.
    start: u64,
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.boot, self.id, self.start)
    }
}

impl Served {
    /// From what [`SCRIPT`] printed, among what start-up files may have.
    pub(super) fn heard(output: &str) -> Option<Self> {
        output.lines().rev().find_map(|line| Self::parse(line.strip_prefix(MARK)?))
    }

    /// Three words, as they are displayed. They go into a script: nothing but digits and dashes is taken.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let (boot, id, start) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let is_boot = boot.len() == 36 && boot.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        (is_boot && id > 1 && words.next().is_none()).then(|| Self { boot: boot.into(), id, start })
    }
}

/// Has the host end what it still holds of lost sessions to `destination`. That it cannot is no reason to stop.
pub(super) async fn end(session: &Session, destination: &str, dir: &ControlDir) {
    let lost = dir.lost(destination);
    if lost.is_empty() {
        return;
    }
    tracing::debug!(destination, sessions = lost.len(), "ending what the host holds of lost sessions");
    match session.run(&script(lost.iter().map(|(_, served)| served)), None, LIMITS).await {
        Ok(output) if output.status == Some(0) => lost.iter().for_each(|(note, _)| drop(std::fs::remove_file(note))),
        other => tracing::debug!(?other, "lost sessions were not ended"),
    }
}

fn script<'a>(lost: impl Iterator<Item = &'a Served>) -> String {
    let line = |Served { boot, id, start }: &Served| format!("if [ \"$boot\" = {boot} ]; then end {id} {start}; fi\n");
    format!("{END}{}exit 0", lost.map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, Command, Stdio};

    use super::*;

    const BOOT: &str = "0b2f3c1e-53a5-4d7a-8f0e-6f6f0b1c2d3e";

    #[test]
    fn only_what_can_be_a_process_is_taken() {
        let served = Served { boot: BOOT.into(), id: 42, start: 7 };
        assert_eq!(Served::heard(&format!("hello\nk3arm-served {BOOT} 42 7\nmore\n")), Some(served.clone()));
        assert_eq!(Served::parse(&served.to_string()), Some(served));
        let boots = [&BOOT.replace('b', "$"), &BOOT[1..]].map(|boot| format!("{boot} 42 7"));
        let wrong = ["", "42 7", &boots[0], &boots[1], &format!("{BOOT} 1 7"), &format!("{BOOT} -1 7")];
        let more = [format!("{BOOT} 42 7 8"), format!("{BOOT} 42 7;reboot"), format!("{BOOT} 42")];
        for text in wrong.into_iter().chain(more.iter().map(String::as_str)) {
            assert_eq!(Served::parse(text), None, "{text:?}");
        }
    }

    /// A program of this name that repeats what it is told.
    struct Program {
        child: Child,
        _folder: tempfile::TempDir,
    }

    impl Program {
        fn named(name: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::os::unix::fs::symlink("/bin/sh", folder.path().join(name)).unwrap();
            let mut program = Command::new(folder.path().join(name));
            program.args(["-c", "while read -r word; do echo $word; done"]);
            let child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            Self { child, _folder: folder }
        }

        fn served(&self) -> Served {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
            let start = stat.rsplit(") ").next().unwrap().split(' ').nth(19).unwrap().parse().unwrap();
            let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().into();
            Served { boot, id: self.child.id(), start }
        }

        /// Whether it is ended by the script for `served`. A signal takes effect before the next answer.
        fn is_ended_by(&mut self, served: &Served) -> bool {
            let script = script([served].into_iter());
            assert!(Command::new("/bin/sh").args(["-c", &script]).status().unwrap().success());
            let mut answer = String::new();
            let asked = writeln!(self.child.stdin.as_mut().unwrap(), "there");
            let read = BufReader::new(self.child.stdout.as_mut().unwrap()).read_line(&mut answer);
            asked.is_err() || read.is_err() || answer != "there\n"
        }
    }

    impl Drop for Program {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn one_process_is_ended_and_no_other() {
        let mut program = Program::named("sshd a) b");
        let served = program.served();
        let (boot, start) = (BOOT.to_string(), served.start + 1);
        assert!(!program.is_ended_by(&Served { boot, ..served.clone() }), "of another boot");
        assert!(!program.is_ended_by(&Served { start, ..served.clone() }), "the number was given anew");
        assert!(program.is_ended_by(&served));
        let mut other = Program::named("ssh");
        let served = other.served();
        assert!(!other.is_ended_by(&served), "not an sshd");
        assert!(!other.is_ended_by(&Served { id: u32::MAX, ..served }), "no process");
    }
}
