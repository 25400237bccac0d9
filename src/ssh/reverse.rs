//! Reverse forwards: a listener of ours brought to a loopback port of the host, once for each listener.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Output, Stdio};

use tokio::net::TcpListener;

use super::error::{Error, Forward};
use super::forward::{Forwarding, PATIENCE};
use super::session::{Kind, Remote, Session};
use super::tail::printable;

impl Session {
    /// A port on the host's 127.0.0.1 that leads to `local`, a listener here; sshd chooses it. For this machine it is
    /// the port of `local`. Asked again for the same listener, it is the same port.
    ///
    /// Every user of the host can connect to it (and, where sshd has `GatewayPorts yes`, its whole network).
    ///
    /// # Errors
    /// [`Error::ForwardRefused`] if sshd forbids it, [`Error::Forward`], [`Error::Disconnected`], [`Error::Timeout`].
    pub async fn reverse(&self, local: SocketAddr) -> Result<u16, Error> {
        match &*self.0 {
            Kind::Local => Ok(local.port()),
            Kind::Remote(host) => self.within("a reverse forward", PATIENCE, host.reverse(local)).await,
        }
    }

    /// Whether [`Self::reverse`] is allowed. It is tried, once a session, with a listener that answers nobody, and what
    /// was set up for it is taken back. For this machine it is true.
    ///
    /// # Errors
    /// [`Error::Forward`] for any other reason than sshd's no, [`Error::Disconnected`], [`Error::Timeout`].
    pub async fn can_reverse(&self) -> Result<bool, Error> {
        match &*self.0 {
            Kind::Local => Ok(true),
            Kind::Remote(host) => self.within("a reverse forward", PATIENCE, host.can_reverse()).await,
        }
    }
}

impl Remote {
    async fn reverse(&self, local: SocketAddr) -> Result<u16, Error> {
        let mut forwarding = self.forwarding.lock().await;
        if let Some(port) = forwarding.reversed.get(&local) {
            return Ok(*port);
        }
        let port = self.ask_for(local, &mut forwarding).await?;
        forwarding.reversed.insert(local, port);
        Ok(port)
    }

    async fn can_reverse(&self) -> Result<bool, Error> {
        let mut forwarding = self.forwarding.lock().await;
        if let Some(known) = forwarding.reverse_allowed {
            return Ok(known);
        }
        // Ours for as long as the trial lasts, so that it leads to no program.
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::Local)?;
        let local = nobody.local_addr().map_err(Error::Local)?;
        match self.ask_for(local, &mut forwarding).await {
            Ok(_) => self.control("cancel", local).await.map(|_| true),
            Err(Error::ForwardRefused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks sshd for a port, and remembers whether it gives any.
    async fn ask_for(&self, local: SocketAddr, forwarding: &mut Forwarding) -> Result<u16, Error> {
        let forward = Forward::Reverse(local);
        if forwarding.reverse_allowed == Some(false) {
            return Err(Error::ForwardRefused { forward });
        }
        let output = self.control("forward", local).await?;
        if let Some(port) = String::from_utf8_lossy(&output.stdout).trim().parse().ok().filter(|port| *port > 0) {
            forwarding.reverse_allowed = Some(true);
            return Ok(port);
        }
        let reason = printable(&output.stderr).trim().to_string();
        // The server's refusal is a bare no; any other cause is named.
        if reason.contains("remote port forwarding failed") {
            forwarding.reverse_allowed.get_or_insert(false);
            return Err(Error::ForwardRefused { forward });
        }
        Err(Error::Forward { forward, reason })
    }

    /// `ssh -O COMMAND` for this forward. The protocol's answer carries the port, but the crate does not read it there
    /// (openssh-rust/openssh#92).
    async fn control(&self, command: &str, local: SocketAddr) -> Result<Output, Error> {
        let mut ssh = super::master::control_command(&self.dir.socket());
        ssh.args(["-O", command, "-R", &format!("127.0.0.1:0:{local}"), "x"]);
        ssh.stdout(Stdio::piped()).stderr(Stdio::piped()).output().await.map_err(Error::NoSshProgram)
    }
}
