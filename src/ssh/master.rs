//! The master: the one `ssh` process that holds a host's connection.
//!
//! k3arm may be killed with SIGKILL, and `ssh` alone would stay for as long as a program on the host keeps a forwarded
//! channel open. So a shell of two lines waits beside it on a pipe from us, the leash: when the pipe closes without a
//! word, for whatever reason, it ends the master.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{Notify, watch};

use super::control::ControlDir;
use super::error::Error;
use super::tail::Tail;
use super::target::Target;
use super::{Options, classify};

/// `$$` stays the first shell's ID inside the braces, and `exec` makes that `ssh`'s.
const LEASHED: &str = r#"exec 3<&0 </dev/null
{ read -r _ <&3 || kill -TERM $$; } >/dev/null 2>&1 &
exec 3<&- "$@""#;

/// What `ssh` prints here (by its LocalCommand) once the login has worked.
const READY: &str = "k3arm-session-ready";

/// Whatever the user's config says, these hold: no question is ever asked, no unknown key accepted, nothing forwarded
/// that we did not ask for, a dead network noticed after 15 to 20 s. What moves is compressed already.
const SETTINGS: &[&str] = &[
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectionAttempts=1",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ControlPersist=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=yes",
    "Tunnel=no",
    "Compression=no",
    "LogLevel=INFO",
];

/// How long a master that was told to end may take.
const END: Duration = Duration::from_secs(2);
/// After so long it is told again.
const AGAIN: Duration = Duration::from_millis(100);

/// A living (or dead) master process; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Master {
    pub(super) said: Arc<Tail>,
    pub(super) life: Life,
    stop: Arc<Notify>,
}

/// The news of a master's end, also for those who must not keep it alive.
#[derive(Debug, Clone)]
pub(super) struct Life(watch::Receiver<Option<Arc<str>>>);

impl Life {
    /// Waits for the master's end; gives `ssh`'s last words.
    pub(super) async fn died(&self) -> Arc<str> {
        let mut death = self.0.clone();
        let last = death.wait_for(Option::is_some).await.ok().and_then(|text| text.clone());
        last.unwrap_or_else(|| "the program is ending".into())
    }

    /// Waits for the master's end, which is the connection's.
    pub(super) async fn lost(&self) -> Error {
        let words = self.died().await;
        Error::Disconnected(words.lines().last().unwrap_or("the connection was closed").to_string())
    }

    /// Whether the master still runs.
    pub(super) fn goes_on(&self) -> bool {
        self.0.borrow().is_none() && self.0.has_changed().is_ok()
    }
}

/// `ssh` that talks to a master only; no config of the user's matters.
pub(super) fn control_command(socket: &Path) -> Command {
    let mut ssh = Command::new("ssh");
    ssh.args([OsStr::new("-F"), OsStr::new("/dev/null"), OsStr::new("-S"), socket.as_os_str()]);
    ssh.env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    ssh
}

