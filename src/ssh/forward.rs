//! Forwards: sockets and ports of the host brought here, a listener of ours brought there.
//!
//! A forward to the host is set up here alone and first tried when something connects; so one connection is made at
//! once, to learn whether sshd allows it. Ports are chosen by whoever listens.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use openssh::{ForwardType, Socket};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::error::{Error, Forward};
use super::run::{Job, Limits};
use super::session::{Kind, Remote, Session};
use super::tail::printable;
use super::target::quoted;

/// For a forward's set-up; it is a round trip or two.
const PATIENCE: Duration = Duration::from_secs(20);

/// Another program may take a free port before `ssh` does.
const PORT_ATTEMPTS: usize = 5;

/// What `ssh` says when sshd's configuration forbids a channel.
const PROHIBITED: &str = "administratively prohibited";

impl Session {
    /// A unix socket here that leads to `remote`, a unix socket of the host. For this machine it is `remote` itself.
    ///
    /// The socket lies in a directory that only this user can enter, and goes with the session. Whether there is a
    /// socket at the other end is for the caller to know: connections to a missing one just end.
    ///
    /// # Errors
    /// [`Error::ForwardRefused`] if sshd forbids it, [`Error::Forward`], [`Error::Disconnected`], [`Error::Timeout`].
    pub async fn forward_socket(&self, remote: &str) -> Result<PathBuf, Error> {
        match &*self.0 {
            Kind::Local => Ok(remote.into()),
            Kind::Remote(host) => self.within("a forward", PATIENCE, host.forward_socket(remote)).await,
        }
    }

    /// A loopback address here that leads to `remote` as the host sees it. For this machine it is `remote` itself.
    ///
    /// # Errors
    /// As [`Self::forward_socket`]. That nothing listens at `remote` yet is no error.
    pub async fn forward_to(&self, remote: SocketAddr) -> Result<SocketAddr, Error> {
        match &*self.0 {
            Kind::Local => Ok(remote),
            Kind::Remote(host) => self.within("a forward", PATIENCE, host.forward_to(remote)).await,
        }
    }

    /// A port on the host's 127.0.0.1 that leads to `local`, a listener here; sshd chooses it. For this machine it is
    /// the port of `local`.
    ///
    /// Every user of the host can connect to it (and, where sshd has `GatewayPorts yes`, its whole network).
    ///
    /// # Errors
    /// As [`Self::forward_socket`].
    pub async fn reverse(&self, local: SocketAddr) -> Result<u16, Error> {
        match &*self.0 {
            Kind::Local => Ok(local.port()),
            Kind::Remote(host) => self.within("a reverse forward", PATIENCE, host.reverse(local)).await,
        }
    }
}

impl Remote {
    async fn forward_socket(&self, remote: &str) -> Result<PathBuf, Error> {
        let _alone = self.forwarding.lock().await;
        let forward = Forward::Socket(remote.to_string());
        let here = self.dir.next_forward();
        self.listen(Socket::from(here.as_path()), Socket::from(Path::new(remote)), &forward).await?;
        let mark = self.master.said.mark();
        let trial = UnixStream::connect(&here).await.map_err(Error::Local)?;
        self.round_trip().await?;
        // sshd answers alike for a socket that it may not forward and for one that nobody listens on.
        let refused = ended(trial.into_std()) && self.complaint(mark).await.is_some() && self.listens(remote).await?;
        if refused { Err(Error::ForwardRefused { forward }) } else { Ok(here) }
    }

    async fn forward_to(&self, remote: SocketAddr) -> Result<SocketAddr, Error> {
        let _alone = self.forwarding.lock().await;
        let forward = Forward::To(remote);
        let here = self.listen_on_a_port(remote, &forward).await?;
        let mark = self.master.said.mark();
        let trial = TcpStream::connect(here).await.map_err(Error::Local)?;
        self.round_trip().await?;
        let complaint = if ended(trial.into_std()) { self.complaint(mark).await } else { None };
        match complaint {
            Some(text) if text.contains(PROHIBITED) => Err(Error::ForwardRefused { forward }),
            _ => Ok(here),
        }
    }

    async fn reverse(&self, local: SocketAddr) -> Result<u16, Error> {
        let _alone = self.forwarding.lock().await;
        // The protocol's answer carries the port, but the crate does not read it there (openssh-rust/openssh#92).
        let mut ssh = super::master::control_command(self.socket());
        ssh.args(["-O", "forward", "-R", &format!("127.0.0.1:0:{local}"), "x"]);
        let output = ssh.stdout(Stdio::piped()).stderr(Stdio::piped()).output().await.map_err(Error::NoSshProgram)?;
        let port = String::from_utf8_lossy(&output.stdout).trim().parse().ok().filter(|port| *port > 0);
        port.ok_or_else(|| {
            let (forward, reason) = (Forward::Reverse(local), printable(&output.stderr).trim().to_string());
            // The server's refusal is a bare no; any other cause is named.
            if reason.contains("remote port forwarding failed") {
                Error::ForwardRefused { forward }
            } else {
                Error::Forward { forward, reason }
            }
        })
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
        let asked = self.channels.request_port_forward(ForwardType::Local, here, there).await;
        match asked {
            Ok(()) => Ok(()),
            Err(openssh::Error::SshMux(error)) => {
                Err(Error::Forward { forward: forward.clone(), reason: error.to_string() })
            }
            Err(error) => Err(self.explain(error).await),
        }
    }

    /// A round trip. Channels are opened in order, so whatever was asked for before has its answer afterwards.
    async fn round_trip(&self) -> Result<(), Error> {
        self.exchange(&Job::new(":", &[]), Limits::default().output).await.map(drop)
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
        let output = self.exchange(&Job::new(&script, &[]), Limits::default().output).await?;
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
