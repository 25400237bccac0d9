//! One connection over a bridge: between a connection here and a relay's channel, both ways, from its turn to its end.
//!
//! The end of either direction is passed on while the other goes on. Nothing is read before what was read last has been
//! taken, so that memory stays at one buffer a direction and a slow side slows the other. The relay's end is the end.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{tcp, unix};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::channels::{Channels, Child};
use super::error::Error;
use super::relay::{Preamble, Relay};
use super::run::{Job, Limits};
use super::tail::Tail;

const BUFFER: usize = 64 * 1024;

/// For a relay's first word; a busy Pi takes seconds to start a program.
const START: Duration = Duration::from_secs(30);

/// How often it is looked whether a connection is still wanted.
const TICK: Duration = Duration::from_secs(1);

/// How connections get to one socket or port of the host.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) channels: Arc<Channels>,
    pub(super) relay: Relay,
    pub(super) job: Job,
    /// How long a connection may be silent while others wait; none: as long as it likes.
    pub(super) silence: Option<Duration>,
}

/// A connection here.
pub(super) struct Near {
    pub(super) read: Box<dyn AsyncRead + Send + Unpin>,
    pub(super) write: Box<dyn Hears>,
}

/// The writing half of a connection, which knows whether its other end is gone altogether: reading tells only that it
/// has said its last word.
pub(super) trait Hears: AsyncWrite + Send + Sync + Unpin {
    fn attempt(&self) -> io::Result<usize>;

    fn hung_up(&self) -> bool {
        self.attempt().is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
    }
}

impl Hears for unix::OwnedWriteHalf {
    fn attempt(&self) -> io::Result<usize> {
        self.try_write(&[])
    }
}

impl Hears for tcp::OwnedWriteHalf {
    fn attempt(&self) -> io::Result<usize> {
        self.try_write(&[])
    }
}

/// How a connection ended.
enum End {
    /// The relay ended, and everything that it sent was delivered.
    Over,
    /// Nobody here wants it any more.
    Abandoned,
}

/// Carries `near` until either side is gone. A failure is told by its end: that is all that a socket has to say.
pub(super) async fn carry(way: Arc<Way>, near: Near) {
    if let Err(error) = way.carry(near).await {
        tracing::debug!(relay = ?way.relay, "a connection over a bridge: {error}");
    }
}

impl Way {
    async fn carry(&self, mut near: Near) -> Result<(), Error> {
        let Some(turn) = self.channels.relay_turn().await else {
            tracing::warn!(
                "all channels that the host's sshd allows are busy (MaxSessions): a connection was given up"
            );
            return Ok(());
        };
        if near.write.hung_up() {
            return Ok(());
        }
        let mut child = self.channels.spawn(&self.job).await?;
        let pipes = (child.stdin().take(), child.stdout().take(), child.stderr().take());
        let (Some(mut stdin), Some(mut stdout), Some(stderr)) = pipes else {
            return Err(Error::Local(io::Error::other("no pipes to the channel")));
        };
        let said = Tail::default();
        let (moved, listen) = (AtomicBool::new(false), said.fill(stderr));
        let both = async {
            let begin = async {
                stdin.write_all(&self.job.payload).await.map_err(Error::Local)?;
                preamble(&mut stdout).await
            };
            let start = timeout(START, begin).await;
            let (id, first) = start.map_err(|_| Error::Timeout { attempted: "a relay's start", after: START })??;
            near.write.write_all(&first).await.map_err(Error::Local)?;
            tokio::select! {
                end = self.deliver(child, stdout, near.write, &moved) => Ok((id, end)),
                never = pass_on(near.read, stdin, &moved) => match never {},
            }
        };
        let (id, end) = tokio::select! {
            done = both => done?,
            never = async { listen.await; std::future::pending::<std::convert::Infallible>().await } => match never {},
        };
        drop(turn);
        if !said.text().is_empty() {
            tracing::debug!(relay = ?self.relay, "said: {}", said.text().trim());
        }
        if matches!(end, End::Abandoned) && !self.relay.notices_the_end() {
            self.channels.run(&Job::new(&format!("kill {id}"), &[]), Limits::default().output).await?;
        }
        Ok(())
    }

    /// Delivers what the relay sends, until it has ended or nobody wants it.
    async fn deliver(
        &self,
        child: Child<'_>,
        mut stdout: impl AsyncRead + Unpin,
        mut write: Box<dyn Hears>,
        moved: &AtomicBool,
    ) -> End {
        let mut ended = pin!(child.wait());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buffer = vec![0; BUFFER];
        let (mut speaks, mut silent) = (true, Duration::ZERO);
        loop {
            tokio::select! {
                count = stdout.read(&mut buffer), if speaks => {
                    let count = count.unwrap_or(0);
                    speaks = count > 0;
                    let done = if speaks { write.write_all(&buffer[..count]).await } else { write.shutdown().await };
                    if speaks && done.is_err() {
                        return End::Abandoned;
                    }
                    moved.store(true, Ordering::Relaxed);
                }
                // Not before: whoever has been told of the end is taken for gone, and what is still to come thrown away.
                _ = &mut ended, if !speaks => return End::Over,
                _ = ticks.tick() => {
                    silent = if moved.swap(false, Ordering::Relaxed) { Duration::ZERO } else { silent + TICK };
                    let too_long = self.silence.is_some_and(|limit| silent >= limit);
                    if write.hung_up() || (too_long && self.channels.are_wanted()) {
                        return End::Abandoned;
                    }
                }
            }
        }
    }
}

/// Reads what comes before the relay's stream: its process ID, and the first bytes of the stream.
async fn preamble(stdout: &mut (impl AsyncRead + Unpin)) -> Result<(u32, Vec<u8>), Error> {
    let mut preamble = Preamble::default();
    let mut buffer = vec![0; 4096];
    loop {
        let count = stdout.read(&mut buffer).await.map_err(Error::Local)?;
        match preamble.push(&buffer[..count]) {
            Ok(Some(begun)) => return Ok(begun),
            Ok(None) if count > 0 => {}
            _ => return Err(Error::Local(io::Error::other("the relay did not begin"))),
        }
    }
}

/// Passes on what is said here, and the end of it.
async fn pass_on(
    mut read: Box<dyn AsyncRead + Send + Unpin>,
    mut stdin: impl AsyncWrite + Unpin,
    moved: &AtomicBool,
) -> std::convert::Infallible {
    let mut buffer = vec![0; BUFFER];
    while let Ok(count @ 1..) = read.read(&mut buffer).await {
        if stdin.write_all(&buffer[..count]).await.is_err() {
            break;
        }
        moved.store(true, Ordering::Relaxed);
    }
    drop(stdin);
    std::future::pending().await
}
