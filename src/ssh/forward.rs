//! Forwards: sockets and ports of the host brought here.
//!
//! A forward to the host is set up here alone and first tried when something connects; so one connection is made at
//! once, to learn whether sshd allows it. Where it does not, a bridge takes the forward's place, and the session does
//! not ask again. Ports are chosen by whoever listens.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openssh::{ForwardType, Socket};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;

use super::error::{Error, Forward};
use super::relay::Relay;
use super::run::{Job, Limits};
use super::session::{Kind, Remote, Session};
use super::target::quoted;
use super::trunk::Trunks;

/// For a forward's set-up: a round trip or two, and where a bridge is needed a dozen programs that a busy Pi has to start.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Another program may take a free port before `ssh` does.
const PORT_ATTEMPTS: usize = 5;

/// What `ssh` says when sshd's configuration forbids a channel.
const PROHIBITED: &str = "administratively prohibited";

/// What a session has learned of its forwards, and what it keeps for them.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    /// sshd forbids forwards to sockets; to ports.
    pub(super) sockets_refused: bool,
    pub(super) ports_refused: bool,
    /// Whether sshd allows reverse forwards, once it was asked.
    pub(super) reverse_allowed: Option<bool>,
    /// The host's port for each listener of ours.
    pub(super) reversed: BTreeMap<SocketAddr, u16>,
    /// What can carry connections on the host, once it was asked.
    pub(super) relays: Option<Vec<Relay>>,
    /// Where a relay of ours runs on the host.
    pub(super) trunks: Option<Arc<Trunks>>,
    /// The bridges; they end with the session.
    pub(super) bridges: JoinSet<()>,
}

impl Session {
    /// A unix socket here that leads to `remote`, a unix socket of the host. For this machine it is `remote` itself.
    ///
    /// The socket lies in a directory that only this user can enter, and goes with the session. Whether there is a
    /// socket at the other end is for the caller to know: connections to a missing one just end.
    ///
    /// Where sshd forbids it, a program of the host carries the connections: a perl or python3 all of them, through one
    /// channel like a script's; docker, socat or nc one each. Then six at most are open at a time, fewer where
    /// MaxSessions is below 9, and more wait for up to a minute.
    ///
    /// # Errors
    /// [`Error::NoRelay`] if sshd forbids it and the host has no such program, [`Error::Forward`],
    /// [`Error::Disconnected`], [`Error::Timeout`].
    pub async fn forward_socket(&self, remote: &str) -> Result<PathBuf, Error> {
        match &*self.0 {
            Kind::Local => Ok(remote.into()),
            Kind::Remote(host) => self.within("a forward", PATIENCE, host.forward_socket(remote)).await,
        }
    }

    /// A loopback address here that leads to `remote` as the host sees it. For this machine it is `remote` itself.
    ///
    /// # Errors
    /// As [`Self::forward_socket`]. That nothing listens at `remote` yet is no error. Where socat or nc carries it, a
    /// connection that has been silent for ten seconds may be ended for the sake of one that waits.
    pub async fn forward_to(&self, remote: SocketAddr) -> Result<SocketAddr, Error> {
        match &*self.0 {
            Kind::Local => Ok(remote),
            Kind::Remote(host) => self.within("a forward", PATIENCE, host.forward_to(remote)).await,
        }
    }
}

impl Remote {
    async fn forward_socket(&self, remote: &str) -> Result<PathBuf, Error> {
        let mut forwarding = self.forwarding.lock().await;
        let forward = Forward::Socket(remote.to_string());
        if !forwarding.sockets_refused {
            let here = self.dir.next_forward();
            if self.try_socket(&here, remote, &forward).await? {
                return Ok(here);
            }
            forwarding.sockets_refused = true;
        }
        self.bridge_socket(&forward, &mut forwarding).await
    }

    async fn forward_to(&self, remote: SocketAddr) -> Result<SocketAddr, Error> {
        let mut forwarding = self.forwarding.lock().await;
        let forward = Forward::To(remote);
        if !forwarding.ports_refused {
            if let Some(here) = self.try_port(remote, &forward).await? {
                return Ok(here);
            }
            forwarding.ports_refused = true;
        }
        self.bridge_port(&forward, &mut forwarding).await
    }

