//! The session: connect, run, close, and the news of its death.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::sync::{Mutex, Semaphore};

use super::control::ControlDir;
use super::error::Error;
use super::master::Master;
use super::run::{self, Job, Limits, Output, Streams};
use super::target::Target;
use crate::host::{Destination, Host, SshDestination};

/// sshd allows 10 sessions a connection by default (MaxSessions), and counts one for a moment after its end.
const SCRIPTS: usize = 6;

/// For how long sshd may refuse a channel.
const REFUSALS: Duration = Duration::from_secs(10);

/// What the first script prints: proof that there is a shell.
const HELLO: &str = "k3arm-hello";

/// How connections are made.
#[derive(Debug, Clone)]
pub struct Options {
    /// `ssh -F`: the config file in the place of the user's own.
    pub config: Option<PathBuf>,
    /// For the TCP connection and sshd's first word, at each address and each jump host; the login as a whole may take
    /// three times as long.
    pub connect_timeout: Duration,
    /// Where control sockets are kept; made with mode 0700. `/tmp/k3arm-UID` takes its place where the path is too
    /// long for a socket.
    pub control_root: PathBuf,
}

impl Options {
    /// The user's own config, 10 s.
    pub fn new(control_root: impl Into<PathBuf>) -> Self {
        Self { config: None, connect_timeout: Duration::from_secs(10), control_root: control_root.into() }
    }
}

/// A host at the other end of one connection, or this machine. Clones share the connection; it ends with the last.
#[derive(Debug, Clone)]
pub struct Session(pub(super) Arc<Kind>);

#[derive(Debug)]
pub(super) enum Kind {
    Local,
    Remote(Remote),
}

/// A connection and its master.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) master: Master,
    pub(super) dir: Arc<ControlDir>,
    pub(super) channels: openssh::Session,
    scripts: Semaphore,
    /// One forward at a time, so that a complaint of `ssh` belongs to it.
    pub(super) forwarding: Mutex<()>,
}

impl Session {
    /// Connects to `host` and runs a first, empty script there.
    ///
    /// # Errors
    /// Every variant of [`Error`] that concerns keys, names, networks and logins, by the cause that `ssh` names.
    pub async fn connect(host: &Host, options: &Options) -> Result<Self, Error> {
        match &host.destination {
            Destination::Local => Ok(Self(Arc::new(Kind::Local))),
            Destination::Ssh(ssh) => Self::connect_to(ssh, options).await,
        }
    }

    async fn connect_to(ssh: &SshDestination, options: &Options) -> Result<Self, Error> {
        let target = Target { config: options.config.clone(), ssh: ssh.clone() };
        let dir = Arc::new(ControlDir::create(&options.control_root).await?);
        let master = Master::start(&target, options, dir.clone()).await?;
        tracing::debug!(host = %ssh.host, "connected");
        let channels = openssh::Session::resume_mux(dir.socket().into_boxed_path(), None);
        let (scripts, forwarding) = (Semaphore::new(SCRIPTS), Mutex::new(()));
        let session = Self(Arc::new(Kind::Remote(Remote { master, dir, channels, scripts, forwarding })));
        let limits = Limits { time: options.connect_timeout * 3, ..Limits::default() };
        let output = session.run(&format!("echo {HELLO}"), None, limits).await?;
        // Start-up files may have printed something before.
        if !output.stdout.trim_end().ends_with(HELLO) {
            return Err(Error::NoShell { said: run::said(&output), command: target.command("") });
        }
        Ok(session)
    }

    /// Runs `script` by the host's `/bin/sh` with `LC_ALL=C`, whatever the login shell is; `input` is its standard
    /// input. Secrets belong into `input`. At most six run at a time, others wait within their time limit.
    ///
    /// A script that runs out of time loses its input and output, but is not killed: keep scripts short.
    ///
    /// # Errors
    /// [`Error::OutputTooLong`], [`Error::Timeout`], [`Error::Disconnected`], [`Error::Exec`]. An exit code other than
    /// 0 is no error here: see [`Output::success`].
    pub async fn run(&self, script: &str, input: Option<&[u8]>, limits: Limits) -> Result<Output, Error> {
        let job = Job::new(script, input.unwrap_or_default());
        let attempt = async {
            match &*self.0 {
                Kind::Local => run_here(&job, limits.output).await,
                Kind::Remote(remote) => remote.run(&job, limits.output).await,
            }
        };
        self.within("a command on the host", limits.time, attempt).await
    }

