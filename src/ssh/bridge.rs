//! Bridges: listeners of ours in the place of forwards that sshd forbids.
//!
//! Every connection to one opens an exec channel of the session and runs a relay there (`relay`, `carry`). A bridge
//! lives in this process: it is gone with it, and its socket lies where a forward's would.

use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use super::carry::{Near, Way, carry};
use super::error::{Error, Forward};
use super::forward::Forwarding;
use super::relay::{Relay, SURVEY};
use super::run::{Job, Limits};
use super::session::Remote;

/// Connections of one bridge that are carried or wait; the kernel keeps some more waiting.
const CONNECTIONS: usize = 64;

/// A connection to a port may be silent for so long while others wait: programs keep idle connections to an API for the
/// next request. The engine's are never ended: each has its request, and some take minutes to answer.
const SILENCE: Duration = Duration::from_secs(10);

impl Remote {
    /// A socket here whose connections are carried to the host's socket.
    pub(super) async fn bridge_socket(&self, forward: &Forward, state: &mut Forwarding) -> Result<PathBuf, Error> {
        let way = self.way(forward, None, state).await?;
        let here = self.dir.next_forward();
        let listener = UnixListener::bind(&here).map_err(Error::Local)?;
        state.bridges.spawn(serve(Door::Socket(listener), way));
        Ok(here)
    }

    /// A loopback address here whose connections are carried to the address that the host sees.
    pub(super) async fn bridge_port(&self, forward: &Forward, state: &mut Forwarding) -> Result<SocketAddr, Error> {
        let way = self.way(forward, Some(SILENCE), state).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::Local)?;
        let here = listener.local_addr().map_err(Error::Local)?;
        state.bridges.spawn(serve(Door::Port(listener), way));
        Ok(here)
    }

    async fn way(
        &self,
        forward: &Forward,
        silence: Option<Duration>,
        state: &mut Forwarding,
    ) -> Result<Arc<Way>, Error> {
        let relays = match &mut state.relays {
            Some(relays) => relays,
            unknown => {
                let survey = self.channels.run_first(&Job::new(SURVEY, &[]), Limits::default().output).await?;
                unknown.insert(Relay::parse(&survey.stdout))
            }
        };
        let able = relays.iter().find_map(|relay| Some((*relay, relay.job(forward)?)));
        let (relay, job) = able.ok_or_else(|| Error::NoRelay { forward: forward.clone() })?;
        self.channels.allow_relays().await;
        tracing::debug!(%forward, ?relay, "sshd forbids it: connections are carried by a relay");
        Ok(Arc::new(Way { channels: self.channels.clone(), relay, job, silence }))
    }
}

/// Carries what connects until the session ends.
async fn serve(door: Door, way: Arc<Way>) {
    let mut connections = JoinSet::new();
    let accept = async {
        loop {
            while connections.try_join_next().is_some() {}
            if connections.len() >= CONNECTIONS {
                connections.join_next().await;
            }
            match door.accept().await {
                Ok(near) => drop(connections.spawn(carry(way.clone(), near))),
                // Too many open files, perhaps: others may close theirs.
                Err(error) => {
                    tracing::debug!(%error, "a connection to a bridge");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        _ = way.channels.life.died() => {}
    }
}

/// Where connections come in.
enum Door {
    Socket(UnixListener),
    Port(TcpListener),
}

impl Door {
    async fn accept(&self) -> io::Result<Near> {
        Ok(match self {
            Self::Socket(listener) => {
                let (read, write) = listener.accept().await?.0.into_split();
                Near { read: Box::new(read), write: Box::new(write) }
            }
            Self::Port(listener) => {
                let stream = listener.accept().await?.0;
                // Small requests must not wait for each other.
                stream.set_nodelay(true)?;
                let (read, write) = stream.into_split();
                Near { read: Box::new(read), write: Box::new(write) }
            }
        })
    }
}
