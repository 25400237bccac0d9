//! One connection over a channel of its own: between a connection here and a relay of the host that carries no more than
//! one, from its turn to its end.
//!
//! The end of either direction is passed on while the other goes on. Nothing is read before what was read last has been
//! taken, so that memory stays at one buffer a direction and a slow side slows the other. The relay's end is the end.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::channels::{Channels, Child};
use super::error::Error;
use super::near::{Hears, Near};
use super::relay::{Preamble, Relay};
use super::run::{Job, Limits};
use super::tail::Tail;

const BUFFER: usize = 64 * 1024;

/// For a relay's first word; a busy Pi takes seconds to start a program.
const START: Duration = Duration::from_secs(30);

/// How often it is looked whether a connection is still wanted.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// How connections get to one socket or port of the host, a channel each.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) channels: Arc<Channels>,
    pub(super) relay: Relay,
    pub(super) job: Job,
    /// How long a connection may be silent while others wait; none: as long as it likes.
    pub(super) silence: Option<Duration>,
}

/// How a connection ended.
enum End {
    /// The relay ended, and everything that it sent was delivered.
    Over,
    /// Nobody here wants it any more.
    Abandoned,
}

impl Carrier {
    /// Carries `near` until either side is gone. A failure is told by its end: that is all that a socket has to say.
    pub(super) async fn carry(&self, near: Near) {
        if let Err(error) = self.attempt(near).await {
            tracing::debug!(relay = ?self.relay, "a connection over a bridge: {error}");
        }
    }

    async fn attempt(&self, mut near: Near) -> Result<(), Error> {
        let Some(turn) = self.channels.relay_turn().await else { return Ok(()) };
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
            let (id, first) = begin(&self.job, &mut stdin, &mut stdout).await?;
            near.write.write_all(&first).await.map_err(Error::Local)?;
            tokio::select! {
                end = self.deliver(child, stdout, near.write, &moved) => Ok((id, end)),
                never = pass_on(near.read, stdin, &moved) => match never {},
            }
        };
        let (id, end) = tokio::select! {
            done = both => done?,
            never = async { listen.await; pending::<Infallible>().await } => match never {},
        };
        drop(turn);
        if !said.text().is_empty() {
            tracing::debug!(relay = ?self.relay, "said: {}", said.text().trim());
        }
        if matches!(end, End::Abandoned) {
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

/// Sends the relay's script; gives its process ID on the host, and the first bytes of its stream.
pub(super) async fn begin(
    job: &Job,
    stdin: &mut (impl AsyncWrite + Unpin),
    stdout: &mut (impl AsyncRead + Unpin),
) -> Result<(u32, Vec<u8>), Error> {
    let begin = async {
        stdin.write_all(&job.payload).await.map_err(Error::Local)?;
        preamble(stdout).await
    };
    timeout(START, begin).await.map_err(|_| Error::Timeout { attempted: "a relay's start", after: START })?
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
) -> Infallible {
    let mut buffer = vec![0; BUFFER];
    while let Ok(count @ 1..) = read.read(&mut buffer).await {
        if stdin.write_all(&buffer[..count]).await.is_err() {
            break;
        }
        moved.store(true, Ordering::Relaxed);
    }
    drop(stdin);
    pending().await
}