impl Master {
    /// Starts `ssh` and waits until its login has worked.
    pub(super) async fn start(target: &Target, options: &Options, dir: Arc<ControlDir>) -> Result<Self, Error> {
        let mut child = command(target, options, &dir.socket()).spawn().map_err(Error::NoSshProgram)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(leash), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(Error::NoSshProgram(std::io::Error::other("no pipes to it")));
        };
        let (said, stop) = (Arc::new(Tail::default()), Arc::new(Notify::new()));
        let (tell, death) = watch::channel(None);
        let watched = Watched { child, leash, dir, said: said.clone(), stop: stop.clone() };
        tokio::spawn(async move { tell.send_replace(Some(watched.watch(stderr).await)) });
        let master = Self { said, life: Life(death), stop };
        // The name, every address, the banner and then the keys take their own time; jump hosts take theirs.
        let patience = options.connect_timeout * 3;
        match tokio::time::timeout(patience, ready(stdout)).await {
            Ok(true) => Ok(master),
            Ok(false) => Err(classify::classify(&master.life.died().await, target)),
            Err(_) => Err(Error::Timeout { attempted: "the login", after: patience }),
        }
    }

    /// Tells the master to end; [`Life::died`] says when it has.
    pub(super) fn stop(&self) {
        self.stop.notify_one();
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Watched {
    child: Child,
    leash: ChildStdin,
    dir: Arc<ControlDir>,
    said: Arc<Tail>,
    stop: Arc<Notify>,
}

impl Watched {
    /// Collects what `ssh` says until it ends, by itself or because it is told to. The directory goes last.
    async fn watch(mut self, stderr: impl AsyncRead + Unpin + Send + 'static) -> Arc<str> {
        let said = self.said.clone();
        let listening = tokio::spawn(async move { said.fill(stderr).await });
        tokio::select! {
            _ = self.child.wait() => {
                self.dir.keep_note();
                // A word on the leash: there is nothing left to end, and its ID may soon be another program's.
                let _ = self.leash.write_all(b"\n").await;
            }
            () = self.stop.notified() => {
                drop(self.leash);
                if tokio::time::timeout(END, insist(&mut self.child)).await.is_err() {
                    let _ = self.child.kill().await;
                }
            }
        }
        // Its jump host's ssh may hold the pipe for a moment.
        let _ = tokio::time::timeout(END, listening).await;
        self.dir.remove();
        self.said.text().trim().into()
    }
}

/// Tells it again until it has ended: OpenSSH 9.2 was seen to take the signal, close what it held, and wait for the next packet all
/// the same.
async fn insist(child: &mut Child) {
    while tokio::time::timeout(AGAIN, child.wait()).await.is_err() {
        let id = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let _ = id.map(|id| kill_process(id, Signal::TERM));
    }
}

fn command(target: &Target, options: &Options, socket: &Path) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", LEASHED, "k3arm-leash", "ssh"]).args(target.options());
    shell.args(["-M", "-N", "-T", "-a", "-x"]).arg("-S").arg(socket);
    for setting in SETTINGS {
        shell.args(["-o", setting]);
    }
    shell.args(["-o", &format!("LocalCommand=echo {READY}")]);
    shell.args(["-o", &format!("ConnectTimeout={}", options.connect_timeout.as_secs().max(1))]);
    shell.args(["--", &target.ssh.host]);
    // A jump host's ssh does not inherit BatchMode, and would ask on the terminal: it gets a mouth that says no.
    shell.env("LC_ALL", "C").env("SSH_ASKPASS", "/bin/false").env("SSH_ASKPASS_REQUIRE", "force");
    // Our LocalCommand is run by the shell that $SHELL names; a service's user has none that runs anything.
    if std::env::var("SHELL").map_or(true, |shell| shell.ends_with("/nologin") || shell.ends_with("/false")) {
        shell.env("SHELL", "/bin/sh");
    }
    // An own process group: Ctrl-C is for k3arm, which still has to clean up through this connection.
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    shell
}

/// True when the line came; false when the stream ended without it.
async fn ready(stdout: impl AsyncRead + Unpin) -> bool {
    let mut lines = BufReader::new(stdout.take(64 * 1024)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.trim() == READY {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that sleeps through the first signal, as OpenSSH may.
    #[tokio::test]
    async fn a_master_that_misses_the_signal_is_told_again() {
        const SLEEPER: &str = "trap 'trap \"echo told again >&2; exit\" TERM' TERM; read -r _; kill -TERM $$; while :; do sleep 0.02; done";
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SLEEPER]).stdin(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = shell.spawn().unwrap();
        let (leash, stderr) = (child.stdin.take().unwrap(), child.stderr.take().unwrap());
        let (said, stop) = (Arc::new(Tail::default()), Arc::new(Notify::new()));
        let root = tempfile::tempdir().unwrap();
        let dir = Arc::new(ControlDir::create(root.path()).await.unwrap());
        let watched = Watched { child, leash, dir, said, stop: stop.clone() };
        stop.notify_one();
        assert_eq!(&*watched.watch(stderr).await, "told again");
    }
}
