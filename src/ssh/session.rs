//! The session: connect, run, close, and the news of its death.

use std::future::Future;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::sync::Mutex;

use super::channels::Channels;
use super::control::ControlDir;
use super::error::Error;
use super::forward::Forwarding;
use super::lost::{self, Served};
use super::master::Master;
use super::run::{self, Job, Limits, Output, Streams};
use super::target::Target;
use crate::host::{Destination, Host, SshDestination};

/// What the first script prints: proof that there is a shell.
const HELLO: &str = "k3arm-hello";

/// For the last round trip: a host that does not answer in it may not learn of the end.
const GOODBYE: Duration = Duration::from_secs(3);

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
    pub(super) channels: Arc<Channels>,
    /// One forward at a time, so that a complaint of `ssh` belongs to it.
    pub(super) forwarding: Mutex<Forwarding>,
}

impl Session {
    /// Connects to `host`, runs a first script there that changes nothing, and ends what the host still holds of lost
    /// sessions of ours.
    ///
    /// # Errors
    /// Every variant of [`Error`] that concerns keys, names, networks and logins, by the cause that `ssh` names.
    pub async fn connect(host: &Host, options: &Options) -> Result<Self, Error> {
        match &host.destination {
            Destination::Local => Ok(Self(Arc::new(Kind::Local))),
            Destination::Ssh(ssh) => Self::connect_to(ssh, &host.destination.to_string(), options).await,
        }
    }

    async fn connect_to(ssh: &SshDestination, destination: &str, options: &Options) -> Result<Self, Error> {
        let target = Target { config: options.config.clone(), ssh: ssh.clone() };
        let dir = Arc::new(ControlDir::create(&options.control_root).await?);
        let master = Master::start(&target, options, dir.clone()).await?;
        tracing::debug!(host = %ssh.host, "connected");
        let mux = openssh::Session::resume_mux(dir.socket().into_boxed_path(), None);
        let channels = Arc::new(Channels::new(mux, master.life.clone()));
        let session =
            Self(Arc::new(Kind::Remote(Remote { master, dir: dir.clone(), channels, forwarding: Mutex::default() })));
        let limits = Limits { time: options.connect_timeout * 3, ..Limits::default() };
        let output = session.run(&format!("{}echo {HELLO}", lost::SCRIPT), None, limits).await?;
        // Start-up files may have printed something before.
        if !output.stdout.trim_end().ends_with(HELLO) {
            return Err(Error::NoShell { said: run::said(&output), command: target.command("") });
        }
        if let Some(served) = Served::heard(&output.stdout) {
            dir.note(destination, &served);
        }
        lost::end(&session, destination, &dir).await;
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
                Kind::Remote(remote) => remote.channels.run(&job, limits.output).await,
            }
        };
        self.within("a command on the host", limits.time, attempt).await
    }

    /// How long the smallest command takes; `None` for this machine.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn round_trip_time(&self) -> Result<Option<Duration>, Error> {
        let Kind::Remote(remote) = &*self.0 else { return Ok(None) };
        let began = Instant::now();
        remote.round_trip().await?;
        Ok(Some(began.elapsed()))
    }

    /// Whether the connection stands, as far as is known.
    pub fn is_alive(&self) -> bool {
        match &*self.0 {
            Kind::Local => true,
            Kind::Remote(remote) => remote.master.life.goes_on(),
        }
    }

    /// Resolves when the connection has died, with the reason; never for this machine. A cut cable is noticed after
    /// 15 to 20 s.
    pub async fn closed(&self) -> Error {
        match &*self.0 {
            Kind::Local => std::future::pending().await,
            Kind::Remote(remote) => remote.master.life.lost().await,
        }
    }

    /// Ends the connection with all of its forwards, also for other clones, and waits until `ssh` is gone (2 s, and 3 s
    /// more if the host does not answer).
    pub async fn close(self) {
        if let Kind::Remote(remote) = &*self.0 {
            if !matches!(tokio::time::timeout(GOODBYE, remote.round_trip()).await, Ok(Ok(()))) {
                remote.dir.keep_note();
            }
            remote.master.stop();
            remote.master.life.died().await;
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
