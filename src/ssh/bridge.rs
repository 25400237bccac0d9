//! Bridges: listeners of ours in the place of forwards that sshd forbids.
//!
//! Connections to one are carried by a program of the host (`relay`): by one of ours, all through one exec channel of the
//! session (`trunk`), or else each through its own (`carry`). A bridge lives in this process: it is gone with it, and its
//! socket lies where a forward's would.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use super::branch;
use super::carry::Carrier;
use super::error::{Error, Forward};
use super::forward::Forwarding;
use super::master::Life;
use super::near::{Door, Near};
use super::relay::{Relay, SURVEY};
use super::run::{Job, Limits};
use super::session::Remote;
use super::trunk::Trunks;

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
        state.bridges.spawn(serve(Door::Socket(listener), way, self.master.life.clone()));
        Ok(here)
    }

    /// A loopback address here whose connections are carried to the address that the host sees.
    pub(super) async fn bridge_port(&self, forward: &Forward, state: &mut Forwarding) -> Result<SocketAddr, Error> {
        let way = self.way(forward, Some(SILENCE), state).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::Local)?;
        let here = listener.local_addr().map_err(Error::Local)?;
        state.bridges.spawn(serve(Door::Port(listener), way, self.master.life.clone()));
        Ok(here)
    }

    async fn way(&self, forward: &Forward, silence: Option<Duration>, state: &mut Forwarding) -> Result<Way, Error> {
        if state.relays.is_none() {
            let survey = self.channels.run_first(&Job::new(SURVEY, &[]), Limits::default().output).await?;
            let relays = Relay::parse(&survey.stdout);
            tracing::debug!(?relays, "sshd forbids forwards: connections are carried by what the host has");
            let trunk = relays.iter().find_map(|relay| relay.trunk());
            state.trunks = trunk.map(|job| Arc::new(Trunks::new(self.channels.clone(), job)));
            state.relays = Some(relays);
        }
        if let (Some(trunks), Some(to)) = (&state.trunks, forward.far_end()) {
            return Ok(Way::Trunk { trunks: trunks.clone(), to });
        }
        let mut relays = state.relays.iter().flatten();
        let able = relays.find_map(|relay| Some((*relay, relay.job(forward)?)));
        let (relay, job) = able.ok_or_else(|| Error::NoRelay { forward: forward.clone() })?;
        self.channels.allow_relays().await;
        Ok(Way::Channels(Carrier { channels: self.channels.clone(), relay, job, silence }))
    }
}

/// How connections get to one socket or port of the host.
enum Way {
    /// All through one channel.
    Trunk { trunks: Arc<Trunks>, to: String },
    /// Each through its own.
    Channels(Carrier),
}

impl Way {
    async fn carry(&self, near: Near) {
        match self {
            Self::Trunk { trunks, to } => {
                if let Some(opened) = trunks.open(to).await {
                    branch::carry(near, opened).await;
                }
            }
            Self::Channels(carrier) => carrier.carry(near).await,
        }
    }
}

/// Carries what connects until the session ends.
async fn serve(door: Door, way: Way, life: Life) {
    let way = Arc::new(way);
    let mut connections = JoinSet::new();
    let accept = async {
        loop {
            while connections.try_join_next().is_some() {}
            if connections.len() >= CONNECTIONS {
                connections.join_next().await;
            }
            match door.accept().await {
                Ok(near) => {
                    let way = way.clone();
                    connections.spawn(async move { way.carry(near).await });
                }
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
        _ = life.died() => {}
    }
}
