//! A read-only registry over the store, that hosts' own engines pull from through their SSH sessions.
//!
//! It speaks the pull half of the OCI distribution spec (1.1) by plain HTTP/1.1 on a port of 127.0.0.1, which is what an
//! engine accepts without configuration. Everyone on this machine and on the hosts can reach that port, so it serves
//! nothing without a secret: each host gets a [`Door`], a path of its own that nobody can guess, and through it only the
//! images published there. A blob that cannot be given completely and correctly ends with a cut connection, never with
//! a clean end.
//!
//! Uses [`crate::store`] for the bytes. It never writes to it on behalf of a client, knows no upload, no list of
//! repositories, no delete.

mod answer;
mod door;
mod request;
mod turns;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::store::Store;

use door::Doors;

pub use door::{Door, Published};

/// An engine uses up to 6 connections; this is enough for some 80 hosts and below the usual limit of open files.
const MAX_CONNECTIONS: usize = 512;

/// How long a request's headers may take, and how long a connection may wait for its next request.
const HEADERS: Duration = Duration::from_secs(60);

/// How long an answer may make no progress, in whichever direction. Longer than the store's patience with upstream.
const IDLE: Duration = Duration::from_secs(300);

/// The most bytes of a request's head. An engine's has less than 1 KiB.
const MAX_HEAD: usize = 32 << 10;

/// What the kernel keeps of one answer, in bytes. ssh has it at once and holds more than enough for its link; with the
/// kernel's own megabytes whole layers would be on their way before [`turns`] can order them.
const SEND_BUFFER: u32 = 256 << 10;

/// Why the mirror cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No port of 127.0.0.1 can be had.
    #[error("no port of 127.0.0.1 could be opened for the hosts' pulls")]
    Bind(#[source] io::Error),
    /// The system's random number generator failed: no secret path can be made.
    #[error("the system has no random numbers for the mirror's secret paths")]
    Random,
}

/// The running registry. When it is dropped, its port and all its connections are closed and no task of it is left.
#[derive(Debug)]
pub struct Mirror {
    address: SocketAddr,
    doors: Arc<Doors>,
    running: watch::Receiver<()>,
    task: JoinHandle<()>,
}

impl Mirror {
    /// Opens a free port of 127.0.0.1 and serves there. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Bind`], [`Error::Random`].
    pub fn start(store: Store) -> Result<Self, Error> {
        let doors = Arc::new(Doors::new(store)?);
        let bind = || {
            // Outside a runtime the rest would panic.
            tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
            let socket = TcpSocket::new_v4()?;
            socket.set_send_buffer_size(SEND_BUFFER)?;
            socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
            let listener = socket.listen(128)?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) = bind().map_err(Error::Bind)?;
        let (alive, running) = watch::channel(());
        let task = tokio::spawn(accept(listener, doors.clone(), alive));
        Ok(Self { address, doors, running, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A new path for one host, with nothing behind it yet.
    pub fn door(&self) -> Door {
        self.doors.open(self.running.clone())
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        // The task owns the connections: they end with it.
        self.task.abort();
    }
}

/// Accepts connections until the task is aborted. `_alive` tells the doors when that is.
async fn accept(listener: TcpListener, doors: Arc<Doors>, _alive: watch::Sender<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => { connections.spawn(serve(stream, doors.clone())); }
                Err(error) => {
                    // Most likely no file descriptor is free: one is when a connection ends.
                    tracing::debug!(%error, "mirror cannot accept");
                    let _ = timeout(Duration::from_millis(100), connections.join_next()).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, doors: Arc<Doors>) {
    let _ = stream.set_nodelay(true);
    let activity = Arc::new(Notify::new());
    let service = service_fn(|request| {
        let (doors, activity) = (doors.clone(), activity.clone());
        async move { Ok::<_, std::convert::Infallible>(answer::answer(&doors, &request, activity).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = connection => if let Err(error) = ended { tracing::debug!(%error, "mirror connection ended") },
        () = stalled(&activity) => tracing::debug!("mirror connection stalled"),
    }
}

/// Resolves when nothing has happened on a connection for [`IDLE`]: no request, and no piece of a body taken.
async fn stalled(activity: &Notify) {
    while timeout(IDLE, activity.notified()).await.is_ok() {}
}