    /// Forwards `here` to `remote`; false, and nothing is left of it, if sshd forbids that.
    async fn try_socket(&self, here: &Path, remote: &str, forward: &Forward) -> Result<bool, Error> {
        let (near, far) = (Socket::from(here), Socket::from(Path::new(remote)));
        self.listen(near.clone(), far.clone(), forward).await?;
        let mark = self.master.said.mark();
        let trial = UnixStream::connect(here).await.map_err(Error::Local)?;
        self.round_trip().await?;
        // sshd answers alike for a socket that it may not forward and for one that nobody listens on.
        let refused = ended(trial.into_std()) && self.complaint(mark).await.is_some() && self.listens(remote).await?;
        if refused {
            self.unlisten(near, far).await;
            let _ = std::fs::remove_file(here);
        }
        Ok(!refused)
    }

    /// An address that is forwarded to `remote`; none if sshd forbids that.
    async fn try_port(&self, remote: SocketAddr, forward: &Forward) -> Result<Option<SocketAddr>, Error> {
        let here = self.listen_on_a_port(remote, forward).await?;
        let mark = self.master.said.mark();
        let trial = TcpStream::connect(here).await.map_err(Error::Local)?;
        self.round_trip().await?;
        let complaint = if ended(trial.into_std()) { self.complaint(mark).await } else { None };
        if complaint.is_some_and(|text| text.contains(PROHIBITED)) {
            self.unlisten(Socket::from(here), Socket::from(remote)).await;
            return Ok(None);
        }
        Ok(Some(here))
    }

    async fn listen_on_a_port(&self, remote: SocketAddr, forward: &Forward) -> Result<SocketAddr, Error> {
        let mut attempt = 1;
        loop {
            let here = free_port().await.map_err(Error::Local)?;
            match self.listen(Socket::from(here), Socket::from(remote), forward).await {
                Err(Error::Forward { .. }) if attempt < PORT_ATTEMPTS => attempt += 1,
                done => return done.map(|()| here),
            }
        }
    }

    async fn listen(&self, here: Socket<'_>, there: Socket<'_>, forward: &Forward) -> Result<(), Error> {
        let asked = self.channels.mux.request_port_forward(ForwardType::Local, here, there).await;
        match asked {
            Ok(()) => Ok(()),
            Err(openssh::Error::SshMux(error)) => {
                Err(Error::Forward { forward: forward.clone(), reason: error.to_string() })
            }
            Err(error) => Err(self.channels.explain(error).await),
        }
    }

    /// Ends a forward that leads nowhere; one that stays harms nobody.
    async fn unlisten(&self, here: Socket<'_>, there: Socket<'_>) {
        if let Err(error) = self.channels.mux.close_port_forward(ForwardType::Local, here, there).await {
            tracing::debug!(%error, "a refused forward stays");
        }
    }

    /// A round trip. Channels are opened in order, so whatever was asked for before has its answer afterwards.
    pub(super) async fn round_trip(&self) -> Result<(), Error> {
        self.channels.run_first(&Job::new(":", &[]), Limits::default().output).await.map(drop)
    }

    /// Whether a program on the host listens on the socket at `path` and this user may write to it.
    async fn listens(&self, path: &str) -> Result<bool, Error> {
        // Num, RefCount, Protocol, Flags (__SO_ACCEPTCON), Type, St, Inode, Path.
        let script = format!(
            r#"path={}; real=$(readlink -f "$path"); [ -S "$path" ] && [ -w "$path" ] || exit 1
           while read -r _ _ _ flags _ _ _ bound; do
               case $flags-$bound in 00010000-*/"${{path##*/}}") ;; *) continue ;; esac
               [ "$(readlink -f "$bound")" = "$real" ] && exit 0
           done < /proc/net/unix; exit 1"#,
            quoted(path)
        );
        let output = self.channels.run_first(&Job::new(&script, &[]), Limits::default().output).await?;
        Ok(output.status == Some(0))
    }

    /// What `ssh` says of a channel that was refused; it says so before it hangs up here.
    async fn complaint(&self, mark: usize) -> Option<String> {
        let complaint = self.master.said.contains(mark, "open failed");
        tokio::time::timeout(Duration::from_secs(1), complaint).await.ok()
    }
}

/// Whether a connection has been ended from the other side, by the kernel's own word: the runtime may not have looked.
fn ended(connection: std::io::Result<impl std::io::Read>) -> bool {
    match connection.and_then(|mut connection| connection.read(&mut [0])) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

async fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()
}