    /// Whether the connection stands, as far as is known.
    pub fn is_alive(&self) -> bool {
        match &*self.0 {
            Kind::Local => true,
            Kind::Remote(remote) => remote.master.is_alive(),
        }
    }

    /// Resolves when the connection has died, with the reason; never for this machine. A cut cable is noticed after
    /// 15 to 20 s.
    pub async fn closed(&self) -> Error {
        match &*self.0 {
            Kind::Local => std::future::pending().await,
            Kind::Remote(remote) => remote.lost().await,
        }
    }

    /// Ends the connection with all of its forwards, also for other clones, and waits until `ssh` is gone (2 s).
    pub async fn close(self) {
        if let Kind::Remote(remote) = &*self.0 {
            remote.master.stop();
            remote.master.died().await;
        }
    }

    /// `attempt` with a deadline, given up as soon as the connection is lost.
    pub(super) async fn within<T>(
        &self,
        attempted: &'static str,
        after: Duration,
        attempt: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            done = attempt => done,
            lost = self.closed() => Err(lost),
            () = tokio::time::sleep(after) => Err(Error::Timeout { attempted, after }),
        }
    }
}

impl Remote {
    pub(super) async fn lost(&self) -> Error {
        let words = self.master.died().await;
        Error::Disconnected(words.lines().last().unwrap_or("the connection was closed").to_string())
    }

    pub(super) fn socket(&self) -> &Path {
        self.channels.control_socket()
    }

    async fn run(&self, job: &Job, limit: usize) -> Result<Output, Error> {
        let _permit = self.scripts.acquire().await;
        self.exchange(job, limit).await
    }

    /// Runs `job` at once, whatever else runs: for the one forward that is being set up.
    pub(super) async fn exchange(&self, job: &Job, limit: usize) -> Result<Output, Error> {
        let mut child = self.spawn(job).await?;
        let pipes = (child.stdin().take(), child.stdout().take(), child.stderr().take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(Error::Local(std::io::Error::other("no pipes to the channel")));
        };
        let (stdout, stderr) = Streams { stdin, stdout, stderr }.exchange(&job.payload, limit).await?;
        let status = match child.wait().await {
            Ok(status) => status.code(),
            // The crate's reading of exit code 127.
            Err(openssh::Error::Remote(_)) => Some(127),
            // A signal, or the end of the connection, which says the same.
            Err(openssh::Error::RemoteProcessTerminated) => match self.channels.check().await {
                Ok(()) => None,
                Err(error) => return Err(self.explain(error).await),
            },
            Err(error) => return Err(self.explain(error).await),
        };
        Ok(Output { status, stdout, stderr })
    }

    /// Opens a channel. sshd may still count one that has just ended, or allow fewer than we think: a refusal is taken
    /// for an answer only if it lasts.
    async fn spawn(&self, job: &Job) -> Result<openssh::Child<&openssh::Session>, Error> {
        let refused_for_good = Instant::now() + REFUSALS;
        loop {
            let mut command = self.channels.raw_command(&job.command);
            command.stdin(openssh::Stdio::piped()).stdout(openssh::Stdio::piped()).stderr(openssh::Stdio::piped());
            match command.spawn().await {
                Ok(child) => return Ok(child),
                Err(openssh::Error::SshMux(_)) if self.master.is_alive() && Instant::now() < refused_for_good => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(self.explain(error).await),
            }
        }
    }

    /// A failed channel is the connection's fault, if that is about to be known as dead.
    pub(super) async fn explain(&self, error: openssh::Error) -> Error {
        match tokio::time::timeout(Duration::from_secs(1), self.lost()).await {
            Ok(lost) => lost,
            Err(_) => Error::Exec(error),
        }
    }
}

async fn run_here(job: &Job, limit: usize) -> Result<Output, Error> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &job.command]).process_group(0).kill_on_drop(true);
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = shell.spawn().map_err(Error::Local)?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(Error::Local(std::io::Error::other("no pipes to the shell")));
    };
    let (stdout, stderr) = Streams { stdin, stdout, stderr }.exchange(&job.payload, limit).await?;
    let status = child.wait().await.map_err(Error::Local)?.code();
    Ok(Output { status, stdout, stderr })
}
